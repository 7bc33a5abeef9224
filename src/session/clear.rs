//! Removes dead mounts: those whose server is gone, which do not answer until they are unmounted.

use std::path::PathBuf;

use crate::error::chain;
use crate::rcc::home::Label;
use crate::space::{MountState, Space, lease};

use super::context::Context;
use super::decide::AtRoot;
use super::detach::unmount_ours;
use super::error::SessionError;
use super::snapshot::{at_root, hides_another};
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
pub fn dead_mounts(context: &Context, dry_run: bool) -> Cleared {
    let mut cleared = Cleared::default();
    for state_dir in context.home.spaces_dir().entries().unwrap_or_default() {
        let Ok(Some(state)) = MountState::read_in(&state_dir) else { continue };
        let place = (state.mountpoint.parent(), state.mountpoint.file_name());
        let (Some(base), Some(name)) = place else { continue };
        let Some(label) = Label::new(name.as_encoded_bytes()) else { continue };
        let space = Space::labelled(&context.home, base, label, &state.controller, &state.space);
        if space.state_dir != state_dir || Space::may_be_live_in(&state_dir) {
            continue;
        }
        match clear(context, &space, &state, dry_run) {
            Ok(true) => cleared.cleared.push(space.root),
            Ok(false) => {}
            Err(error) => cleared.kept.push(format!("{} is kept: {}", space.root.display(), chain(&error))),
        }
    }
    cleared
}

fn clear(context: &Context, space: &Space, state: &MountState, dry_run: bool) -> Result<bool, SessionError> {
    if at_root(space, state) != AtRoot::Dead {
        return Ok(false);
    }
    if dry_run {
        return Ok(true);
    }
    let Some(_start) = Start::attempt(space)? else { return Ok(false) };
    let users = lease::users(&space.state_dir);
    if !users.is_empty() && hides_another(space, state) {
        return Err(SessionError::State(
            format!("{} would see files of another catalog", lease::described(&users)).into(),
        ));
    }
    let _live = space.go_live()?;
    while at_root(space, state) == AtRoot::Dead {
        unmount_ours(&context.mounters(), &space.root, state, true)?;
        if crate::sys::mount::seen(&space.root).is_ok_and(|seen| seen.is_root && seen.device != state.device)
        {
            return Err(SessionError::State("another dead mount is there".into()));
        }
    }
    Ok(true)
}
