//! `holofs hash`: prints the blueprint hash of specification files, as RCC computes it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::rcc::blueprint::{self, Composed, Request};
use crate::rcc::home::Home;

use super::context::Context;

/// Arguments of `hash`.
#[derive(Debug, Args)]
pub struct HashArgs {
    /// conda.yaml, package.yaml or robot.yaml files, merged in this order; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Show the hashed text
    #[arg(long)]
    pub show_blueprint: bool,
    /// Include the dev-dependencies of package.yaml
    #[arg(long)]
    pub devdeps: bool,
    /// Read the content of FILE from stdin; its name determines its type
    #[arg(long)]
    pub stdin: bool,
}

#[derive(Serialize)]
struct HashReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    blueprint: Option<String>,
    hash: String,
}

/// Prints the hash, or refuses files that RCC may read differently.
pub fn main(context: &Context, args: &HashArgs) -> anyhow::Result<ExitCode> {
    tell(context, args, composed_of(context, args)?)
}

/// Prints the result.
pub fn tell(context: &Context, args: &HashArgs, composed: Composed) -> anyhow::Result<ExitCode> {
    let Composed { text, blueprint: hash, .. } = composed;
    let report = HashReport { blueprint: args.show_blueprint.then_some(text), hash };
    context.report(&report, |report| match &report.blueprint {
        Some(text) => {
            text.split('\n').chain(["", report.hash.as_str()]).map(str::to_owned).collect::<Vec<_>>()
        }
        None => vec![report.hash.clone()],
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The specification in the arguments.
pub fn composed_of(context: &Context, args: &HashArgs) -> anyhow::Result<Composed> {
    let one = !args.stdin || args.files.len() == 1;
    anyhow::ensure!(one, "--stdin needs exactly one FILE, whose name determines its format");
    let request = Request { files: args.files.clone(), dev_dependencies: args.devdeps, robot: None };
    if !args.stdin {
        return composed(&context.home, &request);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes).context("Cannot read stdin")?;
    let piped = &args.files[0];
    let read = |path: &Path| if piped == path { Ok(bytes.clone()) } else { std::fs::read(path) };
    Ok(blueprint::compose(&context.home, &request, &read)?)
}

/// The merged specification of these files; `-` is stdin.
pub fn composed(home: &Home, request: &Request) -> anyhow::Result<Composed> {
    Ok(blueprint::compose(home, request, &read)?)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    std::fs::read(file)
}
