//! `holofs reset`: resets a space, or some of its paths, to the catalog's state.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::fs::upper::{self, Access};
use crate::session::left::wait_until_left;
use crate::session::start::{Deadline, Start};
use crate::session::{files, plain, written};
use crate::space::{Space, bytecode};
use crate::sys::fs::name::RelPath;

use super::SpaceArgs;
use super::context::Context;

/// Arguments of `reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    #[command(flatten)]
    pub space: SpaceArgs,
    /// Paths in the space to reset to the catalog's state (default: everything)
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct ResetReport {
    label: String,
    /// Empty: everything.
    #[serde(serialize_with = "crate::sys::text::paths")]
    reset: Vec<PathBuf>,
}

/// Drops the changes.
pub fn main(context: &Context, args: &ResetArgs) -> anyhow::Result<ExitCode> {
    if let Some(standing) = plain::find(context, &args.space.name())? {
        let space = &standing.space;
        let paths = args.paths.iter().map(|path| below(space, path)).collect::<anyhow::Result<Vec<_>>>()?;
        files::reset(context, &standing, &paths)?;
        return tell(context, args, space);
    }
    let state_dir = written::state_dir(context, &args.space.name())?;
    // An unreadable state can be dropped, too.
    let index = written::index(context, &state_dir);
    let base = match &index {
        Ok(Some(index)) => index.base().to_owned(),
        _ => context.home.holotree().to_owned(),
    };
    let space = context.space(&base, &args.space.name());
    let _start = Start::take(context, &space, &Deadline::of(context.wait))?;
    plain::refuse_used(&space)?;
    wait_until_left(context, &space);
    let _lock = context.lock(&space)?;
    let _live = space.go_live()?;
    if args.paths.is_empty() {
        upper::reset(&state_dir)?;
    } else if let Some(index) = index? {
        bytecode::forget(&state_dir).context("Cannot drop the bytecode of the space")?;
        let paths = args.paths.iter().map(|path| below(&space, path)).collect::<anyhow::Result<Vec<_>>>()?;
        let vfs = written::open(context, &args.space.name(), index, Access::Writable)?;
        for path in paths {
            vfs.reset(&path).with_context(|| format!("Cannot reset {path}"))?;
        }
    }
    tell(context, args, &space)
}

fn tell(context: &Context, args: &ResetArgs, space: &Space) -> anyhow::Result<ExitCode> {
    let report = ResetReport { label: space.label.as_str().to_owned(), reset: args.paths.clone() };
    context.report(&report, |_| format!("Reset {}", space.root.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A path in the space, given as a relative or absolute one.
fn below(space: &Space, path: &Path) -> anyhow::Result<RelPath> {
    let relative = path.strip_prefix(&space.root).unwrap_or(path);
    RelPath::parse(relative.as_os_str().as_bytes())
        .with_context(|| format!("{} is not a path below {}", path.display(), space.root.display()))
}
