//! `holofs push`: sends environments to a remote, where other machines run or pull them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::remote::Address;
use crate::remote::profile::Profile;
use crate::remote::push::{Push, Pushed};
use crate::remote::transport::Patience;
use crate::space::bytecode::{pack_place, travel};
use crate::store::Library;
use crate::sys::process::this_process::effective_uid;

use super::context::Context;
use super::progress::Progress;
use super::remotes;
use super::table::{bytes, counted};
use super::target;

/// Arguments of `push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// Catalogs (hashes, unique prefixes, file names, or a conda.yaml and the like), then the remote
    #[arg(required = true, num_args = 2.., value_names = ["CATALOG", "REMOTE"])]
    pub what: Vec<String>,
    /// Profile to send, so that others fetch it first: auto (from mounts here), off, or a file
    #[arg(long, default_value = "auto", value_name = "FILE")]
    pub profile: PathBuf,
    /// Send no bytecode: other machines compile what they import
    #[arg(long)]
    pub no_bytecode: bool,
    /// Sign with this minisign secret key ($HOLOFS_SIGN_PASSWORD unlocks it)
    #[arg(long, value_name = "KEY")]
    pub sign: Option<PathBuf>,
}

/// Pushes the catalogs in order.
pub fn main(context: &Context, args: &PushArgs) -> anyhow::Result<ExitCode> {
    let Some((address, catalogs)) = args.what.split_last() else { bail!("Nothing to push") };
    let address: Address = remotes::meant(address).parse()?;
    if catalogs.len() > 1 && (address.is_named || address.pin.is_some()) {
        bail!(
            "Several catalogs cannot have one name: leave out {:?}, so that each is named by its hash",
            address.name
        );
    }
    let remote = remotes::open(context, &address, Patience::default())?;
    let key = args
        .sign
        .as_deref()
        .map(|path| Ok::<_, anyhow::Error>((remotes::secret_key(path)?, path.display().to_string())));
    let key = key.transpose()?;
    let library = Library::open(&context.home.library())?.hold()?;
    let mut reports: Vec<Pushed> = Vec::new();
    for catalog in catalogs {
        let path = target::path_of_word(context, catalog)?;
        let name =
            path.file_name().map(|name| name.to_string_lossy().replace("v12.", "-")).unwrap_or_default();
        let address = if catalogs.len() > 1 { address.renamed(&name) } else { address.clone() };
        let progress = Progress::new("Pushing", context.is_json());
        let push = Push {
            remote: &*remote,
            address: &address,
            library: &library,
            profile: profile(context, &path, &args.profile)?,
            bytecode: bytecode(context, &path, args)?,
            key: key.as_ref().map(|(key, shown)| (key, shown.as_str())),
            observer: &progress,
        };
        let outcome = push.run(&path);
        progress.finish();
        reports.push(outcome?);
    }
    context.report(&reports, |reports| reports.iter().flat_map(summary).collect::<Vec<String>>())?;
    Ok(ExitCode::SUCCESS)
}

/// What runs of the catalog imported here, compiled.
fn bytecode(context: &Context, catalog: &Path, args: &PushArgs) -> anyhow::Result<Option<Vec<u8>>> {
    if args.no_bytecode {
        return Ok(None);
    }
    let (head, ..) = context.head(&catalog.to_string_lossy())?;
    let place = pack_place(&context.home, &head, effective_uid());
    travel::wait_until_compiled(&place);
    travel::outgoing(&place, head.id())
        .with_context(|| format!("Cannot read the bytecode in {}", place.display()))
}

/// What mounts of the catalog read first.
#[cfg(unix)]
fn profile(context: &Context, catalog: &Path, given: &Path) -> anyhow::Result<Option<Profile>> {
    use crate::fs::fuse::profile::{self, Item};
    use crate::remote::frame::CHUNK;
    use crate::store::index::NodeKind;
    use crate::sys::fs::stat::read_regular;

    /// A longer profile is not ours.
    const MAX_PROFILE: u64 = 16 << 20;
    let (index, _, _) = context.index(&catalog.to_string_lossy())?;
    let ours = context.home.profiles_dir().below(index.id().to_string());
    let read = |file: std::path::PathBuf| match file == ours.path() {
        true => ours.read(MAX_PROFILE),
        false => read_regular(&file, MAX_PROFILE),
    };
    let Some(text) = remotes::chosen(given, || ours.path().to_owned()).and_then(|file| read(file).ok())
    else {
        return Ok(None);
    };
    let Some(found) = profile::Profile::from_text(&String::from_utf8_lossy(&text), &index.id()) else {
        bail!("{} is not a profile of {}", given.display(), catalog.display());
    };
    let chunk = |item: &Item| match item {
        Item::Read { ino, chunk } => match index.node(*ino)?.kind {
            NodeKind::File(file) => Some((file.digest, chunk.checked_mul(profile::CHUNK)? / CHUNK)),
            _ => None,
        },
        Item::Miss { .. } => None,
    };
    Ok(Some(Profile::new(found.items().iter().filter_map(chunk))))
}

/// Nothing is mounted here, so there is no profile.
#[cfg(not(unix))]
fn profile(_: &Context, _: &Path, _: &Path) -> anyhow::Result<Option<Profile>> {
    Ok(None)
}

fn summary(report: &Pushed) -> Vec<String> {
    let Pushed { blobs, blobs_referred, packs_sent, packs_present, .. } = report;
    let signed = if report.signed { ", signed" } else { "" };
    let present =
        if *packs_present > 0 { format!(" ({packs_present} already present)") } else { String::new() };
    let what = format!("{}: {} as sha256:{}{signed}", report.remote, report.catalog, report.head);
    let how = format!(
        "{} sent in {}{present}; {} of {}, {blobs_referred} of them already present ({} not sent); {:.1} s",
        bytes(report.bytes_sent),
        counted(*packs_sent, "pack"),
        counted(*blobs, "blob"),
        bytes(report.raw_bytes),
        bytes(report.bytes_referred),
        report.seconds
    );
    vec![what, how]
}
