//! Environments that are used before their content is on this machine.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::server::{Fault, Server};
use super::{content_of, contents, file_remote, push, recorded};
use crate::common::compare::assert_same_space;
use crate::common::exit;
use crate::common::mounted::Mounted;
use crate::common::soak::is_soak;
use crate::common::test_home::TestHome;
use crate::common::{json, run, said, space_path, stderr, until};

/// The number of contents in the raw store of a home.
pub fn kept(test_home: &TestHome) -> usize {
    let dirs = fs::read_dir(test_home.home().join("holofs/raw")).into_iter().flatten().flatten();
    let entries = dirs.flat_map(|dir| fs::read_dir(dir.path()).into_iter().flatten().flatten());
    entries.filter(|entry| entry.file_name() != "seals").count()
}

/// A home with a recorded environment that is also in a directory remote; returns its catalog.
fn pushed(from: &TestHome) -> (String, std::path::PathBuf) {
    let store = from.scratch().join("store");
    let catalog = recorded(from, &contents(), "lazy=1");
    push(from, &catalog, &file_remote(&store, "prod"));
    (catalog, store)
}

#[test]
fn mount_lazily_fetches_what_is_read_and_shows_what_rcc_would() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (catalog, store) = pushed(&from);
    let files = from.materialize(&catalog, "files", "c");
    let server = Server::start(&store, Fault::None);
    let remote = server.remote("prod");
    let mounted = to.mount(&remote, "lazy", "c", &[]);
    assert_eq!(to.catalogs(), [""; 0], "it is not all here, so RCC must not find it");
    assert_eq!(fs::read_dir(mounted.path().join("lib")).unwrap().count(), contents().len());
    assert_eq!((kept(&to), server.requests()), (0, 0), "names and sizes are known");
    let read = |name: &str| fs::read(mounted.path().join("lib").join(name)).unwrap();
    for name in ["small-7", "file-700000"] {
        assert_eq!(read(name), content_of(name));
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
fn trace_of_a_lazy_mount_shows_what_came_from_the_remote() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    let trace = to.scratch().join("trace");
    let origin = |file: &str| {
        let mounted = to.mount(&remote, "lazy", "c", &["--profile", "off"]);
        let script = format!("cat {}/lib/{file} > /dev/null", mounted.path().display());
        let args = ["run", &remote, "--space", "lazy", "--controller", "c", "--no-bytecode", "--trace"];
        to.holofs_ok(&[&args[..], &[trace.to_str().unwrap(), "--", "sh", "-c", &script]].concat());
        let value = json(&to.holofs_ok(&["trace", "--from", trace.to_str().unwrap(), "--json"]));
        drop(mounted);
        let files = value["files"].as_array().unwrap();
        assert_eq!(files.len(), 1, "{value:#}");
        assert_eq!(files[0]["path"], format!("lib/{file}"));
        // The first read fetches the file; later ones find it in the raw store.
        let parts = value["origins"].as_object().unwrap().values();
        let bytes: u64 = parts.map(|part| part["bytes"].as_u64().unwrap()).sum();
        assert_eq!(bytes, value["read_bytes"].as_u64().unwrap(), "{value:#}");
        files[0]["origin"].as_str().unwrap().to_owned()
    };
    assert_eq!(origin("file-700000"), "remote");
    assert_eq!(origin("file-700000"), "raw", "it was kept");
    assert_eq!(origin("small-7"), "remote");
}

#[test]
fn files_need_no_mount_and_fetch_all() {
    let (from, to) = (TestHome::new(), TestHome::new());
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
    let (from, to) = (TestHome::new(), TestHome::new());
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
    let (from, to) = (TestHome::new(), TestHome::new());
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

/// The child processes of `pid`.
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
    let (from, to) = (TestHome::new(), TestHome::new());
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
fn run_reports_at_its_end_what_the_remote_did_not_supply_and_stats_count_requests() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let server = Server::start(&store, Fault::WrongAlways);
    let read = ["--", "sh", "-c", "cat \"$CONDA_PREFIX/lib/small-7\" 2>/dev/null; exit 0"];
    let ended = to.holofs_ok(&[&["run", &server.remote("prod"), "user"][..], &read].concat());
    let value = stderr(&ended);
    assert!(
        value.contains(" reads failed in this run, since the remote did not supply the content"),
        "{value}"
    );
    assert!(value.contains("another digest") || value.contains("damaged"), "the cause: {value}");
    drop(server);

    let server = Server::start(&store, Fault::WrongSometimes);
    let mounted = to.mount(&server.remote("prod"), "counted", "c", &[]);
    for name in ["small-1", "small-2", "file-9000000"] {
        fs::read(mounted.path().join("lib").join(name)).unwrap();
    }
    let count = |name: &str| count(&to, "counted", name);
    // A request is counted when its whole answer was passed on, which may be after the read.
    until(|| count("remote_requests") == server.requests() as u64);
    assert!(count("blobs_fetched") >= 3 && count("remote_retries") > 0);
    assert!(count("remote_bytes") > 9_000_000, "{}", count("remote_bytes"));
}

