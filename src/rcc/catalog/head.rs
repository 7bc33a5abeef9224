//! Reads the fields before the tree without reading the tree: for lists of hundreds of files.
//!
//! Only unambiguous input is accepted: any other order, type or name of a field is left to the full parser.

use std::borrow::Cow;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use super::{Header, inflate, validate};
use crate::sys::fs::stat::open_to_read;

/// How many bytes are read, stored and as JSON: first enough for most heads, then more than any head usually needs. A longer one is
/// left to the full parser.
const ATTEMPTS: [(u64, u64); 2] = [(1 << 10, 1 << 10), (16 << 10, 8 << 10)];

/// The header of the catalog or `.meta` at `path`, if it can be found without reading the whole file.
pub(super) fn read(path: &Path) -> Option<Header> {
    // Opens without blocking, in case there is a FIFO in its place.
    let file = open_to_read(path).ok()?;
    let mut stored = Vec::with_capacity(1 << 10);
    ATTEMPTS.into_iter().find_map(|(most, most_json)| {
        (&file).take(most - stored.len() as u64).read_to_end(&mut stored).ok()?;
        header_in(path, &stored, most_json)
    })
}

/// The header in `stored`, the first bytes of the file at `path`, if it lies within the first `most` bytes of JSON.
fn header_in(path: &Path, stored: &[u8], most: u64) -> Option<Header> {
    let mut json = Vec::new();
    let decoder = inflate::decoder(inflate::encoding(stored).ok()?, stored).ok()?;
    // The input is truncated where reading stopped: everything before that is valid.
    let cut = decoder.take(most).read_to_end(&mut json);
    log::trace!("The head of {}: {cut:?}", path.display());
    let mut head = Head { header: Header::default(), is_complete: false };
    let parsed = head.deserialize(&mut serde_json::Deserializer::from_slice(&json));
    log::trace!("The tree of {} is not read: {parsed:?}", path.display());
    (head.is_complete && validate::check_header(&head.header).is_ok()).then_some(head.header)
}

struct Head {
    header: Header,
    is_complete: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Head {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Head {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a catalog")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let header = &mut self.header;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let text = match &*key {
                "rcc" => &mut header.rcc,
                "identity" => &mut header.identity,
                "path" => &mut header.path,
                "controller" => &mut header.controller,
                "space" => &mut header.space,
                "platform" => &mut header.platform,
                "blueprint" => &mut header.blueprint,
                "lifted" => {
                    header.lifted = map.next_value()?;
                    continue;
                }
                other => {
                    self.is_complete = other == "tree";
                    return Err(A::Error::custom("the rest is not needed"));
                }
            };
            if !text.is_empty() {
                return Err(A::Error::custom("a field occurs twice"));
            }
            *text = map.next_value()?;
        }
        Ok(())
    }
}
