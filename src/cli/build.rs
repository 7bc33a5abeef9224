//! `holofs build`: builds a catalog from requirements.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::build::{self, BuildError, Built, Imports, Indexes, InputKind, Inputs, Options, Tools};
use crate::sys::process::signals;

use super::context::Context;
use super::exit_code::{self, INTERRUPTED};
use super::progress::Progress;
use super::table::{bytes, counted};
use super::terminal;

/// Arguments of `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// requirements.txt, uv.lock, conda.yaml or another (default: the one in this directory)
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Python to copy: a path, or a version that uv finds or installs
    #[arg(long, value_name = "PATH|VERSION")]
    pub python: Option<String>,
    /// URL of the package index (default: as uv is configured)
    #[arg(long, value_name = "URL")]
    pub index_url: Option<String>,
    /// URL of another index, which uv asks first; can be repeated
    #[arg(long, value_name = "URL")]
    pub extra_index_url: Vec<String>,
    /// Fail if uv.lock does not match its pyproject.toml
    #[arg(long)]
    pub frozen: bool,
    /// Include the dev-dependencies of package.yaml
    #[arg(long)]
    pub devdeps: bool,
    /// Build with rcc (conda.yaml, package.yaml and robot.yaml)
    #[arg(long, conflicts_with_all = ["python", "index_url", "extra_index_url", "offline", "check"])]
    pub with_rcc: bool,
    /// Do not start from the most similar catalog built before
    #[arg(long)]
    pub from_nothing: bool,
    /// Import every module in the build directory and at another path, and fail if one works only in the first
    #[arg(long)]
    pub check: bool,
}

/// Builds, unless the catalog exists.
pub fn main(context: &Context, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir().context("Cannot find the current directory")?;
    let indexes = indexes(args).lines(&|name| std::env::var(name).ok());
    let python = args.python.as_deref();
    let inputs = Inputs::read(&context.home, &args.files, &here, python, args.devdeps, &indexes)?;
    anyhow::ensure!(
        inputs.kind != InputKind::Node || args.extra_index_url.is_empty(),
        "npm has one registry: use --index-url"
    );
    let built = match build::known(&context.home, &inputs) {
        Some(known) => known,
        None => match make(context, args, &inputs) {
            Err(error) if matches!(error.downcast_ref(), Some(BuildError::Interrupted)) => {
                return Ok(exit_code::fail_as(&error, context.is_json(), INTERRUPTED));
            }
            outcome => outcome?,
        },
    };
    if let Some(before) = &built.unimportable {
        check_elsewhere(&built.blueprint, before)?;
    }
    context.report(&built, summary)?;
    Ok(ExitCode::SUCCESS)
}

/// The indexes named by the options.
fn indexes(args: &BuildArgs) -> Indexes {
    Indexes { default: args.index_url.clone(), extra: args.extra_index_url.clone() }
}

fn make(context: &Context, args: &BuildArgs, inputs: &Inputs) -> anyhow::Result<Built> {
    let lock = if args.with_rcc { None } else { Some(context.lock_hololib()?) };
    // Only now: a signal ends the wait for the lock at once.
    let interrupted = signals::interruption().context("Cannot handle signals")?;
    let options = Options {
        python: args.python.clone(),
        indexes: indexes(args),
        offline: context.offline,
        frozen: args.frozen,
        from_nothing: args.from_nothing,
        check: args.check,
        interrupted,
    };
    if args.with_rcc {
        return Ok(build::by_rcc(&context.home, inputs, &options, &tools())?);
    }
    let progress = Progress::new("Building", context.is_json());
    let outcome = build::build(context, inputs, &options, &tools(), &progress);
    drop(lock);
    progress.finish();
    Ok(outcome?)
}

/// Imports every module in a space of the catalog: what works in the stage must work there.
fn check_elsewhere(blueprint: &str, before: &Imports) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(std::env::current_exe().context("Cannot find the program")?);
    command.args(["run", "--space", "auto", blueprint, "--", "python3", "-I", "-c"]);
    let output = command.arg(build::CHECK_IMPORTS).stderr(std::process::Stdio::inherit()).output();
    let output = output.context("Cannot run the environment at another path")?;
    let after: Imports = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("The interpreter does not work at another path ({})", output.status))?;
    let broken: Vec<String> = after
        .iter()
        .filter(|(name, _)| !before.contains_key(*name))
        .map(|(name, why)| format!("{name} ({why})"))
        .collect();
    anyhow::ensure!(broken.is_empty(), "Modules cannot be imported at another path: {}", broken.join("; "));
    for (name, why) in before {
        terminal::warn(&format!("{name} cannot be imported at either path: {why}"));
    }
    log::info!("{} modules cannot be imported at either path", before.len());
    Ok(())
}

/// The build tools, which variables may override.
fn tools() -> Tools {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = Tools::default();
    Tools {
        uv: named("HOLOFS_UV").unwrap_or(usual.uv),
        npm: named("HOLOFS_NPM").unwrap_or(usual.npm),
        rcc: named("HOLOFS_RCC").unwrap_or(usual.rcc),
        conda: named("HOLOFS_CONDA").map_or(usual.conda, |tool| vec![tool]),
    }
}

fn summary(built: &Built) -> String {
    let (blueprint, tools) = (&built.blueprint, built.tool_seconds);
    #[cfg(unix)]
    if let (Some(base), Some(committed)) = (&built.base, &built.committed) {
        return format!(
            "{blueprint}: {}, {} of them new since {base}; tools {tools:.1} s, commit {:.1} s",
            counted(committed.files, "file"),
            committed.written_files,
            built.record_seconds
        );
    }
    match &built.recorded {
        Some(recorded) => format!(
            "{blueprint}: {}, {}; tools {tools:.1} s, recording {:.1} s",
            counted(recorded.files, "file"),
            bytes(recorded.bytes),
            built.record_seconds
        ),
        None if built.is_new => format!("{blueprint}: built by rcc in {tools:.1} s"),
        None => format!("{blueprint} exists already"),
    }
}
