//! Anonymous files in memory.

use std::fs::File;
use std::io;

/// An empty file in memory, for writing and reading. On platforms without memfd it is an unlinked temporary file.
pub fn create() -> io::Result<File> {
    imp::create()
}

/// Makes the content of a file from [`create`] final: no holder of the descriptor can change it any more.
pub fn seal(file: &File) -> io::Result<()> {
    imp::seal(file)
}

#[cfg(target_os = "linux")]
mod imp {
    use super::{File, io};
    use rustix::fs::{MemfdFlags, SealFlags};
    use rustix::io::Errno;

    /// How often the kernel is asked to seal a file; each time it waits 150 ms for pages in use.
    const ATTEMPTS: usize = 20;

    pub fn create() -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(rustix::fs::memfd_create("holofs-blob", flags)?.into())
    }

    pub fn seal(file: &File) -> io::Result<()> {
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        // A page that the kernel moves at this moment counts as in use, and a busy machine may take its time (memfd_wait_for_pins).
        let mut sealed = rustix::fs::fcntl_add_seals(file, all);
        for _ in 1..ATTEMPTS {
            if sealed != Err(Errno::BUSY) {
                break;
            }
            sealed = rustix::fs::fcntl_add_seals(file, all);
        }
        Ok(sealed?)
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{File, io};

    pub fn create() -> io::Result<File> {
        tempfile::tempfile()
    }

    pub fn seal(_: &File) -> io::Result<()> {
        Ok(()) // the descriptor is only shared as a read-only type
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_sealed_file_takes_no_more_bytes() {
        let mut file = create().unwrap();
        file.write_all(b"final").unwrap();
        seal(&file).unwrap();
        assert_eq!(file.write_all(b"more").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(file.metadata().unwrap().len(), 5);
    }

    #[test]
    fn a_page_in_use_for_a_while_does_not_keep_a_file_from_being_sealed() {
        let mut file = create().unwrap();
        file.write_all(&[1; 4096]).unwrap();
        // The pipe refers to the page until it is read.
        let (mut reader, writer) = io::pipe().unwrap();
        let flags = rustix::pipe::SpliceFlags::empty();
        assert_eq!(rustix::pipe::splice(&file, Some(&mut 0), &writer, None, 4096, flags), Ok(4096));
        let reading = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(400));
            reader.read_exact(&mut [0; 4096]).unwrap();
        });
        seal(&file).unwrap();
        reading.join().unwrap();
        assert_eq!(file.write_all(b"more").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
