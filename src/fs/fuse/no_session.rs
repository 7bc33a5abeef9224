//! Where there is no FUSE nothing is mounted, so nothing is served.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Io, Watch};
use crate::fs::vfs::Vfs;

/// One mounted file system, of which there is none here.
pub enum Session {}

impl Session {
    /// Says that there is no FUSE.
    pub fn start(
        _vfs: Arc<Vfs>,
        _device: OwnedFd,
        _threads: usize,
        _watch: Watch,
        _passed: &[PathBuf],
    ) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How files would be read.
    pub fn io(&self) -> Io {
        match *self {}
    }

    /// Serves what cannot be.
    pub fn run(self) -> io::Result<()> {
        match self {}
    }
}
