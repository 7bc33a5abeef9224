//! Resolves an address to a head: the name is looked up once, the head is checked against its digest, the pin and the signature.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::address::{Address, Location};
use super::error::RemoteError;
use super::head::{Head, MAX_HEAD};
use super::object::{Object, ObjectId, ObjectKind};
use super::reference::Reference;
use super::signature::PublicKey;
use super::transport::{OWN_NAME, Remote};

/// An environment that was found.
pub struct Resolved {
    /// What the name refers to.
    pub reference: Reference,
    /// The head's bytes.
    pub bytes: Vec<u8>,
    /// The head.
    pub head: Arc<Head>,
}

/// Finds the environment at `address`; with `key`, requires a signature by it.
pub fn resolve(
    remote: &dyn Remote,
    address: &Address,
    key: Option<&PublicKey>,
) -> Result<Resolved, RemoteError> {
    let reference = reference(remote, address)?;
    if let Some(key) = key {
        key.check(&reference, &address.to_string())?;
    }
    let (bytes, head) = fetch_head(remote, &reference.head_object())?;
    Ok(Resolved { reference, bytes, head: Arc::new(head) })
}

/// What the address refers to, by its pin or its name.
pub fn reference(remote: &dyn Remote, address: &Address) -> Result<Reference, RemoteError> {
    let Some(pin) = address.pin else {
        let missing = || RemoteError::NoEnvironment {
            environment: format!("{:?}", address.name),
            remote: remote.address().to_owned(),
        };
        return remote.reference(&address.name)?.ok_or_else(missing);
    };
    let own = remote.reference(&format!("{OWN_NAME}{pin}"))?;
    let named = match own {
        None if address.is_named => remote.reference(&address.name)?,
        own => own,
    };
    match named {
        Some(found) if found.head == pin => Ok(found),
        found => pinned_otherwise(remote, address, pin, found.map(|found| found.head)),
    }
}

/// In a registry the pin may also be the digest of a manifest: the transport compares it.
fn pinned_otherwise(
    remote: &dyn Remote,
    address: &Address,
    pin: ObjectId,
    found: Option<ObjectId>,
) -> Result<Reference, RemoteError> {
    if let Location::Oci { .. } = address.place
        && let Some(reference) = remote.reference(&format!("sha256:{pin}"))?
    {
        return Ok(reference);
    }
    let remote = remote.address().to_owned();
    match found {
        Some(found) => Err(RemoteError::OtherPin { remote, pin, found }),
        None => Err(RemoteError::NoEnvironment { environment: format!("sha256:{pin}"), remote }),
    }
}

/// Fetches a head and verifies it.
pub fn fetch_head(remote: &dyn Remote, object: &Object) -> Result<(Vec<u8>, Head), RemoteError> {
    debug_assert!(object.kind == ObjectKind::Head && object.size <= MAX_HEAD);
    let missing = || RemoteError::NotFound { what: object.to_string(), remote: remote.address().to_owned() };
    let bytes = remote.get(object)?.ok_or_else(missing)?;
    let invalid = |source| RemoteError::Head { id: object.id, remote: remote.address().to_owned(), source };
    let head = Head::parse(&bytes, &object.id).map_err(invalid)?;
    Ok((bytes, head))
}

/// The current time in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
