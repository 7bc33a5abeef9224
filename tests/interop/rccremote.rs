//! RCC's own remote: official clients pull from `holofs serve`, `holofs pull` from servers of every kind, and neither accepts
//! anything wrong.

mod faults;
mod official;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::exit;
use crate::common::fixed::FixedHome;
use crate::common::golden::{self, BLUEPRINT, CATALOG, Regime};
use crate::common::rcc::{Dirty, Rcc, rcc};
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, run, said, stderr, stdout, text_field};
use crate::remote::real::trusts;
use crate::remote::services;

const ROBOT: &str = "tasks:\n  Hello:\n    shell: python hello.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\nPATH: [.]\nPYTHONPATH: [.]\n";

/// `holofs serve --rccremote`, stopped by SIGTERM when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(test_home: &TestHome, authorization: Option<&str>) -> Server {
        let mut command = test_home.holofs_command(&["serve", "--rccremote", "127.0.0.1:0"]);
        command.envs(authorization.map(|value| ("HOLOFS_SERVE_AUTHORIZATION", value)));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut from = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        // Its log must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut from, &mut std::io::sink()).unwrap());
        let rest = line.strip_prefix("holofs: serving http://").unwrap_or_else(|| panic!("{line}"));
        Server { child, address: rest.split(',').next().unwrap().to_owned() }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    fn remote(&self) -> String {
        format!("rccremote+http://{}#{BLUEPRINT}", self.address)
    }

    /// The complete answer to these bytes.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Ends it; returns its exit code.
    fn stop(mut self) -> Option<i32> {
        self.end()
    }

    fn end(&mut self) -> Option<i32> {
        run(std::process::Command::new("kill").arg(self.child.id().to_string()));
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.end();
        }
    }
}

fn pull(test_home: &TestHome, remote: &str) -> serde_json::Value {
    json(&test_home.holofs_ok(&["pull", remote, "--json"]))
}

/// A pull of `rcc` from `origin` into an empty home, which must make a complete hololib there.
fn rcc_pulls(rcc: &Rcc, origin: &str) {
    let fixed = FixedHome::take();
    let to = &fixed.test_home;
    let dir = to.scratch().join("robot");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("robot.yaml"), ROBOT).unwrap();
    fs::copy(golden::file("golden.yaml"), dir.join("conda.yaml")).unwrap();
    let robot = dir.join("robot.yaml");
    let args = ["holotree", "pull", "--origin", origin, "--robot", robot.to_str().unwrap()];
    let pulled = rcc.try_run(to, &args);
    assert!(pulled.status.success(), "{}", said(&pulled));
    assert_eq!(to.catalogs(), [CATALOG], "{}", said(&pulled));
    to.holofs_ok(&["check"]);
    rcc.run(to, &["holotree", "check"]);
    assert_eq!(to.catalogs(), [CATALOG]);
    let (space, dirty) = rcc.restore(to, &dir.join("conda.yaml"), "c", "pulled");
    assert!(dirty.dirty > 0 && space.is_dir());
    let (_, dirty) = rcc.restore(to, &dir.join("conda.yaml"), "c", "pulled");
    assert_eq!(dirty, Dirty { dirty: 0, files: dirty.files });
}

#[test]
fn official_clients_pull_and_restore() {
    // Its catalog has the base of the home where the client restores.
    let from = TestHome::new();
    from.holofs_ok(&["import", golden::file("hololib-gz.zip").to_str().unwrap()]);
    let server = Server::start(&from, None);
    for version in [17, 19] {
        let Some(rcc) = rcc(version) else { continue };
        rcc_pulls(&rcc, &server.origin());
    }
    assert_eq!(server.stop(), Some(exit::OK));
}

#[test]
fn an_official_client_shows_its_authorization() {
    let Some(rcc) = rcc(17) else { return };
    let (from, to) = (TestHome::golden(Regime::Gzip), TestHome::new());
    let server = Server::start(&from, Some("Bearer secret"));
    let dir = to.scratch();
    fs::write(dir.join("robot.yaml"), ROBOT).unwrap();
    fs::copy(golden::file("golden.yaml"), dir.join("conda.yaml")).unwrap();
    rcc.be_quiet(&to);
    let pulled = |value: &str| {
        let mut command = to.command(rcc.path());
        command.env("RCC_REMOTE_AUTHORIZATION", value).arg("--bundled").args(["holotree", "pull"]);
        command.args(["--origin", &server.origin(), "--robot"]).arg(dir.join("robot.yaml"));
        command.output().unwrap()
    };
    let refused = pulled("Bearer wrong!");
    assert!(!refused.status.success(), "{}", said(&refused));
    assert_eq!(to.catalogs(), [""; 0]);
    let allowed = pulled("Bearer secret");
    assert!(allowed.status.success(), "{}", said(&allowed));
    assert_eq!(to.catalogs(), [CATALOG]);
}

