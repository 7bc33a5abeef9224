//! A head round-trips unchanged, and invalid bytes are never accepted.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::remote::frame::{self, CHUNK, Effort};

/// A catalog as RCC writes it, of files with these contents.
pub fn catalog(contents: &[Vec<u8>]) -> Vec<u8> {
    let identity = "h59acff1_493f813dad24d3t";
    let file = |(at, content): (usize, &Vec<u8>)| {
        let (digest, size) = (Digest::of(Regime::Sha256, content), content.len());
        format!(
            r#""f{at:05}":{{"name":"f{at:05}","size":{size},"mode":420,"digest":"{digest}","rewrite":[]}}"#
        )
    };
    let files: Vec<String> = contents.iter().enumerate().map(file).collect();
    let json = format!(
        r#"{{"rcc":"v18","identity":"{identity}","path":"/b/{identity}","controller":"","space":"","platform":"linux_amd64","blueprint":"14023a1f332a0231","lifted":true,"tree":{{"name":"","mode":2147484141,"subdirs":{{}},"files":{{{}}}}}}}"#,
        files.join(",")
    );
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut out, json.as_bytes()).unwrap();
    out.finish().unwrap()
}

/// Packs and frames of these contents, with a new pack after each `per_pack` frames.
fn packed(contents: &[Vec<u8>], per_pack: usize) -> (Vec<Object>, BTreeMap<Digest, Vec<Frame>>) {
    let (mut packs, mut frames) = (vec![Vec::new()], BTreeMap::new());
    let mut count = 0;
    for content in contents {
        let digest = Digest::of(Regime::Sha256, content);
        let many = content.len() as u64 > CHUNK;
        let mut own = Vec::new();
        for chunk in content.chunks(CHUNK as usize) {
            if count == per_pack {
                packs.push(Vec::new());
                count = 0;
            }
            count += 1;
            let (kind, stored) = frame::encode(chunk, Effort::Usual).unwrap();
            let pack: &mut Vec<u8> = packs.last_mut().unwrap();
            let check = many.then(|| ObjectId::of(chunk).0);
            own.push((pack.len() as u64, stored.len() as u32, kind, check));
            pack.extend(stored);
            let (offset, stored, kind, check) = *own.last().unwrap();
            let pack = packs.len() as u32 - 1;
            frames.entry(digest).or_insert_with(Vec::new).push(Frame { pack, offset, stored, kind, check });
        }
    }
    let object = |bytes: Vec<u8>| Object {
        kind: ObjectKind::Pack,
        id: ObjectId::of(&bytes),
        size: bytes.len() as u64,
    };
    (packs.into_iter().map(object).collect(), frames)
}

/// The head of an environment with these files, in one pack that does not exist.
pub fn head_of(contents: &[Vec<u8>]) -> Head {
    let (packs, frames) = packed(contents, usize::MAX);
    let bytes = encode(&catalog(contents), &packs, &frames).unwrap();
    Head::parse(&bytes, &ObjectId::of(&bytes)).unwrap()
}

fn contents() -> Vec<Vec<u8>> {
    vec![b"one".to_vec(), Vec::new(), vec![5; 600_000], b"four".to_vec()]
}

fn good() -> Vec<u8> {
    let (packs, frames) = packed(&contents(), 2);
    encode(&catalog(&contents()), &packs, &frames).unwrap()
}

#[test]
fn head_locates_every_chunk() {
    let (packs, frames) = packed(&contents(), 2);
    let bytes = good();
    let head = Head::parse(&bytes, &ObjectId::of(&bytes)).unwrap();
    assert_eq!(head.packs, packs);
    assert_eq!(head.blobs().len(), 4);
    assert_eq!(head.raw_bytes(), 600_007);
    assert_eq!(head.catalog_name(), "14023a1f332a0231v12.linux_amd64");
    for content in contents() {
        let digest = Digest::of(Regime::Sha256, &content);
        let blob = head.blob(&digest).unwrap();
        assert_eq!(blob.size, content.len() as u64);
        assert_eq!(head.frames(blob), frames.get(&digest).map_or(&[][..], Vec::as_slice));
    }
    assert_eq!(head.blob(&Digest::of(Regime::Sha256, b"none")), None);
}

