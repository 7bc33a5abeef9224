//! File names of blobs in the library, and of entries in the raw store. Pure.

use std::path::PathBuf;

use crate::rcc::digest::Digest;

/// RCC's path of a blob, relative to `library/`: `aa/bb/cc/<digest>`.
pub fn blob_path(digest: &Digest) -> PathBuf {
    let text = digest.to_string();
    PathBuf::from(format!("{}/{}/{}/{text}", &text[..2], &text[2..4], &text[4..6]))
}

/// The permission bits of a raw store entry: the catalog's, always readable by the owner, never setuid, setgid or sticky.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawMode(u16);

impl RawMode {
    /// From the catalog's 12 permission bits.
    pub fn new(mode: u16) -> RawMode {
        RawMode(mode & 0o777 | 0o400)
    }

    /// The bits.
    pub fn bits(self) -> u16 {
        self.0
    }
}

/// Identifies an entry of the raw store: the same content may have one entry per mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawKey {
    /// The digest of the content.
    pub digest: Digest,
    /// The permission bits of the entry.
    pub mode: RawMode,
}

impl RawKey {
    /// The directory of the entry, relative to the raw store: `aa`. One level is enough for a million entries; with RCC's depth nearly
    /// every entry would have its own directory, which takes twice the time to create, walk and remove.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(format!("{:02x}", self.digest.as_bytes()[0]))
    }

    /// The entry's name in its directory: `<digest>.<four octal digits>`.
    pub fn name(&self) -> String {
        format!("{}.{:04o}", self.digest, self.mode.bits())
    }

    /// The path of the entry, relative to the raw store.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("{:02x}/{}.{:04o}", self.digest.as_bytes()[0], self.digest, self.mode.bits()))
    }

    /// The key whose [`name`](RawKey::name) is `name`; `None` if it is not the name of an entry.
    pub fn parse(name: &str) -> Option<RawKey> {
        let (digest, mode) = name.split_once('.')?;
        let key =
            RawKey { digest: digest.parse().ok()?, mode: RawMode::new(u16::from_str_radix(mode, 8).ok()?) };
        (key.name() == name).then_some(key)
    }
}

/// The prefix of every temporary file in the raw store; the pid and `-` follow.
const TEMP_PREFIX: &str = "tmp-";

/// A temporary name for process `pid`, made unique by a counter and a random number.
pub fn temp_name(pid: u32, counter: u64, unique: u64) -> String {
    format!("{TEMP_PREFIX}{pid}-{counter}-{unique:016x}")
}

/// The process that created the temporary file `name`.
pub fn temp_owner(name: &str) -> Option<u32> {
    name.strip_prefix(TEMP_PREFIX)?.split_once('-')?.0.parse().ok()
}

/// True for the name of a fan-out directory: two lowercase hex digits.
pub fn is_fan_out(name: &[u8]) -> bool {
    name.len() == 2 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use std::path::Path;

    #[test]
    fn blobs_stand_where_rcc_puts_them() {
        let digest = Digest::of(Regime::SipHash128, b"hello\n");
        assert_eq!(blob_path(&digest), Path::new("79/38/50/79385034bd2529e675348170617088f5"));
    }

    #[test]
    fn a_raw_entry_is_named_by_digest_and_safe_mode() {
        let digest = Digest::of(Regime::SipHash128, b"hello\n");
        let key = RawKey { digest, mode: RawMode::new(0o6155) };
        assert_eq!(key.path(), Path::new("79/79385034bd2529e675348170617088f5.0555"));
        assert_eq!(key.path(), key.dir().join(key.name()));
        assert_eq!(RawKey::parse(&key.name()), Some(key));
    }

    #[test]
    fn other_names_are_no_entries() {
        let hex = "7".repeat(32);
        for suffix in ["", ".", ".7", ".04644", ".4755", ".0044", ".0x44", ".0644.x"] {
            assert_eq!(RawKey::parse(&format!("{hex}{suffix}")), None, "{suffix}");
        }
    }

    #[test]
    fn temporary_name_contains_its_process() {
        assert_eq!(temp_owner(&temp_name(42, 7, 99)), Some(42));
        assert_eq!(temp_owner("tmp-x-1"), None);
        assert_eq!(RawKey::parse(&temp_name(42, 7, 99)), None);
    }
}
