//! `--long` of `list` and `catalogs`: details of each row that do not fit into a table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inspect::live::{LiveSpace, Sample};
use crate::inspect::packages::Package;
use crate::inspect::touched::Share;
use crate::inspect::usage::{CatalogUsage, usage};
use crate::rcc::catalog::Catalog;
use crate::rcc::catalog::file_name;
use crate::space::inventory::{CatalogRow, SpaceRow};
use crate::space::lease;

use super::context::Context;
use super::inspected::{Inspected, sentence};
use super::table::{bytes, counted};
use super::terminal;

/// How many packages of a catalog are listed.
const PACKAGES: usize = 8;

/// A space with the statistics of its server.
#[derive(Serialize)]
pub struct LongSpace<'a> {
    #[serde(flatten)]
    row: &'a SpaceRow,
    live: Option<&'a LiveSpace>,
}

/// Reports the spaces with details.
pub fn spaces(context: &Context, rows: &[SpaceRow]) -> anyhow::Result<()> {
    let sample = Sample::take(&context.home)?;
    let live: BTreeMap<String, &LiveSpace> =
        sample.spaces.iter().map(|space| (space.path.to_string_lossy().into_owned(), space)).collect();
    let long: BTreeMap<&String, LongSpace<'_>> =
        rows.iter().map(|row| (&row.id, LongSpace { row, live: live.get(&row.path).copied() })).collect();
    context.report(&long, |long| long.values().flat_map(space_lines).collect::<Vec<_>>())
}

fn space_lines(long: &LongSpace<'_>) -> Vec<String> {
    let LongSpace { row, live } = long;
    let mut lines = vec![
        format!("{} of {} at {}", row.space, row.controller, row.path),
        format!("  label      {}", row.id),
        format!("  blueprint  {}", row.blueprint),
        format!("  state      {}", row.holofs.state.name()),
        format!("  last used  {}, {}", row.last_used, row.use_count),
        format!("  written    {}", bytes(row.holofs.dirty_bytes)),
    ];
    if let Some(live) = live {
        lines.push(format!("  served by  process {}, {}", live.pid, live.mode));
        let users = if live.users.is_empty() { "nobody".to_owned() } else { lease::described(&live.users) };
        lines.push(format!("  used by    {users}"));
        lines.push(match (&live.stats, &live.silent) {
            (Some(stats), _) => format!("  requests   {}, files read {}", stats.total(), stats.io),
            (None, why) => format!("  requests   unknown: {}", why.as_deref().unwrap_or_default()),
        });
    }
    lines.push(String::new());
    lines
}

/// A catalog with its content.
#[derive(Serialize)]
pub struct LongCatalog<'a> {
    #[serde(flatten)]
    row: &'a CatalogRow,
    /// The catalog's id and file name.
    id: Option<String>,
    file: Option<String>,
    usage: Option<CatalogUsage>,
    touched: Option<Share>,
    packages: Vec<Package>,
}

/// Reports the catalogs with details.
pub fn catalogs(context: &Context, rows: &[CatalogRow]) -> anyhow::Result<()> {
    let usage = usage(&context.home)?;
    let files = context.home.catalogs()?;
    let long = rows.iter().map(|row| {
        let name = file_name(&row.blueprint, &row.platform);
        let file = files.iter().find(|file| file.file_name().is_some_and(|it| it == name.as_str()));
        let inspected = file.and_then(|file| match Inspected::open(context, &file.to_string_lossy()) {
            Ok(inspected) => Some(inspected),
            Err(error) => {
                terminal::warn(&format!("{}: {error:#}", file.display()));
                None
            }
        });
        let packages = inspected.iter().flat_map(|it| it.packages.sorted().into_iter().cloned());
        LongCatalog {
            row,
            id: file.and_then(|file| Catalog::identify(file).ok()).map(|id| id.to_string()),
            file: file.map(|file| file.to_string_lossy().into_owned()),
            usage: usage.catalogs.iter().find(|it| it.blueprint == row.blueprint).cloned(),
            touched: inspected.as_ref().map(|it| it.touched(context).share(&it.index)),
            packages: packages.collect(),
        }
    });
    let long: BTreeMap<String, LongCatalog<'_>> = long.map(|it| (it.row.blueprint.clone(), it)).collect();
    context.report(&long, |long| long.values().flat_map(catalog_lines).collect::<Vec<_>>())
}

fn catalog_lines(long: &LongCatalog<'_>) -> Vec<String> {
    let row = long.row;
    let mut lines = vec![format!("{} for {}", row.blueprint, row.platform)];
    lines.extend(long.file.iter().map(|file| format!("  file       {file}")));
    lines.extend(long.id.iter().map(|id| format!("  id         {id}")));
    lines.push(format!(
        "  holds      {}, {}, {}; {} with the path in them",
        counted(row.files, "file"),
        counted(row.directories, "directory"),
        bytes(row.bytes),
        row.relocations
    ));
    lines.extend(long.usage.iter().map(|usage| {
        let (own, shared) = (bytes(usage.exclusive_bytes), bytes(usage.shared_bytes));
        format!("  blobs      {own} only in this catalog, {shared} also in others")
    }));
    lines.extend(long.touched.iter().map(|share| format!("  runs       {}", sentence(share))));
    let largest = long.packages.iter().take(PACKAGES);
    let largest = largest.map(|it| format!("{} {} ({})", it.name, it.version, bytes(it.bytes)));
    lines.push(format!("  packages   {}", largest.collect::<Vec<_>>().join(", ")));
    lines.push(String::new());
    lines
}
