//! Where there is no FUSE nothing is mounted, so nothing is served.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Io, Watch};
use crate::fs::vfs::Vfs;

/// What was said at the beginning of a connection, of which there is none here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Handshake {}

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

    /// Says that there is no FUSE.
    pub fn start_for_takeover(
        _vfs: Arc<Vfs>,
        _device: OwnedFd,
        _threads: usize,
        _watch: Watch,
    ) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Says that there is no FUSE.
    pub fn take_over(
        _vfs: Arc<Vfs>,
        _device: OwnedFd,
        _threads: usize,
        _watch: Watch,
        _handshake: Handshake,
    ) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What another process would need to know to take it over.
    pub fn handshake(&self) -> &Handshake {
        match *self {}
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
