//! `holofs mount`: makes a space appear, and prints its path.
//!
//! If nothing can be mounted the space is materialized, unless `--mode` excludes that: see [`crate::session::method`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::fs::fuse::Io;
use crate::fs::fuse::awake::KeepAwake;
use crate::session::appear::{self, appear};
use crate::session::error::{CannotMount, SessionError};
use crate::session::method::Mode;
use crate::session::obtain::ready_to_serve;
use crate::session::report::MountReport;
use crate::session::request::{MountRequest, Order, ProfileAt};
use crate::session::serve::{serve, succeed as succeed_with, take_over};
use crate::session::supervise::{self, Server, Terminal};
use crate::session::{background, daemon};

use super::SpaceChoice;
use super::config;
use super::context::{Context, say_method};
use super::exit_code;
use super::remotes::{self, RemoteUseArgs};
use super::target;

/// Arguments of `mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// A conda.yaml, package.yaml, robot.yaml or a directory with one (default: .); or a catalog: hash, prefix, file name, path
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    #[command(flatten)]
    pub space: SpaceChoice,
    /// Serve from this process until unmounted
    #[arg(long)]
    pub foreground: bool,
    /// Mount read-only; slightly faster, because access times are never re-read
    #[arg(long)]
    pub read_only: bool,
    /// Allow access by other users; the kernel checks permissions
    #[arg(long)]
    pub allow_other: bool,
    /// Owner of all catalog files (as root); allows other users, and the kernel checks permissions
    #[arg(long)]
    pub uid: Option<u32>,
    /// Group of all catalog files, like --uid
    #[arg(long)]
    pub gid: Option<u32>,
    /// Do not allow execution of programs
    #[arg(long = "noexec")]
    pub no_exec: bool,
    /// Drop earlier changes in the space
    #[arg(long)]
    pub fresh: bool,
    /// Profile for readahead: one per catalog (auto), none (off), or a file
    #[arg(long, default_value = "auto", value_name = "auto|off|FILE")]
    pub profile: PathBuf,
    /// Method to provide the space
    #[arg(long, value_enum, default_value = config::usual("HOLOFS_MODE"), env = "HOLOFS_MODE")]
    pub mode: Mode,
    /// How to read files (default: no-open)
    #[arg(long, value_enum, default_value = config::given("HOLOFS_IO"), env = "HOLOFS_IO")]
    pub io: Option<Io>,
    /// Keep idle processors awake during bursts of requests: faster on some virtual machines
    #[arg(long, value_enum, default_value = config::usual("HOLOFS_KEEP_AWAKE"), env = "HOLOFS_KEEP_AWAKE")]
    pub keep_awake: KeepAwake,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
}

impl MountArgs {
    /// The request for this catalog.
    pub fn request(&self, catalog: &str) -> MountRequest {
        MountRequest {
            read_only: self.read_only,
            allow_other: self.allow_other,
            uid: self.uid,
            gid: self.gid,
            no_exec: self.no_exec,
            fresh: self.fresh,
            profile: ProfileAt::from(self.profile.as_path()),
            io: self.io,
            keep_awake: self.keep_awake,
            ..MountRequest::new(catalog, &self.space.name(), self.mode)
        }
    }
}

/// Mounts, in the background unless `--foreground` is given.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    let find = || target::of_word(context, args.catalog.as_deref());
    let named = remotes::or_pulled(context, &args.remote, find)?.catalog;
    let catalog = remotes::local(context, &named, &args.remote)?;
    let request = args.request(&catalog);
    if args.foreground && args.mode != Mode::Materialize {
        return in_foreground(context, &request);
    }
    show(context, &appear(context, &request)?)?;
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, report: &MountReport) -> anyhow::Result<()> {
    say_method(report.method, &report.reasons);
    tell(context, report)
}

fn tell(context: &Context, report: &MountReport) -> anyhow::Result<()> {
    context.report(report, |report| report.path.display().to_string())
}

/// Serves in this process until unmounted.
fn in_foreground(context: &Context, request: &MountRequest) -> anyhow::Result<ExitCode> {
    request.check()?;
    let work = |server: &Server<'_>| {
        let Err(error) = serve_in_foreground(context, request, server) else { return 0 };
        exit_code::fail(&error, context.json);
        i32::from(exit_code::code(error.as_ref()))
    };
    let order = Order { request: request.clone(), given: context.given.clone() };
    Ok(exit_code::of(supervise::run(Terminal::Kept, order, work)?))
}

/// The work of the server of a foreground mount, which may fall back to files.
fn serve_in_foreground(context: &Context, request: &MountRequest, server: &Server<'_>) -> anyhow::Result<()> {
    if let Some(held) = server.held() {
        return Ok(take_over(context, request, server, held)?);
    }
    let start = ready_to_serve(context, request)?;
    let ready = |report: &MountReport, _: &_| {
        drop(start);
        show(context, report).map_err(SessionError::front)
    };
    let Err(error) = serve(context, request, server, None, ready) else { return Ok(()) };
    let Some(refused) = error.find::<CannotMount>().cloned() else { return Err(error.into()) };
    show(context, &appear::without_mount(context, request, refused)?)
}

/// The installed program, started by the supervisor of a mount to serve it from now on.
pub fn succeed() -> anyhow::Result<ExitCode> {
    succeed_with(|order| Ok((*Context::of_order(order).map_err(SessionError::front)?).clone()))?;
    Ok(ExitCode::SUCCESS)
}

/// The process that serves a mount: reads the request from stdin, and answers on stdout.
pub fn serve_in_background() -> anyhow::Result<ExitCode> {
    background::enter()?;
    let order = daemon::order()?;
    let context = Context::of_order(&order)?;
    let code = daemon::run(&context, &order.request, true)?;
    Ok(exit_code::of(code))
}
