//! The variables that make a space the active environment of a program, in RCC's order.
//!
//! What RCC derives from its settings (network, certificates) and from a robot is not here: whoever runs a robot uses RCC.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::home::Home;

/// Parts of a PATH entry that RCC takes for another Python and leaves out.
const FOREIGN: [&str; 7] = ["python", "conda", "pyenv", "venv", "pypoetry", ".poetry", "virtualenv"];

/// What the variables are made from.
pub struct Sources<'a> {
    /// Where RCC keeps things.
    pub home: &'a Home,
    /// The space.
    pub root: &'a Path,
    /// The catalog's blueprint.
    pub blueprint: &'a str,
    /// A directory for this run alone: temporary files, and bytecode.
    pub temp: &'a Path,
    /// PATH as it is now.
    pub path: Option<OsString>,
}

/// One variable; an empty value is set, not unset.
pub type Variable = (String, OsString);

/// All variables, in RCC's order; a later one of the same name wins.
pub fn of(sources: &Sources<'_>) -> anyhow::Result<Vec<Variable>> {
    let root = sources.root;
    let mut list: Vec<Variable> = Vec::new();
    let mut set = |key: &str, value: &OsStr| list.push((key.to_owned(), value.to_owned()));
    if let Some(python) = python(root) {
        set("PYTHON_EXE", python.as_os_str());
    }
    set("PYTHONDONTWRITEBYTECODE", "x".as_ref());
    for key in ["PYTHONPYCACHEPREFIX", "TEMP", "TMP"] {
        set(key, sources.temp.as_os_str());
    }
    if root.join("pyvenv.cfg").is_file() {
        set("VIRTUAL_ENV", root.as_os_str());
    } else {
        set("CONDA_DEFAULT_ENV", "rcc".as_ref());
        set("CONDA_PREFIX", root.as_os_str());
        set("CONDA_PROMPT_MODIFIER", "(rcc) ".as_ref());
        set("CONDA_SHLVL", "1".as_ref());
    }
    for key in ["PYTHONHOME", "PYTHONSTARTUP", "PYTHONEXECUTABLE"] {
        set(key, "".as_ref());
    }
    set("PYTHONNOUSERSITE", "1".as_ref());
    set("ROBOCORP_HOME", sources.home.root().as_os_str());
    set("RCC_ENVIRONMENT_HASH", sources.blueprint.as_ref());
    set("RCC_HOLOTREE_SPACE_ROOT", root.as_os_str());
    set("RCC_TRACKING_ALLOWED", "false".as_ref());
    set("PATH", &path(sources)?);
    for (key, value) in activation(root)? {
        set(&key, value.as_ref());
    }
    Ok(list)
}

/// The space's directories for programs.
pub fn program_dirs(root: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        let below = ["Library/mingw-w64/bin", "Library/usr/bin", "Library/bin", "Scripts", "bin"];
        return std::iter::once(root.to_owned()).chain(below.iter().map(|dir| root.join(dir))).collect();
    }
    vec![root.join("bin")]
}

fn python(root: &Path) -> Option<PathBuf> {
    let names = if cfg!(windows) { ["python3.exe", "python.exe"] } else { ["python3", "python"] };
    let dirs = program_dirs(root);
    names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|path| path.is_file())
}

/// The space's directories, then what PATH has, without other spaces and other Pythons.
fn path(sources: &Sources<'_>) -> anyhow::Result<OsString> {
    let current = sources.path.clone().unwrap_or_default();
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in std::env::split_paths(&current) {
        if !dirs.contains(&dir) && !is_foreign(&dir, sources.home.user_identity()) {
            dirs.push(dir);
        }
    }
    Ok(std::env::join_paths(program_dirs(sources.root).into_iter().chain(dirs))?)
}

fn is_foreign(dir: &Path, user: &str) -> bool {
    let text = dir.to_string_lossy();
    let lower = text.to_lowercase();
    FOREIGN.iter().any(|part| lower.contains(part))
        || text.split(|c: char| !is_word(c)).any(|word| is_label(word, user))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `<user>_<7 hex>_<8 hex>`, or the same of an unmanaged space.
fn is_label(word: &str, user: &str) -> bool {
    let mut parts = word.split('_');
    let owner = parts.next().is_some_and(|part| part == user || part == "UNMNGED");
    let mut hex = |len| {
        parts.next().is_some_and(|part| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    owner && hex(7) && hex(8) && parts.next().is_none()
}

/// What activating the environment changed when it was built.
fn activation(root: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let path = root.join("rcc_activate.json");
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| anyhow::anyhow!("Cannot understand {}: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(anyhow::anyhow!("Cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_entries_of_other_spaces_and_other_pythons_are_foreign() {
        for dir in [
            "/x/720c7a8_5a1fac3_9fcd2534/bin",
            "/x/UNMNGED_5a1fac3_9fcd2534/bin",
            "/opt/Conda/bin",
            "/a/.venv/bin",
        ] {
            assert!(is_foreign(Path::new(dir), "720c7a8"), "{dir}");
        }
        for dir in ["/usr/bin", "/x/0000000_5a1fac3_9fcd2534/bin", "/x/720c7a8_5a1fac3_9fcd2534_x/bin"] {
            assert!(!is_foreign(Path::new(dir), "720c7a8"), "{dir}");
        }
    }
}
