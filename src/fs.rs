//! A space as a file system: what was written ([`upper`]), what operations mean ([`vfs`]), and the kernel's protocol ([`fuse`]).

pub mod fuse;
pub mod upper;
pub mod vfs;
