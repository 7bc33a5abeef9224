//! Which package each file of an environment belongs to.
//!
//! pip and uv leave a `RECORD` in `<name>-<version>.dist-info`, conda a JSON file in `conda-meta`; both list files. Unlisted files
//! belong to Python itself if they are its library, headers or programs, else to no package. Lists are hints: if one cannot be read or
//! parsed, its files count as unlisted, and that is logged.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::store::index::{FileNode, Index, Ino, NodeKind};
use crate::store::{BlobSource, Wanted};
use crate::sys::fs::name::{Name, RelPath};

/// The package name of the interpreter's own files.
pub const PYTHON: &str = "python";
/// The name for unlisted files.
pub const NONE: &str = "(no package)";
/// The maximum size of a list; `RECORD` of the largest known package has 2 MB.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Its name, as in its metadata.
    pub name: String,
    /// Its version; empty if unknown.
    pub version: String,
    /// Number of regular files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// All packages of a catalog.
#[derive(Debug, Clone, Default)]
pub struct Packages {
    list: Vec<Package>,
    owners: BTreeMap<Ino, usize>,
}

impl Packages {
    /// Reads the lists of `index` from `source`.
    pub fn of(index: &Index, source: &dyn BlobSource) -> Packages {
        let mut packages = Packages::default();
        for node in index.nodes() {
            let name = String::from_utf8_lossy(node.name);
            let Some(path) = index.path_of(node.ino) else { continue };
            match node.kind {
                NodeKind::Dir { .. } if name.ends_with(".dist-info") => {
                    packages.wheel(index, source, node.ino, &path.to_string());
                }
                NodeKind::File(file)
                    if path.to_string().starts_with("conda-meta/") && name.ends_with(".json") =>
                {
                    packages.conda(index, source, &file, node.mode);
                }
                _ => {}
            }
        }
        packages.rest(index);
        packages
    }

    /// The packages, largest first.
    pub fn sorted(&self) -> Vec<&Package> {
        let mut sorted: Vec<&Package> = self.list.iter().filter(|package| package.files > 0).collect();
        sorted.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        sorted
    }

    /// The package of a file; every regular file has one, even if only [`NONE`].
    pub fn owner(&self, ino: Ino) -> Option<&Package> {
        self.list.get(*self.owners.get(&ino)?)
    }

    /// The version of the package with that name.
    pub fn version(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|package| package.name == name).map(|package| package.version.as_str())
    }

    fn wheel(&mut self, index: &Index, source: &dyn BlobSource, dir: Ino, path: &str) {
        let Some((site, info)) = path.rsplit_once('/') else { return };
        let stem = info.strip_suffix(".dist-info").unwrap_or(info);
        let (name, version) = stem.split_once('-').unwrap_or((stem, ""));
        let package = self.add(name, version);
        let record = Name::new(b"RECORD").ok().and_then(|name| index.lookup(dir, name));
        let Some((file, mode)) = record.and_then(|ino| regular(index, ino)) else {
            return log::debug!("{path} has no RECORD");
        };
        for line in text(source, &file, mode, path).lines() {
            if let Some(path) = joined(site, &first_field(line)) {
                self.own(index, &path, package);
            }
        }
    }

    fn conda(&mut self, index: &Index, source: &dyn BlobSource, file: &FileNode<'_>, mode: u16) {
        #[derive(serde::Deserialize)]
        struct Meta {
            name: String,
            #[serde(default)]
            version: String,
            #[serde(default)]
            files: Vec<String>,
        }
        let text = text(source, file, mode, "conda-meta");
        match serde_json::from_str::<Meta>(&text) {
            Ok(meta) => {
                let package = self.add(&meta.name, &meta.version);
                meta.files.iter().for_each(|path| self.own(index, path, package));
            }
            Err(error) => log::debug!("A file of conda-meta cannot be parsed: {error}"),
        }
    }

    /// Assigns the unlisted files.
    fn rest(&mut self, index: &Index) {
        let (mut python, mut none) = (None, None);
        for (node, size, path) in super::files(index) {
            let owner = match self.owners.get(&node.ino) {
                Some(&owner) => owner,
                None => {
                    let version = python_of(&path);
                    let slot = if version.is_some() { &mut python } else { &mut none };
                    let name = if version.is_some() { PYTHON } else { NONE };
                    let owner = *slot.get_or_insert_with(|| self.add(name, version.unwrap_or_default()));
                    self.owners.insert(node.ino, owner);
                    owner
                }
            };
            let package = &mut self.list[owner];
            (package.files, package.bytes) = (package.files + 1, package.bytes + size);
        }
    }

    fn add(&mut self, name: &str, version: &str) -> usize {
        self.list.push(Package { name: name.to_owned(), version: version.to_owned(), files: 0, bytes: 0 });
        self.list.len() - 1
    }

    /// The first list that contains a file wins.
    fn own(&mut self, index: &Index, path: &str, package: usize) {
        if let Some(ino) = find(index, path) {
            self.owners.entry(ino).or_insert(package);
        }
    }
}

