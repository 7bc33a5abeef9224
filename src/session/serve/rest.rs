//! The rest of a lazily mounted environment: fetched while the mount is idle, then put into the hololib.
//!
//! It fetches a little at a time, and waits whenever a program reads. Every piece goes through the store, as for a reader. When
//! everything is on this machine, a separate process, `holofs pull`, publishes it: the daemon's sandbox cannot write the hololib.
//! That process finds all content on this machine. Both end with the mount; the next mount continues.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::chain;
use crate::remote::address::Address;
use crate::remote::lazy;
use crate::remote::line::Line;
use crate::session::background;
use crate::session::context::Context;
use crate::session::error::{SessionError, Tried as _};
use crate::session::supply;
use crate::store::index::Index;
use crate::store::observe::{Counter, Tally};
use crate::store::{Store, Wanted};
use crate::sys::process::daemon;
use crate::sys::process::sandbox::Sandbox;

use super::establish::Mounted;
use super::quiet::Quiet;

/// The number of pieces fetched at a time: at most four megabytes.
const AT_ONCE: usize = 16;
/// The interval of the checks whether the space is still idle.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After this number of consecutive failures, the rest is left to the next mount.
const FAILURES: u32 = 3;

/// An environment to be completed.
struct Rest {
    line: Arc<Line>,
    store: Arc<Store>,
    index: Arc<Index>,
    tally: Arc<Tally>,
    quiet: Quiet,
    idle: Duration,
}

/// Starts fetching for a mount of a remote catalog, unless fetching is switched off.
pub fn start(
    context: &Context,
    mounted: &Mounted,
    tally: &Arc<Tally>,
    quiet: &Quiet,
    sandbox: Sandbox,
) -> Result<(), SessionError> {
    let (Some(line), Some(idle)) = (mounted.line.clone(), context.process.idle_fetch) else { return Ok(()) };
    let catalog = mounted.report.catalog.as_path();
    if is_published(context, catalog) {
        return Ok(());
    }
    let publish = publishing(context, catalog)?;
    let rest = Rest {
        line,
        store: Arc::clone(&mounted.store),
        index: Arc::clone(&mounted.index),
        tally: Arc::clone(tally),
        quiet: quiet.clone(),
        idle,
    };
    let work = move || {
        daemon::lower_priority();
        if let Err(error) = rest.complete(sandbox, publish) {
            log::warn!("The rest of the environment is not fetched: {}", chain(&error));
        }
    };
    std::thread::Builder::new().name("rest".into()).spawn(work).map(drop).tried("Cannot start a thread")
}

/// True if the hololib has the catalog: its content is complete.
fn is_published(context: &Context, catalog: &Path) -> bool {
    catalog.file_name().is_some_and(|name| context.home.catalog_dir().join(name).exists())
}

/// The command that publishes it.
fn publishing(context: &Context, catalog: &Path) -> Result<Command, SessionError> {
    let origin = lazy::origin(&context.home, catalog).tried("It is not known where it comes from")?;
    let address: Address = origin.address.parse().tried("Its address is not valid")?;
    let mut command = context.this_program()?;
    command.args(["pull", &address.pinned(origin.head).to_string()]);
    command.args(context.given.product.map(crate::rcc::home::Product::flag));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

impl Rest {
    /// Fetches in a thread inside the sandbox. This thread stays outside, because it starts a process; it reads no content.
    fn complete(self, sandbox: Sandbox, mut publish: Command) -> Result<(), SessionError> {
        let quiet = self.quiet.clone();
        let fetch = move || {
            background::confine(&sandbox);
            self.fetch()
        };
        let fetching = std::thread::Builder::new().name("rest-fetch".into()).spawn(fetch)?;
        let is_complete = fetching.join().map_err(|_| SessionError::State("Its thread panicked".into()))?;
        if !is_complete || quiet.wait(Duration::ZERO) {
            return Ok(());
        }
        let mut child = publish.spawn().tried("Cannot start `holofs pull`")?;
        loop {
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    return Err(SessionError::State(format!("`holofs pull` failed ({status})").into()));
                }
                log::info!("The environment is complete, and in the hololib");
                return Ok(());
            }
            if quiet.wait(LOOK_EVERY) {
                child.kill()?;
                child.wait()?;
                return Ok(());
            }
        }
    }

    /// Fetches what is missing on this machine; true if nothing is missing any more.
    fn fetch(&self) -> bool {
        if !self.is_idle_for(self.idle) {
            return false;
        }
        let all: Vec<(Wanted, u64)> = supply::all(&self.index);
        let mut failures = 0;
        let mut at = 0;
        while let Some(batch) = all.get(at..).filter(|rest| !rest.is_empty()) {
            let lacking: Vec<(Wanted, u64)> = batch
                .iter()
                .filter(|(wanted, piece)| !self.store.lacking(wanted, *piece..piece + 1).is_empty())
                .take(AT_ONCE)
                .copied()
                .collect();
            let Some(last) = lacking.last() else { return true };
            if !self.is_idle_for(LOOK_EVERY) {
                return false;
            }
            if self.line.prefetch(&lacking, &self.store) < lacking.len() as u64 {
                failures += 1;
                if failures == FAILURES || !self.is_idle_for(self.idle.max(Duration::from_secs(1))) {
                    return false;
                }
                continue;
            }
            failures = 0;
            at += batch.iter().position(|item| item == last).map_or(batch.len(), |last| last + 1);
        }
        true
    }

    /// Waits until there was no read for `time`; false if the mount ends first.
    fn is_idle_for(&self, time: Duration) -> bool {
        let (mut since, mut seen) = (Instant::now(), self.tally.get(Counter::BytesRead));
        while !self.quiet.wait(Duration::ZERO) {
            if since.elapsed() >= time && self.line.idle_for() >= time {
                return true;
            }
            self.quiet.wait(LOOK_EVERY.min(time));
            let now = self.tally.get(Counter::BytesRead);
            if now != seen {
                (since, seen) = (Instant::now(), now);
            }
        }
        false
    }
}
