//! Spaces, as `rcc holotree list` shows them, and their current state.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{days_since_change, whole};
use crate::error::line;
use crate::rcc::catalog::{Catalog, CatalogError, Header};
use crate::rcc::home::{Home, HomeError, Label, controller_identity};
#[cfg(unix)]
use crate::space::lease::{self, User};
use crate::space::{MountState, Space, files};
use crate::sys;
#[cfg(unix)]
use crate::sys::mount;

/// A space, with the content of its `.meta`.
pub struct Known {
    /// Its location.
    pub space: Space,
    /// The blueprint that was materialized into it; empty if there is no `.meta`.
    pub blueprint: String,
    /// The controller as RCC writes it: `rcc.` and the name.
    pub controller: String,
}

/// One space in RCC's own JSON form, with our additional fields below `holofs`.
#[derive(Debug, Clone, Serialize)]
pub struct SpaceRow {
    /// The blueprint.
    pub blueprint: String,
    /// The controller as RCC writes it.
    pub controller: String,
    /// Ours.
    pub holofs: SpaceState,
    /// The label.
    pub id: String,
    /// Whole days since the last use; 0 if unknown.
    #[serde(rename = "idle-days")]
    pub idle_days: i64,
    /// `<n> days ago`, or `N/A`.
    #[serde(rename = "last-used")]
    pub last_used: String,
    /// The path of its `.meta`.
    pub meta: String,
    /// The directory.
    pub path: String,
    /// RCC's log of how it was built.
    pub plan: String,
    /// RCC's `--space`.
    pub space: String,
    /// The specification in it.
    pub spec: String,
    /// `<n> times`, or `N/A`.
    #[serde(rename = "use-count")]
    pub use_count: String,
}

/// The current state of a space.
#[derive(Debug, Clone, Serialize)]
pub struct SpaceState {
    /// The state in one word.
    pub state: Is,
    /// `read-write` or `read-only`, while mounted.
    pub mode: Option<String>,
    /// The process that mounts or materializes it.
    pub pid: Option<u32>,
    /// The version of the program that serves its mount.
    pub version: Option<String>,
    /// The catalog that is mounted.
    #[serde(serialize_with = "crate::sys::text::maybe_path")]
    pub catalog: Option<PathBuf>,
    /// Bytes written to it as a mount, even if it is not mounted now.
    pub dirty_bytes: u64,
    /// The last use, in seconds since 1970.
    pub last_use: Option<u64>,
    /// Its users.
    #[cfg(unix)]
    pub leases: Vec<User>,
}

/// The state of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Is {
    /// It does not exist.
    Absent,
    /// It is being mounted or materialized.
    Starting,
    /// It is mounted and served.
    Live,
    /// It is not mounted here any more, and its server is about to exit.
    Leaving,
    /// It is mounted, but its server is gone.
    Dead,
    /// It is materialized as files.
    Files,
    /// RCC has restored another environment into its written state.
    Converted,
    /// Something else is mounted there.
    Foreign,
}

impl Is {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Is::Absent => "absent",
            Is::Starting => "starting",
            Is::Live => "live",
            Is::Leaving => "leaving",
            Is::Dead => "dead",
            Is::Files => "files",
            Is::Converted => "converted",
            Is::Foreign => "foreign",
        }
    }
}

/// The directories of spaces: the bases of all readable catalogs.
pub fn bases(home: &Home) -> Result<BTreeSet<PathBuf>, HomeError> {
    let mut bases = BTreeSet::new();
    for path in home.catalogs()? {
        match header_of(&path) {
            // A Windows path is not a directory on other platforms.
            Ok(header) if header.base().is_absolute() => drop(bases.insert(header.base().to_owned())),
            Ok(_) => {}
            Err(error) => log::warn!("{}", line(&error)),
        }
    }
    Ok(bases)
}

/// The header of a catalog or `.meta`.
fn header_of(path: &Path) -> Result<Header, CatalogError> {
    match Header::peek(path) {
        Some(header) => Ok(header),
        None => Catalog::read(path).map(|(catalog, _)| catalog.header.clone()),
    }
}

/// Every space that RCC knows, and every other one that is mounted.
pub fn known(home: &Home) -> Result<Vec<Known>, HomeError> {
    let bases = bases(home)?;
    let mut found: Vec<Known> = bases.iter().flat_map(|base| in_base(home, base)).collect();
    for more in [mounted, unrecorded] {
        let is_new = |root: &Path| found.iter().all(|old| old.space.root != root);
        let more = more(home, &bases, &is_new);
        found.extend(more);
    }
    Ok(found)
}

