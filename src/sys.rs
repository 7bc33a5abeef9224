//! The operating system interface: the only module with `unsafe`, `libc`, `rustix` and `cfg(target_os)`.
//!
//! Each submodule wraps one facility in types that are hard to misuse: descriptors are owned, and paths below a root are opened by
//! descriptor and relative name without following links. Nothing here knows about catalogs, blobs or spaces.

#[cfg(unix)]
pub mod errno;
pub mod fs;
pub mod host;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "sys/mount/unsupported.rs")]
pub mod mount;
#[cfg_attr(windows, path = "sys/process/windows/process.rs")]
pub mod process;
pub mod sqlite;
pub mod text;
