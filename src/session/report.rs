//! Reports on a space that has appeared.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(unix)]
use crate::fs::fuse::Io;
#[cfg(unix)]
use crate::space::MountState;
use crate::space::Space;
use crate::store::index::{Head, Made};

#[cfg(unix)]
use super::method::Mounter;
use super::method::{Method, Refusal};

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

/// The report before the command runs.
#[derive(Debug, Serialize)]
pub struct Appeared<'a> {
    /// The space.
    pub path: &'a Path,
    /// The method that was used.
    #[serde(rename = "rung")]
    pub method: Method,
    /// Why no better method was used.
    pub reasons: &'a [Refusal],
    /// Only this command can see it.
    pub isolated: bool,
    /// Why the cache is not writable.
    #[serde(rename = "unkept")]
    pub cache_not_writable: Option<&'a str>,
}

/// The report on an existing mount.
#[cfg(unix)]
pub fn report_of(space: &Space, catalog: &Head, state: &MountState) -> MountReport {
    let io = [Io::NoOpen, Io::Passthrough].into_iter().find(|io| io.name() == state.options.io);
    MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog: state.catalog_path.clone(),
        blueprint: catalog.blueprint().to_owned(),
        pid: Some(state.process.pid),
        mode: state.mode.clone(),
        io,
        io_reason: None,
        method: Method::try_from(state.method.clone()).unwrap_or(Method::Fuse(Mounter::Direct)),
        reasons: Vec::new(),
        entries: catalog.len(),
        index: description_of(&Made::Opened),
    }
}

/// The report on a space of plain files.
pub fn report_of_files(
    space: &Space,
    head: &Head,
    made: &Made,
    catalog: PathBuf,
    reasons: Vec<Refusal>,
) -> MountReport {
    MountReport {
        path: space.root.clone(),
        label: space.label.as_str().to_owned(),
        catalog,
        blueprint: head.blueprint().to_owned(),
        pid: None,
        mode: "read-write".to_owned(),
        #[cfg(unix)]
        io: None,
        #[cfg(unix)]
        io_reason: None,
        method: Method::Files,
        reasons,
        entries: head.len(),
        index: description_of(made),
    }
}

/// How the index was obtained, in one word.
pub fn description_of(made: &Made) -> String {
    if *made == Made::Opened { "opened" } else { "compiled" }.to_owned()
}
