//! Ends a process with everything that it started: a tool's own tools would otherwise go on, and write where nothing should be left.
//!
//! Each process is stopped before its children are listed, so none can be started in between. A process whose parent ended before is not
//! found; without /proc, only the process itself is ended.

use std::io;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::Process;

/// Kills `child`, the processes that it started, and theirs; waits for the end of `child`.
pub fn kill(child: &mut Child) -> io::Result<()> {
    let family = stopped(child.id());
    child.kill()?;
    for member in family {
        signal(&member, Signal::KILL);
    }
    child.wait().map(drop)
}

/// Stops the process `root`, which is our child, and its descendants; returns the descendants.
fn stopped(root: u32) -> Vec<Process> {
    let mut known = vec![root];
    let mut family = Vec::new();
    signal(&Process::with_id(root), Signal::STOP);
    loop {
        let is_new = |process: &Process| {
            !known.contains(&process.pid) && process.parent().is_some_and(|parent| known.contains(&parent))
        };
        let new: Vec<Process> = all().into_iter().filter(is_new).collect();
        if new.is_empty() {
            return family;
        }
        for process in new {
            signal(&process, Signal::STOP);
            known.push(process.pid);
            family.push(process);
        }
    }
}

/// All processes that /proc shows.
fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Process::with_id).collect()
}

/// A process that has ended in the meantime needs no signal.
fn signal(process: &Process, signal: Signal) {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| process.exists())
        && let Err(error) = kill_process(pid, signal)
    {
        log::debug!("Cannot send {signal:?} to {process}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    #[test]
    fn kill_ends_children_and_their_children() {
        let script = "sh -c 'sleep 600 & echo $!; wait' & echo $!; wait";
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let family = [(); 2].map(|()| Process::with_id(lines.next().unwrap().unwrap().parse().unwrap()));
        let other = Process::current();
        kill(&mut child).unwrap();
        for member in family {
            member.wait_for_end(Duration::from_secs(60));
            assert!(member.has_ended(), "{member}");
        }
        assert!(other.is_alive());
        assert_eq!(child.try_wait().unwrap().map(|status| status.success()), Some(false));
    }
}
