//! The law of the fallback chain: in every situation a program runs in its environment, by the right method, and one line gives the reason.
//!
//! Each situation is made by root in a separate mount namespace, for a user without privileges: devices with the wanted mode, no
//! fusermount3, no /proc, a read-only home. The machine itself is never changed, not even for a moment.
#![allow(clippy::disallowed_methods, reason = "tests read the environment and their own program")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helper fails loudly, and prints its figures"
)]

#[path = "../common/mod.rs"]
mod common;
mod helper;
mod helper_attacks;
mod isolate;
mod killed;
mod members;
mod world;

use std::time::Instant;

use common::{exit, is_root, json, skip, stderr, stdout, text_field};
use world::{GAMES, NOBODY, World};

/// The difference from a machine where everything works.
#[derive(Clone, Copy)]
struct Situation {
    name: &'static str,
    setup: &'static [&'static str],
    uid: u32,
    /// The method of `holofs run`, and why not a better one: method and reason, `$R` for ROBOCORP_HOME.
    run: (&'static str, &'static [(&'static str, &'static str)]),
    /// The method of `holofs mount`, or its exit code.
    mount: Result<&'static str, i32>,
}

const NO_DEVICE: &str = "there is no /dev/fuse";
const NO_HELPER: &str = "there is none at /run/holofs/mount.sock";
const MAY_NOT_OPEN: &str = "/dev/fuse may not be opened: Permission denied";
const MAY_NOT_MOUNT: &str = "this process may not mount (no CAP_SYS_ADMIN)";
const NO_FUSERMOUNT: &str = "fusermount3 is not installed (package fuse3)";

const UNWRITABLE: &str = "$R/holotree cannot be written: Read-only file system";
const UNKEPT: &str = "nothing is cached, because $R/holofs is not writable: Read-only file system";

const SITUATIONS: [Situation; 12] = [
    Situation {
        name: "root with /dev/fuse",
        setup: &["dev 600"],
        uid: 0,
        run: ("mount(2)", &[]),
        mount: Ok("mount(2)"),
    },
    Situation {
        name: "root without /dev/fuse",
        setup: &["no-fuse"],
        uid: 0,
        run: (
            "materialize",
            &[
                ("mount(2)", NO_DEVICE),
                ("helper", NO_HELPER),
                ("fusermount3", "adds nothing for root"),
                ("namespace", NO_DEVICE),
            ],
        ),
        mount: Ok("materialize"),
    },
    Situation {
        name: "user, /dev/fuse 0600",
        setup: &["dev 600"],
        uid: NOBODY,
        run: (
            "materialize",
            &[
                ("mount(2)", MAY_NOT_OPEN),
                ("helper", NO_HELPER),
                ("fusermount3", "failed to open /dev/fuse: Permission denied"),
                ("namespace", MAY_NOT_OPEN),
            ],
        ),
        mount: Ok("materialize"),
    },
    Situation {
        name: "user, /dev/fuse 0600, helper",
        setup: &["dev 600", "helper"],
        uid: NOBODY,
        run: ("helper", &[("mount(2)", MAY_NOT_OPEN)]),
        mount: Ok("helper"),
    },
    Situation {
        name: "user, fusermount3",
        setup: &["dev 666"],
        uid: NOBODY,
        run: ("fusermount3", &[("mount(2)", MAY_NOT_MOUNT), ("helper", NO_HELPER)]),
        mount: Ok("fusermount3"),
    },
    Situation {
        name: "user, no fusermount3",
        setup: &["dev 666", "no-fusermount"],
        uid: NOBODY,
        run: (
            "namespace",
            &[("mount(2)", MAY_NOT_MOUNT), ("helper", NO_HELPER), ("fusermount3", NO_FUSERMOUNT)],
        ),
        mount: Ok("materialize"),
    },
    Situation {
        name: "unshare -Urm as root",
        setup: &["dev 666", "userns"],
        uid: 0,
        run: ("mount(2)", &[]),
        mount: Ok("mount(2)"),
    },
    Situation {
        name: "unshare -Urm as a user",
        setup: &["dev 666", "userns"],
        uid: NOBODY,
        run: ("mount(2)", &[]),
        mount: Ok("mount(2)"),
    },
    Situation {
        name: "root, read-only home",
        setup: &["dev 600", "read-only"],
        uid: 0,
        run: ("namespace", &[("mount(2)", UNWRITABLE)]),
        mount: Err(exit::IO),
    },
    Situation {
        name: "user, read-only home",
        setup: &["dev 666", "read-only"],
        uid: NOBODY,
        run: ("namespace", &[("mount(2)", UNWRITABLE)]),
        mount: Err(exit::IO),
    },
    Situation {
        name: "root, no /proc",
        setup: &["dev 600", "no-proc"],
        uid: 0,
        run: ("mount(2)", &[]),
        mount: Ok("mount(2)"),
    },
    Situation {
        name: "root, home on overlayfs",
        setup: &["dev 600", "overlay"],
        uid: 0,
        run: ("mount(2)", &[]),
        mount: Ok("mount(2)"),
    },
];

