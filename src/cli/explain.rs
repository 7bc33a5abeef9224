//! `holofs explain`: where a path of a space comes from.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::inspect::explain::{Explained, age, explain, find};
use crate::session::error::NotAmong;

use super::context::Context;
use super::inspected::Inspected;
use super::table::bytes;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Path in a space
    pub path: PathBuf,
}

/// Inspects and reports.
pub fn main(context: &Context, args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let cannot = || format!("Cannot inspect {}", args.path.display());
    let given = std::path::absolute(&args.path).with_context(cannot)?;
    // The directory in canonical form, but not the last name: it may be a link.
    let path = match (given.parent(), given.file_name()) {
        (Some(dir), Some(name)) => dir.canonicalize().with_context(cannot)?.join(name),
        _ => given,
    };
    let place = find(&context.home, &path)?
        .ok_or_else(|| NotAmong::spaces(format!("{} is not in a space of this home", path.display())))?;
    let mounted = place.space.mount_state().ok().flatten().filter(|_| place.space.live_holder().is_some());
    let catalog =
        mounted.map_or(place.blueprint.clone(), |state| state.catalog_path.to_string_lossy().into_owned());
    let Inspected { index, packages } = Inspected::open(context, &catalog)?;
    let explained = explain(&context.home, &place, &index, &packages).with_context(cannot)?;
    context.report(&explained, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(it: &Explained) -> Vec<String> {
    let layer = match it.layer {
        "catalog" => "catalog: as recorded".to_owned(),
        "relocated" => {
            format!(
                "relocated: from the catalog, with the path of this space written into it {} times",
                it.relocations
            )
        }
        "bytecode" => "bytecode: compiled by Python in this space".to_owned(),
        _ => "written: created or changed in this space".to_owned(),
    };
    let changed = match it.is_untouched_time {
        true => "never: it has the time that RCC gives every file".to_owned(),
        false => format!("{} ({} s since 1970)", age(it.modified), it.modified),
    };
    let mut rows = vec![
        ("path", it.path.display().to_string()),
        ("space", it.space.clone()),
        ("kind", format!("{}, {} bytes, mode {}", it.kind, it.size, it.mode)),
        ("layer", layer),
    ];
    rows.extend(it.digest.clone().map(|digest| ("digest", digest)));
    rows.extend(it.package.clone().map(|package| ("package", package)));
    rows.extend([("owner", format!("user {}", it.uid)), ("changed", changed)]);
    let mut lines: Vec<String> = rows.into_iter().map(|(name, value)| format!("{name:<8} {value}")).collect();
    lines.extend(it.places.iter().map(|place| {
        let size = place
            .size
            .map_or_else(|| "does not exist now".to_owned(), |size| format!("{} on disk", bytes(size)));
        format!("{:<8} {}: {} ({size})", "bytes", place.what, place.path.display())
    }));
    lines
}
