//! The files that RCC expects: `.meta` and `.meta.info`, `.use`, `used/…`, a touched catalog, a line in the journal.
//!
//! `.meta` is written last, to a temporary file and renamed (RCC writes it in place): a reader never sees a partial one, and an
//! interrupted restore leaves the old one, whose digests then disagree with the files. The marks of use are only informative: if
//! RCC's directories are not writable, they are omitted, which is logged.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Space, SpaceError};
use crate::error::chain;
use crate::rcc::catalog::{Catalog, CatalogId, Header};
use crate::rcc::home::controller_identity;
use crate::sys;

/// How long the times of a catalog count as the time of its last use. RCC's lists count days; and whenever the times change, the
/// whole catalog is read again to check that nothing else changed (see [`crate::store::index::Index::ensure`]).
const RECENT: Duration = Duration::from_secs(3600);

/// The content of the space's `.meta`: what the last complete materialize put there.
pub struct OldMeta {
    /// The catalog, with the space's own identity and path.
    pub catalog: Catalog,
    /// The SHA-256 of the `.meta` file.
    pub id: CatalogId,
}

/// One line of RCC's journal.
#[derive(serde::Serialize)]
struct Event {
    when: u64,
    controller: String,
    event: &'static str,
    detail: String,
    comment: String,
}

impl Space {
    /// Reads `.meta`. A missing or unreadable one means, as in RCC, that nothing is known about the files.
    pub fn old_meta(&self) -> Option<OldMeta> {
        let path = self.sibling(".meta");
        if !path.is_file() {
            return None;
        }
        match Catalog::read(&path) {
            Ok((catalog, id)) => Some(OldMeta { catalog, id }),
            Err(error) => {
                log::warn!("{} is not used: {}", path.display(), chain(&error));
                None
            }
        }
    }

    /// The blueprint in `.meta`: of a large one, only the beginning is read.
    pub fn meta_blueprint(&self) -> Option<String> {
        let header = Header::peek(&self.sibling(".meta"));
        header.or_else(|| Some(self.old_meta()?.catalog.header)).map(|header| header.blueprint)
    }

    /// Writes `.meta` and `.meta.info`: from now on `catalog` is in the space.
    pub fn write_meta(&self, catalog: &Catalog) -> Result<(), SpaceError> {
        let mut tail = Vec::new();
        catalog.write_tail(&mut tail).map_err(SpaceError::io("Writing", &self.sibling(".meta")))?;
        self.write_meta_parts(&catalog.header, &tail)
    }

    /// As [`Space::write_meta`], from the header of a catalog and its compressed tail.
    pub fn write_meta_parts(&self, header: &Header, tail: &[u8]) -> Result<(), SpaceError> {
        let header = Header {
            identity: self.label.to_string(),
            path: self.root.to_string_lossy().into_owned(),
            controller: controller_identity(&self.controller),
            space: self.name.clone(),
            ..header.clone()
        };
        let path = self.sibling(".meta");
        publish(&path, |file| header.write_head(&mut *file).and_then(|()| file.write_all(tail)))
            .map_err(SpaceError::io("Writing", &path))?;
        let info = self.sibling(".meta.info");
        publish(&info, |file| file.write_all(&header.info_json())).map_err(SpaceError::io("Writing", &info))
    }

    /// Removes the `.meta` of a space that is gone.
    pub fn remove_meta(&self) -> Result<(), SpaceError> {
        let path = self.sibling(".meta");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(SpaceError::io("Removing", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The state of the `.meta` file: if it differs, RCC has restored here since.
    pub fn meta_state(&self) -> Option<String> {
        sys::fs::dir::file_state(&self.sibling(".meta")).ok().map(|state| state.text)
    }

    /// Writes RCC's journal line about a use of this space.
    pub fn journal_use(&self, catalog_path: &Path, blueprint: &str) {
        let event = Event {
            when: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            controller: controller_identity(&self.controller),
            event: "space-used",
            detail: self.sibling(".meta").to_string_lossy().into_owned(),
            comment: format!("normal holotree with blueprint {blueprint} from {}", catalog_path.display()),
        };
        let line = serde_json::to_string(&event).unwrap_or_default();
        let journal = self.home.journal();
        tolerate(&journal, append(&journal, format!("{line}\n").as_bytes(), 0o640));
    }

    /// Writes the marks of one use of this space with `catalog_path`.
    pub fn mark_used(&self, catalog_path: &Path, blueprint: &str) {
        self.mark_catalog_used(catalog_path, blueprint);
        let uses = self.sibling(".use");
        tolerate(&uses, append(&uses, b".", 0o644));
    }

    /// Writes the marks of one use of `catalog_path` at any location.
    pub fn mark_catalog_used(&self, catalog_path: &Path, blueprint: &str) {
        tolerate(catalog_path, sys::fs::shared::touch_unless(catalog_path, RECENT));
        let used = self.home.used_dir().join(format!("{blueprint}.{}", self.home.user_identity()));
        tolerate(&used, append(&used, b"", 0o644).and_then(|()| sys::fs::shared::touch(&used)));
    }
}

/// Marks are only for RCC's lists: for us a hololib on a read-only volume is enough.
fn tolerate(path: &Path, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::debug!("Cannot record the use at {}: {error}", path.display());
    }
}

/// Appends, and creates the directory as RCC does. Like RCC it does not sync: a mark lost in a power cut does not matter, and waiting
/// for the disk would take longer than creating a space.
fn append(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = match sys::fs::shared::open_append(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            sys::fs::shared::ensure_dir(path.parent().unwrap_or(Path::new("/")), false)?;
            sys::fs::shared::open_append(path, mode)?
        }
        file => file?,
    };
    file.write_all(bytes)
}

/// Writes a temporary file next to `path` and renames it. Not synced, like the space itself: waiting for the disk would flush all its
/// files too, and a `.meta` lost in a power cut means that nothing is known, which is right. RCC does not take the temporary name for
/// a `.meta`.
fn publish(path: &Path, write: impl FnOnce(&mut io::BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(".holofs-tmp");
    match fs::remove_file(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = sys::fs::shared::create_new(Path::new(&temp), 0o666)?;
    let mut buffered = io::BufWriter::new(&file);
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    fs::rename(&temp, path)
}
