//! RCC's own remote, rccremote, as a client: fetches one catalog with the blobs that are missing here.
//!
//! ```text
//! GET  /parts/<catalog>   the digests of the catalog's blobs, one per line
//! POST /delta/<catalog>   digests, one per line; the answer is a zip file with these blobs and the catalog
//! ```
//! The protocol has no digest of a catalog and no signature: the server, as TLS identifies it, is trusted for which environment it
//! sends, unless the address pins the catalog's SHA-256. It is trusted for nothing else. The catalog is fetched first; its sizes
//! bound every other answer; every blob is verified before it leaves the zip file; and blobs, then the catalog, are published only
//! when all of them are here (see [`super::pull`]).
//!
//! RCC's own server keeps its zip files by the requested digests alone. So a request that another catalog can cause too, such as
//! one for no blobs, may be answered with the other catalog. The catalog is therefore requested together with two of its blobs,
//! chosen at random.

mod identity;
#[cfg(unix)]
pub mod request;
#[cfg(unix)]
pub mod server;

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rayon::prelude::*;
use ureq::http::Method;

use super::address::{Address, BadAddress, Location};
use super::error::RemoteError;
use super::head::distinct;
use super::object::ObjectId;
use super::pull::Pulled;
use super::staging::Staging;
use super::transport::{Access, Call, Client, retrying};
use crate::rcc::catalog::{Catalog, MAX_STORED, file_name};
use crate::rcc::digest::Digest;
use crate::rcc::home::{Home, platform};
use crate::space::archive::{ArchiveError, Delta, is_catalog};
use crate::store::observe::Observer;
use crate::store::stored_bound;

/// The maximum length of a list of digests: a million of them.
const MAX_PARTS: u64 = 65 << 20;
/// The maximum content requested at once, unless one blob is larger.
const BATCH_BYTES: u64 = 256 << 20;
/// The maximum number of digests requested at once.
const BATCH: usize = 1 << 14;
/// The maximum length of everything in a zip file except content, per entry: names twice, headers, zip64 fields.
const PER_ENTRY: u64 = 1024;
/// How many blobs are requested together with the catalog, and how many such requests are sent.
const COMPANIONS: usize = 2;
const PICKS: usize = 3;
/// The slowest acceptable transfer, in bytes per second.
const SLOWEST: u64 = 64 << 10;

