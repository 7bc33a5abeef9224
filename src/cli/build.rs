//! `holofs build`: from a list of requirements to a catalog.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::build::{self, Built, Inputs, Options, Tools};

use super::context::{Context, say_waiting};
use super::progress::Progress;

/// Arguments of `build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// requirements.txt, pylock.toml, pyproject.toml with uv.lock, conda.yaml or environment.yml (default: the one that is here)
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The Python to copy: a path, or a version that uv finds or installs
    #[arg(long, value_name = "PATH|VERSION")]
    pub python: Option<String>,
    /// The package index
    #[arg(long, value_name = "URL")]
    pub index_url: Option<String>,
    /// Use only what the tools have in their caches
    #[arg(long)]
    pub offline: bool,
    /// Fail if uv.lock does not match its pyproject.toml
    #[arg(long)]
    pub frozen: bool,
}

/// Builds, unless the catalog is there.
pub fn main(context: &Context, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let here = std::env::current_dir().context("Cannot find the current directory")?;
    let inputs = Inputs::read(&context.home, &args.files, &here, args.python.as_deref())?;
    let built = match build::known(&context.home, &inputs) {
        Some(known) => known,
        None => make(context, args, &inputs)?,
    };
    context.report(&built, summary)?;
    Ok(ExitCode::SUCCESS)
}

fn make(context: &Context, args: &BuildArgs, inputs: &Inputs) -> anyhow::Result<Built> {
    let options = Options {
        python: args.python.clone(),
        index_url: args.index_url.clone(),
        offline: args.offline,
        frozen: args.frozen,
    };
    let progress = Progress::new("Building", context.is_json());
    let lock = context.lock_hololib(&say_waiting)?;
    // Ctrl-C ends the tool that is at work; the stage is then removed here.
    let _signals = crate::sys::process::signals::catch().context("Cannot handle signals")?;
    let outcome = build::build(&context.home, inputs, &options, &tools(), &progress);
    drop(lock);
    progress.finish();
    outcome.map_err(|error| match error.hint() {
        Some(hint) => anyhow::Error::new(error).context(hint),
        None => error.into(),
    })
}

/// The tools, which variables may name.
fn tools() -> Tools {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let usual = Tools::default();
    Tools {
        uv: named("HOLOFS_UV").unwrap_or(usual.uv),
        conda: named("HOLOFS_CONDA").map_or(usual.conda, |tool| vec![tool]),
    }
}

fn summary(built: &Built) -> String {
    match &built.recorded {
        None => format!("{} is there already", built.blueprint),
        Some(recorded) => format!(
            "{}: {} files, {} bytes; tools {:.1} s, recording {:.1} s",
            built.blueprint, recorded.files, recorded.bytes, built.tool_seconds, built.record_seconds
        ),
    }
}
