//! The law of power cuts: for any state of the disk, a space is as it was after some operation, not before the last
//! one that was synced, and each of its files is complete.
//!
//! A cut is the disk below a file system at one moment, while the space is in use: data that the kernel has not written yet is lost.

#![allow(clippy::print_stderr, reason = "prints the seed, so that a failure can be repeated")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::bare::Bare;
use super::ops::Op;
use super::{Seen, World};
use crate::common::caching_disk::CachingDisk;
use crate::common::loop_fs::{Image, LoopFs};
use crate::common::random::Random;
use crate::common::soak::amount;
use crate::common::{is_root, skip};

/// File systems with a disk, and their minimum sizes in megabytes.
const DISKS: [(&str, u64); 3] = [("ext4", 24), ("xfs", 300), ("btrfs", 120)];

/// A space on its own disk.
struct Machine<'a> {
    space: Bare,
    disk: &'a LoopFs,
}

impl Machine<'_> {
    fn run(&mut self, ops: &[Op]) {
        for op in ops {
            self.space.apply(op).unwrap_or_else(|errno| panic!("{op:?}: errno {errno}"));
        }
    }

    /// Forces what the underlying file system writes after some seconds anyway, by syncing another file.
    fn sync_another_file(&self) {
        File::create(self.disk.path().join("another")).unwrap().sync_all().unwrap();
    }
}

/// The space after the machine has restarted.
fn boot<T>(image: Image, look: impl FnOnce(&mut Bare) -> T) -> T {
    let disk = image.boot();
    let mut space = Bare::at(&disk.path());
    look(&mut space)
}

/// The visible state after a power cut that follows `run`.
fn each_cut(run: impl Fn(&mut Machine<'_>), look: impl Fn(BTreeMap<String, Seen>)) {
    if !is_root() {
        return skip("a disk of its own needs root");
    }
    let Some(shelf) = LoopFs::new("xfs", 3000) else { return };
    for (kind, megabytes) in DISKS {
        let Some(disk) = LoopFs::in_dir(kind, megabytes, &shelf.path()) else { continue };
        let mut machine = Machine { space: Bare::at(&disk.path()), disk: &disk };
        run(&mut machine);
        let image = disk.image();
        drop(machine);
        drop(disk);
        look(boot(image, Bare::seen));
    }
}

fn create(path: &str, content: &[u8]) -> [Op; 2] {
    [Op::Create(path.to_owned(), 0o644), Op::Append(path.to_owned(), content.to_vec())]
}

fn sync(path: &str) -> Op {
    Op::Sync(path.to_owned())
}

fn rename(from: &str, to: &str) -> Op {
    Op::Rename(from.to_owned(), to.to_owned())
}

/// A file with this content, completely durable.
fn durable(machine: &mut Machine<'_>, path: &str, content: &[u8]) {
    machine.run(&create(path, content));
    machine.run(&[sync(path), sync("")]);
}

#[test]
fn power_cut_leaves_a_replaced_file_old_or_new() {
    let replace = |machine: &mut Machine<'_>| {
        durable(machine, "a", b"old");
        machine.run(&create("b", b"new"));
        machine.run(&[sync("b"), rename("b", "a")]);
        machine.sync_another_file();
    };
    each_cut(replace, |seen| {
        let found = &seen["a"].content;
        assert!(found == b"old" || found == b"new", "{found:?}");
    });
}

#[test]
fn power_cut_leaves_a_removed_file_whole_or_gone() {
    let remove = |machine: &mut Machine<'_>| {
        durable(machine, "a", b"old");
        machine.run(&[Op::Unlink("a".into())]);
        machine.sync_another_file();
    };
    each_cut(remove, |seen| assert!(seen.get("a").is_none_or(|seen| seen.content == b"old"), "{seen:?}"));
}

#[test]
fn rename_of_unsynced_bytes_does_not_empty_the_file_it_replaces() {
    let replace = |machine: &mut Machine<'_>| {
        durable(machine, "a", b"old");
        machine.run(&create("b", &[b'n'; 9000]));
        machine.run(&[rename("b", "a"), Op::Create("c".into(), 0o600), sync("c")]);
    };
    each_cut(replace, |seen| assert_eq!(seen["a"].content, [b'n'; 9000]));
}

