//! `holofs variables`: the space appears, and what a shell needs to work in it is printed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::rcc::home::{Settings, blueprint_hash};
use crate::session::appear::appear;
use crate::session::method::Mode;
use crate::session::request::{MountRequest, SpaceName};
use crate::session::variables::{self, Sources, Variable};
use crate::space::{Space, temp};

use super::context::{Context, parse_space, say_method};
use super::hash::specification;
use super::remotes::{self, RemoteUseArgs};
use super::settled::settled;
use super::terminal;

/// Arguments of `variables`.
#[derive(Debug, Clone, Args)]
pub struct VariablesArgs {
    /// conda.yaml files, or one catalog: its hash, a unique prefix of it, its file name, or a path
    #[arg(required = true, value_name = "CATALOG|FILE")]
    pub what: Vec<PathBuf>,
    /// The space's name
    #[arg(short, long, default_value = "user", value_parser = parse_space)]
    pub space: String,
    /// Who the space belongs to
    #[arg(long, default_value = "user")]
    pub controller: String,
    /// How the space appears, unless it is there already
    #[arg(long, value_enum, default_value = "auto", env = "HOLOFS_MODE")]
    pub mode: Mode,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
}

/// Makes the space appear as RCC's command does, and prints. What a shell evaluates must fail there, too: of an empty text nothing
/// fails.
#[allow(clippy::print_stdout)]
pub fn main(context: &Context, args: &VariablesArgs) -> anyhow::Result<ExitCode> {
    let args = &local(context, args)?;
    let list = settled(context, || list(context, args), |_| false).inspect_err(|_| {
        if let Some(failure) = failure(context.is_json()) {
            println!("{failure}");
        }
    })?;
    if context.is_json() {
        context.report(&variables::as_pairs(&list), |_| Vec::new())?;
    } else {
        // Not for people: each line is a shell's, exactly, and made so that it has no control character.
        terminal::print(&variables::as_shell(&list))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What makes `eval "$(holofs variables …)"` fail, where a shell evaluates it.
pub fn failure(json: bool) -> Option<&'static str> {
    (!json && !cfg!(windows)).then_some("false")
}

fn list(context: &Context, args: &VariablesArgs) -> anyhow::Result<Vec<Variable>> {
    let catalog = catalog(context, &args.what)?;
    let named = SpaceName { space: args.space.clone(), controller: args.controller.clone() };
    let (index, _, _) = context.index(&catalog)?;
    let space = context.space(index.base(), &named);
    let files = stands_as_files(&space) && args.mode == Mode::Auto;
    let mode = if files { Mode::Materialize } else { args.mode };
    let report = appear(context, &MountRequest::new(&catalog, &named, mode))?;
    say_method(report.method, &report.reasons);
    variables::of(&Sources {
        home: &context.home,
        settings: &Settings::read(&context.home)?,
        root: &space.root,
        blueprint: index.blueprint(),
        temp: &temp_dir(&context.home.temp_dir())?,
        path: context.process.path.clone(),
        unmanaged: context.process.unmanaged,
    })
}

/// The same with the file of a remote catalog in place of its address. Not while damage is looked for again: a pull takes RCC's lock.
fn local(context: &Context, args: &VariablesArgs) -> anyhow::Result<VariablesArgs> {
    let mut what = args.what.clone();
    if let [one] = &mut what[..] {
        *one = remotes::local(context, &one.to_string_lossy(), &args.remote)?.into();
    }
    Ok(VariablesArgs { what, ..args.clone() })
}

/// The catalog that is meant: by name, or by what one or several conda.yaml files ask for.
fn catalog(context: &Context, what: &[PathBuf]) -> anyhow::Result<String> {
    let is_yaml = |path: &Path| {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        matches!(extension, "yaml" | "yml") && path.is_file()
    };
    match what {
        [one] if !is_yaml(one) => Ok(one.to_string_lossy().into_owned()),
        files => Ok(blueprint_hash(&specification(&context.home, files)?)),
    }
}

/// True if the space is there as plain files: it stays so.
fn stands_as_files(space: &Space) -> bool {
    let filled = fs::read_dir(&space.root).is_ok_and(|mut entries| entries.next().is_some());
    filled && space.live_holder().is_none() && space.refuse_mounted().is_ok()
}

/// A directory for the shell's temporary files, with RCC's mark by which RCC removes it after two days.
fn temp_dir(parent: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(parent).with_context(|| format!("Cannot make {}", parent.display()))?;
    let dir = temp::private_dir(parent);
    let dir = dir.with_context(|| format!("Cannot make a directory in {}", parent.display()))?;
    let mark = dir.join("recycle.now");
    fs::write(&mark, "True").with_context(|| format!("Cannot write {}", mark.display()))?;
    Ok(dir)
}
