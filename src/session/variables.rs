//! The variables that make a space the active environment of a program, in RCC's order.
//!
//! Variables about RCC itself (`RCC_EXE`, `RCC_VERSION`) are left out, because this is not RCC.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{SessionError, Tried as _};
use crate::rcc::blueprint::Robot;
use crate::rcc::home::{Home, Settings, clean};
use crate::sys::fs::stat::read_regular;

/// The maximum size of the file with the changes of activation.
const MAX_ACTIVATION: u64 = 16 << 20;
/// Parts of a PATH entry that RCC regards as another Python and leaves out.
const FOREIGN: [&str; 7] = ["python", "conda", "pyenv", "venv", "pypoetry", ".poetry", "virtualenv"];

/// The inputs for the variables.
pub struct Sources<'a> {
    /// RCC's home.
    pub home: &'a Home,
    /// RCC's settings.
    pub settings: &'a Settings,
    /// The space.
    pub root: &'a Path,
    /// The catalog's blueprint.
    pub blueprint: &'a str,
    /// A directory for this run only: temporary files and bytecode.
    pub temp: &'a Path,
    /// The current PATH.
    pub path: Option<OsString>,
    /// Variables not to be set.
    pub unmanaged: Unmanaged,
    /// Additional variables.
    pub extra: &'a Extra,
}

/// What RCC, by its own variables, is configured not to set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmanaged {
    /// `RCC_NO_PYC_MANAGEMENT`: whether and where Python writes bytecode.
    pub bytecode: bool,
    /// `RCC_NO_TEMP_MANAGEMENT`: where temporary files are.
    pub temp: bool,
}

/// Additions to a space's variables.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Variables that come before all others.
    pub injected: Vec<Variable>,
    /// The robot whose directories are added.
    pub robot: Option<Robot>,
}

/// One variable; an empty value is set, not unset.
pub type Variable = (String, OsString);

/// All variables, in RCC's order; for duplicate names, the last one wins.
pub fn of(sources: &Sources<'_>) -> Result<Vec<Variable>, SessionError> {
    let Sources { root, extra, temp, .. } = *sources;
    let mut list: Vec<Variable> = extra.injected.clone();
    let mut set = |key: &str, value: &OsStr| list.push((key.to_owned(), value.to_owned()));
    if let Some(python) = python(root) {
        set("PYTHON_EXE", python.as_os_str());
    }
    if !sources.unmanaged.bytecode {
        set("PYTHONDONTWRITEBYTECODE", "x".as_ref());
        set("PYTHONPYCACHEPREFIX", temp.as_os_str());
    }
    if !sources.unmanaged.temp {
        set("TEMP", temp.as_os_str());
        set("TMP", temp.as_os_str());
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
    set(sources.home.product().variable(), sources.home.root().as_os_str());
    set("RCC_ENVIRONMENT_HASH", sources.blueprint.as_ref());
    if let Some(installation) = &sources.settings.installation {
        set("RCC_INSTALLATION_ID", installation.as_ref());
    }
    set("RCC_HOLOTREE_SPACE_ROOT", root.as_os_str());
    set("RCC_TRACKING_ALLOWED", "false".as_ref());
    set("PATH", &path(sources, &[])?);
    for (key, value) in activation(root)? {
        set(&key, value.as_ref());
    }
    network(sources.settings, &mut set);
    if let Some(robot) = &extra.robot {
        set("PATH", &path(sources, &robot.path())?);
        set(
            "PYTHONPATH",
            &std::env::join_paths(robot.python_path()).tried("Cannot join the directories of PYTHONPATH")?,
        );
        set("ROBOT_ROOT", robot.root.as_os_str());
        set("ROBOT_ARTIFACTS", robot.artifacts().as_os_str());
    }
    Ok(list)
}

/// The network settings of RCC, in its order.
fn network(settings: &Settings, set: &mut impl FnMut(&str, &OsStr)) {
    let flags: [(bool, &[(&str, &str)]); 3] = [
        (settings.no_revocation, &[("MAMBA_SSL_NO_REVOKE", "true")]),
        (
            !settings.verify_ssl,
            &[
                ("MAMBA_SSL_VERIFY", "false"),
                ("RC_DISABLE_SSL", "true"),
                ("WDM_SSL_VERIFY", "0"),
                ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
            ],
        ),
        (settings.legacy_renegotiation, &[("RC_TLS_LEGACY_RENEGOTIATION_ALLOWED", "true")]),
    ];
    for (key, value) in flags.into_iter().filter(|(on, _)| *on).flat_map(|(_, list)| list) {
        set(key, value.as_ref());
    }
    let Settings { https_proxy, http_proxy, no_proxy, .. } = settings;
    let proxies = [("https_proxy", https_proxy), ("http_proxy", http_proxy), ("no_proxy", no_proxy)];
    for (key, value) in proxies.into_iter().filter(|(_, value)| !value.is_empty()) {
        set(key, value.as_ref());
        set(&key.to_ascii_uppercase(), value.as_ref());
    }
    if let Some(path) = &settings.pip_config {
        set("PIP_CONFIG_FILE", path.as_os_str());
    }
    if let Some(path) = &settings.ca_bundle {
        for key in ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
            set(key, path.as_os_str());
        }
    }
}

