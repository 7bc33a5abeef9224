//! A command that runs in a space has the same conditions as without HoloFS (signals, limits, temporary files), and `run` ends as it does.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::below;
use crate::common::test_home::TestHome;
use crate::common::{exit, json, run, said, stderr, stdout, until};

/// A command with the signal handling of a terminal: the test runner may ignore some signals (`nohup`, `&`), and an orphaned process
/// group is not stopped.
fn as_from_a_terminal(test_home: &TestHome) -> Command {
    let mut command = test_home.command("env");
    command.arg("--default-signal").process_group(0);
    command
}

/// `holofs run … sh -c script`, with setup commands before it.
fn shell(test_home: &TestHome, before: &str, script: &str) -> Output {
    let holofs = env!("CARGO_BIN_EXE_holofs");
    let whole = format!("{before}exec {holofs} run {CATALOG} space -- sh -c \"$1\"");
    as_from_a_terminal(test_home).args(["sh", "-c", &whole, "sh", script]).output().unwrap()
}

/// The signals that a process ignores according to the kernel, except those that the C library uses itself.
fn ignored(output: &Output) -> u64 {
    let line = stdout(output);
    let all = u64::from_str_radix(line.trim().trim_start_matches("SigIgn:").trim(), 16).unwrap();
    all & 0x7fff_ffff
}

#[test]
fn signals_that_are_ignored_at_the_start_are_ignored_in_the_command_and_no_others() {
    let test_home = TestHome::golden(Regime::Gzip);
    for set in
        ["", "trap '' HUP; ", "trap '' INT QUIT; ", "trap '' PIPE; ", "trap '' USR1 TERM ALRM WINCH TSTP; "]
    {
        let see = "exec grep SigIgn: /proc/self/status";
        let natively =
            as_from_a_terminal(&test_home).args(["sh", "-c", &format!("{set}{see}")]).output().unwrap();
        let ours = shell(&test_home, set, see);
        assert_eq!(ignored(&ours), ignored(&natively), "{set:?}: {}", said(&ours));
    }
}

/// A command that prints when it is ready, then prints the received signal, and exits with 42.
const HEARS: &str = "for s in HUP INT TERM QUIT USR1 USR2 ALRM WINCH CONT; do trap \"echo got $s; exit 42\" $s; done; \
    echo ready; while :; do sleep 0.02; done";

fn start(test_home: &TestHome, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = as_from_a_terminal(test_home);
    command.args([env!("CARGO_BIN_EXE_holofs"), "run", CATALOG, "space", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, stdout)
}

fn send(child: &Child, signal: &str) {
    run(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]));
}

#[test]
fn signals_are_passed_on() {
    let test_home = TestHome::golden(Regime::Gzip);
    for signal in ["HUP", "INT", "TERM", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "CONT"] {
        let (mut child, stdout) = start(&test_home, HEARS);
        send(&child, signal);
        let lines: Vec<String> = stdout.lines().map(Result::unwrap).collect();
        assert_eq!(lines, [format!("got {signal}")]);
        assert_eq!(child.wait().unwrap().code(), Some(42), "{signal}");
    }
    assert!(below(&test_home.holotree()).is_empty());
}

/// The state of a process, as one letter.
fn state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn run_stops_with_its_command_and_both_continue() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (mut child, mut stdout) = start(&test_home, "echo ready; kill -TSTP $$; echo went on; exit 5");
    until(|| state(child.id()) == "T");
    send(&child, "CONT");
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "went on\n");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn run_ends_by_the_signal_that_killed_its_command() {
    let test_home = TestHome::golden(Regime::Gzip);
    for (name, signal) in [("TERM", 15), ("KILL", 9), ("INT", 2), ("SEGV", 11), ("USR1", 10), ("PIPE", 13)] {
        let output = shell(&test_home, "ulimit -c 0; ", &format!("kill -{name} $$"));
        assert_eq!(output.status.signal(), Some(signal), "{name}: {}", said(&output));
    }
    assert!(below(&test_home.holotree()).is_empty());
    assert!(temp_dirs(&test_home).is_empty());
}

