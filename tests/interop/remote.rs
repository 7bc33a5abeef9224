//! The law of remotes: a pull gets exactly what was pushed, also for RCC; wrong bytes never arrive, and an interrupted pull
//! continues where it stopped.

mod azure;
mod entra;
mod forged;
mod identities;
mod lazy;
pub mod listening;
mod logins;
pub mod real;
mod recipes;
mod server;
pub mod services;
mod strange;
mod tokens;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::common::exit;
use crate::common::fixed::FixedHome;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::random::Random;
use crate::common::rcc::{Dirty, rcc};
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, run, stderr, text_field};
use server::{Fault, Server};
use services::{Login, Registry};

/// Bytes that do not compress, the same on each run.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    std::iter::from_fn(|| Some(random.next().to_le_bytes())).flatten().take(len).collect()
}

/// Different contents of sizes around that of a chunk, and a large file.
pub fn contents() -> Vec<(String, Vec<u8>)> {
    let sizes = [0, 1, 4_000, 262_143, 262_144, 262_145, 700_000, 9_000_000];
    let mut files: Vec<(String, Vec<u8>)> = sizes
        .iter()
        .enumerate()
        .map(|(at, &len)| (format!("file-{len}"), noise(at as u64 + 1, len)))
        .collect();
    files.extend((0..60).map(|at| (format!("small-{at}"), noise(1000 + at, 3_000 + at as usize))));
    files
}

/// The content of one of them.
pub fn content_of(name: &str) -> Vec<u8> {
    contents().into_iter().find(|(found, _)| found == name).unwrap().1
}

/// A home with a recorded environment of these files; the name of its catalog.
pub fn recorded(test_home: &TestHome, files: &[(String, Vec<u8>)], blueprint: &str) -> String {
    let stage = test_home.holotree().join(golden::IDENTITY);
    fs::create_dir_all(stage.join("lib")).unwrap();
    for (name, content) in files {
        fs::write(stage.join("lib").join(name), content).unwrap();
    }
    let yaml = test_home.scratch().join("conda.yaml");
    fs::write(&yaml, format!("channels:\n- conda-forge\ndependencies:\n- python=3.11\n- {blueprint}\n"))
        .unwrap();
    let name = test_home.record(&stage, &yaml);
    fs::remove_dir_all(&stage).unwrap();
    name
}

pub fn push(test_home: &TestHome, catalog: &str, remote: &str) -> serde_json::Value {
    json(&test_home.holofs_ok(&["push", catalog, remote, "--json"]))[0].clone()
}

pub fn pull(test_home: &TestHome, remote: &str) -> serde_json::Value {
    json(&test_home.holofs_ok(&["pull", remote, "--json"]))
}

pub fn file_remote(dir: &Path, name: &str) -> String {
    format!("file://{}#{name}", dir.display())
}

/// Checks that no incomplete file is in a directory that RCC reads.
fn assert_nothing_published(test_home: &TestHome) {
    assert_eq!(test_home.catalogs(), [""; 0]);
    let blobs =
        Command::new("find").arg(test_home.hololib().join("library")).args(["-type", "f"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&blobs.stdout), "");
}

#[test]
fn push_sends_nothing_twice_and_pull_gets_the_same() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let store = from.scratch().join("store");
    let mut files = contents();
    let first = recorded(&from, &files, "numpy=1");
    let remote = file_remote(&store, "prod");
    let pushed = push(&from, &first, &remote);
    assert!(number_field(&pushed, "bytes_sent") > 10_000_000, "{pushed:#}");
    assert_eq!(number_field(&pushed, "blobs_referred"), 0);
    let again = push(&from, &first, &remote);
    assert_eq!((number_field(&again, "bytes_sent"), again["head"].clone()), (0, pushed["head"].clone()));

    files[5].1[7] ^= 1;
    let second = recorded(&from, &files, "numpy=2");
    let upgraded = push(&from, &second, &remote);
    let sent = number_field(&upgraded, "bytes_sent");
    assert!(sent < 262_145 + 32_768, "{upgraded:#}");

    let pulled = pull(&to, &remote);
    assert_eq!(text_field(&pulled, "catalog"), second);
    assert_eq!(to.catalogs(), std::slice::from_ref(&second));
    to.holofs_ok(&["check"]);
    let catalog = |test_home: &TestHome| fs::read(test_home.hololib().join("catalog").join(&second)).unwrap();
    assert_eq!(catalog(&to), catalog(&from));
    let nothing = pull(&to, &remote);
    assert_eq!((number_field(&nothing, "bytes_fetched"), nothing["is_new"].clone()), (0, false.into()));
    let pinned = format!("file://{}@sha256:{}", store.display(), text_field(&pushed, "head"));
    assert_eq!(text_field(&pull(&to, &pinned), "catalog"), first);
}

