//! The two kinds of names in a `hololib.zip`. Pure.

use crate::rcc::digest::Digest;
use crate::store::blob_path;

/// What an entry is, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Entry {
    /// A blob.
    Blob(Digest),
    /// A catalog, by its file name.
    Catalog(String),
    /// A directory of a hololib, which some programs that make zip files write down too.
    Directory,
}

/// Takes a name apart, whichever slash it has: RCC on Windows writes backslashes. `None` for every other name.
pub(super) fn parse(name: &[u8]) -> Option<Entry> {
    let name = std::str::from_utf8(name).ok()?.replace('\\', "/");
    if let Some(dir) = name.strip_suffix('/') {
        let parts: Vec<&str> = dir.split('/').collect();
        let fan_out = |part: &&str| part.len() == 2 && part.bytes().all(is_hex);
        let known = match parts.split_first() {
            Some((&"catalog", rest)) => rest.is_empty(),
            Some((&"library", rest)) => rest.len() <= 3 && rest.iter().all(fan_out),
            _ => false,
        };
        return known.then_some(Entry::Directory);
    }
    if let Some(file) = name.strip_prefix("catalog/") {
        return is_catalog(file).then(|| Entry::Catalog(file.to_owned()));
    }
    let place = name.strip_prefix("library/")?;
    let digest: Digest = place.rsplit('/').next()?.parse().ok()?;
    (blob_path(&digest).to_str() == Some(place)).then_some(Entry::Blob(digest))
}

/// RCC's pattern: 16 hex digits, `v12.`, one of its platforms.
fn is_catalog(name: &str) -> bool {
    let Some((hash, platform)) = name.split_once("v12.") else { return false };
    let platforms = ["windows", "darwin", "linux"];
    let known = platform
        .split_once('_')
        .is_some_and(|(os, cpu)| platforms.contains(&os) && ["amd64", "arm64"].contains(&cpu));
    hash.len() == 16 && hash.bytes().all(is_hex) && known
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;

    #[test]
    fn blobs_and_catalogs_are_known_with_either_slash() {
        for regime in [Regime::Sha256, Regime::SipHash128] {
            let digest = Digest::of(regime, b"x");
            let name = format!("library/{}", blob_path(&digest).display());
            assert_eq!(parse(name.as_bytes()), Some(Entry::Blob(digest)));
            assert_eq!(parse(name.replace('/', "\\").as_bytes()), Some(Entry::Blob(digest)));
        }
        let name = "14023a1f332a0231v12.linux_amd64";
        assert_eq!(parse(format!("catalog\\{name}").as_bytes()), Some(Entry::Catalog(name.into())));
        assert_eq!(parse(b"library/aa/bb/"), Some(Entry::Directory));
    }

    #[test]
    fn every_other_name_is_refused() {
        let digest = Digest::of(Regime::SipHash128, b"x").to_string();
        let names = [
            String::new(),
            "/".into(),
            "../catalog/14023a1f332a0231v12.linux_amd64".into(),
            "/catalog/14023a1f332a0231v12.linux_amd64".into(),
            "catalog/../14023a1f332a0231v12.linux_amd64".into(),
            "catalog/14023a1f332a0231v12.linux_amd64.info".into(),
            "catalog/14023a1f332a0231v11.linux_amd64".into(),
            "catalog/14023A1f332a0231v12.linux_amd64".into(),
            "catalog/14023a1f332a0231v12.plan9_mips".into(),
            "catalog/compress.no".into(),
            format!("library/{digest}"),
            format!("library/00/00/00/{digest}"),
            format!("library/../library/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6]),
            format!("Library/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6]),
            "used/".into(),
            "robot.yaml".into(),
        ];
        for name in names {
            assert_eq!(parse(name.as_bytes()), None, "{name}");
        }
        assert_eq!(parse(b"catalog/\xff"), None);
    }
}
