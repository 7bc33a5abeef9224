//! Environments that are used before their content is on this machine.

use std::fs;
use std::path::Path;

use super::server::{Fault, Server};
use super::{contents, file_remote, push, recorded};
use crate::common::compare::assert_same_space;
use crate::common::exit;
use crate::common::sandbox::Sandbox;
use crate::common::{json, space_path, stderr, until};

/// The number of contents in the raw store of a home.
fn kept(sandbox: &Sandbox) -> usize {
    let dirs = fs::read_dir(sandbox.home().join("holofs/raw")).into_iter().flatten().flatten();
    let entries = dirs.flat_map(|dir| fs::read_dir(dir.path()).into_iter().flatten().flatten());
    entries.filter(|entry| entry.file_name() != "seals").count()
}

/// A home with a recorded environment that is also in a directory remote; returns its catalog.
fn pushed(from: &Sandbox) -> (String, std::path::PathBuf) {
    let store = from.scratch().join("store");
    let catalog = recorded(from, &contents(), "lazy=1");
    push(from, &catalog, &file_remote(&store, "prod"));
    (catalog, store)
}

#[test]
fn mount_lazily_fetches_what_is_read_and_shows_what_rcc_would() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (catalog, store) = pushed(&from);
    let files = from.materialize(&catalog, "files", "c");
    let server = Server::start(&store, Fault::None);
    let remote = server.remote("prod");
    let mounted = to.mount(&remote, "lazy", "c", &[]);
    assert_eq!(to.catalogs(), [""; 0], "it is not all here, so RCC must not find it");
    assert_eq!(fs::read_dir(mounted.path().join("lib")).unwrap().count(), contents().len());
    assert_eq!((kept(&to), server.requests()), (0, 0), "names and sizes are known");
    let read = |name: &str| fs::read(mounted.path().join("lib").join(name)).unwrap();
    let expected = |name: &str| contents().into_iter().find(|(found, _)| found == name).unwrap().1;
    for name in ["small-7", "file-700000"] {
        assert_eq!(read(name), expected(name));
    }
    assert_eq!(kept(&to), 2);
    assert_same_space(&files, mounted.path());
    drop(mounted);
    drop(server);
    let again = to.mount(&remote, "lazy", "c", &["--offline"]);
    assert_same_space(&files, again.path());
    drop(again);
    let laid =
        space_path(&json(&to.holofs_ok(&["materialize", &file_remote(&store, "prod"), "laid", "--json"])));
    assert_same_space(&files, &laid);
}

#[test]
fn a_trace_of_a_lazy_mount_tells_what_came_from_the_remote() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (_, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    let trace = to.scratch().join("trace");
    let origin = |file: &str| {
        let mounted = to.mount(&remote, "lazy", "c", &["--profile", "off"]);
        let script = format!("cat {}/lib/{file} > /dev/null", mounted.path().display());
        let args = ["run", &remote, "--space", "lazy", "--controller", "c", "--no-bytecode", "--trace"];
        to.holofs_ok(&[&args[..], &[trace.to_str().unwrap(), "--", "sh", "-c", &script]].concat());
        let told = json(&to.holofs_ok(&["trace", "--from", trace.to_str().unwrap(), "--json"]));
        drop(mounted);
        let files = told["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{told:#}");
        assert_eq!(files[0]["path"], format!("lib/{file}"));
        // The first read fetches the file; later ones find it in the raw store.
        let parts = told["origins"].as_object().unwrap().values();
        let bytes: u64 = parts.map(|part| part["bytes"].as_u64().unwrap()).sum();
        assert_eq!(bytes, told["read_bytes"].as_u64().unwrap(), "{told:#}");
        files[0]["origin"].as_str().unwrap().to_owned()
    };
    assert_eq!(origin("file-700000"), "remote");
    assert_eq!(origin("file-700000"), "raw", "it was kept");
    assert_eq!(origin("small-7"), "remote");
}

#[test]
fn files_need_no_mount_and_fetch_all() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (catalog, store) = pushed(&from);
    let files = from.materialize(&catalog, "files", "c");
    let server = Server::start(&store, Fault::CutSometimes);
    let args = ["materialize", &server.remote("prod"), "laid", "--json"];
    let laid = space_path(&json(&to.holofs_ok(&args)));
    assert_same_space(&files, &laid);
    assert_eq!(to.catalogs(), [""; 0]);
}