/// The spaces of `controller` and `name`, with the label `name`, or at the path `name`, at most one per location: known ones, else one
/// that has only a directory.
pub fn find(home: &Home, controller: &str, name: &str) -> Result<Vec<Known>, HomeError> {
    let label = Label::new(name.as_bytes()).unwrap_or_else(|| home.label(controller, name));
    let by_name = home.label(controller, name);
    let path = Path::new(name);
    let is_meant = |space: &Space| match path.is_absolute() {
        true => space.root == path,
        false => [label, by_name].contains(&space.label),
    };
    let mut found = known(home)?;
    found.retain(|known| is_meant(&known.space));
    if !found.is_empty() || path.is_absolute() {
        return Ok(found);
    }
    let mut bases = bases(home)?;
    bases.insert(home.holotree().to_owned());
    let candidates = bases.iter().map(|base| Space::labelled(home, base, label, controller, name));
    let there = |space: &Space| space.root.symlink_metadata().is_ok() || space.state_dir.open().is_ok();
    let only_there = |space| Known { space, blueprint: String::new(), controller: controller.to_owned() };
    Ok(candidates.into_iter().filter(there).map(only_there).collect())
}

/// The spaces whose `.meta` is in `base`.
fn in_base(home: &Home, base: &Path) -> Vec<Known> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let label = name.to_str().and_then(|name| name.strip_suffix(".meta"));
        let Some(label) = label.and_then(|label| Label::new(label.as_bytes())) else { continue };
        match header_of(&entry.path()) {
            Ok(header) => found.push(described(home, base, label, &header)),
            // Other users create and delete spaces in a shared base.
            Err(CatalogError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("{}", line(&error)),
        }
    }
    found.sort_by_key(|known| known.space.label);
    found
}

/// The space that a `.meta` describes.
fn described(home: &Home, base: &Path, label: Label, meta: &Header) -> Known {
    let controller = meta.controller.strip_prefix("rcc.").unwrap_or(&meta.controller);
    let space = Space::labelled(home, base, label, controller, &meta.space);
    Known { space, blueprint: meta.blueprint.clone(), controller: meta.controller.clone() }
}

/// The spaces whose state says that they are mounted, at those paths that are `wanted`.
fn mounted(home: &Home, _: &BTreeSet<PathBuf>, wanted: &dyn Fn(&Path) -> bool) -> Vec<Known> {
    let dirs = home.spaces_dir().entries().unwrap_or_else(|error| {
        log::warn!("Cannot list {}: {error}", home.spaces_dir().display());
        Vec::new()
    });
    let states = dirs.iter().filter_map(|dir| MountState::read_in(dir).ok().flatten());
    let known = states.filter(|state| wanted(&state.mountpoint)).filter_map(|state| {
        let label = Label::new(state.mountpoint.file_name()?.as_encoded_bytes())?;
        let base = state.mountpoint.parent()?;
        let space = Space::labelled(home, base, label, &state.controller, &state.space);
        let meta = space.sibling(".meta");
        Some(match Header::peek(&meta) {
            Some(meta) => described(home, base, label, &meta),
            // The state is written right after the mount.
            None => Known {
                space,
                blueprint: state.blueprint,
                controller: controller_identity(&state.controller),
            },
        })
    });
    known.collect()
}

/// The spaces of this user in `bases`, or in the holotree, at which a mount of HoloFS is, whether or not it is recorded: a server can be
/// killed between its mount and the record. Their names are unknown.
#[cfg(unix)]
fn unrecorded(home: &Home, bases: &BTreeSet<PathBuf>, wanted: &dyn Fn(&Path) -> bool) -> Vec<Known> {
    let at = |root: PathBuf| {
        let label = Label::new(root.file_name()?.as_encoded_bytes())?;
        let base = root.parent()?;
        let is_ours = label.as_str().starts_with(home.user_identity())
            && (base == home.holotree() || bases.contains(base))
            && wanted(&root);
        let space = is_ours.then(|| Space::labelled(home, base, label, "", label.as_str()))?;
        Some(Known { space, blueprint: String::new(), controller: String::new() })
    };
    mount::namespace::roots().into_iter().filter_map(at).collect()
}