/// `3.11` if the file belongs to Python 3.11 itself: its library, headers, or programs.
fn python_of(path: &str) -> Option<&str> {
    let (place, rest) = path.split_once('/')?;
    let rest = rest.strip_prefix("lib").filter(|_| place == "lib").unwrap_or(rest);
    let version = rest.strip_prefix("python").filter(|_| matches!(place, "lib" | "bin" | "include"))?;
    if version.split_once('/').is_some_and(|(_, below)| below.starts_with("site-packages/")) {
        return None;
    }
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    Some(version[..end].trim_end_matches('.')).filter(|version| version.contains('.'))
}

fn regular(index: &Index, ino: Ino) -> Option<(FileNode<'_>, u16)> {
    let node = index.node(ino)?;
    match node.kind {
        NodeKind::File(file) => Some((file, node.mode)),
        _ => None,
    }
}

/// The content of a list; empty if it is not available.
fn text(source: &dyn BlobSource, file: &FileNode<'_>, mode: u16, what: &str) -> String {
    if file.size > MAX_LIST_BYTES {
        log::debug!("The list of {what} is too large to be one: {} bytes", file.size);
        return String::new();
    }
    let wanted = Wanted::of(file, mode);
    let read = source.open(&wanted).map_err(|error| error.to_string());
    let read = read.and_then(|file| file.read_all().map_err(|error| error.to_string()));
    match read {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            log::warn!("Cannot read the list of {what}: {error}");
            String::new()
        }
    }
}

/// The first field of a CSV line.
fn first_field(line: &str) -> String {
    match line.strip_prefix('"') {
        Some(quoted) => {
            quoted.split("\",").next().unwrap_or_default().trim_end_matches('"').replace("\"\"", "\"")
        }
        None => line.split(',').next().unwrap_or_default().to_owned(),
    }
}

/// `path` below `dir`, as a path below the environment; `None` if it leads outside.
fn joined(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn find(index: &Index, path: &str) -> Option<Ino> {
    let path = RelPath::parse(path.as_bytes()).ok()?;
    path.names().iter().try_fold(Ino::ROOT, |dir, name| index.lookup(dir, name.as_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_record_are_joined_and_may_not_lead_out() {
        let site = "lib/python3.11/site-packages";
        assert_eq!(joined(site, "a/b.py").as_deref(), Some("lib/python3.11/site-packages/a/b.py"));
        assert_eq!(joined(site, "../../../bin/tool").as_deref(), Some("bin/tool"));
        assert_eq!(joined(site, "../../../../etc/passwd"), None);
    }

    #[test]
    fn the_first_field_of_a_record_may_be_quoted() {
        assert_eq!(first_field("a/b.py,sha256=x,12"), "a/b.py");
        assert_eq!(first_field("\"a,\"\"b\"\".py\",sha256=x,12"), "a,\"b\".py");
    }

    #[test]
    fn standard_library_is_separate_from_packages() {
        assert_eq!(python_of("lib/python3.11/os.py"), Some("3.11"));
        assert_eq!(python_of("lib/python3.11/site-packages/x.py"), None);
        assert_eq!(python_of("lib/libpython3.11.so.1.0"), Some("3.11"));
        assert_eq!(python_of("bin/python3.11"), Some("3.11"));
        assert_eq!(python_of("include/python3.11/Python.h"), Some("3.11"));
        assert_eq!(python_of("bin/tool"), None);
    }
}
