//! The second way of reading (`--io passthrough`): the kernel itself reads the stores, and every law of a space still holds.
//!
//! `HOLOFS_IO=passthrough cargo test` also runs all other tests of mounts in this way; this file tests its special cases.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, IDENTITY, Regime};
use crate::common::mapped::Mapped;
use crate::common::mounted::{Mounted, server};
use crate::common::test_home::TestHome;
use crate::common::{copy_program, is_root, json, run, skip, stderr, store_hash, text_field, until};

const SPACE: &str = "passed";
/// Two files of different sizes without relocations; the last file has relocations, so it exists for this space only.
const FILES: [&str; 3] = ["plain/inner.gz", "plain/big-5MB.bin", "bin/tool"];
const ESTALE: i32 = 116;
const ETXTBSY: i32 = 26;
const O_TRUNC: i32 = 0o1000;

/// Without readahead: all descriptors of a file are of the same kind as the first one, and one that is opened before its relocated file exists
/// is cached.
const ARGS: [&str; 6] = ["--mode", "mount", "--io", "passthrough", "--profile", "off"];

/// A mount with passthrough; `None`, with a message, where that is not possible.
fn mount(test_home: &TestHome) -> Option<Mounted<'_>> {
    if !is_root() {
        skip("passing files through needs root");
        return None;
    }
    let mounted = test_home.mount(CATALOG, SPACE, "user", &ARGS);
    let report = mounted.report().clone();
    if report["io"] == "no-open" {
        assert!(!text_field(&report, "io_reason").is_empty());
        skip(&text_field(&report, "io_reason"));
        return None;
    }
    assert_eq!(
        (text_field(&report, "io").as_str(), &report["io_reason"]),
        ("passthrough", &serde_json::Value::Null)
    );
    Some(mounted)
}

fn stats(test_home: &TestHome) -> serde_json::Value {
    json(&test_home.holofs_ok(&["stats", SPACE, "--json"]))
}

fn requests(test_home: &TestHome, opcode: &str) -> u64 {
    stats(test_home)["requests"][opcode].as_u64().unwrap_or_default()
}

fn passed(test_home: &TestHome) -> u64 {
    stats(test_home)["counts"]["passed_through"].as_u64().unwrap_or_default()
}

/// The directory with the state of the space.
fn state_of(test_home: &TestHome, mounted: &Mounted<'_>) -> PathBuf {
    test_home.home().join("holofs/spaces").join(text_field(mounted.report(), "label"))
}

