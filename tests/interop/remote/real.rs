//! Third-party registries, buckets and web servers: everything that HoloFS does with a remote, on each of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::server::{Fault, Server};
use super::services::{self, Login, Registry, S3, Service};
use super::tokens::{LIFE, Tokens};
use super::{content_of, contents, file_remote, pull, push, recorded};
use crate::common::compare::assert_same_space;
use crate::common::mounted::{Mounted, is_alive, kill, server};
use crate::common::test_home::TestHome;
use crate::common::{exit, json, number_field, run, stderr, text_field, until};

fn read(mounted: &Mounted<'_>, name: &str) -> std::io::Result<Vec<u8>> {
    fs::read(mounted.path().join("lib").join(name))
}

/// An environment, and the same with one file changed.
struct Pair {
    first: String,
    second: String,
}

impl Pair {
    fn recorded(from: &TestHome) -> Pair {
        let mut files = contents();
        let first = recorded(from, &files, "pair=1");
        files[5].1[7] ^= 1;
        Pair { first, second: recorded(from, &files, "pair=2") }
    }
}

/// Push, second push, push of a change, a lazy mount that equals RCC's restore, pull, verify, gc while mounted. `pushed` and `remote` are the
/// same place without a name, as a writer and as a reader see it; a name follows `mark`.
pub fn everything(from: &TestHome, to: &TestHome, pushed: &str, remote: &str, mark: char) {
    let pair = Pair::recorded(from);
    let name = |place: &str, name: &str| format!("{place}{mark}{name}");
    let first = push(from, &pair.first, &name(pushed, "prod"));
    assert!(number_field(&first, "bytes_sent") > 10_000_000, "{first:#}");
    assert_eq!(number_field(&push(from, &pair.first, &name(pushed, "prod")), "bytes_sent"), 0);
    let sent = number_field(&push(from, &pair.second, &name(pushed, "next")), "bytes_sent");
    assert!(sent < 262_145 + 32_768, "a change of one file sends {sent} bytes");

    let files = from.materialize(&pair.first, "files", "c");
    let mounted = to.mount(&name(remote, "prod"), "lazy", "c", &[]);
    assert_eq!(read(&mounted, "small-7").unwrap(), content_of("small-7"));
    let collected = json(&from.holofs_ok(&["remote", "gc", &name(pushed, "prod"), "--grace", "0", "--json"]));
    assert_eq!(number_field(&collected, "objects"), 0, "all of it has names: {collected:#}");
    assert_eq!(read(&mounted, "file-9000000").unwrap(), content_of("file-9000000"));
    assert_same_space(&files, mounted.path());
    mounted.unmount();

    let verified = json(&to.holofs_ok(&["remote", "verify", &name(remote, "next"), "--json"]));
    assert_eq!(verified["wrong"].as_array().unwrap().len(), 0);
    let pulled = pull(to, &name(remote, "next"));
    assert_eq!(text_field(&pulled, "catalog"), pair.second);
    to.holofs_ok(&["check"]);
    assert_eq!(number_field(&pulled, "fetched_again"), 0);
}

/// Content that was not read yet is an error while the server is dead, and is readable when it is back; read content stays
/// readable.
pub fn survives_death(to: &TestHome, remote: &str, service: &mut Service) {
    let mounted = to.mount(remote, "death", "c", &["--fetch-timeout", "10"]);
    assert_eq!(read(&mounted, "small-1").unwrap(), content_of("small-1"));
    service.kill();
    assert_eq!(read(&mounted, "small-2").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(read(&mounted, "small-1").unwrap(), content_of("small-1"));
    service.restart();
    until(|| read(&mounted, "small-3").is_ok_and(|content| content == content_of("small-3")));
    assert_eq!(read(&mounted, "small-2").unwrap(), content_of("small-2"));
}

#[test]
fn docker_registry_does_everything_and_may_die() {
    let (from, to, other) = (TestHome::new(), TestHome::new(), TestHome::new());
    let Some(mut registry) = Registry::start(&from.scratch(), &Login::None) else { return };
    let place = format!("oci://{}/team/env", registry.address());
    everything(&from, &to, &place, &place, ':');
    survives_death(&other, &format!("{place}:prod"), &mut registry.0);
}

#[test]
fn skopeo_copies_an_environment_that_still_runs() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (one, two) = (from.scratch().join("one"), from.scratch().join("two"));
    [&one, &two].into_iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
    let Some(source) = Registry::start(&one, &Login::None) else { return };
    let Some(target) = Registry::start(&two, &Login::None) else { return };
    let catalog = recorded(&from, &contents(), "copied=1");
    let pushed = push(&from, &catalog, &format!("oci://{}/team/env:prod", source.address()));
    let image = |registry: &Registry, name: &str| format!("{}/{name}", registry.address());
    if !services::skopeo_copy(&image(&source, "team/env:prod"), &image(&target, "mirror:copied")) {
        return;
    }
    drop(source);
    let remote = format!("oci://{}/mirror:copied", target.address());
    let mounted = to.mount(&remote, "copied", "c", &[]);
    assert_same_space(&from.materialize(&catalog, "files", "c"), mounted.path());
    drop(mounted);
    assert_eq!(pull(&to, &remote)["head"], pushed["head"]);
}

