//! Many commands on few spaces at once: each one sees the tree that it requested or none, returns in time, and
//! nothing is left over.
//!
//! A seed fixes the sequence of actions; the machine decides how they interleave. What the commands see is checked from
//! outside: every tree names its catalog.

mod world;

use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::soak::amount;
use crate::common::{exit, said, stdout};

use world::{NAMES, World};

/// How long a command may wait for others.
const WAIT: &str = "20";
/// How long it may take in total, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
/// The number of parallel members.
const MEMBERS: u64 = 5;

/// A generator of numbers with the same sequence on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// The events of a test.
#[derive(Default)]
struct Crowd {
    /// How often trees were removed while they were used: by kills, or by an explicit command.
    taken: AtomicU64,
    /// How often a program that knows no leases could change what is below a mount that is removed: RCC, and the repair of a dead mount.
    changed: AtomicU64,
    steps: AtomicU64,
    refused: AtomicU64,
    broken: Mutex<Vec<String>>,
}

impl Crowd {
    fn broke(&self, what: String) {
        self.broken.lock().unwrap().push(what);
    }

    /// One member: performs one action after the other.
    fn member(&self, world: &World, seed: u64, until: Instant) {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        while Instant::now() < until && self.broken.lock().unwrap().is_empty() {
            let started = Instant::now();
            let did = self.act(world, &mut random);
            if started.elapsed() > BOUND {
                self.broke(format!("L3: {did} took {:?}", started.elapsed()));
            }
            self.steps.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn act(&self, world: &World, random: &mut Random) -> String {
        let at = usize::try_from(random.below(3)).unwrap();
        let space = NAMES[at];
        // Usually the catalog that all members use.
        let which = if random.below(6) == 0 { 1 - at % 2 } else { at % 2 };
        let catalog = world.catalogs[which].clone();
        let pause = random.below(300);
        match random.below(24) {
            0..=6 => self.run(world, space, which, &["--mode", "auto"], pause, ""),
            7 => self.run(
                world,
                space,
                which,
                &["--mode", "auto"],
                pause,
                "echo x >\"$CONDA_PREFIX/written\"; ",
            ),
            // The files below a mount become visible when it is removed, so files are always of the usual catalog.
            8 => self.run(world, space, at % 2, &["--mode", "materialize"], pause, ""),
            9 => self.run(world, space, which, &["--fresh"], pause, ""),
            10 => self.background(world, space, which),
            11..=12 => self.says(world, &["mount", &catalog, space], &[exit::BUSY]),
            13..=14 => self.says(world, &["unmount", space], &[exit::BUSY, exit::NOT_FOUND]),
            15 => {
                self.taken.fetch_add(1, Ordering::SeqCst);
                self.says(world, &["unmount", space, "--lazy"], &[exit::BUSY, exit::NOT_FOUND])
            }
            16 => self.says(world, &["reset", space], &[exit::BUSY, exit::NOT_FOUND]),
            17 => self.says(world, &["variables", &catalog, "--space", space], &[exit::BUSY]),
            18 => self.says(world, &["materialize", &world.catalogs[at % 2], space], &[exit::BUSY]),
            19 => self.says(world, &["list"], &[]),
            20 => self.kill_run(world, space, &catalog, random.below(150)),
            21 => {
                self.disturb();
                world.kill_servers(space);
                self.disturb();
                format!("kill the server of {space}")
            }
            22 => {
                self.changed.fetch_add(1, Ordering::SeqCst);
                world.restore(at % 2, space);
                self.changed.fetch_add(1, Ordering::SeqCst);
                format!("rcc variables {space}")
            }
            _ => self.elsewhere(world, space, which, pause),
        }
    }

    /// A command that must see the requested tree from its start to its end.
    fn run(&self, world: &World, space: &str, which: usize, how: &[&str], pause: u64, first: &str) -> String {
        let stamp = "cat \"$CONDA_PREFIX/stamp\"";
        let script = format!("{first}{stamp}; sleep 0.{pause:03}; {stamp}; cat \"$CONDA_PREFIX/m29\"");
        let catalog = &world.catalogs[which];
        let words = [&["run"], how, &[catalog, space, "--", "sh", "-c", &script]].concat();
        let before = self.disturbances();
        let output = world.holofs(WAIT, &words);
        self.saw(&words, &output, which, before);
        format!("{words:?}")
    }

    fn disturb(&self) {
        self.taken.fetch_add(1, Ordering::SeqCst);
        self.changed.fetch_add(1, Ordering::SeqCst);
    }

    fn disturbances(&self) -> [u64; 2] {
        [&self.taken, &self.changed].map(|count| count.load(Ordering::SeqCst))
    }

    fn saw(&self, words: &[&str], output: &Output, which: usize, before: [u64; 2]) {
        let line = (which + 1).to_string();
        let own = format!("{line}\n").repeat(3);
        let [is_calm, is_kept] = std::array::from_fn(|at| self.disturbances()[at] == before[at]);
        let seen = stdout(output);
        match output.status.code() {
            Some(exit::BUSY) => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            // Changes to a mount are not visible in files.
            Some(exit::NOT_BEGUN)
                if words.contains(&"materialize") && said(output).contains("in a mount only") => {}
            Some(exit::OK) if seen == own => {}
            // A tree that was removed by force is gone. The files below it are not of another catalog, unless they were changed.
            _ if !is_calm && seen.lines().all(|seen| seen == line) => {}
            _ if !is_calm && !is_kept && seen.lines().all(|line| ["1", "2"].contains(&line)) => {}
            _ => self.broke(format!(
                "L1, L2: {words:?} of {own:?}, calm: {is_calm}, kept: {is_kept}: {}",
                said(output)
            )),
        }
    }

    /// A process that outlives its run keeps the tree.
    fn background(&self, world: &World, space: &str, which: usize) -> String {
        let file = world.scratch_file();
        let path = file.display();
        let script = format!(
            "cd \"$CONDA_PREFIX\" || exit 1; (sleep 0.3; cat stamp stamp m29 >{path}.new 2>&1; mv {path}.new {path}) >/dev/null 2>&1 </dev/null &"
        );
        let words = ["run", &world.catalogs[which], space, "--", "sh", "-c", &script];
        let before = self.taken.load(Ordering::SeqCst);
        let output = world.holofs(WAIT, &words);
        if output.status.success() {
            let started = Instant::now();
            while !file.exists() && started.elapsed() < BOUND {
                std::thread::sleep(Duration::from_millis(10));
            }
            let seen = std::fs::read_to_string(&file).unwrap_or_default();
            let own = format!("{}\n", which + 1).repeat(3);
            if seen != own && self.taken.load(Ordering::SeqCst) == before {
                self.broke(format!("L2: behind {words:?}: {seen:?}, after {}", said(&output)));
            }
        } else if output.status.code() != Some(exit::BUSY) {
            self.broke(format!("{words:?}: {}", said(&output)));
        }
        format!("{words:?}")
    }

    /// A command whose output does not depend on a tree.
    fn says(&self, world: &World, words: &[&str], codes: &[i32]) -> String {
        let before = self.taken.load(Ordering::SeqCst);
        let output = world.holofs(WAIT, words);
        let code = output.status.code();
        let killed =
            self.taken.load(Ordering::SeqCst) != before && said(&output).contains("before it answered");
        let allowed = code == Some(exit::OK) || code.is_some_and(|code| codes.contains(&code));
        // Changes to a mount are not visible in files.
        let hidden = code == Some(exit::CANNOT_MOUNT) && said(&output).contains("in a mount only");
        if said(&output).contains("panicked") || !(allowed || hidden || killed) {
            self.broke(format!("{words:?}: {}", said(&output)));
        }
        if code == Some(exit::BUSY) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        format!("{words:?}")
    }

    /// A run that is killed at some moment.
    fn kill_run(&self, world: &World, space: &str, catalog: &str, after: u64) -> String {
        let mut command = world.command(WAIT, &["run", catalog, space, "--", "sleep", "0.5"]);
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after));
        child.kill().unwrap();
        child.wait().unwrap();
        format!("kill a run of {space}")
    }

