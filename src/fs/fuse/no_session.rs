//! Stubs for systems without FUSE, where nothing is mounted or served.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Io, Telemetry};
use crate::fs::vfs::Vfs;

/// The handshake of a connection; there are none here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Handshake {}

/// A mounted file system; there are none here.
pub enum Session {}

impl Session {
    /// Fails: there is no FUSE.
    pub fn start(
        _vfs: Arc<Vfs>,
        _device: OwnedFd,
        _threads: usize,
        _telemetry: Telemetry,
        _passed: &[PathBuf],
    ) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails: there is no FUSE.
    pub fn start_for_takeover(
        _vfs: Arc<Vfs>,
        _device: OwnedFd,
        _threads: usize,
        _telemetry: Telemetry,
    ) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails: there is no FUSE.
    pub fn take_over(
        _vfs: Arc<Vfs>,
        _device: OwnedFd,
        _threads: usize,
        _telemetry: Telemetry,
        _handshake: Handshake,
    ) -> io::Result<Session> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails: there is no FUSE.
    pub fn check_terms(_handshake: &Handshake) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What another process needs to take the connection over.
    pub fn handshake(&self) -> &Handshake {
        match *self {}
    }

    /// How files would be read.
    pub fn io(&self) -> Io {
        match *self {}
    }

    /// Never called, because no session exists.
    pub fn run(self) -> io::Result<()> {
        match self {}
    }
}
