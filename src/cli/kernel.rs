//! `holofs kernel`: environments as Jupyter kernels, which are started through `holofs run`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::context::{Context, parse_space};
use super::target;
#[cfg(unix)]
use super::terminal;

/// Arguments of `kernel`.
#[derive(Debug, Args)]
pub struct KernelArgs {
    #[command(subcommand)]
    pub action: Action,
}

/// Subcommands for kernels.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Write a kernelspec that starts through `holofs run`; `jupyter kernelspec remove NAME` removes it
    Install(InstallArgs),
}

/// Arguments of `kernel install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Catalog or files that select one, as for `run`; must contain ipykernel
    #[arg(value_name = "CATALOG|FILE|DIR")]
    pub catalog: Option<String>,
    /// Name of the kernel
    #[arg(long, default_value = "holofs", value_parser = parse_name)]
    pub name: String,
    /// Display name (default: the name)
    #[arg(long, value_name = "TEXT")]
    pub display_name: Option<String>,
    /// Name of the space; auto: a new one for each kernel
    #[arg(short, long, default_value = "user", value_parser = parse_space)]
    pub space: String,
    /// Install below PREFIX/share/jupyter instead of the user's directory
    #[arg(long, value_name = "PREFIX")]
    pub prefix: Option<PathBuf>,
}

#[derive(Serialize)]
struct Installed {
    name: String,
    #[serde(serialize_with = "crate::sys::text::path")]
    path: PathBuf,
}

/// Runs the subcommand.
pub fn main(context: &Context, args: &KernelArgs) -> anyhow::Result<ExitCode> {
    let Action::Install(args) = &args.action;
    install(context, args)
}

fn install(context: &Context, args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let catalog = target::of_word(context, args.catalog.as_deref())?.catalog;
    let catalog = context.home.find_catalog(&catalog)?;
    context.index(&catalog.to_string_lossy())?;
    warn_without_ipykernel(context, &catalog.to_string_lossy());
    let dir = match &args.prefix {
        Some(prefix) => prefix.join("share/jupyter"),
        None => data_dir()?,
    };
    let dir = std::path::absolute(dir.join("kernels").join(&args.name))
        .context("Cannot get the current directory")?;
    std::fs::create_dir_all(&dir).with_context(|| format!("Cannot create {}", dir.display()))?;
    let path = dir.join("kernel.json");
    let name = catalog.file_name().unwrap_or_default().to_string_lossy();
    let text = serde_json::to_string_pretty(&spec(context, args, &name)?)?;
    std::fs::write(&path, text + "\n").with_context(|| format!("Cannot write {}", path.display()))?;
    let installed = Installed { name: args.name.clone(), path };
    context.report(&installed, |installed| installed.path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The kernelspec. Interrupts are sent as messages: a signal would reach the kernel twice, from Jupyter and from `run`.
fn spec(context: &Context, args: &InstallArgs, catalog: &str) -> anyhow::Result<Value> {
    let program = std::env::current_exe().context("Cannot find the holofs executable")?;
    let product = context.home.product();
    let set = |name: &str| std::env::var(name).ok().map(|value| (name.to_owned(), json!(value)));
    let mut env: Map<String, Value> = ["HOLOFS_HOME"].into_iter().filter_map(set).collect();
    env.insert(product.variable().to_owned(), json!(context.home.root().to_string_lossy()));
    let words = ["run", product.flag(), "--space", &args.space, catalog, "--"];
    let python = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"];
    let argv: Vec<String> = std::iter::once(program.to_string_lossy().into_owned())
        .chain(words.iter().chain(&python).map(|word| (*word).to_owned()))
        .collect();
    Ok(json!({
        "argv": argv,
        "display_name": args.display_name.as_deref().unwrap_or(&args.name),
        "language": "python",
        "interrupt_mode": "message",
        "env": env,
        "metadata": { "debugger": true },
    }))
}

/// The user's Jupyter directory.
fn data_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let found = set("JUPYTER_DATA_DIR").or_else(|| match std::env::consts::OS {
        "macos" => Some(set("HOME")?.join("Library/Jupyter")),
        "windows" => Some(set("APPDATA")?.join("jupyter")),
        _ => Some(set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?.join("jupyter")),
    });
    found.context("No directory for kernels: neither JUPYTER_DATA_DIR nor HOME is set")
}

/// Jupyter's rule for names.
fn parse_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !text.is_empty() && text.chars().all(plain) && text.trim_matches('.') == text {
        true => Ok(text.to_owned()),
        false => Err("a kernel name has only letters, digits, '-', '_' and '.'".to_owned()),
    }
}

/// Warns, because a kernel that cannot start reports little in a notebook.
#[cfg(unix)]
fn warn_without_ipykernel(context: &Context, catalog: &str) {
    use super::inspected::Inspected;
    match Inspected::open(context, catalog) {
        Ok(found) if found.packages.version("ipykernel").is_none() => {
            terminal::warn(
                "This environment has no ipykernel, so the kernel will not start: add it to the conda.yaml",
            );
        }
        Ok(_) => {}
        Err(error) => log::debug!("Its packages are unknown: {error:#}"),
    }
}

#[cfg(not(unix))]
fn warn_without_ipykernel(_context: &Context, _catalog: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_name_is_one_plain_component() {
        for good in ["holofs", "py-3.11", "a_b"] {
            assert_eq!(parse_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "..", ".a", "a/b", "a b", "ä"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}
