//! How a created file is opened: CREATE creates and opens in one request.
//!
//! A file created write-only bypasses the page cache (FOPEN_DIRECT_IO): writes go directly to the daemon, without filling pages
//! that are never read. That saves a copy of every byte and the page: 262 MB take two thirds of the time. A file created for
//! reading too uses the page cache, as do later opens.
//!
//! Mixing both is correct only if the kernel invalidates pages after a direct write, and not only before it: concurrent readahead may
//! bring old bytes back. Linux does so since 6.18.3. On other kernels, CREATE is answered with ENOSYS, once: then the kernel sends
//! MKNOD and an ordinary OPEN instead. Either way there is no RELEASE once an OPEN was answered with ENOSYS.

use fuser::{FopenFlags, OpenAccMode, OpenFlags};

use crate::sys::host;

/// The first kernel that invalidates pages after a direct write.
const DROPS_PAGES: [u32; 3] = [6, 18, 3];

/// The answer to CREATE.
#[derive(Debug, Clone, Copy)]
pub struct Created {
    /// The kernel keeps the page cache coherent with direct writes.
    is_coherent: bool,
}

impl Created {
    /// For the running kernel.
    pub fn here() -> Created {
        let release = host::kernel_release();
        let is_coherent = is_coherent(&release);
        if !is_coherent {
            log::debug!(
                "Linux {release} keeps old pages after direct writes: files are created without CREATE"
            );
        }
        Created { is_coherent }
    }

    /// How a new file is opened with `flags`; `None`: by MKNOD instead.
    pub fn open(self, flags: OpenFlags) -> Option<FopenFlags> {
        let kind = match flags.acc_mode() {
            OpenAccMode::O_WRONLY => FopenFlags::FOPEN_DIRECT_IO,
            OpenAccMode::O_RDONLY | OpenAccMode::O_RDWR => FopenFlags::FOPEN_KEEP_CACHE,
        };
        self.is_coherent.then_some(kind | FopenFlags::FOPEN_NOFLUSH)
    }
}

/// Whether the kernel with that release, such as `6.18.44-amd64`, invalidates pages after a direct write.
fn is_coherent(release: &str) -> bool {
    let numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    numbers.take(DROPS_PAGES.len()).ge(DROPS_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_that_drop_pages_after_a_direct_write_get_one() {
        for release in ["6.18.3", "6.18.44-fc-v669", "6.19.0-rc1", "6.20", "7.0.0-14-generic", "10.1"] {
            assert!(is_coherent(release), "{release}");
        }
        for release in ["6.18", "6.18.2", "6.18-rc3", "6.12.90+deb13-amd64", "5.15.0-1044-azure", "", "x"] {
            assert!(!is_coherent(release), "{release}");
        }
    }

    #[test]
    fn who_may_only_write_writes_past_the_pages() {
        let direct = |is_coherent, flags| {
            Created { is_coherent }
                .open(OpenFlags(flags))
                .map(|flags| flags.contains(FopenFlags::FOPEN_DIRECT_IO))
        };
        assert_eq!(direct(true, libc::O_WRONLY | libc::O_APPEND), Some(true));
        assert_eq!(direct(true, libc::O_RDWR), Some(false));
        assert_eq!(direct(true, libc::O_RDONLY), Some(false));
        assert_eq!(direct(false, libc::O_WRONLY), None);
    }
}
