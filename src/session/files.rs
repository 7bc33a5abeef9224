//! A space that is plain files: used, compared and reset like a mounted one.
//!
//! Its changes are kept, as in a mount, until it is reset or laid out again, or RCC restores it. A command has a lease on it, so that
//! the files are not changed under the command. All decisions are made under the start lock.

use std::path::PathBuf;

use crate::rcc::catalog::Catalog;
use crate::space::Space;
use crate::space::lease::{self, Lease};
use crate::space::materialize::Options;
use crate::store::index::Index;
use crate::sys::fs::name::RelPath;

use super::context::Context;
use super::error::{Busy, CannotMount, NotFound, SessionError, Tried as _};
use super::foreign;
use super::lay_out;
use super::method::{Refusal, described};
use super::obtain::{Repairs, ready_for_files};
use super::plain::{PlainSpace, drop_written, has_changes, laid_out_by_us};
use super::report::{MountReport, report_of_files};
use super::request::MountRequest;

/// Provides the space as files for `request`, with a lease for `command`.
pub fn obtain(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
    command: Option<&str>,
) -> Result<(MountReport, Option<Lease>), SessionError> {
    let (index, made, catalog) = context.index(&request.catalog)?;
    let space = context.space(index.base(), &request.space);
    foreign::refuse(&context.home, &space.base)?;
    let repairs = if request.fresh { Repairs::All } else { Repairs::Nothing };
    let start = ready_for_files(context, &space, &index, repairs)?;
    if request.fresh {
        drop_written(&space)?;
    } else if space.has_upper() {
        // The changes are in the upper, which plain files can neither show nor contain.
        let why = "its written state is visible in a mount only; --fresh drops it";
        let what = format!("{} ({why})", space.root.display());
        return Err(CannotMount { what, refused: reasons }.into());
    }
    if !request.fresh && is_kept(context, &space, &index)? {
        space.journal_use(&catalog, index.blueprint());
        space.mark_used(&catalog, index.blueprint());
    } else {
        if !request.fresh && has_changes(context, &space, (&request.catalog, &index))? {
            return Err(other_files(&space, &index).into());
        }
        let strategy = lay_out::default_strategy(context)?;
        let options = Options { strategy, wait: context.wait, verify: request.fresh, ..Options::default() };
        lay_out::place(context, &catalog, &index, &space, &options, &[])
            .tried_with(|| format!("Cannot materialize (nor mount: {})", described(&reasons)))?;
    }
    let lease = command.map(|command| Lease::take(&space, command, &index.id().to_string())).transpose();
    let lease = lease.tried_with(|| format!("Cannot record the use of {}", space.root.display()))?;
    drop(start);
    let report = report_of_files(&space, &index, &made, catalog, reasons);
    Ok((report, lease))
}

/// True if the space has the files of this same catalog, which are then used unchanged.
fn is_kept(context: &Context, space: &Space, index: &Index) -> Result<bool, SessionError> {
    if laid_out_by_us(space) != Some(index.id()) || !space.stands_as_files() {
        return Ok(false);
    }
    // RCC may be changing it.
    let _lock = context.lock(space)?;
    Ok(laid_out_by_us(space) == Some(index.id()))
}

/// The error if files of another catalog are in use or were changed.
fn other_files(space: &Space, index: &Index) -> Busy {
    let root = space.root.display();
    Busy(format!(
        "{root} has changed files of another catalog than {}; `holofs diff` lists the changes, `holofs reset` and \
         --fresh drop it",
        index.blueprint()
    ))
}

/// Resets the space, or only `paths` of it, to exactly the catalog's content.
pub fn reset(context: &Context, standing: &PlainSpace, paths: &[RelPath]) -> Result<(), SessionError> {
    let PlainSpace { space, index } = standing;
    let _start = ready_for_files(context, space, index, Repairs::All)?;
    if paths.is_empty() {
        drop_written(space)?;
    }
    let catalog = catalog_of(context, index)?;
    let options = Options { wait: context.wait, verify: true, ..Options::default() };
    lay_out::place(context, &catalog, index, space, &options, paths).map(drop)
}

fn catalog_of(context: &Context, index: &Index) -> Result<PathBuf, SessionError> {
    let catalogs = context.home.catalogs()?;
    let found = catalogs.into_iter().find(|path| Catalog::identify(path).is_ok_and(|id| id == index.id()));
    found.ok_or_else(|| {
        NotFound(format!("The catalog {} is not in the hololib any more", index.blueprint())).into()
    })
}

/// A space that is plain files has nothing to unmount, but its users are reported, as for a mount.
pub fn unmount(standing: &PlainSpace, forces: bool) -> Result<(), SessionError> {
    let users = lease::users(&standing.space.state_dir);
    if users.is_empty() || forces {
        return Ok(());
    }
    let (root, users) = (standing.space.root.display(), lease::described(&users));
    Err(Busy(format!("{root} is in use by {users}; end it, or use --lazy")).into())
}
