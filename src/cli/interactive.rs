//! Interactive commands: a shell in a space, a hook for the user's shell, a kernel for notebooks.

use std::process::ExitCode;

use clap::Subcommand;

use super::context::Context;
use super::run::{self, RunArgs};
use super::{hook, kernel, shell};

/// Listed together with the other commands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum InteractiveCommand {
    /// Start a shell in a space, with the space's name in its prompt
    Shell(Box<shell::ShellArgs>),
    /// Print a hook that makes a shell enter and leave environments as you change directories
    Hook(hook::HookArgs),
    /// Allow the hook to enter the environment of a directory
    Allow(hook::AllowArgs),
    /// Forbid the hook to enter the environment of a directory
    Deny(hook::DenyArgs),
    /// Manage Jupyter kernels for environments
    Kernel(kernel::KernelArgs),
}

/// Runs `run`, which is `shell` without a command to run.
pub fn run(context: &Context, args: &RunArgs) -> ExitCode {
    match args.is_bare() {
        true => run::report(context, shell::end(context, args, None)),
        false => run::main(context, args),
    }
}

/// Runs one of these commands; the status of a shell is ours.
pub fn main(context: &Context, command: &InteractiveCommand) -> anyhow::Result<ExitCode> {
    match command {
        InteractiveCommand::Shell(args) => shell::main(context, args),
        InteractiveCommand::Hook(args) => hook::main(context, args),
        InteractiveCommand::Allow(args) => hook::allow(context, args),
        InteractiveCommand::Deny(args) => hook::deny(context, args),
        InteractiveCommand::Kernel(args) => kernel::main(context, args),
    }
}
