//! Recording: what RCC does with a finished tree before it can be restored.
//!
//! Walk, then hash and search every file once on all processors, put each content into the library as a blob, and finally write the
//! catalog and its `.info`. The result is what RCC itself would have written, including the exact JSON.
//!
//! - However recording fails, it leaves neither a catalog nor blobs; if it is killed, blobs without a catalog. Unless it begins while
//!   the tree is being created, nothing is written if the walk can tell that the tree cannot be recorded.
//! - The recorded directory is only read. A file or directory that changes meanwhile is an error.
//! - RCC stores only contents that it reaches through real directories, and then requires a blob for every digest of the catalog,
//!   so it can never use a catalog that it recorded from a tree with a link that leads out. Here every digest gets its blob, even
//!   those of links and of files below them.
//! - RCC writes `identity.yaml` into its stage before it records; here that is up to the creator of the tree, and its absence is a
//!   warning.
//!
//! The caller holds RCC's lock of the hololib.

mod ahead;
mod blob;
mod content;
mod error;
mod publish;
mod ready;
mod scratch;
mod tree;
mod walk;

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub use error::RecordError;

use crate::rcc::catalog::{Catalog, Header, IDENTITY_LENGTH};
use crate::rcc::digest::{Digest, Hasher};
use crate::rcc::home::{self, Home};
use crate::store::observe::{Counter, Observer};
use crate::sys::fs::stat::read_regular;

/// RCC's name of the file with the specification, whose hash is the blueprint.
pub const IDENTITY_FILE: &str = "identity.yaml";
/// A longer specification is not compared.
const MAX_IDENTITY: u64 = 16 << 20;
/// RCC restores through a temporary name that is up to eight bytes longer.
const RESTORABLE_NAME: usize = 247;

/// How to record.
#[derive(Debug, Clone)]
pub struct Options {
    /// The specification of the environment; its hash, trimmed, names the catalog.
    pub specification: String,
    /// The version of the recorder in the catalog.
    pub recorder: String,
    /// Set from outside to interrupt the recording.
    pub interrupted: Arc<AtomicBool>,
}

impl Options {
    /// Options to record an environment created from `specification`: the text of a conda.yaml in RCC's form, or any name.
    pub fn new(specification: impl Into<String>) -> Options {
        let recorder = format!("holofs-v{}", env!("CARGO_PKG_VERSION"));
        Options { specification: specification.into(), recorder, interrupted: Arc::default() }
    }
}

/// The result of recording. Files, directories and bytes are counted as RCC counts them, including what is below links.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Recorded {
    /// The catalog that was written.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub catalog: PathBuf,
    /// The hash in its name.
    pub blueprint: String,
    /// The name of the recorded directory, which a space's label will replace.
    pub identity: String,
    /// The directory of its future spaces.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub base: PathBuf,
    /// Files, including links to files.
    pub files: u64,
    /// Directories, including links to directories.
    pub directories: u64,
    /// Links of both kinds.
    pub links: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files that contain the identity.
    pub relocated_files: u64,
    /// Number of its occurrences.
    pub relocations: u64,
    /// Blobs written.
    pub blobs_written: u64,
    /// Blobs already in the library.
    pub blobs_present: u64,
    /// The duration.
    pub seconds: f64,
    /// What a user should know although recording succeeded.
    pub warnings: Vec<String>,
}

/// Records the directory `dir` into the hololib of `home`. The caller holds the lock of the hololib.
pub fn record(
    dir: &Path,
    home: &Home,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Recorded, RecordError> {
    Recorder::new(home).record(dir, options, observer)
}

/// Records one directory, and can begin while that is still being filled. The caller holds the lock of the hololib. If nothing is recorded,
/// the blobs written so far are removed.
pub struct Recorder<'a> {
    home: &'a Home,
    library: blob::Library,
    ready: Option<ready::Ready>,
    ahead: ahead::Ahead,
}

