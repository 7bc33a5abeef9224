//! Catalogs, as `rcc holotree catalogs` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::{days_since_change, whole};
use crate::error::{chain, line};
use crate::rcc::catalog::{Catalog, Dir, DirId, File};
use crate::rcc::home::{Home, HomeError};
use crate::store::{Library, blob_path};

/// RCC's name of the specification in an environment.
const IDENTITY_FILE: &str = "identity.yaml";

/// What to show in addition to sizes and ages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// The specification itself.
    pub identity: bool,
    /// The files of this many largest sizes; 0 for none.
    pub top: usize,
}

/// One catalog, in RCC's own JSON form.
#[derive(Debug, Clone, Serialize)]
pub struct CatalogRow {
    /// Whole days since the catalog was written or restored from.
    pub age_in_days: i64,
    /// The blueprint.
    pub blueprint: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Whole days since the last known use; -1 if none is known.
    pub days_since_last_use: i64,
    /// Directories, including the root.
    pub directories: u64,
    /// Files.
    pub files: u64,
    /// The directory of its spaces.
    pub holotree: String,
    /// The specification, if requested.
    #[serde(rename = "identity-content", skip_serializing_if = "Option::is_none")]
    pub identity_content: Option<String>,
    /// The blob with the specification.
    #[serde(rename = "identity.yaml")]
    pub identity: String,
    /// The platform.
    pub platform: String,
    /// Files with relocations.
    pub relocations: u64,
    /// `top<N>`, if requested: the largest files, by path.
    #[serde(flatten)]
    pub largest: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Every catalog that can be read; the others are logged, as RCC does.
pub fn catalogs(home: &Home, shown: Shown) -> Result<Vec<CatalogRow>, HomeError> {
    let mut rows = Vec::new();
    for path in home.catalogs()? {
        match Catalog::read(&path) {
            Ok((catalog, _)) => rows.push(row(home, &path, &catalog, shown)),
            Err(error) => log::warn!("{}", line(&error)),
        }
    }
    Ok(rows)
}

fn row(home: &Home, path: &Path, catalog: &Catalog, shown: Shown) -> CatalogRow {
    let stats = catalog.stats();
    let root = catalog.dir(catalog.root());
    let identity = root.files.iter().find(|file| file.name.as_bytes() == IDENTITY_FILE.as_bytes());
    let library = home.library();
    let blob = identity.and_then(|file| file.digest).map(|digest| library.join(blob_path(&digest)));
    let largest = (shown.top > 0).then(|| (format!("top{}", shown.top), largest(catalog, shown.top)));
    CatalogRow {
        age_in_days: days_since_change(path).map_or(0, whole),
        blueprint: catalog.header.blueprint.clone(),
        bytes: stats.bytes,
        days_since_last_use: idle_days(home, &catalog.header.blueprint),
        directories: stats.directories,
        files: stats.files,
        holotree: catalog.base().to_string_lossy().into_owned(),
        identity_content: shown.identity.then(|| content(&library, identity)),
        identity: blob.unwrap_or(library).to_string_lossy().into_owned(),
        platform: catalog.header.platform.clone(),
        relocations: stats.relocations,
        largest: largest.into_iter().collect(),
    }
}

fn content(library: &Path, identity: Option<&File>) -> String {
    let Some((digest, file)) = identity.and_then(|file| Some((file.digest?, file))) else {
        return format!("Not found: {IDENTITY_FILE}");
    };
    let mut text = Vec::new();
    let read = Library::open(library).and_then(|library| library.stream(&digest, file.size, &mut text));
    match read {
        Ok(()) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => chain(&error).to_string(),
    }
}

/// The minimum over all users who left a mark.
fn idle_days(home: &Home, blueprint: &str) -> i64 {
    let marks = std::fs::read_dir(home.used_dir()).into_iter().flatten().flatten();
    let prefix = format!("{blueprint}.");
    let ours = marks.filter(|mark| mark.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)));
    ours.filter_map(|mark| days_since_change(&mark.path())).map(whole).min().unwrap_or(-1)
}

/// The files of the `count` largest sizes.
fn largest(catalog: &Catalog, count: usize) -> BTreeMap<String, u64> {
    let sizes: BTreeSet<u64> = catalog.files().map(|file| file.size).collect();
    let Some(&least) = sizes.iter().rev().take(count).next_back() else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for (at, dir) in catalog.dirs().iter().enumerate() {
        for file in dir.files.iter().filter(|file| file.size >= least) {
            let id = DirId(u32::try_from(at).unwrap_or(u32::MAX));
            found.insert(path_of(catalog, id, file), file.size);
        }
    }
    found
}

fn path_of(catalog: &Catalog, dir: DirId, file: &File) -> String {
    let above =
        std::iter::successors(Some(catalog.dir(dir)), |dir: &&Dir| dir.parent.map(|id| catalog.dir(id)));
    let mut names: Vec<_> = above.filter_map(|dir| dir.name.as_ref()).collect();
    names.reverse();
    let names = names.into_iter().chain(std::iter::once(&file.name));
    names.map(|name| String::from_utf8_lossy(name.as_bytes())).collect::<Vec<_>>().join("/")
}
