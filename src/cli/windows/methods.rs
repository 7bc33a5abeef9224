//! The mount methods, none of which exists on Windows.

use super::{Tried, tried};
use crate::cli::context::Context;
use crate::session::appear::NO_FUSE;
use crate::session::method::{Method, Mounter};

/// Reports why each does not work.
pub fn try_mounts(_context: &Context) -> Vec<Tried> {
    let mounts =
        [Mounter::Direct, Mounter::Helper, Mounter::Fusermount, Mounter::Namespace].map(Method::Fuse);
    mounts.map(|method| tried(method, || Err(anyhow::Error::msg(NO_FUSE)))).into()
}