/// A catalog on an rccremote server.
pub struct Server {
    client: Client,
    base: String,
    name: String,
    pin: Option<ObjectId>,
    headers: Vec<(&'static str, String)>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A catalog that was fetched; its blobs may be missing.
pub struct Offered {
    /// As stored.
    pub stored: Vec<u8>,
    /// Parsed.
    pub catalog: Catalog,
    /// The distinct blobs with their sizes.
    pub blobs: Vec<(Digest, u64)>,
}

/// RCC's name of the catalog at an address; a blueprint hash alone means that of this platform.
pub fn catalog_name(address: &Address) -> Result<String, RemoteError> {
    let full = file_name(&address.name, &platform());
    match (is_catalog(&address.name), is_catalog(&full)) {
        (true, _) => Ok(address.name.clone()),
        (_, true) => Ok(full),
        _ => Err(RemoteError::Address(BadAddress {
            text: address.to_string(),
            why: "it names no catalog: rccremote+https://HOST#HASH, or the name of the catalog's file",
        })),
    }
}

impl Server {
    /// The catalog at `address`; `None` if that is not the address of an rccremote server. Sends nothing yet.
    pub fn of(address: &Address, access: &Access) -> Result<Option<Server>, RemoteError> {
        let Location::Rccremote(base) = &address.place else { return Ok(None) };
        let authorization = (access.var)("RCC_REMOTE_AUTHORIZATION").map(|value| ("authorization", value));
        let identity = ("x-rcc-random-identity", identity::new());
        Ok(Some(Server {
            client: Client::new(address.remote().to_owned(), access),
            base: base.as_str().trim_end_matches('/').to_owned(),
            name: catalog_name(address)?,
            pin: address.pin,
            headers: authorization.into_iter().chain([identity]).collect(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }))
    }

    /// RCC's name of the catalog.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fetches the catalog.
    pub fn catalog(&self, home: &Home) -> Result<Offered, RemoteError> {
        let parts = self.parts()?;
        let (stored, catalog) = self.received(home, &parts)?;
        let found = ObjectId::of(&stored);
        let remote = self.client.remote().to_owned();
        if let Some(pin) = self.pin.filter(|pin| *pin != found) {
            return Err(RemoteError::OtherPin { remote, pin, found });
        }
        let name = self.name.clone();
        let blobs = distinct(&catalog).map_err(|source| RemoteError::Foreign { name, remote, source })?;
        if let Some(digest) = blobs.keys().find(|digest| !parts.contains(digest)) {
            return Err(self.damaged(format!("the server lists no blob {digest}")));
        }
        Ok(Offered { stored, catalog, blobs: blobs.into_iter().collect() })
    }

    /// The catalog as the server sends it, as stored and parsed; `parts` are its blobs.
    fn received(&self, home: &Home, parts: &HashSet<Digest>) -> Result<(Vec<u8>, Catalog), RemoteError> {
        let limit = MAX_STORED.saturating_add(1 << 20);
        // The order of a set is random.
        let parts: Vec<Digest> = parts.iter().copied().collect();
        for pick in parts.chunks(COMPANIONS).take(PICKS) {
            // Blobs that are too large are no companions.
            let Some(mut delta) = self.delta_within(home, pick, limit)? else { break };
            match delta.catalog(&self.name) {
                Err(ArchiveError::NoCatalog { .. }) => log::debug!("The server sent another catalog"),
                outcome => return Ok(outcome?),
            }
        }
        Ok(self.delta(home, &[], limit)?.catalog(&self.name)?)
    }

    /// Puts the missing blobs into the stage, each verified; returns how many were fetched.
    pub fn stage(
        &self,
        home: &Home,
        offered: &Offered,
        staging: &Staging<'_>,
        observer: &dyn Observer,
    ) -> Result<u64, RemoteError> {
        let wanted = staging.not_staged()?;
        for batch in batches(&wanted) {
            let content: u64 = batch.iter().map(|(_, size)| stored_bound(*size)).sum();
            let entries = (batch.len() as u64 + 2) * PER_ENTRY;
            let limit = content.saturating_add(entries).saturating_add(offered.stored.len() as u64 * 2);
            let digests: Vec<Digest> = batch.iter().map(|(digest, _)| *digest).collect();
            let delta = self.delta(home, &digests, limit)?;
            batch.par_iter().try_for_each(|(digest, size)| {
                delta.publish(staging.stage(), digest, *size)?;
                observer.advance(*size);
                Ok::<(), RemoteError>(())
            })?;
        }
        Ok(wanted.len() as u64)
    }

    /// The report of a successful pull; `missing` and `fetched` count blobs.
    pub fn report(
        &self,
        remote: String,
        offered: &Offered,
        is_new: bool,
        (missing, fetched): (u64, u64),
        seconds: f64,
    ) -> Pulled {
        let blobs = offered.blobs.len() as u64;
        Pulled {
            remote,
            head: ObjectId::of(&offered.stored),
            catalog: self.name.clone(),
            is_new,
            blobs,
            blobs_present: blobs - missing,
            blobs_local: missing - fetched,
            blobs_fetched: fetched,
            requests: self.requests.load(Ordering::Relaxed),
            bytes_fetched: self.bytes.load(Ordering::Relaxed),
            fetched_again: 0,
            seconds,
        }
    }

    fn damaged(&self, why: String) -> RemoteError {
        let (what, remote) = (format!("Catalog {}", self.name), self.client.remote().to_owned());
        RemoteError::Damaged { what, remote, why }
    }

    /// The digests of the catalog's blobs.
    fn parts(&self) -> Result<HashSet<Digest>, RemoteError> {
        let url = format!("{}/parts/{}", self.base, self.name);
        let call = self.call(Method::GET, &url, None, self.client.patience().object);
        let text = retrying(|| {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = self.client.send(&call)?;
            match answer.status {
                200 => self.client.read(&call, answer, MAX_PARTS),
                _ => Err(self.client.refusal(&call, answer)),
            }
        })?;
        self.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        digests(&text).ok_or_else(|| self.damaged("its list of digests has an invalid line".to_owned()))
    }

    /// The zip file with these blobs and the catalog, of at most `limit` bytes, as a file without a name.
    fn delta(&self, home: &Home, wanted: &[Digest], limit: u64) -> Result<Delta, RemoteError> {
        let (what, remote) = (self.name.clone(), self.client.remote().to_owned());
        let too_long = || RemoteError::Answer {
            doing: "Reading",
            what,
            remote,
            said: format!("it has more than {limit} bytes"),
            status: None,
            retry_after: None,
            is_passing: false,
        };
        self.delta_within(home, wanted, limit)?.ok_or_else(too_long)
    }

    /// The same; `None` if it is longer.
    fn delta_within(&self, home: &Home, wanted: &[Digest], limit: u64) -> Result<Option<Delta>, RemoteError> {
        let url = format!("{}/delta/{}", self.base, self.name);
        let lines: Vec<String> = wanted.iter().map(Digest::to_string).collect();
        let body = lines.join("\n");
        let patience = self.client.patience().object + Duration::from_secs(limit / SLOWEST);
        let call = self.call(Method::POST, &url, Some(body.as_bytes()), patience);
        let dir = home.remote_dir();
        dir.ensure().map_err(RemoteError::io("Making", dir.path()))?;
        let file = retrying(|| self.receive(&call, dir.path(), limit))?;
        Ok(file.map(|file| Delta::open(file, Path::new(self.client.remote()))).transpose()?)
    }

    /// The answer as a file; `None` if it is longer than `limit`.
    fn receive(&self, call: &Call<'_>, dir: &Path, limit: u64) -> Result<Option<File>, RemoteError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = self.client.send(call)?;
        if !(200..300).contains(&answer.status) {
            return Err(self.client.refusal(call, answer));
        }
        let mut file = tempfile::tempfile_in(dir).map_err(RemoteError::io("Creating a file in", dir))?;
        let (mut from, mut buffer, mut got) = (answer.into_reader(), vec![0; 256 << 10], 0_u64);
        loop {
            let read = from.read(&mut buffer);
            let len = read.map_err(|error| self.client.odd(call, format!("{error}"), true))?;
            if len == 0 {
                return Ok(Some(file));
            }
            got += len as u64;
            self.bytes.fetch_add(len as u64, Ordering::Relaxed);
            if got > limit {
                return Ok(None);
            }
            file.write_all(&buffer[..len]).map_err(RemoteError::io("Writing a file in", dir))?;
        }
    }

    fn call<'c>(
        &'c self,
        method: Method,
        url: &'c str,
        body: Option<&'c [u8]>,
        patience: Duration,
    ) -> Call<'c> {
        let headers = self.headers.clone();
        Call { doing: "Reading", what: &self.name, method, url, headers, body, patience }
    }
}

/// A list of digests, one per line; `None` if it has anything else. RCC's server lists a link without a target as `N/A`.
pub fn digests(text: &[u8]) -> Option<HashSet<Digest>> {
    let lines = std::str::from_utf8(text).ok()?.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && *line != "N/A");
    lines.map(|line| line.parse().ok()).collect()
}

