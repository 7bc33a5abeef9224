//! Bytecode: what Python compiles from the sources of a space, and how the spaces of a catalog share it.
//!
//! Catalogs contain no `.pyc`, and RCC forbids writing them, so under RCC every start of Python compiles what it imports. The
//! difficulty is not speed but one rule: **no program can write bytecode that another space, another user or a later `--fresh` of the
//! same space executes.** Python itself trusts the time and size of a source, which are equal for many sources (RCC gives every file
//! the same time, archives and deployments keep theirs). So what programs write is never shared, and what is shared is never written
//! by programs:
//!
//! ```text
//! <run's temporary directory>/pyc/            PYTHONPYCACHEPREFIX: bytecode of code outside the space; removed with the run
//! └─ <path of the space>  ─link─▶  <holofs>/spaces/<label>/bytecode/<catalog>-…/    the space's own
//!                                              ▲ copied, verified, while the command runs
//! <holofs>/pyc/<catalog>.<user>/pack           shared: one file of ours, from the catalog's own content
//! ```
//! 1. **Shared** is the [`pack`]: one file per catalog and user that Python cannot read or write. Only HoloFS writes it: after a
//!    run, a background process at the lowest priority takes the *names* of what the program compiled, and compiles the catalog's
//!    own sources of these names, with the catalog's own interpreter, in a private read-only view of the catalog. `holofs warm
//!    --bytecode` does it for all sources. What the program wrote is never read.
//! 2. **Bound by hash.** The pack identifies the catalog by its digest and each `.pyc` by its SHA-256, verified at each use; the
//!    `.pyc` itself is a *checked* hash-based one (PEP 552): Python compares it with the hash of the source at each import. So it is
//!    used only for files that are, in this space and at this moment, identical to the catalog's, whatever a program did to them.
//!    Reading a source takes a small part of the time of compiling it. In a view that cannot change (`run --isolate`) it is not even
//!    read. Relocated sources differ in every space: they are never in the pack.
//! 3. **The space's own** directory is filled from the pack by copying (a hard link or a symbolic link would let a program write to
//!    what is shared) in the order of first use, by a thread that stays ahead of Python and stops with the command. It also
//!    contains what programs compile. A new generation, by `--fresh`, `reset` or another catalog, is another directory: a leftover
//!    process cannot write into it. It is used only if it belongs to the user who runs the command, and no other user may write to
//!    it.
//! 4. **Outside the space** nothing is kept: a robot that is deployed again at the same path with the same times runs the new code. The
//!    empty directories of a run in which nothing was kept serve the next run of the space: `space::temp`.
//!
//! 5. **Another catalog's** pack is used for one thing: a catalog without a pack takes over what was compiled from the same source by the
//!    same interpreter ([`inherit`]). A catalog brings its own interpreter, which may do anything, so "the same" means that every file
//!    which takes part in compiling has the same SHA-256 ([`interpreter`]).
//!
//! 6. **A remote environment's** bytecode ([`travel`]) is a pack that its sender made. It is as authentic as the sources that the sender
//!    chose, for runs of that environment and for no other: it is never part of the shared pack, even of the same catalog.
//!
//! The very first run compiles what it imports, once; the next run of the same space finds that in the space's own directory, and
//! every other space in the pack. A pack is bounded by the sources of its catalog; copying is bounded by [`seed::AHEAD_BYTES`] while
//! the imports are not known; a space's own directory is removed with the space, a pack with its catalog (`holofs gc`). All of it can
//! be deleted at any time.

pub mod inherit;
pub mod interpreter;
pub mod names;
pub mod pack;
pub mod seed;
pub mod travel;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::rcc::home::Home;
use crate::space::Space;
use crate::space::temp::RunTemp;
use crate::store::index::Head;
use crate::sys::fs::place::Place;
use crate::sys::fs::stat::read_regular;
use crate::sys::fs::{dir, shared};

/// The directory of a space's own bytecode, in its state directory.
const OWN: &str = "bytecode";
/// The file in [`OWN`] that names the current generation.
const GENERATION: &str = "generation";
/// The directories of a run that the next run reuses, in [`OWN`].
const IDLE: &str = "idle";
/// The directory used by versions that let programs write shared bytecode.
const FORMER: &str = "pyc";

/// Where Python reads and writes bytecode during one run.
#[derive(Debug, Clone)]
pub struct Prefix {
    /// The value of `PYTHONPYCACHEPREFIX`.
    pub path: PathBuf,
    /// Where the bytecode of the space's own sources is.
    pub tree: PathBuf,
    /// Nothing in the space can change while this is used: sources need not be compared.
    pub frozen: bool,
}

