//! The command line: the only layer that reads the environment, prints, and decides exit codes.
//!
//! One file per command. The result of a command is one serializable report: `--json` prints it, otherwise a few lines of it are
//! printed. Errors go to stderr, one line per cause, and end in the exit code of their class.

mod activate;
mod build;
mod bundle;
mod catalogs;
mod check;
#[cfg(unix)]
mod commit;
mod complete;
mod config;
mod context;
mod definition;
mod delete;
#[cfg(unix)]
mod df;
#[cfg(unix)]
mod diff;
mod doctor;
#[cfg(unix)]
mod du;
mod environment;
mod examples;
mod exit_code;
#[cfg(unix)]
mod explain;
mod export;
mod gc;
mod hash;
mod holotree;
mod hook;
mod import;
#[cfg(unix)]
mod info;
#[cfg(unix)]
mod inspected;
mod interactive;
mod kernel;
mod list;
#[cfg(unix)]
mod logs;
#[cfg(unix)]
mod long;
mod manual;
mod materialize;
#[cfg(unix)]
mod metrics;
mod misuse;
#[cfg_attr(windows, path = "cli/windows/mount.rs")]
mod mount;
#[cfg(unix)]
mod mount_holofs;
mod progress;
mod pull;
mod push;
mod record;
#[cfg(unix)]
mod recorded;
mod remote;
mod remote_commands;
mod remotes;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod reset;
#[cfg(unix)]
mod restart;
mod run;
mod run_words;
#[cfg(unix)]
mod serve;
mod settled;
mod shell;
#[cfg(unix)]
mod stats;
#[cfg(unix)]
mod summary;
#[cfg(unix)]
mod sweep;
mod table;
mod target;
mod task;
mod terminal;
#[cfg(unix)]
mod top;
mod topics;
#[cfg(unix)]
mod trace;
#[cfg(unix)]
mod unmount;
#[cfg(unix)]
mod verify;
mod warm;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::rcc::home::Product;
use crate::session::request::SpaceName;
#[cfg(unix)]
use crate::session::serve::prefetch;

use context::Context;
use terminal::Color;

/// Mount RCC environments instead of copying them.
#[derive(Debug, Parser)]
#[command(name = "holofs", version, about, max_term_width = 80, after_help = topics::NAMED)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// The default timeout for content of a remote environment, in seconds.
const FETCH_SECONDS: u64 = 60;

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// Print the report as JSON on stdout
    #[arg(short = 'j', long, global = true)]
    json: bool,
    /// Do not trust caches: hash content at each open, compile the catalog again, ignore existing bytecode
    #[arg(long, global = true, env = "HOLOFS_PARANOID", default_value = config::given("HOLOFS_PARANOID"), value_parser = clap::builder::FalseyValueParser::new())]
    paranoid: bool,
    /// Increase verbosity (-v: info, -vv: debug, -vvv: every operation)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Format of the log, also of mounted spaces
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        env = "HOLOFS_LOG_FORMAT"
    )]
    log_format: terminal::LogFormat,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Whether to color errors and help; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = config::usual("HOLOFS_COLOR"),
        env = "HOLOFS_COLOR"
    )]
    color: Color,
    /// Show no progress
    #[arg(long, global = true)]
    no_progress: bool,
    /// The setting of progress in the variable or the configuration
    #[arg(long, global = true, hide = true, default_value = config::usual("HOLOFS_PROGRESS"), env = "HOLOFS_PROGRESS", action = clap::ArgAction::Set)]
    progress: bool,
    /// Maximum size of inflated content to keep
    #[arg(long, global = true, hide = true, env = "HOLOFS_RAW_SIZE", default_value = config::given("HOLOFS_RAW_SIZE"), value_parser = table::parse_bytes)]
    raw_size: Option<u64>,
    /// Maximum time to wait for a lock held by RCC or another holofs (0: do not wait)
    #[arg(long, global = true, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Do not use the network: of a remote environment, use only what is on this machine
    #[arg(long, global = true, env = "HOLOFS_OFFLINE", default_value = config::given("HOLOFS_OFFLINE"), value_parser = clap::builder::FalseyValueParser::new())]
    offline: bool,
    /// Timeout for content of a remote environment, after which its reader gets an error
    #[arg(long, global = true, value_name = "SECONDS", default_value = config::usual("HOLOFS_FETCH_TIMEOUT"), env = "HOLOFS_FETCH_TIMEOUT")]
    fetch_timeout: u64,
    /// Use the home of Sema4.ai's product: $SEMA4AI_HOME, otherwise ~/.sema4ai
    #[arg(long, global = true, conflicts_with = "robocorp")]
    sema4ai: bool,
    /// Use the home of Robocorp's product: $ROBOCORP_HOME, otherwise ~/.robocorp
    #[arg(long, global = true)]
    robocorp: bool,
}

