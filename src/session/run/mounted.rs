//! Running where spaces can be mounted: a mount that is there, one that is made for the command, or one that only it sees.

use std::path::Path;
use std::process::ExitStatus;

use anyhow::Context as _;

use crate::session::appear;
use crate::session::context::Context;
use crate::session::daemon;
use crate::session::error::{Busy, CannotMount};
use crate::session::execute::Bytecode;
use crate::session::isolate::{self, Isolated};
use crate::session::method::{Method, Mode, Mounter, Refusal};
use crate::session::unmount;
use crate::space::Space;
use crate::store::index::Index;
use crate::sys::mount::Detached;

use super::{RunRequest, execution, tell};

/// Runs the command.
pub fn run(context: &Context, request: &RunRequest) -> anyhow::Result<ExitStatus> {
    let (index, _, catalog) = context.index(&request.mount.catalog)?;
    let space = context.space(index.base(), &request.mount.space);
    let mut reasons = Vec::new();
    let alone = request.isolate && request.mount.mode != Mode::Materialize;
    if !alone && let Some(method) = already_there(&space, &index.id().to_string())? {
        tell(context, &space, method, &reasons, false);
        return execution(context, request, &space, &index).command(&request.command, || ());
    }
    let cannot = if request.mount.mode == Mode::Auto && !alone { cannot_hold(&space) } else { None };
    reasons.extend(cannot.iter().map(|why| Refusal::new(Method::Fuse(Mounter::Direct), why)));
    if alone || cannot.is_some() {
        match isolate::enter()? {
            Ok(fuse) => return run_isolated(context, request, fuse, index, &catalog, &reasons),
            Err(why) => reasons.push(Refusal::new(Method::Fuse(Mounter::Namespace), why)),
        }
        if cannot.is_some() || request.mount.mode == Mode::Mount {
            return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
        }
    }
    in_space(context, request, &space, &index, reasons)
}

/// Runs the command in its space, which appears by the best method that works.
fn in_space(
    context: &Context,
    request: &RunRequest,
    space: &Space,
    index: &Index,
    mut reasons: Vec<Refusal>,
) -> anyhow::Result<ExitStatus> {
    let mount = &request.mount;
    if request.mount.mode != Mode::Materialize {
        match daemon::launch(context, mount)? {
            Ok(report) => {
                reasons.extend(report.reasons);
                return while_mounted(context, request, space, index, report.method, &reasons);
            }
            Err(refused) => reasons.extend(refused.refused),
        }
        match isolate::probe()? {
            Ok(()) => return in_namespace(context, request, space, index, &reasons),
            Err(why) => reasons.push(Refusal::new(Method::Fuse(Mounter::Namespace), why)),
        }
        if request.mount.mode == Mode::Mount {
            return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
        }
    }
    let report = appear::materialized(context, mount, reasons)?;
    tell(context, space, report.method, &report.reasons, false);
    execution(context, request, space, index).command(&request.command, || ())
}

/// Runs the command with the space mounted in a namespace of its own, at the space's usual place.
fn in_namespace(
    context: &Context,
    request: &RunRequest,
    space: &Space,
    index: &Index,
    reasons: &[Refusal],
) -> anyhow::Result<ExitStatus> {
    crate::sys::mount::namespace::enter().context("Cannot enter a namespace of our own")?;
    let report = daemon::launch_copy(context, &request.mount)??;
    while_mounted(context, request, space, index, report.method, reasons)
}

/// Runs the command in the space that was mounted for it, and takes the mount away.
fn while_mounted(
    context: &Context,
    request: &RunRequest,
    space: &Space,
    index: &Index,
    method: Method,
    reasons: &[Refusal],
) -> anyhow::Result<ExitStatus> {
    tell(context, space, method, reasons, false);
    let outcome = execution(context, request, space, index).command(&request.command, || ());
    if let Err(error) = disappear(context, space) {
        log::warn!("{} is not unmounted: {error:#}", space.root.display());
    }
    outcome
}

/// Runs the command at the catalog's own path.
fn run_isolated(
    context: &Context,
    request: &RunRequest,
    fuse: Detached,
    index: Index,
    catalog: &Path,
    reasons: &[Refusal],
) -> anyhow::Result<ExitStatus> {
    let isolated = Isolated::begin(context, fuse, index, &request.mount.space)?;
    let Isolated { space, index } = &isolated;
    tell(context, space, Method::Fuse(Mounter::Namespace), reasons, true);
    let mark = || space.mark_catalog_used(catalog, index.blueprint());
    let mut execution = execution(context, request, space, index);
    if request.bytecode {
        execution.bytecode = Bytecode::OfRun;
    }
    execution.command(&request.command, mark)
}

/// The method of a space that is mounted already with this catalog.
pub fn already_there(space: &Space, catalog: &str) -> anyhow::Result<Option<Method>> {
    if space.live_holder().is_none() {
        return Ok(None);
    }
    match space.mount_state()? {
        Some(state) if state.catalog == catalog => {
            Ok(Some(Method::try_from(state.rung).unwrap_or(Method::Fuse(Mounter::Direct))))
        }
        _ => {
            let root = space.root.display();
            Err(Busy(format!("{root} is in use with another catalog; unmount it first")).into())
        }
    }
}

/// Why the space can be neither mounted nor materialized at its own place, whatever the method: nothing can be written there.
fn cannot_hold(space: &Space) -> Option<String> {
    let written = |dir: &Path| tempfile::tempfile_in(dir).map(drop);
    let base = space.ensure_base().map_err(anyhow::Error::from).and_then(|()| Ok(written(&space.base)?));
    let state = || {
        space.ensure_state_dir().map_err(anyhow::Error::from).and_then(|()| Ok(written(&space.state_dir)?))
    };
    match base {
        Err(error) => Some(format!("{} cannot be written: {}", space.base.display(), error.root_cause())),
        Ok(()) => state()
            .err()
            .map(|error| format!("{} cannot be written: {}", space.state_dir.display(), error.root_cause())),
    }
}

/// Takes our mount away; whoever still uses it keeps its open files.
fn disappear(context: &Context, space: &Space) -> anyhow::Result<()> {
    let Err(error) = unmount::unmount(context, space, false) else { return Ok(()) };
    if error.is::<Busy>() {
        log::warn!("{error}: unmounting it lazily");
        return unmount::detach(&context.mounters(), &space.root);
    }
    Err(error)
}
