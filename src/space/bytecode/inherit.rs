//! A catalog without shared bytecode takes it over from other catalogs of the same user, where it was compiled from the same source by the
//! same interpreter: a new environment starts with the bytecode of everything that did not change.
//!
//! Each `.pyc` in a pack names its origin, a digest of both ([`interpreter`]); it is taken over only if its origin in the new catalog
//! would be the same, and its bytes match their own digest. So it is what compiling the new catalog would result in. Where it was
//! compiled before makes no difference: Python sets the path in the code when it imports it.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::store::index::Index;
use crate::sys::fs::lock;
use crate::sys::fs::place::Place;

use super::interpreter;
use super::names::CacheName;
use super::pack::{self, Fresh, Pack, Piece};
use super::seed::AHEAD_BYTES;

/// The number of packs to look at: those written last.
const MOST_PACKS: usize = 8;

/// True if there is no pack at `pack`, but one of another catalog.
pub fn may_inherit(pack: &Place) -> bool {
    matches!(pack.is_there(), Ok(false)) && others(pack).is_ok_and(|others| !others.is_empty())
}

/// Creates the pack of the catalog `index` at `pack` from those of other catalogs in the same directory, unless there is one, another
/// process is making it, or `stop` is set. It may stay empty: then nothing fits, and this is not tried again. Returns the number of `.pyc`.
pub fn inherit(pack: &Place, index: &Index, stop: &AtomicBool) -> io::Result<usize> {
    let held = lock::open_own(&pack.with_extension("lock"))?;
    if held.try_lock().is_err() || pack.is_there()? {
        return Ok(0);
    }
    let mut taken = Taken { stop, pieces: Vec::new(), paths: HashSet::new(), left: AHEAD_BYTES };
    if let Some(interpreter) = interpreter::identity(index) {
        let fits = |piece: &Piece| {
            let name = CacheName::parse(&piece.path);
            let origin = name.and_then(|name| interpreter::origin(&interpreter, &name, index));
            origin.is_some_and(|origin| origin == piece.origin)
        };
        for other in newest(others(pack)?) {
            taken.from(&other, &fits)?;
        }
    }
    if stop.load(Ordering::Relaxed) {
        return Ok(0);
    }
    pack::add(pack, index.id(), taken.pieces, &[])
}

/// What is taken over.
struct Taken<'a> {
    stop: &'a AtomicBool,
    pieces: Vec<Fresh>,
    paths: HashSet<String>,
    /// How many more bytes to take.
    left: u64,
}

impl Taken<'_> {
    /// Takes what `fits` from the pack at `place`: what programs imported, or everything if none did.
    fn from(&mut self, place: &Place, fits: &dyn Fn(&Piece) -> bool) -> io::Result<()> {
        let Some(mut pack) = Pack::open_any(place)? else { return Ok(()) };
        let any_imported = pack.any_imported();
        let wanted: Vec<bool> =
            pack.pieces.iter().map(|piece| piece.imported == any_imported && fits(piece)).collect();
        pack.for_each_of(&wanted, |piece, bytes| {
            let Some(bytes) = bytes.filter(|_| !self.paths.contains(&piece.path)) else { return Ok(true) };
            self.left = self.left.saturating_sub(piece.size);
            if self.left == 0 || self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.paths.insert(piece.path.clone());
            let (path, origin) = (piece.path.clone(), piece.origin.clone());
            // Programs of this catalog have not imported it yet.
            self.pieces.push(Fresh { path, origin, imported: false, bytes: bytes.to_owned() });
            Ok(true)
        })
    }
}

/// The packs of the same user next to `pack`.
fn others(pack: &Place) -> io::Result<Vec<Place>> {
    let own = pack.dir().ok_or(io::ErrorKind::InvalidInput)?;
    let all = own.dir().ok_or(io::ErrorKind::InvalidInput)?.entries()?;
    let same =
        |place: &Place| *place != own && place.extension().is_some() && place.extension() == own.extension();
    Ok(all.into_iter().filter(same).map(|place| place.below("pack")).collect())
}

/// The packs that were written last, the newest first. Those that cannot be opened are left out.
fn newest(packs: Vec<Place>) -> Vec<Place> {
    let written = |place: &Place| place.open_file()?.metadata()?.modified();
    let mut all: Vec<(SystemTime, Place)> =
        packs.into_iter().filter_map(|place| Some((written(&place).ok()?, place))).collect();
    all.sort_by(|(one, _), (other, _)| other.cmp(one));
    all.into_iter().take(MOST_PACKS).map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests;
