//! `holofs doctor`: tries each rung of the ladder for real, in a temporary place, and tells what an administrator would have
//! to allow; each way of placing files; and what waking a thread costs. Nothing of it stays.

#[cfg_attr(windows, path = "windows/rungs.rs")]
mod rungs;
mod storage;
mod waking;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use crate::session::method::{Method, Mounter, Refusal};
use crate::sys::fs::place::Place;

use super::bundle;
use super::context::Context;

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also write what a bug report needs to this new file; no content of any file is in it
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// What was found out.
#[derive(Debug, Serialize)]
struct Report {
    user: u32,
    /// What `holofs run` would use.
    run: Option<Method>,
    /// What `holofs mount` would use.
    mount: Option<Method>,
    /// Whether `holofs run --isolate` works.
    isolate: bool,
    rungs: Vec<Tried>,
    storage: storage::Storage,
    waking: waking::Waking,
}

/// One rung.
#[derive(Debug, Serialize)]
struct Tried {
    #[serde(rename = "rung")]
    method: Method,
    holds: bool,
    reason: String,
    milliseconds: f64,
    cost: &'static str,
    allow: &'static str,
}

/// Tries, and reports.
pub fn main(context: &Context, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut rungs = rungs::try_mounts(context);
    rungs.push(tried(Method::Files, || try_to_write(context)));
    let first = |but: Option<Method>| rungs.iter().find(|tried| tried.holds && Some(tried.method) != but);
    let report = Report {
        user: crate::sys::process::this_process::effective_uid(),
        run: first(None).map(|tried| tried.method),
        mount: first(Some(Method::Fuse(Mounter::Namespace))).map(|tried| tried.method),
        isolate: rungs.iter().any(|tried| tried.holds && tried.method == Method::Fuse(Mounter::Namespace)),
        rungs,
        storage: storage::examine(context),
        waking: waking::examine(),
    };
    if let Some(path) = &args.bundle {
        bundle::write(context, path, &report)?;
    }
    context.report(&report, table)?;
    Ok(ExitCode::SUCCESS)
}

fn tried(method: Method, attempt: impl FnOnce() -> anyhow::Result<()>) -> Tried {
    let started = Instant::now();
    let outcome = attempt();
    let milliseconds = (started.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
    let reason = outcome.as_ref().err().map(|error| Refusal::new(method, format!("{error:#}")).reason);
    Tried {
        method,
        holds: outcome.is_ok(),
        reason: reason.unwrap_or_default(),
        milliseconds,
        cost: method.cost(),
        allow: method.allow(),
    }
}

fn try_to_write(context: &Context) -> anyhow::Result<()> {
    check_owner(&context.home.spaces_dir())?;
    let dirs = [context.home.holotree().to_owned(), context.home.spaces_dir().into()];
    dirs.iter().try_for_each(|dir| writable(dir))
}

/// Nothing is tried in a directory of our state that is a link or belongs to somebody else; one that is not there is fine.
fn check_owner(place: &Place) -> std::io::Result<()> {
    match place.open() {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file can be made in `dir`, or in the directory that it would be made in.
fn writable(dir: &Path) -> anyhow::Result<()> {
    let there = dir.ancestors().find(|above| above.is_dir()).context("There is no such directory")?;
    tempfile::tempfile_in(there).map(drop).with_context(|| format!("{} cannot be written", dir.display()))
}

fn table(report: &Report) -> Vec<String> {
    let name = |method: Option<Method>| method.map_or("nothing", Method::name);
    let mut lines: Vec<String> = report.rungs.iter().flat_map(line).collect();
    lines.push(format!("holofs run: {}", name(report.run)));
    lines.push(format!("holofs mount: {}", name(report.mount)));
    lines.push(format!("holofs run --isolate: {}", if report.isolate { "works" } else { "does not work" }));
    lines.extend(storage::lines(&report.storage));
    lines.push(waking::line(&report.waking));
    lines
}

fn line(tried: &Tried) -> Vec<String> {
    let (name, ms) = (tried.method.name(), tried.milliseconds);
    match tried.holds {
        true => vec![format!("{name:<12} yes  {ms:>6.1} ms  {}", tried.cost)],
        false => vec![
            format!("{name:<12} no   {ms:>6.1} ms  {}", tried.reason),
            format!("{:<29}to allow it: {}", "", tried.allow),
        ],
    }
}
