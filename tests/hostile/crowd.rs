//! Many processes that mount, unmount, materialize and write in the same spaces at once, without harm to each other.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::{below, daemons_of};
use crate::common::sandbox::Sandbox;
use crate::common::soak::amount;
use crate::common::{exit, said, stderr, store_hash};

/// A generator of numbers with the same sequence on every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// One of the processes: performs operations until it is time to stop.
fn member(sandbox: &Sandbox, seed: u64, until: Instant) -> usize {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut done = 0;
    while Instant::now() < until {
        // Usually the same two spaces, so that the processes meet.
        let space = format!("space{}", if random.below(3) > 0 { random.below(2) } else { seed });
        let what = random.below(5);
        let mut args = match what {
            0 | 1 => vec!["mount", CATALOG, &space, "--mode", "mount"],
            2 => vec!["materialize", CATALOG, &space, "--allow-setuid"],
            3 => vec!["run", CATALOG, &space, "--", "cat", "/dev/null"],
            _ => vec!["unmount", &space, "--lazy"],
        };
        args.insert(1, "--wait=1");
        let output = sandbox.holofs(&args);
        let code = output.status.code();
        let allowed = [exit::OK, exit::BUSY, exit::NOT_FOUND];
        assert!(code.is_some_and(|code| allowed.contains(&code)), "{args:?}: {}", said(&output));
        assert!(!stderr(&output).contains("panicked"), "{args:?}: {}", said(&output));
        done += 1;
    }
    done
}

#[test]
fn twenty_processes_in_the_same_spaces_do_each_other_no_harm() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let expected = golden::unpack_restored(Regime::Gzip, &sandbox.scratch());
    let library = store_hash::of(&sandbox.hololib().join("library"));
    let until = Instant::now() + Duration::from_secs(amount(5, 60));
    let done: usize = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..20)
            .map(|seed| {
                scope.spawn({
                    let sandbox = &sandbox;
                    move || member(sandbox, seed, until)
                })
            })
            .collect();
        crowd.into_iter().map(|member| member.join().unwrap()).sum()
    });
    eprintln!("{done} commands");
    leave(&sandbox);
    store_hash::assert_unchanged(&sandbox.hololib().join("library"), &library);
    for entry in fs::read_dir(sandbox.holotree()).unwrap() {
        let space = entry.unwrap().path();
        if space.is_dir() && fs::read_dir(&space).unwrap().next().is_some() {
            assert_same_space(&space, &expected);
        }
    }
    let mounted = sandbox.mount(CATALOG, "space0", "user", &[]);
    assert_same_space(mounted.path(), &expected);
    assert!(sandbox.materialize(CATALOG, "space19", "user").starts_with(sandbox.holotree()));
}

/// Unmounts the remaining spaces; every daemon must end.
fn leave(sandbox: &Sandbox) {
    for space in (0..20).map(|number| format!("space{number}")) {
        sandbox.holofs(&["unmount", &space, "--lazy"]);
    }
    let started = Instant::now();
    while !daemons_of(sandbox).is_empty() || !below(&sandbox.holotree()).is_empty() {
        let left: (Vec<u32>, Vec<_>) = (daemons_of(sandbox), below(Path::new(&sandbox.holotree())));
        assert!(started.elapsed() < Duration::from_secs(20), "left: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
