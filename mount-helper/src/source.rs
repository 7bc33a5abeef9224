//! The source of a mount, which `mount` and `df` show: a different one for each.
//!
//! The kernel gives the device number of a file system to the next one as soon as the last mount of the first is gone. So the number alone
//! does not identify a mount in another mount namespace; number and source do.
//!
//! It has only characters that /proc/<pid>/mountinfo shows as they are, and no colon, by which `df` recognizes network file systems.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A source that no other mount has.
pub fn unique() -> String {
    format!("holofs-{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mount_has_its_own_source() {
        let sources = [unique(), unique()];
        assert_ne!(sources[0], sources[1]);
        for source in sources {
            let (name, number) = source.split_once('-').unwrap_or_default();
            assert_eq!((name, number.len()), ("holofs", 16));
        }
    }
}
