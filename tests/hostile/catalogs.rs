//! Bad catalogs: refused with their own exit code and the name of the entry, in little time and memory, and without a trace.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::bounds::{limited, status_kib, within};
use crate::common::bad_catalogs::{self, SHA, a_file, deep, with_root, with_tree};
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::soak::{amount, is_soak};
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, exit, said, stderr};

/// Address space of a run in KiB, including the stacks of threads.
const MEMORY: &str = "-v 800000";

fn put(test_home: &TestHome, stored: &[u8]) -> PathBuf {
    let path = test_home.scratch().join("ffffffffffffffffv12.linux_amd64");
    fs::write(&path, stored).unwrap();
    path
}

/// Runs a command on the catalog at `path` under the limits of time and memory.
fn attempt(test_home: &TestHome, command: &str, path: &Path) -> Output {
    let mut args = vec![command, path.to_str().unwrap(), "hostile"];
    args.extend((command == "run").then_some(["--", "true"]).into_iter().flatten());
    within(&mut limited(test_home, MEMORY, &args), PATIENCE)
}

/// Every command refuses the catalog at `path`, with `entry` in the message, and creates nothing.
fn assert_refused(test_home: &TestHome, path: &Path, commands: &[&str], entry: &str) {
    for command in commands {
        let output = attempt(test_home, command, path);
        let code = if *command == "run" { exit::NOT_BEGUN } else { exit::BAD_CATALOG };
        assert_eq!(output.status.code(), Some(code), "{command}: {}", said(&output));
        assert!(stderr(&output).contains(entry), "{command} does not name {entry:?}: {}", stderr(&output));
        assert!(output.stderr.len() < 1500, "{command} says too much: {}", output.stderr.len());
    }
    assert_eq!(fs::read_dir(test_home.holotree()).unwrap().count(), 0, "something was created");
    let index = fs::read_dir(test_home.home().join("holofs/index")).into_iter().flatten();
    assert_eq!(index.count(), 0, "an index was kept");
}

#[test]
fn mount_and_materialize_refuse_every_bad_catalog_and_leave_nothing() {
    let (test_home, other) = (TestHome::golden(Regime::Gzip), TestHome::golden(Regime::Gzip));
    let alive = other.mount(CATALOG, "alive", "user", &[]);
    for (at, (text, _, entry)) in bad_catalogs::all().into_iter().enumerate() {
        let path = put(&test_home, &golden::deflate(&text));
        // Both commands use one parser: each is run with every third catalog, and the one that writes with all of them.
        let commands: &[&str] = if at % 3 == 0 { &["materialize", "mount"] } else { &["materialize"] };
        assert_refused(&test_home, &path, commands, &entry);
    }
    assert!(fs::read(alive.path().join("identity.yaml")).is_ok());
}