impl Prefix {
    /// For a run in `space`: bytecode of the space's sources stays with the space, the rest is removed with `temp`. `remote` names the
    /// remote environment that brings bytecode, if one does: then nothing is in common with other runs of the same catalog.
    pub fn of_space(
        space: &Space,
        catalog: &Head,
        remote: Option<&str>,
        temp: &mut RunTemp,
    ) -> io::Result<Prefix> {
        let kind = if shared::is_mount_point(&space.root)? { "mounted".to_owned() } else { files(space)? };
        let remote = remote.map(|remote| format!("-{remote}")).unwrap_or_default();
        let tree = own_tree(&space.state_dir, &format!("{}-{kind}{remote}", short_id(catalog)))?;
        let path = temp.bytecode();
        let mirror = mirror(&path, &space.root);
        match fs::read_link(&mirror) {
            Ok(there) if there == tree => {} // made for an earlier run
            there => {
                if there.is_ok() {
                    dir::remove_symlink(&mirror)?;
                }
                dir::ensure_private(mirror.parent().unwrap_or(&path))?;
                dir::symlink(&tree, &mirror)?;
            }
        }
        temp.keep_at(idle_place(space), mirror);
        Ok(Prefix { path, tree, frozen: false })
    }

    /// For a run that leaves nothing behind: everything is removed with `temp`.
    pub fn of_run(root: &Path, temp: &RunTemp, frozen: bool) -> io::Result<Prefix> {
        let path = temp.bytecode();
        let tree = mirror(&path, root);
        dir::ensure_private(&tree)?;
        Ok(Prefix { path, tree, frozen })
    }
}

/// Where the directories of a run wait for the next one.
pub fn idle_place(space: &Space) -> Place {
    space.state_dir.below(OWN).below(IDLE)
}

/// Identifies one restore of the space's files: RCC and HoloFS both write `.meta` last when they restore, and leave it alone if
/// nothing had to be done.
fn files(space: &Space) -> io::Result<String> {
    let written = match fs::symlink_metadata(space.sibling(".meta")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Duration::ZERO,
        meta => meta?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default(),
    };
    Ok(format!("files{:x}", written.as_nanos()))
}

/// Where Python looks below `prefix` for the bytecode of files in `root`: the same path, made relative.
fn mirror(prefix: &Path, root: &Path) -> PathBuf {
    let names = root.components().filter(|part| matches!(part, Component::Normal(_)));
    prefix.join(names.collect::<PathBuf>())
}

/// The shared bytecode of a catalog, for one user.
pub fn pack_place(home: &Home, catalog: &Head, uid: u32) -> Place {
    home.pyc_dir().below(format!("{}.{uid}", short_id(catalog))).below("pack")
}

fn short_id(catalog: &Head) -> String {
    catalog.id().to_string().chars().take(16).collect()
}

/// Invalidates the bytecode of the space whose state is `state`: what exists, and what leftover processes will still write. If
/// interrupted, the next run continues it.
pub fn forget(state: &Place) -> io::Result<()> {
    let own = state.below(OWN);
    own.below(GENERATION).remove_file()?;
    own.remove()?;
    state.below(FORMER).remove().map(drop)
}

/// The space's own directory for bytecode of its current sources, identified by `what`: the catalog, and whether it is mounted
/// (files written to a mount are not visible without it). All others, including those of earlier generations, are removed.
fn own_tree(state_dir: &Place, what: &str) -> io::Result<PathBuf> {
    let own = state_dir.below(OWN);
    let opened = own.ensure()?;
    let name = format!("{what}-{}", generation(&own)?);
    if !opened.has(OsStr::new(&name))? {
        for former in own.entries()? {
            if former.file_name() != Some(OsStr::new(&name)) && former.is_dir() {
                former.remove()?;
            }
        }
        state_dir.below(FORMER).remove()?;
    }
    let tree = own.below(&name);
    tree.ensure()?;
    Ok(tree.into())
}

/// The current generation of a space's own bytecode; a new random one if there is none. Safe to call concurrently.
fn generation(own: &Path) -> io::Result<String> {
    let path = own.join(GENERATION);
    for _ in 0..2 {
        match read_text(&path) {
            Ok(text) if is_generation(&text) => return Ok(text),
            Ok(_) => fs::remove_file(&path)?, // truncated by a power cut
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let text = format!("{:016x}", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), own));
        let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(own)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
        match file.persist_noclobber(&path) {
            Ok(_) => return Ok(text),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
    }
    read_text(&path)
}

/// A short text that we have written.
fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_regular(path, 4096)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_generation(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
