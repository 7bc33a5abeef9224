//! Transfers objects to and from a remote: one trait, and one file for each kind of remote.
//!
//! A transport only moves bytes: its caller verifies names and digests. It retries transient failures (a broken connection, 429, 5xx)
//! a few times, parts of objects until a time limit, and respects a server's Retry-After.

pub mod azure;
mod file;
mod http;
mod ini;
mod keyed;
mod listing;
mod logins;
mod netrc;
pub mod oci;
pub mod s3;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::address::{Address, Location};
use super::error::RemoteError;
use super::object::Object;
use super::reference::Reference;

pub use http::{Call, Client, content_length};

/// The prefix of an environment's own name, by which pins find it; the head's name follows.
pub const OWN_NAME: &str = "holofs-";

/// A store of objects and references. All methods may be called from several threads.
pub trait Remote: Send + Sync {
    /// Its address, for messages.
    fn address(&self) -> &str;
    /// The size of an object; `None` if it does not exist.
    fn size(&self, object: &Object) -> Result<Option<u64>, RemoteError>;
    /// A whole object; never reads more than its size. `None` if it does not exist.
    fn get(&self, object: &Object) -> Result<Option<Vec<u8>>, RemoteError>;
    /// A part of an object, which must lie inside it, within `limit`.
    fn range(&self, object: &Object, range: Range<u64>, limit: Duration) -> Result<Vec<u8>, RemoteError>;
    /// An object was damaged: forgets what is cached of it.
    fn forget(&self, _object: &Object) {}
    /// Stores an object; an existing one is left as it is.
    fn put(&self, object: &Object, bytes: &[u8]) -> Result<(), RemoteError>;
    /// What a name refers to.
    fn reference(&self, name: &str) -> Result<Option<Reference>, RemoteError>;
    /// Publishes a name for an environment whose objects are all there: its head, then the packs that it needs.
    fn publish(&self, name: &str, reference: &Reference, objects: &[Object]) -> Result<(), RemoteError>;
    /// Every name.
    fn names(&self) -> Result<Vec<String>, RemoteError>;
    /// Removes a name; what it referred to stays.
    fn remove_name(&self, name: &str) -> Result<(), RemoteError>;
    /// Every object with its time of writing; `None` if the remote itself removes unreferenced objects.
    fn objects(&self) -> Result<Option<Vec<(Object, SystemTime)>>, RemoteError>;
    /// Removes an object.
    fn remove(&self, object: &Object) -> Result<(), RemoteError>;
}

/// The value of an environment variable.
pub type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What a transport needs from its process.
#[derive(Clone)]
pub struct Access {
    /// The value of an environment variable that is set and not empty.
    pub var: Arc<Variable>,
    /// The timeouts.
    pub patience: Patience,
    /// The network's own rules.
    pub network: Network,
}

#[cfg(test)]
impl Access {
    /// With these environment variables only.
    fn of(vars: &'static [(&'static str, &'static str)]) -> Access {
        let find =
            |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Access { var: Arc::new(find), patience: Patience::default(), network: Network::default() }
    }
}

/// A site's network settings; environment variables take precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The URL of a proxy.
    pub proxy: Option<String>,
    /// Hosts that are accessed without it, separated by commas.
    pub no_proxy: String,
    /// A file with certificate authorities, which are trusted in addition to those of the machine.
    pub ca_bundle: Option<std::path::PathBuf>,
}

/// Timeouts.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To connect.
    pub connect: Duration,
    /// Until the answer starts.
    pub answer: Duration,
    /// Until a piece of at most some megabytes has arrived.
    pub piece: Duration,
    /// Until an object has arrived, or is sent.
    pub object: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience { connect: seconds(3), answer: seconds(10), piece: seconds(60), object: seconds(600) }
    }
}

/// The remote at `address`. Sends nothing yet.
pub fn open(address: &Address, access: &Access) -> Result<Arc<dyn Remote>, RemoteError> {
    let shown = address.remote().to_owned();
    match &address.place {
        Location::File(root) => Ok(Arc::new(keyed::Keyed::new(shown, file::Directory::new(root)))),
        Location::Http(base) => {
            let site = http::Site::new(base.clone(), shown.clone(), access);
            Ok(Arc::new(keyed::Keyed::new(shown, site)))
        }
        Location::S3 { bucket, prefix, endpoint } => {
            let bucket = s3::S3::new(bucket, prefix, *endpoint, shown.clone(), access)?;
            Ok(Arc::new(keyed::Keyed::new(shown, bucket)))
        }
        Location::Azure { container, prefix } => {
            let container = azure::Azure::new(container, prefix, shown.clone(), access)?;
            Ok(Arc::new(keyed::Keyed::new(shown, container)))
        }
        Location::Oci { registry, repository } => {
            Ok(Arc::new(oci::Repository::new(registry.clone(), repository.clone(), shown, access)))
        }
        Location::Rccremote(_) => {
            Err(RemoteError::Unsupported { what: "be read or written as a store of packs", remote: shown })
        }
    }
}

/// The maximum number of attempts.
const TRIES: u32 = 4;
/// The longest Retry-After that is respected, in seconds.
const LONGEST_WAIT: u64 = 30;

/// The number of requests of this process that were sent again, since that was last asked.
static RETRIES: AtomicU64 = AtomicU64::new(0);

/// The number of requests of this process that were sent again since the last call.
pub fn new_retries() -> u64 {
    RETRIES.swap(0, Ordering::Relaxed)
}

/// The shortest time that a request gets, whatever is left.
const LEAST: Duration = Duration::from_secs(1);
/// The longest time without a second attempt at a part.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The longest pause before another attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs `work`, with the time of one attempt, until it succeeds, fails permanently, or `limit` is over. A remote that answers wrongly
/// is not asked as often as one that is down or busy.
pub(super) fn retrying_for<T>(
    limit: Duration,
    mut work: impl FnMut(Duration) -> Result<T, RemoteError>,
) -> Result<T, RemoteError> {
    let started = Instant::now();
    let mut tried = 1;
    loop {
        let left = limit.saturating_sub(started.elapsed()).max(LEAST);
        let error = match work(left.min(ATTEMPT.max(limit / 2))) {
            Err(error) if error.is_passing() => error,
            outcome => return outcome,
        };
        let usual = Duration::from_millis(100 << tried.min(5)).min(LONGEST_PAUSE);
        let asked = error.retry_after().map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)));
        let pause = asked.unwrap_or(usual);
        let has_time = started.elapsed() + pause < limit;
        let may_try = match error.is_down() {
            true => has_time,
            false => tried < TRIES || (error.is_too_many() && has_time),
        };
        if !may_try {
            return Err(error);
        }
        log::debug!("{error}; trying again");
        RETRIES.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(pause);
        tried += 1;
    }
}

/// Runs `work` until it succeeds, fails permanently, or has failed too often.
pub(super) fn retrying<T>(mut work: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut tried = 1;
    loop {
        match work() {
            Err(error) if error.is_passing() && tried < TRIES => {
                let usual = Duration::from_millis(100 << tried);
                let asked = error.retry_after().map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)));
                log::debug!("{error}; trying again");
                RETRIES.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(asked.unwrap_or(usual));
                tried += 1;
            }
            outcome => return outcome,
        }
    }
}