#[test]
fn exit_code_shows_whose_failure_it_was() {
    let test_home = TestHome::golden(Regime::Gzip);
    let plain = test_home.scratch().join("plain");
    fs::write(&plain, "text").unwrap();
    fs::create_dir(test_home.scratch().join("dir")).unwrap();
    let dir = test_home.scratch().join("dir");
    let cases = [
        (vec!["run", CATALOG, "space", "--", "no-such-program"], exit::NO_COMMAND),
        (vec!["run", CATALOG, "space", "--", "/no/such/program"], exit::NO_COMMAND),
        (vec!["run", CATALOG, "space", "--", plain.to_str().unwrap()], exit::NOT_EXECUTABLE),
        (vec!["run", CATALOG, "space", "--", dir.to_str().unwrap()], exit::NOT_EXECUTABLE),
        (vec!["run", "ffff", "space", "--", "true"], exit::NOT_BEGUN),
        (vec!["run", "--no-such-option", CATALOG, "space", "--", "true"], exit::NOT_BEGUN),
        (vec!["run", CATALOG, "--task", "of a robot.yaml"], exit::NOT_BEGUN),
        (vec!["run", CATALOG, "space", "--", "sh", "-c", "exit 8"], 8),
        (vec!["run", CATALOG, "space", "--", "sh", "-c", "exit 255"], 255),
        (vec!["run", "--help"], 0),
    ];
    for (args, code) in cases {
        let output = test_home.holofs(&args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", said(&output));
    }
}

#[test]
fn status_of_the_command_is_not_hidden_by_trouble_after_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    // Its temporary directory no longer exists when it should be removed.
    let output = shell(&test_home, "", "rm -rf \"${TEMP%/tmp}\"; exit 7");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(stderr(&output).contains("Cannot remove"), "{}", said(&output));
}

#[test]
fn run_reports_reads_that_failed_at_the_end() {
    let test_home = TestHome::golden(Regime::Gzip);
    let library = test_home.hololib().join("library");
    let whole = shell(&test_home, "", "cat $CONDA_PREFIX/bin/tool >/dev/null");
    assert_eq!((whole.status.code(), stderr(&whole).as_str()), (Some(0), ""));
    fs::remove_dir_all(test_home.home().join("holofs")).unwrap();
    fs::rename(&library, test_home.hololib().join("library.away")).unwrap();
    fs::create_dir(&library).unwrap();
    let output = shell(&test_home, "", "cat $CONDA_PREFIX/bin/tool >/dev/null 2>&1; exit 3");
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("reads failed in this run"), "{}", said(&output));
}

