//! The directory in which an environment is built: RCC's own stage, so that RCC could have built there too.
//!
//! It is removed on drop. Leftovers of a killed build are removed by the next one, which holds the same lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::rcc::home::Home;
use crate::space::materialize;
use crate::sys::host;

use super::BuildError;

/// Where RCC keeps the specification.
const IDENTITY: &str = "identity.yaml";

/// A stage that is removed with this value.
pub struct Stage {
    path: PathBuf,
    is_removed: bool,
}

impl Stage {
    /// An empty stage.
    pub fn create(home: &Home) -> Result<Stage, BuildError> {
        let path = home.holotree().join(home.stage_identity(host::GOOS, host::GOARCH));
        let stage = Stage { path, is_removed: false };
        stage.delete()?;
        fs::create_dir_all(&stage.path).map_err(stage.failed("Making"))?;
        Ok(stage)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what RCC adds to a finished environment before it records it.
    pub fn finish(&self, specification: &str) -> Result<(), BuildError> {
        fs::write(self.path.join(IDENTITY), specification).map_err(self.failed("Writing the identity of"))
    }

    /// Removes it; fails if that did not work. Its files are set aside if possible: the caller has them deleted in the background.
    pub fn remove(mut self) -> Result<(), BuildError> {
        self.is_removed = true;
        materialize::set_aside(&self.path).or_else(|_| self.delete())
    }

    fn delete(&self) -> Result<(), BuildError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed("Looking at")(error)),
            Ok(found) if found.is_dir() => fs::remove_dir_all(&self.path).map_err(self.failed("Removing")),
            Ok(_) => fs::remove_file(&self.path).map_err(self.failed("Removing")),
        }
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> BuildError {
        let path = self.path.clone();
        move |source| BuildError::Stage { doing, path, source }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_removed
            && let Err(error) = self.delete()
        {
            log::warn!("{error}");
        }
    }
}
