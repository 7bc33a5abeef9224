//! Gives copies of the mount to commands in other mount namespaces, see [`Copies`].
//!
//! Its thread stays outside of the sandbox, like the one that unmounts: a copy needs CAP_SYS_ADMIN. It opens only the mount point.

use std::os::fd::OwnedFd;

use crate::session::error::{SessionError, Tried as _};
use crate::space::{Space, files};
use crate::sys::mount::copies::{Copies, copy_of_own};
use crate::sys::mount::{self, MountId, Options};

/// The source of the mounts of versions that did not record it.
const LEGACY_SOURCE: &str = "holofs";

/// Starts giving copies of the mount `id`, whose requests come from `device`. If the mount is gone from this namespace but not
/// from others, the copy is another mount of the same file system, with the same source. If copies cannot be offered, this is not an
/// error: commands in other containers are refused.
pub fn start(space: &Space, id: MountId, device: OwnedFd, options: Options) -> Result<(), SessionError> {
    let copies = match Copies::offer(&space.state_dir.below(files::CONTROL)) {
        Ok(copies) => copies,
        Err(error) => {
            log::info!("{} cannot be attached in other containers: {error}", space.root.display());
            return Ok(());
        }
    };
    let root = space.root.clone();
    let known = space.mount_state()?.map(|state| state.source).filter(|source| !source.is_empty());
    let source = known.unwrap_or_else(|| LEGACY_SOURCE.to_owned());
    let copy = move || {
        copy_of_own(&root, id).or_else(|gone| {
            mount::another_of(&device, options, &source)
                .inspect_err(|error| log::debug!("{gone}, and: {error}"))
        })
    };
    let work = move || copies.serve(copy);
    std::thread::Builder::new().name("copies".into()).spawn(work).map(drop).tried("Cannot start a thread")
}
