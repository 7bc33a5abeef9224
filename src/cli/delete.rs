//! `holofs delete` and `holofs remove`: delete a space with everything that belongs to it; remove a catalog.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::session::error::{NotAmong, NotFound};
use crate::space::maintain::delete::{self, DeleteError};
use crate::space::{Space, inventory};

use super::SpaceArgs;
use super::context::{Context, say_waiting};

/// Deletes a space, after waiting for a server whose mount is gone; returns what was removed.
pub fn left_space(context: &Context, space: &Space) -> Result<Vec<PathBuf>, DeleteError> {
    #[cfg(unix)]
    crate::session::left::wait_until_left(context, space);
    delete::delete_space(space, context.wait, &say_waiting)
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Space: its name (with --controller), its label, or its directory
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Only list what would be deleted
    #[arg(short, long)]
    pub dry_run: bool,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Catalogs: hashes, unique prefixes, file names
    #[arg(required = true)]
    pub catalogs: Vec<String>,
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Serialize)]
struct DeleteReport {
    /// The space or catalog.
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
    /// The removed files and directories.
    #[serde(serialize_with = "crate::sys::text::paths")]
    removed: Vec<PathBuf>,
}

/// Deletes a space, unless it is mounted or locked.
pub fn space(context: &Context, args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    let SpaceArgs { space: name, controller } = &args.space;
    let mut found = inventory::find(&context.home, controller, name)?;
    let known = match (found.pop(), found.is_empty()) {
        (Some(known), true) => known,
        (None, _) => {
            let what = format!("No space {name:?} of controller {controller:?}");
            return Err(NotAmong::spaces(what).into());
        }
        (Some(last), false) => {
            found.push(last);
            let places = found.iter().map(|known| known.space.root.display().to_string());
            let places = places.collect::<Vec<_>>().join(", ");
            let what =
                format!("{name:?} matches several spaces; none was deleted: {places}; give the directory");
            return Err(NotFound(what).into());
        }
    };
    let removed = match args.dry_run {
        true => Vec::new(),
        false => {
            #[cfg(unix)]
            crate::session::plain::refuse_used(&known.space)?;
            left_space(context, &known.space)?
        }
    };
    let report = DeleteReport { path: known.space.root, removed };
    let done = if args.dry_run { "Would delete" } else { "Deleted" };
    context.report(&report, |report| format!("{done} {}", report.path.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Removes catalogs; keeps their spaces.
pub fn catalogs(context: &Context, args: &RemoveArgs) -> anyhow::Result<ExitCode> {
    let found = args.catalogs.iter().map(|what| context.home.find_catalog(what));
    let paths = found.collect::<Result<Vec<_>, _>>()?;
    let lock = context.lock_hololib()?;
    let mut reports = Vec::new();
    for path in paths {
        let removed = if args.dry_run { Vec::new() } else { delete::remove_catalog(&path)? };
        reports.push(DeleteReport { path, removed });
    }
    drop(lock);
    let done = if args.dry_run { "Would remove" } else { "Removed" };
    let line = |report: &DeleteReport| format!("{done} {}", report.path.display());
    context.report(&reports, |reports| reports.iter().map(line).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}
