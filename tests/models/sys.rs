//! The parts of the system that `space` uses, in this model.

pub mod fs {
    pub mod place {
        /// The name of a lock file: there is only one in this model.
        #[derive(Debug, Clone, Default)]
        pub struct Place(std::path::PathBuf);

        impl std::ops::Deref for Place {
            type Target = std::path::Path;

            fn deref(&self) -> &std::path::Path {
                &self.0
            }
        }
    }

    pub mod lock {
        use std::io::{Result, Seek, Write};

        use super::place::Place;
        use crate::space::sync::{File, read};

        pub fn open_own(_place: &Place) -> Result<File> {
            Ok(File::open_or_make())
        }

        pub fn look_at(place: &Place) -> Result<File> {
            File::open(place)
        }

        pub fn is_still_own(file: &File, _place: &Place) -> Result<bool> {
            Ok(file.is_still_there())
        }

        pub fn sign(file: &mut File, _place: &Place, text: &[u8]) -> Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text)
        }

        pub fn signature(place: &Place) -> Result<Vec<u8>> {
            read(place)
        }
    }
}

pub mod process {
    /// A thread of the model stands for a process. None of them dies while it holds a lock: the kernel would release the lock, as if the
    /// process had written no name into it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    pub struct Process(usize);

    impl Process {
        pub fn current() -> Process {
            Process(shuttle::current::me().into())
        }

        pub fn is_alive(&self) -> bool {
            true
        }

        pub fn exists(&self) -> bool {
            true
        }
    }
}
