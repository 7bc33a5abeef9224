//! `holofs run`: runs a command in a space; without one, the task of a robot or a shell.

use std::ffi::OsString;
#[cfg(unix)]
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
#[cfg(unix)]
use std::sync::Arc;

use clap::Args;

#[cfg(unix)]
use crate::fs::fuse::Io;
#[cfg(unix)]
use crate::fs::fuse::awake::KeepAwake;
use crate::session::error::{CannotStart, find};
use crate::session::method::Mode;
use crate::session::request::MountRequest;
#[cfg(unix)]
use crate::session::request::ProfileAt;
use crate::session::run::{self, RunRequest};
use crate::sys::process::command;

use super::config;
use super::context::Context;
use super::delete;
use super::exit_code;
#[cfg(unix)]
use super::recorded::WatchedRunArgs;
use super::remotes::{self, RemoteUseArgs};
use super::run_words::{self, Grammar};
use super::target;
use super::task::Work;
use super::terminal;
use super::{Global, SpaceChoice};

/// The environment in which something runs, and how it appears: the same for `run` and `shell`.
#[derive(Debug, Clone, Args)]
pub struct RunTargetArgs {
    /// A conda.yaml, package.yaml, robot.yaml or a directory with one (default: .); or a catalog: hash, prefix, file name, path
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    #[command(flatten)]
    pub space: SpaceChoice,
    /// Method to provide the space
    #[arg(long, value_enum, default_value = config::usual("HOLOFS_MODE"), env = "HOLOFS_MODE")]
    pub mode: Mode,
    #[cfg(unix)]
    #[command(flatten)]
    pub mount: MountedRunArgs,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
}

impl RunTargetArgs {
    /// True if only the command can see the space.
    #[cfg(unix)]
    fn is_isolated(&self) -> bool {
        self.mount.isolate
    }

