//! Building: creates a catalog from a list of requirements, with the usual external tools.
//!
//! ```text
//! files ─inputs─▶ specification, hash ─(catalog there? done)─▶ stage ─interpreter, uv | micromamba─▶ checked prefix ─record─▶ catalog
//!                                      └(a near catalog?)─▶ mounted copy of it ─uv─▶ changed prefix ─commit─────────────────▶ catalog
//! ```
//! A build creates a finished prefix at the path where RCC would build it, records it, and removes it again. The specification names
//! the catalog: RCC's own blueprint for files that RCC can read, else the text of all inputs. So the same inputs are built once. A
//! prefix that does not work is never recorded, and however a build ends early, its stage is removed: at once, or, after SIGKILL, by
//! the next build. The caller holds RCC's lock of the hololib, as RCC does while it builds.

mod indexes;
mod inputs;
mod locked;
mod nearest;
mod stage;
mod tools;
#[cfg(unix)]
mod upgrade;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use indexes::Indexes;
pub use inputs::{InputKind, Inputs};
pub use tools::Tools;

use crate::error::{Class, Failure, chain};
use crate::rcc::blueprint::ComposeError;
use crate::rcc::home::Home;
#[cfg(unix)]
use crate::session::commit::Committed;
use crate::session::context::Context;
use crate::session::error::SessionError;
#[cfg(unix)]
use crate::session::sweep;
use crate::space::record::{self, RecordError, Recorded, Recorder};
use crate::store::observe::Observer;

use nearest::Made;
use stage::Stage;
use tools::Steps;

/// At most this much of a new environment goes into the raw store, in bytes, and at most this share of the raw store is used for it.
const READY: (u64, u64) = (512 << 20, 8);

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The interpreter: a path, or a version that uv can find.
    pub python: Option<String>,
    /// The package indexes, if not the tool's own.
    pub indexes: Indexes,
    /// Only use the tool's caches.
    pub offline: bool,
    /// Fail if a lock file does not match its project.
    pub frozen: bool,
    /// Do not start from another catalog.
    pub from_nothing: bool,
    /// Import every module in the stage, to compare with the same check elsewhere.
    pub check: bool,
    /// Set from outside to interrupt the build.
    pub interrupted: Arc<AtomicBool>,
}

/// Why another catalog cannot be upgraded.
pub enum NotUpgraded {
    /// The reason, which does not lie in the inputs: the environment is built from scratch instead.
    Refused(String),
    /// The tools failed, and would fail again in a build from scratch.
    Failed(BuildError),
}

