//! The interface between `holofs-mount-helper` and its clients: [`protocol`], and [`packet`], which carries it over a socket. And [`source`],
//! which both write to the kernel's table of mounts.
//!
//! The program is in `main.rs`; the rest of it is private.

#[cfg(target_os = "linux")]
pub mod packet;
pub mod protocol;
pub mod source;
