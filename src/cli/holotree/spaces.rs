//! Spaces selected by a part of their label, as in RCC.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::cli::context::{Context, parse_space, say_waiting};
use crate::session::error::NotFound;
use crate::space::Space;
use crate::space::inventory::{self, Known};
use crate::space::maintain::delete::delete_space;
use crate::sys::fs::stat::read_regular;

use crate::cli::terminal::{self, Lines};

use super::offered::say;

/// A longer log of a build is not shown.
const MAX_PLAN: u64 = 64 << 20;

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Parts of space labels
    parts: Vec<String>,
    /// Only list what would be deleted
    #[arg(short, long)]
    dryrun: bool,
    /// Space with this name
    #[arg(short, long, value_parser = parse_space)]
    space: Option<String>,
    /// All spaces not used for more than this many days
    #[arg(long, value_name = "DAYS")]
    unused: Option<i64>,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Parts of space labels
    #[arg(required = true)]
    parts: Vec<String>,
}

/// Deletes every selected space; an empty selection is no error, unless no selection was given.
pub fn delete(context: &Context, args: &DeleteArgs, controller: &str) -> anyhow::Result<ExitCode> {
    let mut parts = args.parts.clone();
    parts.extend(args.space.iter().map(|space| context.home.label(controller, space).to_string()));
    if let Some(days) = args.unused.filter(|days| *days > 0) {
        let rows = inventory::spaces(&context.home)?;
        parts.extend(
            rows.into_iter().filter(|row| row.use_count != "N/A" && row.idle_days > days).map(|row| row.id),
        );
        if parts.is_empty() {
            say(&format!("No space has been idle for more than {days} days"));
            return Ok(ExitCode::SUCCESS);
        }
    }
    anyhow::ensure!(!parts.is_empty(), "No space is selected: give --space, --unused, or a part of a label");
    for known in matching(context, &parts)? {
        let label = known.space.label;
        if args.dryrun {
            say(&format!("[dry run] Removing {label}"));
            continue;
        }
        say(&format!("Removing {label}"));
        take_away(context, &known.space)?;
        delete_space(&known.space, context.wait, &say_waiting)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Unmounts a space before its deletion, unless it is in use: RCC deletes what its own command made, which may be a mount here.
#[cfg(unix)]
fn take_away(context: &Context, space: &Space) -> anyhow::Result<()> {
    crate::session::left::wait_until_left(context, space);
    match space.live_holder() {
        Some(_) => Ok(crate::session::unmount::unmount(context, space, Default::default())?),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn take_away(_context: &Context, _space: &Space) -> anyhow::Result<()> {
    Ok(())
}

/// Prints RCC's log of how each matching space was built.
pub fn plan(context: &Context, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let found = matching(context, &args.parts)?;
    if found.is_empty() {
        return Err(NotFound("No space has a label with any of these parts".to_owned()).into());
    }
    for known in found {
        let path = known.space.root.join("rcc_plan.log");
        // In a space it may be a link to anything.
        let text =
            read_regular(&path, MAX_PLAN).with_context(|| format!("Cannot read {}", path.display()))?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        terminal::print(&Lines::from(lines).shown())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The known spaces whose label contains one of the parts, without duplicates.
fn matching(context: &Context, parts: &[String]) -> anyhow::Result<Vec<Known>> {
    let mut seen = BTreeSet::new();
    let mut found = inventory::known(&context.home)?;
    found.retain(|known| {
        let label = known.space.label.to_string();
        parts.iter().any(|part| label.contains(part.as_str())) && seen.insert(known.space.root.clone())
    });
    Ok(found)
}