#[test]
fn tokens_that_expire_are_replaced_and_no_reader_sees_it() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let tokens = Tokens::start(&from.scratch());
    let Some(registry) = Registry::start(&from.scratch(), &Login::Tokens(&tokens)) else { return };
    [&from, &to].into_iter().for_each(|home| registry.log_in(home));
    let remote = format!("oci://{}/team/env:prod", registry.address());
    let catalog = recorded(&from, &contents(), "tokens=1");
    push(&from, &catalog, &remote);
    let mounted = to.mount(&remote, "lazy", "c", &[]);
    assert_eq!(read(&mounted, "small-1").unwrap(), content_of("small-1"));
    for name in ["small-2", "file-9000000"] {
        let before = tokens.given();
        std::thread::sleep(Duration::from_secs(LIFE + 1));
        assert_eq!(read(&mounted, name).unwrap(), content_of(name));
        assert!(tokens.given() > before, "{name}: the old token cannot be valid");
    }
    let stranger = TestHome::new();
    let refused = stranger.holofs(&["pull", &remote]);
    assert!(!refused.status.success() && stderr(&refused).contains("401"), "{}", stderr(&refused));
}

#[test]
fn s3_servers_do_everything_and_may_die() {
    for kind in [S3::Moto, S3::S3sFs, S3::Rclone, S3::S3rver] {
        eprintln!("{kind:?}");
        let (from, to, other) = (TestHome::new(), TestHome::new(), TestHome::new());
        let Some(mut service) = services::s3(kind, &from.scratch(), &[&from, &to, &other]) else { continue };
        everything(&from, &to, "s3://envs/team", "s3://envs/team", '#');
        // Google's buckets, with another server in place of theirs.
        assert_eq!(number_field(&pull(&to, "gs://envs/team#next"), "blobs_fetched"), 0);
        // moto has its objects in memory only.
        if !matches!(kind, S3::Moto) {
            survives_death(&other, "s3://envs/team#prod", &mut service);
        }
    }
}

/// Makes a home trust the authority in `dir`.
pub fn trusts(home: &TestHome, dir: &Path) {
    fs::copy(dir.join("ca.pem"), home.home().join("ca-bundle.pem")).unwrap();
}

#[test]
fn nginx_with_a_private_authority_limits_and_compression() {
    let (from, to, other) = (TestHome::new(), TestHome::new(), TestHome::new());
    let (store, dir) = (from.scratch().join("store"), from.scratch());
    fs::create_dir_all(&store).unwrap();
    let Some(mut service) = services::nginx(&dir, &format!("root {};", store.display()), "rate=100r/s")
    else {
        return;
    };
    let remote = format!("https://{}", service.address());
    let stranger = other.holofs(&["pull", &format!("{remote}#prod")]);
    assert!(!stranger.status.success() && stderr(&stranger).contains("ertificate"), "{}", stderr(&stranger));
    [&to, &other].into_iter().for_each(|home| trusts(home, &dir));
    let pushed = file_remote(&store, "");
    everything(&from, &to, pushed.trim_end_matches('#'), &remote, '#');
    survives_death(&other, &format!("{remote}#prod"), &mut service);
}

#[test]
fn a_daemon_that_is_killed_takes_its_fetcher_with_it_and_the_next_mount_goes_on() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(registry) = Registry::start(&from.scratch(), &Login::None) else { return };
    let remote = format!("oci://{}/team/env:prod", registry.address());
    let catalog = recorded(&from, &contents(), "killed=2");
    push(&from, &catalog, &remote);
    for round in 0..4 {
        let mounted = to.mount(&remote, "killed", "c", &[]);
        let daemon = server(mounted.report());
        let fetchers = super::lazy::fetchers(daemon);
        assert_eq!(fetchers.len(), 1);
        let path = mounted.path().join("lib/file-9000000");
        let mut reader = Command::new("cat").arg(path).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3 * round));
        crate::common::mounted::daemons_of(&to).into_iter().for_each(kill);
        reader.wait().unwrap();
        until(|| !fetchers.iter().any(|fetcher| is_alive(*fetcher)));
        drop(mounted);
    }
    let mounted = to.mount(&remote, "killed", "c", &[]);
    assert_same_space(&from.materialize(&catalog, "files", "c"), mounted.path());
}

#[test]
fn a_second_run_needs_no_network() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(mut registry) = Registry::start(&from.scratch(), &Login::None) else { return };
    let remote = format!("oci://{}/team/env:prod", registry.address());
    let catalog = recorded(&from, &contents(), "twice=1");
    push(&from, &catalog, &remote);
    let sum = ["--", "sh", "-c", "cat \"$CONDA_PREFIX\"/lib/* | sha256sum"];
    let run_it = |more: &[&str]| {
        run(&mut to.holofs_command(&[&["run"], more, &[&remote, "user"], &sum].concat())).stdout
    };
    let first = run_it(&[]);
    registry.0.kill();
    assert_eq!(run_it(&["--offline"]), first);
}

#[test]
fn the_proxy_of_the_settings_is_used_except_for_its_exceptions() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let store = from.scratch().join("store");
    let catalog = recorded(&from, &contents()[..3], "proxy=1");
    push(&from, &catalog, &file_remote(&store, "prod"));
    let server = Server::start(&store, Fault::None);
    let settings = |more: &str| {
        let proxy = format!(
            "network:\n  https-proxy: ''\n  http-proxy: http://127.0.0.1:{}\n{more}",
            services::free_port()
        );
        fs::write(to.home().join("settings.yaml"), proxy).unwrap();
    };
    settings("");
    to.holofs_fails(&["pull", &server.remote("prod")], exit::IO);
    settings("  no-proxy: example.com, 127.0.0.1\n");
    to.holofs_ok(&["pull", &server.remote("prod")]);
}
