//! The operating system: the only place with `unsafe`, `libc`, `rustix` and `cfg(target_os)`.
//!
//! Every child wraps one facility in types that cannot be misused: descriptors are owned, paths below a root are opened
//! by descriptor and relative name without following links. Nothing here knows catalogs, blobs or spaces.

#[cfg_attr(windows, path = "sys/windows/at.rs")]
pub mod at;
#[cfg(target_os = "linux")]
pub mod backing;
#[cfg_attr(windows, path = "sys/windows/beneath.rs")]
pub mod beneath;
#[cfg_attr(windows, path = "sys/windows/btrfs.rs")]
pub mod btrfs;
#[cfg(unix)]
pub mod bytes;
pub mod clone;
#[cfg(target_os = "linux")]
pub mod cover;
#[cfg(unix)]
pub mod daemon;
pub mod dir;
#[cfg_attr(windows, path = "sys/windows/disk.rs")]
pub mod disk;
#[cfg(unix)]
pub mod errno;
mod facts;
#[cfg(target_os = "linux")]
pub mod fork;
#[cfg(target_os = "linux")]
pub mod fusermount;
#[cfg(target_os = "linux")]
pub mod helper;
pub mod host;
#[cfg(windows)]
#[path = "sys/windows/info.rs"]
mod info;
#[cfg(unix)]
pub mod latency;
pub mod lock;
#[cfg_attr(windows, path = "sys/windows/map.rs")]
pub mod map;
pub mod memfd;
#[cfg(target_os = "linux")]
pub mod mount;
#[cfg(target_os = "linux")]
pub mod namespace;
#[cfg(all(unix, not(target_os = "linux")))]
mod no_mounts;
pub mod offset;
#[cfg(windows)]
#[path = "sys/windows/open.rs"]
mod open;
#[cfg(unix)]
pub mod private_dir;
#[cfg_attr(windows, path = "sys/windows/process.rs")]
pub mod process;
#[cfg(windows)]
#[path = "sys/windows/replace.rs"]
mod replace;
#[cfg(unix)]
pub mod sandbox;
pub mod shared;
#[cfg_attr(windows, path = "sys/windows/signals.rs")]
pub mod signals;
pub mod sparse;
pub mod stat;
#[cfg_attr(windows, path = "sys/windows/this_process.rs")]
pub mod this_process;
#[cfg(unix)]
pub mod xattr;

#[cfg(all(unix, not(target_os = "linux")))]
pub use no_mounts::{cover, fork, fusermount, helper, mount, namespace};
