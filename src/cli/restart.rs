//! `holofs restart`: lets the program that is installed now serve mounted spaces. Nothing is unmounted; programs wait for a moment.

use std::process::ExitCode;

use clap::Args;

use crate::session::request::SpaceName;
use crate::session::restart::{self, AllRestarted, Restarted};

use super::context::{self, Context};
use super::exit_code;

/// Arguments of `restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    /// Name of the space
    #[arg(value_parser = context::parse_space, required_unless_present = "all")]
    space: Option<String>,
    /// Controller that the space belongs to
    #[arg(long, default_value = "user", value_parser = context::parse_controller)]
    controller: String,
    /// All mounted spaces; for root also those of other homes and users
    #[arg(long, conflicts_with_all = ["space", "controller"])]
    all: bool,
}

/// Restarts.
pub fn main(context: &Context, args: &RestartArgs) -> anyhow::Result<ExitCode> {
    let outcome = match &args.space {
        Some(space) => {
            let name = SpaceName { space: space.clone(), controller: args.controller.clone() };
            AllRestarted { spaces: vec![restart::one(context, &name)?], others: 0 }
        }
        None => restart::all(context)?,
    };
    context.report(&outcome, text)?;
    let refused = outcome.spaces.iter().filter(|space| space.refused.is_some()).count();
    Ok(match refused {
        0 => ExitCode::SUCCESS,
        _ if refused == outcome.spaces.len() => ExitCode::from(exit_code::BUSY),
        _ => ExitCode::from(exit_code::PARTIAL),
    })
}

fn text(outcome: &AllRestarted) -> Vec<String> {
    let mut lines: Vec<String> = outcome.spaces.iter().map(line).collect();
    if outcome.others > 0 {
        lines.push(format!("Mounts of other homes and users that were asked as well: {}", outcome.others));
    }
    if lines.is_empty() {
        lines.push("Nothing is mounted".to_owned());
    }
    lines
}

fn line(restarted: &Restarted) -> String {
    let path = restarted.path.display();
    match &restarted.refused {
        None => format!(
            "{path} is now served by version {}, before by {} ({} ms)",
            restarted.to, restarted.from, restarted.took_ms
        ),
        Some(why) => format!("{path} is still served by the former program: {why}"),
    }
}
