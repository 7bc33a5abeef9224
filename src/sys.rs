//! The operating system: the only place with `unsafe`, `libc`, `rustix` and `cfg(target_os)`.
//!
//! Every child wraps one facility in types that cannot be misused: descriptors are owned, paths below a root are opened
//! by descriptor and relative name without following links. Nothing here knows catalogs, blobs or spaces.

pub mod at;
#[cfg(target_os = "linux")]
pub mod backing;
pub mod beneath;
pub mod btrfs;
#[cfg(unix)]
pub mod bytes;
pub mod clone;
#[cfg(target_os = "linux")]
pub mod cover;
pub mod daemon;
pub mod dir;
pub mod disk;
pub mod errno;
#[cfg(target_os = "linux")]
pub mod fork;
#[cfg(target_os = "linux")]
pub mod fusermount;
#[cfg(target_os = "linux")]
pub mod helper;
pub mod host;
pub mod lock;
pub mod map;
pub mod memfd;
#[cfg(target_os = "linux")]
pub mod mount;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(not(target_os = "linux"))]
mod no_mounts;
pub mod offset;
#[cfg(unix)]
pub mod private_dir;
pub mod process;
pub mod sandbox;
pub mod shared;
pub mod signals;
pub mod sparse;
pub mod stat;
pub mod this_process;
pub mod xattr;

#[cfg(not(target_os = "linux"))]
pub use no_mounts::{cover, fork, fusermount, helper, mount, namespace};
