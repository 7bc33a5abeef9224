//! Running a command in a mount: an existing one, one made for the command, or one visible only to it.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::error::{chain, root_cause};
use crate::session::context::Context;
use crate::session::daemon;
use crate::session::error::{CannotMount, SessionError, Tried as _};
use crate::session::execute::{Bytecode, Execution};
use crate::session::files;
use crate::session::foreign;
use crate::session::isolate::{self, Isolated};
use crate::session::method::{Method, Mode, Mounter, Refusal};
use crate::session::obtain::{Obtained, Outcome, obtain_by};
use crate::session::plain;
use crate::session::recording::{self, Fetching};
use crate::session::unmount::leave;
use crate::space::Space;
use crate::store::index::{Head, Index, Made};
use crate::sys::mount::{Detached, namespace};

use super::{RunRequest, execution, tell};

/// Runs the command.
pub fn run(context: &Context, request: &RunRequest) -> Result<ExitStatus, SessionError> {
    let (head, made, catalog) = context.head(&request.mount.catalog)?;
    let space = context.space(head.base(), &request.mount.space);
    let mut reasons = Vec::new();
    let alone = request.isolate && request.mount.mode != Mode::Materialize;
    let live = Space::may_be_live_in(&space.state_dir);
    let foreign = if alone || live { None } else { foreign::foreign(&context.home, &space.base) };
    let cannot = match (foreign, request.mount.mode) {
        (foreign, Mode::Auto) if !alone && !live => {
            foreign.map(|it| it.to_string()).or_else(|| cannot_hold(&space))
        }
        (Some(foreign), _) => return Err(foreign.into()),
        (None, _) => None,
    };
    reasons.extend(cannot.iter().map(|why| Refusal::new(Method::Fuse(Mounter::Direct), why)));
    if alone || cannot.is_some() {
        let index = context.index_of(&request.mount.catalog, &head.id())?;
        match isolate::enter(context)? {
            Ok(fuse) => return run_isolated(context, request, fuse, index, &catalog, &reasons),
            Err(why) => reasons.push(Refusal::new(Method::Fuse(Mounter::Namespace), why)),
        }
        if cannot.is_some() || request.mount.mode == Mode::Mount {
            return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
        }
    }
    in_space(context, request, &space, (&head, &made), reasons)
}

/// Runs the command in its space, which appears by the best method that works.
fn in_space(
    context: &Context,
    request: &RunRequest,
    space: &Space,
    (head, made): (&Head, &Made),
    mut reasons: Vec<Refusal>,
) -> Result<ExitStatus, SessionError> {
    let mount = &request.mount;
    if request.mount.mode != Mode::Materialize {
        match obtain_by(context, mount, (head, made), Some(&command_line(request)), &daemon::launch)? {
            Ok(obtained) => {
                reasons.extend(obtained.report.reasons.iter().cloned());
                return while_mounted(context, request, space, head, obtained, &reasons);
            }
            Err(refused) => reasons.extend(refused.refused),
        }
        if reasons.iter().any(|refusal| refusal.reason == plain::CHANGED) {
            return in_files(context, request, space, head, reasons);
        }
        match isolate::probe()? {
            Ok(()) => match in_namespace(context, request, (head, made))? {
                Ok(obtained) => return while_mounted(context, request, space, head, obtained, &reasons),
                Err(refused) => reasons.extend(refused.refused),
            },
            Err(why) => reasons.push(Refusal::new(Method::Fuse(Mounter::Namespace), why)),
        }
        if request.mount.mode == Mode::Mount {
            return Err(CannotMount { what: space.root.display().to_string(), refused: reasons }.into());
        }
    }
    in_files(context, request, space, head, reasons)
}

/// Runs the command in the space as files, which are not changed in the meantime.
fn in_files(
    context: &Context,
    request: &RunRequest,
    space: &Space,
    head: &Head,
    reasons: Vec<Refusal>,
) -> Result<ExitStatus, SessionError> {
    let (report, _lease) = files::obtain(context, &request.mount, reasons, Some(&command_line(request)))?;
    tell(context, space, report.method, &report.reasons, false);
    recorded(request, &execution(context, request, space, head), report.method, || ())
}

