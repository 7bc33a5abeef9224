//! A space as a file system: written state ([`upper`]), semantics ([`vfs`]), and the kernel's protocol ([`fuse`]).

pub mod fuse;
pub mod upper;
pub mod vfs;
