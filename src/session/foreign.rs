//! Whether the current user may create the directory of a catalog's spaces.
//!
//! A catalog determines where its spaces are. One that was recorded below another user's home and imported here needs a directory
//! there. RCC creates it, even as root; HoloFS refuses to create anything below another user's home. `run` needs no such directory:
//! it uses the recorded path in a private namespace.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::{Class, Failure};
use crate::rcc::home::Home;
use crate::sys::process;

/// The spaces of the catalog are below another user's home.
#[derive(Debug, Clone, thiserror::Error)]
#[error("Spaces of this catalog are in {}, {why}", base.display())]
pub struct ForeignPlace {
    /// Where the spaces are.
    pub base: PathBuf,
    /// What makes it foreign.
    pub why: String,
}

impl Failure for ForeignPlace {
    fn class(&self) -> Option<Class> {
        Some(Class::CannotMount)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let base = self.base.display();
        let hint = format!(
            "`holofs run` uses that path in a private namespace, `install -d -o USER {base}` gives it to a user"
        );
        Some(hint.into())
    }
}

/// Refuses a place that does not belong to this user.
pub fn refuse(home: &Home, base: &Path) -> Result<(), ForeignPlace> {
    foreign(home, base).map_or(Ok(()), Err)
}

/// Why nothing is created at `base`; `None` if it belongs to this user or exists.
pub fn foreign(home: &Home, base: &Path) -> Option<ForeignPlace> {
    if base == home.holotree() {
        return None;
    }
    let above = base.ancestors().find(|above| above.is_dir())?;
    let why = match process::is_root() {
        true if above == base => None,
        true => not_of_root(home, base, above),
        false => crate::sys::fs::dir::may_write(above)
            .err()
            .map(|_| format!("and this user may not write to {}", above.display())),
    };
    why.map(|why| ForeignPlace { base: base.to_owned(), why })
}

/// Root can write everywhere, and would own what it creates in another user's home.
fn not_of_root(home: &Home, base: &Path, above: &Path) -> Option<String> {
    let products = [".robocorp", ".sema4ai"];
    let in_home = base.parent().filter(|dir| products.iter().any(|name| dir.ends_with(name)));
    match (owner(above), in_home) {
        (Some(uid), _) if uid != 0 => Some(format!("which does not exist, in a directory of user {uid}")),
        (_, Some(dir)) if dir != home.root() => {
            Some("which does not exist, in another user's home".to_owned())
        }
        _ => None,
    }
}

#[cfg(unix)]
fn owner(dir: &Path) -> Option<u32> {
    dir.metadata().ok().map(|found| std::os::unix::fs::MetadataExt::uid(&found))
}

#[cfg(not(unix))]
fn owner(_dir: &Path) -> Option<u32> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::rcc::home::Environment;

    #[test]
    fn a_base_below_another_home_is_foreign_until_it_is_there() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("mine");
        let var = |name: &str| (name == "ROBOCORP_HOME").then(|| root.clone().into_os_string());
        let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
        assert!(foreign(&home, home.holotree()).is_none());
        assert!(foreign(&home, &temp.path().join("elsewhere/holotree")).is_none());
        let base = temp.path().join("alice/.robocorp/holotree");
        if process::is_root() {
            let error = foreign(&home, &base).unwrap();
            assert!(error.to_string().contains("another user's home"), "{error}");
            assert!(error.hint().unwrap().contains("holofs run"), "{error}");
        } else {
            assert!(foreign(&home, &base).is_none(), "it can be created here");
            assert!(foreign(&home, Path::new("/alice/.robocorp/holotree")).is_some());
        }
        std::fs::create_dir_all(&base).unwrap();
        assert!(foreign(&home, &base).is_none());
    }
}