#[cfg(windows)]
fn unrecorded(_: &Home, _: &BTreeSet<PathBuf>, _: &dyn Fn(&Path) -> bool) -> Vec<Known> {
    Vec::new()
}

/// Every known space, as displayed.
pub fn spaces(home: &Home) -> Result<Vec<SpaceRow>, HomeError> {
    Ok(known(home)?.iter().map(row).collect())
}

fn row(known: &Known) -> SpaceRow {
    let Known { space, blueprint, controller } = known;
    let uses = space.sibling(".use");
    let days = days_since_change(&uses);
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    SpaceRow {
        blueprint: blueprint.clone(),
        controller: controller.clone(),
        holofs: space_state(space, &uses),
        id: space.label.to_string(),
        idle_days: days.map_or(0, whole),
        last_used: days.map_or_else(|| "N/A".to_owned(), |days| format!("{days:.0} days ago")),
        meta: text(space.sibling(".meta")),
        path: text(space.root.clone()),
        plan: text(space.root.join("rcc_plan.log")),
        space: space.name().to_owned(),
        spec: text(space.root.join("identity.yaml")),
        use_count: uses
            .metadata()
            .map_or_else(|_| "N/A".to_owned(), |found| format!("{} times", found.len())),
    }
}

fn space_state(space: &Space, uses: &Path) -> SpaceState {
    let mount = space.mount_state().ok().flatten();
    let live = space.live_holder_by(mount.as_ref());
    let recorded = mount.filter(|mount| live == Some(mount.process));
    let state = match (live.is_some(), &recorded) {
        (true, Some(mount)) => held_state(space, mount),
        (true, None) => Is::Starting,
        (false, _) => idle_state(space),
    };
    let used = uses.metadata().and_then(|found| found.modified()).ok();
    SpaceState {
        state,
        mode: recorded.as_ref().map(|mount| mount.mode.clone()),
        pid: live.map(|process| process.pid),
        version: recorded.as_ref().map(|mount| mount.version.clone()).filter(|version| !version.is_empty()),
        catalog: recorded.map(|mount| mount.catalog_path),
        dirty_bytes: space
            .state_dir
            .below(files::UPPER_BYTES)
            .open()
            .and_then(|upper| upper.file_bytes())
            .unwrap_or(0),
        last_use: used.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map(|time| time.as_secs()),
        #[cfg(unix)]
        leases: lease::seen(&space.state_dir),
    }
}

/// The state of a space whose server is alive. The mount itself is not accessed: its server may be stopped.
#[cfg(unix)]
fn held_state(space: &Space, mount: &MountState) -> Is {
    let here = mount::namespace::current();
    let is_here = mount::seen(&space.root).is_ok_and(|seen| seen.is_root && seen.device == mount.device);
    match is_here || mount.namespace != here {
        false => Is::Leaving,
        true if is_converted(space, mount.meta.as_deref(), &mount.blueprint) => Is::Converted,
        true => Is::Live,
    }
}

#[cfg(windows)]
fn held_state(_space: &Space, _mount: &MountState) -> Is {
    Is::Live
}

/// RCC's `.meta` differs from `known`, and names another environment than `blueprint`.
#[cfg(unix)]
fn is_converted(space: &Space, known: Option<&str>, blueprint: &str) -> bool {
    let current = space.meta_state();
    let ours = space.restored_state().ok().flatten().map(|state| state.meta);
    current.is_some()
        && current.as_deref() != known
        && current != ours
        && Header::peek(&space.sibling(".meta")).is_some_and(|meta| meta.blueprint != blueprint)
}

/// The state of a space that no process holds.
fn idle_state(space: &Space) -> Is {
    match sys::fs::shared::is_mount_point(&space.root) {
        Err(error) if is_dead(&error) => return Is::Dead,
        Ok(true) => {
            return match sys::fs::disk::usage(&space.root) {
                Err(error) if is_dead(&error) => Is::Dead,
                _ => Is::Foreign,
            };
        }
        Err(_) | Ok(false) => {}
    }
    match std::fs::read_dir(&space.root).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Is::Files,
        Err(error) if is_dead(&error) => Is::Dead,
        Ok(false) | Err(_) => Is::Absent,
    }
}

/// The errors of a mount whose server is gone.
fn is_dead(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted)
}
