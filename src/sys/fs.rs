//! Files, directories, links and locks.

#[cfg_attr(windows, path = "fs/windows/at.rs")]
pub mod at;
#[cfg(target_os = "linux")]
pub mod backing;
#[cfg_attr(windows, path = "fs/windows/beneath.rs")]
pub mod beneath;
#[cfg_attr(windows, path = "fs/windows/btrfs.rs")]
pub mod btrfs;
#[cfg(unix)]
pub mod bytes;
pub mod clone;
#[cfg(unix)]
pub mod counts;
pub mod dir;
#[cfg_attr(windows, path = "fs/windows/disk.rs")]
pub mod disk;
pub mod extents;
mod facts;
pub mod filled;
#[cfg(windows)]
#[path = "fs/windows/info.rs"]
mod info;
pub mod lock;
pub mod memfd;
pub mod name;
pub mod offset;
#[cfg(windows)]
#[path = "fs/windows/open.rs"]
mod open;
#[cfg_attr(windows, path = "fs/windows/owned.rs")]
pub mod owned;
pub mod owned_file;
pub mod place;
#[cfg(unix)]
pub mod private_dir;
#[cfg_attr(windows, path = "fs/windows/rcc_dir.rs")]
mod rcc_dir;
#[cfg(windows)]
#[path = "fs/windows/replace.rs"]
mod replace;
pub mod shared;
pub mod sparse;
pub mod stat;
#[cfg(unix)]
pub mod xattr;