#[test]
fn push_of_the_same_catalog_gives_the_same_head_whatever_was_pushed_between() {
    let from = TestHome::new();
    let store = from.scratch().join("store");
    // Two packs; the blob whose digest is the smallest is in the second.
    let digest = |content: &Vec<u8>| Sha256::digest(content);
    let large = [1, 2, 3].map(|seed| noise(seed, 5_590_000));
    let least = large.iter().map(digest).min().unwrap();
    let last = (4..).map(|seed| noise(seed, 400_000)).find(|content| digest(content) < least).unwrap();
    let names = ["a", "b", "c", "d"].into_iter().map(str::to_owned);
    let files: Vec<(String, Vec<u8>)> = names.zip(large.into_iter().chain([last])).collect();
    let first = recorded(&from, &files, "same=1");
    let (prod, other) = (file_remote(&store, "prod"), file_remote(&store, "other"));
    let pushed = push(&from, &first, &prod);
    assert_eq!(number_field(&pushed, "packs_sent"), 2);
    let sends_nothing = |remote: &str| {
        let again = push(&from, &first, remote);
        assert_eq!((number_field(&again, "bytes_sent"), &again["head"]), (0, &pushed["head"]), "{again:#}");
    };
    sends_nothing(&prod);
    sends_nothing(&other);
    let mut changed = files.clone();
    changed[0].1[7] ^= 1;
    push(&from, &recorded(&from, &changed, "same=2"), &prod);
    sends_nothing(&prod);
}

#[test]
fn rcc_restores_what_was_pulled_and_finds_no_damage() {
    let Some(rcc) = rcc(17) else { return };
    let from = TestHome::new();
    from.holofs_ok(&["import", golden::file("hololib-gz.zip").to_str().unwrap()]);
    let remote = file_remote(&from.scratch().join("store"), "golden");
    push(&from, CATALOG, &remote);
    let fixed = FixedHome::take();
    let to = &fixed.test_home;
    pull(to, &remote);
    rcc.run(to, &["holotree", "check"]);
    assert_eq!(to.catalogs(), [CATALOG]);
    let (space, dirty) = rcc.restore(to, &golden::file("golden.yaml"), "c", "pulled");
    assert!(dirty.dirty > 0 && space.is_dir());
    let (_, dirty) = rcc.restore(to, &golden::file("golden.yaml"), "c", "pulled");
    assert_eq!(dirty, Dirty { dirty: 0, files: dirty.files });
}

#[test]
fn push_refuses_a_raw_hololib_because_its_digests_prove_nothing() {
    let from = TestHome::golden(Regime::Raw);
    let remote = file_remote(&from.scratch().join("store"), "raw");
    let refused = from.holofs_fails(&["push", CATALOG, &remote], exit::BAD_CATALOG);
    assert!(stderr(&refused).contains("SipHash"), "{}", stderr(&refused));
}

#[test]
fn pull_demands_a_signature_of_name_and_head() {
    let (from, to) = (TestHome::golden(Regime::Gzip), TestHome::new());
    let store = from.scratch().join("store");
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = from.scratch().join("key");
    fs::write(&key, pair.sk.to_box(None).unwrap().into_string()).unwrap();
    let (signed, unsigned) = (file_remote(&store, "signed"), file_remote(&store, "unsigned"));
    from.holofs_ok(&["push", CATALOG, &signed, "--sign", key.to_str().unwrap()]);
    from.holofs_ok(&["push", CATALOG, &unsigned]);
    let (good, bad) = (pair.pk.to_base64(), other.pk.to_base64());
    to.holofs_fails(&["pull", &signed, "--require-signature", &bad], exit::BAD_CATALOG);
    to.holofs_fails(&["pull", &unsigned, "--require-signature", &good], exit::BAD_CATALOG);
    assert_nothing_published(&to);
    to.holofs_ok(&["pull", &signed, "--require-signature", &good]);
}

