//! The command line: the only layer that reads the environment, prints, and decides exit codes.
//!
//! One file per command. What a command found out is one serializable report: `--json` prints it, people get a few lines
//! of it. Errors go to stderr, one line per cause, and end in the exit code of their class.

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
mod remote;
mod remotes;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod reset;
mod run;
mod run_words;
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

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::rcc::home::Product;
#[cfg(unix)]
use crate::session::prefetch;
use crate::session::request::SpaceName;

use context::Context;
use terminal::Color;

/// RCC environments that appear instead of being copied.
#[derive(Debug, Parser)]
#[command(name = "holofs", version, about, max_term_width = 80, after_help = topics::NAMED)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// How long content of a remote environment may take, in seconds, unless told otherwise.
const FETCH_SECONDS: u64 = 60;

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// Print the report as JSON on stdout
    #[arg(short = 'j', long, global = true)]
    json: bool,
    /// Believe nothing that is kept to save time: hash content each time it is opened, compile the catalog, use no bytecode of before
    #[arg(long, global = true, env = "HOLOFS_PARANOID", value_parser = clap::builder::FalseyValueParser::new())]
    paranoid: bool,
    /// Say more (-v: info, -vv: debug, -vvv: every operation)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How the log is written, those of mounted spaces, too
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        env = "HOLOFS_LOG_FORMAT"
    )]
    log_format: terminal::LogFormat,
    /// Print nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Whether to color errors and help; auto: on a terminal, unless NO_COLOR is set
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        env = "HOLOFS_COLOR"
    )]
    color: Color,
    /// Show no progress
    #[arg(long, global = true)]
    no_progress: bool,
    /// What the variable and the configuration say of progress
    #[arg(long, global = true, hide = true, default_value = "true", env = "HOLOFS_PROGRESS", action = clap::ArgAction::Set)]
    progress: bool,
    /// Most bytes of inflated content to keep
    #[arg(long, global = true, hide = true, env = "HOLOFS_RAW_SIZE", value_parser = table::parse_bytes)]
    raw_size: Option<u64>,
    /// Wait at most this long for a lock that RCC or another holofs holds (0: do not wait)
    #[arg(long, global = true, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Use no network: of a remote environment only what is on this machine
    #[arg(long, global = true, env = "HOLOFS_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    offline: bool,
    /// How long content of a remote environment may take before its reader gets an error
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = FETCH_SECONDS, env = "HOLOFS_FETCH_TIMEOUT")]
    fetch_timeout: u64,
    /// Use the home of Sema4.ai's product: $SEMA4AI_HOME, else ~/.sema4ai
    #[arg(long, global = true, conflicts_with = "robocorp")]
    sema4ai: bool,
    /// Use the home of Robocorp's product: $ROBOCORP_HOME, else ~/.robocorp
    #[arg(long, global = true)]
    robocorp: bool,
}

impl Global {
    /// The product that is named, if one is.
    fn product(&self) -> Option<Product> {
        match (self.sema4ai, self.robocorp) {
            (true, _) => Some(Product::Sema4ai),
            (_, true) => Some(Product::Robocorp),
            _ => None,
        }
    }
}

/// A space, as `rcc --space` and `--controller` name it.
#[derive(Debug, Clone, Args)]
struct SpaceArgs {
    /// The space's name
    #[arg(value_parser = context::parse_space)]
    space: String,
    /// Who the space belongs to
    #[arg(long, default_value = "user", value_parser = context::parse_controller)]
    controller: String,
}

/// A space that appears: named where it stands or by `--space`, RCC's usual one if it is not named.
#[derive(Debug, Clone, Args)]
struct SpaceChoice {
    /// The space's name (default: user)
    #[arg(value_parser = context::parse_space, conflicts_with = "named")]
    space: Option<String>,
    /// The space's name; auto: one of its own, for work that runs side by side
    #[arg(short = 's', long = "space", id = "named", value_name = "SPACE", value_parser = context::parse_space)]
    named: Option<String>,
    /// Who the space belongs to
    #[arg(long, default_value = "user", value_parser = context::parse_controller)]
    controller: String,
}

impl SpaceChoice {
    /// The space that is meant.
    fn name(&self) -> SpaceName {
        let space = match &self.named {
            Some(_) if self.is_auto() => auto_name(),
            Some(name) => name.clone(),
            None => self.space.clone().unwrap_or_else(|| "user".to_owned()),
        };
        SpaceName { space, controller: self.controller.clone() }
    }

    /// True for a space that is this command's alone.
    fn is_auto(&self) -> bool {
        self.named.as_deref() == Some("auto")
    }
}

