//! The command line: the only layer that reads the environment, prints, and decides exit codes.
//!
//! One file per command. What a command found out is one serializable report: `--json` prints it, people get a few lines
//! of it. Errors go to stderr, one line per cause, and end in the exit code of their class.

mod context;
mod daemon;
mod exit_code;
mod materialize;
mod mount;
mod progress;
mod record;
mod run;
mod unmount;
mod variables;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use context::Context;

/// RCC environments that appear instead of being copied.
#[derive(Debug, Parser)]
#[command(name = "holofs", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// Print the report as JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Say more (-v: info, -vv: debug, -vvv: every operation)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Wait at most this long for a lock that RCC or another holofs holds (0: do not wait)
    #[arg(long, global = true, value_name = "SECONDS")]
    wait: Option<u64>,
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

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a catalog as a live space, without copying it
    Mount(mount::MountArgs),
    /// Lay a catalog out as files, where there is no mount
    Materialize(materialize::MaterializeArgs),
    /// Take a mounted space away
    #[command(alias = "umount")]
    Unmount(unmount::UnmountArgs),
    /// Put a finished directory into the hololib, as RCC does with what it built
    Record(record::RecordArgs),
    /// Run a command in a space
    Run(run::RunArgs),
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = match Context::new(&cli.global) {
        Ok(context) => context,
        Err(error) => return exit_code::fail(&error),
    };
    let outcome = match cli.command {
        Command::Mount(args) => mount::main(&context, &args),
        Command::Materialize(args) => materialize::main(&context, &args),
        Command::Unmount(args) => unmount::main(&context, &args),
        Command::Record(args) => record::main(&context, &args),
        Command::Run(args) => run::main(&context, &args),
    };
    outcome.unwrap_or_else(|error| exit_code::fail(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
