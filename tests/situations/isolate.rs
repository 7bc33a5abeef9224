//! A catalog at its own path, visible to one command only.

use std::fs;
use std::path::Path;

use super::world::{GAMES, NOBODY, World};
use crate::common::golden::IDENTITY;
use crate::common::{exit, is_root, said, skip, stderr, stdout};

/// A user's home with the golden catalog, recorded at another base.
fn recorded_at(uid: u32, base: &str) -> World {
    let world = World::golden(uid);
    world.rebase(&world.robocorp().join("holotree"), Path::new(base));
    world
}

#[test]
fn isolate_shows_the_recorded_bytes_at_the_recorded_path_to_the_run_only() {
    if !is_root() {
        return skip("situations are made by root");
    }
    for uid in [0, NOBODY] {
        let world = World::golden(uid);
        let root = world.robocorp().join("holotree").join(IDENTITY);
        // The first line names the path at which the golden tree was recorded: not one byte is relocated.
        let script = "head -1 $RCC_HOLOTREE_SPACE_ROOT/bin/tool; echo $RCC_HOLOTREE_SPACE_ROOT; id -u; touch $RCC_HOLOTREE_SPACE_ROOT/x 2>&1 || true";
        let output = world.holofs(
            uid,
            &["dev 666"],
            &["run", "--isolate", world.catalog(), "s", "--", "sh", "-c", script],
        );
        let wanted =
            format!("#!/tmp/holofs-golden/holotree/{IDENTITY}/bin/python3\n{}\n{uid}\n", root.display());
        assert!(stdout(&output).starts_with(&wanted), "{}", said(&output));
        assert!(stdout(&output).contains("Read-only file system"), "{}", said(&output));
        assert_eq!((stderr(&output).as_str(), output.status.code()), ("", Some(0)));
        assert!(!root.exists(), "it was seen outside");
        assert_eq!(fs::read_dir(world.robocorp().join("holotree")).unwrap().count(), 0);
    }
}

#[test]
fn isolate_returns_the_status_of_the_command_and_leaves_nothing() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(NOBODY);
    let script = format!(
        "$0 run --isolate {0} s -- sh -c 'exit 42' || echo $?; $0 run --isolate {0} s -- sh -c 'kill -TERM $$' || echo $?
         grep -c fuse.holofs.*{NOBODY} /proc/self/mountinfo || true; ls -A $ROBOCORP_HOME/temp",
        world.catalog()
    );
    let output = world.shell(NOBODY, &["dev 666"], &script);
    assert_eq!(stdout(&output), "42\n143\n0\n", "{}", said(&output));
}

