//! A command in a space that is there for the time of the command.
//!
//! The space is mounted (or materialized where nothing can be mounted), the command runs with the space's variables, and
//! its exit status is ours. A space that was mounted before stays mounted.

use std::ffi::OsString;
use std::path::Path;
#[cfg(windows)]
use std::process::ExitStatus;
#[cfg(unix)]
use std::sync::Arc;

use serde::Serialize;

use crate::space::Space;
use crate::store::index::Index;

use super::context::Context;
use super::execute::{Bytecode, Execution};
use super::method::{Method, Refusal};
#[cfg(unix)]
use super::recording::Slot;
use super::request::MountRequest;

#[cfg(unix)]
pub use mounted::run;

/// A command that is to run in a space.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The space, and how it appears.
    pub mount: MountRequest,
    /// At the catalog's own recorded path, in a namespace of the command's own.
    pub isolate: bool,
    /// Python keeps the bytecode it compiles.
    pub bytecode: bool,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Where what the command asks for is recorded, if that is wanted.
    #[cfg(unix)]
    pub recording: Option<Arc<Slot>>,
}

/// What was done, told before the command runs.
#[derive(Debug, Serialize)]
pub struct Appeared<'a> {
    /// The space.
    pub path: &'a Path,
    /// How it appeared.
    #[serde(rename = "rung")]
    pub method: Method,
    /// Why not in a better way.
    pub reasons: &'a [Refusal],
    /// It is seen by this command only.
    pub isolated: bool,
    /// Why nothing can be kept that would save time the next time.
    pub unkept: Option<&'a str>,
}

/// How the command runs in `space`.
fn execution<'a>(
    context: &'a Context,
    request: &'a RunRequest,
    space: &'a Space,
    index: &'a Index,
) -> Execution<'a> {
    let bytecode = if request.bytecode { Bytecode::OfSpace } else { Bytecode::Off };
    Execution { context, space, index, catalog: &request.mount.catalog, bytecode }
}

/// Tells that the space is there.
fn tell(context: &Context, space: &Space, method: Method, reasons: &[Refusal], isolated: bool) {
    let unkept = context.unkept();
    context.front.appeared(&Appeared { path: &space.root, method, reasons, isolated, unkept });
}

/// Where there are no mounts the space is laid out as files.
#[cfg(windows)]
pub fn run(context: &Context, request: &RunRequest) -> anyhow::Result<ExitStatus> {
    let (index, _, _) = context.index(&request.mount.catalog)?;
    let space = context.space(index.base(), &request.mount.space);
    let report = super::appear::appear(context, &request.mount)?;
    tell(context, &space, report.method, &report.reasons, false);
    execution(context, request, &space, &index).command(&request.command, || ())
}

#[cfg(unix)]
mod mounted;