/// Consecutive parts of `wanted`, none empty, bounded in number and content.
fn batches(wanted: &[(Digest, u64)]) -> Vec<&[(Digest, u64)]> {
    let (mut batches, mut start, mut content) = (Vec::new(), 0, 0_u64);
    for (at, (_, size)) in wanted.iter().enumerate() {
        content = content.saturating_add(*size);
        if at > start && (content > BATCH_BYTES || at - start == BATCH) {
            batches.push(&wanted[start..at]);
            (start, content) = (at, *size);
        }
    }
    if start < wanted.len() {
        batches.push(&wanted[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;

    #[test]
    fn a_catalog_is_named_by_its_hash_or_its_file() {
        let name = |text: &str| catalog_name(&text.parse().unwrap()).ok();
        let host = "rccremote+https://h";
        let foreign = "14023a1f332a0231v12.windows_amd64";
        assert_eq!(name(&format!("{host}#{foreign}")), Some(foreign.into()));
        let own = format!("14023a1f332a0231v12.{}", platform());
        assert_eq!(name(&format!("{host}#14023a1f332a0231")), Some(own));
        for text in [host, "rccremote+https://h#prod", "rccremote+https://h#14023a1f"] {
            assert_eq!(name(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_of_digests_has_nothing_else() {
        let digest = Digest::of(Regime::Sha256, b"x");
        assert_eq!(digests(b""), Some(HashSet::new()));
        assert_eq!(digests(format!("{digest}\nN/A\n{digest}").as_bytes()), Some(HashSet::from([digest])));
        for bad in ["../../etc/passwd", "<html>", "\u{1b}[2J", &digest.to_string()[1..]] {
            assert_eq!(digests(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(digests(b"\xff"), None);
    }

    #[test]
    fn batches_are_bounded_and_complete() {
        let blob = |at: u64, size: u64| (Digest::of(Regime::Sha256, &at.to_le_bytes()), size);
        let many: Vec<_> = (0..BATCH as u64 + 1).map(|at| blob(at, 1)).collect();
        let large: Vec<_> = [1, BATCH_BYTES, 1, BATCH_BYTES * 3, 2, 3]
            .into_iter()
            .zip(0..)
            .map(|(size, at)| blob(at, size))
            .collect();
        let lens =
            |wanted: &[(Digest, u64)]| batches(wanted).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(lens(&many), [BATCH, 1]);
        assert_eq!(lens(&large), [1, 1, 1, 1, 2]);
        assert_eq!(lens(&[]), [0; 0]);
        assert_eq!(batches(&large).concat(), large);
    }
}