#[test]
fn bytecode_is_a_pack_of_the_head() {
    let with = |further, size| {
        let (mut packs, frames) = packed(&contents(), 2);
        let at = packs.len() + further;
        packs.push(Object { kind: ObjectKind::Pack, id: ObjectId::of(b"bytecode"), size });
        let mut bytes = encode(&catalog(&contents()), &packs, &frames).unwrap();
        add_bytecode(&mut bytes, at);
        (Head::parse(&bytes, &ObjectId::of(&bytes)), packs)
    };
    let (head, packs) = with(0, MAX_BYTECODE);
    let head = head.unwrap();
    assert_eq!((head.bytecode, &head.packs), (packs.last().copied(), &packs));
    for (further, size) in [(1, 5), (0, MAX_BYTECODE + 1)] {
        assert!(
            matches!(with(further, size).0, Err(HeadError::Damaged { what: "bytecode" })),
            "{further} {size}"
        );
    }
    let plain = good();
    assert_eq!(Head::parse(&plain, &ObjectId::of(&plain)).unwrap().bytecode, None);
    for (version, end) in [(1, &[0][..]), (2, &[]), (2, &[0, 0]), (3, &[0])] {
        let mut bytes = good();
        bytes[8] = version;
        bytes.extend(end);
        assert!(Head::parse(&bytes, &ObjectId::of(&bytes)).is_err(), "{version} {end:?}");
    }
}

#[test]
fn a_head_of_another_name_is_refused() {
    let bytes = good();
    let other = ObjectId::of(b"other");
    assert!(
        matches!(Head::parse(&bytes, &other), Err(HeadError::OtherBytes { found }) if found == ObjectId::of(&bytes))
    );
}

#[test]
fn a_catalog_of_weak_digests_is_refused() {
    let stored = std::fs::read("tests/data/golden/catalog-raw.json.gz").unwrap();
    assert!(matches!(encode(&stored, &[], &BTreeMap::new()), Err(HeadError::WeakDigest)));
}

#[test]
fn a_frame_outside_its_pack_or_longer_than_its_chunk_is_refused() {
    let one = vec![b"some content".to_vec()];
    let digest = Digest::of(Regime::Sha256, &one[0]);
    let pack = Object { kind: ObjectKind::Pack, id: ObjectId::of(b"pack"), size: 100 };
    let good = Frame { pack: 0, offset: 88, stored: 12, kind: FrameKind::Stored, check: None };
    let parse = |frame: Frame| {
        let bytes = encode(&catalog(&one), &[pack], &BTreeMap::from([(digest, vec![frame])])).unwrap();
        Head::parse(&bytes, &ObjectId::of(&bytes))
    };
    parse(good).unwrap();
    for bad in [
        Frame { offset: 89, ..good },
        Frame { offset: u64::MAX, ..good },
        Frame { stored: 11, ..good },
        Frame { stored: 13, kind: FrameKind::Zstd, ..good },
        Frame { pack: 1, ..good },
        Frame { check: Some([0; 32]), ..good },
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_environment_comes_back(
        sizes in proptest::collection::vec(0_usize..700_000, 1..6), per_pack in 1_usize..4,
    ) {
        let contents: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, &size)| vec![at as u8; size]).collect();
        let (packs, frames) = packed(&contents, per_pack);
        let bytes = encode(&catalog(&contents), &packs, &frames).unwrap();
        let head = Head::parse(&bytes, &ObjectId::of(&bytes)).unwrap();
        prop_assert_eq!(&head.packs, &packs);
        let total: u64 = frames.values().flatten().map(|frame| u64::from(frame.stored)).sum();
        prop_assert_eq!(head.stored_bytes(), total);
    }

    /// The id is that of the damaged bytes: a hostile head.
    #[test]
    fn damage_is_never_more_than_an_error(at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index) {
        let mut bytes = good();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if byte % 3 == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(head) = Head::parse(&bytes, &ObjectId::of(&bytes)) {
            for frame in head.blobs().iter().flat_map(|blob| head.frames(blob)) {
                prop_assert!(frame.range().end <= head.packs[frame.pack as usize].size);
            }
        }
    }
}
