//! Fetches a whole environment into the hololib, so that RCC finds it as if it had built it.
//!
//! ```text
//! 1  no lock      blobs missing in the library go to holofs/remote/stage/, each verified; an earlier attempt's are reused
//! 2  global.lck   blobs move into the library, each verified once more; then `.info`; then the catalog
//! ```
//! So RCC waits at most for the disk, never for the network, and a catalog is in the hololib only when all its blobs are. A pull that
//! is interrupted at any point leaves a stage from which the next one continues.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use rayon::prelude::*;

use super::error::RemoteError;
use super::fetch::{BULK, Source};
use super::head::{Blob, Head};
use super::object::ObjectId;
use super::staging::Staging;
use crate::rcc::digest::Digest;
use crate::rcc::home::Home;
use crate::store::observe::Observer;
use crate::store::{self, Sharing, Store, StoreError, Wanted};

/// The result of a pull.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Pulled {
    /// The remote.
    pub remote: String,
    /// The identity of the environment.
    pub head: ObjectId,
    /// RCC's name of the catalog.
    pub catalog: String,
    /// The catalog is new or changed.
    pub is_new: bool,
    /// Distinct blobs.
    pub blobs: u64,
    /// Blobs that were in the library.
    pub blobs_present: u64,
    /// Blobs found elsewhere on this machine: in the raw store, or from an interrupted pull.
    pub blobs_local: u64,
    /// Blobs fetched.
    pub blobs_fetched: u64,
    /// Requests for parts of packs.
    pub requests: u64,
    /// Bytes received.
    pub bytes_fetched: u64,
    /// How often invalid content was fetched again.
    pub fetched_again: u64,
    /// The duration.
    pub seconds: f64,
}

/// A pull.
pub struct Pull<'p> {
    head: &'p Head,
    observer: &'p dyn Observer,
    staging: Staging<'p>,
    local: AtomicU64,
}

impl<'p> Pull<'p> {
    /// Determines what the library already has.
    pub fn new(home: &'p Home, head: &'p Head, observer: &'p dyn Observer) -> Result<Pull<'p>, RemoteError> {
        let blobs: Vec<(Digest, u64)> = head.blobs().iter().map(|blob| (blob.digest, blob.size)).collect();
        let staging = Staging::new(home, &blobs, observer)?;
        Ok(Pull { head, observer, staging, local: AtomicU64::new(0) })
    }

    /// The number of blobs missing in the library.
    pub fn missing(&self) -> u64 {
        self.staging.missing().len() as u64
    }

    /// Puts the missing blobs into the stage: those that `store` has ready from there, the rest from `source`.
    pub fn stage(&self, source: &Source, store: Option<&Store>) -> Result<u64, RemoteError> {
        let modes = self.modes();
        let lacks = |blob: &&Blob| {
            let has = store.is_some_and(|store| self.take_from_raw(blob, store, &modes));
            if has {
                self.local.fetch_add(1, Ordering::Relaxed);
                self.observer.advance(blob.size);
            }
            !has
        };
        let not_staged = self.staging.not_staged()?;
        self.local.fetch_add(self.missing() - not_staged.len() as u64, Ordering::Relaxed);
        let blobs = not_staged.par_iter().filter_map(|(digest, _)| self.head.blob(digest));
        let wanted: Vec<&Blob> = blobs.filter(lacks).collect();
        source.fetch(&wanted, BULK, &|blob, open| {
            self.admit(blob, open)?;
            self.observer.advance(blob.size);
            Ok(())
        })?;
        Ok(wanted.len() as u64)
    }

    /// The mode of some file with each content: the raw store keys content by mode too.
    fn modes(&self) -> HashMap<Digest, u16> {
        let files = self.head.catalog.files().filter(|file| file.symlink.is_none());
        files.filter_map(|file| Some((file.digest?, file.mode.permissions()))).collect()
    }

    fn take_from_raw(&self, blob: &Blob, store: &Store, modes: &HashMap<Digest, u16>) -> bool {
        let Some(&mode) = modes.get(&blob.digest) else { return false };
        let wanted = Wanted { digest: blob.digest, size: blob.size, mode };
        let Some(raw) = store.ready(&wanted) else { return false };
        let mut open = || Ok(Box::new(FromStart { raw: &raw, at: 0 }) as Box<dyn std::io::Read>);
        match self.admit(blob, &mut open) {
            Ok(()) => true,
            Err(error) => {
                log::debug!("{error}; fetched instead");
                false
            }
        }
    }

    /// Adds content to the stage, encoded as RCC stores it, through the common function that verifies all of it.
    fn admit(&self, blob: &Blob, open: &mut super::fetch::Open<'_>) -> Result<(), RemoteError> {
        let mut packed = || {
            let content = open()?;
            Ok(Box::new(flate2::read::GzEncoder::new(content, Compression::fast())) as Box<dyn std::io::Read>)
        };
        let outcome = store::publish_verified(
            self.staging.stage(),
            (&blob.digest, blob.size),
            Sharing::Private,
            std::path::Path::new("the remote"),
            &mut packed,
        );
        outcome.map(drop).map_err(unwrapped)
    }

    /// Publishes blobs, `.info` and catalog. The caller holds the lock of the hololib. True if the catalog is new.
    pub fn publish(&self) -> Result<bool, RemoteError> {
        self.staging.publish(&self.head.catalog, &self.head.stored_catalog)
    }

    /// Removes from the stage what the library has now.
    pub fn clean(&self) {
        self.staging.clean();
    }

    /// The report of a successful pull.
    pub fn report(
        &self,
        remote: String,
        source: &Source,
        is_new: bool,
        fetched: u64,
        seconds: f64,
    ) -> Pulled {
        let (requests, bytes_fetched, fetched_again) = source.traffic.counts();
        let blobs = self.head.blobs().len() as u64;
        Pulled {
            remote,
            head: self.head.id,
            catalog: self.head.catalog_name(),
            is_new,
            blobs,
            blobs_present: blobs - self.missing(),
            blobs_local: self.local.load(Ordering::Relaxed),
            blobs_fetched: fetched,
            requests,
            bytes_fetched,
            fetched_again,
            seconds,
        }
    }
}

/// Extracts the remote's own error from the store's error.
fn unwrapped(error: StoreError) -> RemoteError {
    match error {
        StoreError::Corrupt { source, .. } | StoreError::Unreadable { source, .. }
            if source.get_ref().is_some_and(|inner| inner.is::<RemoteError>()) =>
        {
            match source.into_inner().map(|inner| inner.downcast()) {
                Some(Ok(inner)) => *inner,
                _ => unreachable!("it was looked at"),
            }
        }
        error => RemoteError::Blob(error),
    }
}

/// Reads a raw file from its start.
struct FromStart<'r> {
    raw: &'r store::RawFile,
    at: u64,
}

impl std::io::Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.raw.read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}