#[test]
fn mount_in_every_situation_uses_the_right_method_and_reports_why() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let mut table = Vec::new();
    for situation in SITUATIONS {
        let world = World::python(situation.uid).and_helper();
        table.push(runs(&world, &situation));
        mounts(&world, &situation);
    }
    eprintln!("| situation | method | first | again | said |\n|---|---|---|---|---|\n{}", table.join("\n"));
}

/// `holofs run` uses the right method and prints the reasons in one line, Python runs, and its exit status is returned; returns a line
/// for the table.
fn runs(world: &World, situation: &Situation) -> String {
    let name = situation.name;
    let run = |more: &[&str], code: &str, status: i32| {
        let mut args = vec!["run"];
        args.extend(more);
        args.extend([world.catalog(), "space", "--", "python3", "-c", code]);
        let started = Instant::now();
        let output = world.holofs(situation.uid, situation.setup, &args);
        assert_eq!(output.status.code(), Some(status), "{name}: {}", common::said(&output));
        (started.elapsed().as_millis(), output)
    };
    let here = |text: &str| text.replace("$R", &world.robocorp().display().to_string());
    let (first, output) = run(&["--json"], "import sys; print(sys.prefix)", 0);
    let value: serde_json::Value = serde_json::from_str(&stderr(&output))
        .unwrap_or_else(|_| panic!("{name}: {}", common::said(&output)));
    let (method, reasons) = situation.run;
    let unkept = situation.setup.contains(&"read-only").then(|| here(UNKEPT));
    assert_eq!(text_field(&value, "rung"), method, "{name}: {value}");
    assert_eq!(value["unkept"], serde_json::json!(unkept), "{name}");
    let found: Vec<(String, String)> = value["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| (text_field(reason, "rung"), text_field(reason, "reason")))
        .collect();
    let wanted: Vec<(String, String)> =
        reasons.iter().map(|(method, why)| ((*method).to_owned(), here(why))).collect();
    assert_eq!(found, wanted, "{name}");
    assert_eq!(stdout(&output).trim(), text_field(&value, "path"), "{name}");
    let (again, output) = run(&[], "raise SystemExit(3)", 3);
    let said = stderr(&output);
    let each: Vec<String> = found.iter().map(|(method, reason)| format!("{method}: {reason}")).collect();
    let whole = format!(
        " (not by {}){}\n",
        each.join("; "),
        unkept.map_or_else(String::new, |why| format!("; {why}"))
    );
    match reasons {
        [] => assert_eq!(said, "", "{name}"),
        _ => assert!(said.starts_with(&format!("holofs: by {method}, which ")), "{name}: {said}"),
    }
    assert!(reasons.is_empty() || said.lines().count() == 1 && said.ends_with(&whole), "{name}: {said}");
    format!("| {name} | {method} | {first} ms | {again} ms | {} |", said.trim())
}

/// `holofs mount` uses the right method, and Python runs in the result until it is removed.
fn mounts(world: &World, situation: &Situation) {
    let name = situation.name;
    let args = ["mount", "--json", "--", world.catalog(), "mounted"];
    match situation.mount {
        Err(code) => {
            let output = world.holofs(situation.uid, situation.setup, &args);
            assert_eq!(output.status.code(), Some(code), "{name}: {}", common::said(&output));
        }
        Ok(method) => {
            let script = format!(
                "h=$0; $h mount --json -- {} mounted && $h run {} mounted -- python3 -c pass >&2 && $h unmount mounted >&2 || [ '{method}' = materialize ]",
                world.catalog(),
                world.catalog()
            );
            let output = world.shell(situation.uid, situation.setup, &script);
            assert!(output.status.success(), "{name}: {}", common::said(&output));
            assert_eq!(text_field(&json(&output), "rung"), method, "{name}: {}", common::said(&output));
        }
    }
}

#[test]
fn mode_overrides_the_method_also_from_the_environment() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(NOBODY);
    let run = |setup: &[&str], args: &[&str]| {
        let mut all = args.to_vec();
        all.extend([world.catalog(), "space", "--", "true"]);
        world.holofs(NOBODY, setup, &all)
    };
    let refused = run(&["dev 600"], &["run", "--mode", "mount"]);
    assert_eq!(refused.status.code(), Some(exit::NOT_BEGUN), "{}", common::said(&refused));
    assert!(stderr(&refused).contains(MAY_NOT_OPEN), "{}", stderr(&refused));
    let files = run(&["dev 666"], &["run", "--mode", "materialize", "--json"]);
    assert!(stderr(&files).contains("\"rung\":\"materialize\""), "{}", common::said(&files));
    let script = format!("HOLOFS_MODE=materialize $0 mount --json {} other", world.catalog());
    let output = world.shell(NOBODY, &["dev 666"], &script);
    let report = json(&output);
    assert_eq!((text_field(&report, "rung").as_str(), report["pid"].as_u64()), ("materialize", None));
    assert!(report["reasons"].as_array().unwrap().is_empty());
}