impl Global {
    /// The product selected by an option, if any.
    fn product(&self) -> Option<Product> {
        match (self.sema4ai, self.robocorp) {
            (true, _) => Some(Product::Sema4ai),
            (_, true) => Some(Product::Robocorp),
            _ => None,
        }
    }
}

/// A space, as named by `rcc --space` and `--controller`.
#[derive(Debug, Clone, Args)]
struct SpaceArgs {
    /// Name of the space
    #[arg(value_parser = context::parse_space)]
    space: String,
    /// Controller that the space belongs to
    #[arg(long, default_value = "user", value_parser = context::parse_controller)]
    controller: String,
}

/// A space to appear: given as an argument or by `--space`; by default RCC's default space.
#[derive(Debug, Clone, Args)]
struct SpaceChoice {
    /// Name of the space (default: user)
    #[arg(value_parser = context::parse_space, conflicts_with = "named")]
    space: Option<String>,
    /// Name of the space; auto: a new one, for parallel work
    #[arg(short = 's', long = "space", id = "named", value_name = "SPACE", value_parser = context::parse_space)]
    named: Option<String>,
    /// Controller that the space belongs to
    #[arg(long, default_value = "user", value_parser = context::parse_controller)]
    controller: String,
}

impl SpaceChoice {
    /// The name of the chosen space.
    fn name(&self) -> SpaceName {
        let space = match &self.named {
            Some(_) if self.is_auto() => auto_name().to_owned(),
            Some(name) => name.clone(),
            None => self.space.clone().unwrap_or_else(|| "user".to_owned()),
        };
        SpaceName { space, controller: self.controller.clone() }
    }

    /// True for a space used only by this command.
    fn is_auto(&self) -> bool {
        self.named.as_deref() == Some("auto")
    }
}

/// The name of this process's own space, which no other process uses.
fn auto_name() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("auto-{}-{}", std::process::id(), now.as_nanos())
    })
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Mount a catalog as a space, without copying it
    Mount(mount::MountArgs),
    /// Lay out a catalog as files, where it cannot be mounted
    Materialize(materialize::MaterializeArgs),
    #[cfg(unix)]
    /// Unmount a space
    #[command(alias = "umount")]
    Unmount(unmount::UnmountArgs),
    #[cfg(unix)]
    /// Show request counters of a mounted space
    Stats(stats::StatsArgs),
    #[cfg(unix)]
    /// Show the changes in a space: A added, C changed, R removed, M mode or owner
    Diff(diff::DiffArgs),
    #[cfg(unix)]
    /// Drop the changes in a space, or in some of its paths
    Reset(reset::ResetArgs),
    #[cfg(unix)]
    /// Show how many bytes belong only to a space
    Du(du::DuArgs),
    #[command(flatten)]
    Environment(environment::EnvironmentCommand),
    /// Record a finished directory in the hololib, as RCC does after a build
    Record(record::RecordArgs),
    /// Inflate a whole catalog in advance, to speed up its first run
    Warm(warm::WarmArgs),
    /// Run a command in a space; without one, the task of a robot.yaml or a shell
    Run(run::RunArgs),
    #[command(flatten)]
    Interactive(interactive::InteractiveCommand),
    /// Print the variables that a shell needs to work in a space: eval "$(holofs variables …)"
    #[command(alias = "vars")]
    Variables(activate::VariablesArgs),
    /// Run one of RCC's own commands, with RCC's options: replaces `rcc holotree`
    #[command(alias = "ht")]
    Holotree(holotree::HolotreeArgs),
    /// List the catalogs of the hololib
    Catalogs(catalogs::CatalogsArgs),
    /// List the spaces and their current states
    #[command(alias = "ls")]
    List(list::ListArgs),
    /// Print the blueprint hash of a conda.yaml
    Hash(hash::HashArgs),
    /// Write catalogs with their blobs into a hololib.zip
    Export(export::ExportArgs),
    /// Import a hololib.zip into the hololib, and verify every blob
    Import(import::ImportArgs),
    #[command(flatten)]
    Remotes(remote_commands::RemotesCommand),
    /// Verify every blob, raw entry and catalog
    #[command(alias = "chk")]
    Check(check::CheckArgs),
    /// Delete a space and its changes
    #[command(alias = "del")]
    Delete(delete::DeleteArgs),
    /// Remove catalogs; keep their blobs and spaces
    #[command(alias = "rm")]
    Remove(delete::RemoveArgs),
    /// Remove unused data
    Gc(gc::GcArgs),
    /// Test every way to mount or to place files on this machine, and print what would help
    Doctor(doctor::DoctorArgs),
    #[cfg(unix)]
    /// Mount as the mount(8) helper, called by `mount -t holofs`
    #[command(name = "mount.holofs", hide = true)]
    MountHolofs(mount_holofs::MountHolofsArgs),
    #[cfg(unix)]
    /// Read ahead in a mount, controlled by stdin
    #[command(hide = true)]
    Prime,
    #[cfg(unix)]
    /// Serve the hololib to official RCC clients, until interrupted
    Serve(serve::ServeArgs),
    #[cfg(unix)]
    /// Delete what materialize set aside
    #[command(hide = true)]
    Sweep(sweep::SweepArgs),
    /// Report that there are no mounts here
    #[cfg(windows)]
    #[command(name = "unmount", visible_aliases = ["umount", "stats", "diff", "reset", "du"])]
    NoMounts(mount::NoMountsArgs),
}