/// The partial files.
fn partial(test_home: &TestHome) -> usize {
    let heads = fs::read_dir(test_home.home().join("holofs/remote")).into_iter().flatten().flatten();
    heads.map(|head| fs::read_dir(head.path().join("partial")).map_or(0, Iterator::count)).sum()
}

fn count(test_home: &TestHome, space: &str, name: &str) -> u64 {
    let stats = json(&test_home.holofs_ok(&["stats", space, "--controller", "c", "--json"]));
    stats["counts"][name].as_u64().unwrap_or_default()
}

#[test]
fn reading_a_part_of_a_large_file_fetches_that_part_and_never_shows_the_rest() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    let expected = content_of("file-9000000");
    let read = |mounted: &Mounted<'_>, at: usize| {
        let mut bytes = vec![0; 10];
        let file = fs::File::open(mounted.path().join("lib/file-9000000"))?;
        file.read_exact_at(&mut bytes, at as u64)?;
        assert_eq!(bytes, expected[at..at + 10], "{at}");
        std::io::Result::Ok(())
    };
    let mounted = to.mount(&remote, "part", "c", &[]);
    read(&mounted, 5_000_000).unwrap();
    assert_eq!((kept(&to), partial(&to)), (0, 1));
    until(|| count(&to, "part", "remote_bytes") > 0);
    assert!(count(&to, "part", "remote_bytes") < 3_000_000, "{}", count(&to, "part", "remote_bytes"));
    drop(mounted);
    // Without network, local content can be read, and missing content is an error.
    let offline = to.mount(&remote, "part", "c", &["--offline"]);
    read(&offline, 5_000_000).unwrap();
    assert_eq!(read(&offline, 0).unwrap_err().raw_os_error(), Some(5));
    drop(offline);
    let again = to.mount(&remote, "part", "c", &[]);
    assert_eq!(fs::read(again.path().join("lib/file-9000000")).unwrap(), expected);
    assert_eq!((kept(&to), partial(&to)), (1, 0));
}

#[test]
fn a_damaged_partial_file_is_fetched_again() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    let part = |mounted: &Mounted<'_>| {
        let mut bytes = vec![0; 300_000];
        let file = fs::File::open(mounted.path().join("lib/file-9000000")).unwrap();
        file.read_exact_at(&mut bytes, 5_000_000).unwrap();
        bytes
    };
    let mounted = to.mount(&remote, "part", "c", &[]);
    let right = part(&mounted);
    drop(mounted);
    let found = run(std::process::Command::new("find").arg(to.home().join("holofs/remote")).args([
        "-path",
        "*/partial/*",
        "-type",
        "f",
    ]));
    let path = std::path::PathBuf::from(crate::common::stdout(&found).trim_end());
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; 600_000], 4_900_000).unwrap();
    let again = to.mount(&remote, "part", "c", &[]);
    assert_eq!(part(&again), right);
}

#[test]
fn a_server_that_dies_and_comes_back_costs_only_time() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let server = Server::start(&store, Fault::None);
    let mounted = to.mount(&server.remote("prod"), "dies", "c", &["--fetch-timeout", "60"]);
    server.set(Fault::Dead);
    let path = mounted.path().join("lib/small-7");
    let reader = std::thread::spawn(move || fs::read(path));
    std::thread::sleep(std::time::Duration::from_millis(600));
    server.set(Fault::None);
    let expected = content_of("small-7");
    assert_eq!(reader.join().unwrap().unwrap(), expected);
    until(|| count(&to, "dies", "remote_retries") > 0);
    assert_eq!(count(&to, "dies", "remote_down"), 0);
}

