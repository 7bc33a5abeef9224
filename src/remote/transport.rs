//! How objects get to and from a remote: one trait, and one file for each kind of engine.
//!
//! A transport moves bytes and believes nothing: who asks compares names and digests. It tries again what may pass (a connection
//! that broke, 429, 5xx), a few times, and leaves a server alone for as long as it asks.

mod file;
mod http;
mod keyed;
mod netrc;
mod oci;
mod s3;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::address::{Address, Place};
use super::error::RemoteError;
use super::object::Object;
use super::reference::Reference;

pub use http::Client;

/// What a remote environment's name begins with if it is the environment's own, by which pins find it: the head's name follows.
pub const OWN_NAME: &str = "holofs-";

/// A store of objects and references. Everything may be called from several threads.
pub trait Remote: Send + Sync {
    /// Its address, for messages.
    fn address(&self) -> &str;
    /// The size of an object; `None` if it is not there.
    fn size(&self, object: &Object) -> Result<Option<u64>, RemoteError>;
    /// A whole object, of which more than its size is never read; `None` if it is not there.
    fn get(&self, object: &Object) -> Result<Option<Vec<u8>>, RemoteError>;
    /// A part of an object, which must lie inside it.
    fn range(&self, object: &Object, range: Range<u64>) -> Result<Vec<u8>, RemoteError>;
    /// Stores an object; one that is there is left as it is.
    fn put(&self, object: &Object, bytes: &[u8]) -> Result<(), RemoteError>;
    /// What a name stands for.
    fn reference(&self, name: &str) -> Result<Option<Reference>, RemoteError>;
    /// Gives a name to an environment whose objects are all there: its head, then the packs that it needs.
    fn publish(&self, name: &str, reference: &Reference, objects: &[Object]) -> Result<(), RemoteError>;
    /// Every name.
    fn names(&self) -> Result<Vec<String>, RemoteError>;
    /// Takes a name away; what it stood for stays.
    fn remove_name(&self, name: &str) -> Result<(), RemoteError>;
    /// Every object with the time of its writing; `None` if the remote itself removes what nothing refers to.
    fn objects(&self) -> Result<Option<Vec<(Object, SystemTime)>>, RemoteError>;
    /// Removes an object.
    fn remove(&self, object: &Object) -> Result<(), RemoteError>;
}

/// The value of an environment variable.
pub type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What a transport has to know of the process it is in.
#[derive(Clone)]
pub struct Access {
    /// The value of an environment variable that is set and not empty.
    pub var: Arc<Variable>,
    /// How long an answer may take.
    pub patience: Patience,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To connect.
    pub connect: Duration,
    /// Until the answer begins.
    pub answer: Duration,
    /// Until a piece of at most some megabytes is there.
    pub piece: Duration,
    /// Until an object is there, or sent.
    pub object: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience { connect: seconds(3), answer: seconds(10), piece: seconds(60), object: seconds(600) }
    }
}

/// The remote at `address`. Nothing is sent yet.
pub fn open(address: &Address, access: &Access) -> Result<Arc<dyn Remote>, RemoteError> {
    let shown = address.remote().to_owned();
    match &address.place {
        Place::File(root) => Ok(Arc::new(keyed::Keyed::new(shown, file::Directory::new(root)))),
        Place::Http(base) => {
            let site = http::Site::new(base.clone(), shown.clone(), access);
            Ok(Arc::new(keyed::Keyed::new(shown, site)))
        }
        Place::S3 { bucket, prefix, endpoint } => {
            let bucket = s3::S3::new(bucket, prefix, *endpoint, shown.clone(), access)?;
            Ok(Arc::new(keyed::Keyed::new(shown, bucket)))
        }
        Place::Oci { registry, repository } => {
            Ok(Arc::new(oci::Repository::new(registry.clone(), repository.clone(), shown, access)))
        }
        Place::Rccremote(_) => {
            Err(RemoteError::Unsupported { what: "be read or written as a store of packs", remote: shown })
        }
    }
}

/// How often something is tried.
const TRIES: u32 = 4;
/// How long at most we wait because a server asks us to.
const LONGEST_WAIT: u64 = 30;

/// Does `work` until it succeeds, fails for good, or failed often enough.
fn retrying<T>(mut work: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut tried = 1;
    loop {
        match work() {
            Err(error) if error.is_passing() && tried < TRIES => {
                let usual = Duration::from_millis(100 << tried);
                let asked = error.retry_after().map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)));
                log::debug!("{error}; trying again");
                std::thread::sleep(asked.unwrap_or(usual));
                tried += 1;
            }
            outcome => return outcome,
        }
    }
}
