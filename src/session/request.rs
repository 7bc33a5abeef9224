//! What is asked for, whole: parsed once, and handed as it is to the process that serves.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

#[cfg(unix)]
use crate::fs::fuse::{Io, awake::KeepAwake};
use crate::rcc::home::Product;
use crate::space::{Space, Wait};

use super::method::Mode;

/// A space, as `rcc --space` and `--controller` name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceName {
    /// The space's name.
    pub space: String,
    /// Who the space belongs to.
    pub controller: String,
}

/// Where the profile of a mount is kept: what is read first, to be read ahead the next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileAt {
    /// With the others, by catalog.
    Auto,
    /// As `Auto`, but nothing is read ahead this time: who watches a run wants to see what it asks for itself.
    Noted,
    /// Nowhere: nothing is read ahead.
    Off,
    /// In this file.
    File(PathBuf),
}

impl From<&Path> for ProfileAt {
    fn from(given: &Path) -> ProfileAt {
        match given.to_str() {
            Some("auto") => ProfileAt::Auto,
            Some("off") => ProfileAt::Off,
            // The process that saves it will be somewhere else.
            _ => ProfileAt::File(std::path::absolute(given).unwrap_or_else(|_| given.to_owned())),
        }
    }
}

/// A space that is to appear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// The catalog: its hash, a unique prefix of it, its file name, or a path.
    pub catalog: String,
    /// The space.
    pub space: SpaceName,
    /// How it is to appear.
    pub mode: Mode,
    /// Allow no change.
    pub read_only: bool,
    /// Let other users in.
    pub allow_other: bool,
    /// The user whom everything belongs to, if it is another one.
    pub uid: Option<u32>,
    /// As `uid`, for the group.
    pub gid: Option<u32>,
    /// Let no program in it run.
    pub no_exec: bool,
    /// Drop what was written to the space before.
    pub fresh: bool,
    /// What is read ahead.
    pub profile: ProfileAt,
    /// How files are read, if that matters.
    #[cfg(unix)]
    pub io: Option<Io>,
    /// Whether idle processors are kept from halting.
    #[cfg(unix)]
    pub keep_awake: KeepAwake,
    /// The mount stays until it is unmounted; otherwise it goes with its last user.
    pub keep: bool,
    /// Refuse unless the space is at this path.
    pub at: Option<PathBuf>,
    /// In a namespace of this command's own.
    pub within: bool,
}

impl MountRequest {
    /// A writable space that starts where the last one ended.
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

    /// Refuses what cannot be: only root can give away what it mounts, and only a mount can show it so.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.uid.is_none() && self.gid.is_none() && !self.no_exec {
            return Ok(());
        }
        anyhow::ensure!(
            self.mode == Mode::Mount,
            "--uid, --gid and --noexec need --mode mount: files are as they are"
        );
        let given = self.uid.is_some() || self.gid.is_some();
        anyhow::ensure!(
            !given || crate::sys::process::is_root(),
            "Only root can mount for another user (--uid, --gid)"
        );
        Ok(())
    }

    /// Refuses a space that is not where it was asked for: a catalog decides where its spaces are.
    pub fn check_place(&self, space: &Space) -> anyhow::Result<()> {
        let (name, root) = (&self.space.space, &space.root);
        anyhow::ensure!(
            self.at.as_ref().is_none_or(|at| at == root),
            "Space {name:?} of this catalog is at {}",
            root.display()
        );
        Ok(())
    }
}

/// What every command is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// How long to wait for locks.
    pub wait: Wait,
    /// Content is hashed at each use.
    pub paranoid: bool,
    /// How much is logged: 0 is warnings.
    pub verbose: u8,
    /// The log is written as JSON.
    pub log_json: bool,
    /// No network, ever.
    pub offline: bool,
    /// How long content of a remote environment may take, in seconds.
    pub fetch_timeout: u64,
    /// Most bytes of inflated content to keep, if it is not the usual number.
    pub raw_bytes: Option<u64>,
    /// Whose home it is, if one was named.
    pub product: Option<Product>,
}

/// What the process that serves a mount reads from its stdin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The mount.
    pub request: MountRequest,
    /// The rest of the command line.
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
