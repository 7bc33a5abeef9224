//! Which directories the hook may enter: one file for each in the user's own configuration, with the digest of what was allowed.
//!
//! Of a file that nobody allowed nothing is read. What is allowed is read as regular files of bounded size, so that whoever can
//! write to the directory can neither hold up a prompt nor have another environment entered.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::rcc::blueprint::{self, Composed, Request};
use crate::rcc::home::Home;
use crate::sys::fs::place::Place;
use crate::sys::fs::stat::read_regular;

use crate::cli::interactive::config_dir;

/// No specification is larger.
const MOST: u64 = 1 << 20;
/// Stands for a digest where a directory is not to be entered, and nothing is to be said.
const DENIED: &str = "denied";

/// What a directory asks for.
#[derive(Debug)]
pub struct Asks {
    /// The file that asks, absolute.
    pub file: PathBuf,
    /// What it asks for.
    pub composed: Composed,
    /// Of all files that were read.
    pub digest: String,
}

/// What the user says to a file.
#[derive(Debug)]
pub enum Verdict {
    /// What it asks for is allowed.
    Allowed(Box<Asks>),
    /// Something else was allowed before.
    Changed,
    /// Nothing.
    Unknown,
    /// It is not wanted.
    Denied,
}

impl Asks {
    /// What `file`, which is absolute, asks for.
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

    /// The space that the directory has for itself.
    pub fn space(&self) -> String {
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let which = Sha256::new_with_prefix(dir.as_os_str().as_encoded_bytes());
        let which = hex(&which.chain_update(&self.composed.blueprint).finalize());
        format!("hook-{name}-{}", &which[..8])
    }
}

/// The file without links and dots, so that one directory has one name.
pub fn absolute(file: &Path) -> anyhow::Result<PathBuf> {
    file.canonicalize().with_context(|| format!("Cannot find {}", file.display()))
}

/// What the user says to `file`.
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

/// Allows it.
pub fn allow(asks: &Asks) -> anyhow::Result<()> {
    write(&asks.file, &asks.digest)
}

/// Neither enters it nor asks.
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

/// Where it is kept what the user says to `file`.
fn record_of(file: &Path) -> anyhow::Result<Place> {
    let name = hex(&Sha256::digest(file.as_os_str().as_encoded_bytes()));
    Ok(Place::top(config_dir()?.join("allow")).below(name))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
