//! `holofs mount`: the foreground part that starts a daemon and tells what it says, and the daemon itself.
//!
//! Where nothing can be mounted the space is materialized, unless `--mode` says otherwise: see [`super::rung`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::fs::fuse::Io;
use crate::fs::fuse::awake::KeepAwake;
use crate::store::index::Made;

use super::SpaceArgs;
use super::context::Context;
use super::daemon::{self, Launched};
use super::exit_code::{CANNOT_MOUNT, CannotMount};
use super::rung::{self, Mode, Refusal, Rung};
use super::serve::serve;

/// Arguments of `mount`.
#[derive(Debug, Clone, Args)]
pub struct MountArgs {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path
    pub catalog: String,
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Serve from this process until unmounted
    #[arg(long)]
    pub foreground: bool,
    /// Allow no change; a little faster, since nothing is ever asked twice
    #[arg(long)]
    pub read_only: bool,
    /// Let other users in; the kernel checks permissions
    #[arg(long)]
    pub allow_other: bool,
    /// Root mounts for this user: everything of the catalog belongs to it; others are let in, and the kernel checks permissions
    #[arg(long)]
    pub uid: Option<u32>,
    /// As --uid, for the group
    #[arg(long)]
    pub gid: Option<u32>,
    /// Let no program in it run
    #[arg(long = "noexec")]
    pub no_exec: bool,
    /// Drop what was written to the space before
    #[arg(long)]
    pub fresh: bool,
    /// What runs read first, to read it ahead of the next one: kept per catalog (auto), nowhere (off), or in a file
    #[arg(long, default_value = "auto", value_name = "auto|off|FILE")]
    pub profile: PathBuf,
    /// How the space appears
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    /// How files are read
    #[arg(long, value_enum, default_value = "no-open", env = "HOLOFS_IO")]
    pub io: Io,
    /// While requests come quickly, let no idle processor halt: where that makes each request slow, as in some virtual machines
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_KEEP_AWAKE")]
    pub keep_awake: KeepAwake,
    /// Refuse unless the space is at this path (internal)
    #[arg(long, hide = true)]
    pub at: Option<PathBuf>,
    /// In a namespace of this command's own
    #[arg(skip)]
    pub within: bool,
    /// This process is the background part (internal)
    #[arg(long, hide = true)]
    pub daemon: bool,
}

impl MountArgs {
    /// A writable mount in the background, that starts where the last one ended.
    pub fn new(catalog: &str, space: &SpaceArgs, mode: Mode) -> MountArgs {
        MountArgs {
            catalog: catalog.to_owned(),
            space: space.clone(),
            foreground: false,
            read_only: false,
            allow_other: false,
            uid: None,
            gid: None,
            no_exec: false,
            fresh: false,
            profile: PathBuf::from("auto"),
            mode,
            io: Io::NoOpen,
            keep_awake: KeepAwake::Auto,
            at: None,
            within: false,
            daemon: false,
        }
    }
}

/// What a mount reports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountReport {
    /// The mountpoint: the space.
    pub path: PathBuf,
    /// The space's label.
    pub label: String,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The blueprint.
    pub blueprint: String,
    /// The daemon; none if the space is plain files.
    pub pid: Option<u32>,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// How files are read; none if the space is plain files.
    pub io: Option<Io>,
    /// Why not in the way that was asked for.
    pub io_reason: Option<String>,
    /// How it was mounted.
    pub rung: Rung,
    /// Why not in a better way; empty if it was the best.
    pub reasons: Vec<Refusal>,
    /// Entries of the catalog's tree.
    pub entries: u64,
    /// `opened`, or `compiled` where the catalog was seen for the first time (or its index was damaged).
    pub index: String,
}

