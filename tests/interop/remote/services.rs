//! Third-party servers, each started for one test on its own port, and ended when dropped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::test_home::TestHome;
use crate::common::{project, run, skip, stdout, until};

/// A port on which nothing listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server program that can be killed and started again at the same address.
pub struct Service {
    child: Option<Child>,
    program: PathBuf,
    args: Vec<String>,
    port: u16,
    log: PathBuf,
}

impl Service {
    fn start(program: impl Into<PathBuf>, args: &[&str], port: u16, log: PathBuf) -> Service {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut service = Service { child: None, program: program.into(), args, port, log };
        service.restart();
        service
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it again, after [`Service::kill`].
    pub fn restart(&mut self) {
        let log = fs::File::create(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let address = self.address();
        until(|| TcpStream::connect(&address).is_ok());
    }

    /// Gives it another argument at its next start.
    pub fn replace(&mut self, old: &str, new: &str) {
        let found = self.args.iter_mut().find(|arg| *arg == old);
        new.clone_into(found.unwrap());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program of a server that `scripts/remote-servers` installs.
fn installed(name: &str) -> Option<PathBuf> {
    let output = Command::new(project().join("scripts/remote-servers")).arg(name).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(stdout(&output).trim_end()));
    }
    skip(&format!("{name} cannot be installed: {}", crate::common::said(&output)));
    None
}

/// True if a program of the system exists.
fn has(program: &str) -> bool {
    let found =
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// The login that a registry requires.
pub enum Login<'t> {
    /// Nothing.
    None,
    /// The password of `user`: `secret`.
    Password,
    /// Tokens of this server.
    Tokens(&'t super::tokens::Tokens),
}

/// docker-registry.
pub struct Registry(pub Service);

impl Registry {
    pub fn start(dir: &Path, login: &Login<'_>) -> Option<Registry> {
        if !has("docker-registry") {
            return None;
        }
        let port = free_port();
        let root = dir.join(format!("registry-{port}"));
        let auth = match login {
            Login::None => String::new(),
            Login::Password => {
                // bcrypt of "secret", as `htpasswd -B` writes it.
                let users = dir.join("users");
                let line = "user:$2y$05$Y6cemWmypLLzp2AMJnwsquszV2Dl6PhhScbPwMiDyjDmE5DiSZv6q\n";
                fs::write(&users, line).unwrap();
                format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display())
            }
            Login::Tokens(tokens) => format!(
                "auth: {{token: {{realm: 'http://{}/token', service: registry, issuer: test, rootcertbundle: {}}}}}\n",
                tokens.address(),
                tokens.certificate().display()
            ),
        };
        let config = dir.join(format!("registry-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let args = ["serve", config.to_str().unwrap()];
        Some(Registry(Service::start(
            "docker-registry",
            &args,
            port,
            dir.join(format!("registry-{port}.log")),
        )))
    }

    pub fn address(&self) -> String {
        self.0.address()
    }

    /// The login `user`, `secret` in the docker configuration of a home.
    pub fn log_in(&self, test_home: &TestHome) {
        let docker = test_home.user().join(".docker");
        fs::create_dir_all(&docker).unwrap();
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpzZWNyZXQ="}}}}}}"#, self.address());
        fs::write(docker.join("config.json"), config).unwrap();
    }
}

/// The S3 servers.
#[derive(Debug, Clone, Copy)]
pub enum S3 {
    Moto,
    S3sFs,
    Rclone,
    S3rver,
}

/// One of them with the bucket `envs`, which every home in `homes` can use; `None` where it cannot be installed.
pub fn s3(kind: S3, dir: &Path, homes: &[&TestHome]) -> Option<Service> {
    let port = free_port();
    let data = dir.join(format!("s3-{port}"));
    fs::create_dir_all(data.join("envs")).unwrap();
    let (text, number, data) = (format!("127.0.0.1:{port}"), port.to_string(), data.to_str().unwrap());
    let log = dir.join(format!("s3-{port}.log"));
    let service = match kind {
        S3::Moto => Service::start(installed("moto")?, &["-H", "127.0.0.1", "-p", &number], port, log),
        S3::S3sFs => {
            let args = [
                "--host",
                "127.0.0.1",
                "--port",
                &number,
                "--access-key",
                "key",
                "--secret-key",
                "secret",
                data,
            ];
            Service::start(installed("s3s-fs")?, &args, port, log)
        }
        S3::Rclone => {
            let args = ["serve", "s3", "--addr", &text, "--auth-key", "key,secret", data];
            Service::start(installed("rclone")?, &args, port, log)
        }
        S3::S3rver => {
            let args = ["-a", "127.0.0.1", "-p", &number, "-d", data, "--configure-bucket", "envs"];
            Service::start(installed("s3rver")?, &args, port, log)
        }
    };
    if matches!(kind, S3::Moto) {
        let mut stream = TcpStream::connect(&text).unwrap();
        write!(
            stream,
            "PUT /envs HTTP/1.1\r\nHost: {text}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }
    for home in homes {
        let aws = home.user().join(".aws");
        fs::create_dir_all(&aws).unwrap();
        fs::write(
            aws.join("config"),
            format!("[default]\nregion = us-east-1\nendpoint_url = http://{text}\n"),
        )
        .unwrap();
        // s3rver knows only these.
        let (key, secret) = if matches!(kind, S3::S3rver) { ("S3RVER", "S3RVER") } else { ("key", "secret") };
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        fs::write(aws.join("credentials"), text).unwrap();
    }
    Some(service)
}

/// Azurite, Azure's own emulator of its storage, with more arguments; and its port.
pub fn azurite(dir: &Path, more: &[&str]) -> Option<(Service, u16)> {
    let port = free_port();
    let data = dir.join(format!("azurite-{port}"));
    let number = port.to_string();
    let args = ["--blobHost", "127.0.0.1", "--blobPort", &number, "--location", data.to_str().unwrap()];
    let args = [&args[..], &["--silent", "--disableTelemetry"], more].concat();
    Some((Service::start(installed("azurite")?, &args, port, dir.join(format!("azurite-{port}.log"))), port))
}

/// A certificate authority for one test, and a key with a certificate by it for 127.0.0.1: `ca.pem`, `key.pem`, `cert.pem` in
/// `dir`.
pub fn certificates(dir: &Path) {
    let openssl = |args: &str| run(Command::new("openssl").args(args.split(' ')).current_dir(dir));
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -keyout ca.key -out ca.pem",
    );
    openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout key.pem -out request.pem",
    );
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    );
}

/// nginx with TLS for `served`, in its own words (`root …;`); everything is compressed if the client accepts that, and `limit` (of `limit_req`) holds.
pub fn nginx(dir: &Path, served: &str, limit: &str) -> Option<Service> {
    if !has("nginx") || !has("openssl") {
        return None;
    }
    let port = free_port();
    certificates(dir);
    let at = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};"));
    // As root its workers would change to a user that may not read the test's directory.
    let user = if crate::common::is_root() { "user root;" } else { "" };
    let text = format!(
        "{user} daemon off; master_process off; pid {at}/nginx-{port}.pid; error_log {at}/nginx.log;\nevents {{ worker_connections 128; }}\n\
         http {{ access_log off; {} default_type application/octet-stream; gzip on; gzip_types *; gzip_min_length 1;\n\
         limit_req_zone $binary_remote_addr zone=all:1m {limit};\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem; {served} limit_req zone=all burst=20 nodelay; }} }}\n",
        temporary.join(" ")
    );
    let config = dir.join("nginx.conf");
    fs::write(&config, text).unwrap();
    Some(Service::start("nginx", &["-c", config.to_str().unwrap()], port, dir.join("nginx.out")))
}

/// skopeo copies an image or anything else from one registry to another.
pub fn skopeo_copy(from: &str, to: &str) -> bool {
    if !has("skopeo") {
        return false;
    }
    let plain = ["--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    run(Command::new("skopeo").args(plain).args([format!("docker://{from}"), format!("docker://{to}")]));
    true
}