impl Recorder<'_> {
    /// For the hololib of `home`.
    pub fn new(home: &Home) -> Recorder<'_> {
        Recorder { home, library: blob::Library::of(home), ready: None, ahead: ahead::Ahead::default() }
    }

    /// For an environment that will be used soon: large files also go into the raw store, at most `most` bytes.
    #[must_use]
    pub fn for_use(self, most: u64) -> Self {
        Recorder { ready: ready::Ready::of(self.home, most), ..self }
    }

    /// Stores the files of `dir` while another program adds them, until `stop` is set.
    pub fn follow(&mut self, dir: &Path, stop: &AtomicBool) {
        self.ahead.follow(dir, &self.library, self.ready.as_ref(), stop);
    }

    /// Records `dir`, which is complete. Files that [`Recorder::follow`] stored are not read again.
    pub fn record(
        self,
        dir: &Path,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Recorded, RecordError> {
        let started = Instant::now();
        let header = header(dir, self.home, options)?;
        let root = PathBuf::from(&header.path);
        let mut warnings = warnings(&root, self.home, &header);
        let walked = walk::walk(&root)?;
        warnings.extend(long_names(&walked));
        observer.expect(walked.contents.iter().map(|content| content.stat.size).sum());
        self.library.ensure()?;
        let catalog = self.read(walked, header, options, observer)?;
        self.library.take(&catalog);
        let path = publish::publish(self.home, &catalog)?;
        observer.count(Counter::BlobsRecorded, self.library.taken());
        Ok(summary(&catalog, path, self.library.taken(), started, warnings))
    }

    /// Reads all contents, and stores them. Returns the catalog, which is not stored yet.
    fn read(
        &self,
        mut walked: walk::Walked,
        header: Header,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<Catalog, RecordError> {
        let root = PathBuf::from(&header.path);
        let reading = tree::Reading {
            needle: header.identity.as_bytes(),
            library: &self.library,
            ready: self.ready.as_ref(),
            ahead: &self.ahead,
            interrupted: &options.interrupted,
            observer,
        };
        reading.read_all(&mut walked)?;
        walked.check_unchanged()?;
        Catalog::new(header, walked.dirs)
            .map_err(|source| RecordError::Catalog { path: root, source: Box::new(source) })
    }
}

/// A hololib that accepts contents one at a time: for an environment that is not in a directory. The caller holds the lock of the
/// hololib, and writes the catalog last; without a catalog, the contents that were written are removed.
pub struct Contents(blob::Library);

impl Contents {
    /// The hololib of `home`, created if needed.
    pub fn ensure(home: &Home) -> Result<Contents, RecordError> {
        let library = blob::Library::of(home);
        library.ensure()?;
        Ok(Contents(library))
    }

    /// A hasher for the digests used here.
    pub fn hasher(&self) -> Hasher {
        Hasher::new(self.0.regime())
    }

    /// Adds a content unless it exists: `write` writes all of it to the given writer, again if necessary.
    pub fn put(
        &self,
        digest: &Digest,
        size: u64,
        write: impl FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RecordError> {
        Ok(self.0.publish(digest, size, write)?)
    }

    /// Writes the catalog and its `.info`, after all contents were added. Returns its path, and the number of blobs written for it.
    pub fn publish(self, home: &Home, catalog: &Catalog) -> Result<(PathBuf, u64), RecordError> {
        self.0.take(catalog);
        Ok((publish::publish(home, catalog)?, self.0.taken()))
    }
}

/// True for names that RCC leaves out of every catalog, such as bytecode.
pub fn is_left_out(name: &[u8]) -> bool {
    walk::is_killed(name)
}

/// The header of the catalog, if the directory can be recorded.
fn header(dir: &Path, home: &Home, options: &Options) -> Result<Header, RecordError> {
    let path = absolute(dir)?;
    let not_utf8 = || RecordError::NotUtf8 { path: path.clone() };
    let identity = path.file_name().unwrap_or_default().to_str().ok_or_else(not_utf8)?.to_owned();
    check_identity(&identity, &path, home)?;
    Ok(Header {
        rcc: options.recorder.clone(),
        identity,
        path: path.to_str().ok_or_else(not_utf8)?.to_owned(),
        platform: home::platform(),
        blueprint: home::blueprint_hash(options.specification.trim()),
        lifted: true,
        ..Header::default()
    })
}

/// The path as stored in the catalog: absolute, clean, and through the links in the user's path.
fn absolute(dir: &Path) -> Result<PathBuf, RecordError> {
    let failed = |source| RecordError::Io { doing: "Finding", path: dir.into(), source };
    if !fs::metadata(dir).map_err(failed)?.is_dir() {
        return Err(RecordError::NotADirectory { path: dir.into() });
    }
    // Only the kernel can resolve `..` after a link. On Windows it is resolved lexically, and RCC does not know canonical paths.
    let climbs = cfg!(unix) && dir.components().any(|part| part == Component::ParentDir);
    let path = if climbs { fs::canonicalize(dir) } else { std::path::absolute(dir) };
    Ok(path.map_err(failed)?.components().collect())
}

/// The identity must be one that RCC can find again and replace by a label.
fn check_identity(identity: &str, path: &Path, home: &Home) -> Result<(), RecordError> {
    let bytes = identity.as_bytes();
    let word = bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let advice = || {
        let platform = home::platform();
        let (goos, goarch) = platform.split_once('_').unwrap_or((&platform, ""));
        home.stage_identity(goos, goarch)
    };
    if bytes.len() != IDENTITY_LENGTH || !word {
        return Err(RecordError::Identity { path: path.into(), length: bytes.len(), advice: advice() });
    }
    match bytes.split_last() {
        Some((last, rest)) if rest.contains(last) => {
            Err(RecordError::Unfindable { path: path.into(), trigger: char::from(*last), advice: advice() })
        }
        _ => Ok(()),
    }
}

fn warnings(root: &Path, home: &Home, header: &Header) -> Vec<String> {
    let mut warnings = Vec::new();
    match read_regular(&root.join(IDENTITY_FILE), MAX_IDENTITY) {
        Err(_) => warnings.push(format!(
            "There is no {IDENTITY_FILE} in {}; RCC shows it as the specification of the environment",
            root.display()
        )),
        Ok(text) if home::blueprint_hash(String::from_utf8_lossy(&text).trim()) != header.blueprint => {
            warnings.push(format!(
                "{IDENTITY_FILE} in {} is not the text of the blueprint {}",
                root.display(),
                header.blueprint
            ))
        }
        Ok(_) => {}
    }
    let base = root.parent().unwrap_or(root);
    if base != home.holotree() {
        warnings.push(format!(
            "Spaces of this catalog will live in {}, not in {}",
            base.display(),
            home.holotree().display()
        ));
    }
    warnings
}

fn long_names(walked: &walk::Walked) -> Option<String> {
    let files = walked.dirs.iter().flat_map(|dir| &dir.files);
    let long = files.filter(|file| file.name.as_bytes().len() > RESTORABLE_NAME).count();
    (long > 0).then(|| format!("RCC cannot restore {long} files, because their names are too long for it"))
}

fn summary(
    catalog: &Catalog,
    path: PathBuf,
    blobs_written: u64,
    started: Instant,
    warnings: Vec<String>,
) -> Recorded {
    let stats = catalog.stats();
    let dir_links = catalog.dirs().iter().filter(|dir| dir.symlink.is_some()).count();
    let file_links = catalog.files().filter(|file| file.symlink.is_some()).count();
    let distinct = catalog.digests().map(|(digest, _)| digest).collect::<HashSet<_>>().len() as u64;
    Recorded {
        catalog: path,
        blueprint: catalog.header.blueprint.clone(),
        identity: catalog.header.identity.clone(),
        base: catalog.base().to_owned(),
        files: stats.files,
        directories: stats.directories,
        links: (dir_links + file_links) as u64,
        bytes: stats.bytes,
        relocated_files: stats.relocations,
        relocations: catalog.files().map(|file| file.rewrite.len() as u64).sum(),
        blobs_written,
        blobs_present: distinct - blobs_written,
        seconds: started.elapsed().as_secs_f64(),
        warnings,
    }
}
