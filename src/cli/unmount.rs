//! `holofs unmount`: takes a mounted space away and waits until its daemon is gone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::session::error::NotFound;
use crate::session::files;
use crate::session::unmount::{Manner, find, unmount};

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Take it away even if it is in use; open files stay readable for a while
    #[arg(long)]
    pub lazy: bool,
    /// As --lazy, and end its daemon: open files answer errors
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
    label: String,
    /// It stands as files: nothing was mounted.
    files: bool,
}

/// Unmounts.
pub fn main(context: &Context, args: &UnmountArgs) -> anyhow::Result<ExitCode> {
    let (space, files) = match find(context, &args.space.name()) {
        Ok(space) => {
            unmount(context, &space, Manner { lazy: args.lazy, force: args.force })?;
            (space, false)
        }
        // What works where spaces are mounted works where they are laid out.
        Err(error) if error.is::<NotFound>() => match files::find(context, &args.space.name())? {
            Some(standing) => {
                files::unmount(&standing, args.lazy || args.force)?;
                (standing.space, true)
            }
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let report = Report { path: space.root.clone(), label: space.label.as_str().to_owned(), files };
    context.report(&report, |report| match report.files {
        true => format!("{} stands as files: nothing is mounted there", report.path.display()),
        false => format!("Unmounted {}", report.path.display()),
    })?;
    Ok(ExitCode::SUCCESS)
}
