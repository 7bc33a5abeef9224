//! Small private files that may get damaged: eight magic bytes, a checksum, the body. Written to a temporary file and renamed.

use std::io;

use crate::store::index::{Index, checksum};
use crate::sys::fs::place::Place;

/// The first bytes of a file.
pub type Magic = [u8; 8];
/// Magic and checksum, in bytes.
pub const HEAD: usize = 8 + 4;
/// The maximum size of such a file, in bytes.
const MOST: u64 = 1 << 30;

/// The body of the file at `path`; none if it does not exist, has another magic, or is damaged.
pub fn read(place: &Place, magic: &Magic) -> Option<Vec<u8>> {
    let mut bytes = place.read(MOST).ok()?;
    let (head, body) = bytes.split_at_checked(HEAD)?;
    if head != head_of(magic, body) {
        return None;
    }
    bytes.drain(..HEAD);
    Some(bytes)
}

/// Publishes a file with this body at `path`, in one of our own directories.
pub fn write(place: &Place, magic: &Magic, body: &[u8]) -> io::Result<()> {
    place.publish(&[&head_of(magic, body), body].concat())
}

/// The id of a file's catalog, for its body.
pub fn id_of(index: &Index) -> [u8; 32] {
    let mut bytes = [0; 32];
    let id = index.id();
    bytes.iter_mut().zip(id.as_bytes()).for_each(|(to, from)| *to = *from);
    bytes
}

fn head_of(magic: &Magic, body: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (name, sum) = head.split_at_mut(magic.len());
    name.copy_from_slice(magic);
    sum.copy_from_slice(&checksum(body).to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_as_it_was_written_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let (place, path) = (Place::top(temp.path()).below("new/file"), temp.path().join("new/file"));
        write(&place, b"HOLOTST1", b"body").unwrap();
        assert_eq!(read(&place, b"HOLOTST1").as_deref(), Some(&b"body"[..]));
        assert_eq!(read(&place, b"HOLOTST2"), None);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            assert_eq!(read(&place, b"HOLOTST1"), None, "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&place, b"HOLOTST1"), None, "{at} bytes");
        }
    }
}
