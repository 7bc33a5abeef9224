//! Commands about environments as wholes: how they are made, and what is in them; and the manual.

use std::process::ExitCode;

use clap::Subcommand;

use super::build;
#[cfg(unix)]
use super::commit;
use super::complete;
use super::config;
use super::context::Context;
#[cfg(unix)]
use super::df;
#[cfg(unix)]
use super::explain;
#[cfg(unix)]
use super::info;
#[cfg(unix)]
use super::logs;
use super::manual;
#[cfg(unix)]
use super::metrics;
#[cfg(unix)]
use super::report;
#[cfg(unix)]
use super::top;
#[cfg(unix)]
use super::trace;
#[cfg(unix)]
use super::verify;

/// They stand in one list with the others.
#[derive(Debug, Subcommand)]
pub enum EnvironmentCommand {
    /// Build an environment from requirements, a lock file or a conda.yaml, and record it
    Build(build::BuildArgs),
    #[cfg(unix)]
    /// Make a new catalog of a space with what was written to it
    Commit(commit::CommitArgs),
    #[cfg(unix)]
    /// Show what takes the disk, and what removing a catalog would free
    Df(df::DfArgs),
    #[cfg(unix)]
    /// Tell where a path of a space comes from: layer, content, who changed it, and where its bytes are
    Explain(explain::ExplainArgs),
    #[cfg(unix)]
    /// Tell the numbers of mounted spaces in the text format of Prometheus
    Metrics(metrics::MetricsArgs),
    #[cfg(unix)]
    /// Write a page that shows what an environment holds and what runs touched of it
    Report(report::ReportArgs),
    #[cfg(unix)]
    /// Show the mounted spaces while they work: requests, how long they take, and who uses them
    Top(top::TopArgs),
    #[cfg(unix)]
    /// Show what a run, or a mounted space, reads: which files, in what order, from where, and how long it waits
    Trace(trace::TraceArgs),
    #[cfg(unix)]
    /// Verify one catalog: its blobs and, with --parity, that a mount, files and RCC's restore are the same tree
    Verify(verify::VerifyArgs),
    #[cfg(unix)]
    /// Show this program's version, home, machine, places and disk usage
    Info(info::InfoArgs),
    #[cfg(unix)]
    /// Show what the process that serves a space has logged
    Logs(logs::LogsArgs),
    /// Show the settings, and where each one is from
    Config(config::ConfigArgs),
    /// Print completions for a shell: holofs completions bash > /etc/bash_completion.d/holofs
    Completions(complete::CompletionsArgs),
    /// What is there, for completions
    #[command(hide = true)]
    Complete(complete::CompleteArgs),
    /// Write man pages into a directory
    #[command(hide = true)]
    Man(manual::ManArgs),
}

/// Runs one of them.
pub fn main(context: &Context, command: &EnvironmentCommand) -> anyhow::Result<ExitCode> {
    match command {
        EnvironmentCommand::Build(args) => build::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Commit(args) => commit::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Df(args) => df::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Explain(args) => explain::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Metrics(args) => metrics::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Top(args) => top::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Report(args) => report::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Trace(args) => trace::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Verify(args) => verify::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Info(args) => info::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Logs(args) => logs::main(context, args),
        EnvironmentCommand::Config(args) => config::main(context, args),
        EnvironmentCommand::Completions(args) => complete::completions(args),
        EnvironmentCommand::Complete(args) => complete::main(context, args),
        EnvironmentCommand::Man(args) => manual::man(args),
    }
}
