//! `holofs.toml`: the user's defaults, overridden by options and variables; and `holofs config`, which shows the source of each
//! value.
//!
//! A value in the file becomes the default of the option that belongs to the same variable, so that help shows it, and the parser
//! applies the order (option, variable, file, default): [`given`], [`usual`]. An unknown key is an error that names it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

#[cfg(unix)]
use crate::fs::fuse::Io;
#[cfg(unix)]
use crate::fs::fuse::awake::KeepAwake;
use crate::session::method::Mode;
use crate::sys::fs::owned_file::read_at_most;
use crate::sys::fs::stat::open_to_read;

use super::terminal::Color;

pub mod show;

/// The maximum size of the file.
const MOST: u64 = 1 << 20;

/// The content of the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    home: Option<PathBuf>,
    state: Option<PathBuf>,
    mode: Option<Mode>,
    #[cfg(unix)]
    io: Option<Io>,
    #[cfg(unix)]
    keep_awake: Option<KeepAwake>,
    paranoid: Option<bool>,
    offline: Option<bool>,
    fetch_timeout: Option<u64>,
    raw_size: Option<String>,
    color: Option<Color>,
    progress: Option<bool>,
    /// Short names of remote environments.
    #[serde(default)]
    pub remotes: BTreeMap<String, String>,
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// A key, the variable that overrides it, and the default.
struct Key {
    name: &'static str,
    variable: &'static str,
    usual: &'static str,
}

const fn key(name: &'static str, variable: &'static str, usual: &'static str) -> Key {
    Key { name, variable, usual }
}

/// All keys except the remotes.
const KEYS: [Key; 11] = [
    key("home", "ROBOCORP_HOME", "~/.robocorp"),
    key("state", "HOLOFS_HOME", "<home>/holofs"),
    key("mode", "HOLOFS_MODE", "auto"),
    key("io", "HOLOFS_IO", "no-open"),
    key("keep-awake", "HOLOFS_KEEP_AWAKE", "auto"),
    key("paranoid", "HOLOFS_PARANOID", "false"),
    key("offline", "HOLOFS_OFFLINE", "false"),
    key("fetch-timeout", "HOLOFS_FETCH_TIMEOUT", "60"),
    key("raw-size", "HOLOFS_RAW_SIZE", "20G"),
    key("color", "HOLOFS_COLOR", "auto"),
    key("progress", "HOLOFS_PROGRESS", "true"),
];

static CONFIG: OnceLock<Config> = OnceLock::new();

/// The user's file; empty before [`load`], or if there is none.
pub fn current() -> &'static Config {
    static NONE: OnceLock<Config> = OnceLock::new();
    CONFIG.get().unwrap_or_else(|| NONE.get_or_init(Config::default))
}

/// Reads the file, once.
pub fn load() -> anyhow::Result<&'static Config> {
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let read = read()?;
    Ok(CONFIG.get_or_init(|| read))
}

/// The default of the option that belongs to `variable`: the value in the file.
pub fn given(variable: &str) -> Option<&'static str> {
    // A short string, a few times per process: clap needs static defaults.
    current().variable(variable).map(|value| &*Box::leak(value.into_boxed_str()))
}

/// As [`given`]; without a value in the file, the usual one.
pub fn usual(variable: &str) -> &'static str {
    let usual = KEYS.iter().find(|key| key.variable == variable).map_or("", |key| key.usual);
    given(variable).unwrap_or(usual)
}

/// The user's directory for the configuration of HoloFS.
pub fn config_dir() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = || set("HOME").map(|home| home.join(".config"));
    let base = if cfg!(windows) { set("APPDATA") } else { set("XDG_CONFIG_HOME").or_else(user) };
    Ok(base.context("No configuration directory: neither XDG_CONFIG_HOME nor HOME is set")?.join("holofs"))
}

/// The path of the file: `HOLOFS_CONFIG`, or in the user's configuration directory; `None` if that is unknown.
fn path() -> Option<PathBuf> {
    let given = std::env::var_os("HOLOFS_CONFIG").filter(|path| !path.is_empty());
    given.map(PathBuf::from).or_else(|| Some(config_dir().ok()?.join("holofs.toml")))
}

