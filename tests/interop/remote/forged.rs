//! A valid head whose frames have other content than its catalog says: its own mounts get errors, and nobody else gets anything.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use holofs::rcc::digest::{Digest, Regime};
use holofs::remote::head::{self, Frame, Head};
use holofs::remote::{ObjectId, Reference};

use super::lazy::kept;
use super::{assert_nothing_published, content_of, contents, file_remote, pull, push, recorded};
use crate::common::compare::assert_same_space;
use crate::common::test_home::TestHome;
use crate::common::{exit, said, text_field};

/// Adds the environment `evil`: that of `prod`, with the frames of a small blob and of two chunks of a large one exchanged.
fn forge(store: &Path, id: &str) {
    let bytes = fs::read(store.join("v1/heads").join(id)).unwrap();
    let right = Head::parse(&bytes, &ObjectId::of(&bytes)).unwrap();
    let mut frames: BTreeMap<Digest, Vec<Frame>> =
        right.blobs().iter().map(|blob| (blob.digest, right.frames(blob).to_vec())).collect();
    let digest = |name: &str| Digest::of(Regime::Sha256, &content_of(name));
    frames.get_mut(&digest("file-9000000")).unwrap().swap(0, 1);
    let other = Frame { check: None, ..frames[&digest("file-9000000")][0] };
    frames.insert(digest("file-262144"), vec![other]);
    let forged = head::encode(&right.stored_catalog, &right.packs, &frames).unwrap();
    let id = ObjectId::of(&forged);
    assert!(Head::parse(&forged, &id).is_ok(), "nothing in the head itself is wrong");
    fs::write(store.join("v1/heads").join(id.to_string()), &forged).unwrap();
    let reference = Reference::new(id, forged.len() as u64, right.catalog_name(), 0);
    fs::write(store.join("v1/refs/evil"), reference.to_json()).unwrap();
}

#[test]
fn content_of_a_forged_head_reaches_neither_the_store_nor_another_environment() {
    let (from, to, other) = (TestHome::new(), TestHome::new(), TestHome::new());
    let store = from.scratch().join("store");
    let catalog = recorded(&from, &contents(), "forged=1");
    let pushed = push(&from, &catalog, &file_remote(&store, "prod"));
    forge(&store, &text_field(&pushed, "head"));
    let files = from.materialize(&catalog, "files", "c");
    let (good, evil) = (file_remote(&store, "prod"), file_remote(&store, "evil"));

    let forged = to.mount(&evil, "evil", "c", &["--profile", "off"]);
    let read = |name: &str| fs::read(forged.path().join("lib").join(name));
    assert_eq!(read("file-262144").unwrap_err().raw_os_error(), Some(5));
    // The head alone says what a part is; the digest of the file says it of the whole.
    let large = fs::File::open(forged.path().join("lib/file-9000000")).unwrap();
    large.read_exact_at(&mut [0; 4096], 0).unwrap();
    assert_eq!(kept(&to), 0);

    // The right environment, at the same time in the same home: the same blobs, and right bytes in parts and as a whole.
    let mounted = to.mount(&good, "good", "c", &["--profile", "off"]);
    let mut part = [0; 4096];
    fs::File::open(mounted.path().join("lib/file-9000000")).unwrap().read_exact_at(&mut part, 0).unwrap();
    assert_eq!(part[..], content_of("file-9000000")[..4096]);
    assert_same_space(&files, mounted.path());
    drop((large, forged, mounted));

    let refused = other.holofs(&["pull", &evil]);
    assert_eq!(refused.status.code(), Some(exit::DAMAGE), "{}", said(&refused));
    assert_nothing_published(&other);
    pull(&other, &good);
    other.holofs_ok(&["check"]);
    assert_same_space(&files, &other.materialize(&catalog, "files", "c"));
}
