//! Gives copies of the mount to commands in other mount namespaces, see [`Copies`].
//!
//! Its thread stays outside of the sandbox, like the one that unmounts: a copy needs CAP_SYS_ADMIN. It opens only the mount point.

use std::sync::Arc;

use anyhow::Context as _;

use crate::space::{Space, files};
use crate::sys::mount::MountId;
use crate::sys::mount::copies::{Copies, copy_of_own};

/// Starts giving copies. A mount without them is complete: commands of other containers are refused.
pub fn start(space: &Space, id: MountId) -> anyhow::Result<()> {
    let copies = match Copies::offer(&space.state_dir.below(files::CONTROL)) {
        Ok(copies) => copies,
        Err(error) => {
            log::info!("{} cannot be attached in other containers: {error}", space.root.display());
            return Ok(());
        }
    };
    let root = Arc::new(space.root.clone());
    let work = move || copies.serve(|| copy_of_own(&root, id));
    std::thread::Builder::new().name("copies".into()).spawn(work).map(drop).context("Cannot start a thread")
}