#[test]
fn mount_refuses_anything_that_is_not_a_catalog() {
    let test_home = TestHome::golden(Regime::Gzip);
    let whole = fs::read(golden::file("catalog-gz.json.gz")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    let zip = fs::read(golden::file("hololib-gz.zip")).unwrap();
    for stored in
        [&whole[..whole.len() / 2], &whole[..whole.len() - 1], &flipped, &zip, b"", b"{}", &[0; 4096]]
    {
        let path = put(&test_home, stored);
        assert_refused(&test_home, &path, &["mount", "materialize"], path.to_str().unwrap());
    }
    let newer = test_home.scratch().join("14023a1f332a0231v13.linux_amd64");
    fs::write(&newer, &whole).unwrap();
    assert_refused(&test_home, &newer, &["mount", "materialize", "run"], "13");
}

#[test]
fn mount_does_not_block_on_anything_in_place_of_a_catalog() {
    let test_home = TestHome::golden(Regime::Gzip);
    let path = test_home.scratch().join("fifov12.linux_amd64");
    crate::common::run(test_home.command("mkfifo").arg(&path));
    let device = test_home.scratch().join("zerov12.linux_amd64");
    std::os::unix::fs::symlink("/dev/zero", &device).unwrap();
    for path in [path, device] {
        for command in ["mount", "materialize"] {
            let output = attempt(&test_home, command, &path);
            assert!(matches!(output.status.code(), Some(3 | 4 | 8)), "{command}: {}", said(&output));
        }
    }
}

#[test]
fn deep_and_endless_catalogs_are_refused_in_bounded_memory() {
    let test_home = TestHome::golden(Regime::Gzip);
    let list = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let unknown = with_root(&format!(r#"{{"name":"","mode":2147484141,"x":{list}}}"#));
    for text in [deep(2_049), deep(100_000), unknown, "[".repeat(1_000_000)] {
        let path = put(&test_home, &golden::deflate(&text));
        assert_refused(&test_home, &path, &["mount", "materialize"], path.to_str().unwrap());
    }
}

/// Four gibibytes of `byte` in a few hundred KiB: one gzip member, repeated.
fn bomb(byte: u8) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&vec![byte; 64 << 20]).unwrap();
    encoder.finish().unwrap().repeat(64)
}

#[test]
fn mount_refuses_a_catalog_bomb_in_bounded_memory() {
    let test_home = TestHome::golden(Regime::Gzip);
    for byte in [b' ', b'[', 0] {
        let path = put(&test_home, &bomb(byte));
        assert_refused(&test_home, &path, &["materialize"], path.to_str().unwrap());
    }
    let offsets = "0,".repeat(10_000_000);
    let many = with_tree("{}", &a_file("f", &format!(r#","rewrite":[{offsets}-1]"#)));
    let path = put(&test_home, &golden::deflate(&many));
    assert_refused(&test_home, &path, &["materialize"], "f");
}

/// A golden catalog with changed JSON, under its own name.
fn edit(test_home: &TestHome, change: impl FnOnce(&mut Value)) {
    let path = test_home.hololib().join("catalog").join(CATALOG);
    let mut catalog: Value = serde_json::from_str(&golden::inflate(&fs::read(&path).unwrap())).unwrap();
    change(&mut catalog);
    fs::write(&path, golden::deflate(&catalog.to_string())).unwrap();
}

#[test]
fn relocations_that_do_not_match_the_content_affect_their_own_file_only() {
    const EIO: i32 = 5;
    let lists = [json!([34]), json!([0]), json!([30, 31]), json!([31, 30, 30]), json!([0, 30])];
    for list in lists {
        let test_home = TestHome::golden(Regime::Gzip);
        edit(&test_home, |catalog| {
            catalog["tree"]["subdirs"]["bin"]["files"]["tool"]["rewrite"] = list.clone()
        });
        let args = ["materialize", CATALOG, "x", "--json"];
        let output = test_home.holofs_fails(&args, exit::BAD_CATALOG);
        assert!(stderr(&output).contains("bin/tool"), "{list}: {}", stderr(&output));
        let left = fs::read_dir(test_home.holotree()).unwrap().map(|entry| entry.unwrap().path());
        assert!(left.into_iter().all(|path| !path.is_dir()), "{list}: a space was made");
        let mounted = test_home.mount(CATALOG, "y", "user", &[]);
        let read = |path: &str| fs::read(mounted.path().join(path));
        assert_eq!(read("bin/tool").unwrap_err().raw_os_error(), Some(EIO), "{list}");
        assert!(read("identity.yaml").is_ok(), "{list}: the daemon is not well");
    }
}

#[test]
fn mount_treats_a_million_doubled_offsets_as_one() {
    let test_home = TestHome::golden(Regime::Gzip);
    let offsets = vec![30; amount(100_000, 1_000_000)];
    edit(&test_home, |catalog| {
        catalog["tree"]["subdirs"]["bin"]["files"]["tool"]["rewrite"] = json!(offsets)
    });
    let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let output = within(&mut limited(&test_home, MEMORY, &["materialize", CATALOG, "x"]), PATIENCE);
    assert!(output.status.success(), "{}", said(&output));
    let space = PathBuf::from(crate::common::stdout(&output).split(": ").next().unwrap());
    let len = |path: &Path| fs::metadata(path.join("bin/tool")).unwrap().len();
    assert_eq!(len(&space), len(&expected));
}

/// A catalog of `count` empty files, a thousand in each directory.
fn huge(test_home: &TestHome, count: usize) -> PathBuf {
    let file = |number| format!(r#""f{number}":{{"name":"f{number}","size":0,"mode":420,"digest":"{SHA}"}}"#);
    let dir = |number: usize| {
        let files: Vec<String> = (0..1000).map(|at| file(number * 1000 + at)).collect();
        format!(r#""d{number}":{{"name":"d{number}","mode":2147484141,"files":{{{}}}}}"#, files.join(","))
    };
    let dirs: Vec<String> = (0..count / 1000).map(dir).collect();
    let text = with_tree(&format!("{{{}}}", dirs.join(",")), "{}");
    let base = test_home.holotree().join(bad_catalogs::IDENTITY);
    let text = text.replace(&format!("/b/{}", bad_catalogs::IDENTITY), base.to_str().unwrap());
    put(test_home, &golden::deflate(&text))
}

#[test]
fn mount_of_a_huge_catalog_takes_bounded_memory() {
    let test_home = TestHome::golden(Regime::Gzip);
    let count = amount(50_000, 1_000_000);
    let path = huge(&test_home, count);
    let mounted = test_home.mount(path.to_str().unwrap(), "huge", "user", &[]);
    assert_eq!(mounted.report()["entries"].as_u64(), Some((count + count / 1000 + 1) as u64));
    assert_eq!(fs::read_dir(mounted.path().join("d7")).unwrap().count(), 1000);
    assert_eq!(fs::metadata(mounted.path().join("d49/f49999")).unwrap().len(), 0);
    let peak = mounted.daemons().iter().map(|pid| status_kib(*pid, "VmHWM")).max().unwrap();
    let limit = if is_soak() { 2_000_000 } else { 250_000 };
    assert!(peak < limit, "{count} files take {peak} KiB");
    eprintln!("{count} files: {peak} KiB at most");
}

/// A catalog of `dirs` directories with a thousand files each, and of `more` files in one more directory. It is written in pieces, because
/// the whole text is almost as long as allowed.
fn largest(test_home: &TestHome, dirs: usize, more: usize) -> PathBuf {
    let base = test_home.holotree().join(bad_catalogs::IDENTITY);
    let text =
        with_tree("{}", "{}").replace(&format!("/b/{}", bad_catalogs::IDENTITY), base.to_str().unwrap());
    let (before, after) = text.split_once(r#""subdirs":{}"#).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    write!(gzip, r#"{before}"subdirs":{{"#).unwrap();
    for dir in 0..=dirs {
        let comma = if dir == 0 { "" } else { "," };
        write!(gzip, r#"{comma}"d{dir}":{{"name":"d{dir}","mode":2147484141,"files":{{"#).unwrap();
        for file in 0..if dir == dirs { more } else { 1000 } {
            let comma = if file == 0 { "" } else { "," };
            write!(gzip, r#"{comma}"{file}":{{"name":"{file}","size":0,"mode":420,"digest":"{SHA}"}}"#)
                .unwrap();
        }
        write!(gzip, "}}}}").unwrap();
    }
    write!(gzip, "}}{after}").unwrap();
    put(test_home, &gzip.finish().unwrap())
}

#[test]
fn mount_of_the_largest_catalog_works_and_of_a_larger_one_is_refused() {
    if !is_soak() {
        return; // it takes a minute and gigabytes of memory
    }
    let test_home = TestHome::golden(Regime::Gzip);
    // The root, 4,191 directories and 4,190,112 files.
    let path = largest(&test_home, 4_190, 112);
    let started = std::time::Instant::now();
    let mounted = test_home.mount(path.to_str().unwrap(), "largest", "user", &[]);
    let took = started.elapsed();
    assert_eq!(mounted.report()["entries"].as_u64(), Some(4 << 20));
    assert_eq!(fs::read_dir(mounted.path().join("d4189")).unwrap().count(), 1000);
    assert_eq!(fs::metadata(mounted.path().join("d4190/111")).unwrap().len(), 0);
    let kib = |field: &str| mounted.daemons().iter().map(|pid| status_kib(*pid, field)).max().unwrap();
    let (peak, now) = (kib("VmHWM"), kib("VmRSS"));
    eprintln!("4,194,304 entries: mounted in {took:?}; {peak} KiB at most, {now} KiB then");
    assert!(peak < 4 << 20, "{peak} KiB");
    mounted.unmount();
    let path = largest(&test_home, 4_190, 113);
    let started = std::time::Instant::now();
    let output = test_home.holofs(&["mount", path.to_str().unwrap(), "larger"]);
    assert_eq!(output.status.code(), Some(exit::BAD_CATALOG), "{}", said(&output));
    assert!(stderr(&output).contains("It has more than 4194304 entries"), "{}", said(&output));
    eprintln!("4,194,305 entries: refused in {:?}", started.elapsed());
}
