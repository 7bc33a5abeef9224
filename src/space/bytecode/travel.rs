//! Bytecode that comes with a remote environment: a machine that has none yet does not compile what the runs of another one imported.
//!
//! It is a [`pack`] whose pieces have no origin, so no other catalog takes anything over from it: the sender of an environment decides
//! about its code, and about no other's. It stays with the remote environment, apart from the shared bytecode of the same catalog.

use std::io::{self, BufReader, BufWriter, Read, Seek, Write as _};
use std::time::{Duration, Instant, SystemTime};

use crate::rcc::catalog::CatalogId;
use crate::space::live;
use crate::sys::fs::lock;
use crate::sys::fs::place::Place;

use super::pack::{self, Fresh, PART, Pack};
use super::seed::AHEAD_BYTES;

/// The maximum number of bytes.
pub const LONGEST: u64 = 256 << 20;
/// How long a process may compile what a run imported.
const COMPILING: Duration = Duration::from_secs(30);
/// How long it may take to start.
const STARTING: Duration = Duration::from_secs(3);

/// Notes that a process is about to compile what a run imported.
pub fn announce(place: &Place) -> io::Result<()> {
    lock::open_own(&place.with_extension("lock"))?.set_modified(SystemTime::now())
}

/// Waits while a process compiles what a run imported, or is about to.
pub fn wait_until_compiled(place: &Place) {
    let (started, lock) = (Instant::now(), place.with_extension("lock"));
    while started.elapsed() < COMPILING && (live::may_be_held(&lock) || is_announced(place, &lock)) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// True if it was announced a moment ago, and nothing has been compiled since.
fn is_announced(place: &Place, lock: &Place) -> bool {
    let written = |place: &Place| place.open_file().and_then(|file| file.metadata()?.modified()).ok();
    let announced = written(lock).filter(|time| time.elapsed().is_ok_and(|age| age < STARTING));
    announced.is_some_and(|announced| written(place).is_none_or(|compiled| compiled < announced))
}

/// What others get of the shared bytecode at `place`: what programs imported, or all if none did, up to a limit. `None` if there is none.
pub fn outgoing(place: &Place, catalog: CatalogId) -> io::Result<Option<Vec<u8>>> {
    let Some(mut pack) = Pack::open(place, catalog)? else { return Ok(None) };
    let any_imported = pack.any_imported();
    let wanted: Vec<bool> = pack.pieces.iter().map(|piece| piece.imported == any_imported).collect();
    let (mut all, mut left) = (Vec::new(), AHEAD_BYTES);
    pack.for_each_of(&wanted, |piece, bytes| {
        left = left.saturating_sub(piece.size);
        if let Some(bytes) = bytes.filter(|_| left > 0) {
            let (path, imported, origin) = (piece.path.clone(), piece.imported, String::new());
            all.push(Fresh { path, imported, origin, bytes: bytes.to_owned() });
        }
        Ok(left > 0)
    })?;
    if all.is_empty() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    pack::encode(catalog, &all, &mut bytes)?;
    Ok(Some(bytes))
}

/// Stores at `place` what comes from a remote for `catalog`. It may be anything: an error if it is no pack as [`outgoing`] makes it.
pub fn incoming(place: &Place, catalog: CatalogId, from: impl Read) -> io::Result<()> {
    place.in_dir(|dir, name| {
        let mut temp = dir.create_temp(PART)?;
        let mut out = BufWriter::new(&mut temp.file);
        io::copy(&mut from.take(LONGEST + 1), &mut out)?;
        out.flush()?;
        drop(out);
        check(&temp.file, catalog).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
        // Not synced: after a power cut the digests show damage.
        temp.publish(name)
    })
}

fn check(mut file: &std::fs::File, catalog: CatalogId) -> io::Result<()> {
    let wrong = |why: &str| io::Error::other(format!("It is not bytecode of this catalog: {why}"));
    let size = file.metadata()?.len();
    if size > LONGEST {
        return Err(wrong("it is too large"));
    }
    file.rewind()?;
    let pack = Pack::read(BufReader::with_capacity(256 << 10, file), |named| named == catalog.to_string())?;
    let mut pack = pack.ok_or_else(|| wrong("it is of another format or catalog"))?;
    if pack.pieces.iter().any(|piece| !piece.origin.is_empty()) {
        return Err(wrong("it names origins"));
    }
    pack.for_each(|piece, bytes| match bytes {
        Some(_) => Ok(true),
        None => Err(wrong(&format!("{} is damaged, or not compared with its source", piece.path))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::{Digest, Regime};

    fn pyc(flags: u8, code: &[u8]) -> Vec<u8> {
        [&b"\x01\x02\x0d\x0a"[..], &[flags, 0, 0, 0], b"hashhash", code].concat()
    }

    fn fresh(path: &str, imported: bool, origin: &str, bytes: Vec<u8>) -> Fresh {
        Fresh { path: path.to_owned(), imported, origin: origin.to_owned(), bytes }
    }

    fn encoded(catalog: CatalogId, all: &[Fresh]) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack::encode(catalog, all, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_imported_arrives_without_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        let id = Digest::of(Regime::Sha256, b"catalog");
        let [here, there] = ["pack", "there"].map(|name| Place::top(dir.path()).below(name));
        assert_eq!(outgoing(&here, id).unwrap(), None);
        let pieces = vec![
            fresh("a.cpython-311.pyc", true, "origin", pyc(3, b"a")),
            fresh("b.cpython-311.pyc", false, "origin", pyc(3, b"b")),
        ];
        pack::add(&here, id, pieces, &[]).unwrap();
        let sent = outgoing(&here, id).unwrap().unwrap();
        incoming(&there, id, &sent[..]).unwrap();
        let mut found = Vec::new();
        let mut pack = Pack::open(&there, id).unwrap().unwrap();
        pack.for_each(|piece, bytes| {
            found.push((piece.path.clone(), piece.imported, piece.origin.clone(), bytes.map(<[u8]>::to_vec)));
            Ok(true)
        })
        .unwrap();
        assert_eq!(found, [("a.cpython-311.pyc".to_owned(), true, String::new(), Some(pyc(3, b"a")))]);
        assert_eq!(outgoing(&there, id).unwrap().unwrap(), sent, "it can be sent on");
    }

    #[test]
    fn what_is_announced_is_waited_for_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let id = Digest::of(Regime::Sha256, b"catalog");
        let place = Place::top(dir.path()).below("pack");
        let waited = || {
            let started = Instant::now();
            wait_until_compiled(&place);
            started.elapsed()
        };
        assert!(waited() < STARTING / 2, "nothing was announced");
        announce(&place).unwrap();
        let late = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                pack::add(&place, id, vec![fresh("a.cpython-311.pyc", true, "", pyc(3, b"a"))], &[]).unwrap();
            });
            waited()
        });
        assert!(late >= Duration::from_millis(300), "{late:?}");
        announce(&place).unwrap();
        assert!(waited() >= STARTING / 2, "the process that was to compile has died");
        assert!(waited() < STARTING / 2, "it is not waited for again");
    }

    #[test]
    fn nothing_else_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let [id, other] = [&b"catalog"[..], b"other"].map(|text| Digest::of(Regime::Sha256, text));
        let place = Place::top(dir.path()).below("bytecode");
        let good = encoded(id, &[fresh("a.cpython-311.pyc", true, "", pyc(3, b"a"))]);
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for (why, bytes) in [
            ("no pack", b"x".to_vec()),
            ("nothing", Vec::new()),
            ("another catalog", encoded(other, &[fresh("a.cpython-311.pyc", true, "", pyc(3, b"a"))])),
            ("an origin", encoded(id, &[fresh("a.cpython-311.pyc", true, "o", pyc(3, b"a"))])),
            ("unchecked", encoded(id, &[fresh("a.cpython-311.pyc", true, "", pyc(1, b"a"))])),
            ("by time", encoded(id, &[fresh("a.cpython-311.pyc", true, "", pyc(0, b"a"))])),
            ("damaged", damaged),
            ("cut", good[..good.len() - 1].to_vec()),
        ] {
            let refused = incoming(&place, id, &bytes[..]).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::InvalidData), "{why}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{why}");
        }
        incoming(&place, id, &good[..]).unwrap();
    }
}
