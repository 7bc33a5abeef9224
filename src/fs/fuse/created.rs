//! How a file is opened by who makes it: CREATE makes and opens in one request.
//!
//! Who may only write gets a descriptor past the kernel's pages (FOPEN_DIRECT_IO): what he writes goes to the daemon at once and
//! not into a page first that nobody has asked for. That saves a copy of every byte and the page: 262 MB take two thirds of the time. Who
//! may also read gets pages, as whoever opens the file later does.
//!
//! Both at once is right only if the kernel drops the pages a direct write has made old, and does so after the write: who reads
//! ahead meanwhile may bring old bytes back. Linux does since 6.18.3. Where it does not, CREATE is answered ENOSYS, once: then the
//! kernel makes a node and goes on as if it had been there. Either way there is no RELEASE once an OPEN was answered ENOSYS.

use fuser::{FopenFlags, OpenAccMode, OpenFlags};

use crate::sys::host;

/// The first kernel that drops the pages after a direct write.
const DROPS_PAGES: [u32; 3] = [6, 18, 3];

/// What CREATE is answered with.
#[derive(Debug, Clone, Copy)]
pub struct Created {
    /// The kernel keeps pages right beside direct writes.
    is_coherent: bool,
}

impl Created {
    /// On this kernel.
    pub fn here() -> Created {
        let release = host::kernel_release();
        let is_coherent = is_coherent(&release);
        if !is_coherent {
            log::debug!(
                "Linux {release} keeps old pages beside direct writes: files are made without CREATE"
            );
        }
        Created { is_coherent }
    }

    /// How a new file is opened with `flags`; `None`: it is made as a node.
    pub fn open(self, flags: OpenFlags) -> Option<FopenFlags> {
        let kind = match flags.acc_mode() {
            OpenAccMode::O_WRONLY => FopenFlags::FOPEN_DIRECT_IO,
            OpenAccMode::O_RDONLY | OpenAccMode::O_RDWR => FopenFlags::FOPEN_KEEP_CACHE,
        };
        self.is_coherent.then_some(kind | FopenFlags::FOPEN_NOFLUSH)
    }
}

/// Whether the kernel of that release, such as `6.18.44-amd64`, drops pages after a direct write.
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
