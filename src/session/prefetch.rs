//! The profile of a mount: where it is kept, when it is walked, when it is saved.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;

use crate::fs::fuse::priming::{self, Primer, Recorder};
use crate::fs::fuse::profile::Profile;
use crate::rcc::catalog::CatalogId;
use crate::sys::fs::dir;
use crate::sys::process::daemon;

use super::context::Context;
use super::request::{MountRequest, ProfileAt};
use super::serve::Mounted;

/// What a mount does with profiles.
pub struct Prefetch {
    recorder: Arc<Recorder>,
    catalog: CatalogId,
    /// Where the profile is kept; nowhere with `--profile off`.
    file: Option<PathBuf>,
    profile: Profile,
}

impl Prefetch {
    /// Reads the profile of the mount's catalog, if there is one.
    pub fn new(
        context: &Context,
        request: &MountRequest,
        mounted: &Mounted,
        recorder: Arc<Recorder>,
    ) -> Prefetch {
        let catalog = mounted.index.id();
        let file = match &request.profile {
            ProfileAt::Off => None,
            ProfileAt::Auto => Some(context.home.profiles_dir().join(catalog.to_string())),
            ProfileAt::File(path) => Some(path.clone()),
        };
        let profile = file.as_deref().map(|file| read(file, &catalog)).unwrap_or_default();
        Prefetch { recorder, catalog, file, profile }
    }

    /// Has a process of its own walk the profile, if there is anything to walk.
    pub fn start(&self, context: &Context, mounted: &Mounted, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
        if self.profile.items().is_empty() {
            return Ok(());
        }
        let (recorder, profile) = (Arc::clone(&self.recorder), self.profile.clone());
        let (index, root) = (Arc::clone(&mounted.index), mounted.space.root.clone());
        let stop = Arc::clone(stop);
        let command = context.this_program()?;
        let guide = move || {
            let guided = start_primer(command).and_then(|(mut child, primer)| {
                let guided = recorder.guide(&profile, &index, &root, &stop, primer);
                child.wait().and(guided)
            });
            if let Err(error) = guided {
                log::debug!("Priming ended early: {error}");
            }
        };
        std::thread::Builder::new()
            .name("prime".into())
            .spawn(guide)
            .map(drop)
            .context("Cannot start a thread")
    }

    /// Keeps what was asked for, after what was known. Losing it costs time only.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        let mut merged = self.profile.clone();
        merged.merge(&self.recorder.profile());
        if merged == self.profile {
            return;
        }
        if let Err(error) = write(file, &merged.to_text(&self.catalog)) {
            log::warn!("Cannot keep the profile {}: {error}", file.display());
        }
    }
}

/// Starts the process that asks.
fn start_primer(mut command: Command) -> std::io::Result<(Child, Primer<ChildStdin, ChildStdout>)> {
    let mut child = command.arg("prime").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(requests), Some(answers)) => {
            let pid = child.id();
            Ok((child, Primer { pid, requests, answers }))
        }
        _ => Err(std::io::Error::other("the primer has no pipes")),
    }
}

/// The process that asks: see [`priming::prime`].
pub fn main() -> anyhow::Result<()> {
    daemon::lower_priority();
    if let Err(error) = priming::prime(std::io::stdin().lock(), std::io::stdout()) {
        log::debug!("Reading ahead ended: {error}");
    }
    Ok(())
}

/// The profile at `file`; none if it is missing or of no use.
fn read(file: &Path, catalog: &CatalogId) -> Profile {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            log::debug!("No profile {}: {error}", file.display());
            return Profile::default();
        }
    };
    Profile::from_text(&text, catalog).unwrap_or_else(|| {
        log::warn!("{} is no profile of catalog {catalog}: it is not used", file.display());
        Profile::default()
    })
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    dir::ensure_private(file.parent().unwrap_or(Path::new("")))?;
    dir::publish(file, text.as_bytes())
}
