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
use crate::session::method::Mode;
use crate::session::request::MountRequest;
#[cfg(unix)]
use crate::session::request::ProfileAt;
use crate::session::run::{self, RunRequest};
use crate::sys::process::signals;

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// How the space appears
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    #[cfg(unix)]
    #[command(flatten)]
    pub mount: MountedRunArgs,
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
    /// How files are read; an isolated space has its own way
    #[arg(long, value_enum, default_value = "no-open", env = "HOLOFS_IO")]
    pub io: Io,
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

/// Runs the command.
pub fn main(context: &Context, args: &RunArgs) -> anyhow::Result<ExitCode> {
    Ok(exit_code(run::run(context, &request(args))?))
}

#[cfg(unix)]
fn request(args: &RunArgs) -> RunRequest {
    let given = &args.mount;
    let mount = MountRequest {
        io: given.io,
        keep_awake: given.keep_awake,
        read_only: given.read_only,
        fresh: given.fresh,
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

/// As a shell has it: the status, or 128 and the signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    if cfg!(windows)
        && let Some(code) = status.code()
        && u8::try_from(code).is_err()
    {
        // An `ExitCode` has no room for it, such as after a crash. Nothing of ours is left to be tidied up.
        std::process::exit(code);
    }
    let code =
        status.code().or_else(|| signals::that_ended(status).map(|signal| 128 + signal)).unwrap_or(255);
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
