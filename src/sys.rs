//! The operating system: the only room with `unsafe`, `libc`, `rustix` and `cfg(target_os)`.
//!
//! Every child wraps one facility in types that cannot be misused: descriptors are owned, and paths below a root are opened
//! by descriptor and relative name without following links. Nothing here knows catalogs, blobs or spaces.

#[cfg(unix)]
pub mod errno;
pub mod fs;
pub mod host;
#[cfg(unix)]
#[cfg_attr(not(target_os = "linux"), path = "sys/mount/unsupported.rs")]
pub mod mount;
#[cfg_attr(windows, path = "sys/process/windows/process.rs")]
pub mod process;
pub mod text;