#[test]
fn gc_removes_what_no_name_leads_to_and_nothing_else() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let store = from.scratch().join("store");
    let old = recorded(&from, &contents()[..4], "old=1");
    let new = recorded(&from, &contents()[4..7], "new=1");
    let remote = file_remote(&store, "prod");
    push(&from, &old, &remote);
    push(&from, &new, &remote);
    let gc = |more: &[&str]| json(&from.holofs_ok(&[&["remote", "gc", &remote, "--json"], more].concat()));
    let young = gc(&[]);
    assert_eq!((number_field(&young, "objects"), number_field(&young, "objects_young")), (0, 0));
    assert_eq!(gc(&["--grace", "0", "--dry-run"])["names"].as_array().unwrap().len(), 1);
    let gone = gc(&["--grace", "0"]);
    assert_eq!(number_field(&gone, "objects"), 2, "a head and a pack: {gone:#}");
    let verified = json(&from.holofs_ok(&["remote", "verify", &remote, "--json"]));
    assert_eq!(verified["wrong"].as_array().unwrap().len(), 0);
    assert_eq!(text_field(&pull(&to, &remote), "catalog"), new);
}

/// Misbehaving servers, and the result for each of their readers.
#[test]
fn pull_gives_no_wrong_bytes_for_any_fault_of_a_server() {
    let from = TestHome::new();
    let store = from.scratch().join("store");
    let catalog = recorded(&from, &contents(), "faults=1");
    push(&from, &catalog, &file_remote(&store, "prod"));
    for fault in Fault::ALL {
        let to = TestHome::new();
        let server = Server::start(&store, fault);
        let output =
            to.holofs(&["pull", &server.remote("prod"), "--fetch-timeout", fault.patience(), "--json"]);
        let code = output.status.code();
        eprintln!("{fault:?}: exit {code:?}, {} requests", server.requests());
        if fault.can_be_overcome() {
            assert_eq!(code, Some(exit::OK), "{fault:?}: {}", stderr(&output));
            to.holofs_ok(&["check"]);
            assert_eq!(to.catalogs(), std::slice::from_ref(&catalog));
        } else {
            assert!(
                matches!(code, Some(exit::DAMAGE | exit::IO | exit::NOT_FOUND)),
                "{fault:?}: {code:?} {}",
                stderr(&output)
            );
            assert_nothing_published(&to);
        }
    }
}

#[test]
fn pull_that_is_killed_continues_where_it_was() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let store = from.scratch().join("store");
    let catalog = recorded(&from, &contents(), "killed=1");
    push(&from, &catalog, &file_remote(&store, "prod"));
    let server = Server::start(&store, Fault::Slow);
    let mut first = to.holofs_command(&["pull", &server.remote("prod")]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stage = to.home().join("holofs/remote/stage");
    let staged = || {
        let found = Command::new("find")
            .arg(&stage)
            .args(["-type", "f", "-not", "-name", "*part*"])
            .output()
            .unwrap();
        found.stdout.iter().filter(|&&byte| byte == b'\n').count()
    };
    let started = Instant::now();
    while staged() < 20 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let kept = staged() as u64;
    assert!(kept >= 20, "{kept}");
    assert_eq!(to.catalogs(), [""; 0]);
    let second = pull(&to, &file_remote(&store, "prod"));
    assert_eq!(number_field(&second, "blobs_local"), kept);
    assert_eq!(number_field(&second, "blobs_fetched"), number_field(&second, "blobs") - kept);
    to.holofs_ok(&["check"]);
    assert_eq!(staged(), 0);
}

