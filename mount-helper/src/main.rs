//! `holofs-mount-helper`: the smallest privileged part of HoloFS. Not built yet.
//!
//! It will be started by root, listen on a unix seqpacket socket, check the peer against a policy, mount a FUSE file
//! system on the directory descriptor it was sent, and return the `/dev/fuse` descriptor. Until then it refuses to run.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("holofs-mount-helper: not built yet: use `holofs mount` as root or with fusermount3");
    ExitCode::from(70)
}