/// Mounts the space in our own namespace, at its usual path. If that is refused, the command still runs in the namespace.
fn in_namespace(
    context: &Context,
    request: &RunRequest,
    catalog: (&Head, &Made),
) -> Result<Outcome, SessionError> {
    namespace::enter().tried("Cannot enter a private namespace")?;
    namespace::drop_foreign(context.process.path.as_deref());
    let command = command_line(request);
    obtain_by(context, &request.mount, catalog, Some(&command), &daemon::launch_copy)
}

/// Runs the command in the mounted space, and releases the space.
fn while_mounted(
    context: &Context,
    request: &RunRequest,
    space: &Space,
    head: &Head,
    obtained: Obtained,
    reasons: &[Refusal],
) -> Result<ExitStatus, SessionError> {
    let Obtained { report, lease, unread } = obtained;
    let execution = Execution { unread, ..execution(context, request, space, head) };
    tell(context, space, report.method, reasons, false);
    let outcome = recorded(request, &execution, report.method, || ());
    // The command's status is returned, whatever happens to the mount.
    if let Err(error) = leave(context, space, lease) {
        context.front.note(&format!("warning: {}", chain(&error)));
    }
    outcome
}

/// The command line, for reports.
fn command_line(request: &RunRequest) -> String {
    let words = request.command.iter().map(|word| word.to_string_lossy());
    words.collect::<Vec<_>>().join(" ")
}

/// Runs the command at the catalog's own path.
fn run_isolated(
    context: &Context,
    request: &RunRequest,
    fuse: Detached,
    index: Index,
    catalog: &Path,
    reasons: &[Refusal],
) -> Result<ExitStatus, SessionError> {
    let isolated = Isolated::begin(context, fuse, index, &request.mount.space)?;
    let Isolated { space, index } = &isolated;
    tell(context, space, Method::Fuse(Mounter::Namespace), reasons, true);
    let mark = || space.mark_catalog_used(catalog, index.blueprint());
    let mut execution = execution(context, request, space, index);
    if request.bytecode {
        execution.bytecode = Bytecode::OfRun;
    }
    execution.index = OnceLock::from(Arc::clone(index));
    recorded(request, &execution, Method::Fuse(Mounter::Namespace), mark)
}

/// Runs the command, and records its requests if requested. A failure to record is part of the recording.
fn recorded(
    request: &RunRequest,
    execution: &Execution<'_>,
    method: Method,
    meanwhile: impl FnOnce(),
) -> Result<ExitStatus, SessionError> {
    let Some(slot) = &request.recording else { return execution.command(&request.command, meanwhile) };
    let mut recording = recording::of_space(&execution.space.root, execution.head);
    recording.command = request.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    recording.method = method.name().to_owned();
    let fetching = match method {
        Method::Files => {
            Err(SessionError::State("The space is plain files: the kernel reads them without HoloFS".into()))
        }
        Method::Fuse(_) => Fetching::start(&execution.space.root),
    };
    recording.ready_ms = slot.elapsed_ms();
    let began = Instant::now();
    let outcome = execution.command(&request.command, meanwhile);
    recording.run_ms = recording::millis(began.elapsed());
    match fetching {
        Ok(fetching) => fetching.finish(&mut recording),
        Err(error) => recording.incomplete = Some(chain(&error).to_string()),
    }
    slot.put(recording);
    outcome
}

/// Why the space can be neither mounted nor materialized at its own path, by any method: the path is not writable.
fn cannot_hold(space: &Space) -> Option<String> {
    let written = || tempfile::tempfile_in(&space.base).map(drop);
    let base = space.ensure_base().map_err(SessionError::from).and_then(|()| Ok(written()?));
    let kept = || space.state_dir.ensure()?.create_temp(".part-").map(drop);
    let state = || space.ensure_state_dir().map_err(SessionError::from).and_then(|()| Ok(kept()?));
    match base {
        Err(error) => Some(format!("{} cannot be written: {}", space.base.display(), root_cause(&error))),
        Ok(()) => state()
            .err()
            .map(|error| format!("{} cannot be written: {}", space.state_dir.display(), root_cause(&error))),
    }
}
