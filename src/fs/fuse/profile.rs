//! A profile: which parts of which files a run reads first, and which missing names it looks up, in order. Pure.
//!
//! It belongs to one catalog, is bounded, and is merged from run to run: known items keep their place, new ones follow. A profile is
//! only a hint: an unreadable one is ignored.
//!
//! Text format: `holofs-profile 1 <catalog id>`, then a line for each item: `r <inode> <chunk>` or `m <inode> <name in hex>`.

use std::collections::HashSet;
use std::fmt::Write as _;

use crate::rcc::catalog::CatalogId;
use crate::store::index::Ino;
use crate::sys::text::hex;

/// The unit of reads in a profile, in bytes: the kernel's usual readahead.
pub const CHUNK: u64 = 128 << 10;
/// The maximum number of items in a profile: an import of the largest libraries has a tenth of that.
const MAX_ITEMS: usize = 60_000;

/// One request of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Item {
    /// A chunk of a file.
    Read {
        /// The file.
        ino: Ino,
        /// The index of the [`CHUNK`].
        chunk: u64,
    },
    /// A missing name.
    Miss {
        /// The directory.
        dir: Ino,
        /// The name.
        name: Box<[u8]>,
    },
}

/// The requests of runs, in order, each item once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    items: Vec<Item>,
    known: HashSet<Item>,
}

impl Profile {
    /// The items in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// True if the profile contains `item`.
    pub fn contains(&self, item: &Item) -> bool {
        self.known.contains(item)
    }

    /// Appends `item`, unless it is known or the profile is full.
    pub fn add(&mut self, item: Item) {
        if self.items.len() < MAX_ITEMS && self.known.insert(item.clone()) {
            self.items.push(item);
        }
    }

    /// Appends the items of `newer` that are missing.
    pub fn merge(&mut self, newer: &Profile) {
        newer.items.iter().for_each(|item| self.add(item.clone()));
    }

    /// The profile as text.
    pub fn to_text(&self, catalog: &CatalogId) -> String {
        let mut text = head(catalog);
        for item in &self.items {
            // Writing to a string cannot fail.
            match item {
                Item::Read { ino, chunk } => writeln!(text, "r {ino} {chunk}"),
                Item::Miss { dir, name } => writeln!(text, "m {dir} {}", hex(name)),
            }
            .unwrap_or_default();
        }
        text
    }

    /// Parses a profile of `catalog`; `None` if it belongs to another one, or is damaged.
    pub fn from_text(text: &str, catalog: &CatalogId) -> Option<Profile> {
        let mut profile = Profile::default();
        for line in text.strip_prefix(&head(catalog))?.lines() {
            profile.add(item(line)?);
        }
        Some(profile)
    }
}

fn head(catalog: &CatalogId) -> String {
    format!("holofs-profile 1 {catalog}\n")
}

fn item(line: &str) -> Option<Item> {
    let mut fields = line.split(' ');
    let (kind, ino, last) = (fields.next()?, Ino(fields.next()?.parse().ok()?), fields.next()?);
    match kind {
        "r" => Some(Item::Read { ino, chunk: last.parse().ok()? }),
        "m" => Some(Item::Miss { dir: ino, name: unhex(last)? }),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Box<[u8]>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::{Digest, Regime};

    fn profile() -> Profile {
        let mut profile = Profile::default();
        profile.add(Item::Read { ino: Ino(7), chunk: 0 });
        profile.add(Item::Miss { dir: Ino(1), name: b"x\xff y".as_slice().into() });
        profile.add(Item::Read { ino: Ino(7), chunk: 3 });
        profile
    }

    #[test]
    fn a_profile_survives_its_text_and_belongs_to_one_catalog() {
        let (ours, other) = (Digest::of(Regime::Sha256, b"a"), Digest::of(Regime::Sha256, b"b"));
        let text = profile().to_text(&ours);
        assert_eq!(Profile::from_text(&text, &ours), Some(profile()));
        assert_eq!(Profile::from_text(&text, &other), None);
        assert_eq!(Profile::from_text(&format!("{text}r x 1\n"), &ours), None);
    }

    #[test]
    fn merging_keeps_the_order_and_adds_what_is_new_once() {
        let mut merged = profile();
        let mut newer = Profile::default();
        newer.add(Item::Read { ino: Ino(9), chunk: 0 });
        newer.merge(&profile());
        merged.merge(&newer);
        assert_eq!(merged.items().len(), 4);
        assert_eq!(merged.items()[..3], *profile().items());
        assert_eq!(merged.items()[3], Item::Read { ino: Ino(9), chunk: 0 });
    }
}
