//! `holofs unmount`: unmounts a space and waits until its daemon has ended.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::session::error::NotAmong;
use crate::session::unmount::{Manner, find, unmount};
use crate::session::{files, plain};

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Unmount even if it is in use; open files stay readable for a while
    #[arg(long)]
    pub lazy: bool,
    /// Like --lazy, and end the daemon: open files return errors
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Serialize)]
struct UnmountReport {
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
    label: String,
    /// The space is plain files: nothing was mounted.
    files: bool,
}

/// Unmounts.
pub fn main(context: &Context, args: &UnmountArgs) -> anyhow::Result<ExitCode> {
    let (space, files) = match find(context, &args.space.name()) {
        Ok(space) => {
            unmount(context, &space, Manner { lazy: args.lazy, force: args.force })?;
            (space, false)
        }
        // Commands that work on mounted spaces also work on laid-out ones.
        Err(error) if error.find::<NotAmong>().is_some() => match plain::find(context, &args.space.name())? {
            Some(standing) => {
                files::unmount(&standing, args.lazy || args.force)?;
                (standing.space, true)
            }
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let report = UnmountReport { path: space.root.clone(), label: space.label.as_str().to_owned(), files };
    context.report(&report, |report| match report.files {
        true => format!("{} is plain files: nothing is mounted there", report.path.display()),
        false => format!("Unmounted {}", report.path.display()),
    })?;
    Ok(ExitCode::SUCCESS)
}
