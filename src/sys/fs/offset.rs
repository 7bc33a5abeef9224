//! Reading and writing files at offsets, independent of their position.

#[cfg(unix)]
pub use std::os::unix::fs::FileExt;

#[cfg(windows)]
pub use windows::FileExt;

#[cfg(windows)]
mod windows {
    use std::fs::File;
    use std::io;
    use std::os::windows::fs::FileExt as System;

    /// The equivalent of the Unix trait of that name. It moves the file position, so nothing may rely on it.
    pub trait FileExt {
        /// Reads at `offset`: may read fewer bytes than requested; zero means the end.
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
        /// Writes at `offset`: may write fewer bytes than given.
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

        /// Fills `buffer`; a shorter file is an error of kind `UnexpectedEof`.
        fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
            while !buffer.is_empty() {
                match self.read_at(buffer, offset) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => {
                        buffer = &mut buffer[count..];
                        offset += count as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }

        /// Writes all of `bytes`.
        fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
            while !bytes.is_empty() {
                match self.write_at(bytes, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        bytes = &bytes[count..];
                        offset += count as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }

    impl FileExt for File {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            System::seek_read(self, buffer, offset)
        }

        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            System::seek_write(self, bytes, offset)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileExt;

    #[test]
    fn bytes_are_read_and_written_where_they_are() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"behind", 6).unwrap();
        file.write_all_at(b"before", 0).unwrap();
        let mut read = [0; 6];
        file.read_exact_at(&mut read, 3).unwrap();
        assert_eq!(&read, b"orebeh");
        assert_eq!(file.read_at(&mut read, 10).unwrap(), 2);
        assert_eq!(file.read_exact_at(&mut read, 10).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}
