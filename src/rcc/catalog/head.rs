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

/// More than a head usually has, as stored and as JSON: a longer one is left to the reader of the whole.
const STORED: u64 = 16 << 10;
const JSON: u64 = 8 << 10;

/// The header of the catalog or `.meta` at `path`, if that does not take reading the whole file.
pub(super) fn read(path: &Path) -> Option<Header> {
    let mut stored = Vec::new();
    // A FIFO in its place would block.
    open_to_read(path).ok()?.take(STORED).read_to_end(&mut stored).ok()?;
    let mut json = Vec::new();
    let decoder = inflate::decoder(inflate::encoding(&stored).ok()?, &stored).ok()?;
    // The input is truncated where reading stopped: everything before that is valid.
    let cut = decoder.take(JSON).read_to_end(&mut json);
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
                return Err(A::Error::custom("a field stands twice"));
            }
            *text = map.next_value()?;
        }
        Ok(())
    }
}
