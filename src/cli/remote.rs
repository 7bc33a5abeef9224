//! `holofs remote`: lists and verifies the content of a remote, and removes what no name refers to.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::remote::collect::{Collected, collect};
use crate::remote::fetch::Source;
use crate::remote::reference::Reference;
use crate::remote::resolve::{fetch_head, resolve};
use crate::remote::transport::{OWN_NAME, Patience};
use crate::remote::verify::{Verified, verify};
use crate::remote::{Address, ObjectId};

use super::context::Context;
use super::exit_code::BAD_BLOB;
use super::progress::Progress;
use super::remotes::{self, FetchArgs};
use super::table::{bytes, counted, table};

/// Arguments of `remote`.
#[derive(Debug, Args)]
pub struct RemoteArgs {
    #[command(subcommand)]
    command: RemoteCommand,
}

#[derive(Debug, Subcommand)]
enum RemoteCommand {
    /// List the environments of a remote by name
    Ls {
        /// Remote
        #[arg(value_parser = remotes::parse_address)]
        remote: Address,
    },
    /// Show one environment of a remote
    Show {
        /// Remote environment
        #[arg(value_parser = remotes::parse_address)]
        remote: Address,
        #[command(flatten)]
        fetch: FetchArgs,
    },
    /// Read a whole environment, and list its bad blobs
    Verify {
        /// Remote environment
        #[arg(value_parser = remotes::parse_address)]
        remote: Address,
        #[command(flatten)]
        fetch: FetchArgs,
    },
    /// Remove what no name refers to; in a registry, only tags
    Gc {
        /// Remote
        #[arg(value_parser = remotes::parse_address)]
        remote: Address,
        /// Keep everything written in the last days
        #[arg(long, value_name = "DAYS", default_value_t = 7)]
        grace: u64,
        /// Only list what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the subcommand.
pub fn main(context: &Context, args: &RemoteArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        RemoteCommand::Ls { remote } => ls(context, remote),
        RemoteCommand::Show { remote, fetch } => show(context, remote, fetch),
        RemoteCommand::Verify { remote, fetch } => check(context, remote, fetch),
        RemoteCommand::Gc { remote, grace, dry_run } => {
            let opened = remotes::open(context, remote, Patience::default())?;
            let report = collect(&*opened, Duration::from_secs(grace * 24 * 3600), *dry_run)?;
            context.report(&report, collected)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// One name.
#[derive(Serialize)]
struct Row {
    name: String,
    head: ObjectId,
    catalog: String,
    created: u64,
    signed: bool,
    profile: bool,
}

impl Row {
    fn new(name: String, reference: Reference) -> Row {
        let Reference { head, catalog, created, .. } = reference;
        Row {
            name,
            head,
            catalog,
            created,
            signed: reference.signature.is_some(),
            profile: reference.profile.is_some(),
        }
    }
}

fn ls(context: &Context, address: &Address) -> anyhow::Result<ExitCode> {
    let remote = remotes::open(context, address, Patience::default())?;
    let mut rows = Vec::new();
    for name in remote.names()?.into_iter().filter(|name| !name.starts_with(OWN_NAME)) {
        match remote.reference(&name) {
            Ok(found) => rows.extend(found.map(|reference| Row::new(name, reference))),
            // Others may have names there too.
            Err(error) => log::info!("{error}"),
        }
    }
    context.report(&rows, |rows| {
        let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
        let line = |row: &Row| {
            vec![
                row.name.clone(),
                format!("sha256:{}", row.head),
                row.catalog.clone(),
                yes(row.signed),
                yes(row.profile),
            ]
        };
        table(
            &["NAME", "ENVIRONMENT", "CATALOG", "SIGNED", "PROFILE"],
            &[],
            &rows.iter().map(line).collect::<Vec<_>>(),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One environment.
#[derive(Serialize)]
struct Shown {
    remote: String,
    head: ObjectId,
    head_bytes: u64,
    catalog: String,
    base: String,
    files: u64,
    blobs: usize,
    raw_bytes: u64,
    stored_bytes: u64,
    packs: usize,
    packs_bytes: u64,
    created: u64,
    signed: bool,
    profile: bool,
}

fn show(context: &Context, address: &Address, fetch: &FetchArgs) -> anyhow::Result<ExitCode> {
    let remote = remotes::open(context, address, remotes::patience(context))?;
    let resolved = resolve(&*remote, address, fetch.key()?.as_ref())?;
    let head = &resolved.head;
    let shown = Shown {
        remote: address.to_string(),
        head: head.id,
        head_bytes: head.size,
        catalog: head.catalog_name(),
        base: head.catalog.base().display().to_string(),
        files: head.catalog.stats().files,
        blobs: head.blobs().len(),
        raw_bytes: head.raw_bytes(),
        stored_bytes: head.stored_bytes(),
        packs: head.packs.len(),
        packs_bytes: head.packs.iter().map(|pack| pack.size).sum(),
        created: resolved.reference.created,
        signed: resolved.reference.signature.is_some(),
        profile: resolved.reference.profile.is_some(),
    };
    context.report(&shown, |shown| {
        let (head, raw, stored) =
            (bytes(shown.head_bytes), bytes(shown.raw_bytes), bytes(shown.stored_bytes));
        vec![
            shown.remote.clone(),
            format!("environment sha256:{} (head {head})", shown.head),
            format!("catalog     {} for {}", shown.catalog, shown.base),
            format!(
                "content     {}, {}, {raw}; stored as {stored}",
                counted(shown.files, "file"),
                counted(shown.blobs, "blob")
            ),
            format!("packs       {}, {}", shown.packs, bytes(shown.packs_bytes)),
        ]
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(context: &Context, address: &Address, fetch: &FetchArgs) -> anyhow::Result<ExitCode> {
    let remote = remotes::open(context, address, remotes::patience(context))?;
    let reference = crate::remote::resolve::reference(&*remote, address)?;
    if let Some(key) = fetch.key()? {
        key.check(&reference, &address.to_string())?;
    }
    let (_, head) = fetch_head(&*remote, &reference.head_object())?;
    let source = Source::new(remote, Arc::new(head), remotes::patience(context));
    let progress = Progress::new("Verifying", context.is_json());
    let outcome = verify(&source, address.to_string(), &progress);
    progress.finish();
    let report = outcome?;
    context.report(&report, verified)?;
    Ok(if report.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BAD_BLOB) })
}

fn verified(report: &Verified) -> Vec<String> {
    let mut lines = vec![format!(
        "{}: {} good, {} bad; {} read",
        report.remote,
        counted(report.blobs_right, "blob"),
        report.wrong.len(),
        bytes(report.bytes_read)
    )];
    lines.extend_from_slice(&report.wrong);
    lines
}

fn collected(report: &Collected) -> String {
    let did = if report.dry_run { "would remove" } else { "removed" };
    let names = report.names.len();
    match report.by_the_remote {
        true => format!("{}: {did} {names} tags; the registry itself removes blobs", report.remote),
        false => format!(
            "{}: {did} {} objects ({}) and {names} names; {} objects stay, {} are too new to remove",
            report.remote,
            report.objects,
            bytes(report.bytes),
            report.objects_kept,
            report.objects_young
        ),
    }
}
