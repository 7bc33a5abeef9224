//! `holofs variables`: makes a space appear, and prints the variables that a shell needs to work in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::rcc::blueprint::Request;
use crate::rcc::home::Settings;
use crate::rcc::yaml::{self, Yaml};
use crate::session::appear::appear;
use crate::session::method::Mode;
use crate::session::request::{MountRequest, SpaceName};
use crate::session::variables::{self, Extra, Sources, Unmanaged, Variable};
use crate::space::temp;
use crate::sys::fs::shared;

use super::config;
use super::context::{Context, parse_controller, parse_space, say_method};
use super::remotes::{self, RemoteUseArgs};
use super::settled::settled;
use super::target::{self, Target};
use super::terminal;

/// Arguments of `variables`.
#[derive(Debug, Clone, Args)]
pub struct VariablesArgs {
    /// conda.yaml or package.yaml files, merged after a robot.yaml in this directory; or one catalog (hash, prefix, name, path)
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub what: Vec<PathBuf>,
    /// Name of the space
    #[arg(short, long, default_value = "user", value_parser = parse_space)]
    pub space: String,
    /// Controller that the space belongs to
    #[arg(long, default_value = "user", value_parser = parse_controller)]
    pub controller: String,
    /// Method to provide the space, if it does not exist yet
    #[arg(long, value_enum, default_value = config::usual("HOLOFS_MODE"), env = "HOLOFS_MODE")]
    pub mode: Mode,
    #[command(flatten)]
    pub more: MoreArgs,
    #[command(flatten)]
    pub remote: RemoteUseArgs,
}

/// Options that RCC's command has too.
#[derive(Debug, Clone, Default, Args)]
pub struct MoreArgs {
    /// File with additional variables, which come first: env.json of a robot
    #[arg(short, long, value_name = "FILE")]
    pub environment: Option<PathBuf>,
    /// robot.yaml whose environment comes first, and whose directories are added (default: the one in this directory)
    #[arg(short, long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// Include the dev-dependencies of package.yaml
    #[arg(long)]
    pub devdeps: bool,
    /// Accepted for RCC, where it forces a rebuild; nothing is built here
    #[arg(short, long, hide = true)]
    pub force: bool,
    /// Do not set variables about bytecode
    #[arg(skip)]
    pub no_pyc_management: bool,
    /// Do not set variables about temporary files
    #[arg(skip)]
    pub no_temp_management: bool,
}

/// Makes the space appear like RCC's command, and prints. If a shell evaluates the output, a failure must make `eval` fail too, which
/// empty output does not.
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
        // Raw output: each line must reach the shell unchanged, and is made without control characters.
        terminal::print(&variables::as_shell(&list))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Output that makes `eval "$(holofs variables …)"` fail in a shell.
pub fn failure(json: bool) -> Option<&'static str> {
    (!json && !cfg!(windows)).then_some("false")
}

fn list(context: &Context, args: &VariablesArgs) -> anyhow::Result<Vec<Variable>> {
    let target = target(context, args)?;
    let named = SpaceName { space: args.space.clone(), controller: args.controller.clone() };
    let (catalog, _, _) = context.head(&target.catalog)?;
    let space = context.space(catalog.base(), &named);
    let files = space.stands_as_files() && args.mode == Mode::Auto;
    let mode = if files { Mode::Materialize } else { args.mode };
    let report = appear(context, &MountRequest::new(&target.catalog, &named, mode))?;
    say_method(report.method, &report.reasons);
    let extra = extra(args, target)?;
    let given = context.process.unmanaged;
    let variables = variables::of(&Sources {
        home: &context.home,
        settings: &Settings::read(&context.home)?,
        root: &space.root,
        blueprint: catalog.blueprint(),
        temp: &temp_dir(&context.home.temp_dir())?,
        path: context.process.path.clone(),
        unmanaged: Unmanaged {
            bytecode: given.bytecode || args.more.no_pyc_management,
            temp: given.temp || args.more.no_temp_management,
        },
        extra: &extra,
    })?;
    Ok(variables)
}

/// The arguments with the local file of a remote catalog instead of its address. Not during the second check for damage: a pull takes
/// RCC's lock.
fn local(context: &Context, args: &VariablesArgs) -> anyhow::Result<VariablesArgs> {
    let mut what = args.what.clone();
    if let [one] = &mut what[..] {
        *one = remotes::local(context, &one.to_string_lossy(), &args.remote)?.into();
    }
    if args.remote.pull.is_some() {
        remotes::or_pulled(context, &args.remote, || target(context, args))?;
    }
    Ok(VariablesArgs { what, ..args.clone() })
}

/// The selected catalog: by name, or by specification files.
fn target(context: &Context, args: &VariablesArgs) -> anyhow::Result<Target> {
    if let ([one], None) = (&args.what[..], &args.more.robot)
        && !target::is_file_word(one.as_os_str())
    {
        return target::of_word(context, Some(&one.to_string_lossy()));
    }
    let (files, robot) = (args.what.clone(), args.more.robot.clone());
    target::of_request(context, Request { files, robot, dev_dependencies: args.more.devdeps })
}

/// The additions to the variables.
fn extra(args: &VariablesArgs, target: Target) -> anyhow::Result<Extra> {
    Ok(Extra {
        injected: args.more.environment.as_deref().map(injected).transpose()?.unwrap_or_default(),
        robot: target.composed.and_then(|composed| composed.robot),
    })
}

/// The variables of an env.json, which RCC reads as YAML.
fn injected(path: &Path) -> anyhow::Result<Vec<Variable>> {
    let bytes = fs::read(path).with_context(|| format!("Cannot read {}", path.display()))?;
    let document = yaml::parse_bytes(&bytes).with_context(|| format!("Cannot read {}", path.display()))?;
    let variable = |(key, value): &(String, Yaml)| {
        let value = if value.is_nothing() { Some("") } else { value.as_written() };
        Some((key.clone(), value?.into()))
    };
    let list = match &document {
        Yaml::Map(entries) => entries.iter().map(variable).collect(),
        nothing if nothing.is_nothing() => Some(Vec::new()),
        _ => None,
    };
    let list: Vec<Variable> = list.with_context(|| format!("{} is not a map of strings", path.display()))?;
    match list.iter().find(|(key, _)| !variables::is_name(key)) {
        Some((key, _)) => {
            anyhow::bail!("{} sets {key:?}, which is not a valid variable name", path.display())
        }
        None => Ok(list),
    }
}

/// A directory for the shell's temporary files, marked so that RCC removes it after two days.
fn temp_dir(parent: &Path) -> anyhow::Result<PathBuf> {
    shared::ensure_dir(parent, false).with_context(|| format!("Cannot create {}", parent.display()))?;
    let dir = temp::private_dir(parent);
    let dir = dir.with_context(|| format!("Cannot create a directory in {}", parent.display()))?;
    let mark = dir.join(temp::MARK);
    fs::write(&mark, "True").with_context(|| format!("Cannot write {}", mark.display()))?;
    Ok(dir)
}
