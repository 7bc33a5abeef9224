//! The commands about remotes.

use std::process::ExitCode;

#[cfg(unix)]
use anyhow::Context as _;
use clap::Subcommand;

use super::context::Context;
#[cfg(unix)]
use super::remotes::access;
use super::{pull, push, remote};
#[cfg(unix)]
use crate::remote::transport::{Access, Patience};

/// The commands about remotes.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum RemotesCommand {
    /// Send catalogs with their blobs to a registry, bucket or directory
    Push(push::PushArgs),
    /// Fetch a whole remote environment into the hololib
    Pull(pull::PullArgs),
    /// Inspect, verify or clean up a remote
    Remote(remote::RemoteArgs),
    /// Fetch content for a mount from the network, as requested on stdin
    #[cfg(unix)]
    #[command(hide = true)]
    Fetch,
}

/// Runs one of these commands.
pub fn main(context: &Context, command: &RemotesCommand) -> anyhow::Result<ExitCode> {
    match command {
        RemotesCommand::Push(args) => push::main(context, args),
        RemotesCommand::Pull(args) => pull::main(context, args),
        RemotesCommand::Remote(args) => remote::main(context, args),
        #[cfg(unix)]
        RemotesCommand::Fetch => fetch(context),
    }
}

/// Serves the connection on stdin until it is closed.
#[cfg(unix)]
fn fetch(context: &Context) -> anyhow::Result<ExitCode> {
    let line = std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned();
    let line = line.context("No connection to a daemon")?;
    let access = access(context, Patience::default())?;
    crate::remote::fetcher::serve(line.into(), |patience| Access { patience, ..access })?;
    Ok(ExitCode::SUCCESS)
}
