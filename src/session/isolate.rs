//! `holofs run --isolate`: the catalog at its own recorded path, in a user and mount namespace for the command.
//!
//! The label is the recorded identity, so nothing is relocated and every byte is served from the store. The path need not exist and
//! nothing need be writable: see [`crate::sys::mount::overmount`]. The view is read-only: writes are refused, because they would be
//! lost when the command ends. No lock is needed, since no other process can see the mount.
//!
//! ```text
//! holofs ─ enters the namespace ─┬─ overmounts the path, mounts ─ runs the command ─ ends with its status
//!                                └─ a fork serves, in its sandbox; killed by the kernel when holofs ends
//! ```
//! So no process waits while the kernel removes the mount, and background processes of the command lose the environment.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::chain;
use crate::fs::fuse::{Session, Telemetry};
use crate::fs::vfs::Vfs;
use crate::space::Space;
use crate::space::relocated::Relocated;
use crate::store::BlobSource;
use crate::store::index::Index;
use crate::store::observe::Observer;
use crate::sys::mount::namespace;
use crate::sys::mount::overmount::overmount;
use crate::sys::mount::{self, Detached, Options};
use crate::sys::process::sandbox::Sandbox;
use crate::sys::process::{daemon, fork, limits};

use super::background;
use super::context::Context;
use super::error::{SessionError, Tried as _};
use super::request::SpaceName;
use super::serve::threads;
use super::written::view;

/// The mount options: read-only.
const OPTIONS: Options = Options { read_only: true, allow_other: false, no_exec: false };

/// Whether this user can mount FUSE in a namespace, or why not: tested in a child process that ends at once.
pub fn probe() -> Result<Result<(), String>, SessionError> {
    // The device is checked first: its error is clearer than that of the mount.
    if let Err(error) = mount::open_device() {
        return Ok(Err(error.to_string()));
    }
    namespace::trial(|| Detached::new(OPTIONS).map(drop)).tried("Cannot start a child to test a namespace")
}

/// Enters a namespace, with a file system that is still to be mounted there. If this is not possible, returns why, and the
/// process is unchanged. The process must have one thread.
pub fn enter(context: &Context) -> Result<Result<Detached, String>, SessionError> {
    let entered = enter_namespace()?;
    if entered.is_ok() {
        namespace::drop_foreign(context.process.path.as_deref());
    }
    Ok(entered)
}

fn enter_namespace() -> Result<Result<Detached, String>, SessionError> {
    match Detached::new(OPTIONS) {
        Ok(fuse) => Ok(namespace::enter_as_mounter().map(|()| fuse).map_err(|error| error.to_string())),
        // Without the privilege to mount, a user namespace is needed, which a process cannot leave.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            if let Err(why) = probe()? {
                return Ok(Err(why));
            }
            namespace::enter().tried("Cannot enter a private namespace")?;
            Ok(Ok(Detached::new(OPTIONS)?))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// A catalog visible only to this process and its children.
pub struct Isolated {
    /// Its path and its state: only bytecode, separate from that of any space.
    pub space: Space,
    /// The catalog.
    pub index: Arc<Index>,
}

impl Isolated {
    /// Mounts the catalog with `fuse` in the namespace that was [`enter`]ed with it. A separate process serves it until this one
    /// ends, and then removes the mount in the background.
    pub fn begin(
        context: &Context,
        fuse: Detached,
        index: Index,
        space: &SpaceName,
    ) -> Result<Isolated, SessionError> {
        let index = Arc::new(index);
        let vfs = vfs(context, &index)?;
        let mut space = context.space(index.base(), space);
        space.state_dir = context.home.pyc_dir().below("isolated").below(index.id().to_string());
        space.root = index.base().join(String::from_utf8_lossy(index.identity()).as_ref());
        // The server starts while the rest is done here.
        let sandbox = background::sandbox(&context.home, &space);
        let device = fuse.device()?;
        fork::spawn(move || i32::from(serve(vfs, device, &sandbox).inspect_err(tell).is_err()))
            .tried("Cannot start a process to serve the mount")?;
        let root = &space.root;
        let made = crate::sys::fs::shared::ensure_dir(index.base(), false);
        log::debug!("The base {}: {made:?}", index.base().display());
        let overmounted = overmount(root, &kept(context))
            .tried_with(|| format!("Cannot create {} in a private namespace", root.display()))?;
        fuse.attach(overmounted.point()).tried_with(|| format!("Cannot mount {}", root.display()))?;
        overmounted.make_read_only().tried("Cannot make the overmounted directory read-only")?;
        std::fs::metadata(root).tried_with(|| format!("The mount at {} does not answer", root.display()))?;
        Ok(Isolated { space, index })
    }
}

/// The serving process: detached from the terminal, and sandboxed from the start.
fn serve(vfs: Vfs, device: OwnedFd, sandbox: &Sandbox) -> Result<(), SessionError> {
    daemon::return_memory_at_once();
    limits::raise().map_err(|why| SessionError::State(why.into()))?;
    background::alone().tried("Cannot release the terminal")?;
    background::harden();
    background::confine(sandbox);
    Ok(Session::start(Arc::new(vfs), device, threads(), Telemetry::default(), &[])?.run()?)
}

fn tell(error: &SessionError) {
    log::error!("The server of the mount ended: {}", chain(error));
}

/// The catalog as it was recorded.
fn vfs(context: &Context, index: &Arc<Index>) -> Result<Vfs, SessionError> {
    let observer: Arc<dyn Observer> = Arc::new(context.tally());
    let source: Arc<dyn BlobSource> = context.store(Arc::clone(&observer))?;
    // Nothing is relocated, so nothing is ever stored there.
    let nowhere = context.home.spaces_dir().join("isolated");
    let relocated = Relocated::new(&nowhere, index, index.identity(), source, observer);
    Ok(Vfs::read_only(Arc::clone(index), Arc::new(relocated), view()))
}

/// Paths that must stay reachable even below directories that cannot be listed.
fn kept(context: &Context) -> Vec<PathBuf> {
    let given = context.process.user_dirs.iter().cloned();
    let ours = [
        context.home.root().to_owned(),
        context.home.holofs().path().to_owned(),
        context.home.hololib().to_owned(),
    ];
    let temp = std::iter::once(context.process.temp_dir.clone());
    given.chain(ours).chain(temp).filter(|path| path.is_absolute()).collect()
}
