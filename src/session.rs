//! The life cycle of a space: mounting, serving, using it in commands, and unmounting.
//!
//! Contains everything that a second front end would need. It does not print and does not read environment variables: these come with
//! the [`Context`], and messages go to its [`FrontEnd`].
//!
//! | module | responsibility |
//! |---|---|
//! | [`request`] | a complete request, which is also sent to the serving process |
//! | [`method`] | the ways in which a space can appear, and why one is not used |
//! | [`decide`] | the decision on a request, from the state of the space: join, attach, start, repair, wait, refuse |
//! | [`start`] | the lock held during that decision |
//! | [`appear`] | makes a space appear, by the best method that works; [`report`] says which |
//! | [`plain`], [`files`] | a space laid out as files: its state, and what to do with it |
//! | [`run`], [`execute`] | running a command in a space |
//! | [`compile`] | compiles the bytecode that spaces share |
//! | [`daemon`], [`starter`], [`background`] | the process in the background: its start, its starter, its sandbox |
//! | [`claim`], [`serve`] | what this process does: claims, mounts, serves |
//! | [`supervise`] | the supervisor of a mount, which replaces a dead server |
//! | [`restart`] | replaces the program that serves a mount with the installed one |
//! | [`unmount`], [`detach`] | unmounting, and how a mount is removed |

pub mod appear;
#[cfg(unix)]
pub mod background;
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
#[cfg(unix)]
pub mod detach;
pub mod error;
pub mod execute;
#[cfg(unix)]
pub mod files;
pub mod foreign;
#[cfg(unix)]
pub mod isolate;
#[cfg(unix)]
pub mod kept;
pub mod lay_out;
#[cfg(unix)]
pub mod left;
pub mod method;
#[cfg(unix)]
pub mod mounters;
#[cfg(unix)]
pub mod obtain;
#[cfg(unix)]
pub mod own_space;
#[cfg(unix)]
pub mod parity;
#[cfg(unix)]
pub mod plain;
#[cfg(unix)]
pub mod recording;
pub mod report;
pub mod request;
#[cfg(unix)]
pub mod restart;
pub mod run;
#[cfg(unix)]
pub mod serve;
#[cfg(unix)]
pub mod snapshot;
#[cfg(unix)]
pub mod start;
#[cfg(unix)]
pub mod starter;
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