/// Waits until the relocated files exist, which use passthrough from then on: the thread that creates them has started and ended.
fn relocated(test_home: &TestHome, mounted: &Mounted<'_>) {
    let dir = state_of(test_home, mounted).join("relocated");
    let in_it =
        |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().next().map(|entry| entry.path());
    until(|| in_it(&dir).is_some_and(|catalog| in_it(&catalog).is_some()));
    let tasks = format!("/proc/{}/task", server(mounted.report()));
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    until(|| fs::read_dir(&tasks).unwrap().all(|task| name(task.unwrap()).trim() != "background"));
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

#[test]
fn everything_looks_the_same_and_no_byte_goes_through_the_daemon() {
    let test_home = TestHome::golden(Regime::Gzip);
    let restored = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let Some(mounted) = mount(&test_home) else { return };
    relocated(&test_home, &mounted);
    let (opened, reads) = (requests(&test_home, "open"), requests(&test_home, "read"));
    for file in FILES {
        assert!(fs::read(mounted.path().join(file)).unwrap().len() > 10, "{file}");
    }
    assert_eq!(passed(&test_home), 3);
    assert_eq!(requests(&test_home, "read"), reads);
    assert_eq!(requests(&test_home, "open"), opened + 3);
    until(|| requests(&test_home, "release") == requests(&test_home, "open"));
    assert_same_space(mounted.path(), &restored);
    assert_eq!(stats(&test_home)["fallbacks"], serde_json::json!({}));
    // Directories are opened once and listings are cached, as without passthrough.
    assert_eq!(requests(&test_home, "opendir"), 1);
}

/// A way to write to the file; returns its new content.
type Way = (&'static str, fn(&Path, Vec<u8>) -> io::Result<Vec<u8>>);

const WAYS: [Way; 7] = [
    ("write", |path, mut content| {
        open(path)?.write_all_at(b"WRITTEN", 3)?;
        content[3..10].copy_from_slice(b"WRITTEN");
        Ok(content)
    }),
    ("append", |path, content| {
        OpenOptions::new().append(true).open(path)?.write_all(b"more")?;
        Ok([&content[..], b"more"].concat())
    }),
    ("O_TRUNC", |path, _| {
        fs::write(path, "new")?;
        Ok(b"new".to_vec())
    }),
    ("O_RDONLY and O_TRUNC", |path, _| {
        OpenOptions::new().read(true).custom_flags(O_TRUNC).open(path)?;
        Ok(Vec::new())
    }),
    ("truncate", |path, content| {
        run(Command::new("truncate").args(["-s", "5"]).arg(path));
        Ok(content[..5].to_vec())
    }),
    ("mapping", |path, mut content| {
        let script =
            "import mmap, sys; f = open(sys.argv[1], 'r+b'); mmap.mmap(f.fileno(), 0)[:6] = b'MAPPED'";
        run(Command::new("python3").args(["-c", script]).arg(path));
        content[..6].copy_from_slice(b"MAPPED");
        Ok(content)
    }),
    ("zeros", |path, mut content| {
        rustix::fs::fallocate(open(path)?, rustix::fs::FallocateFlags::ZERO_RANGE, 0, 8)?;
        content[..8].fill(0);
        Ok(content)
    }),
];

#[test]
fn however_a_file_is_written_its_readers_keep_theirs_and_the_stores_are_untouched() {
    let test_home = TestHome::golden(Regime::Gzip);
    for (way, write) in WAYS {
        let Some(mounted) = mount(&test_home) else { return };
        relocated(&test_home, &mounted);
        let copies = state_of(&test_home, &mounted).join("relocated");
        let readers: Vec<(PathBuf, File)> = FILES
            .map(|file| mounted.path().join(file))
            .map(|path| (path.clone(), File::open(path).unwrap()))
            .into();
        let stats = stats(&test_home);
        let log = || fs::read_to_string(state_of(&test_home, &mounted).join("log")).unwrap_or_default();
        assert_eq!(stats["counts"]["passed_through"], 3, "{way}: {stats:#}\n{}", log());
        let [library, raw] = [test_home.hololib().join("library"), test_home.home().join("holofs/raw")];
        let before = [store_hash::of(&library), store_hash::of(&raw)];
        for (path, reader) in &readers {
            let text = format!("{way} to {}", path.display());
            let (old, mapped, ino) =
                (fs::read(path).unwrap(), Mapped::new(reader).unwrap(), fs::metadata(path).unwrap().ino());
            let expected = write(path, old.clone()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(fs::read(path).unwrap() == expected, "{text}: others see something else");
            assert_eq!(fs::metadata(path).unwrap().len(), expected.len() as u64, "{text}");
            assert_eq!(fs::metadata(path).unwrap().ino(), ino, "{text}");
            let mut kept = vec![0; old.len()];
            reader.read_exact_at(&mut kept, 0).unwrap();
            assert!(kept == old && mapped[..] == old[..], "{text}: a reader's bytes changed");
        }
        let seen: Vec<_> = readers.iter().map(|(path, _)| fs::read(path).unwrap()).collect();
        drop(readers);
        store_hash::assert_unchanged(&library, &before[0]);
        store_hash::assert_unchanged(&raw, &before[1]);
        // Without passthrough it is the same space.
        mounted.unmount();
        let other = test_home.mount(CATALOG, SPACE, "user", &["--io", "no-open"]);
        for (file, seen) in FILES.iter().zip(seen) {
            assert!(fs::read(other.path().join(file)).unwrap() == seen, "{way} to {file} is gone");
        }
        other.unmount();
        test_home.holofs_ok(&["reset", SPACE]);
        // So that `relocated` cannot take them for those of the next mount.
        fs::remove_dir_all(copies).unwrap();
    }
}

#[test]
fn passthrough_gives_a_reader_no_way_to_a_writable_store() {
    let test_home = TestHome::golden(Regime::Gzip);
    let Some(mounted) = mount(&test_home) else { return };
    relocated(&test_home, &mounted);
    let reader = File::open(mounted.path().join("plain/inner.gz")).unwrap();
    assert_eq!(passed(&test_home), 1);
    let mapped = Mapped::new(&reader).unwrap();
    let raw = test_home.home().join("holofs/raw");
    let before = store_hash::of(&raw);
    let start = mapped.as_ptr() as usize;
    let entries = fs::read_dir("/proc/self/map_files").unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.to_str().unwrap().contains(&format!("/{start:x}-"));
    let entry = entries.into_iter().find(is_it).unwrap();
    assert!(fs::read(&entry).unwrap() == mapped[..]);
    // If reopened, the open and the mapped file is that of the space; no name leads to the inode that replaces it.
    let again = Path::new("/proc/self/fd").join(reader.as_raw_fd().to_string());
    for way in [&entry, &again] {
        assert_eq!(open(way).unwrap_err().raw_os_error(), Some(ESTALE), "{}", way.display());
        let cut = OpenOptions::new().write(true).truncate(true).open(way);
        assert_eq!(cut.unwrap_err().raw_os_error(), Some(ESTALE), "{}", way.display());
    }
    assert_eq!(reader.set_len(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    store_hash::assert_unchanged(&raw, &before);
}

#[test]
fn passthrough_shows_what_was_written_by_every_name_of_a_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let Some(mounted) = mount(&test_home) else { return };
    let (one, other) = (mounted.path().join("plain/inner.gz"), mounted.path().join("name"));
    fs::hard_link(&one, &other).unwrap();
    let reader = File::open(&one).unwrap();
    assert_eq!(passed(&test_home), 1, "another name changes no byte");
    OpenOptions::new().append(true).open(&other).unwrap().write_all(b"more").unwrap();
    let content = fs::read(&other).unwrap();
    assert!(content.ends_with(b"more"));
    assert!(fs::read(&one).unwrap() == content, "the first name shows other bytes");
    let numbers = [&one, &other].map(|path| fs::metadata(path).unwrap().ino());
    assert_eq!(numbers[0], numbers[1]);
    // Renaming it and removing one of its names work as usual.
    fs::rename(&other, mounted.path().join("renamed")).unwrap();
    fs::remove_file(&one).unwrap();
    assert!(fs::read(mounted.path().join("renamed")).unwrap() == content);
    let mut old = Vec::new();
    (&reader).read_to_end(&mut old).unwrap();
    assert!(old == content[..content.len() - 4]);
}

#[test]
fn readers_and_writers_at_once_meet_no_error_and_lose_nothing() {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 40;
    let test_home = TestHome::golden(Regime::Gzip);
    let files = ["plain/big-5MB.bin", "plain/inner.gz", "bin/tool", "plain/no-needle.txt"];
    for file in files {
        let Some(mounted) = mount(&test_home) else { return };
        let path = mounted.path().join(file);
        let place = |writer| (1 << 20) + writer * 8;
        let write = |writer: u64| {
            for round in 1..=ROUNDS {
                open(&path).unwrap().write_all_at(&round.to_le_bytes(), place(writer)).unwrap();
                let mut found = [0; 8];
                File::open(&path).unwrap().read_exact_at(&mut found, place(writer)).unwrap();
                assert_eq!(
                    u64::from_le_bytes(found),
                    round,
                    "{file}: writer {writer} does not see its own data"
                );
            }
        };
        let read = || {
            for _ in 0..ROUNDS {
                let reader = File::open(&path).unwrap();
                let mut start = [0; 8];
                reader.read_exact_at(&mut start, 0).unwrap();
                let listed = fs::read_dir(path.parent().unwrap()).unwrap();
                assert!(listed.map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>() > 0);
            }
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2).map(|_| scope.spawn(read)).collect();
            (0..WRITERS).for_each(|writer| drop(scope.spawn(move || write(writer))));
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
        let content = fs::read(&path).unwrap();
        for writer in 0..WRITERS {
            let at = usize::try_from(place(writer)).unwrap();
            assert_eq!(content[at..at + 8], ROUNDS.to_le_bytes(), "{file}");
        }
        assert_eq!(stats(&test_home)["fallbacks"].get("passthrough of a file"), None);
    }
}

#[test]
fn passthrough_runs_a_program_which_is_busy_as_long_as_it_runs() {
    if !is_root() {
        return skip("passing files through needs root");
    }
    let test_home = TestHome::new();
    let stage = test_home.holotree().join(IDENTITY);
    fs::create_dir_all(stage.join("bin")).unwrap();
    copy_program("/bin/sleep", stage.join("bin/sleep"));
    fs::write(test_home.scratch().join("name"), "sleeper").unwrap();
    let catalog = test_home.record(&stage, &test_home.scratch().join("name"));
    fs::remove_dir_all(&stage).unwrap();
    let mounted = test_home.mount(&catalog, SPACE, "user", &["--io", "passthrough"]);
    let program = mounted.path().join("bin/sleep");
    run(Command::new(&program).arg("0"));
    assert!(mounted.report()["io"] == "no-open" || passed(&test_home) > 0);
    let mut running = Command::new(&program).arg("60").spawn().unwrap();
    until(|| fs::read_link(format!("/proc/{}/exe", running.id())).is_ok_and(|exe| exe == program));
    assert_eq!(open(&program).unwrap_err().raw_os_error(), Some(ETXTBSY));
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(open(&program).is_ok());
}

#[test]
fn passthrough_keeps_readers_of_a_killed_daemon_and_loses_nothing() {
    let test_home = TestHome::golden(Regime::Gzip);
    let Some(mounted) = mount(&test_home) else { return };
    let path = mounted.path().join("plain/big-5MB.bin");
    let (old, reader) = (fs::read(&path).unwrap(), File::open(&path).unwrap());
    open(&path).unwrap().write_all_at(b"WRITTEN", 3).unwrap();
    run(Command::new("kill").args(["-KILL", &mounted.report()["pid"].to_string()]));
    until(|| File::open(&path).is_err());
    // The kernel has the file, even if the daemon is dead.
    let mut kept = vec![0; old.len()];
    reader.read_exact_at(&mut kept, 0).unwrap();
    assert!(kept == old);
    drop(reader);
    let again = mount(&test_home).unwrap();
    assert_eq!(
        fs::read(again.path().join("plain/big-5MB.bin")).unwrap()[..10],
        [&old[..3], b"WRITTEN"].concat()
    );
    std::mem::forget(mounted); // the next mount removes this one
}

#[test]
fn passthrough_falls_back_to_no_open_where_the_kernel_refuses_and_reports_it() {
    let unshare = Command::new("unshare").args(["-Urm", "true"]).output();
    if !is_root() || !unshare.is_ok_and(|output| output.status.success()) {
        return skip("a user namespace needs unshare, and /dev/fuse in it root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let script = format!(
        "set -e; h={}; $h mount {CATALOG} {SPACE} --io passthrough --mode mount --json; \
         cat {}/holotree/*/plain/no-needle.txt > /dev/null; $h stats {SPACE} --json; $h unmount {SPACE}",
        env!("CARGO_BIN_EXE_holofs"),
        test_home.home().display()
    );
    let mut command = test_home.command("unshare");
    let output = run(command.args(["-Urm", "sh", "-c", &script]));
    let text: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .take(2)
        .map(Result::unwrap)
        .collect();
    assert_eq!(text_field(&text[0], "io"), "no-open");
    let reason = text_field(&text[0], "io_reason");
    assert!(reason.contains("not permitted") && reason.ends_with("using no-open"), "{reason}");
    assert_eq!(stderr(&output).matches(&reason).count(), 1, "{}", stderr(&output));
    assert_eq!(text_field(&text[1], "io"), "no-open");
    assert_eq!(text[1]["fallbacks"]["passthrough"]["reason"], reason.as_str());
    assert_eq!(text[1]["requests"]["release"], serde_json::Value::Null, "no-open has no RELEASE");
    assert_eq!(text[1]["requests"]["open"], 1);
}

/// An overlay over `lower`, removed when dropped.
struct Overlay(PathBuf);

impl Overlay {
    fn over(lower: &Path, at: &Path) -> Overlay {
        let (upper, work) = (at.with_extension("upper"), at.with_extension("work"));
        [at, &upper, &work].iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        let [lower, upper, work] = [lower, &upper, &work].map(Path::display);
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(at));
        Overlay(at.to_owned())
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn passthrough_works_on_one_overlay_and_falls_back_on_two() {
    if !is_root() {
        return skip("mounting an overlay needs root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let lower = test_home.scratch().join("lower");
    fs::create_dir_all(&lower).unwrap();
    let one = Overlay::over(&lower, &test_home.scratch().join("one"));
    let two = Overlay::over(&one.0, &test_home.scratch().join("two"));
    for (at, io) in [(&one.0, "passthrough"), (&two.0, "no-open")] {
        let mut command =
            test_home.holofs_command(&["mount", CATALOG, SPACE, "--io", "passthrough", "--json"]);
        let report = json(&run(command.env("HOLOFS_HOME", at.join("holofs"))));
        assert_eq!(text_field(&report, "io"), io, "{report:#}");
        let read = fs::read(Path::new(&text_field(&report, "path")).join("plain/inner.gz"));
        run(test_home.holofs_command(&["unmount", SPACE]).env("HOLOFS_HOME", at.join("holofs")));
        assert!(read.unwrap().len() > 10);
    }
}
