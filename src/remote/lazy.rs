//! Lazy environments, which are used before their content is here: what this machine stores about them.
//!
//! ```text
//! holofs/remote/<head>/head         the head; the directory is named by its SHA-256
//!                      <catalog>    the catalog, as RCC wrote it; not in the hololib before all its content is
//!                      origin       where it comes from
//!                      profile      what runs read first, according to the remote
//!                      checks       the digests of the pieces of large files, from the head
//!                      bytecode     what runs imported, compiled, if the environment has that (see `space::bytecode::travel`)
//!                      partial/     large files of which some pieces are here; each piece is hashed before it is used
//! holofs/remote/names/<sha256>      what an address resolved to the last time: for runs without network
//! ```
//! Everything here was verified when it was fetched; it can be removed while nothing is mounted, and is then fetched again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::checks::{CheckTable, MAX_CHECKS};
use super::error::RemoteError;
use super::head::{Head, MAX_HEAD};
use super::object::ObjectId;
use super::reference::{MAX_REFERENCE, Reference};
use super::resolve;
use super::signature::PublicKey;
use super::transport::Remote;
use crate::rcc::home::Home;
use crate::sys::fs::place::Place;

/// The file with the head.
const HEAD: &str = "head";
const ORIGIN: &str = "origin";
const PROFILE: &str = "profile";
const CHECKS: &str = "checks";
const BYTECODE: &str = "bytecode";
const PARTIAL: &str = "partial";
const NAMES: &str = "names";

/// The source of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The address.
    pub address: String,
    /// The head.
    pub head: ObjectId,
    /// The environment has bytecode: the fetcher brings it.
    #[serde(default)]
    pub has_bytecode: bool,
}

/// An environment that is attached here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The file of its catalog.
    pub catalog: PathBuf,
    /// Its identity.
    pub head: ObjectId,
}

/// Attaches the environment at `address`: resolves its name, and fetches its head if that is not here. Without `remote`, uses only
/// what is here.
pub fn attach(
    home: &Home,
    address: &Address,
    remote: Option<&dyn Remote>,
    key: Option<&PublicKey>,
) -> Result<Attached, RemoteError> {
    let known =
        home.remote_dir().below(NAMES).below(ObjectId::of(address.to_string().as_bytes()).to_string());
    let reference = match remote {
        Some(remote) => resolve::reference(remote, address)?,
        None => {
            let read = known.read(MAX_REFERENCE).ok().and_then(|bytes| Reference::parse(&bytes).ok());
            read.ok_or_else(|| offline("the name", address))?
        }
    };
    if let Some(key) = key {
        key.check(&reference, &address.to_string())?;
    }
    let dir = home.remote_dir().below(reference.head.to_string());
    let head = match kept(&dir, &reference.head) {
        Some(head) => head,
        None => fetch(&dir, &reference, remote.ok_or_else(|| offline("the head", address))?)?,
    };
    let has_bytecode = head.bytecode.is_some();
    let origin = Origin { address: address.to_string(), head: reference.head, has_bytecode };
    let text = serde_json::to_vec(&origin).unwrap_or_default();
    keep(&dir.below(ORIGIN), &text)?;
    keep(&known, &reference.to_json())?;
    Ok(Attached { catalog: dir.join(head.catalog_name()), head: reference.head })
}

fn offline(what: &str, address: &Address) -> RemoteError {
    RemoteError::Offline { what: what.to_owned(), remote: address.to_string() }
}

/// The local head, if it and its catalog are valid.
fn kept(dir: &Place, id: &ObjectId) -> Option<Head> {
    let head = head(dir, id).ok()?;
    let catalog = dir.below(head.catalog_name()).read(head.stored_catalog.len() as u64).ok()?;
    (catalog == head.stored_catalog).then_some(head)
}

/// The head in the directory of its state.
pub fn head(dir: &Place, id: &ObjectId) -> Result<Head, RemoteError> {
    let place = dir.below(HEAD);
    let bytes = place.read(MAX_HEAD).map_err(RemoteError::io("Reading", place.path()))?;
    let remote = place.path().display().to_string();
    Head::parse(&bytes, id).map_err(|source| RemoteError::Head { id: *id, remote, source })
}

fn keep(place: &Place, bytes: &[u8]) -> Result<(), RemoteError> {
    place.publish(bytes).map_err(RemoteError::io("Writing", place.path()))
}

fn fetch(dir: &Place, reference: &Reference, remote: &dyn Remote) -> Result<Head, RemoteError> {
    let keep = |name: &str, bytes: &[u8]| keep(&dir.below(name), bytes);
    let hint = || {
        // Everything works without it, but slower.
        let object = reference.profile_object()?;
        match remote.get(&object) {
            Ok(None) => log::info!("{} has no {object}", remote.address()),
            Err(error) => log::info!("{error}"),
            Ok(profile) => return profile,
        }
        None
    };
    // Both at once: it saves a round trip.
    let (head, profile) = std::thread::scope(|scope| {
        let hint = scope.spawn(hint);
        let head = resolve::fetch_head(remote, &reference.head_object());
        (head, hint.join().unwrap_or_default())
    });
    let (bytes, head) = head?;
    if let Some(profile) = profile {
        keep(PROFILE, &profile)?;
    }
    keep(CHECKS, &CheckTable::of(&head).to_bytes())?;
    keep(&head.catalog_name(), &head.stored_catalog)?;
    keep(HEAD, &bytes)?;
    Ok(head)
}

/// The origin of the catalog at `path`, if it is one of these.
pub fn origin(home: &Home, path: &Path) -> Option<Origin> {
    let dir = path.strip_prefix(home.remote_dir().path()).ok()?.parent()?;
    let bytes = home.remote_dir().below(dir).below(ORIGIN).read(MAX_REFERENCE).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The directory of the state of `head`.
pub fn state(home: &Home, head: &ObjectId) -> PathBuf {
    home.remote_dir().join(head.to_string())
}

/// What runs read first, according to the remote: pieces of contents in order, some of which may be unknown.
pub fn profile(home: &Home, head: &ObjectId) -> Vec<(crate::rcc::digest::Digest, u64)> {
    let place = home.remote_dir().below(head.to_string()).below(PROFILE);
    let text = place.read(super::reference::MAX_PROFILE).unwrap_or_default();
    super::profile::items(&text)
}

/// Where the bytecode of `head` is, once it is here.
pub fn bytecode(home: &Home, head: &ObjectId) -> Place {
    bytecode_in(&home.remote_dir().below(head.to_string()))
}

/// As [`bytecode`], in the directory of its state.
pub fn bytecode_in(state: &Place) -> Place {
    state.below(BYTECODE)
}

/// The directory of large files that are not whole.
pub fn partial(home: &Home, head: &ObjectId) -> Place {
    home.remote_dir().below(head.to_string()).below(PARTIAL)
}

/// The digests of the pieces of large files; taken from the head if nothing is stored, as after a mount by an earlier version.
pub fn checks(home: &Home, head: &ObjectId) -> Result<CheckTable, RemoteError> {
    let dir = home.remote_dir().below(head.to_string());
    let place = dir.below(CHECKS);
    if let Some(table) = place.read(MAX_CHECKS).ok().and_then(|bytes| CheckTable::parse(&bytes)) {
        return Ok(table);
    }
    let table = CheckTable::of(&self::head(&dir, head)?);
    keep(&place, &table.to_bytes())?;
    Ok(table)
}
