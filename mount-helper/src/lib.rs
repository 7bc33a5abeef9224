//! The interface between `holofs-mount-helper` and its clients: [`protocol`], and [`packet`], which carries it over a socket.
//!
//! The program is in `main.rs`; the rest of it is private.

#[cfg(target_os = "linux")]
pub mod packet;
pub mod protocol;
