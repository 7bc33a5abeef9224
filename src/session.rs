//! The life of a space: how it is mounted, served, used by commands and taken away.
//!
//! Everything that a second front end would need. It prints nothing and reads no environment: what it needs of either comes with
//! the [`Context`], and what there is to tell goes to its [`FrontEnd`].
//!
//! | module | what it does |
//! |---|---|
//! | [`request`] | what is asked for, whole: it travels to the process that serves |
//! | [`method`] | the ways in which a space can appear, and why one is not taken |
//! | [`decide`] | what becomes of a request, by what the space is: join, attach, start, repair, wait, refuse |
//! | [`start`] | the lock under which that is decided |
//! | [`appear`] | makes a space appear, by the best way that works |
//! | [`files`] | a space that stands as files |
//! | [`run`], [`execute`] | a command in a space |
//! | [`compile`] | makes the bytecode that spaces share |
//! | [`claim`], [`serve`], [`daemon`] | the process that serves a mount |
//! | [`supervise`] | the process that is the mount, and has another one serve it when that dies |
//! | [`unmount`] | takes a mount away |

pub mod appear;
#[cfg(unix)]
pub mod claim;
#[cfg(unix)]
pub mod clear;
#[cfg(unix)]
pub mod commit;
pub mod compile;
pub mod context;
#[cfg(unix)]
pub mod daemon;
pub mod decide;
pub mod error;
pub mod execute;
#[cfg(unix)]
pub mod files;
pub mod foreign;
#[cfg(unix)]
pub mod isolate;
pub mod lay_out;
pub mod method;
#[cfg(unix)]
pub mod mounters;
#[cfg(unix)]
pub mod obtain;
#[cfg(unix)]
pub mod parity;
#[cfg(unix)]
pub mod prefetch;
#[cfg(unix)]
pub mod recording;
pub mod request;
pub mod run;
#[cfg(unix)]
pub mod serve;
#[cfg(unix)]
pub mod snapshot;
#[cfg(unix)]
pub mod start;
#[cfg(unix)]
pub mod supervise;
#[cfg(unix)]
pub mod supply;
#[cfg(unix)]
pub mod sweep;
#[cfg(unix)]
pub mod unmount;
pub mod variables;
#[cfg(unix)]
pub mod written;

pub use context::{Context, FrontEnd, ProcessEnv};
