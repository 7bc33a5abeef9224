//! Commands for people at a prompt: a shell in a space, a hook for their own shell, a kernel for their notebooks.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::context::Context;
use super::{hook, kernel, shell};

/// They stand in one list with the others.
#[derive(Debug, Subcommand)]
pub enum InteractiveCommand {
    /// Work in a space: your own shell, with the space's name in its prompt, until you leave it
    Shell(Box<shell::ShellArgs>),
    /// Print what makes a shell enter and leave environments as you change directories
    Hook(hook::HookArgs),
    /// Let the hook enter the environment of a directory
    Allow(hook::AllowArgs),
    /// Keep the hook from entering the environment of a directory
    Deny(hook::DenyArgs),
    /// Offer an environment to Jupyter
    Kernel(kernel::KernelArgs),
}

/// Runs one of them; the end of a shell is ours.
pub fn main(context: &Context, command: &InteractiveCommand) -> anyhow::Result<ExitCode> {
    match command {
        InteractiveCommand::Shell(args) => shell::main(context, args),
        InteractiveCommand::Hook(args) => hook::main(context, args),
        InteractiveCommand::Allow(args) => hook::allow(context, args),
        InteractiveCommand::Deny(args) => hook::deny(context, args),
        InteractiveCommand::Kernel(args) => kernel::main(context, args),
    }
}

/// The user's directory for our own configuration.
pub fn config_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = || set("HOME").map(|home| home.join(".config"));
    let base = if cfg!(windows) { set("APPDATA") } else { set("XDG_CONFIG_HOME").or_else(user) };
    Ok(base
        .context("There is no directory for configuration: neither XDG_CONFIG_HOME nor HOME is set")?
        .join("holofs"))
}