#[test]
fn materialize_does_not_hide_what_was_written_to_a_space() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(0);
    let run = |setup: &[&str], more: &[&str], script: &str| {
        let mut args = vec!["run"];
        args.extend(more);
        args.extend([world.catalog(), "space", "--", "sh", "-c", script]);
        world.holofs(0, setup, &args)
    };
    let written = run(&["dev 600"], &[], "echo mine > $RCC_HOLOTREE_SPACE_ROOT/mine");
    assert!(written.status.success(), "{}", common::said(&written));
    let refused = run(&["no-fuse"], &[], "true");
    assert_eq!(refused.status.code(), Some(exit::NOT_BEGUN), "{}", common::said(&refused));
    assert!(
        stderr(&refused).contains("its written state is visible in a mount only"),
        "{}",
        stderr(&refused)
    );
    let kept = run(&["dev 600"], &[], "cat $RCC_HOLOTREE_SPACE_ROOT/mine");
    assert_eq!(stdout(&kept), "mine\n", "{}", common::said(&kept));
}

#[test]
fn doctor_tries_each_method_and_names_what_would_help() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(NOBODY);
    let report = json(&world.holofs(NOBODY, &["dev 666", "no-fusermount"], &["doctor", "--json"]));
    let holds: Vec<(String, bool)> = report["rungs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|method| (text_field(method, "rung"), method["holds"].as_bool().unwrap()))
        .collect();
    let wanted = [
        ("mount(2)", false),
        ("helper", false),
        ("fusermount3", false),
        ("namespace", true),
        ("materialize", true),
    ];
    assert_eq!(holds, wanted.map(|(method, holds)| (method.to_owned(), holds)));
    assert_eq!(
        (text_field(&report, "run").as_str(), text_field(&report, "mount").as_str()),
        ("namespace", "materialize")
    );
    let table = stdout(&world.holofs(0, &["no-fuse"], &["doctor"]));
    assert!(
        table.contains("to allow it: run as root with /dev/fuse (containers: --device /dev/fuse"),
        "{table}"
    );
    // Nothing of it stays, even where everything works.
    let output = world.shell(
        0,
        &["dev 600"],
        "$0 doctor; grep -c holofs-doctor /proc/self/mountinfo || ls -A \"$ROBOCORP_HOME/holotree\"",
    );
    let text = stdout(&output);
    let found =
        ["holofs run: mount(2)\n", "holofs run --isolate: works\n"].iter().all(|line| text.contains(line));
    assert!(found && text.ends_with("\n0\n"), "{text}");
}

