//! Removes dead mounts: those whose server is gone, which do not answer until they are unmounted. A record is not needed: a server can be
//! killed between its mount and the record.

use std::path::PathBuf;

use crate::error::chain;
use crate::rcc::home::HomeError;
use crate::space::inventory::{self, Known};
use crate::space::{Space, lease};
use crate::sys::mount::{self, namespace};

use super::context::Context;
use super::detach::detach_own;
use super::error::{Busy, SessionError, Tried as _};
use super::snapshot::{hides_another, is_dead};
use super::start::Start;

/// The removed mounts, and why others could not be removed.
#[derive(Debug, Default)]
pub struct Cleared {
    /// Where a dead mount was removed.
    pub cleared: Vec<PathBuf>,
    /// Why a dead mount is still there.
    pub kept: Vec<String>,
}

/// Removes every dead mount of a space that no command is starting or ending; with `dry_run`, only lists them.
pub fn dead_mounts(context: &Context, dry_run: bool) -> Result<Cleared, HomeError> {
    let mut cleared = Cleared::default();
    for Known { space, .. } in inventory::known(&context.home)? {
        if Space::may_be_live_in(&space.state_dir) || !is_dead(&space) {
            continue;
        }
        let outcome = if dry_run { Ok(true) } else { clear_if_idle(context, &space) };
        match outcome {
            Ok(true) => cleared.cleared.push(space.root),
            Ok(false) => {}
            Err(error) => cleared.kept.push(format!("{} is kept: {}", space.root.display(), chain(&error))),
        }
    }
    Ok(cleared)
}

fn clear_if_idle(context: &Context, space: &Space) -> Result<bool, SessionError> {
    let Some(start) = Start::attempt(space)? else { return Ok(false) };
    clear(context, space, &start).map(|()| true)
}

/// Removes the dead mount of a space, under its start lock; refuses if its users would then see files of another catalog.
pub fn clear(context: &Context, space: &Space, _start: &Start) -> Result<(), SessionError> {
    let users = lease::users(&space.state_dir);
    // What an unreadable or missing record says is unknown.
    let state = space.mount_state().ok().flatten();
    if !users.is_empty() && hides_another(space, state.as_ref()) {
        let users = lease::described(&users);
        return Err(Busy(format!("{users} would see files of another catalog")).into());
    }
    let _live = space.go_live()?;
    while is_dead(space) {
        let seen = mount::seen(&space.root).tried("It does not say which mount it is")?;
        if namespace::source_of(seen.id).is_err() {
            return Err(SessionError::State("the dead mount is not of HoloFS".into()));
        }
        detach_own(&context.mounters(), &space.root, seen.id)?;
    }
    Ok(())
}
