//! `holofs list`: the spaces, and what each one is right now.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;

use crate::space::inventory::{self, SpaceRow};

use super::context::Context;
use super::table::{bytes, table};

/// So much of a command is shown.
#[cfg(unix)]
const COMMAND: usize = 40;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {}

/// Lists. As in RCC, `--json` is an object by label; what only we know stands below `holofs`.
pub fn main(context: &Context, _args: &ListArgs) -> anyhow::Result<ExitCode> {
    let rows = inventory::spaces(&context.home)?;
    if context.is_json() {
        let by_label: BTreeMap<_, _> = rows.iter().map(|row| (row.id.clone(), row)).collect();
        context.report(&by_label, |_| Vec::new())?;
    } else {
        context.report(&rows, |rows| text(rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(rows: &[SpaceRow]) -> Vec<String> {
    let head = [
        "Label",
        "Controller",
        "Space",
        "Blueprint",
        "State",
        "Dirty",
        "Last used",
        "Uses",
        "Path",
        "Used by",
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&head, &[5], &rows)
}

fn cells(row: &SpaceRow) -> Vec<String> {
    let is = row.holofs.state.name();
    let state = match (&row.holofs.mode, row.holofs.pid) {
        (Some(mode), Some(pid)) => format!("{is} {mode} ({pid})"),
        (None, Some(pid)) => format!("{is} ({pid})"),
        _ => is.to_owned(),
    };
    vec![
        row.id.clone(),
        row.controller.clone(),
        row.space.clone(),
        row.blueprint.clone(),
        state,
        bytes(row.holofs.dirty_bytes),
        row.last_used.clone(),
        row.use_count.clone(),
        row.path.clone(),
        users(row),
    ]
}

/// Who uses it, each by its number and what it runs.
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
