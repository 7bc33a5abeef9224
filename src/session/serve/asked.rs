//! What a server does when its supervisor asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use crate::fs::fuse::gate::Gate;
use crate::session::context::Context;
use crate::session::detach;
use crate::session::restart;
use crate::session::supervise::{Asked, Server};
use crate::space::Space;
use crate::sys::mount::MountId;
use crate::sys::process::daemon;

/// How long open files are served after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// How long the requests in progress may take to be answered; one that takes longer is sent to the successor.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// On a first termination request, detaches the mount and gives open files a grace period; on a second one, ends this process at
/// once.
pub fn on_asked(
    context: &Context,
    server: &Server<'_>,
    space: Space,
    id: MountId,
    quiet: Arc<AtomicBool>,
    gate: Arc<Gate>,
) -> anyhow::Result<()> {
    let mounters = context.mounters();
    let (root, supervisor) = (space.root.clone(), server.supervisor());
    let mut again = false;
    let asked = move |asked| match asked {
        Asked::Quiet => quiet.store(true, Ordering::Relaxed),
        Asked::Stays(why) => restart::record(&space, supervisor, Err(why)),
        Asked::Stop => {
            quiet.store(true, Ordering::Relaxed);
            let answered = gate.close(LAST_ANSWERS);
            log::info!("Ending for a successor; all requests are answered: {answered}");
            log::logger().flush();
            daemon::end()
        }
        Asked::Begin { .. } => log::error!("This server has begun long ago"),
        Asked::Unmount if again => daemon::end(),
        Asked::Unmount => {
            again = true;
            log::info!("Unmounting {} on a signal", root.display());
            match detach::detach_own(&mounters, &root, id) {
                Ok(true) => exit_after_grace(),
                Ok(false) => {
                    log::error!("{} is not ours to unmount: another mount lies on it", root.display());
                    daemon::end();
                }
                Err(error) => log::error!("Cannot unmount {}: {error:#}", root.display()),
            }
        }
    };
    server.on_asked(asked).context("Cannot hear the supervisor")
}

fn exit_after_grace() {
    let wait = || {
        std::thread::sleep(GRACE);
        log::warn!("Files are still open after {} s: ending anyway", GRACE.as_secs());
        daemon::end();
    };
    if let Err(error) = std::thread::Builder::new().name("grace".into()).spawn(wait) {
        log::error!("Cannot start a thread: {error}");
    }
}
