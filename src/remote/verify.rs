//! Reads a whole environment from its remote, and reports invalid blobs.

use std::sync::{Mutex, PoisonError};

use super::error::RemoteError;
use super::fetch::{BULK, Source};
use super::head::Blob;
use super::object::ObjectId;
use crate::rcc::digest::{Hasher, Regime};
use crate::store::observe::Observer;

/// The result.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Verified {
    /// The remote.
    pub remote: String,
    /// The identity of the environment.
    pub head: ObjectId,
    /// Distinct valid blobs.
    pub blobs_right: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// The problems, one line per blob.
    pub wrong: Vec<String>,
}

/// Reads everything. Only what prevents it from continuing is an error.
pub fn verify(source: &Source, remote: String, observer: &dyn Observer) -> Result<Verified, RemoteError> {
    observer.expect(source.head.raw_bytes());
    let wrong = Mutex::new(Vec::new());
    let mut right = 0;
    let all: Vec<&Blob> = source.head.blobs().iter().collect();
    if let Err(error) = read(source, &all, observer) {
        if !matches!(
            error,
            RemoteError::Damaged { .. } | RemoteError::NotFound { .. } | RemoteError::Answer { .. }
        ) {
            return Err(error);
        }
        // Something is wrong: read blob by blob to find out what.
        for blob in &all {
            match read(source, &[*blob], observer) {
                Ok(()) => right += 1,
                Err(error) => {
                    let line = format!("blob {}: {error}", blob.digest);
                    wrong.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        }
    } else {
        right = all.len() as u64;
    }
    let mut wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(object) = source.head.bytecode
        && let Err(error) = source.whole(&object, BULK)
    {
        wrong.push(format!("bytecode: {error}"));
    }
    let (_, bytes_read, _) = source.traffic.counts();
    Ok(Verified { remote, head: source.head.id, blobs_right: right, bytes_read, wrong })
}

fn read(source: &Source, blobs: &[&Blob], observer: &dyn Observer) -> Result<(), RemoteError> {
    source.fetch(blobs, BULK, &|blob, open| {
        let mut hasher = Hasher::new(Regime::Sha256);
        let damaged = |why: String| {
            let what = format!("Blob {}", blob.digest);
            RemoteError::Damaged { what, remote: source.remote.address().to_owned(), why }
        };
        let mut content = open().map_err(|error| damaged(error.to_string()))?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match content.read(&mut buffer).map_err(|error| damaged(error.to_string()))? {
                0 => break,
                len => hasher.update(&buffer[..len]),
            }
        }
        observer.advance(blob.size);
        let found = hasher.finish();
        if found == blob.digest {
            Ok(())
        } else {
            Err(damaged(format!("its content has the digest {found}")))
        }
    })
}