#[test]
fn pull_gets_what_a_server_has_and_nothing_twice() {
    let (from, to) = (TestHome::golden(Regime::Gzip), TestHome::new());
    let server = Server::start(&from, None);
    let pulled = pull(&to, &server.remote());
    assert_eq!(text_field(&pulled, "catalog"), CATALOG);
    assert_eq!(number_field(&pulled, "blobs"), number_field(&pulled, "blobs_fetched"));
    assert!(number_field(&pulled, "blobs") > 50, "{pulled:#}");
    to.holofs_ok(&["check"]);
    let stored = |test_home: &TestHome| fs::read(test_home.hololib().join("catalog").join(CATALOG)).unwrap();
    assert_eq!(stored(&to), stored(&from));
    let again = pull(&to, &server.remote());
    assert_eq!((again["is_new"].clone(), number_field(&again, "blobs_fetched")), (false.into(), 0));

    // One blob is missing: only that is fetched.
    let some = blobs(&to).into_keys().next().unwrap();
    fs::remove_file(to.hololib().join(&some)).unwrap();
    assert_eq!(number_field(&pull(&to, &server.remote()), "blobs_fetched"), 1);
    to.holofs_ok(&["check"]);

    let pinned = format!("{}@sha256:{}", server.remote(), text_field(&pulled, "head"));
    pull(&to, &pinned);
    let other = format!("{}@sha256:{}", server.remote(), "0".repeat(64));
    to.holofs_fails(&["pull", &other], exit::BAD_CATALOG);
    to.holofs_fails(&["pull", &server.remote().replace(BLUEPRINT, "0000000000000000")], exit::NOT_FOUND);
    to.holofs_fails(&["pull", &server.remote().replace(BLUEPRINT, "prod")], exit::IO);
    to.holofs_fails(&["pull", &server.remote(), "--offline"], exit::NOT_FOUND);
    to.holofs_fails(&["pull", &server.remote(), "--require-signature", "x"], exit::BAD_CATALOG);
}

#[test]
fn an_address_or_a_specification_pulls_what_is_missing() {
    let (from, to) = (TestHome::new(), TestHome::new());
    from.holofs_ok(&["import", golden::file("hololib-gz.zip").to_str().unwrap()]);
    let server = Server::start(&from, None);
    let yaml = to.scratch().join("conda.yaml");
    fs::copy(golden::file("golden.yaml"), &yaml).unwrap();
    let origin = format!("rccremote+http://{}", server.address);
    let warmed = to.holofs_ok(&["warm", yaml.to_str().unwrap(), "--pull", &origin]);
    assert_eq!(to.catalogs(), [CATALOG], "{}", said(&warmed));
    to.holofs_ok(&["warm", &server.remote()]);
    server.stop();
    let gone = to.holofs(&["warm", &format!("{origin}#{BLUEPRINT}")]);
    assert!(!gone.status.success());
    to.holofs_ok(&["warm", &format!("{origin}#{BLUEPRINT}"), "--offline"]);
}

#[test]
fn authorization_is_required_and_not_shown() {
    let (from, to) = (TestHome::golden(Regime::Gzip), TestHome::new());
    let server = Server::start(&from, Some("Bearer s3cr3t-word"));
    let pulled = |value: Option<&str>| {
        let mut command = to.holofs_command(&["pull", &server.remote(), "-vvv"]);
        command.envs(value.map(|value| ("RCC_REMOTE_AUTHORIZATION", value))).output().unwrap()
    };
    for wrong in [None, Some("Bearer"), Some("Bearer s3cr3t-wore"), Some("Bearer s3cr3t-words")] {
        let output = pulled(wrong);
        assert_eq!(output.status.code(), Some(exit::IO), "{wrong:?}: {}", said(&output));
        assert!(stderr(&output).contains("401"), "{}", stderr(&output));
    }
    let output = pulled(Some("Bearer s3cr3t-word"));
    assert!(output.status.success(), "{}", said(&output));
    assert!(!said(&output).contains("s3cr3t"), "{}", said(&output));
}

#[test]
fn a_proxy_in_front_of_the_server_adds_tls_with_a_private_authority() {
    let (from, to, stranger) = (TestHome::golden(Regime::Gzip), TestHome::new(), TestHome::new());
    let server = Server::start(&from, Some("Bearer s3cr3t-word"));
    let proxied = format!(
        "location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_buffering off; }}",
        server.origin()
    );
    let Some(proxy) = services::nginx(&from.scratch(), &proxied, "rate=100r/s") else { return };
    let remote = format!("rccremote+https://{}#{BLUEPRINT}", proxy.address());
    let pulled = |home: &TestHome| {
        let mut command = home.holofs_command(&["pull", &remote, "--json"]);
        command.env("RCC_REMOTE_AUTHORIZATION", "Bearer s3cr3t-word").output().unwrap()
    };
    let refused = pulled(&stranger);
    assert_eq!(refused.status.code(), Some(exit::IO), "{}", said(&refused));
    assert!(stderr(&refused).contains("ertificate"), "{}", stderr(&refused));
    assert_eq!(stranger.catalogs(), [""; 0]);
    trusts(&to, &from.scratch());
    let report = pulled(&to);
    assert!(report.status.success() && !said(&report).contains("s3cr3t"), "{}", said(&report));
    assert_eq!(text_field(&json(&report), "catalog"), CATALOG);
    to.holofs_ok(&["check"]);
}