/// Mounts, in the background unless told otherwise.
pub fn main(context: &Context, args: &MountArgs) -> anyhow::Result<ExitCode> {
    if args.daemon {
        daemon::enter()?;
        return background(context, args).map(ExitCode::from);
    }
    refuse_for_others(args)?;
    if let Some(at) = &args.at {
        refuse_elsewhere(context, args, at)?;
    }
    let outcome = match args.foreground && args.mode != Mode::Materialize {
        true => in_foreground(context, args)?,
        false => appear(context, args)?.map(Some),
    };
    match outcome {
        Ok(None) => Ok(ExitCode::SUCCESS),
        Ok(Some(report)) => {
            context.report(&report, |report| report.path.display().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// Only root can give away what it mounts, and only a mount can show it so.
fn refuse_for_others(args: &MountArgs) -> anyhow::Result<()> {
    if args.uid.is_none() && args.gid.is_none() && !args.no_exec {
        return Ok(());
    }
    anyhow::ensure!(
        args.mode == Mode::Mount,
        "--uid, --gid and --noexec need --mode mount: files are as they are"
    );
    let given = args.uid.is_some() || args.gid.is_some();
    anyhow::ensure!(
        !given || crate::sys::process::is_root(),
        "Only root can mount for another user (--uid, --gid)"
    );
    Ok(())
}

/// A catalog decides where its spaces are: whoever names another place is told.
fn refuse_elsewhere(context: &Context, args: &MountArgs, at: &Path) -> anyhow::Result<()> {
    let (index, _, _) = context.index(&args.catalog)?;
    let root = context.space(index.base(), &args.space).root;
    anyhow::ensure!(root == at, "Space {:?} of this catalog is at {}", args.space.space, root.display());
    Ok(())
}

/// The background process, and its exit code: that nothing can be mounted is for who started it to deal with.
pub fn background(context: &Context, args: &MountArgs) -> anyhow::Result<u8> {
    let Err(error) = serve(context, args) else { return Ok(0) };
    let refused = error.downcast::<CannotMount>()?;
    context.report(&refused, ToString::to_string)?;
    Ok(CANNOT_MOUNT)
}

/// Serves from this process until unmounted; a report is left to be told only if the space was materialized.
fn in_foreground(
    context: &Context,
    args: &MountArgs,
) -> anyhow::Result<Result<Option<MountReport>, ExitCode>> {
    let Err(error) = serve(context, args) else { return Ok(Ok(None)) };
    let refused = error.downcast::<CannotMount>()?;
    let report = without_mount(context, args, refused)?;
    rung::tell(report.rung, &report.reasons);
    Ok(Ok(Some(report)))
}

/// Makes the space appear, by the highest rung that holds; the code is of a daemon that failed and said why.
pub fn appear(context: &Context, args: &MountArgs) -> anyhow::Result<Result<MountReport, ExitCode>> {
    let report = match args.mode {
        Mode::Materialize => materialized(context, args, Vec::new())?,
        Mode::Auto | Mode::Mount => match daemon::launch(context, args)? {
            Launched::Mounted(report) => *report,
            Launched::Refused(refused) => without_mount(context, args, refused)?,
            Launched::Failed(code) => return Ok(Err(code)),
        },
    };
    rung::tell(report.rung, &report.reasons);
    Ok(Ok(report))
}

/// The last rung, if it is allowed.
fn without_mount(context: &Context, args: &MountArgs, refused: CannotMount) -> anyhow::Result<MountReport> {
    if args.mode == Mode::Mount {
        return Err(refused.into());
    }
    materialized(context, args, refused.refused)
}

/// Lays the space out as files.
pub fn materialized(
    context: &Context,
    args: &MountArgs,
    reasons: Vec<Refusal>,
) -> anyhow::Result<MountReport> {
    let (index, made, catalog) = context.index(&args.catalog)?;
    let space = context.space(index.base(), &args.space);
    // What was written to a mounted space is in its upper, which plain files would neither show nor hold.
    if space.state_dir.join("state.db").exists() && !args.fresh {
        let refused = reasons;
        let what = format!(
            "{} (what was written to it shows in a mount only; --fresh leaves it out)",
            space.root.display()
        );
        return Err(CannotMount { what, refused }.into());
    }
    super::materialize::quietly(context, &args.catalog, &args.space)
        .with_context(|| format!("Cannot materialize (nor mount: {})", rung::told(&reasons)))?;
    Ok(MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: index.blueprint().to_owned(),
        pid: None,
        mode: "read-write".to_owned(),
        io: None,
        io_reason: None,
        rung: Rung::Materialize,
        reasons,
        entries: index.len(),
        index: told_of(&made),
    })
}

/// How the index came to be, in a word.
pub fn told_of(made: &Made) -> String {
    if *made == Made::Opened { "opened" } else { "compiled" }.to_owned()
}
