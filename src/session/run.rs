//! Runs a command in a space.
//!
//! The space is mounted (or materialized if it cannot be mounted), the command runs with the space's variables, and its exit status
//! becomes ours. A space that was mounted before stays mounted.

use std::ffi::OsString;
use std::path::PathBuf;
#[cfg(windows)]
use std::process::ExitStatus;
#[cfg(unix)]
use std::sync::Arc;
use std::sync::OnceLock;

use crate::space::Space;
use crate::store::index::Head;

use super::context::Context;
#[cfg(windows)]
use super::error::SessionError;
use super::execute::{Bytecode, Execution};
use super::method::{Method, Refusal};
#[cfg(unix)]
use super::recording::Slot;
use super::report::Appeared;
use super::request::MountRequest;

#[cfg(unix)]
pub use mounted::run;

/// A command to run in a space.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The space and its options.
    pub mount: MountRequest,
    /// Run at the catalog's own recorded path, in a namespace for the command.
    pub isolate: bool,
    /// Python keeps the bytecode that it compiles.
    pub bytecode: bool,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Commands that must succeed before it.
    pub before: Vec<Vec<OsString>>,
    /// The working directory of all commands, if not the current one.
    pub directory: Option<PathBuf>,
    /// Where to record the requests of the command, if requested.
    #[cfg(unix)]
    pub recording: Option<Arc<Slot>>,
}

/// How to run the command in `space`.
fn execution<'a>(
    context: &'a Context,
    request: &'a RunRequest,
    space: &'a Space,
    head: &'a Head,
) -> Execution<'a> {
    let bytecode = if request.bytecode { Bytecode::OfSpace } else { Bytecode::Off };
    let RunRequest { before, directory, mount, .. } = request;
    let (catalog, directory) = (&mount.catalog, directory.as_deref());
    Execution {
        context,
        space,
        head,
        catalog,
        bytecode,
        before,
        directory,
        unread: None,
        index: OnceLock::new(),
    }
}

/// Reports that the space has appeared.
fn tell(context: &Context, space: &Space, method: Method, reasons: &[Refusal], isolated: bool) {
    let cache_not_writable = context.cache_not_writable();
    context.front.appeared(&Appeared { path: &space.root, method, reasons, isolated, cache_not_writable });
}

/// Without mounts, the space is laid out as files.
#[cfg(windows)]
pub fn run(context: &Context, request: &RunRequest) -> Result<ExitStatus, SessionError> {
    let (head, _, _) = context.head(&request.mount.catalog)?;
    let space = context.space(head.base(), &request.mount.space);
    let report = super::appear::appear(context, &request.mount)?;
    tell(context, &space, report.method, &report.reasons, false);
    execution(context, request, &space, &head).command(&request.command, || ())
}

#[cfg(unix)]
mod mounted;
