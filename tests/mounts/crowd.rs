//! Many commands on few spaces at once: each one sees the tree that it requested or none, returns in time, and
//! nothing is left over.
//!
//! A seed fixes the sequence of actions; the machine decides how they interleave. What the commands see is checked from
//! outside: every tree names its catalog.

mod world;

use std::io::{Read, Write};
use std::process::{Child, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::random::Random;
use crate::common::soak::amount;
use crate::common::{exit, json, said, skip, stdout, text_field, until};

use world::{NAMES, World};

/// How long a command may wait for others.
const WAIT: &str = "20";
/// How long it may take in total, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);
/// The number of parallel members.
const MEMBERS: u64 = 5;

/// What was done to a space that its commands can see.
#[derive(Default)]
struct Disturbed {
    /// Its tree was removed while it was used: by kills, or by an explicit command.
    taken: Events,
    /// A program that knows no leases could change its files, or those below a mount that is removed: RCC, and the repair of a dead
    /// mount.
    changed: Events,
}

/// How many events of a kind have begun and ended.
#[derive(Default)]
struct Events {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Events {
    fn during<T>(&self, action: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let done = action();
        self.ended.fetch_add(1, Ordering::SeqCst);
        done
    }
}

impl Disturbed {
    fn ended(&self) -> [u64; 2] {
        [&self.taken, &self.changed].map(|events| events.ended.load(Ordering::SeqCst))
    }

    /// For each kind, true if no event was under way since `ended` was the result of [`Disturbed::ended`].
    fn none_since(&self, ended: [u64; 2]) -> [bool; 2] {
        let begun = [&self.taken, &self.changed].map(|events| events.begun.load(Ordering::SeqCst));
        [begun[0] == ended[0], begun[1] == ended[1]]
    }
}

/// The events of a test.
#[derive(Default)]
struct Crowd {
    /// What was done to each space.
    spaces: [Disturbed; NAMES.len()],
    steps: AtomicU64,
    refused: AtomicU64,
    broken: Mutex<Vec<String>>,
    /// The actions with their times in milliseconds, printed if one of them broke a law.
    journal: Mutex<Vec<String>>,
}

impl Crowd {
    fn broke(&self, what: String) {
        self.broken.lock().unwrap().push(what);
    }

    /// One member: performs one action after the other.
    fn member(&self, world: &World, seed: u64, until: Instant) {
        let mut random = Random::new(seed);
        while Instant::now() < until && self.broken.lock().unwrap().is_empty() {
            let started = Instant::now();
            let did = self.act(world, &mut random);
            let [from, to] =
                [started, Instant::now()].map(|at| until.saturating_duration_since(at).as_millis());
            self.journal.lock().unwrap().push(format!("{from}..{to} ms before the end, seed {seed}: {did}"));
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
            0..=6 => self.run(world, at, which, &["--mode", "auto"], pause, ""),
            7 => {
                self.run(world, at, which, &["--mode", "auto"], pause, "echo x >\"$CONDA_PREFIX/written\"; ")
            }
            // The files below a mount become visible when it is removed, so files are always of the usual catalog.
            8 => self.run(world, at, at % 2, &["--mode", "materialize"], pause, ""),
            9 => self.run(world, at, which, &["--fresh"], pause, ""),
            10 => self.background(world, at, which),
            11..=12 => self.says(world, at, &["mount", &catalog, space], &[exit::BUSY]),
            13..=14 => self.says(world, at, &["unmount", space], &[exit::BUSY, exit::NOT_FOUND]),
            15 => {
                let codes = [exit::BUSY, exit::NOT_FOUND];
                self.spaces[at].taken.during(|| self.says(world, at, &["unmount", space, "--lazy"], &codes))
            }
            16 => self.says(world, at, &["reset", space], &[exit::BUSY, exit::NOT_FOUND]),
            17 => self.says(world, at, &["variables", &catalog, "--space", space], &[exit::BUSY]),
            18 => self.says(world, at, &["materialize", &world.catalogs[at % 2], space], &[exit::BUSY]),
            19 => self.says(world, at, &["list"], &[]),
            20 => self.kill_run(world, space, &catalog, random.below(150)),
            21 => {
                let disturbed = &self.spaces[at];
                disturbed.taken.during(|| disturbed.changed.during(|| world.kill_servers(space)));
                format!("kill the server of {space}")
            }
            22 => {
                self.spaces[at].changed.during(|| world.restore(at % 2, space));
                format!("rcc variables {space}")
            }
            _ => self.elsewhere(world, at, which, pause),
        }
    }

    /// A command that must see the requested tree from its start to its end.
    fn run(&self, world: &World, at: usize, which: usize, how: &[&str], pause: u64, first: &str) -> String {
        let stamp = "cat \"$CONDA_PREFIX/stamp\"";
        let script = format!("{first}{stamp}; sleep 0.{pause:03}; {stamp}; cat \"$CONDA_PREFIX/m29\"");
        let catalog = &world.catalogs[which];
        let words = [&["run"], how, &[catalog, NAMES[at], "--", "sh", "-c", &script]].concat();
        let before = self.spaces[at].ended();
        let output = world.holofs(WAIT, &words);
        self.saw(at, &words, &output, which, before);
        described(&words, &output)
    }

    fn saw(&self, at: usize, words: &[&str], output: &Output, which: usize, before: [u64; 2]) {
        let line = (which + 1).to_string();
        let own = format!("{line}\n").repeat(3);
        let [is_calm, is_kept] = self.spaces[at].none_since(before);
        let seen = stdout(output);
        match output.status.code() {
            Some(exit::BUSY) => drop(self.refused.fetch_add(1, Ordering::Relaxed)),
            // Changes to a mount are not visible in files.
            Some(exit::NOT_BEGUN)
                if words.contains(&"materialize") && said(output).contains("in a mount only") => {}
            Some(exit::OK) if seen == own => {}
            // A tree that was removed by force no longer exists. The files below it are not of another catalog.
            _ if !is_calm && seen.lines().all(|seen| seen == line) => {}
            // RCC converts a space file by file, mounted or not.
            _ if !is_kept && seen.lines().all(|line| ["1", "2"].contains(&line)) => {}
            _ => self.broke(format!(
                "L1, L2: {words:?} of {own:?}, calm: {is_calm}, kept: {is_kept}: {}",
                said(output)
            )),
        }
    }

    /// A process that outlives its run keeps the tree.
    fn background(&self, world: &World, at: usize, which: usize) -> String {
        let file = world.scratch_file();
        let path = file.display();
        let script = format!(
            "cd \"$CONDA_PREFIX\" || exit 1; (sleep 0.3; cat stamp stamp m29 >{path}.new 2>&1; mv {path}.new {path}) >/dev/null 2>&1 </dev/null &"
        );
        let words = ["run", &world.catalogs[which], NAMES[at], "--", "sh", "-c", &script];
        let before = self.spaces[at].ended();
        let output = world.holofs(WAIT, &words);
        if output.status.success() {
            let started = Instant::now();
            while !file.exists() && started.elapsed() < BOUND {
                std::thread::sleep(Duration::from_millis(10));
            }
            let seen = std::fs::read_to_string(&file).unwrap_or_default();
            let own = format!("{}\n", which + 1).repeat(3);
            if seen != own && self.spaces[at].none_since(before) == [true, true] {
                self.broke(format!("L2: behind {words:?}: {seen:?}, after {}", said(&output)));
            }
        } else if output.status.code() != Some(exit::BUSY) && self.spaces[at].none_since(before)[0] {
            self.broke(format!("{words:?}: {}", said(&output)));
        }
        described(&words, &output)
    }

    /// A command whose output does not depend on a tree.
    fn says(&self, world: &World, at: usize, words: &[&str], codes: &[i32]) -> String {
        let before = self.spaces[at].ended();
        let output = world.holofs(WAIT, words);
        let code = output.status.code();
        let killed = self.was_killed(at, before, &output);
        let allowed = code == Some(exit::OK) || code.is_some_and(|code| codes.contains(&code));
        // Changes to a mount are not visible in files.
        let hidden = code == Some(exit::CANNOT_MOUNT) && said(&output).contains("in a mount only");
        if said(&output).contains("panicked") || !(allowed || hidden || killed) {
            self.broke(format!("{words:?}: {}", said(&output)));
        }
        if code == Some(exit::BUSY) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        described(words, &output)
    }

    /// True if the server was killed while it started for the command.
    fn was_killed(&self, at: usize, before: [u64; 2], output: &Output) -> bool {
        self.spaces[at].none_since(before) != [true, true] && said(output).contains("before it answered")
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
    fn elsewhere(&self, world: &World, at: usize, which: usize, pause: u64) -> String {
        let stamp = "cat \"$CONDA_PREFIX/stamp\"";
        let script = format!("{stamp}; sleep 0.{pause:03}; {stamp}; {stamp}");
        let words = ["run", &world.catalogs[which], NAMES[at], "--", "sh", "-c", &script];
        let before = self.spaces[at].ended();
        let Some(output) = world.holofs_elsewhere(WAIT, &words) else { return "nothing".to_owned() };
        self.saw(at, &words, &output, which, before);
        format!("elsewhere {}", described(&words, &output))
    }
}

/// A command and its outcome in one line.
fn described(words: &[&str], output: &Output) -> String {
    format!("{words:?}: {:?}", said(output))
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
    let journal = crowd.journal.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "seed {seed}, after {steps} steps:\n{}\nThe last of them:\n{}\nEvents:\n{}",
        broken.join("\n"),
        journal[journal.len().saturating_sub(40)..].join("\n"),
        world.events()
    );
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
    let child = waiting(&world, &["run", above, "one"]);
    for how in ["--lazy", "--force"] {
        refuses_to_unmount(&world, how);
    }
    let output = go(child);
    assert_eq!(stdout(&output), "2\n", "{}", said(&output));
    world.assert_nothing_left();
}

/// RCC reads and converts what it sees in a mount, and writes that to `.meta`, which is about the files below.
#[test]
fn files_below_a_mount_are_not_taken_for_what_rcc_saw_in_it() {
    let Some(world) = World::new(None) else { return };
    if !world.has_rcc() {
        return skip("the official RCC is not available");
    }
    let [below, above] = &world.catalogs;
    assert!(world.holofs(WAIT, &["materialize", below, "one"]).status.success());
    let child = waiting(&world, &["run", above, "one"]);
    world.restore(1, "one");
    refuses_to_unmount(&world, "--lazy");
    assert_eq!(stdout(&go(child)), "2\n");
    let laid_out = json(&world.holofs(WAIT, &["materialize", above, "one", "--json"]));
    let stamp = std::fs::read_to_string(format!("{}/stamp", text_field(&laid_out, "path"))).unwrap();
    assert_eq!(stamp, "2\n", "{laid_out}");
    world.assert_nothing_left();
}

/// The written state stays that of RCC's environment, though our own `.meta` has replaced RCC's.
#[test]
fn written_state_that_rcc_converted_is_not_mounted_after_files_were_laid_out() {
    let Some(world) = World::new(None) else { return };
    if !world.has_rcc() {
        return skip("the official RCC is not available");
    }
    let [mounted, other] = &world.catalogs;
    assert!(world.holofs(WAIT, &["mount", mounted, "one"]).status.success());
    world.restore(1, "one");
    assert!(world.holofs(WAIT, &["unmount", "one"]).status.success());
    let laid_out = world.holofs(WAIT, &["materialize", other, "one"]);
    assert!(laid_out.status.success(), "{}", said(&laid_out));
    let stamp = ["--", "sh", "-c", "cat \"$CONDA_PREFIX/stamp\""];
    let refused = world.holofs(WAIT, &[&["run", mounted, "one"][..], &stamp].concat());
    assert_eq!(refused.status.code(), Some(exit::BUSY), "{}", said(&refused));
    assert!(said(&refused).contains("RCC has put another environment into"), "{}", said(&refused));
    let fresh = world.holofs(WAIT, &[&["run", "--fresh", mounted, "one"][..], &stamp].concat());
    assert_eq!(stdout(&fresh), "1\n", "{}", said(&fresh));
    world.assert_nothing_left();
}

/// What a command writes below a mount that was removed by force is not a space.
#[test]
fn file_written_where_a_mount_was_removed_by_force_is_not_taken_for_the_tree() {
    let Some(world) = World::new(None) else { return };
    let catalog = &world.catalogs[0];
    let child = waiting(&world, &["run", catalog, "one"]);
    // RCC's mark of the space is written.
    let list = || json(&world.holofs(WAIT, &["list", "--json"])).to_string();
    until(|| list().contains("\"space\":\"one\""));
    let root = text_field(&json(&world.holofs(WAIT, &["mount", catalog, "one", "--json"])), "path");
    until(|| std::path::Path::new(&format!("{root}.meta")).exists());
    assert!(world.holofs(WAIT, &["unmount", "one", "--lazy"]).status.success());
    std::fs::write(format!("{root}/written"), "x").unwrap();
    go(child);
    let output =
        world.holofs(WAIT, &["run", catalog, "one", "--", "sh", "-c", "cat \"$CONDA_PREFIX/stamp\""]);
    assert_eq!(stdout(&output), "1\n", "{}", said(&output));
    assert_eq!(std::fs::read_to_string(format!("{root}/written")).unwrap(), "x");
    std::fs::remove_file(format!("{root}/written")).unwrap();
    world.assert_nothing_left();
}

/// A command in a space that prints its stamp when it may.
fn waiting(world: &World, words: &[&str]) -> Child {
    let script = ["--", "sh", "-c", "cd /; echo up; read go; cat \"$CONDA_PREFIX/stamp\""];
    let mut command = world.command(WAIT, &[words, &script].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    child
}

/// The output of such a command, which may go on now.
fn go(mut waiting: Child) -> Output {
    waiting.stdin.take().unwrap().write_all(b"go\n").unwrap();
    waiting.wait_with_output().unwrap()
}

/// Checks that an unmount is refused because files of another catalog would appear under a command.
#[track_caller]
fn refuses_to_unmount(world: &World, how: &str) {
    let refused = world.holofs(WAIT, &["unmount", "one", how]);
    assert_eq!(refused.status.code(), Some(exit::BUSY), "{}", said(&refused));
    assert!(said(&refused).contains("of another catalog; end it"), "{}", said(&refused));
}