#[test]
fn power_cut_leaves_an_unsynced_copied_up_file_as_the_catalog_says() {
    let copy_up = |machine: &mut Machine<'_>| {
        machine.run(&[
            Op::Append("lib/f".into(), b"more".to_vec()),
            Op::Create("c".into(), 0o600),
            sync("c"),
        ]);
    };
    each_cut(copy_up, |seen| assert_eq!(seen["lib/f"].content[..5000], [7; 5000]));
}

#[test]
fn what_was_synced_is_there_after_a_power_cut() {
    let write = |machine: &mut Machine<'_>| {
        machine.run(&[Op::Mkdir("d".into(), 0o755), Op::Mkdir("d/e".into(), 0o700)]);
        machine.run(&create("d/e/f", b"synced"));
        machine.run(&[rename("lib/f", "d/g"), Op::Append("d/g".into(), b"!".to_vec()), sync("d/g")]);
        machine.run(&[Op::Unlink("bin/tool".into()), sync("d/e/f")]);
    };
    each_cut(write, |seen| {
        assert_eq!(seen["d/e/f"].content, b"synced");
        assert_eq!(seen["d/g"].content.len(), 5001);
        assert!(!seen.contains_key("lib/f") && !seen.contains_key("bin/tool"));
    });
}

/// Names that are replaced, removed and renamed, and the version of the content of each.
type Versions = BTreeMap<String, u64>;

/// The content of a file in this version, which no other version has.
fn content(version: u64) -> Vec<u8> {
    let len = 20 + usize::try_from(version * 977 % 30_000).unwrap();
    format!("version {version} ").into_bytes().into_iter().cycle().take(len).collect()
}

/// The state after each operation that changed names, how many were begun, and the last durable one.
#[derive(Default)]
struct History {
    states: Mutex<Vec<Versions>>,
    durable: AtomicUsize,
    over: AtomicBool,
}

struct Writer<'a, 'b> {
    machine: &'a mut Machine<'b>,
    history: &'a History,
    state: Versions,
    random: Random,
}

impl Writer<'_, '_> {
    /// Performs the operation that leads to `state`. Its effect may be on the disk before it returns.
    fn change(&mut self, op: Op, change: impl FnOnce(&mut Versions)) {
        change(&mut self.state);
        self.history.states.lock().unwrap().push(self.state.clone());
        self.machine.run(&[op]);
    }

    fn sync(&mut self, path: &str) {
        let done = self.history.states.lock().unwrap().len();
        self.machine.run(&[sync(path)]);
        self.history.durable.store(done - 1, Ordering::SeqCst);
    }

    fn step(&mut self, version: u64) {
        let name = format!("file-{}", self.random.below(6));
        match self.random.below(8) {
            0..=3 => {
                self.machine.run(&create("temporary", &content(version)));
                if self.random.below(2) == 0 {
                    self.sync("temporary");
                }
                self.change(rename("temporary", &name), |state| {
                    state.insert(name, version);
                });
            }
            4 => {
                if self.state.contains_key(&name) {
                    self.change(Op::Unlink(name.clone()), |state| {
                        state.remove(&name);
                    });
                }
            }
            5 => {
                let to = format!("file-{}", self.random.below(6));
                if let Some(&moved) = self.state.get(&name).filter(|_| name != to) {
                    self.change(rename(&name, &to), |state| {
                        state.remove(&name);
                        state.insert(to.clone(), moved);
                    });
                }
            }
            6 => self.sync(""),
            _ => self.machine.sync_another_file(),
        }
    }
}