impl From<SessionError> for NotUpgraded {
    fn from(error: SessionError) -> NotUpgraded {
        NotUpgraded::Refused(chain(&error).to_string())
    }
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
    /// A file of unknown kind, or files that cannot be combined.
    #[error("Cannot build from {}: {why}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// The problem.
        why: String,
    },
    /// An RCC file is invalid.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A tool is not installed.
    #[error("Cannot find {tool}, which installs {what}")]
    NoTool {
        /// The program.
        tool: &'static str,
        /// What it is needed for.
        what: &'static str,
        /// How to install it.
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
        /// The step.
        step: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its complete output.
        log: PathBuf,
        /// The end of the log.
        last_lines: String,
    },
    /// The build was interrupted; nothing is left of it.
    #[error("The build was interrupted")]
    Interrupted,
    /// The stage cannot be created or removed.
    #[error("{doing} {} failed", path.display())]
    Stage {
        /// The operation.
        doing: &'static str,
        /// The path it was on.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The finished prefix cannot be recorded.
    #[error("Cannot record the finished environment")]
    Record(#[source] RecordError),
}

impl Failure for BuildError {
    fn class(&self) -> Option<Class> {
        match self {
            BuildError::Compose(error) => error.class(),
            _ => None,
        }
    }

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

/// The result of a build.
#[derive(Debug, Default, serde::Serialize)]
pub struct Built {
    /// The blueprint, as `holofs run` expects it.
    pub blueprint: String,
    /// The catalog's file.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub catalog: PathBuf,
    /// False if the catalog already existed.
    pub is_new: bool,
    /// The catalog that was upgraded, if any.
    pub base: Option<String>,
    /// Why the nearest catalog was not upgraded.
    pub base_refused: Option<String>,
    /// The result of recording, if it was built from scratch.
    pub recorded: Option<Recorded>,
    /// The result of the commit, if it was an upgrade.
    #[cfg(unix)]
    pub committed: Option<Committed>,
    /// The tools' complete output; none if nothing was built.
    #[serde(serialize_with = "crate::sys::text::maybe_path")]
    pub log: Option<PathBuf>,
    /// Duration of the tools, in seconds.
    pub tool_seconds: f64,
    /// Duration of recording, in seconds.
    pub record_seconds: f64,
    /// Modules that could not be imported where they were built, with the reason, if that was checked.
    pub unimportable: Option<Imports>,
}

impl Built {
    fn of(blueprint: String, catalog: PathBuf) -> Built {
        Built { blueprint, catalog, ..Built::default() }
    }
}

/// Modules that cannot be imported, by name, each with the reason.
pub type Imports = BTreeMap<String, String>;

/// Prints [`Imports`] as JSON; run by the interpreter to check.
pub const CHECK_IMPORTS: &str = include_str!("build/check.py");

/// The catalog of these inputs, if it was built before.
pub fn known(home: &Home, inputs: &Inputs) -> Option<Built> {
    let catalog = home.find_catalog(&inputs.blueprint()).ok()?;
    Some(Built::of(inputs.blueprint(), catalog))
}

/// Lets RCC build it. RCC takes the lock of the hololib itself.
pub fn by_rcc(home: &Home, inputs: &Inputs, options: &Options, tools: &Tools) -> Result<Built, BuildError> {
    let first = inputs.files.first().cloned().unwrap_or_default();
    let refused = |why: &str| BuildError::Input { path: first.clone(), why: why.to_owned() };
    if !matches!(inputs.kind, InputKind::Conda | InputKind::CondaPip) {
        return Err(refused("RCC builds from conda.yaml, package.yaml and robot.yaml only"));
    }
    let started = Instant::now();
    let log = log_file(home, &inputs.blueprint())?;
    Steps { tools, stage: home.root(), options, log: &log, started }.by_rcc(inputs, home.root())?;
    let built = known(home, inputs).ok_or_else(|| refused("RCC succeeded but created no such catalog"))?;
    Ok(Built { is_new: true, log: Some(log), tool_seconds: started.elapsed().as_secs_f64(), ..built })
}

/// Builds and records, unless the catalog exists: from the nearest catalog if there is one and it can be mounted, else from scratch.
/// The caller holds the lock of the hololib.
pub fn build(
    context: &Context,
    inputs: &Inputs,
    options: &Options,
    tools: &Tools,
    observer: &dyn Observer,
) -> Result<Built, BuildError> {
    let home = &context.home;
    if let Some(known) = known(home, inputs) {
        return Ok(known);
    }
    let log = log_file(home, &inputs.blueprint())?;
    let stage = Stage::create(home)?;
    let steps = Steps { tools, stage: stage.path(), options, log: &log, started: Instant::now() };
    if matches!(inputs.kind, InputKind::Conda | InputKind::Node) {
        if inputs.kind == InputKind::Node {
            steps.node(inputs)?
        } else {
            steps.conda(inputs)?
        }
        let built = recorded(recorder(context), inputs, &steps, &stage, observer)?;
        removed(context, stage)?;
        return Ok(built);
    }
    let python = steps.find_python(inputs)?;
    let made = Made::of(inputs, &python);
    let made = made.map_err(|source| BuildError::Start { program: python.clone(), source })?;
    let builds = log.parent().unwrap_or(Path::new(".")).to_owned();
    let base = if options.from_nothing {
        None
    } else {
        made.nearest(&builds, &|other| home.find_catalog(other).is_ok())
    };
    let mut refused = None;
    if let Some(base) = base {
        match upgraded(context, &base, inputs, &steps) {
            Ok(built) => return noted(built, &made, &builds),
            Err(NotUpgraded::Failed(error)) => return Err(error),
            Err(NotUpgraded::Refused(why)) => {
                log::warn!("Built from scratch, not from {base}: {why}");
                refused = Some(why);
            }
        }
    }
    let mut recorder = recorder(context);
    steps.install(inputs, &python, &mut recorder)?;
    let built = recorded(recorder, inputs, &steps, &stage, observer)?;
    removed(context, stage)?;
    noted(Built { base_refused: refused, ..built }, &made, &builds)
}

/// Who builds an environment uses it next.
fn recorder(context: &Context) -> Recorder<'_> {
    let (most, share) = READY;
    Recorder::new(&context.home).for_use(most.min(context.limits().raw_bytes / share))
}

/// Removes the stage; its files are deleted in the background.
#[cfg(unix)]
fn removed(context: &Context, stage: Stage) -> Result<(), BuildError> {
    stage.remove()?;
    sweep::after(context, context.home.holotree(), None);
    Ok(())
}

/// Removes the stage.
#[cfg(windows)]
fn removed(_context: &Context, stage: Stage) -> Result<(), BuildError> {
    stage.remove()
}

/// Stores the build, so that later ones can start from it; this only saves time.
fn noted(built: Built, made: &Made, builds: &Path) -> Result<Built, BuildError> {
    if let Err(error) = made.note(builds) {
        log::warn!("Later builds cannot start from {}: {error}", built.blueprint);
    }
    Ok(built)
}

/// Records a finished stage.
fn recorded(
    recorder: Recorder<'_>,
    inputs: &Inputs,
    steps: &Steps<'_>,
    stage: &Stage,
    observer: &dyn Observer,
) -> Result<Built, BuildError> {
    let unimportable = steps.check_if_wanted()?;
    stage.finish(&inputs.specification)?;
    let recording = Instant::now();
    let naming = record::Options {
        interrupted: Arc::clone(&steps.options.interrupted),
        ..record::Options::new(inputs.specification.clone())
    };
    let recorded = recorder.record(stage.path(), &naming, observer);
    let recorded = recorded.map_err(|error| match error {
        RecordError::Interrupted => BuildError::Interrupted,
        error => BuildError::Record(error),
    })?;
    Ok(Built {
        is_new: true,
        log: Some(steps.log.to_owned()),
        tool_seconds: recording.duration_since(steps.started).as_secs_f64(),
        record_seconds: recording.elapsed().as_secs_f64(),
        unimportable,
        recorded: Some(recorded.clone()),
        ..Built::of(recorded.blueprint, recorded.catalog)
    })
}

#[cfg(unix)]
fn upgraded(context: &Context, base: &str, inputs: &Inputs, steps: &Steps<'_>) -> Result<Built, NotUpgraded> {
    let upgrade::Upgraded { committed, unimportable, tool_seconds, commit_seconds } =
        upgrade::upgrade(context, base, inputs, steps)?;
    Ok(Built {
        is_new: true,
        log: Some(steps.log.to_owned()),
        tool_seconds,
        record_seconds: commit_seconds,
        unimportable,
        base: Some(base.to_owned()),
        committed: Some(committed.clone()),
        ..Built::of(committed.blueprint, committed.catalog)
    })
}

#[cfg(windows)]
fn upgraded(
    _context: &Context,
    _base: &str,
    _inputs: &Inputs,
    _steps: &Steps<'_>,
) -> Result<Built, NotUpgraded> {
    Err(NotUpgraded::Refused("nothing can be mounted on Windows".to_owned()))
}

/// The log file of a build. The last log of each blueprint is kept.
fn log_file(home: &Home, blueprint: &str) -> Result<PathBuf, BuildError> {
    let dir = home.holofs().below("builds");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BuildError::Stage { doing: "Making", path, source }
    };
    // Tools get paths in it, so it must be ours: then no other user can put a link there.
    dir.ensure().map_err(failed(&dir))?;
    let log = dir.below(format!("{blueprint}.log"));
    log.publish(b"").map_err(failed(&log))?;
    Ok(log.into())
}