    /// True if only the command can see the space, which needs namespaces.
    #[cfg(windows)]
    fn is_isolated(&self) -> bool {
        false
    }
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub target: RunTargetArgs,
    #[cfg(unix)]
    #[command(flatten)]
    pub watch: WatchedRunArgs,
    /// Prevent Python from writing bytecode, as RCC does
    #[arg(long)]
    pub no_bytecode: bool,
    /// Run this task of the robot.yaml, as `rcc run` does; what follows are more arguments for it
    #[arg(short, long, value_name = "NAME")]
    pub task: Option<String>,
    /// Command and its arguments (default: the only task of the robot.yaml; in other environments, a shell)
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// Options that only a mount can satisfy.
#[cfg(unix)]
#[derive(Debug, Clone, Args)]
pub struct MountedRunArgs {
    /// How to read files (default: no-open); not for --isolate
    #[arg(long, value_enum, default_value = config::given("HOLOFS_IO"), env = "HOLOFS_IO")]
    pub io: Option<Io>,
    /// Keep idle processors awake during bursts of requests (as for `mount`)
    #[arg(long, value_enum, default_value = config::usual("HOLOFS_KEEP_AWAKE"), env = "HOLOFS_KEEP_AWAKE")]
    pub keep_awake: KeepAwake,
    /// Mount read-only
    #[arg(long)]
    pub read_only: bool,
    /// Drop earlier changes in the space
    #[arg(long)]
    pub fresh: bool,
    /// Use the catalog's recorded path, in a private namespace: read-only, invisible outside, any number in parallel
    #[arg(long)]
    pub isolate: bool,
    /// Profile for readahead: auto, off, or a file (as for `mount`)
    #[arg(long, default_value = "auto", value_name = "auto|off|FILE")]
    pub profile: PathBuf,
}

impl RunArgs {
    /// True if neither a command nor the task of a robot is to run.
    pub fn is_bare(&self) -> bool {
        let is_robot = || target::is_robot(self.target.catalog.as_deref());
        self.command.is_empty() && self.task.is_none() && !is_robot()
    }
}

#[cfg(unix)]
impl RunArgs {
    /// A run with default options and a recording.
    pub fn watched(
        catalog: Option<String>,
        space: SpaceChoice,
        watch: WatchedRunArgs,
        command: Vec<OsString>,
    ) -> RunArgs {
        let mount = MountedRunArgs {
            io: None,
            keep_awake: KeepAwake::Auto,
            read_only: false,
            fresh: false,
            isolate: false,
            profile: "auto".into(),
        };
        let remote = RemoteUseArgs::default();
        let target = RunTargetArgs { catalog, space, mode: Mode::Auto, mount, remote };
        RunArgs { target, watch, no_bytecode: false, task: None, command }
    }
}

/// Runs the command, and returns its status; our own failures have codes that commands rarely use.
pub fn main(context: &Context, args: &RunArgs) -> ExitCode {
    report(context, end(context, args))
}

/// Ends this process after a command that ended this way.
pub fn report(context: &Context, ended: anyhow::Result<ExitStatus>) -> ExitCode {
    match ended {
        Ok(status) => end_as(status),
        Err(error) => {
            let code = failure(exit_code::code(error.as_ref()), find(error.as_ref()));
            exit_code::fail_as(&error, context.json, code)
        }
    }
}

/// As for env(1) and similar programs: 127 if the command does not exist, 126 if it cannot be executed, otherwise 125; but a space in
/// use has its own code, because a retry may help.
fn failure(class: u8, cause: Option<&CannotStart>) -> u8 {
    match cause {
        Some(CannotStart { is_there: true, .. }) => 126,
        Some(_) => 127,
        None if class == exit_code::BUSY => class,
        None => exit_code::OUR_OWN,
    }
}

/// Runs the command to its end.
pub fn end(context: &Context, args: &RunArgs) -> anyhow::Result<ExitStatus> {
    let RunTargetArgs { catalog, space, remote, .. } = &args.target;
    let find = || target::of_word(context, catalog.as_deref());
    let target = remotes::or_pulled(context, remote, find)?;
    let robot = target.composed.and_then(|composed| composed.robot);
    let work = Work::of(args.task.as_deref(), &args.command, robot.as_ref())?;
    let mut context = context.clone();
    context.add(|extra| extra.robot = robot);
    // The process that serves an isolated space starts no others.
    let how = RemoteUseArgs { complete: remote.complete || args.target.is_isolated(), ..remote.clone() };
    let catalog = remotes::local(&context, &target.catalog, &how)?;
    let request = request(args, &catalog, work);
    let outcome = run::run(&context, &request);
    #[cfg(unix)]
    super::recorded::after_run(&context, &args.watch, &request);
    if space.is_auto() {
        forget(&context, &request.mount);
    }
    Ok(outcome?)
}

/// Deletes a space used only by this command.
fn forget(context: &Context, mount: &MountRequest) {
    let deleted = context.head(&mount.catalog).and_then(|(head, ..)| {
        let space = context.space(head.base(), &mount.space);
        Ok(delete::left_space(context, &space)?)
    });
    if let Err(error) = deleted {
        terminal::warn(&format!("The space {} of this command is left behind: {error:#}", mount.space.space));
    }
}

/// The command line with a `--` before the command, if it is missing.
pub fn with_separator(words: Vec<OsString>) -> Vec<OsString> {
    if !words.iter().any(|word| word == "run") {
        return words;
    }
    let run = RunArgs::augment_args(Global::augment_args(clap::Command::new("run")));
    let arguments = run.get_arguments();
    let valued = arguments.filter(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set());
    let options: Vec<String> = valued
        .flat_map(|argument| {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let short = argument.get_short().map(|short| format!("-{short}"));
            long.into_iter().chain(short)
        })
        .collect();
    let takes_value = |word: &str| options.iter().any(|option| option == word);
    run_words::with_separator(words, &Grammar { takes_value: &takes_value, is_target: &target::is_target })
}

#[cfg(unix)]
fn request(args: &RunArgs, catalog: &str, work: Work) -> RunRequest {
    let given = &args.target.mount;
    let mount = MountRequest {
        io: given.io,
        keep_awake: given.keep_awake,
        read_only: given.read_only,
        fresh: given.fresh,
        keep: false,
        profile: match ProfileAt::from(given.profile.as_path()) {
            ProfileAt::Auto if args.watch.trace.is_some() => ProfileAt::Noted,
            profile => profile,
        },
        ..MountRequest::new(catalog, &args.target.space.name(), args.target.mode)
    };
    let is_watched = args.watch.trace.is_some() || args.watch.summary.is_some();
    let recording = is_watched.then(Arc::default);
    let Work { command, before, directory } = work;
    let (isolate, bytecode) = (given.isolate, !args.no_bytecode);
    RunRequest { mount, isolate, bytecode, command, before, directory, recording }
}

#[cfg(windows)]
fn request(args: &RunArgs, catalog: &str, work: Work) -> RunRequest {
    let mount = MountRequest::new(catalog, &args.target.space.name(), args.target.mode);
    let Work { command, before, directory } = work;
    RunRequest { mount, isolate: false, bytecode: !args.no_bytecode, command, before, directory }
}

/// Ends as the command did: by the same signal, so that loops in shells stop, or with its status.
pub fn end_as(status: ExitStatus) -> ExitCode {
    if cfg!(windows)
        && let Some(code) = status.code()
        && u8::try_from(code).is_err()
    {
        // `ExitCode` cannot hold it, for example after a crash. There is nothing left to clean up.
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
    fn failures_of_holofs_differ_from_those_of_commands() {
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
