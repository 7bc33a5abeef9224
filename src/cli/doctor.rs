//! `holofs doctor`: tests each mount method in a temporary directory, and reports what an administrator would have to allow; tests
//! the ways of placing files; and measures the cost of waking a thread. All traces are removed.

#[cfg_attr(windows, path = "windows/methods.rs")]
mod methods;
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
    /// Also write data for a bug report to this new file, without the content of any file
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// The results.
#[derive(Debug, Serialize)]
struct DoctorReport {
    user: u32,
    /// The method that `holofs run` would use.
    run: Option<Method>,
    /// The method that `holofs mount` would use.
    mount: Option<Method>,
    /// Whether `holofs run --isolate` works.
    isolate: bool,
    #[serde(rename = "rungs")]
    methods: Vec<Tried>,
    storage: storage::Storage,
    waking: waking::Waking,
}

/// One method.
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

/// Tests and reports.
pub fn main(context: &Context, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut methods = methods::try_mounts(context);
    methods.push(tried(Method::Files, || try_to_write(context)));
    let first = |but: Option<Method>| methods.iter().find(|tried| tried.holds && Some(tried.method) != but);
    let report = DoctorReport {
        user: crate::sys::process::this_process::effective_uid(),
        run: first(None).map(|tried| tried.method),
        mount: first(Some(Method::Fuse(Mounter::Namespace))).map(|tried| tried.method),
        isolate: methods.iter().any(|tried| tried.holds && tried.method == Method::Fuse(Mounter::Namespace)),
        methods,
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

/// Refuses to test in a state directory that is a link or belongs to another user; a missing one is fine.
fn check_owner(place: &Place) -> std::io::Result<()> {
    match place.open() {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Checks that a file can be created in `dir`, or in the directory where `dir` would be created.
fn writable(dir: &Path) -> anyhow::Result<()> {
    let there = dir.ancestors().find(|above| above.is_dir()).context("No such directory")?;
    tempfile::tempfile_in(there).map(drop).with_context(|| format!("{} is not writable", dir.display()))
}

fn table(report: &DoctorReport) -> Vec<String> {
    let name = |method: Option<Method>| method.map_or("nothing", Method::name);
    let mut lines: Vec<String> = report.methods.iter().flat_map(line).collect();
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
