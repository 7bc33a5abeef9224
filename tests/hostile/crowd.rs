//! Many processes that mount, unmount, materialize and write in the same spaces at once, without harm to each other.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::compare::assert_same_space;
use crate::common::golden::{self, CATALOG, Regime};
use crate::common::mounted::{below, daemons_of};
use crate::common::random::Random;
use crate::common::soak::amount;
use crate::common::test_home::TestHome;
use crate::common::{exit, said, stderr, store_hash, until_or};

/// One of the processes: performs operations until it is time to stop.
fn member(test_home: &TestHome, seed: u64, until: Instant) -> usize {
    let mut random = Random::new(seed);
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
        let output = test_home.holofs(&args);
        let code = output.status.code();
        let allowed = [exit::OK, exit::BUSY, exit::NOT_FOUND];
        assert!(code.is_some_and(|code| allowed.contains(&code)), "{args:?}: {}", said(&output));
        assert!(!stderr(&output).contains("panicked"), "{args:?}: {}", said(&output));
        done += 1;
    }
    done
}

#[test]
fn twenty_processes_in_the_same_spaces_do_not_disturb_each_other() {
    let test_home = TestHome::golden(Regime::Gzip);
    let expected = golden::unpack_restored(Regime::Gzip, &test_home.scratch());
    let library = store_hash::of(&test_home.hololib().join("library"));
    let until = Instant::now() + Duration::from_secs(amount(5, 60));
    let done: usize = std::thread::scope(|scope| {
        let crowd: Vec<_> = (0..20)
            .map(|seed| {
                scope.spawn({
                    let test_home = &test_home;
                    move || member(test_home, seed, until)
                })
            })
            .collect();
        crowd.into_iter().map(|member| member.join().unwrap()).sum()
    });
    eprintln!("{done} commands");
    leave(&test_home);
    store_hash::assert_unchanged(&test_home.hololib().join("library"), &library);
    for entry in fs::read_dir(test_home.holotree()).unwrap() {
        let space = entry.unwrap().path();
        if space.is_dir() && fs::read_dir(&space).unwrap().next().is_some() {
            assert_same_space(&space, &expected);
        }
    }
    let mounted = test_home.mount(CATALOG, "space0", "user", &[]);
    assert_same_space(mounted.path(), &expected);
    assert!(test_home.materialize(CATALOG, "space19", "user").starts_with(test_home.holotree()));
}

/// Unmounts the remaining spaces; every daemon must end.
fn leave(test_home: &TestHome) {
    for space in (0..20).map(|number| format!("space{number}")) {
        test_home.holofs(&["unmount", &space, "--lazy"]);
    }
    let left = || (daemons_of(test_home), below(&test_home.holotree()));
    until_or(|| left() == (vec![], vec![]), || format!("left: {:?}", left()));
}