fn temp_dirs(test_home: &TestHome) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(test_home.home().join("temp")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn temporary_directory_is_private_whatever_the_umask_and_removed_after_the_run() {
    let test_home = TestHome::golden(Regime::Gzip);
    let output =
        shell(&test_home, "umask 0; ", "stat -c %a \"$TEMP\" \"${TEMP%/tmp}\"; test \"$TEMP\" = \"$TMP\"");
    assert_eq!(stdout(&output), "700\n700\n", "{}", said(&output));
    assert!(temp_dirs(&test_home).is_empty());
}

#[test]
fn temporary_directory_of_a_killed_run_is_removed_by_the_next_run_or_gc() {
    let test_home = TestHome::golden(Regime::Gzip);
    let _mounted = test_home.mount(CATALOG, "space", "user", &[]);
    for by_gc in [false, true] {
        let (mut child, _stdout) = start(&test_home, "echo ready; touch \"$TEMP/x\"; sleep 0.2");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(temp_dirs(&test_home).len(), 1);
        // The directory of a live run is not touched.
        let (mut living, _its) = start(&test_home, HEARS);
        if by_gc {
            test_home.holofs_ok(&["gc"]);
        }
        until(|| temp_dirs(&test_home).len() == 1);
        send(&living, "TERM");
        assert_eq!(living.wait().unwrap().code(), Some(42));
        assert!(temp_dirs(&test_home).is_empty());
    }
}

#[test]
fn failed_variables_fail_in_a_shell() {
    let test_home = TestHome::golden(Regime::Gzip);
    let holofs = env!("CARGO_BIN_EXE_holofs");
    for (args, printed) in [("nope", true), ("", true), ("--json nope", false)] {
        let output =
            test_home.command("sh").args(["-c", &format!("{holofs} variables {args}")]).output().unwrap();
        assert_eq!(stdout(&output).lines().any(|line| line == "false"), printed, "{args:?}");
    }
    let script = format!("set -e; eval \"$({holofs} variables nope)\"; echo went on");
    let output = test_home.command("sh").args(["-c", &script]).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
}

#[test]
fn variables_that_others_manage_are_left_alone() {
    let test_home = TestHome::golden(Regime::Gzip);
    let all = ["PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "TEMP", "TMP"];
    for (set, expected) in
        [("", &all[..]), ("RCC_NO_PYC_MANAGEMENT", &all[2..]), ("RCC_NO_TEMP_MANAGEMENT", &all[..2])]
    {
        let mut command =
            test_home.holofs_command(&["variables", CATALOG, "--json", "--mode", "materialize"]);
        if !set.is_empty() {
            command.env(set, "1");
        }
        let list = json(&run(&mut command));
        let keys = list.as_array().unwrap().iter().map(|pair| pair["key"].as_str().unwrap().to_owned());
        let keys: Vec<String> = keys.filter(|key| all.contains(&&**key)).collect();
        assert_eq!(keys, expected, "{set}");
    }
    let mine = "PYTHONDONTWRITEBYTECODE=mine TEMP=/mine; export PYTHONDONTWRITEBYTECODE TEMP RCC_NO_PYC_MANAGEMENT=1 RCC_NO_TEMP_MANAGEMENT=1; ";
    let output = shell(&test_home, mine, "echo $PYTHONDONTWRITEBYTECODE $TEMP $PYTHONPYCACHEPREFIX");
    assert_eq!(stdout(&output), "mine /mine\n");
}

#[test]
fn path_has_no_empty_entry_and_is_absolute_and_clean() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mut command =
        test_home.holofs_command(&["run", CATALOG, "space", "--", "/bin/sh", "-c", "echo $PATH"]);
    let output = run(command.env("PATH", ":/usr//bin/:/bin/../bin::rel:").current_dir(test_home.scratch()));
    let path = stdout(&output);
    let rel = test_home.scratch().join("rel");
    let entries: Vec<&str> = path.trim_end().split(':').skip(1).collect();
    assert_eq!(entries, ["/usr/bin", "/bin", rel.to_str().unwrap()], "{path}");
}

#[test]
fn limits_of_the_shell_do_not_end_the_server_of_a_mount() {
    let test_home = TestHome::golden(Regime::Gzip);
    let holofs = env!("CARGO_BIN_EXE_holofs");
    let limits = "ulimit -S -t 10; ulimit -S -f 100000; ulimit -S -v 4000000";
    let script = format!("{limits}; exec {holofs} mount {CATALOG} space --json");
    let output = run(test_home.command("bash").args(["-c", &script]));
    let pid = crate::common::number_field(&json(&output), "pid");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    for name in ["Max cpu time", "Max file size", "Max address space"] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line[name.len()..].trim_start().starts_with("unlimited"), "{line}");
    }
    // The command keeps the limits of the shell.
    let output = shell(&test_home, "ulimit -S -t 77; ", "ulimit -S -t");
    assert_eq!(stdout(&output), "77\n");
    test_home.holofs_ok(&["unmount", "space"]);
}

#[test]
fn mode_of_a_program_that_is_found_later_in_path_decides() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (one, two) = (test_home.scratch().join("one"), test_home.scratch().join("two"));
    for (dir, mode) in [(&one, 0o644), (&two, 0o755)] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("prog"), "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(dir.join("prog"), fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = |dirs: &str| {
        let mut command = test_home.holofs_command(&["run", CATALOG, "space", "--", "prog"]);
        command.env("PATH", dirs).output().unwrap()
    };
    let both = path(&format!("{}:{}", one.display(), two.display()));
    assert_eq!(stdout(&both), "ran\n", "{}", said(&both));
    let first = path(one.to_str().unwrap());
    assert_eq!(first.status.code(), Some(exit::NOT_EXECUTABLE), "{}", said(&first));
}
