//! Data from remotes: references, heads, profiles, listings of Azure, bytecode. Parsed values are bounded, and equal to what was sent.

use std::path::Path;

use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::remote::frame::FrameKind;
use holofs::remote::head::{self, Head};
use holofs::remote::object::{Object, ObjectKind};
use holofs::remote::transport::azure::page_in;
use holofs::remote::{ObjectId, Reference, profile};
use holofs::space::bytecode::pack::{self, Fresh};
use holofs::space::bytecode::travel;
use holofs::sys::fs::place::Place;

/// The first byte selects the kind of the rest.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 5 {
        0 => reference(bytes),
        1 => head(bytes),
        2 => listing(bytes),
        3 => bytecode(bytes),
        _ => assert!(profile::items(bytes).len() <= bytes.len() / 32),
    }
}

/// What is accepted can be sent on, except what no program imported next to what one did.
fn bytecode(bytes: &[u8]) {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let place = Place::top(dir.path()).below("bytecode");
    let catalog = Digest::of(Regime::Sha256, b"catalog");
    let is_stored = travel::incoming(&place, catalog, bytes).is_ok();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), usize::from(is_stored));
    if is_stored {
        let sent = travel::outgoing(&place, catalog).unwrap();
        assert!(sent.is_none_or(|sent| travel::incoming(&place, catalog, &sent[..]).is_ok()));
    }
}

/// Names are in the bytes, which may have replaced characters.
fn listing(bytes: &[u8]) {
    match page_in(bytes) {
        Ok(page) => assert!(page.names().map(str::len).sum::<usize>() <= bytes.len() * 3),
        Err(why) => assert!(why.len() <= 500 + bytes.len() * 3),
    }
}

fn reference(bytes: &[u8]) {
    match Reference::parse(bytes) {
        Ok(reference) => {
            let again = Reference::parse(&reference.to_json()).unwrap();
            assert_eq!(
                (again.head, again.size, &again.signature),
                (reference.head, reference.size, &reference.signature)
            );
        }
        Err(error) => assert!(error.to_string().len() < 500),
    }
}

/// A head is named by its digest, so only its own consistency needs to be checked.
fn head(bytes: &[u8]) {
    let head = match Head::parse(bytes, &ObjectId::of(bytes)) {
        Ok(head) => head,
        Err(error) => return assert!(error.to_string().len() < 5_000),
    };
    for blob in head.blobs() {
        for frame in head.frames(blob) {
            let range = frame.range();
            assert!(range.start <= range.end && range.end <= 1 << 40, "a frame outside of any pack");
        }
    }
    assert!(head.catalog_name().len() < 500);
    let parsed = profile::Profile::parse(bytes, &head);
    assert!(parsed.items().len() <= bytes.len());
    let other = ObjectId::of(b"another");
    assert!(Head::parse(bytes, &other).is_err(), "a head by another name");
}

/// A reference, a listing and profiles; heads of golden catalogs whose blobs have no frames; and a truncated head.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let stored = std::fs::read(golden.join("catalog-gz.json.gz")).unwrap();
    let catalog = Catalog::parse(&stored).unwrap();
    let mut frames = std::collections::BTreeMap::new();
    let mut offset = 0;
    for (digest, size) in head::distinct(&catalog).unwrap() {
        let own = (0..head::chunks(size)).map(|chunk| {
            let stored = head::chunk_len(size, chunk) as u32;
            offset += u64::from(stored);
            head::Frame {
                pack: 0,
                offset: offset - u64::from(stored),
                stored,
                kind: FrameKind::Stored,
                check: (head::chunks(size) > 1).then_some([7; 32]),
            }
        });
        frames.insert(digest, own.collect::<Vec<_>>());
    }
    let pack = Object { kind: ObjectKind::Pack, id: ObjectId::of(b"pack"), size: 1 << 30 };
    let head = head::encode(&stored, &[pack], &frames).unwrap();
    Head::parse(&head, &ObjectId::of(&head)).unwrap();
    let small = Object { kind: ObjectKind::Pack, id: ObjectId::of(b"bytecode"), size: 9 };
    let mut with_bytecode = head::encode(&stored, &[pack, small], &frames).unwrap();
    head::add_bytecode(&mut with_bytecode, 1);
    assert_eq!(Head::parse(&with_bytecode, &ObjectId::of(&with_bytecode)).unwrap().bytecode, Some(small));
    let mut bytecode = Vec::new();
    let bytes = [&b"\x01\x02\x0d\x0a\x03\0\0\0"[..], b"hashhash", b"code"].concat();
    let fresh = Fresh { path: "a.cpython-311.pyc".to_owned(), imported: true, origin: String::new(), bytes };
    pack::encode(Digest::of(Regime::Sha256, b"catalog"), &[fresh], &mut bytecode).unwrap();
    let reference = Reference::new(
        ObjectId::of(&head),
        head.len() as u64,
        "14023a1f332a0231v12.linux_amd64".to_owned(),
        7,
    );
    let digests: Vec<Digest> = frames.into_keys().collect();
    let items = digests.iter().map(|digest| (*digest, 0));
    let profile = profile::Profile::new(items).to_text().into_bytes();
    let tagged = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    vec![
        tagged(0, &reference.to_json()),
        tagged(1, &head),
        tagged(1, &head[..40]),
        tagged(2, b"<EnumerationResults><Blobs><Blob><Name>v1/refs/a&amp;b</Name><Properties><Last-Modified>Fri, 26 Jun 2015 23:39:12 GMT</Last-Modified><Content-Length>7</Content-Length></Properties></Blob></Blobs><NextMarker>2</NextMarker></EnumerationResults>"),
        tagged(1, &with_bytecode),
        tagged(3, &bytecode),
        tagged(4, &profile),
        tagged(4, b"holofs-remote-profile 1\n"),
    ]
}