#[test]
fn a_server_that_is_down_is_asked_only_now_and_then_until_it_answers() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let server = Server::start(&store, Fault::None);
    let mounted = to.mount(&server.remote("prod"), "down", "c", &["--fetch-timeout", "5"]);
    let read = |at: u64| fs::read(mounted.path().join(format!("lib/small-{at}")));
    server.set(Fault::Dead);
    for at in 0..8 {
        assert_eq!(read(at).unwrap_err().raw_os_error(), Some(5));
    }
    until(|| count(&to, "down", "remote_refused") > 0);
    server.set(Fault::None);
    until(|| read(20).is_ok());
    assert_eq!(read(0).unwrap(), content_of("small-0"));
    assert_eq!(count(&to, "down", "remote_down"), 1);
    let logs = said(&to.holofs_ok(&["logs", "down", "--controller", "c"]));
    assert_eq!(logs.matches("counts as down").count(), 1, "{logs}");
}

#[test]
fn an_idle_mount_completes_the_environment_and_puts_it_into_the_hololib() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (catalog, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    let args = ["mount", &remote, "idle", "--controller", "c", "--json"];
    let mounted = run(to.holofs_command(&args).env("HOLOFS_IDLE_FETCH", "0"));
    let path = space_path(&json(&mounted));
    until(|| to.catalogs() == std::slice::from_ref(&catalog));
    assert_same_space(&from.materialize(&catalog, "files", "c"), &path);
    to.holofs_ok(&["unmount", "idle", "--controller", "c"]);
    to.holofs_ok(&["check"]);
    assert_eq!(partial(&to), 0);
}

#[test]
fn gc_keeps_remote_environments_in_use_and_removes_others() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let (_, store) = pushed(&from);
    let remote = file_remote(&store, "prod");
    let heads = || {
        let entries = fs::read_dir(to.home().join("holofs/remote")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().len() == 64).count()
    };
    let gc = |more: &[&str]| {
        json(&to.holofs_ok(&[&["gc", "--json"], more].concat()))["remotes"].as_array().unwrap().len()
    };
    let mounted = to.mount(&remote, "gc", "c", &[]);
    fs::read(mounted.path().join("lib/small-7")).unwrap();
    fs::File::open(mounted.path().join("lib/file-9000000"))
        .unwrap()
        .read_exact_at(&mut [0; 9], 5_000_000)
        .unwrap();
    assert_eq!((gc(&["--unused", "0"]), heads(), partial(&to)), (0, 1, 1), "it is mounted");
    mounted.unmount();
    assert_eq!((gc(&["--dry-run"]), partial(&to)), (1, 1));
    assert_eq!((gc(&[]), partial(&to), kept(&to)), (1, 0, 1), "content that is whole stays");
    let offline = to.mount(&remote, "gc", "c", &["--offline"]);
    fs::read(offline.path().join("lib/small-7")).unwrap();
    offline.unmount();
    assert_eq!((gc(&["--unused", "0"]), heads(), kept(&to)), (2, 0, 0), "the environment and its name");
    to.holofs_fails(&["mount", &remote, "gc", "--offline"], exit::NOT_FOUND);
}

/// The result of reads in a lazy mount for each fault of a server; the table is printed.
#[test]
fn reads_get_right_bytes_or_an_error_from_every_server() {
    let from = TestHome::new();
    let (_, store) = pushed(&from);
    let faults =
        if is_soak() { &Fault::ALL[..] } else { &[Fault::Whole, Fault::OtherRange, Fault::RedirectExpires] };
    for (at, &fault) in faults.iter().enumerate() {
        let server = Server::start(&store, fault);
        let space = format!("liar{at}");
        let (remote, patience) = (server.remote("prod"), fault.patience());
        let args = [&remote, &space, "--controller", "c", "--fetch-timeout", patience, "--json"];
        let home = TestHome::new();
        let path = space_path(&json(&home.holofs_ok(&[&["mount"], &args[..]].concat())));
        let mut got = Vec::new();
        for name in ["small-7", "file-700000", "file-9000000"] {
            let read = fs::read(path.join("lib").join(name));
            match &read {
                Ok(bytes) => assert_eq!(*bytes, content_of(name), "{fault:?}"),
                Err(error) => assert_eq!(error.raw_os_error(), Some(5), "{fault:?}"),
            }
            got.push(read.map_or("I/O error", |_| "right bytes"));
        }
        eprintln!(
            "| {fault:?} | {} | {} requests | kept {} |",
            got.join(" | "),
            server.requests(),
            kept(&home)
        );
        let is_right = got.iter().all(|word| *word == "right bytes");
        assert_eq!(is_right, fault.can_be_overcome(), "{fault:?}");
        home.holofs_ok(&["unmount", &space, "--controller", "c"]);
    }
}
