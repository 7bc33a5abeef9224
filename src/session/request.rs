//! A complete request: parsed once, and passed unchanged to the serving process.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(unix)]
use crate::fs::fuse::{Io, awake::KeepAwake};
use crate::rcc::home::Product;
use crate::space::{Space, Wait};

use super::error::SessionError;
use super::method::Mode;

/// A space, as named by `rcc --space` and `--controller`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceName {
    /// The space's name.
    pub space: String,
    /// The controller that the space belongs to.
    pub controller: String,
}

/// Where the profile of a mount is stored: what is read first, to be read ahead the next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileAt {
    /// In the default directory, by catalog.
    Auto,
    /// Like `Auto`, but without readahead this time, so that all requests of the observed run are its own.
    Noted,
    /// Nowhere: no readahead.
    Off,
    /// In this file.
    File(PathBuf),
}

impl From<&Path> for ProfileAt {
    fn from(given: &Path) -> ProfileAt {
        match given.to_str() {
            Some("auto") => ProfileAt::Auto,
            Some("off") => ProfileAt::Off,
            // The saving process has another current directory.
            _ => ProfileAt::File(std::path::absolute(given).unwrap_or_else(|_| given.to_owned())),
        }
    }
}

/// A request for a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path.
    pub catalog: String,
    /// The space.
    pub space: SpaceName,
    /// The mode of appearance.
    pub mode: Mode,
    /// Refuse writes.
    pub read_only: bool,
    /// Allow access by other users.
    pub allow_other: bool,
    /// The owner of all files, if not the current user.
    pub uid: Option<u32>,
    /// The group of all files, if not the current one.
    pub gid: Option<u32>,
    /// Do not allow execution of programs.
    pub no_exec: bool,
    /// Drop earlier changes.
    pub fresh: bool,
    /// The profile for readahead.
    pub profile: ProfileAt,
    /// How to read files, if specified.
    #[cfg(unix)]
    pub io: Option<Io>,
    /// Whether to keep idle processors from halting.
    #[cfg(unix)]
    pub keep_awake: KeepAwake,
    /// Keep the mount until it is unmounted; otherwise it ends with its last user.
    pub keep: bool,
    /// Fail unless the space is at this path.
    pub at: Option<PathBuf>,
    /// In a namespace for this command only.
    pub within: bool,
}

impl MountRequest {
    /// A writable space that keeps its earlier changes.
    pub fn new(catalog: &str, space: &SpaceName, mode: Mode) -> MountRequest {
        MountRequest {
            catalog: catalog.to_owned(),
            space: space.clone(),
            mode,
            read_only: false,
            allow_other: false,
            uid: None,
            gid: None,
            no_exec: false,
            fresh: false,
            profile: ProfileAt::Auto,
            #[cfg(unix)]
            io: None,
            #[cfg(unix)]
            keep_awake: KeepAwake::Auto,
            keep: true,
            at: None,
            within: false,
        }
    }

    /// Refuses invalid combinations: only root can mount with another owner, and only a mount can show one.
    pub fn check(&self) -> Result<(), SessionError> {
        if self.uid.is_none() && self.gid.is_none() && !self.no_exec {
            return Ok(());
        }
        if self.mode != Mode::Mount {
            return Err(SessionError::State(
                "--uid, --gid and --noexec need --mode mount: plain files do not support them".into(),
            ));
        }
        let given = self.uid.is_some() || self.gid.is_some();
        if given && !crate::sys::process::is_root() {
            return Err(SessionError::State("Only root can mount for another user (--uid, --gid)".into()));
        }
        Ok(())
    }

    /// Fails if the space is not at the requested path: the catalog determines where its spaces are.
    pub fn check_place(&self, space: &Space) -> Result<(), SessionError> {
        let (name, root) = (&self.space.space, &space.root);
        if self.at.as_ref().is_some_and(|at| at != root) {
            return Err(SessionError::State(
                format!("Space {name:?} of this catalog is at {}", root.display()).into(),
            ));
        }
        Ok(())
    }
}

/// The global options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// How long to wait for locks.
    pub wait: Wait,
    /// Hash content at each use.
    pub paranoid: bool,
    /// The log level: 0 is warnings.
    pub verbose: u8,
    /// Write the log as JSON.
    pub log_json: bool,
    /// Use no network.
    pub offline: bool,
    /// The timeout for content of a remote environment, in seconds.
    pub fetch_timeout: u64,
    /// The maximum size of inflated content to keep, if not the default.
    pub raw_bytes: Option<u64>,
    /// The product whose home is used, if specified.
    pub product: Option<Product>,
}

/// The input of the serving process on stdin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The mount.
    pub request: MountRequest,
    /// The global options.
    pub given: Given,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let space = SpaceName { space: "-a b".to_owned(), controller: "c".to_owned() };
        let request =
            MountRequest { fresh: true, uid: Some(7), ..MountRequest::new("x", &space, Mode::Mount) };
        let wait = Wait::For(std::time::Duration::from_secs(3));
        let product = Some(Product::Sema4ai);
        let raw_bytes = Some(1 << 30);
        let given = Given {
            wait,
            paranoid: true,
            verbose: 2,
            log_json: true,
            offline: true,
            fetch_timeout: 7,
            raw_bytes,
            product,
        };
        let order = Order { request, given };
        let text = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&text).unwrap(), order);
    }

    #[test]
    fn a_profile_is_a_word_or_a_file() {
        assert_eq!(ProfileAt::from(Path::new("auto")), ProfileAt::Auto);
        assert_eq!(ProfileAt::from(Path::new("off")), ProfileAt::Off);
        assert_eq!(ProfileAt::from(Path::new("/a/auto")), ProfileAt::File("/a/auto".into()));
    }
}
