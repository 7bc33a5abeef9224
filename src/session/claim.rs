//! The claim on a space: exclusive access for the process that serves or changes it.
//!
//! RCC's lock is taken first, then ours; a dead mount is removed while both are held.

use std::path::PathBuf;
use std::sync::Arc;

use crate::fs::vfs::View;
use crate::space::{Live, Lock, Space};
use crate::store::index::{Index, Made};

use super::context::Context;
use super::detach;
use super::error::SessionError;
use super::foreign;
use super::request::MountRequest;
use super::written::view;

/// A claimed space, ready to be mounted.
pub struct Claim {
    /// The space.
    pub space: Space,
    /// The requested catalog; its entries may not have been read yet.
    pub index: Arc<Index>,
    /// How its index was obtained.
    pub made: Made,
    /// How this process sees itself, which must not be asked while a thread creates files.
    pub view: View,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// RCC's lock, held until the space is mounted.
    pub lock: Lock,
    /// Our lock, held as long as the mount exists.
    pub live: Live,
}

impl Claim {
    /// Claims the space; waits for RCC's lock as long as the context says.
    pub fn take(context: &Context, request: &MountRequest) -> Result<Claim, SessionError> {
        let view = view();
        let (index, made, catalog) = context.index_ahead(&request.catalog)?;
        let space = context.space(index.base(), &request.space);
        request.check_place(&space)?;
        foreign::refuse(&context.home, &space.base)?;
        let lock = context.lock(&space)?;
        let live = space.go_live()?;
        clear_dead_mount(context, &space)?;
        Ok(Claim { space, index: Arc::new(index), made, view, catalog, lock, live })
    }
}

/// A mount whose daemon died does not answer: unmount it, so that the space can be mounted again.
fn clear_dead_mount(context: &Context, space: &Space) -> Result<(), SessionError> {
    match space.mount_state() {
        Ok(Some(state)) if state.process.is_alive() && state.process.pid != std::process::id() => {
            log::warn!(
                "{} says it is mounted by {}, which does not hold its lock",
                space.root.display(),
                state.process
            );
        }
        Ok(_) => {}
        Err(error) => log::warn!("{error}"),
    }
    // Attributes may still be cached; free space never is. If the daemon is just dying, the call may be aborted.
    let dead = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::NotConnected | std::io::ErrorKind::ConnectionAborted)
    };
    while crate::sys::fs::disk::usage(&space.root).is_err_and(|error| dead(&error)) {
        log::warn!("Removing the dead mount at {}", space.root.display());
        detach::detach(&context.mounters(), &space.root)?;
    }
    space.clear_mount_state()?;
    Ok(space.refuse_mounted()?)
}
