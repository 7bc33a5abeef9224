//! `holofs sweep`: the process that deletes in the background what materialize replaced.
//!
//! It shares nothing with its starter: no terminal, no pipe, no directory; it holds only the lock of what it deletes. It ends when
//! nothing is left, or when another process is deleting.

use std::io;
use std::path::Path;
use std::process::Stdio;

use crate::space::materialize::{self, MaterializeReport, Other};
use crate::store::observe::Fallback;
use crate::sys::process::daemon;

use super::context::Context;
use super::error::{SessionError, Tried as _};

/// Deletes what was set aside in `base`, and records that in `report`: in a background process, or in this one if none can be
/// started.
pub fn after(context: &Context, base: &Path, report: Option<&mut MaterializeReport>) {
    if materialize::trash_in(base).is_none() {
        return;
    }
    match (start(context, base), report) {
        (Ok(pid), report) => {
            report.into_iter().for_each(|report| report.swept_by = Some(pid));
            return;
        }
        (Err(error), Some(report)) => {
            let reason = format!("Cannot start a background process ({error}): deleted in the foreground");
            report.fallbacks.insert("sweep", Fallback { count: 1, reason });
        }
        (Err(_), None) => {}
    }
    if let Err(error) = materialize::sweep(base, Other::LeaveToIt) {
        log::warn!("What was set aside in {} is kept: {error}", base.display());
    }
}

fn start(context: &Context, base: &Path) -> io::Result<u32> {
    let mut command = context.this_program().map_err(io::Error::other)?;
    command.arg("sweep").arg("--").arg(base);
    // Keep no pipe of the caller open, and no directory busy.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command.spawn().map(|child| child.id())
}

/// The process itself.
pub fn main(base: &Path) -> Result<(), SessionError> {
    super::background::enter()?;
    daemon::lower_priority();
    // Leave the other processors to other programs.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().tried("Cannot start a thread")?;
    pool.install(|| materialize::sweep(base, Other::LeaveToIt))?;
    Ok(())
}
