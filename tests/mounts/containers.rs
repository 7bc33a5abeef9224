//! Two containers on one home: each has its own mounts and processes, and sees nothing of the other's.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::daemons_of;
use crate::common::namespace;
use crate::common::test_home::TestHome;
use crate::common::{is_root, skip, until};

/// Prints how many entries of the tree the command sees.
const SEE: &str = "ls \"$CONDA_PREFIX\" | wc -l";

/// A shell in a container: with its own mounts and processes, and the same home.
pub struct Container {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Container {
    pub fn start(test_home: &TestHome) -> Container {
        let mut command = namespace::unshare(test_home, &["-mpf", "--mount-proc"]);
        command.arg("sh").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut container = Container { child, output };
        assert_eq!(container.says("echo up"), "up");
        container
    }

    /// Runs a script, and returns the first line that it prints.
    pub fn says(&mut self, script: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{script}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[test]
fn two_containers_that_do_not_see_each_other_share_a_mount() {
    if !is_root() {
        return skip("mount namespaces need root");
    }
    let test_home = TestHome::golden(Regime::Gzip);
    let program = env!("CARGO_BIN_EXE_holofs");
    let run = |script: &str| format!("{program} run {CATALOG} shared -- sh -c '{script}'");
    // The second one exists before the mount does, so that it has no copy of it.
    let (mut first, mut second) = (Container::start(&test_home), Container::start(&test_home));
    assert_eq!(first.says(&format!("{program} mount {CATALOG} shared >/dev/null; echo $?")), "0");
    let unmount =
        format!("{program} unmount shared 2>&1 | grep -o -e 'in use by' -e 'of another PID namespace'");
    assert_eq!(second.says(&unmount), "of another PID namespace");
    let entries = second.says(&run(&format!("{SEE}; read go; {SEE}")));
    assert!(entries.parse::<u32>().unwrap() > 0);
    // The second one uses a copy, which does not end, and no process waits for it.
    assert_eq!(first.says(&unmount), "in use by");
    let started = Instant::now();
    assert_eq!(first.says(&format!("{program} unmount shared --lazy >/dev/null 2>&1; echo $?")), "0");
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    // The server has no mount in its own namespace now; a third container still gets one.
    let mut third = Container::start(&test_home);
    assert_eq!(third.says(&run(&format!("{SEE}; read go; {SEE}"))), entries);
    assert_eq!(second.says("go"), entries);
    assert_eq!(third.says("go"), entries);
    third.end();
    // The mount ends with the last copy.
    until(|| daemons_of(&test_home).is_empty());
    assert_eq!(second.says(&run(SEE)), entries);
    // Not before that run has ended: its mount would be shared instead, and end with its own container.
    assert_eq!(second.says("echo ended"), "ended");
    until(|| daemons_of(&test_home).is_empty());
    // The server ends with its container, and the other one starts its own.
    let mount = format!("{program} mount {CATALOG} shared >/dev/null; echo $?");
    assert_eq!([first.says(&mount), second.says(&mount)], ["0", "0"]);
    first.end();
    assert_eq!(second.says(&run(SEE)), entries);
    second.end();
    until(|| daemons_of(&test_home).is_empty());
}
