//! Created files. One created write-only bypasses the page cache: every other descriptor sees each byte as soon as it is written.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::Mounted;
use crate::common::test_home::TestHome;
use crate::common::{json, run};

const SPACE: &str = "made";
const PAGE: u64 = 4096;
/// The size of the file that two threads write and read: that of one readahead.
const LEN: u64 = 32 * PAGE;

fn mount(test_home: &TestHome) -> Mounted<'_> {
    test_home.mount(CATALOG, SPACE, "user", &["--io", "no-open"])
}

/// Writes through the descriptor that created the file, a second one that also reads, and a mapping, and reads through all that can.
const EVERY_WAY: &str = r#"
import mmap, os, sys
maker = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
want = bytearray(b"made." * 2000)
assert os.write(maker, want) == len(want)
other = os.open(sys.argv[1], os.O_RDWR)
mapped = mmap.mmap(other, 0)

def change(how, at, text):
    want[at:at + len(text)] = text
    how(at, text)
    assert os.pread(other, 20000, 0) == want, (at, text)
    assert mapped[:] == want, (at, text)

def through_mapping(at, text):
    mapped[at:at + len(text)] = text

ways = [lambda at, text: os.pwrite(maker, text, at), lambda at, text: os.pwrite(other, text, at), through_mapping]
for turn, at in enumerate([4090, 0, 4096, 8190, 9990, 4090, 4093, 1, 8191]):
    for number, way in enumerate(ways):
        change(way, at + number, b"%05d" % (turn * 10 + number))
os.ftruncate(maker, 5000)
assert os.pread(other, 20000, 0) == want[:5000]
os.write(maker, b"end")
assert os.pread(other, 20000, 0) == want[:5000] + bytes(5000) + b"end"
log = os.open(sys.argv[1] + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
with open(sys.argv[1] + ".log", "ab", buffering=0) as second_log:
    for line in range(50):
        os.write(log, b"%d one\n" % line)
        second_log.write(b"%d two\n" % line)
with open(sys.argv[1] + ".log") as text:
    assert text.read() == "".join(f"{line} one\n{line} two\n" for line in range(50))
"#;

#[test]
fn writes_to_a_file_being_created_are_visible_to_every_reader() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let path = mounted.path().join("new");
    run(Command::new("python3").args(["-c", EVERY_WAY]).arg(&path));
    let seen = fs::read(&path).unwrap();
    let requests = json(&test_home.holofs_ok(&["stats", SPACE, "--json"]))["requests"].clone();
    let asked = |what: &str| requests[what].as_u64().unwrap_or(0);
    // Both files are created by CREATE; or the kernel learns from the first reply that it is not supported, and uses MKNOD for both.
    assert!(matches!((asked("create"), asked("mknod")), (2, 0) | (1, 2)), "{requests}");
    mounted.unmount();
    assert_eq!(fs::read(mount(&test_home).path().join("new")).unwrap(), seen);
}

#[test]
fn create_leaves_no_old_byte_to_a_reader() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let path = mounted.path().join("counted");
    let maker = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
    maker.set_len(LEN).unwrap();
    let (written, end) = (AtomicU64::new(0), Instant::now() + Duration::from_secs(2));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let reader = File::open(&path).unwrap();
                let mut content = vec![0; usize::try_from(LEN).unwrap()];
                while Instant::now() < end {
                    let least = written.load(Ordering::SeqCst);
                    reader.read_exact_at(&mut content, 0).unwrap();
                    for page in 0..LEN / PAGE {
                        let at = usize::try_from(page * PAGE).unwrap();
                        let found = u64::from_le_bytes(content[at..at + 8].try_into().unwrap());
                        // Each write is to the next page, so this is the last one to this page.
                        let newest = least.checked_sub(page).map_or(0, |over| least - over % (LEN / PAGE));
                        assert!(found >= newest, "page {page} has {found} after {least} writes");
                    }
                }
            });
        }
        while Instant::now() < end {
            let next = written.load(Ordering::SeqCst) + 1;
            maker.write_all_at(&next.to_le_bytes(), (next % (LEN / PAGE)) * PAGE).unwrap();
            written.store(next, Ordering::SeqCst);
        }
    });
    assert!(written.into_inner() > LEN / PAGE, "too little was written to see anything");
}

#[test]
fn files_created_one_after_another_are_as_new_and_leave_nothing_else_behind() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = mount(&test_home);
    let label = mounted.report()["label"].as_str().unwrap().to_owned();
    let bytes = || fs::read_dir(test_home.home().join("holofs/spaces").join(&label).join("upper")).unwrap();
    let root = mounted.path().to_owned();
    let path = |number: usize| root.join(format!("{number}.py"));
    for number in 0..200 {
        if number % 50 == 0 {
            std::thread::sleep(Duration::from_millis(50)); // a file that was prepared before has older times
        }
        let before = fs::metadata(&root).unwrap().modified().unwrap();
        let made = File::create_new(path(number)).unwrap();
        let times = made.metadata().unwrap();
        assert_eq!((times.len(), times.modified().unwrap()), (0, times.accessed().unwrap()));
        assert!(times.modified().unwrap() >= before, "{number} is older than the file made before it");
        (&made).write_all(number.to_string().as_bytes()).unwrap();
    }
    assert!((200..=201).contains(&bytes().count()), "at most one file is prepared");
    for number in 0..200 {
        assert_eq!(fs::read_to_string(path(number)).unwrap(), number.to_string());
    }
    mounted.unmount();
    assert_eq!(bytes().count(), 200);
}