fn read() -> anyhow::Result<Config> {
    let Some(path) = path() else { return Ok(Config::default()) };
    let file = match open_to_read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        opened => opened.with_context(|| format!("Cannot read {}", path.display()))?,
    };
    check_owner(&file, &path)?;
    let bytes = read_at_most(&file, MOST).with_context(|| format!("Cannot read {}", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", path.display()))?;
    let config = Config::parse(&text).with_context(|| format!("Cannot use {}", path.display()))?;
    Ok(Config { path: Some(path), ..config })
}

/// A file of another user is refused: `sudo` may keep that user's HOME.
#[cfg(unix)]
fn check_owner(file: &File, path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = file.metadata().with_context(|| format!("Cannot read {}", path.display()))?;
    let us = crate::sys::process::this_process::effective_uid();
    anyhow::ensure!(found.is_file(), "{} is not a regular file", path.display());
    anyhow::ensure!(
        (found.uid() == us || found.uid() == 0) && found.mode() & 0o002 == 0,
        "{} belongs to another user, or others can write to it",
        path.display()
    );
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_file: &File, _path: &Path) -> anyhow::Result<()> {
    Ok(())
}

impl Config {
    /// Parses a file.
    fn parse(text: &str) -> anyhow::Result<Config> {
        let config: Config = toml::from_str(text)?;
        for (key, path) in [("home", &config.home), ("state", &config.state)] {
            let absolute = path.as_ref().is_none_or(|path| path.is_absolute());
            anyhow::ensure!(absolute, "{key} is not an absolute path");
        }
        if let Some(size) = &config.raw_size {
            super::table::parse_bytes(size).map_err(|why| anyhow::anyhow!("raw-size: {why}"))?;
        }
        for (name, address) in &config.remotes {
            let parsed = address.parse::<crate::remote::Address>();
            parsed.with_context(|| format!("remotes.{name} is not the address of a remote environment"))?;
        }
        Ok(config)
    }

    /// The value of a key, in the form of its variable.
    fn text(&self, name: &str) -> Option<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        fn word<T: Serialize>(value: Option<&T>) -> Option<String> {
            let json = serde_json::to_value(value?).ok()?;
            Some(json.as_str().map_or_else(|| json.to_string(), str::to_owned))
        }
        match name {
            "home" => path(&self.home),
            "state" => path(&self.state),
            "mode" => word(self.mode.as_ref()),
            #[cfg(unix)]
            "io" => word(self.io.as_ref()),
            #[cfg(unix)]
            "keep-awake" => word(self.keep_awake.as_ref()),
            "paranoid" => word(self.paranoid.as_ref()),
            "offline" => word(self.offline.as_ref()),
            "fetch-timeout" => word(self.fetch_timeout.as_ref()),
            "raw-size" => self.raw_size.clone(),
            "color" => word(self.color.as_ref()),
            "progress" => word(self.progress.as_ref()),
            _ => None,
        }
    }

    /// The replacement for a variable that is not set. The home applies only if `SEMA4AI_HOME` is not set.
    pub fn variable(&self, name: &str) -> Option<String> {
        let key = KEYS.iter().find(|key| key.variable == name)?;
        if key.name == "home" && std::env::var_os("SEMA4AI_HOME").is_some_and(|home| !home.is_empty()) {
            return None;
        }
        self.text(key.name)
    }

    /// The file that was read.
    #[cfg(unix)]
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// True if it sets the home.
    #[cfg(unix)]
    pub fn gives_home(&self) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        self.home.is_some() && !set("ROBOCORP_HOME") && !set("SEMA4AI_HOME")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_understood_and_stands_for_its_variable() {
        let text = "home = '/a'\nstate = '/b'\nmode = 'mount'\nio = 'passthrough'\nkeep-awake = 'off'\nparanoid = true\noffline = false\n\
            fetch-timeout = 5\nraw-size = '2G'\ncolor = 'never'\nprogress = false\n[remotes]\nteam = 'file:///x#y'\n";
        let config = Config::parse(text).unwrap();
        let values = KEYS.map(|key| config.text(key.name).unwrap());
        let expected =
            ["/a", "/b", "mount", "passthrough", "off", "true", "false", "5", "2G", "never", "false"];
        assert_eq!(values, expected);
        assert_eq!(config.remotes["team"], "file:///x#y");
        assert_eq!(config.variable("HOLOFS_MODE").as_deref(), Some("mount"));
    }

    #[test]
    fn what_is_not_known_or_not_right_is_named() {
        for (text, named) in [
            ("mod = 'auto'", "unknown field `mod`"),
            ("mode = 'fast'", "unknown variant `fast`"),
            ("home = 'a'", "home is not an absolute path"),
            ("raw-size = 'big'", "raw-size: "),
            ("[remotes]\nx = 'ftp://y'", "remotes.x is not the address of a remote environment"),
        ] {
            let error = format!("{:#}", Config::parse(text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
