//! What `holofs-mount-helper` and its clients agree on: [`protocol`], and [`packet`], which carries it over a socket.
//!
//! The program is in `main.rs`; nothing else of it is for others.

#[cfg(target_os = "linux")]
pub mod packet;
pub mod protocol;
