//! The directories that the hook may enter: one file for each in the user's configuration, with the digest of what was allowed.
//!
//! Files that were not allowed are not read. Allowed files are read as regular files of bounded size, so that other users who can
//! write to the directory can neither block a prompt nor have another environment entered.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::rcc::blueprint::{self, Composed, Request};
use crate::rcc::home::Home;
use crate::sys::fs::place::Place;
use crate::sys::fs::stat::read_regular;
use crate::sys::text::hex;

use crate::cli::config::config_dir;

/// The maximum size of a specification.
const MOST: u64 = 1 << 20;
/// Replaces the digest of a directory that is never to be entered, without a message.
const DENIED: &str = "denied";

/// The request of a directory.
#[derive(Debug)]
pub struct Asks {
    /// The absolute path of the specification file.
    pub file: PathBuf,
    /// The specification.
    pub composed: Composed,
    /// The digest of all files that were read.
    pub digest: String,
}

/// The user's decision on a file.
#[derive(Debug)]
pub enum Verdict {
    /// The request is allowed.
    Allowed(Box<Asks>),
    /// An earlier version was allowed.
    Changed,
    /// No decision.
    Unknown,
    /// Denied.
    Denied,
}

impl Asks {
    /// The request of `file`, an absolute path.
    pub fn of(home: &Home, file: &Path) -> anyhow::Result<Asks> {
        let all = RefCell::new(Sha256::new());
        let read = |path: &Path| -> io::Result<Vec<u8>> {
            let bytes = read_regular(path, MOST)?;
            let mut all = all.borrow_mut();
            all.update(path.as_os_str().as_encoded_bytes());
            all.update([0]);
            all.update(Sha256::digest(&bytes));
            Ok(bytes)
        };
        let request = Request { files: vec![file.to_owned()], ..Request::default() };
        let composed = blueprint::compose(home, &request, &read)?;
        Ok(Asks { file: file.to_owned(), composed, digest: hex(&all.into_inner().finalize()) })
    }

    /// The directory's own space.
    pub fn space(&self) -> String {
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let which = Sha256::new_with_prefix(dir.as_os_str().as_encoded_bytes());
        let which = hex(&which.chain_update(&self.composed.blueprint).finalize());
        format!("hook-{name}-{}", &which[..8])
    }
}

/// The file without links and dots, so that each directory has one name.
pub fn absolute(file: &Path) -> anyhow::Result<PathBuf> {
    file.canonicalize().with_context(|| format!("Cannot find {}", file.display()))
}

/// The user's decision on `file`.
pub fn verdict(home: &Home, file: &Path) -> anyhow::Result<Verdict> {
    let record = record_of(file)?;
    let text = match record.read(MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Unknown),
        read => read.with_context(|| format!("Cannot read {}", record.path().display()))?,
    };
    let text = String::from_utf8_lossy(&text);
    let digest = text.lines().next().unwrap_or_default();
    if digest == DENIED {
        return Ok(Verdict::Denied);
    }
    let asks = Asks::of(home, file)?;
    Ok(if asks.digest == digest { Verdict::Allowed(Box::new(asks)) } else { Verdict::Changed })
}

/// Allows the request.
pub fn allow(asks: &Asks) -> anyhow::Result<()> {
    write(&asks.file, &asks.digest)
}

/// Denies it: neither enters nor asks.
pub fn deny(file: &Path) -> anyhow::Result<()> {
    write(file, DENIED)
}

fn write(file: &Path, what: &str) -> anyhow::Result<()> {
    let record = record_of(file)?;
    let mut text = OsString::from(format!("{what}\n"));
    text.push(file);
    text.push("\n");
    record
        .publish(text.as_encoded_bytes())
        .with_context(|| format!("Cannot write {}", record.path().display()))
}

/// The file with the user's decision on `file`.
fn record_of(file: &Path) -> anyhow::Result<Place> {
    let name = hex(&Sha256::digest(file.as_os_str().as_encoded_bytes()));
    Ok(Place::top(config_dir()?.join("allow")).below(name))
}
