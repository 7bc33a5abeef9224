//! `holofs serve`: serves the hololib to official RCC clients, until it is interrupted. Without `--rccremote` it is the process behind a
//! mount, which another holofs starts.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::remote::rccremote::server::Server;
use crate::sys::process::signals;

use super::context::Context;
use super::{mount, terminal};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port, for example 127.0.0.1:4653; without TLS
    #[arg(long, value_name = "ADDR")]
    pub rccremote: Option<SocketAddr>,
}

/// True for the command line of the process behind a mount. Its options come with its request: those of a command line, parsed first,
/// would take effect instead of them.
pub fn is_behind_mount(words: &[OsString]) -> bool {
    matches!(words, [_, word] if word == "serve")
}

/// Serves.
pub fn main(context: &Context, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let Some(address) = args.rccremote else { return mount::serve_in_background() };
    let stop = signals::interruption().context("Cannot handle signals")?;
    let listener = TcpListener::bind(address).with_context(|| format!("Cannot listen on {address}"))?;
    let address = listener.local_addr().context("Cannot find the address it listens on")?;
    let authorization = std::env::var("HOLOFS_SERVE_AUTHORIZATION").ok().filter(|value| !value.is_empty());
    let who = if authorization.is_some() { "with authorization" } else { "to everyone who can reach it" };
    terminal::tell("holofs", &format!("serving http://{address}, {who}"));
    Server::new(context.home.clone(), authorization).serve(listener, &stop).context("Cannot serve")?;
    Ok(ExitCode::SUCCESS)
}
