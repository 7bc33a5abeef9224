//! The directory in which an environment is built: RCC's own stage, so that RCC could have built there too.
//!
//! It is removed on drop. Leftovers of a killed build are removed by the next one, which holds the same lock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::rcc::home::Home;
use crate::space::materialize;
use crate::sys::fs::{dir, shared, stat};
use crate::sys::host;

use super::BuildError;

/// Where RCC keeps the specification.
const IDENTITY: &str = "identity.yaml";

/// A stage that is removed with this value.
pub struct Stage {
    path: PathBuf,
    /// Its device and inode.
    id: (u64, u64),
    is_removed: bool,
}

impl Stage {
    /// An empty stage.
    pub fn create(home: &Home) -> Result<Stage, BuildError> {
        let path = home.holotree().join(home.stage_identity(host::GOOS, host::GOARCH));
        let mut stage = Stage { path, id: (0, 0), is_removed: true };
        stage.delete()?;
        shared::ensure_dir(home.holotree(), home.is_shared()).map_err(stage.failed("Making"))?;
        // Fails if the directory exists: another member of a shared holotree may have created it.
        dir::make_own(&stage.path).map_err(stage.failed("Making"))?;
        stage.is_removed = false;
        stage.id = stat::id_at(&stage.path).map_err(stage.failed("Looking at"))?;
        Ok(stage)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what RCC adds to a finished environment before it records it.
    /// Fails if the directory of the build was replaced by another one.
    pub fn finish(&self, specification: &str) -> Result<(), BuildError> {
        if stat::id_at(&self.path).map_err(self.failed("Looking at"))? != self.id {
            let replaced =
                io::Error::new(io::ErrorKind::PermissionDenied, "another directory has taken its place");
            return Err(self.failed("Recording")(replaced));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::home::Environment;

    fn home(root: &Path) -> Home {
        let root = root.to_owned();
        let var = move |name: &str| ["HOME", "ROBOCORP_HOME"].contains(&name).then(|| root.clone().into());
        Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap()
    }

    #[test]
    fn finish_refuses_a_directory_that_took_the_place_of_the_stage() {
        let temp = tempfile::tempdir().unwrap();
        let home = home(temp.path());
        let stage = Stage::create(&home).unwrap();
        stage.finish("specification").unwrap();
        fs::rename(stage.path(), temp.path().join("aside")).unwrap();
        fs::create_dir(stage.path()).unwrap();
        let error = stage.finish("specification").unwrap_err();
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(why, "another directory has taken its place");
        assert!(!stage.path().join(IDENTITY).exists());
    }

    #[cfg(unix)]
    #[test]
    fn create_gives_only_the_owner_the_right_to_write() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let stage = Stage::create(&home(temp.path())).unwrap();
        let mode = fs::metadata(stage.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777 & !0o750, 0);
    }
}
