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

    pub fn create() -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(rustix::fs::memfd_create("holofs-blob", flags)?.into())
    }

    pub fn seal(file: &File) -> io::Result<()> {
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        Ok(rustix::fs::fcntl_add_seals(file, all)?)
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
    use std::io::Write;

    #[test]
    fn a_sealed_file_takes_no_more_bytes() {
        let mut file = create().unwrap();
        file.write_all(b"final").unwrap();
        seal(&file).unwrap();
        assert_eq!(file.write_all(b"more").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}
