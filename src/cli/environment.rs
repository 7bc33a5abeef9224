//! Commands about whole environments: building, inspection, configuration; and the manual.

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
use super::restart;
#[cfg(unix)]
use super::top;
#[cfg(unix)]
use super::trace;
#[cfg(unix)]
use super::verify;

/// Listed together with the other commands.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum EnvironmentCommand {
    /// Build an environment from requirements, a lock file or a conda.yaml, and record it
    Build(build::BuildArgs),
    #[cfg(unix)]
    /// Create a new catalog from a space with its changes
    Commit(commit::CommitArgs),
    #[cfg(unix)]
    /// Show disk usage, and how much removing a catalog would free
    Df(df::DfArgs),
    #[cfg(unix)]
    /// Show where a path of a space comes from: layer, content, who changed it, and where its bytes are
    Explain(explain::ExplainArgs),
    #[cfg(unix)]
    /// Print metrics of mounted spaces in the Prometheus text format
    Metrics(metrics::MetricsArgs),
    #[cfg(unix)]
    /// Write a page that shows what an environment contains and what runs used of it
    Report(report::ReportArgs),
    #[cfg(unix)]
    /// Show live statistics of mounted spaces: requests, latencies, users
    Top(top::TopArgs),
    #[cfg(unix)]
    /// Show the reads of a run or of a mounted space: files, order, source of the bytes, waiting time
    Trace(trace::TraceArgs),
    #[cfg(unix)]
    /// Verify one catalog: its blobs and, with --parity, that mount, files and RCC's restore give the same tree
    Verify(verify::VerifyArgs),
    #[cfg(unix)]
    /// Let the installed program serve mounted spaces, after an upgrade; nothing is unmounted
    Restart(restart::RestartArgs),
    #[cfg(unix)]
    /// Serve a mount from now on, described on stdin
    #[command(hide = true)]
    Succeed,
    #[cfg(unix)]
    /// Show the version, home, machine, directories and disk usage
    Info(info::InfoArgs),
    #[cfg(unix)]
    /// Show the log of the process that serves a space
    Logs(logs::LogsArgs),
    /// Show the settings and the source of each
    Config(config::show::ConfigArgs),
    /// Print completions for a shell: holofs completions bash > /etc/bash_completion.d/holofs
    Completions(complete::CompletionsArgs),
    /// List names for completions
    #[command(hide = true)]
    Complete(complete::CompleteArgs),
    /// Write man pages into a directory
    #[command(hide = true)]
    Man(manual::ManArgs),
}

/// Runs one of these commands.
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
        EnvironmentCommand::Restart(args) => restart::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Succeed => super::mount::succeed(),
        #[cfg(unix)]
        EnvironmentCommand::Trace(args) => trace::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Verify(args) => verify::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Info(args) => info::main(context, args),
        #[cfg(unix)]
        EnvironmentCommand::Logs(args) => logs::main(context, args),
        EnvironmentCommand::Config(args) => config::show::main(context, args),
        EnvironmentCommand::Completions(args) => complete::completions(args),
        EnvironmentCommand::Complete(args) => complete::main(context, args),
        EnvironmentCommand::Man(args) => manual::man(args),
    }
}