#[cfg(unix)]
impl SpaceArgs {
    fn name(&self) -> SpaceName {
        SpaceName { space: self.space.clone(), controller: self.controller.clone() }
    }
}

/// The parsed command line; RCC commands and help topics are handled here instead, and their exit code is returned.
fn parse(words: Vec<std::ffi::OsString>) -> Result<Cli, ExitCode> {
    if holotree::called_so(&words) {
        return Err(holotree::main(&words));
    }
    if let Some(printed) = topics::requested(&words) {
        return Err(printed.map_or_else(|error| exit_code::fail(&error, false), |()| ExitCode::SUCCESS));
    }
    // Errors in the file are reported by commands, but not by help.
    let config = config::load();
    let cli = definition::parsed(words).map_err(|error| misuse::usage(&error))?;
    match config {
        Ok(_) => Ok(cli),
        Err(error) => Err(misuse::not_begun(exit_code::fail_as(&error, cli.global.json, exit_code::USAGE))),
    }
}

/// Runs the command in this process's arguments.
pub fn main() -> ExitCode {
    #[cfg(unix)]
    if let Some(words) = mount_holofs::called_so() {
        return mount_holofs::main(&words);
    }
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    #[cfg(unix)]
    if serve::is_behind_mount(&words) {
        return ended(mount::serve_in_background(), false);
    }
    let cli = match parse(words) {
        Ok(cli) => cli,
        Err(ended) => return ended,
    };
    let context = match Context::new(&cli.global) {
        Ok(context) => context,
        Err(error) => return misuse::not_begun(exit_code::fail(&error, cli.global.json)),
    };
    let outcome = match cli.command {
        Command::Mount(args) => mount::main(&context, &args),
        Command::Materialize(args) => materialize::main(&context, &args),
        #[cfg(unix)]
        Command::Unmount(args) => unmount::main(&context, &args),
        #[cfg(unix)]
        Command::Diff(args) => diff::main(&context, &args),
        #[cfg(unix)]
        Command::Reset(args) => reset::main(&context, &args),
        #[cfg(unix)]
        Command::Du(args) => du::main(&context, &args),
        Command::Environment(command) => environment::main(&context, &command),
        Command::Record(args) => record::main(&context, &args),
        Command::Warm(args) => warm::main(&context, &args),
        #[cfg(unix)]
        Command::Stats(args) => stats::main(&context, &args),
        Command::Run(args) => return interactive::run(&context, &args),
        Command::Interactive(command) => interactive::main(&context, &command),
        Command::Variables(args) => activate::main(&context, &args),
        Command::Holotree(args) => return holotree::of_rest(&args.words),
        Command::Catalogs(args) => catalogs::main(&context, &args),
        Command::List(args) => list::main(&context, &args),
        Command::Hash(args) => hash::main(&context, &args),
        Command::Export(args) => export::main(&context, &args),
        Command::Import(args) => import::main(&context, &args),
        Command::Remotes(command) => remote_commands::main(&context, &command),
        Command::Check(args) => check::main(&context, &args),
        Command::Delete(args) => delete::space(&context, &args),
        Command::Remove(args) => delete::catalogs(&context, &args),
        Command::Gc(args) => gc::main(&context, &args),
        Command::Doctor(args) => doctor::main(&context, &args),
        #[cfg(unix)]
        Command::MountHolofs(args) => return mount_holofs::main(&args.words),
        #[cfg(unix)]
        Command::Prime => prefetch::main().map(|()| ExitCode::SUCCESS).map_err(Into::into),
        #[cfg(unix)]
        Command::Serve(args) => serve::main(&context, &args),
        #[cfg(unix)]
        Command::Sweep(args) => sweep::main(&args),
        #[cfg(windows)]
        Command::NoMounts(args) => mount::no_mounts(&args),
    };
    ended(outcome, context.json)
}

fn ended(outcome: anyhow::Result<ExitCode>, json: bool) -> ExitCode {
    let code = outcome.unwrap_or_else(|error| exit_code::fail(&error, json));
    log::logger().flush();
    code
}
