//! `holofs-mount-helper`: the smallest privileged part of HoloFS.
//!
//! Started by root (a systemd socket unit, a privileged sidecar), it listens on a Unix seqpacket socket. The kernel identifies the peer,
//! and a policy file decides what is allowed. The helper mounts FUSE on the directory *descriptor* that it received, returns the
//! `/dev/fuse` descriptor, and never sees a byte of what is served. It stores no state: the kernel knows all mounts and their users.
//! Paths are only compared and written to the log, never resolved.

// The log of a daemon is its stderr, and its settings come from systemd.
#![allow(clippy::print_stderr, clippy::disallowed_methods)]

mod accounts;
mod door;
mod drop_privileges;
mod log;
mod mount;
mod namespace;
mod policy;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const USAGE: &str = "\
Usage: holofs-mount-helper [--socket PATH] [--policy PATH]
Mounts FUSE for users who may not mount. Root starts it; the policy decides which users are served. A socket passed by systemd
replaces --socket (default /run/holofs/mount.sock). Only root may be able to write the policy (default /etc/holofs/mount-policy).";

/// The outcome of a request; an error is the reason, for the log and for the peer.
type Outcome<T> = Result<T, String>;

fn failed(what: &'static str) -> impl Fn(rustix::io::Errno) -> String {
    move |error| format!("cannot {what}: {error}")
}

/// The options.
struct Options {
    socket: PathBuf,
    policy: PathBuf,
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { socket: "/run/holofs/mount.sock".into(), policy: "/etc/holofs/mount-policy".into() };
    let mut arguments = std::env::args_os().skip(1);
    while let Some(name) = arguments.next() {
        let slot = match name.to_str() {
            Some("--socket") => &mut options.socket,
            Some("--policy") => &mut options.policy,
            _ => return Err(USAGE.to_owned()),
        };
        *slot = arguments.next().ok_or(USAGE)?.into();
    }
    Ok(options)
}

/// Raises the limit of descriptors to the hard limit: each waiting peer needs one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    if let Err(error) = raised {
        log::line(&format!("Cannot raise the limit of descriptors: {error}"));
    }
}

fn run() -> Result<(), String> {
    let options = options()?;
    let policy = policy::read(&options.policy)?;
    let listener = door::listener(&options.socket)?;
    let kept = drop_privileges::drop_all_but_mounting(policy.reaches_other_namespaces())?;
    raise_descriptors();
    let door = door::Door::new(&options.policy)?;
    log::line(&format!("ready, with {kept}, {} rules", policy.len()));
    door.serve(&listener)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::line(&why);
            ExitCode::FAILURE
        }
    }
}