/// The space's directories for programs.
pub fn program_dirs(root: &Path) -> Vec<PathBuf> {
    if cfg!(windows) {
        let below = ["Library/mingw-w64/bin", "Library/usr/bin", "Library/bin", "Scripts", "bin"];
        return std::iter::once(root.to_owned())
            .chain(below.iter().map(|dir| root.join(dir).components().collect()))
            .collect();
    }
    vec![root.join("bin")]
}

fn python(root: &Path) -> Option<PathBuf> {
    let names = if cfg!(windows) { ["python3.exe", "python.exe"] } else { ["python3", "python"] };
    let dirs = program_dirs(root);
    names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).find(|path| path.is_file())
}

/// `first`, the space's directories, then the entries of PATH, absolute and normalized, without other spaces and other Pythons. Empty
/// entries are dropped: shells take them for the current directory, which is never intended.
fn path(sources: &Sources<'_>, first: &[PathBuf]) -> Result<OsString, SessionError> {
    let current = sources.path.clone().unwrap_or_default();
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in std::env::split_paths(&current).filter_map(|dir| std::path::absolute(dir).ok()) {
        let dir = clean(&dir);
        if !dirs.contains(&dir) && !is_foreign(&dir, sources.home.user_identity()) {
            dirs.push(dir);
        }
    }
    let all = first.iter().cloned().chain(program_dirs(sources.root)).chain(dirs);
    std::env::join_paths(all).tried("Cannot join the directories of PATH")
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

/// `<user>_<7 hex>_<8 hex>`, or the form of an unmanaged space.
fn is_label(word: &str, user: &str) -> bool {
    let mut parts = word.split('_');
    let owner = parts.next().is_some_and(|part| part == user || part == "UNMNGED");
    let mut hex = |len| {
        parts.next().is_some_and(|part| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    owner && hex(7) && hex(8) && parts.next().is_none()
}

/// What activation changed when the environment was built; empty if that cannot be read or parsed, as in RCC. The prompt is left to
/// the shell. A key that is not a valid variable name is an error: a shell would execute it.
fn activation(root: &Path) -> Result<BTreeMap<String, String>, SessionError> {
    let path = root.join("rcc_activate.json");
    // In a space it may be a link to anything.
    let read = read_regular(&path, MAX_ACTIVATION);
    let parsed = read.and_then(|text| Ok(serde_json::from_slice::<BTreeMap<String, String>>(&text)?));
    let mut changed = parsed.unwrap_or_else(|error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            log::warn!("{} is ignored: {error}", path.display());
        }
        BTreeMap::new()
    });
    changed.remove("PS1");
    match changed.keys().find(|key| !is_name(key)) {
        Some(key) => Err(SessionError::State(
            format!("{} sets {key:?}, which is not a valid variable name", path.display()).into(),
        )),
        None => Ok(changed),
    }
}

/// True for a valid variable name of a shell.
pub fn is_name(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `export KEY=value` lines for a shell. RCC does not quote values, so its lines break at a space. On Windows `SET KEY=value`, as
/// in RCC: there a quote would be part of the value.
pub fn as_shell(list: &[Variable]) -> String {
    let line = |(key, value): &Variable| match cfg!(windows) {
        true => format!("SET {key}={}", value.to_string_lossy()),
        false => exported(key, value),
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A line that is safe to print on a terminal. A value that is not plain text is written in octal for printf; the underscore protects
/// trailing newlines, which a shell strips.
fn exported(key: &str, value: &OsStr) -> String {
    match value.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => format!("export {key}={}", quoted(text)),
        None => {
            let octal: String = value.as_encoded_bytes().iter().map(|byte| format!("\\{byte:03o}")).collect();
            format!("export {key}=\"$(printf '{octal}_')\"; {key}=\"${{{key}%_}}\"")
        }
    }
}

/// The text quoted so that any shell reads exactly it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.:_-+=,@%".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// One variable, in RCC's format.
#[derive(Debug, Serialize)]
pub struct Pair {
    key: String,
    value: String,
}

/// The variables as RCC prints them with `--json`: blanks around values are trimmed.
pub fn as_pairs(list: &[Variable]) -> Vec<Pair> {
    let pair =
        |(key, value): &Variable| Pair { key: key.clone(), value: value.to_string_lossy().trim().to_owned() };
    list.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn values_are_quoted_so_that_a_shell_gives_them_back() {
        for hard in ["a b'c\"$HOME`x`\\!*;#", "a\x1b[31m%s'\\\n\n", "::error::\u{9b}", "\n"] {
            let list = vec![("K".to_owned(), hard.into()), ("E".to_owned(), "".into())];
            let shell = as_shell(&list);
            assert!(shell.lines().count() == 2 && !shell.replace('\n', "").chars().any(char::is_control));
            let script = format!("{shell}\nprintf '%s|%s' \"$K\" \"$E\"");
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{hard}|"));
        }
        let bytes = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a\xffb");
        assert_eq!(
            as_shell(&[("K".to_owned(), bytes.to_owned())]),
            "export K=\"$(printf '\\141\\377\\142_')\"; K=\"${K%_}\""
        );
        assert_eq!(as_shell(&[("PATH".to_owned(), "/a/b:/c".into())]), "export PATH=/a/b:/c");
    }

    #[test]
    #[cfg(windows)]
    fn variables_are_set_as_rcc_says_it() {
        let list = vec![("A".to_owned(), r"C:\a b;D:\c".into()), ("E".to_owned(), "".into())];
        assert_eq!(as_shell(&list), "SET A=C:\\a b;D:\\c\nSET E=");
    }

    #[test]
    #[cfg(unix)]
    fn path_entries_are_cleaned_as_rcc_does_it() {
        for (path, cleaned) in
            [("/a/./b/", "/a/b"), ("/a/../b/..", "/"), ("/../../x", "/x"), ("//a//b", "/a/b")]
        {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned), "{path}");
        }
    }

    #[test]
    fn what_activation_changed_is_read_or_ignored_and_never_sets_the_prompt() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(activation(root.path()).unwrap(), BTreeMap::new());
        for bad in ["", "{", "[]", r#"{"A":1}"#, r#"{"A":null}"#] {
            std::fs::write(root.path().join("rcc_activate.json"), bad).unwrap();
            assert_eq!(activation(root.path()).unwrap(), BTreeMap::new(), "{bad:?}");
        }
        std::fs::write(root.path().join("rcc_activate.json"), r#"{"A":"b","PS1":"x","Z":""}"#).unwrap();
        let expected = [("A", "b"), ("Z", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(activation(root.path()).unwrap(), BTreeMap::from(expected));
        for key in ["A;touch x;B", "", "1A", "A B", "A=B", "A\n", "\u{c4}", "A-B", "$(id)"] {
            let text = serde_json::json!({key: "x"}).to_string();
            std::fs::write(root.path().join("rcc_activate.json"), text).unwrap();
            let shown = activation(root.path()).unwrap_err().to_string();
            assert!(shown.ends_with(&format!("sets {key:?}, which is not a valid variable name")), "{shown}");
        }
    }

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