/// Uses a space and takes images meanwhile, each with the earliest and the latest state that it may show.
fn images(disk: &LoopFs, count: usize, seed: u64) -> (Vec<(Image, usize, usize)>, Vec<Versions>) {
    let history = History::default();
    history.states.lock().unwrap().push(Versions::new());
    let images = std::thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            let cut = |at: usize| {
                std::thread::sleep(Duration::from_micros(at as u64 * 7919 % 40_000));
                let first = history.durable.load(Ordering::SeqCst);
                let image = disk.cut(seed.wrapping_mul(31) + at as u64);
                (image, first, history.states.lock().unwrap().len() - 1)
            };
            let images: Vec<_> = (0..count).map(cut).collect();
            history.over.store(true, Ordering::SeqCst);
            images
        });
        let mut machine = Machine { space: Bare::at(&disk.path()), disk };
        // The first states need an existing space.
        durable(&mut machine, "first", b"");
        let mut writer = Writer {
            machine: &mut machine,
            history: &history,
            state: Versions::new(),
            random: Random::new(seed),
        };
        let mut version = 0;
        while !history.over.load(Ordering::SeqCst) {
            version += 1;
            writer.step(version);
        }
        cutter.join().unwrap()
    });
    (images, history.states.into_inner().unwrap())
}

/// The version of each name; a file without a valid version is broken.
fn versions(space: &mut Bare) -> Versions {
    let files = space.seen().into_iter().filter(|(path, _)| path.starts_with("file-"));
    let version = |found: &[u8]| {
        let text = String::from_utf8_lossy(found);
        let version = text.split(' ').nth(1).and_then(|number| number.parse().ok());
        version.filter(|&version| found == content(version))
    };
    files
        .map(|(path, seen)| {
            let describe = || format!("{path} is broken: {} bytes", seen.content.len());
            let found = version(&seen.content).unwrap_or_else(|| panic!("{}", describe()));
            (path, found)
        })
        .collect()
}

/// Cuts the power of disks that `make` makes, at moments during use.
fn cut_at_any_moment(make: impl Fn(&'static str, u64, &Path) -> Option<LoopFs>, images_each: (usize, usize)) {
    if !is_root() {
        return skip("a disk of its own needs root");
    }
    for round in 0..amount(1, 20) {
        for (kind, megabytes) in DISKS {
            let Some(shelf) = LoopFs::new("xfs", 3000) else { return };
            let Some(disk) = make(kind, megabytes, &shelf.path()) else { continue };
            let seed = 0x5eed_0000_0000_0001 + round;
            let (images, states) = images(&disk, amount(images_each.0, images_each.1), seed);
            drop(disk);
            let count = images.len();
            for (at, (image, first, last)) in images.into_iter().enumerate() {
                let found = boot(image, versions);
                assert!(
                    states[first..=last].contains(&found),
                    "{kind}, seed {seed:#x}, image {at}: {found:?} is none of states {first} to {last}"
                );
            }
            eprintln!("{kind}, seed {seed:#x}: {count} images of {} states", states.len());
        }
    }
}

#[test]
fn power_cut_at_any_moment_leaves_a_space_as_after_some_operation() {
    cut_at_any_moment(LoopFs::in_dir, (12, 18));
}

#[test]
fn power_cut_that_loses_what_the_disk_did_not_flush_leaves_a_space_as_after_some_operation() {
    cut_at_any_moment(LoopFs::caching, (4, 18));
}

#[test]
fn power_cut_of_a_caching_disk_leaves_what_was_flushed_and_only_some_of_the_rest() {
    const SECTOR: usize = 4096;
    if !is_root() {
        return skip("a disk of its own needs root");
    }
    let Some(shelf) = LoopFs::new("xfs", 400) else { return };
    let (image, cut) = (shelf.path().join("image"), shelf.path().join("cut"));
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let disk = CachingDisk::new(&image, &shelf.path());
    let file = File::options().write(true).open(disk.path()).unwrap();
    file.write_all_at(&[1; 2 * SECTOR], 0).unwrap();
    file.sync_all().unwrap();
    (0..64).for_each(|block| file.write_all_at(&[2; SECTOR], block * SECTOR as u64).unwrap());
    let mut counts = BTreeSet::new();
    for luck in 0..8 {
        disk.cut(&cut, luck);
        let found = fs::read(&cut).unwrap();
        assert!(found[..2 * SECTOR].iter().all(|&byte| byte == 1 || byte == 2), "{luck}");
        assert!(found[2 * SECTOR..].iter().all(|&byte| byte == 0 || byte == 2), "{luck}");
        counts.insert(found.iter().filter(|&&byte| byte == 2).count() / SECTOR);
        fs::remove_file(&cut).unwrap();
    }
    assert!(counts.contains(&0) && counts.len() > 4 && !counts.contains(&64), "{counts:?}");
}
