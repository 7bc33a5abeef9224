//! `holofs list`: lists the spaces and their current states.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;

use crate::rcc::home::controller_identity;
use crate::session::compile;
use crate::space::inventory::{self, Is, SpaceRow};

use super::context::Context;
use super::table::{bytes, is_terminal, table};
use super::terminal;

/// How many characters of a command are shown.
#[cfg(unix)]
const COMMAND: usize = 40;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[cfg(unix)]
    /// Show more about each space: its server, users and request counts
    #[arg(long)]
    pub long: bool,
}

/// Lists. As in RCC, `--json` prints an object keyed by label; additional fields are below `holofs`.
pub fn main(context: &Context, args: &ListArgs) -> anyhow::Result<ExitCode> {
    let mut rows = inventory::spaces(&context.home)?;
    // Programs get everything that RCC lists.
    rows.retain(|row| context.is_json() || !is_idle_compile_space(row));
    #[cfg(unix)]
    if args.long {
        return super::long::spaces(context, &rows).map(|()| ExitCode::SUCCESS);
    }
    #[cfg(windows)]
    let ListArgs {} = args;
    if context.is_json() {
        let by_label: BTreeMap<_, _> = rows.iter().map(|row| (row.id.clone(), row)).collect();
        context.report(&by_label, |_| Vec::new())?;
    } else {
        context.report(&rows, |rows| text(rows))?;
        if rows.is_empty() {
            terminal::tell("holofs", "There is no space yet: `holofs run` and `holofs mount` create them");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// True for the space in which HoloFS itself compiles bytecode while nobody compiles: no user made it, and nothing is in it.
fn is_idle_compile_space(row: &SpaceRow) -> bool {
    let is_ours = row.space == compile::SPACE && row.controller == controller_identity(compile::CONTROLLER);
    is_ours && row.holofs.state == Is::Absent && row.holofs.dirty_bytes == 0
}

fn text(rows: &[SpaceRow]) -> Vec<String> {
    let head = ["Space", "Controller", "State", "Written", "Blueprint", "Last used", "Label", "Used by"];
    let mut rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let says = |at: usize, nothing: &str| rows.iter().any(|row| row[at] != nothing);
    // A terminal has 80 columns. A label can be copied from --json and --long.
    let kept: Vec<bool> = (0..head.len())
        .map(|at| match head[at] {
            "Controller" => says(at, "user"),
            "Used by" => says(at, ""),
            name => name != "Label",
        })
        .map(|is_kept| is_kept || !is_terminal())
        .collect();
    for row in &mut rows {
        *row = row.drain(..).zip(&kept).filter_map(|(cell, kept)| kept.then_some(cell)).collect();
    }
    let head: Vec<&str> =
        head.into_iter().zip(&kept).filter_map(|(name, kept)| kept.then_some(name)).collect();
    let written = head.iter().position(|name| *name == "Written");
    table(&head, written.as_slice(), &rows)
}

fn cells(row: &SpaceRow) -> Vec<String> {
    let mode = row.holofs.mode.as_deref().filter(|mode| *mode != "read-write").unwrap_or_default();
    let state = match row.holofs.pid {
        Some(pid) => format!("{} {mode} ({pid})", row.holofs.state.name()).replace("  ", " "),
        None => row.holofs.state.name().to_owned(),
    };
    vec![
        row.space.clone(),
        row.controller.strip_prefix("rcc.").unwrap_or(&row.controller).to_owned(),
        state,
        bytes(row.holofs.dirty_bytes),
        row.blueprint.clone(),
        row.last_used.clone(),
        row.id.clone(),
        users(row),
    ]
}

/// The users of a space, each with its process id and command.
#[cfg(unix)]
fn users(row: &SpaceRow) -> String {
    let short = |text: &str| match text.chars().count() > COMMAND {
        true => format!("{}…", text.chars().take(COMMAND).collect::<String>()),
        false => text.to_owned(),
    };
    let each = row.holofs.leases.iter().map(|user| format!("{} {}", user.process.pid, short(&user.command)));
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(windows)]
fn users(_row: &SpaceRow) -> String {
    String::new()
}
