//! Building: from a list of requirements to a catalog, by the tools that are made for it.
//!
//! ```text
//! files ─inputs─▶ specification, hash ─(catalog there? done)─▶ stage ─interpreter, uv | micromamba─▶ checked prefix ─record─▶ catalog
//! ```
//! A build makes a finished prefix at the place where RCC would build it, records it, and removes it again. The specification
//! names the catalog: RCC's own blueprint for what RCC can read, else the text of all inputs. So the same inputs are built
//! once. A prefix that does not work is never recorded, and whatever ends a build early, the stage goes: at once, or, after
//! SIGKILL, with the next build. The caller holds RCC's lock of the hololib, as RCC does while it builds.

mod inputs;
mod stage;
mod tools;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use inputs::{Inputs, Kind};
pub use tools::Tools;

use crate::error::Failure;
use crate::rcc::blueprint::CondaError;
use crate::rcc::home::Home;
use crate::space::record::{self, RecordError, Recorded};
use crate::store::observe::Observer;

use stage::Stage;

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The interpreter: a path, or a version that uv can find.
    pub python: Option<String>,
    /// The package index instead of the tool's own.
    pub index_url: Option<String>,
    /// Use what the tool has in its caches only.
    pub offline: bool,
    /// Fail if a lock file does not match its project.
    pub frozen: bool,
    /// Import every module in the stage, to be compared with the same elsewhere.
    pub check: bool,
    /// Set from outside to end the build.
    pub interrupted: Arc<AtomicBool>,
}

/// Why nothing was built. No catalog was written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file cannot be read.
    #[error("Cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is of no known kind, or several do not go together.
    #[error("Cannot build from {}: {why}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A conda.yaml is bad.
    #[error("Cannot understand {}", path.display())]
    Conda {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CondaError,
    },
    /// A tool is not installed.
    #[error("Cannot find {tool}, which installs {what}")]
    NoTool {
        /// The program.
        tool: &'static str,
        /// What it is needed for.
        what: &'static str,
        /// How it is installed.
        install: &'static str,
    },
    /// A tool cannot be started.
    #[error("Cannot run {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A tool failed.
    #[error("{} failed ({status}); its log is {}", step, log.display())]
    Step {
        /// What was tried.
        step: String,
        /// How it ended.
        status: ExitStatus,
        /// Everything that it wrote.
        log: PathBuf,
        /// The end of the log.
        last_lines: String,
    },
    /// Somebody ended the build; nothing is left of it.
    #[error("The build was interrupted")]
    Interrupted,
    /// The stage cannot be made or removed.
    #[error("{doing} {} failed", path.display())]
    Stage {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The finished prefix cannot be recorded.
    #[error("Cannot record the finished environment")]
    Record(#[source] RecordError),
}

impl Failure for BuildError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            BuildError::NoTool { install, .. } => Some((*install).into()),
            BuildError::Step { last_lines, .. } if !last_lines.is_empty() => {
                Some(format!("the last lines of the log are:\n{last_lines}").into())
            }
            _ => None,
        }
    }
}

/// What was built.
#[derive(Debug, serde::Serialize)]
pub struct Built {
    /// The blueprint: what `holofs run` takes.
    pub blueprint: String,
    /// The catalog's file.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub catalog: PathBuf,
    /// False if the catalog was there already.
    pub is_new: bool,
    /// What was recorded, if it is new.
    pub recorded: Option<Recorded>,
    /// Everything that the tools wrote; none if nothing was built.
    #[serde(serialize_with = "crate::sys::text::maybe_path")]
    pub log: Option<PathBuf>,
    /// Seconds for the tools, and for recording.
    pub tool_seconds: f64,
    /// As above.
    pub record_seconds: f64,
    /// Modules that could not be imported in the stage, with the reason, if that was tried.
    pub unimportable: Option<Imports>,
}

/// Modules that cannot be imported, by name, each with the reason.
pub type Imports = BTreeMap<String, String>;

/// Prints [`Imports`] as JSON, for the interpreter that runs it.
pub const CHECK_IMPORTS: &str = include_str!("build/check.py");

/// The catalog of these inputs, if it was built before.
pub fn known(home: &Home, inputs: &Inputs) -> Option<Built> {
    let catalog = home.find_catalog(&inputs.blueprint()).ok()?;
    Some(Built {
        blueprint: inputs.blueprint(),
        catalog,
        is_new: false,
        recorded: None,
        log: None,
        tool_seconds: 0.0,
        record_seconds: 0.0,
        unimportable: None,
    })
}

/// Builds and records, unless the catalog is there. The caller holds the lock of the hololib.
pub fn build(
    home: &Home,
    inputs: &Inputs,
    options: &Options,
    tools: &Tools,
    observer: &dyn Observer,
) -> Result<Built, BuildError> {
    if let Some(known) = known(home, inputs) {
        return Ok(known);
    }
    let started = Instant::now();
    let log = log_file(home, &inputs.blueprint())?;
    let stage = Stage::create(home)?;
    let steps = tools::Steps { tools, stage: stage.path(), options, log: &log };
    steps.install(inputs)?;
    let unimportable = options.check.then(|| steps.check_imports()).transpose()?;
    stage.finish(&inputs.specification)?;
    let tool_seconds = started.elapsed().as_secs_f64();
    let recording = Instant::now();
    let naming = record::Options::new(inputs.specification.clone());
    let recorded = record::record(stage.path(), home, &naming, observer).map_err(BuildError::Record)?;
    stage.remove()?;
    Ok(Built {
        blueprint: recorded.blueprint.clone(),
        catalog: recorded.catalog.clone(),
        is_new: true,
        recorded: Some(recorded),
        log: Some(log),
        tool_seconds,
        record_seconds: recording.elapsed().as_secs_f64(),
        unimportable,
    })
}

/// Logs of builds are kept, one per blueprint: the last one.
fn log_file(home: &Home, blueprint: &str) -> Result<PathBuf, BuildError> {
    let dir = home.holofs().join("builds");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Stage { doing: "Making", path, source }
    };
    crate::sys::fs::dir::ensure_private(&dir).map_err(failed(&dir))?;
    let log = dir.join(format!("{blueprint}.log"));
    crate::sys::fs::dir::publish(&log, b"").map_err(failed(&log))?;
    Ok(log)
}