#[test]
fn mount_t_holofs_and_fstab_mount_a_space() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(0);
    let space = stdout(&world.shell(
        0,
        &["dev 600"],
        &format!(
            "$0 mount {0} fst >&2; $0 mount --json {0} fst 2>&1 || true; $0 unmount fst",
            world.catalog()
        ),
    ));
    let root = space.split("Unmounted ").nth(1).unwrap().trim().to_owned();
    let script = format!(
        "mkdir -p $T/x $T/sbin; cp $0 $T/x/mount.holofs; mount -t overlay -o lowerdir=$T/x:/usr/sbin none /usr/sbin
         mount -t holofs -o ro,space=fst,home=$HOME,robocorp_home=$ROBOCORP_HOME {catalog} {root}
         grep ' {root} ' /proc/self/mountinfo
         $0 unmount fst
         mount -t holofs -o space=fst,home=$HOME,robocorp_home=$ROBOCORP_HOME {catalog} $T/x && exit 9
         $T/x/mount.holofs {catalog} {root} -o suid && exit 8; [ $? = 1 ]",
        catalog = world.catalog()
    );
    let output = world.shell(0, &["dev 600"], &script);
    assert!(output.status.success(), "{}", common::said(&output));
    let line = stdout(&output);
    assert!(line.contains(" ro,nosuid,nodev") && line.contains("fuse.holofs"), "{line}");
    assert!(stderr(&output).contains(&format!("is at {root}")), "{}", stderr(&output));
}

#[test]
fn root_mounts_for_a_user_by_fstab_and_only_that_user_has_access() {
    if !is_root() {
        return skip("situations are made by root");
    }
    let world = World::golden(0);
    let script = format!(
        "root=$($0 mount {catalog} fst); $0 unmount fst >&2
         mkdir -p $T/x $T/sbin; cp $0 $T/x/mount.holofs; mount -t overlay -o lowerdir=$T/x:/usr/sbin none /usr/sbin
         as() {{ u=$1; shift; setpriv --reuid $u --regid $u --clear-groups -- \"$@\"; }}
         echo \"{catalog} $root holofs space=fst,home=$HOME,robocorp_home=$ROBOCORP_HOME,uid={NOBODY},gid={NOBODY},noauto,nofail,x-test 0 0\" > $T/fstab
         mount -T $T/fstab $root
         stat -c '%u:%g' $root $root/bin/tool | sort -u
         as {NOBODY} sh -ec 'echo x > $1/made; rm $1/bin/tool; stat -c %u $1/made' sh $root
         as {GAMES} ls $root && exit 9
         $0 unmount fst >&2
         mount -t holofs -o space=fst,home=$HOME,robocorp_home=$ROBOCORP_HOME,noexec,ro {catalog} $root; grep -c noexec.*fuse.holofs /proc/self/mountinfo
         $0 unmount fst >&2
         as {NOBODY} $0 mount --mode mount --uid 5 {catalog} other && exit 8
         $0 mount --uid 5 {catalog} other && exit 7
         true",
        catalog = world.catalog()
    );
    let output = world.shell(0, &["dev 600"], &script);
    assert!(output.status.success(), "{}", common::said(&output));
    assert_eq!(stdout(&output), format!("{NOBODY}:{NOBODY}\n{NOBODY}\n1\n"), "{}", common::said(&output));
    let said = stderr(&output);
    for why in ["Permission denied", "Only root can mount for another user", "--noexec need --mode mount"] {
        assert!(said.contains(why), "no {why:?} in {said}");
    }
}
