//! The operating system: the only place with `unsafe`, `libc`, `rustix` and `cfg(target_os)`.
//!
//! Every child wraps one facility in types that cannot be misused: descriptors are owned, paths below a root are opened
//! by descriptor and relative name without following links. Nothing here knows catalogs, blobs or spaces.

pub mod at;
pub mod backing;
pub mod beneath;
pub mod btrfs;
#[cfg(unix)]
pub mod bytes;
pub mod clone;
pub mod cover;
pub mod daemon;
pub mod dir;
pub mod disk;
pub mod errno;
#[cfg(target_os = "linux")]
pub mod fork;
pub mod fusermount;
pub mod helper;
pub mod host;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod mount;
pub mod namespace;
#[cfg(unix)]
pub mod private_dir;
pub mod process;
pub mod sandbox;
pub mod shared;
pub mod signals;
pub mod stat;
pub mod this_process;
pub mod xattr;
