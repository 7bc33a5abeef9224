//! What a server does on requests of its supervisor.

use std::sync::Arc;
use std::time::Duration;

use crate::error::chain;
use crate::fs::fuse::gate::Gate;
use crate::session::context::Context;
use crate::session::detach;
use crate::session::error::{SessionError, Tried as _};
use crate::session::restart;
use crate::session::supervise::{Asked, Server};
use crate::space::Space;
use crate::sys::mount::MountId;
use crate::sys::process::daemon;

use super::quiet::Quiet;

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
    quiet: Quiet,
    gate: Arc<Gate>,
) -> Result<(), SessionError> {
    let mounters = context.mounters();
    let (root, supervisor) = (space.root.clone(), server.supervisor());
    let mut again = false;
    let asked = move |asked| match asked {
        Asked::Quiet => quiet.request(),
        Asked::Stays(why) => restart::record(&space, supervisor, Err(why)),
        Asked::Stop => {
            quiet.request();
            let answered = gate.close(LAST_ANSWERS);
            log::info!("Ending for a successor; all requests are answered: {answered}");
            log::logger().flush();
            daemon::end()
        }
        Asked::Begin { .. } => log::error!("This server is already serving"),
        Asked::Unmount if again => daemon::end(),
        Asked::Unmount => {
            again = true;
            log::info!("Unmounting {} on a signal", root.display());
            match detach::detach_own(&mounters, &root, id) {
                Ok(true) => exit_after_grace(),
                Ok(false) => {
                    log::error!("Cannot unmount {}: another mount is on top of it", root.display());
                    daemon::end();
                }
                Err(error) => log::error!("Cannot unmount {}: {}", root.display(), chain(&error)),
            }
        }
    };
    server.on_asked(asked).tried("Cannot read from the supervisor")
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
