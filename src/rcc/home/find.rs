//! Finds catalogs by what a user types: hash, unique prefix, file name, or path.

use std::io;
use std::path::{Path, PathBuf};

use super::{HomeError, platform};

/// The catalogs in `dir`, sorted. Empty if there is no directory.
pub(super) fn catalogs(dir: &Path) -> Result<Vec<PathBuf>, HomeError> {
    let failed = |source| HomeError::ListCatalogs { dir: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if is_catalog_name(file_name(&path)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// True for the name of a catalog file by RCC's rule: the glob `[0-9a-f]*v12.*` without `.info`.
pub fn is_catalog_name(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && name[1..].contains("v12.")
        && !name.ends_with(".info")
}

/// The name of a catalog file; empty if it is not UTF-8, which catalog names always are.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Finds the one catalog that `what` means.
pub(super) fn find(dir: &Path, what: &str) -> Result<PathBuf, HomeError> {
    if what.contains(std::path::MAIN_SEPARATOR) {
        return as_path(what).ok_or_else(|| HomeError::NoSuchCatalogFile { path: what.into() });
    }
    let all = catalogs(dir)?;
    let matching: Vec<&PathBuf> =
        all.iter().filter(|path| !what.is_empty() && file_name(path).starts_with(what)).collect();
    match preferred(&matching, what).as_slice() {
        [one] => Ok((*one).clone()),
        [] => as_path(what).ok_or_else(|| HomeError::CatalogNotFound {
            what: what.to_owned(),
            dir: dir.to_owned(),
            known: List(names(&all)),
        }),
        several => Err(HomeError::AmbiguousCatalog {
            what: what.to_owned(),
            candidates: List(several.iter().map(|path| file_name(path).to_owned()).collect()),
        }),
    }
}

fn as_path(what: &str) -> Option<PathBuf> {
    Path::new(what).is_file().then(|| PathBuf::from(what))
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| file_name(path).to_owned()).collect()
}

/// Of the matches, the one with exactly this name, else those of this machine's platform, else all.
fn preferred<'a>(matching: &[&'a PathBuf], what: &str) -> Vec<&'a PathBuf> {
    if let Some(&exact) = matching.iter().find(|path| file_name(path) == what) {
        return vec![exact];
    }
    let ours = format!("v12.{}", platform());
    let native: Vec<_> = matching.iter().copied().filter(|path| file_name(path).ends_with(&ours)).collect();
    if native.is_empty() { matching.to_vec() } else { native }
}

/// Candidates for an error message, which shows the first few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List(pub Vec<String>);

impl std::fmt::Display for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 10;
        match self.0.len() {
            0 => f.write_str("none"),
            count if count > SHOWN => write!(f, "{} and {} more", self.0[..SHOWN].join(", "), count - SHOWN),
            _ => f.write_str(&self.0.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::line;

    fn hololib(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), b"").unwrap();
        }
        dir
    }

    fn found(dir: &Path, what: &str) -> Option<String> {
        find(dir, what).ok().map(|path| file_name(&path).to_owned())
    }

    #[test]
    fn only_what_rcc_globs_is_a_catalog() {
        let dir = hololib(&[
            "14023a1f332a0231v12.linux_amd64",
            "14023a1f332a0231v12.linux_amd64.info",
            "compress.no",
            "Av12.linux_amd64",
            "v12.x",
            "00v12.windows_amd64",
        ]);
        let names = names(&catalogs(dir.path()).unwrap());
        assert_eq!(names, ["00v12.windows_amd64", "14023a1f332a0231v12.linux_amd64"]);
        assert_eq!(catalogs(&dir.path().join("absent")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn hash_prefix_name_and_path_find_a_catalog() {
        let ours = format!("14023a1f332a0231v12.{}", platform());
        let dir = hololib(&[
            &ours,
            "14023a1f332a0231v12.plan9_mips",
            "aa00000000000000v12.plan9_mips",
            "ab11v12.x",
        ]);
        assert_eq!(found(dir.path(), "14023a1f332a0231"), Some(ours.clone()));
        assert_eq!(found(dir.path(), "14"), Some(ours.clone()));
        assert_eq!(
            found(dir.path(), "14023a1f332a0231v12.plan9_mips").as_deref(),
            Some("14023a1f332a0231v12.plan9_mips")
        );
        assert_eq!(found(dir.path(), "aa").as_deref(), Some("aa00000000000000v12.plan9_mips"));
        let path = dir.path().join("ab11v12.x");
        assert_eq!(find(dir.path(), path.to_str().unwrap()).unwrap(), path);
    }

    #[test]
    fn absence_and_ambiguity_list_the_candidates() {
        let dir = hololib(&["aa00v12.x_y", "ab00v12.x_y"]);
        let ambiguous = find(dir.path(), "a").unwrap_err().to_string();
        assert!(ambiguous.contains("aa00v12.x_y, ab00v12.x_y"), "{ambiguous}");
        let absent = line(&find(dir.path(), "ff").unwrap_err()).to_string();
        assert!(absent.contains("aa00v12.x_y, ab00v12.x_y"), "{absent}");
        assert!(find(dir.path(), "").is_err());
        assert!(find(dir.path(), "/nonexistent/catalog").is_err());
    }
}
