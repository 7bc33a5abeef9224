//! `holofs run`: a command in a space that is there for the time of the command.

use std::ffi::OsString;
#[cfg(unix)]
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::Args;

#[cfg(unix)]
use crate::fs::fuse::Io;
#[cfg(unix)]
use crate::fs::fuse::awake::KeepAwake;
use crate::session::error::CannotStart;
use crate::session::method::Mode;
use crate::session::request::MountRequest;
#[cfg(unix)]
use crate::session::request::ProfileAt;
use crate::session::run::{self, RunRequest};
use crate::sys::process::command;

use super::SpaceArgs;
use super::context::Context;
use super::exit_code;
use super::remotes::{self, RemoteUseArgs};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, a path, or a remote environment (oci://…, s3://…)
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// How the space appears
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    #[cfg(unix)]
    #[command(flatten)]
    pub mount: MountedRunArgs,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
    /// Let Python write no bytecode, as RCC does
    #[arg(long)]
    pub no_bytecode: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// What only a mount can keep.
#[cfg(unix)]
#[derive(Debug, Args)]
pub struct MountedRunArgs {
    /// How files are read (default: no-open); an isolated space has its own way
    #[arg(long, value_enum, env = "HOLOFS_IO")]
    pub io: Option<Io>,
    /// While requests come quickly, let no idle processor halt (as for `mount`)
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_KEEP_AWAKE")]
    pub keep_awake: KeepAwake,
    /// Allow no change
    #[arg(long)]
    pub read_only: bool,
    /// Drop what was written to the space before
    #[arg(long)]
    pub fresh: bool,
    /// At the catalog's own recorded path, in a namespace of this command's own: nothing is relocated or seen outside, any
    /// number run side by side; read-only
    #[arg(long)]
    pub isolate: bool,
    /// What runs read first: auto, off, or a file (as for `mount`)
    #[arg(long, default_value = "auto", value_name = "auto|off|FILE")]
    pub profile: PathBuf,
}

/// Runs the command. Its status is ours; what goes wrong on our side has codes that commands rarely use.
pub fn main(context: &Context, args: &RunArgs) -> ExitCode {
    match local(context, args).and_then(|request| run::run(context, &request)) {
        Ok(status) => end_as(status),
        Err(error) => {
            let code = failure(exit_code::code(&error), error.downcast_ref());
            exit_code::fail_as(&error, context.json, code)
        }
    }
}

/// As of env(1) and its like: 127 if there is no such command, 126 if it cannot be executed, else 125; but a space that is in use is
/// told apart, since to try again may help.
fn failure(class: u8, cause: Option<&CannotStart>) -> u8 {
    match cause {
        Some(CannotStart { is_there: true, .. }) => 126,
        Some(_) => 127,
        None if class == exit_code::BUSY => class,
        None => exit_code::OUR_OWN,
    }
}

/// What is asked for, with a catalog that is here.
fn local(context: &Context, args: &RunArgs) -> anyhow::Result<RunRequest> {
    let mut request = request(args);
    // An isolated space is served by a process that starts no others.
    let how = RemoteUseArgs { complete: args.remote.complete || request.isolate, ..args.remote.clone() };
    request.mount.catalog = remotes::local(context, &args.catalog, &how)?;
    Ok(request)
}

#[cfg(unix)]
fn request(args: &RunArgs) -> RunRequest {
    let given = &args.mount;
    let mount = MountRequest {
        io: given.io,
        keep_awake: given.keep_awake,
        read_only: given.read_only,
        fresh: given.fresh,
        keep: false,
        profile: ProfileAt::from(given.profile.as_path()),
        ..MountRequest::new(&args.catalog, &args.space.name(), args.mode)
    };
    let command = args.command.clone();
    RunRequest { mount, isolate: given.isolate, bytecode: !args.no_bytecode, command }
}

#[cfg(windows)]
fn request(args: &RunArgs) -> RunRequest {
    let mount = MountRequest::new(&args.catalog, &args.space.name(), args.mode);
    RunRequest { mount, isolate: false, bytecode: !args.no_bytecode, command: args.command.clone() }
}

/// Ends as the command did: by the same signal, so that loops in shells stop, or with its status.
fn end_as(status: ExitStatus) -> ExitCode {
    if cfg!(windows)
        && let Some(code) = status.code()
        && u8::try_from(code).is_err()
    {
        // An `ExitCode` has no room for it, such as after a crash. Nothing of ours is left to be tidied up.
        std::process::exit(code);
    }
    let signal = command::that_ended(status);
    if let Some(signal) = signal {
        command::die_of(signal);
    }
    let code = status.code().or_else(|| signal.map(|signal| 128 + signal)).unwrap_or(255);
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_ours_are_told_from_those_of_commands() {
        let cannot = |is_there| CannotStart {
            program: "x".into(),
            is_there,
            source: std::io::ErrorKind::NotFound.into(),
        };
        assert_eq!(failure(exit_code::FAILED, Some(&cannot(true))), 126);
        assert_eq!(failure(exit_code::FAILED, Some(&cannot(false))), 127);
        assert_eq!(failure(exit_code::BUSY, None), 6);
        assert_eq!(failure(exit_code::NOT_FOUND, None), 125);
    }
}
