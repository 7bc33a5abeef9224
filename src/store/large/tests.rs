use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::error::chain;
use crate::store::BlobSource as _;
use crate::store::layout::blob_path;
use crate::store::observe::Tally;
use crate::store::{Library, Limits};

/// Bytes that barely compress, and differ by `seed`.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

struct World {
    _temp: tempfile::TempDir,
    library: PathBuf,
    tally: Arc<Tally>,
    store: Store,
}

/// A store that can keep 4 MiB in memory, and nothing on disk.
fn world() -> World {
    let temp = tempfile::tempdir().unwrap();
    let (library, raw) = (temp.path().join("library"), temp.path().join("raw"));
    fs::create_dir(&library).unwrap();
    fs::write(&raw, "no directory").unwrap();
    let limits = Limits { memory_bytes: 4 << 20, ..Limits::default() };
    let tally = Arc::new(Tally::new());
    let store = Store::open(Library::open(&library).unwrap(), &*raw, limits, Arc::clone(&tally) as _);
    World { _temp: temp, library, tally, store }
}

fn blob(library: &Path, content: &[u8]) -> Wanted {
    let digest = Digest::of(Regime::Sha256, content);
    let path = library.join(blob_path(&digest));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    fs::write(path, encoder.finish().unwrap()).unwrap();
    Wanted { digest, size: content.len() as u64, mode: 0o644 }
}

fn read(world: &World, wanted: &Wanted, offset: usize, len: usize) -> Result<Vec<u8>, String> {
    let mut out = vec![0; len];
    let outcome = world.store.read(wanted, offset as u64, &mut out);
    outcome.map_err(|error| chain(&error).to_string())?.map_err(|error| error.to_string())?;
    Ok(out)
}

#[test]
fn read_of_two_large_files_in_turn_decodes_each_a_few_times() {
    let world = world();
    let contents = [noise(1, 3_300_000), noise(2, 3_500_001)];
    let wanted = contents.each_ref().map(|content| blob(&world.library, content));
    const STEP: usize = 50_000;
    for offset in (0..3_500_001).step_by(STEP) {
        for (content, wanted) in contents.iter().zip(&wanted) {
            let end = (offset + STEP).min(content.len());
            if offset < end {
                assert_eq!(read(&world, wanted, offset, end - offset).unwrap(), content[offset..end]);
            }
        }
    }
    // Each as a whole once; the first one, which was evicted, is verified and decoded once more.
    assert_eq!(world.tally.get(Counter::ServedFromMemory), 2);
    assert_eq!(world.tally.get(Counter::DecodedInPieces), 2);
}

#[test]
fn read_of_large_files_in_any_order_is_right() {
    let world = world();
    let contents = [noise(3, 6_000_000), noise(4, 5_000_000), noise(5, 7_000_000)];
    let wanted = contents.each_ref().map(|content| blob(&world.library, content));
    let mut state = 7_usize;
    for _ in 0..60 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (which, at) = (state >> 33, state >> 40);
        let (content, wanted) = (&contents[which % 3], &wanted[which % 3]);
        let offset = at % content.len();
        let len = 100_000.min(content.len() - offset);
        assert_eq!(read(&world, wanted, offset, len).unwrap(), content[offset..offset + len]);
    }
    let whole = world.tally.get(Counter::ServedFromMemory);
    assert!(whole < 25, "{whole}: random reads take turns in memory");
}

#[test]
fn read_in_pieces_of_a_blob_that_changed_is_an_error() {
    let world = world();
    let contents = [noise(8, 3_000_000), noise(9, 3_000_000)];
    let wanted = contents.each_ref().map(|content| blob(&world.library, content));
    for which in [0, 1, 0] {
        assert_eq!(read(&world, &wanted[which], 0, 10).unwrap(), contents[which][..10]);
    }
    assert_eq!(world.tally.get(Counter::DecodedInPieces), 2, "the first is read in pieces now");
    let path = world.library.join(blob_path(&wanted[0].digest));
    let mut stored = fs::read(&path).unwrap();
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    fs::write(&path, stored).unwrap();
    assert_eq!(read(&world, &wanted[0], 1_000, 10).unwrap(), contents[0][1_000..1_010], "verified before");
    read(&world, &wanted[0], 2_900_000, 10).unwrap_err();
    read(&world, &wanted[0], 2_900_000, 10).unwrap_err();
    assert_eq!(read(&world, &wanted[1], 2_900_000, 10).unwrap(), contents[1][2_900_000..2_900_010]);
}

#[test]
fn large_files_that_fit_are_not_read_in_pieces() {
    let world = world();
    let content = noise(6, 3_000_000);
    let wanted = blob(&world.library, &content);
    for offset in [0, 2_000_000, 1_000, 500_000] {
        assert_eq!(read(&world, &wanted, offset, 1_000).unwrap(), content[offset..offset + 1_000]);
    }
    assert_eq!(world.tally.get(Counter::ServedFromMemory), 1);
    assert_eq!(world.tally.get(Counter::DecodedInPieces), 0);
}
