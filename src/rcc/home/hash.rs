//! RCC's short hashes: names of blueprints, controllers, spaces and users.

use std::ffi::OsStr;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

/// RCC's `Sipit`: SipHash-2-4 with its usual keys.
pub fn sipit(bytes: impl AsRef<[u8]>) -> u64 {
    siphash(9_007_199_254_740_993, 2_147_483_647, bytes.as_ref())
}

/// RCC's blueprint hash: `sipit` of the normalized text as 16 hex digits.
pub fn blueprint_hash(text: &str) -> String {
    textual(sipit(text), 16)
}

/// The first `length` of the 16 hex digits of `hash`.
pub(super) fn textual(hash: u64, length: usize) -> String {
    let mut text = format!("{hash:016x}");
    text.truncate(length);
    text
}

/// RCC's `UserHomeIdentity`. Both keys differ from those of [`sipit`], and RCC prints the number without leading zeros
/// before it takes seven digits.
pub(super) fn user_identity(home: Option<&OsStr>) -> String {
    let Some(home) = home.filter(|home| !home.is_empty()) else {
        return "badcafe".to_owned();
    };
    let hash = siphash(9_007_799_254_740_993, 2_147_487_647, home.as_encoded_bytes());
    let mut text = format!("{hash:02x}");
    text.truncate(7);
    text
}

fn siphash(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(k0, k1);
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_identities_match_rcc() {
        let vectors = [
            ("/root", "720c7a8"),
            ("/home/user", "59acff1"),
            ("/home/runner", "62fb83f"),
            ("/Users/runner", "d027bb0"),
            (r"C:\Users\runneradmin", "3b120bf"),
            ("/home/u41", "7ab4c65"), // 07ab4c6525dcac71 without its leading zero
            ("", "badcafe"),
        ];
        for (home, expected) in vectors {
            assert_eq!(user_identity(Some(OsStr::new(home))), expected, "{home}");
        }
        assert_eq!(user_identity(None), "badcafe");
    }

    #[test]
    fn short_hashes_match_rcc() {
        for (text, expected) in [("rcc.user", "5a1fac3"), ("rcc.venv", "0722a93"), ("rcc.citests", "4e67cd8")]
        {
            assert_eq!(textual(sipit(text), 7), expected, "{text}");
        }
        assert_eq!(textual(sipit("user"), 8), "9fcd2534");
        let platforms = [
            ("linux amd64", 0x493f_813d_ad24_d3e4),
            ("linux arm64", 0xeb55_8489_e116_a16e),
            ("darwin amd64", 0x0cc3_ca83_0dec_7f56),
            ("darwin arm64", 0xa8bb_a878_689c_204c),
            ("windows amd64", 0x4441_2bd2_016a_11cd),
            ("windows arm64", 0xf220_5552_d319_ee31),
        ];
        for (platform, expected) in platforms {
            assert_eq!(sipit(platform), expected, "{platform}");
        }
    }

    #[test]
    fn blueprint_hashes_match_rcc() {
        let pinned = "channels:\n- conda-forge\ndependencies:\n- python=3.10.12\n- uv=0.9.22\n";
        let pip = "- pip:\n  - robocorp==1.6.2\n  - robocorp-actions==0.0.7";
        let vectors = [
            ("channels:\n- conda-forge\ndependencies:\n- ca-certificates".to_owned(), "c34ed96c2d8a459a"),
            ("channels:\n- conda-forge\ndependencies:\n- python=3.7.8".to_owned(), "79ba58276b645f09"),
            (format!("{pinned}{pip}"), "00db64afd9c178e7"),
            (
                "channels: []\ndependencies:\n- python=3.12.8\n- uv=0.6.1\n- pip:\n  - a==1".to_owned(),
                "07258da83de269a4",
            ),
            ("channels: []\ndependencies:\n- python=3.12.8".to_owned(), "547f1ccbe5dc992e"),
            (format!("{pinned}- pytest=8.3.3\n{pip}\n  - ruff==0.7.0"), "d43926661d3dae1f"),
        ];
        for (text, expected) in vectors {
            assert_eq!(blueprint_hash(&text), expected, "{text}");
        }
    }
}
