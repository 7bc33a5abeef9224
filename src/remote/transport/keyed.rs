//! The layout of remotes with keys: a directory, a web server, a bucket.
//!
//! ```text
//! v1/refs/<name>    v1/heads/<sha256>    v1/packs/<first two digits>/<sha256>    v1/profiles/<sha256>
//! ```

use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::Remote;
use crate::remote::error::RemoteError;
use crate::remote::object::{Object, ObjectId, ObjectKind};
use crate::remote::reference::{MAX_REFERENCE, Reference, is_name};

/// Operations on keys.
pub trait Bucket: Send + Sync {
    /// The whole value, at most `limit` bytes.
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError>;
    /// The size of the value.
    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError>;
    /// A part of a value that has `size` bytes.
    fn range(&self, key: &str, size: u64, range: Range<u64>, limit: Duration)
    -> Result<Vec<u8>, RemoteError>;
    /// Forgets what is cached of a value.
    fn forget(&self, _key: &str) {}
    /// Sets the value, atomically.
    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError>;
    /// The keys that begin with `prefix`, which ends with a slash, with sizes and times.
    fn list(&self, prefix: &str) -> Result<Vec<Listed>, RemoteError>;
    /// Removes a value.
    fn remove(&self, key: &str) -> Result<(), RemoteError>;
}

/// An existing key.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The key.
    pub key: String,
    /// The size of the value.
    pub size: u64,
    /// When it was written.
    pub written: SystemTime,
}

/// The layout on a bucket.
pub struct Keyed<B> {
    address: String,
    bucket: B,
}

impl<B: Bucket> Keyed<B> {
    /// Uses `bucket`, which messages call `address`.
    pub fn new(address: String, bucket: B) -> Keyed<B> {
        Keyed { address, bucket }
    }
}

const REFS: &str = "v1/refs/";

fn folder(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Head => "v1/heads/",
        ObjectKind::Pack => "v1/packs/",
        ObjectKind::Profile => "v1/profiles/",
    }
}

fn key(object: &Object) -> String {
    let id = object.id.to_string();
    match object.kind {
        ObjectKind::Pack => format!("{}{}/{id}", folder(ObjectKind::Pack), &id[..2]),
        kind => format!("{}{id}", folder(kind)),
    }
}

impl<B: Bucket> Remote for Keyed<B> {
    fn address(&self) -> &str {
        &self.address
    }

    fn size(&self, object: &Object) -> Result<Option<u64>, RemoteError> {
        self.bucket.size(&key(object))
    }

    fn get(&self, object: &Object) -> Result<Option<Vec<u8>>, RemoteError> {
        self.bucket.get(&key(object), object.size)
    }

    fn range(&self, object: &Object, range: Range<u64>, limit: Duration) -> Result<Vec<u8>, RemoteError> {
        self.bucket.range(&key(object), object.size, range, limit)
    }

    fn forget(&self, object: &Object) {
        self.bucket.forget(&key(object));
    }

    fn put(&self, object: &Object, bytes: &[u8]) -> Result<(), RemoteError> {
        self.bucket.put(&key(object), bytes)
    }

    fn reference(&self, name: &str) -> Result<Option<Reference>, RemoteError> {
        let Some(bytes) = self.bucket.get(&format!("{REFS}{name}"), MAX_REFERENCE)? else { return Ok(None) };
        let invalid = |source| {
            let (name, remote) = (name.to_owned(), self.address.clone());
            RemoteError::Reference { name, remote, source }
        };
        Reference::parse(&bytes).map(Some).map_err(invalid)
    }

    fn publish(&self, name: &str, reference: &Reference, _: &[Object]) -> Result<(), RemoteError> {
        self.bucket.put(&format!("{REFS}{name}"), &reference.to_json())
    }

    fn names(&self) -> Result<Vec<String>, RemoteError> {
        let keys = self.bucket.list(REFS)?.into_iter();
        let mut names: Vec<String> =
            keys.filter_map(|listed| Some(listed.key.strip_prefix(REFS)?.to_owned())).collect();
        names.retain(|name| is_name(name));
        names.sort();
        Ok(names)
    }

    fn remove_name(&self, name: &str) -> Result<(), RemoteError> {
        self.bucket.remove(&format!("{REFS}{name}"))
    }

    fn objects(&self) -> Result<Option<Vec<(Object, SystemTime)>>, RemoteError> {
        let mut found = Vec::new();
        for kind in ObjectKind::ALL {
            for Listed { key: listed, size, written } in self.bucket.list(folder(kind))? {
                let id: Option<ObjectId> = listed.rsplit('/').next().and_then(|name| name.parse().ok());
                let object = id.map(|id| Object { kind, id, size }).filter(|object| key(object) == listed);
                found.extend(object.map(|object| (object, written)));
            }
        }
        Ok(Some(found))
    }

    fn remove(&self, object: &Object) -> Result<(), RemoteError> {
        self.bucket.remove(&key(object))
    }
}
