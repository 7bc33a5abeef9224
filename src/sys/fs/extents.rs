//! Where the bytes of a file lie on the disk, to count blocks that several files share (reflinks) once.

use std::fs::File;
use std::io;

/// A range of the disk that a file shares with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shared {
    /// Its first byte on the disk.
    pub at: u64,
    /// Its length, uncompressed.
    pub len: u64,
    /// Compressed or otherwise encoded: it takes fewer bytes of the disk than `len`, so that only its start identifies it.
    pub is_encoded: bool,
}

/// The ranges of `file` that it shares with other files, or with a snapshot of itself. Fails with `Unsupported` if the file system
/// does not report them.
pub fn shared(file: &File) -> io::Result<Vec<Shared>> {
    imp::shared(file)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;

    use super::Shared;

    /// FS_IOC_FIEMAP: `_IOWR('f', 11, struct fiemap)`.
    const FIEMAP: u64 = 0xc020_660b;
    const EXTENT_LAST: u32 = 0x1;
    const EXTENT_ENCODED: u32 = 0x8;
    const EXTENT_SHARED: u32 = 0x2000;
    /// How many extents one call returns.
    const BATCH: usize = 64;

    /// `struct fiemap_extent`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Extent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved64: [u64; 2],
        flags: u32,
        reserved: [u32; 3],
    }

    /// `struct fiemap` with room for the answer.
    #[repr(C)]
    struct Map {
        start: u64,
        length: u64,
        flags: u32,
        mapped_extents: u32,
        extent_count: u32,
        reserved: u32,
        extents: [Extent; BATCH],
    }

    const _: () = assert!(size_of::<Extent>() == 56 && size_of::<Map>() == 32 + BATCH * 56);

    pub fn shared(file: &File) -> io::Result<Vec<Shared>> {
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            let map = map(file, start)?;
            let extents = &map.extents[..(map.mapped_extents as usize).min(BATCH)];
            found.extend(extents.iter().filter(|extent| extent.flags & EXTENT_SHARED != 0).map(|extent| {
                let is_encoded = extent.flags & EXTENT_ENCODED != 0;
                Shared { at: extent.physical, len: extent.length, is_encoded }
            }));
            match extents.last() {
                // An answer that does not advance would cause an endless loop.
                Some(last) if last.flags & EXTENT_LAST == 0 && last.logical + last.length > start => {
                    start = last.logical + last.length;
                }
                _ => return Ok(found),
            }
        }
    }

    /// The extents of `file` from the offset `start`.
    fn map(file: &File, start: u64) -> io::Result<Map> {
        let none =
            Extent { logical: 0, physical: 0, length: 0, reserved64: [0; 2], flags: 0, reserved: [0; 3] };
        let mut map = Map {
            start,
            length: u64::MAX - start,
            flags: 0,
            mapped_extents: 0,
            extent_count: BATCH as u32,
            reserved: 0,
            extents: [none; BATCH],
        };
        // SAFETY: the descriptor is open during the call, and `map` is a `struct fiemap` with room for `extent_count` extents, which
        // is all that the kernel writes. Every bit pattern is valid for its fields.
        #[allow(unsafe_code)]
        let code = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, &raw mut map) };
        match (code, io::Error::last_os_error()) {
            (0, _) => Ok(map),
            (_, error) if error.raw_os_error() == Some(libc::ENOTTY) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            (_, error) => Err(error),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::fs::File;
    use std::io;

    use super::Shared;

    pub fn shared(_file: &File) -> io::Result<Vec<Shared>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_of_its_own_shares_nothing_or_the_file_system_does_not_tell() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        file.sync_all().unwrap();
        match shared(&file) {
            Ok(found) => assert_eq!(found, []),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
    }
}