    /// A command in another mount namespace.
    fn elsewhere(&self, world: &World, space: &str, which: usize, pause: u64) -> String {
        let stamp = "cat \"$CONDA_PREFIX/stamp\"";
        let script = format!("{stamp}; sleep 0.{pause:03}; {stamp}; {stamp}");
        let words = ["run", &world.catalogs[which], space, "--", "sh", "-c", &script];
        let before = self.disturbances();
        if let Some(output) = world.holofs_elsewhere(WAIT, &words) {
            self.saw(&words, &output, which, before);
        }
        format!("elsewhere {words:?}")
    }
}

/// Runs a crowd for some seconds.
fn crowd(world: &World, seed: u64, seconds: u64) {
    let crowd = Crowd::default();
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for member in 0..MEMBERS {
            let crowd = &crowd;
            scope.spawn(move || crowd.member(world, seed * 100 + member + 1, until));
        }
    });
    let (steps, refused) = (crowd.steps.into_inner(), crowd.refused.into_inner());
    #[allow(clippy::print_stderr, reason = "it is what the crowd did")]
    let () = eprintln!("{MEMBERS} members, {steps} steps, {refused} refused, seed {seed}, {seconds} s");
    let broken = crowd.broken.into_inner().unwrap();
    assert!(broken.is_empty(), "seed {seed}, after {steps} steps:\n{}", broken.join("\n"));
    let left = world.left();
    assert!(left.is_empty(), "L7, seed {seed}, after {steps} steps: {left:#?}");
    assert!(steps > 5, "only {steps} steps");
}

#[test]
fn crowd_of_root_sees_only_right_trees_and_leaves_nothing() {
    let Some(world) = World::new(None) else { return };
    for seed in 1..=amount(2, 60) {
        crowd(&world, seed, amount(8, 30));
    }
}

#[test]
fn crowd_of_a_user_sees_only_right_trees_and_leaves_nothing() {
    let Some(world) = World::new(Some(65_534)) else { return };
    for seed in 1..=amount(1, 60) {
        crowd(&world, 1000 + seed, amount(8, 30));
    }
}

#[test]
fn no_unmount_shows_a_command_the_files_of_another_catalog() {
    let Some(world) = World::new(None) else { return };
    let [below, above] = &world.catalogs;
    assert!(world.holofs(WAIT, &["materialize", below, "one"]).status.success());
    let mut command = world.command(
        WAIT,
        &["run", above, "one", "--", "sh", "-c", "cd /; echo up; read go; cat \"$CONDA_PREFIX/stamp\""],
    );
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    for how in ["--lazy", "--force"] {
        let refused = world.holofs(WAIT, &["unmount", "one", how]);
        assert_eq!(refused.status.code(), Some(exit::BUSY), "{}", said(&refused));
        assert!(said(&refused).contains("of another catalog; end it"), "{}", said(&refused));
    }
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "2\n", "{}", said(&output));
    let left = world.left();
    assert!(left.is_empty(), "{left:#?}");
}
