//! `holofs pull`: fetches a whole remote environment into the hololib, where RCC finds it too.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use crate::remote::fetch::Source;
use crate::remote::pull::{Pull, Pulled};
use crate::remote::rccremote::Server;
use crate::remote::resolve::resolve;
use crate::remote::staging::Staging;
use crate::remote::{Address, RemoteError};
use crate::store::observe::Observer;

use super::context::Context;
use super::progress::Progress;
use super::remotes::{self, FetchArgs};
use super::table::{bytes, counted};

/// Arguments of `pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Remote environment: oci://HOST/REPOSITORY:TAG, s3://BUCKET/PREFIX#NAME, az://CONTAINER/PREFIX#NAME, https://…, file:///…, rccremote+https://HOST#CATALOG
    #[arg(value_parser = remotes::parse_address)]
    pub remote: Address,
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// Pulls.
pub fn main(context: &Context, args: &PullArgs) -> anyhow::Result<ExitCode> {
    let report = pull(context, &args.remote, &args.fetch)?;
    context.report(&report, summary)?;
    Ok(ExitCode::SUCCESS)
}

fn pull(context: &Context, address: &Address, fetch: &FetchArgs) -> anyhow::Result<Pulled> {
    let started = Instant::now();
    if let Some(server) = Server::of(address, &remotes::access(context, remotes::patience(context))?)? {
        return pull_from(context, address, &server, fetch);
    }
    let remote = remotes::open(context, address, remotes::patience(context))?;
    let resolved = resolve(&*remote, address, fetch.key()?.as_ref())?;
    let source = Source::new(remote, Arc::clone(&resolved.head), remotes::patience(context));
    let progress = Arc::new(Progress::new("Pulling", context.is_json()));
    let outcome = (|| {
        let pull = Pull::new(&context.home, &resolved.head, &*progress)?;
        let store = context.store_for_now(Arc::clone(&progress) as Arc<dyn Observer>)?;
        let fetched = if pull.missing() > 0 { pull.stage(&source, Some(&store))? } else { 0 };
        let lock = context.lock_hololib()?;
        let is_new = pull.publish()?;
        drop(lock);
        pull.clean();
        let seconds = started.elapsed().as_secs_f64();
        Ok(pull.report(address.to_string(), &source, is_new, fetched, seconds))
    })();
    progress.finish();
    outcome
}

/// Pulls from an rccremote server.
fn pull_from(
    context: &Context,
    address: &Address,
    server: &Server,
    fetch: &FetchArgs,
) -> anyhow::Result<Pulled> {
    let started = Instant::now();
    if let Some(key) = &fetch.require_signature {
        let why = "RCC's protocol has no signatures".to_owned();
        Err(RemoteError::Signature { remote: address.to_string(), key: key.clone(), why })?;
    }
    if context.offline {
        Err(RemoteError::Offline { what: server.name().to_owned(), remote: address.to_string() })?;
    }
    let offered = server.catalog(&context.home)?;
    let progress = Arc::new(Progress::new("Pulling", context.is_json()));
    let outcome = (|| {
        let staging = Staging::new(&context.home, &offered.blobs, &*progress)?;
        let fetched = server.stage(&context.home, &offered, &staging, &*progress)?;
        let lock = context.lock_hololib()?;
        let is_new = staging.publish(&offered.catalog, &offered.stored)?;
        drop(lock);
        staging.clean();
        let seconds = started.elapsed().as_secs_f64();
        let missing = staging.missing().len() as u64;
        Ok(server.report(address.to_string(), &offered, is_new, (missing, fetched), seconds))
    })();
    progress.finish();
    outcome
}

fn summary(report: &Pulled) -> Vec<String> {
    let Pulled { blobs, blobs_present, blobs_local, blobs_fetched, requests, .. } = report;
    let state = if report.is_new { "" } else { " (already present)" };
    let what = format!("{}: {}{state} as sha256:{}", report.remote, report.catalog, report.head);
    let how = format!(
        "{} fetched in {}: {blobs_fetched} of {}; in the hololib before: {blobs_present}, elsewhere on this machine: {blobs_local}; {:.1} s",
        bytes(report.bytes_fetched),
        counted(*requests, "request"),
        counted(*blobs, "blob"),
        report.seconds
    );
    vec![what, how]
}
