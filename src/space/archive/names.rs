//! The kinds of names in a `hololib.zip`. Pure.
//!
//! Blobs and catalogs are imported. RCC also takes everything else (a README, `.DS_Store`, `compress.no`, `used/`, `.info`), since it
//! unpacks the whole file over its hololib; here such files are skipped. A path outside of the hololib, and a blob whose path does not
//! match its name, are rejected.

use crate::rcc::digest::Digest;
use crate::store::blob_path;

/// The kind of an entry, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Entry {
    /// A blob.
    Blob(Digest),
    /// A catalog, by its file name.
    Catalog(String),
    /// Anything else, or a directory: not imported.
    Ignored,
}

/// Parses a name with either slash: RCC on Windows writes backslashes. `None` for a name that is rejected.
pub(super) fn parse(name: &[u8]) -> Option<Entry> {
    let name = String::from_utf8_lossy(name).replace('\\', "/");
    let mut name = name.as_str();
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    let outside = name.is_empty()
        || name.starts_with('/')
        || name.contains(':')
        || name.split('/').any(|part| part == "..");
    if outside || name.chars().any(char::is_control) {
        return None;
    }
    if let Some(file) = name.strip_prefix("catalog/") {
        return Some(if is_catalog(file) { Entry::Catalog(file.to_owned()) } else { Entry::Ignored });
    }
    let Some(place) = name.strip_prefix("library/") else { return Some(Entry::Ignored) };
    let Ok(digest) = place.rsplit('/').next()?.parse::<Digest>() else { return Some(Entry::Ignored) };
    (blob_path(&digest).to_str() == Some(place)).then_some(Entry::Blob(digest))
}

/// True for RCC's name of a catalog: 16 hex digits, `v12.`, and any platform in Go's notation.
pub fn is_catalog(name: &str) -> bool {
    let Some((hash, platform)) = name.split_once("v12.") else { return false };
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let known = platform.split_once('_').is_some_and(|(os, cpu)| word(os) && word(cpu));
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
        assert_eq!(parse(format!("./catalog/{name}").as_bytes()), Some(Entry::Catalog(name.into())));
        let foreign = "14023a1f332a0231v12.plan9_mips";
        assert_eq!(parse(format!("catalog/{foreign}").as_bytes()), Some(Entry::Catalog(foreign.into())));
    }

    #[test]
    fn what_is_harmless_is_passed_over() {
        let names = [
            "library/aa/bb/",
            "catalog/",
            "./",
            ".DS_Store",
            "library/.DS_Store",
            "__MACOSX/library/._x",
            "README.md",
            "used/14023a1f332a0231.59acff1",
            "catalog/compress.no",
            "catalog/14023a1f332a0231v12.linux_amd64.info",
            "catalog/14023a1f332a0231v11.linux_amd64",
            "catalog/14023A1f332a0231v12.linux_amd64",
            "Library/x",
            "robot.yaml",
        ];
        for name in names.iter().filter(|name| **name != "./") {
            assert_eq!(parse(name.as_bytes()), Some(Entry::Ignored), "{name}");
        }
        assert_eq!(parse(b"catalog/\xff"), Some(Entry::Ignored));
    }

    #[test]
    fn what_leads_outside_or_belongs_elsewhere_is_refused() {
        let digest = Digest::of(Regime::SipHash128, b"x").to_string();
        let names = [
            String::new(),
            "/".into(),
            "../catalog/14023a1f332a0231v12.linux_amd64".into(),
            "/catalog/14023a1f332a0231v12.linux_amd64".into(),
            "catalog/../14023a1f332a0231v12.linux_amd64".into(),
            r"C:\catalog\x".into(),
            r"x\..\..\y".into(),
            "a\nb".into(),
            format!("library/{digest}"),
            format!("library/00/00/00/{digest}"),
            format!("library/../library/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6]),
        ];
        for name in names {
            assert_eq!(parse(name.as_bytes()), None, "{name}");
        }
    }
}
