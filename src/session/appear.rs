//! Makes a space appear, by the best method that works: if it cannot be mounted, it is laid out as files, unless the request excludes
//! that.

use std::path::PathBuf;

#[cfg(windows)]
use anyhow::Context as _;
use serde::{Deserialize, Serialize};

#[cfg(unix)]
use crate::fs::fuse::Io;
#[cfg(unix)]
use crate::space::MountState;
use crate::space::Space;
#[cfg(windows)]
use crate::space::materialize::Options;
use crate::store::index::{Index, Made};

use super::context::Context;
use super::error::CannotMount;
#[cfg(windows)]
use super::lay_out::{default_strategy, lay_out};
#[cfg(windows)]
use super::method::told;
use super::method::{Method, Mode, Mounter, Refusal};
use super::request::MountRequest;

/// Why nothing is mounted on systems without FUSE.
pub const NO_FUSE: &str = "there is no FUSE on Windows";

/// A report on a space that appeared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountReport {
    /// The mountpoint: the space.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub path: PathBuf,
    /// The space's label.
    pub label: String,
    /// The catalog's file.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub catalog: PathBuf,
    /// The blueprint.
    pub blueprint: String,
    /// The daemon; `None` if the space is plain files.
    pub pid: Option<u32>,
    /// `read-write` or `read-only`.
    pub mode: String,
    /// How files are read; `None` if the space is plain files.
    #[cfg(unix)]
    pub io: Option<Io>,
    /// Why files are not read in the requested way.
    #[cfg(unix)]
    pub io_reason: Option<String>,
    /// The method that was used.
    #[serde(rename = "rung")]
    pub method: Method,
    /// Why no better method was used; empty if it was the best.
    pub reasons: Vec<Refusal>,
    /// Entries of the catalog's tree.
    pub entries: u64,
    /// `opened`, or `compiled` if there was no index of the catalog (or it was damaged).
    pub index: String,
}

/// Makes the space appear, by the best method that works.
pub fn appear(context: &Context, request: &MountRequest) -> anyhow::Result<MountReport> {
    request.check()?;
    match request.mode {
        Mode::Materialize => materialized(context, request, Vec::new()),
        Mode::Auto | Mode::Mount => match launch(context, request)? {
            Ok(report) => Ok(report),
            Err(refused) => without_mount(context, request, refused),
        },
    }
}

#[cfg(unix)]
fn launch(context: &Context, request: &MountRequest) -> anyhow::Result<Result<MountReport, CannotMount>> {
    Ok(super::obtain::obtain(context, request, None)?.map(|obtained| obtained.report))
}

/// The report on an existing mount.
#[cfg(unix)]
pub fn report_of(space: &Space, index: &Index, state: &MountState) -> MountReport {
    let io = [Io::NoOpen, Io::Passthrough].into_iter().find(|io| io.name() == state.options.io);
    MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog: state.catalog_path.clone(),
        blueprint: index.blueprint().to_owned(),
        pid: Some(state.process.pid),
        mode: state.mode.clone(),
        io,
        io_reason: None,
        method: Method::try_from(state.rung.clone()).unwrap_or(Method::Fuse(Mounter::Direct)),
        reasons: Vec::new(),
        entries: index.len(),
        index: told_of(&Made::Opened),
    }
}

#[cfg(windows)]
fn launch(context: &Context, request: &MountRequest) -> anyhow::Result<Result<MountReport, CannotMount>> {
    let (index, _, _) = context.index(&request.catalog)?;
    let what = context.space(index.base(), &request.space).root.display().to_string();
    Ok(Err(CannotMount { what, refused: vec![Refusal::new(Method::Fuse(Mounter::Direct), NO_FUSE)] }))
}

/// Uses the last method, plain files, if it is allowed.
pub fn without_mount(
    context: &Context,
    request: &MountRequest,
    refused: CannotMount,
) -> anyhow::Result<MountReport> {
    if request.mode == Mode::Mount {
        return Err(refused.into());
    }
    materialized(context, request, refused.refused)
}

/// Lays the space out as files.
#[cfg(unix)]
pub fn materialized(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
) -> anyhow::Result<MountReport> {
    Ok(super::files::obtain(context, request, reasons, None)?.0)
}

/// Lays the space out as files.
#[cfg(windows)]
pub fn materialized(
    context: &Context,
    request: &MountRequest,
    reasons: Vec<Refusal>,
) -> anyhow::Result<MountReport> {
    let (index, made, catalog) = context.index(&request.catalog)?;
    let space = context.space(index.base(), &request.space);
    let options = Options { strategy: default_strategy(context)?, wait: context.wait, ..Options::default() };
    lay_out(context, &request.catalog, &request.space, &options, request.fresh)
        .with_context(|| format!("Cannot materialize (nor mount: {})", told(&reasons)))?;
    Ok(report_of_files(&space, &index, &made, catalog, reasons))
}

/// The report on a space of plain files.
pub fn report_of_files(
    space: &Space,
    index: &Index,
    made: &Made,
    catalog: PathBuf,
    reasons: Vec<Refusal>,
) -> MountReport {
    MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: index.blueprint().to_owned(),
        pid: None,
        mode: "read-write".to_owned(),
        #[cfg(unix)]
        io: None,
        #[cfg(unix)]
        io_reason: None,
        method: Method::Files,
        reasons,
        entries: index.len(),
        index: told_of(made),
    }
}

/// How the index was obtained, in one word.
pub fn told_of(made: &Made) -> String {
    if *made == Made::Opened { "opened" } else { "compiled" }.to_owned()
}