#[test]
fn push_that_is_killed_shows_nothing_and_continues_where_it_was() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let store = from.scratch().join("store");
    let large: Vec<_> = (0..8).map(|at| (format!("large-{at}"), noise(at, 15_000_000))).collect();
    let catalog = recorded(&from, &large, "killed=3");
    let remote = file_remote(&store, "prod");
    let mut first = from.holofs_command(&["push", &catalog, &remote]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sent = || {
        let mut find = Command::new("find");
        find.arg(store.join("v1/packs")).args(["-type", "f", "-printf", "%f\n"]);
        let names = String::from_utf8(find.output().unwrap().stdout).unwrap();
        names.lines().filter(|name| name.len() == 64).count()
    };
    let started = Instant::now();
    while sent() < 2 && started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(sent() >= 2 && !store.join("v1/refs/prod").exists(), "{}", sent());
    to.holofs_fails(&["pull", &remote], exit::NOT_FOUND);
    let second = push(&from, &catalog, &remote);
    let bytes = number_field(&second, "bytes_sent");
    assert!(bytes > 1_000_000 && bytes < 95_000_000, "{second:#}");
    pull(&to, &remote);
    to.holofs_ok(&["check"]);
}

#[test]
fn remote_verify_names_what_is_damaged() {
    let from = TestHome::new();
    let store = from.scratch().join("store");
    let catalog = recorded(&from, &contents(), "damaged=1");
    let remote = file_remote(&store, "prod");
    push(&from, &catalog, &remote);
    let packs = run(Command::new("find").arg(store.join("v1/packs")).args(["-type", "f"]));
    let pack = String::from_utf8(packs.stdout).unwrap();
    let mut bytes = fs::read(pack.trim_end()).unwrap();
    bytes[5_000_000] ^= 1;
    fs::remove_file(pack.trim_end()).unwrap();
    fs::write(pack.trim_end(), &bytes).unwrap();
    let output = from.holofs_fails(&["remote", "verify", &remote, "--json"], exit::DAMAGE);
    let report: serde_json::Value =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().next().unwrap().unwrap();
    assert_eq!(report["wrong"].as_array().unwrap().len(), 1, "{report:#}");
}

#[test]
fn push_keeps_environments_in_a_registry_as_artifacts() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(registry) = Registry::start(&from.scratch(), &Login::None) else { return };
    let remote = format!("oci://{}/team/env:prod", registry.address());
    let catalog = recorded(&from, &contents(), "registry=1");
    let pushed = push(&from, &catalog, &remote);
    assert_eq!(number_field(&push(&from, &catalog, &remote), "bytes_sent"), 0);
    let pulled = pull(&to, &remote);
    assert_eq!((text_field(&pulled, "catalog"), number_field(&pulled, "fetched_again")), (catalog, 0));
    to.holofs_ok(&["check"]);
    let listed = json(&to.holofs_ok(&["remote", "ls", &remote, "--json"]));
    assert_eq!(
        (listed[0]["name"].clone(), listed[0]["head"].clone()),
        ("prod".into(), pushed["head"].clone())
    );
    let other = format!("oci://{}/team/env@sha256:{}", registry.address(), text_field(&pushed, "head"));
    assert_eq!(pull(&to, &other)["head"], pushed["head"]);
    to.holofs_fails(&["pull", &remote.replace(":prod", ":none")], exit::NOT_FOUND);
}

#[test]
fn push_uses_the_login_of_docker_for_a_registry() {
    let from = TestHome::golden(Regime::Gzip);
    let Some(registry) = Registry::start(&from.scratch(), &Login::Password) else { return };
    let remote = format!("oci://{}/env:prod", registry.address());
    let without = from.holofs_fails(&["push", CATALOG, &remote], exit::IO);
    assert!(stderr(&without).contains("401"), "{}", stderr(&without));
    let docker = from.user().join(".docker");
    fs::create_dir_all(&docker).unwrap();
    let login = |encoded: &str| {
        let config = format!(r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#, registry.address());
        fs::write(docker.join("config.json"), config).unwrap();
    };
    // user:wrong, then user:secret
    login("dXNlcjp3cm9uZw==");
    let wrong = from.holofs_fails(&["push", CATALOG, &remote, "-vvv"], exit::IO);
    assert!(
        !stderr(&wrong).contains("wrong") && !stderr(&wrong).contains("dXNlcjp3cm9uZw"),
        "{}",
        stderr(&wrong)
    );
    login("dXNlcjpzZWNyZXQ=");
    let pushed = run(from.holofs_command(&["push", CATALOG, &remote, "-vvv"]).env("RUST_LOG", "trace"));
    let said = stderr(&pushed);
    assert!(!said.contains("dXNl") && !said.contains("6458 4e6c"), "a login in the log: {said}");
    from.holofs_ok(&["pull", &remote]);
}
