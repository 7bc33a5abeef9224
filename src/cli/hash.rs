//! `holofs hash`: the blueprint of a conda.yaml, as RCC computes it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::rcc::blueprint::Environment;
use crate::rcc::home::{Home, blueprint_hash};

use super::context::Context;

/// Arguments of `hash`.
#[derive(Debug, Args)]
pub struct HashArgs {
    /// conda.yaml files, merged in this order; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Show the text that is hashed
    #[arg(long)]
    pub show_blueprint: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    blueprint: Option<String>,
    hash: String,
}

/// Prints the hash, or refuses what RCC may read differently.
pub fn main(context: &Context, args: &HashArgs) -> anyhow::Result<ExitCode> {
    let text = specification(&context.home, &args.files)?;
    let hash = blueprint_hash(&text);
    let report = Report { blueprint: args.show_blueprint.then_some(text), hash };
    context.report(&report, |report| match &report.blueprint {
        Some(text) => format!("{text}\n\n{}", report.hash),
        None => report.hash.clone(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The text whose hash is the blueprint of these files together.
pub fn specification(home: &Home, files: &[PathBuf]) -> anyhow::Result<String> {
    let channel = home.local_channel();
    let channel = channel.as_deref().map(|path| path.to_string_lossy().into_owned());
    let mut merged: Option<Environment> = None;
    for file in files {
        let failed = || format!("Cannot hash {}", file.display());
        let next = Environment::parse(&read(file)?, channel.as_deref()).with_context(failed)?;
        merged = Some(match merged {
            None => next,
            Some(left) => left.merge(next).with_context(failed)?,
        });
    }
    let text = merged.unwrap_or_default().normal_form()?;
    Ok(text.trim().to_owned())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("Cannot read stdin")?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("Cannot read {}", file.display()))
}