#[test]
fn a_raw_hololib_is_refused_because_its_digests_prove_nothing() {
    let (from, to) = (TestHome::golden(Regime::Raw), TestHome::new());
    let server = Server::start(&from, None);
    let refused = to.holofs_fails(&["pull", &server.remote()], exit::BAD_CATALOG);
    assert!(stderr(&refused).contains("SipHash"), "{}", stderr(&refused));
    assert_eq!(to.catalogs(), [""; 0]);
}

#[test]
fn the_server_answers_only_what_it_should() {
    let from = TestHome::golden(Regime::Gzip);
    fs::write(from.hololib().join("catalog/secret"), "secret").unwrap();
    let server = Server::start(&from, None);
    // A client that sends nothing, and one that sends half a request, do not delay others.
    let silent = TcpStream::connect(&server.address).unwrap();
    let mut half = TcpStream::connect(&server.address).unwrap();
    half.write_all(b"POST /delta/").unwrap();
    let status = |request: &str| server.ask(request).split(' ').nth(1).unwrap_or_default().to_owned();
    let get = |path: &str| status(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_eq!(get(&format!("/parts/{CATALOG}")), "200");
    assert_eq!(get(&format!("/force/{CATALOG}")), "200");
    for path in [
        "/",
        "/parts/",
        "/parts/secret",
        "/parts/../catalog/secret",
        "/parts/..%2fcatalog%2fsecret",
        "/parts/%2e%2e/%2e%2e/rcc.yaml",
        "//etc/passwd",
        "/parts//etc/passwd",
        "/parts/0000000000000000v12.linux_amd64",
        "/parts/14023a1f332a0231v12.linux_amd64.info",
        "/parts/14023a1f332a0231v12.linux_amd64/..",
        "/library",
        "*",
    ] {
        assert_eq!(get(path), "404", "{path}");
    }
    assert_eq!(get(&format!("/delta/{CATALOG}")), "405");
    assert_eq!(status(&format!("POST /parts/{CATALOG} HTTP/1.1\r\nContent-Length: 0\r\n\r\n")), "405");
    assert_eq!(status("\x16\x03\x01 nonsense\r\n\r\n"), "400");
    let many = "a: b\r\n".repeat(5_000);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), "400");
    let two = "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(status(&format!("POST /delta/{CATALOG} HTTP/1.1\r\n{two}\r\n")), "400");
    let short = format!("POST /delta/{CATALOG} HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
    assert_eq!(status(&short), "400");
    // Digests that are not in the catalog, in any form, are ignored.
    let body = format!("../../../etc/passwd\n{}\n{}", "0".repeat(64), "x".repeat(5_000));
    let request = format!("POST /delta/{CATALOG} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = server.ask(&request);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("0\r\n\r\n"));
    assert!(answer.contains(&format!("catalog/{CATALOG}")) && !answer.contains("library/"));

    // A catalog that is not complete is not offered.
    let some = blobs(&from).into_keys().next().unwrap();
    fs::remove_file(from.hololib().join(some)).unwrap();
    assert_eq!(get(&format!("/parts/{CATALOG}")), "404");
    drop((silent, half));
    assert_eq!(server.stop(), Some(exit::OK));
}

#[test]
fn a_damaged_blob_is_never_sent() {
    let (from, to) = (TestHome::golden(Regime::Gzip), TestHome::new());
    let server = Server::start(&from, None);
    let (some, mut bytes) = blobs(&from).into_iter().find(|(_, bytes)| bytes.len() > 100).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::remove_file(from.hololib().join(&some)).unwrap();
    fs::write(from.hololib().join(&some), &bytes).unwrap();
    let digest = Path::new(&some).file_name().unwrap().to_str().unwrap().to_owned();
    let request =
        format!("POST /delta/{CATALOG} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{digest}", digest.len());
    let answer = server.ask(&request);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && !answer.ends_with("0\r\n\r\n") && !answer.contains(&some)
    );
    to.holofs_fails(&["pull", &server.remote()], exit::IO);
    assert_eq!(to.catalogs(), [""; 0]);
}

/// The blobs of a hololib, as stored, by their paths in it.
fn blobs(test_home: &TestHome) -> BTreeMap<String, Vec<u8>> {
    let found = run(std::process::Command::new("find")
        .args(["library", "-type", "f"])
        .current_dir(test_home.hololib()));
    let read = |path: &str| (path.to_owned(), fs::read(test_home.hololib().join(path)).unwrap());
    stdout(&found).lines().map(read).collect()
}