/// A script in which `$P` is an isolated run and `$S` the process that serves it, once the command runs.
fn served(world: &World, command: &str, then: &str) -> String {
    format!(
        "$0 run --isolate {} s -- sh -c '{command}' & P=$!
         until [ -e $HOME/runs ]; do kill -0 $P; sleep 0.02; done
         for p in $(cat /proc/$P/task/$P/children); do [ \"$(cat /proc/$p/comm)\" = holofs ] && S=$p; done
         {then}",
        world.catalog()
    )
}

#[test]
fn isolate_sandboxes_its_server_which_ends_with_the_run_even_a_killed_one() {
    if !is_root() {
        return skip("situations are made by root");
    }
    for uid in [0, NOBODY] {
        let world = World::golden(uid);
        let waits = ": > $HOME/runs; exec sleep 60.0625"; // a time that no other process sleeps
        let then = "grep -h -E 'NoNewPrivs|CapPrm' /proc/$S/task/*/status | sort | uniq -c | wc -l
             grep -h NoNewPrivs /proc/$S/task/*/status | sort -u; kill -9 $P
             i=0; while [ -e /proc/$S/stat ] && ! grep -q ') Z ' /proc/$S/stat && [ $i -lt 250 ]; do sleep 0.02; i=$((i+1)); done; [ $i -lt 250 ] && echo gone
             pkill -u $(id -u) -xf 'sleep 60.0625' || true";
        let output = world.shell(uid, &["dev 666"], &served(&world, waits, then));
        let text = stdout(&output);
        assert_eq!(text, "2\nNoNewPrivs:\t1\ngone\n", "{uid}: {}", said(&output));
    }
}

#[test]
fn isolate_passes_terminal_signals_to_the_command_and_not_the_server() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(NOBODY);
    let script = format!(
        "exec setsid -w $0 run --isolate {} s -- sh -c 'trap : INT; kill -INT 0; cat $RCC_HOLOTREE_SPACE_ROOT/bin/tool | wc -l; exit 7'",
        world.catalog()
    );
    let output = world.shell(NOBODY, &["dev 666"], &script);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(!stdout(&output).trim().is_empty() && stdout(&output).trim() != "0", "{}", said(&output));
}

#[test]
fn isolate_runs_many_commands_also_while_the_path_is_removed_outside() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(NOBODY);
    let script = format!(
        "mkdir $ROBOCORP_HOME/holotree/{IDENTITY}
         run() {{ $0 run --isolate {0} s -- sh -c 'until [ -e $T/home/user/go ]; do sleep 0.02; done; cat $RCC_HOLOTREE_SPACE_ROOT/bin/tool | wc -l; : > $HOME/done.'$1; }}
         for i in 1 2 3 4 5; do run $i & done
         sleep 1; rmdir $ROBOCORP_HOME/holotree/{IDENTITY}; : > $HOME/go; wait; ls $HOME",
        world.catalog()
    );
    let output = world.shell(NOBODY, &["dev 666"], &script);
    let text = stdout(&output);
    assert!(
        output.status.success() && text.ends_with("done.1\ndone.2\ndone.3\ndone.4\ndone.5\ngo\n"),
        "{}",
        said(&output)
    );
}

#[test]
fn isolate_needs_no_existing_base_and_keeps_everything_else_in_place() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let home = "home/user/below";
    for base in
        ["/holofs-no-such-base/x/y", "/usr/holofs-no-such/y", "/root/.robocorp/holotree", "/proc/holofs/y"]
    {
        let world = recorded_at(NOBODY, base);
        fs::create_dir_all(world.path().join(home)).unwrap();
        let given = format!("chown {NOBODY} $T/{home}; cd $T/{home}; true");
        let script = "set -e; echo in > here; cat here; pwd; ls / | wc -l; test -e /proc/self/status; test -c /dev/null; : > $HOME/made; /usr/bin/env true; echo $RCC_HOLOTREE_SPACE_ROOT; test -s $RCC_HOLOTREE_SPACE_ROOT/bin/tool; cd $T; pwd";
        let program = world.holofs_program().display().to_string();
        let run = format!("cd $T/{home}; {program} run --isolate {} s -- sh -c '{script}'", world.catalog());
        let output = world.shell(NOBODY, &["dev 666", &given], &run);
        let root = Path::new(base).join(IDENTITY);
        assert!(output.status.success(), "{base}: {}", said(&output));
        let shown = stdout(&output);
        let here = world.path().join(home);
        assert!(shown.starts_with(&format!("in\n{}\n", here.display())), "{base}: {shown}");
        assert!(
            shown.contains(&format!("\n{}\n{}\n", root.display(), world.path().display())),
            "{base}: {shown}"
        );
        assert_eq!(fs::read_to_string(here.join("here")).unwrap(), "in\n", "{base}: what is written is lost");
        assert!(world.path().join("home/user/made").exists(), "{base}");
        assert!(!Path::new(base).exists(), "{base} is seen outside");
    }
}

#[test]
fn isolate_that_fails_falls_back_unless_the_mode_forbids() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(GAMES);
    let run = |mode: &str| {
        let args = [
            "run",
            "--isolate",
            "--mode",
            mode,
            world.catalog(),
            "s",
            "--",
            "sh",
            "-c",
            "echo $RCC_HOLOTREE_SPACE_ROOT",
        ];
        world.holofs(GAMES, &["dev 600"], &args)
    };
    let auto = run("auto");
    assert!(auto.status.success() && !stdout(&auto).contains(IDENTITY), "{}", said(&auto));
    assert!(
        stderr(&auto).contains("by materialize")
            && stderr(&auto).contains("namespace: /dev/fuse may not be opened"),
        "{}",
        said(&auto)
    );
    let refused = run("mount");
    assert_eq!(refused.status.code(), Some(exit::NOT_BEGUN), "{}", said(&refused));
}