/// A name that no other process takes.
fn auto_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("auto-{}-{}", std::process::id(), now.as_nanos())
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a catalog as a live space, without copying it
    Mount(mount::MountArgs),
    /// Lay a catalog out as files, where there is no mount
    Materialize(materialize::MaterializeArgs),
    #[cfg(unix)]
    /// Take a mounted space away
    #[command(alias = "umount")]
    Unmount(unmount::UnmountArgs),
    #[cfg(unix)]
    /// Show what a mounted space was asked for, by kind of request
    Stats(stats::StatsArgs),
    #[cfg(unix)]
    /// Show what was written to a space: A added, C changed, R removed, M mode or owner
    Diff(diff::DiffArgs),
    #[cfg(unix)]
    /// Drop what was written to a space, or to some paths of it
    Reset(reset::ResetArgs),
    #[cfg(unix)]
    /// Show the bytes that a space has for itself
    Du(du::DuArgs),
    #[command(flatten)]
    Environment(environment::EnvironmentCommand),
    /// Put a finished directory into the hololib, as RCC does with what it built
    Record(record::RecordArgs),
    /// Inflate all of a catalog, so that no first run waits for it
    Warm(warm::WarmArgs),
    /// Run a command in a space
    Run(run::RunArgs),
    #[command(flatten)]
    Interactive(interactive::InteractiveCommand),
    /// Print what a shell needs to work in a space: eval "$(holofs variables …)"
    #[command(alias = "vars")]
    Variables(activate::VariablesArgs),
    /// RCC's own commands with RCC's options: what `rcc holotree` is called with
    #[command(alias = "ht")]
    Holotree(holotree::HolotreeArgs),
    /// List the catalogs of the hololib
    Catalogs(catalogs::CatalogsArgs),
    /// List the spaces, and what each one is right now
    #[command(alias = "ls")]
    List(list::ListArgs),
    /// Print the blueprint hash of a conda.yaml
    Hash(hash::HashArgs),
    /// Write catalogs with their blobs into a hololib.zip
    Export(export::ExportArgs),
    /// Take a hololib.zip into the hololib, every blob verified
    Import(import::ImportArgs),
    #[command(flatten)]
    Remotes(remotes::RemotesCommand),
    /// Verify every blob, raw entry and catalog
    #[command(alias = "chk")]
    Check(check::CheckArgs),
    /// Delete a space, and what was written to it
    #[command(alias = "del")]
    Delete(delete::DeleteArgs),
    /// Remove catalogs; their blobs and spaces stay
    #[command(alias = "rm")]
    Remove(delete::RemoveArgs),
    /// Remove what nothing uses
    Gc(gc::GcArgs),
    /// Try for real in which ways a space can appear here, and tell what would help
    Doctor(doctor::DoctorArgs),
    #[cfg(unix)]
    /// The mount(8) helper, as `mount -t holofs` calls it
    #[command(name = "mount.holofs", hide = true)]
    MountHolofs(mount_holofs::MountHolofsArgs),
    #[cfg(unix)]
    /// The process that reads ahead in a mount, told by stdin what
    #[command(hide = true)]
    Prime,
    #[cfg(unix)]
    /// The process that serves a mount, told by stdin which
    #[command(hide = true)]
    Serve,
    #[cfg(unix)]
    /// The process that deletes what materialize set aside
    #[command(hide = true)]
    Sweep(sweep::SweepArgs),
    /// What is about mounts: there are none here
    #[cfg(windows)]
    #[command(name = "unmount", visible_aliases = ["umount", "stats", "diff", "reset", "du"])]
    NoMounts(mount::NoMountsArgs),
}

impl SpaceArgs {
    fn name(&self) -> SpaceName {
        SpaceName { space: self.space.clone(), controller: self.controller.clone() }
    }
}

/// The command line, unless it is one of RCC's, which ends here.
fn parse(words: Vec<std::ffi::OsString>) -> Result<Cli, ExitCode> {
    if holotree::called_so(&words) {
        return Err(holotree::main(&words));
    }
    if let Some(printed) = topics::asked_for(&words) {
        return Err(printed.map_or_else(|error| exit_code::fail(&error, false), |()| ExitCode::SUCCESS));
    }
    // What the file says wrongly is told to who runs a command, not to who asks for help.
    let config = config::load().unwrap_or_else(|_| config::current());
    let usual = std::env::var("HOLOFS_COLOR").ok().or_else(|| config.variable("HOLOFS_COLOR"));
    let color = Color::of_words(&words, usual.as_deref());
    let command = config.applied(command()).color(color.of_help());
    let matches = command.try_get_matches_from(run::with_separator(words));
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = cli.map_err(|error| misuse::usage(&error))?;
    match config::load() {
        Ok(_) => Ok(cli),
        Err(error) => Err(misuse::not_begun(exit_code::fail_as(&error, cli.global.json, exit_code::USAGE))),
    }
}

/// The command line, each command with its examples.
fn command() -> clap::Command {
    examples::added(Cli::command())
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    #[cfg(unix)]
    if let Some(words) = mount_holofs::called_so() {
        return mount_holofs::main(&words);
    }
    let cli = match parse(std::env::args_os().collect()) {
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
        Command::Run(args) => return run::main(&context, &args),
        Command::Interactive(command) => interactive::main(&context, &command),
        Command::Variables(args) => activate::main(&context, &args),
        Command::Holotree(args) => return holotree::of_rest(&args.words),
        Command::Catalogs(args) => catalogs::main(&context, &args),
        Command::List(args) => list::main(&context, &args),
        Command::Hash(args) => hash::main(&context, &args),
        Command::Export(args) => export::main(&context, &args),
        Command::Import(args) => import::main(&context, &args),
        Command::Remotes(command) => remotes::main(&context, &command),
        Command::Check(args) => check::main(&context, &args),
        Command::Delete(args) => delete::space(&context, &args),
        Command::Remove(args) => delete::catalogs(&context, &args),
        Command::Gc(args) => gc::main(&context, &args),
        Command::Doctor(args) => doctor::main(&context, &args),
        #[cfg(unix)]
        Command::MountHolofs(args) => return mount_holofs::main(&args.words),
        #[cfg(unix)]
        Command::Prime => prefetch::main().map(|()| ExitCode::SUCCESS),
        #[cfg(unix)]
        Command::Serve => mount::serve_in_background(),
        #[cfg(unix)]
        Command::Sweep(args) => sweep::main(&args),
        #[cfg(windows)]
        Command::NoMounts(args) => mount::no_mounts(&args),
    };
    let code = outcome.unwrap_or_else(|error| exit_code::fail(&error, context.json));
    log::logger().flush();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