#[test]
fn wrong_bytes_are_an_error_of_their_file_alone_and_are_not_kept() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (_, store) = pushed(&from);
    let server = Server::start(&store, Fault::WrongAlways);
    let mounted = to.mount(&server.remote("prod"), "lazy", "c", &[]);
    for name in ["small-7", "file-9000000"] {
        let error = fs::read(mounted.path().join("lib").join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{name}");
    }
    assert_eq!(fs::read(mounted.path().join("lib/file-0")).unwrap(), b"");
    assert_eq!(kept(&to), 0);
}

#[test]
fn mount_lazily_without_network_reads_what_is_here_and_fails_for_the_rest() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (_, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    to.holofs_fails(&["mount", &remote, "lazy", "--offline"], exit::NOT_FOUND);
    let first = to.mount(&remote, "lazy", "c", &[]);
    fs::read(first.path().join("lib/small-1")).unwrap();
    drop(first);
    let second = to.mount(&remote, "lazy", "c", &["--offline"]);
    fs::read(second.path().join("lib/small-1")).unwrap();
    let error = fs::read(second.path().join("lib/small-2")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
}

/// The processes that `pid` started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks
        .flat_map(|task| of(task).split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// The fetchers of a daemon.
pub fn fetchers(daemon: u32) -> Vec<u32> {
    let named = |pid: &u32| {
        let words = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"fetch")
    };
    children(daemon).into_iter().filter(named).collect()
}

/// The inodes of the sockets that a process has open.
fn sockets(pid: u32) -> Vec<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let target = |entry: fs::DirEntry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned);
    let inode = |text: String| Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    links.filter_map(target).filter_map(inode).collect()
}

#[test]
fn mount_lazily_has_a_daemon_without_network_that_outlives_its_fetcher() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (_, store) = pushed(&from);
    let server = Server::start(&store, Fault::None);
    let mounted = to.mount(&server.remote("prod"), "lazy", "c", &[]);
    let read = |name: &str| fs::read(mounted.path().join("lib").join(name));
    read("small-1").unwrap();
    let daemon = crate::common::mounted::server(mounted.report());
    let tcp = fs::read_to_string("/proc/net/tcp").unwrap();
    let connected = |inode: &String| tcp.lines().any(|line| line.split_whitespace().nth(9) == Some(inode));
    assert!(!sockets(daemon).iter().any(connected), "the daemon has a connection of its own");
    let fetchers = fetchers(daemon);
    assert_eq!(fetchers.len(), 1);
    crate::common::run(std::process::Command::new("kill").args(["-9", &fetchers[0].to_string()]));
    until(|| read("small-2").is_err());
    assert_eq!(read("small-3").unwrap_err().raw_os_error(), Some(5));
    read("small-1").unwrap();
    assert_eq!(fs::read_dir(mounted.path().join("lib")).unwrap().count(), contents().len());
}

#[test]
fn a_run_tells_at_its_end_what_the_remote_did_not_supply_and_stats_count_requests() {
    let (from, to) = (Sandbox::new(), Sandbox::new());
    let (_, store) = pushed(&from);
    let server = Server::start(&store, Fault::WrongAlways);
    let read = ["--", "sh", "-c", "cat \"$CONDA_PREFIX/lib/small-7\" 2>/dev/null; exit 0"];
    let ended = to.holofs_ok(&[&["run", &server.remote("prod"), "user"][..], &read].concat());
    let told = stderr(&ended);
    assert!(
        told.contains(" reads failed in this run, since the remote did not supply the content"),
        "{told}"
    );
    assert!(told.contains("another digest") || told.contains("damaged"), "the cause: {told}");
    drop(server);

    let server = Server::start(&store, Fault::WrongSometimes);
    let mounted = to.mount(&server.remote("prod"), "counted", "c", &[]);
    for name in ["small-1", "small-2", "file-9000000"] {
        fs::read(mounted.path().join("lib").join(name)).unwrap();
    }
    let count = |name: &str| {
        let stats = json(&to.holofs_ok(&["stats", "counted", "--controller", "c", "--json"]));
        stats["counts"][name].as_u64().unwrap_or_default()
    };
    // A request is counted when all of its answer was handed on, which may be after the read.
    until(|| count("remote_requests") == server.requests() as u64);
    assert!(count("blobs_fetched") >= 3 && count("remote_retries") > 0);
    assert!(count("remote_bytes") > 9_000_000, "{}", count("remote_bytes"));
}
