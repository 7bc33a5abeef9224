//! `holofs run --isolate`: the catalog at its own recorded path, in a user and mount namespace of the command's own.
//!
//! The label is the recorded identity, so nothing is relocated and every byte is served from the store. The path need not
//! exist and nothing need be writable: see [`crate::sys::cover`]. The view is read-only: a write is refused, so that nothing is
//! lost when the command ends and all goes away. This process serves; it takes no lock, since nobody else can see the mount.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use anyhow::Context as _;

use crate::fuse::{Session, Watch};
use crate::observe::{Observer, Tally};
use crate::space::Space;
use crate::space::relocated::Relocated;
use crate::store::BlobSource;
use crate::sys::cover::cover;
use crate::sys::mount::{self, Detached, Options};
use crate::sys::namespace;
use crate::tree::Index;
use crate::vfs::Vfs;

use super::SpaceArgs;
use super::context::{Context, this_program};
use super::daemon;
use super::serve::{threads, view};

/// What a mount here allows: nothing is changed.
const OPTIONS: Options = Options { read_only: true, allow_other: false };

/// Whether this user can have a namespace with a FUSE mount in it, or why not: tried for real in a process that ends at once.
pub fn probe() -> anyhow::Result<Result<(), String>> {
    let mut command = this_program()?;
    let output =
        command.arg("probe-namespace").stdin(Stdio::null()).output().context("Cannot start a probe")?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(Err(if said.trim().is_empty() {
        format!("the probe ended with {}", output.status)
    } else {
        said.trim().to_owned()
    }))
}

/// The process of [`probe`].
#[allow(clippy::print_stdout)]
pub fn main_of_probe() -> ExitCode {
    // The device first: its reason says more than that of a mount which cannot have it.
    let tried = mount::open_device().and_then(|_| namespace::enter()).and_then(|()| Detached::new(OPTIONS));
    match tried {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A catalog that only this process and its children see.
pub struct Isolated {
    /// Where it is and what is kept for it: bytecode alone, apart from what is kept for any space.
    pub space: Space,
    /// The catalog.
    pub index: Arc<Index>,
}

impl Isolated {
    /// Enters a namespace and mounts the catalog there. This process must have one thread.
    pub fn begin(
        context: &Context,
        index: Index,
        catalog: &Path,
        space: &SpaceArgs,
    ) -> anyhow::Result<Isolated> {
        namespace::enter().context("Cannot enter a namespace of our own")?;
        let index = Arc::new(index);
        let identity = String::from_utf8_lossy(index.identity()).into_owned();
        let root = index.base().join(&identity);
        let vfs = vfs(context, &index)?;
        let made = crate::sys::shared::ensure_dir(index.base(), false);
        log::debug!("The base {}: {made:?}", index.base().display());
        let cover = cover(&root, &kept(context))
            .with_context(|| format!("Cannot make {} in a namespace of our own", root.display()))?;
        let (device, _) = Detached::new(OPTIONS)
            .and_then(|fuse| fuse.attach(cover.point()))
            .with_context(|| format!("Cannot mount {}", root.display()))?;
        cover.seal().context("Cannot seal the cover")?;
        let session = Session::start(Arc::new(vfs), device, threads(), Watch::default(), &[])?;
        let mut space = context.space(index.base(), space);
        space.mark_used(catalog, index.blueprint());
        space.state_dir = context.home.pyc_dir().join("isolated").join(index.id().to_string());
        space.root = root;
        let cage = daemon::cage(&context.home, &space);
        let serve = move || {
            daemon::confine(&cage);
            session.run()
        };
        std::thread::Builder::new().name("serve".into()).spawn(serve)?;
        std::fs::metadata(&space.root)
            .with_context(|| format!("The mount at {} does not answer", space.root.display()))?;
        Ok(Isolated { space, index })
    }

    /// Takes the mount away: whatever the command left running loses it.
    pub fn end(self) {
        if let Err(error) = mount::unmount(&self.space.root, true) {
            log::debug!("{} goes with the namespace: {error}", self.space.root.display());
        }
    }
}

/// The catalog as it was recorded.
fn vfs(context: &Context, index: &Arc<Index>) -> anyhow::Result<Vfs> {
    let observer: Arc<dyn Observer> = Arc::new(Tally::logging());
    let source: Arc<dyn BlobSource> = context.store(Arc::clone(&observer))?;
    // Nothing is relocated, so nothing is ever kept there.
    let nowhere = context.home.spaces_dir().join("isolated");
    let relocated = Relocated::new(&nowhere, index, index.identity(), source, observer);
    Ok(Vfs::read_only(Arc::clone(index), Arc::new(relocated), view()))
}

/// Paths that must stay reachable even below directories that cannot be listed.
fn kept(context: &Context) -> Vec<PathBuf> {
    let given =
        ["HOME", "TMPDIR", "XDG_RUNTIME_DIR"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let ours =
        [context.home.root().to_owned(), context.home.holofs().to_owned(), context.home.hololib().to_owned()];
    given.chain(ours).chain(std::iter::once(std::env::temp_dir())).filter(|path| path.is_absolute()).collect()
}
