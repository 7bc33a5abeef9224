//! A space that is plain files: used, compared and reset like a mounted one.
//!
//! Its changes are kept, as in a mount, until it is reset or laid out again, or RCC restores it. A command has a lease on it, so that
//! the files are not changed under the command. All decisions are made under the start lock.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::rcc::catalog::Catalog;
use crate::space::Space;
use crate::space::lease::{self, Lease};
use crate::space::materialize::Options;
use crate::store::index::Index;
use crate::sys::fs::name::RelPath;

use super::context::Context;
use super::error::{Busy, CannotMount, NotFound};
use super::foreign;
use super::lay_out;
use super::method::{Refusal, told};
use super::obtain::{Repairs, ready_for_files};
use super::plain::{PlainSpace, drop_written, has_changes, laid_out_by_us, stands};
use super::report::{MountReport, report_of_files};
use super::request::MountRequest;

/// Provides the space as files for `request`, with a lease for `command`.
pub fn obtain(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
    command: Option<&str>,
) -> anyhow::Result<(MountReport, Option<Lease>)> {
    let (index, made, catalog) = context.index(&request.catalog)?;
    let space = context.space(index.base(), &request.space);
    foreign::refuse(&context.home, &space.base)?;
    let repairs = if request.fresh { Repairs::All } else { Repairs::Nothing };
    let start = ready_for_files(context, &space, &index, repairs)?;
    if request.fresh {
        drop_written(&space)?;
    } else if space.has_upper() {
        // The changes are in the upper, which plain files can neither show nor contain.
        let why = "what was written to it shows in a mount only; --fresh drops it";
        let what = format!("{} ({why})", space.root.display());
        return Err(CannotMount { what, refused: reasons }.into());
    }
    if !request.fresh && is_kept(context, &space, &index)? {
        space.journal_use(&catalog, index.blueprint());
        space.mark_used(&catalog, index.blueprint());
    } else {
        if !request.fresh && has_changes(&context.home, &space, &index)? {
            return Err(other_files(&space, &index).into());
        }
        let strategy = lay_out::default_strategy(context)?;
        let options = Options { strategy, wait: context.wait, verify: request.fresh, ..Options::default() };
        lay_out::place(context, &catalog, &index, &space, &options, &[])
            .with_context(|| format!("Cannot materialize (nor mount: {})", told(&reasons)))?;
    }
    let lease = command.map(|command| Lease::take(&space, command, &index.id().to_string())).transpose();
    let lease = lease.with_context(|| format!("Cannot note the use of {}", space.root.display()))?;
    drop(start);
    let report = report_of_files(&space, &index, &made, catalog, reasons);
    Ok((report, lease))
}

/// True if the files of this same catalog are there: they are used unchanged.
fn is_kept(context: &Context, space: &Space, index: &Index) -> anyhow::Result<bool> {
    if laid_out_by_us(space) != Some(index.id()) || !stands(space) {
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
        "{root} has files of another catalog than {}, and something was written to them; `holofs diff` lists the changes, `holofs reset` and \
         --fresh drop it",
        index.blueprint()
    ))
}

/// Resets the space, or only `paths` of it, to exactly the catalog's content.
pub fn reset(context: &Context, standing: &PlainSpace, paths: &[RelPath]) -> anyhow::Result<()> {
    let PlainSpace { space, index } = standing;
    let _start = ready_for_files(context, space, index, Repairs::All)?;
    if paths.is_empty() {
        drop_written(space)?;
    }
    let catalog = catalog_of(context, index)?;
    let options = Options { wait: context.wait, verify: true, ..Options::default() };
    lay_out::place(context, &catalog, index, space, &options, paths).map(drop)
}

fn catalog_of(context: &Context, index: &Index) -> anyhow::Result<PathBuf> {
    let catalogs = context.home.catalogs()?;
    let found = catalogs.into_iter().find(|path| Catalog::identify(path).is_ok_and(|id| id == index.id()));
    found.ok_or_else(|| {
        NotFound(format!("The catalog {} is not in the hololib any more", index.blueprint())).into()
    })
}

/// There is nothing to unmount for a space that is plain files; but its users are reported, as for a mount.
pub fn unmount(standing: &PlainSpace, forces: bool) -> anyhow::Result<()> {
    let users = lease::users(&standing.space.state_dir);
    if users.is_empty() || forces {
        return Ok(());
    }
    let (root, users) = (standing.space.root.display(), lease::told(&users));
    Err(Busy(format!("{root} is in use by {users}; end it, or use --lazy")).into())
}
