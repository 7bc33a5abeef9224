//! How long it would take to unpack a catalog: what a mount saves. Measured once per catalog on this machine, and stored.
//!
//! Files are inflated, verified and written to a separate directory, on all processors, in an order that mixes large and small ones;
//! after [`LONGEST`] the rest is estimated by bytes, and the result is marked as an estimate.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::store::index::{FileNode, Index, NodeKind};
use crate::store::{Store, Wanted};
use crate::sys::fs::place::Place;

/// The maximum duration of a measurement.
const LONGEST: Duration = Duration::from_secs(2);
/// The maximum size of a stored measurement, in bytes.
const MOST: u64 = 4096;

/// The result of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Unpacking {
    /// Seconds for the whole catalog.
    pub seconds: f64,
    /// Files unpacked for the measurement.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// All files.
    pub all_files: u64,
    /// Bytes of all files.
    pub all_bytes: u64,
}

impl Unpacking {
    /// True if only a part was unpacked, and the rest estimated.
    pub fn is_estimate(&self) -> bool {
        self.files < self.all_files
    }
}

/// The measurement stored in `dir`, else a new one, made in `scratch`; `None` if content of the catalog is not on this machine.
pub fn unpacking(
    dir: &Place,
    scratch: &Path,
    index: &Index,
    store: &Store,
) -> std::io::Result<Option<Unpacking>> {
    let kept = dir.below(index.id().to_string());
    if let Some(known) = kept.read(MOST).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
        return Ok(Some(known));
    }
    let measured = measure(scratch, index, store)?;
    if let Some(measured) = &measured {
        kept.publish(&serde_json::to_vec(measured)?)?;
    }
    Ok(measured)
}

fn measure(scratch: &Path, index: &Index, store: &Store) -> std::io::Result<Option<Unpacking>> {
    let place = tempfile::tempdir_in(scratch)?;
    let mut files: Vec<(u64, FileNode<'_>, u16)> = index
        .nodes()
        .filter_map(|node| match node.kind {
            NodeKind::File(file) => Some((node.ino.0, file, node.mode)),
            _ => None,
        })
        .collect();
    files.sort_by_key(|(ino, ..)| ino.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (done, bytes, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    files.par_iter().for_each(|(ino, file, mode)| {
        if began.elapsed() > LONGEST {
            return;
        }
        let wanted = Wanted::of(file, *mode);
        let unpacked = File::create(place.path().join(ino.to_string()))
            .map_err(|error| error.to_string())
            .and_then(|mut out| store.stream_to(&wanted, &mut out).map_err(|error| error.to_string()));
        match unpacked {
            Ok(()) => {
                done.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(file.size, Ordering::Relaxed);
            }
            Err(error) => {
                log::debug!("Unpacking is not measured: {error}");
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let took = began.elapsed().as_secs_f64();
    let (done, bytes) = (done.into_inner(), bytes.into_inner());
    if failed.into_inner() > 0 || done == 0 {
        return Ok(None);
    }
    let (all_files, all_bytes) = (files.len() as u64, index.content_bytes());
    let seconds = if done == all_files { took } else { took * all_bytes as f64 / bytes.max(1) as f64 };
    Ok(Some(Unpacking { seconds, files: done, bytes, all_files, all_bytes }))
}
