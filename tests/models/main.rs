//! Lock protocols under a scheduler that decides which thread runs next: no interleaving breaks the promise or hangs.
//!
//! The tested files are those of the program, compiled with the model's locks. A failure prints its seed.
#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

mod company;
#[path = "../common/soak.rs"]
mod soak;
mod space;
mod store;
mod sys;
mod upper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use holofs::rcc::digest::{Digest, Regime};
use holofs::store::index::Ino;
use holofs::store::{RawKey, RawMode};
use shuttle::thread;
use space::SpaceError;
use space::live::{Live, held_by, may_be_held};
use space::sync::remove;
use store::inflight::InFlight;
use sys::fs::place::Place;
use sys::process::Process;
use upper::locks::Locks;

fn key(number: u8) -> RawKey {
    RawKey { digest: Digest::of(Regime::SipHash128, &[number]), mode: RawMode::new(0o644) }
}

/// Threads that request these blobs, each once per entry. As in `Store::open`: enter, and if another thread was faster, check
/// whether the blob is ready now.
fn want(wishes: &'static [&'static [u8]]) {
    let flight = Arc::new(InFlight::default());
    let inside: Arc<[AtomicU32; 2]> = Arc::default();
    let ready: Arc<[AtomicU32; 2]> = Arc::default();
    let threads: Vec<_> = wishes
        .iter()
        .map(|wishes| {
            let (flight, inside, ready) = (Arc::clone(&flight), Arc::clone(&inside), Arc::clone(&ready));
            thread::spawn(move || wishes.iter().for_each(|&blob| open(&flight, &inside, &ready, blob)))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let decoded = |blob: u8| ready[usize::from(blob)].load(Ordering::SeqCst);
    let wanted = |blob: u8| u32::from(wishes.iter().any(|wishes| wishes.contains(&blob)));
    assert_eq!([decoded(0), decoded(1)], [wanted(0), wanted(1)], "a blob is decoded once, and always");
}

fn open(flight: &InFlight, inside: &[AtomicU32; 2], ready: &[AtomicU32; 2], blob: u8) {
    let at = usize::from(blob);
    while ready[at].load(Ordering::SeqCst) == 0 {
        let Some(ticket) = flight.enter(key(blob)) else { continue };
        if ready[at].load(Ordering::SeqCst) == 0 {
            assert_eq!(inside[at].fetch_add(1, Ordering::SeqCst), 0, "two decode one blob");
            thread::yield_now();
            inside[at].fetch_sub(1, Ordering::SeqCst);
            ready[at].fetch_add(1, Ordering::SeqCst);
        }
        drop(ticket);
    }
}

#[test]
fn open_by_two_threads_decodes_a_blob_once_in_every_order() {
    shuttle::check_dfs(|| want(&[&[0], &[0]]), None);
}

#[test]
fn threads_that_want_several_blobs_neither_hang_nor_decode_twice() {
    let times = soak::amount(2_000, 200_000);
    shuttle::check_random(|| want(&[&[0, 1], &[1, 0], &[0], &[1, 0, 1]]), times);
    shuttle::check_pct(|| want(&[&[0, 1], &[1, 0], &[0, 0], &[1]]), times, 3);
}

/// Threads that change these sets of inodes, one set after the other, like operations on the upper.
fn change(operations: &'static [&'static [&'static [u64]]]) {
    let locks = Arc::new(Locks::default());
    let changing: Arc<[AtomicU32; 4]> = Arc::default();
    let threads: Vec<_> = operations
        .iter()
        .map(|sets| {
            let (locks, changing) = (Arc::clone(&locks), Arc::clone(&changing));
            thread::spawn(move || sets.iter().for_each(|set| change_one(&locks, &changing, set)))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // Nothing stays locked: the last thread gets everything.
    let all = [Ino(0), Ino(1), Ino(2), Ino(3)];
    assert!(all.iter().all(|&ino| locks.lock(&all).holds(ino)));
}

fn change_one(locks: &Locks, changing: &[AtomicU32; 4], set: &[u64]) {
    let inos: Vec<Ino> = set.iter().map(|&ino| Ino(ino)).collect();
    let locked = locks.lock(&inos);
    let mut each: Vec<usize> = set.iter().map(|&ino| usize::try_from(ino).unwrap()).collect();
    each.sort_unstable();
    each.dedup();
    assert!(inos.iter().all(|&ino| locked.holds(ino)));
    for &ino in &each {
        assert_eq!(changing[ino].fetch_add(1, Ordering::SeqCst), 0, "two change inode {ino}");
    }
    thread::yield_now();
    for &ino in &each {
        changing[ino].fetch_sub(1, Ordering::SeqCst);
    }
    drop(locked);
}

#[test]
fn locks_of_the_same_inodes_exclude_each_other_in_every_order() {
    shuttle::check_dfs(|| change(&[&[&[0, 1]], &[&[1, 0, 1]]]), None);
    shuttle::check_dfs(|| change(&[&[&[0], &[1]], &[&[0, 1]]]), None);
}

#[test]
fn operations_on_inodes_in_any_order_neither_hang_nor_overlap() {
    // Renames between directories in both directions, and changes in one of the directories meanwhile.
    let times = soak::amount(2_000, 200_000);
    let renames = || change(&[&[&[0, 1, 2], &[2, 0]], &[&[1, 0, 3], &[3]], &[&[2, 1]], &[&[0], &[1], &[2]]]);
    shuttle::check_random(renames, times);
    shuttle::check_pct(renames, times, 3);
}

/// How a process uses a space.
#[derive(Clone, Copy)]
enum Use {
    /// Takes RCC's lock, then ours; RCC's is released while the mount lives.
    Mount,
    /// Takes ours, then RCC's.
    Materialize,
    /// Takes RCC's, then ours, and removes our lock file with all state of the space.
    Delete,
    /// Only queries the holder.
    Ask,
}

/// Processes that use one space at once, each in its own way. No two of them work in it at the same time; a refused process gets the name of
/// another one; in the end the space is free.
fn use_space(uses: &'static [Use]) {
    let path = &Place::default();
    let rcc = Arc::new(shuttle::sync::Mutex::new(()));
    let [inside, refused]: [Arc<AtomicU32>; 2] = Default::default();
    let threads: Vec<_> = uses
        .iter()
        .map(|&what| {
            let (rcc, inside, refused) = (Arc::clone(&rcc), Arc::clone(&inside), Arc::clone(&refused));
            let path = path.clone();
            thread::spawn(move || use_once(what, &path, &rcc, &inside, &refused))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!((refused.load(Ordering::SeqCst) as usize) < uses.len(), "nobody got it");
    assert!(!may_be_held(path) && held_by(path).is_none(), "it is held, and nobody is there");
    assert!(take(path).is_some());
}

fn take(path: &Place) -> Option<Live> {
    match Live::take(path, path) {
        Ok(live) => Some(live),
        Err(SpaceError::Live { holder, .. }) => {
            assert_ne!(holder, Some(Process::current()), "refused by ourselves");
            None
        }
        Err(SpaceError::Io(error)) => panic!("{error}"),
    }
}

fn use_once(
    what: Use,
    path: &Place,
    rcc: &shuttle::sync::Mutex<()>,
    inside: &AtomicU32,
    refused: &AtomicU32,
) {
    let work = || {
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two use the space");
        thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
    };
    let locked = matches!(what, Use::Mount | Use::Delete).then(|| rcc.lock().unwrap());
    if matches!(what, Use::Ask) {
        assert_ne!(held_by(path), Some(Process::current()), "held by who only asks");
        return;
    }
    let Some(live) = take(path) else {
        refused.fetch_add(1, Ordering::SeqCst);
        return;
    };
    match what {
        Use::Mount => {
            drop(locked);
            work();
        }
        Use::Materialize => {
            let _locked = rcc.lock().unwrap();
            work();
        }
        Use::Delete => {
            work();
            remove();
        }
        Use::Ask => {}
    }
    drop(live);
}

#[test]
fn claim_gives_a_space_to_one_process_at_a_time_in_every_order() {
    use Use::{Ask, Delete, Materialize, Mount};
    let times = soak::amount(2_000, 100_000);
    for uses in [&[Mount, Materialize][..], &[Mount, Delete, Mount], &[Delete, Materialize, Mount, Ask]] {
        shuttle::check_random(move || use_space(uses), times);
        shuttle::check_pct(move || use_space(uses), times, 3);
    }
}
