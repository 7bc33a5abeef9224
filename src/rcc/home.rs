//! Locations: RCC's product home, its hololib and spaces, and our own directories.
//!
//! [`Home::locate`] decides once, from the environment given to it, what RCC decides at startup: the product and its home, private or
//! shared, and the names that derive from the user. It creates nothing, and nothing here reads a catalog.
//!
//! ```text
//! <root>/hololib/{library,catalog,used,pids}   RCC's store     (shared: <HoloLocation>/lib/…)
//! <root>/holotree/<label>                      RCC's spaces    (shared: <HoloLocation>/<label>)
//! <root>/holofs/{raw,index,pristine,pyc,spaces} ours           (HOLOFS_HOME moves it)
//! ```
//! RCC lets all users write everywhere below its shared location, so any user could own or rename entries there. Members of a shared
//! holotree therefore share RCC's files, but each has a state directory in their own home.

mod expand;
mod find;
mod hash;
mod label;
mod product;
mod settings;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::expand::clean;
pub use self::find::{List, is_catalog_name};
pub use self::hash::{blueprint_hash, sipit};
pub use self::label::Label;
pub use self::product::{Choice, Product};
pub use self::settings::{Settings, SettingsError};
use crate::error::{Class, Failure};
use crate::sys::fs::place::Place;
use crate::sys::host;

/// Access to environment variables: only the CLI knows the real environment.
pub struct Environment<'a> {
    /// The value of a variable.
    pub var: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Environment<'_> {
    /// The value of a variable that is set and not empty.
    fn non_empty(&self, name: &str) -> Option<OsString> {
        (self.var)(name).filter(|value| !value.is_empty())
    }
}

/// The locations of one user's RCC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    hololib: PathBuf,
    holotree: PathBuf,
    holofs: Place,
    user_identity: String,
    shared: bool,
    product: Product,
    choice: Choice,
}

/// Why a location could not be determined, or a catalog not found.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A relative path, but there is no current directory.
    #[error("Cannot make {} absolute", path.display())]
    Absolute {
        /// The path as given.
        path: OsString,
        /// Why.
        source: io::Error,
    },
    /// One user in 2^40: RCC itself cannot create a space for this user.
    #[error(
        "The identity {identity:?} of the home directory {} is too short to name a space; RCC fails here too",
        home.display()
    )]
    ShortIdentity {
        /// The user's home directory.
        home: OsString,
        /// The identity that RCC derives from it.
        identity: String,
    },
    /// The catalog directory could not be read.
    #[error("Cannot list the catalogs in {}", dir.display())]
    ListCatalogs {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No catalog has this name.
    #[error("There is no catalog {what:?} in {}", dir.display())]
    CatalogNotFound {
        /// The requested name.
        what: String,
        /// The directory that was searched.
        dir: PathBuf,
        /// The existing catalogs.
        known: List,
    },
    /// A path that is not a file.
    #[error("There is no catalog file {}", path.display())]
    NoSuchCatalogFile {
        /// The path.
        path: PathBuf,
    },
    /// Several catalogs have this prefix.
    #[error("{what:?} matches several catalogs: {candidates}")]
    AmbiguousCatalog {
        /// The requested name.
        what: String,
        /// The matching catalogs.
        candidates: List,
    },
}

impl Failure for HomeError {
    fn class(&self) -> Option<Class> {
        Some(Class::NotFound)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            HomeError::Absolute { .. } => {
                Some("set ROBOCORP_HOME or SEMA4AI_HOME to an absolute path".into())
            }
            HomeError::CatalogNotFound { known, .. } => Some(format!("catalogs there: {known}").into()),
            HomeError::AmbiguousCatalog { .. } => Some("give more of the name".into()),
            HomeError::ShortIdentity { .. }
            | HomeError::ListCatalogs { .. }
            | HomeError::NoSuchCatalogFile { .. } => None,
        }
    }
}

impl Home {
    /// Determines the locations as RCC does in this environment; `flag` is the product that the user selected.
    pub fn locate(env: &Environment<'_>, flag: Option<Product>) -> Result<Home, HomeError> {
        let (product, root, choice) = Product::choose(env, flag)?;
        let shared_base = expand_path(OsStr::new(product.holo_location()), env)?;
        Home::place(env, &shared_base, (product, root, choice))
    }

    /// As [`Home::locate`], with shared holotrees at `holo_location` instead of RCC's fixed location.
    pub fn locate_with(env: &Environment<'_>, holo_location: &Path) -> Result<Home, HomeError> {
        Home::place(env, holo_location, Product::choose(env, None)?)
    }

    fn place(
        env: &Environment<'_>,
        holo_location: &Path,
        (product, root, choice): (Product, PathBuf, Choice),
    ) -> Result<Home, HomeError> {
        let user_home = (env.var)(host::USER_HOME);
        let user_identity = hash::user_identity(user_home.as_deref());
        if user_identity.len() != 7 {
            let home = user_home.unwrap_or_default();
            return Err(HomeError::ShortIdentity { home, identity: user_identity });
        }
        let mark = holo_location.join("lib/catalog/init").join(&user_identity);
        let shared = crate::sys::fs::stat::is_trusted_mark(&mark);
        let (holotree, hololib) = match shared {
            true => (holo_location.to_owned(), holo_location.join("lib")),
            false => (root.join("holotree"), root.join("hololib")),
        };
        let holofs = match env.non_empty("HOLOFS_HOME") {
            Some(given) => expand_path(&given, env)?,
            None => root.join("holofs"),
        };
        let holofs = Place::top(holofs);
        Ok(Home { root, hololib, holotree, holofs, user_identity, shared, product, choice })
    }

    /// The product of this home.
    pub fn product(&self) -> Product {
        self.product
    }

    /// Why this home was chosen.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// RCC's product home.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The content store: `library/` and `catalog/`.
    pub fn hololib(&self) -> &Path {
        &self.hololib
    }

    /// Where this user's spaces and `global.lck` are.
    pub fn holotree(&self) -> &Path {
        &self.holotree
    }

    /// The blobs.
    pub fn library(&self) -> PathBuf {
        self.hololib.join("library")
    }

    /// The catalogs.
    pub fn catalog_dir(&self) -> PathBuf {
        self.hololib.join("catalog")
    }

    /// RCC's last-use marks.
    pub fn used_dir(&self) -> PathBuf {
        self.hololib.join("used")
    }

    /// The directory for temporary files of programs, with a subdirectory for each run.
    pub fn temp_dir(&self) -> PathBuf {
        self.root.join("temp")
    }

    /// RCC's files that record the holders of locks.
    pub fn pids_dir(&self) -> PathBuf {
        self.hololib.join("pids")
    }

    /// RCC's journal of events.
    pub fn journal(&self) -> PathBuf {
        self.root.join("journals").join("event.log")
    }

    /// The lock RCC holds while it changes the hololib.
    pub fn global_lock(&self) -> PathBuf {
        self.holotree.join("global.lck")
    }

    /// The same home for a fork of this process, which must open our state itself: it has closed the descriptors of this one.
    pub fn unopened(&self) -> Home {
        Home { holofs: Place::top(self.holofs.path()), ..self.clone() }
    }

    /// Our own state.
    pub fn holofs(&self) -> &Place {
        &self.holofs
    }

    /// Inflated, verified blobs.
    pub fn raw_dir(&self) -> Place {
        self.holofs.below("raw")
    }

    /// Compiled catalogs.
    pub fn index_dir(&self) -> Place {
        self.holofs.below("index")
    }

    /// Pristine trees.
    pub fn pristine_dir(&self) -> Place {
        self.holofs.below("pristine")
    }

    /// Bytecode caches.
    pub fn pyc_dir(&self) -> Place {
        self.holofs.below("pyc")
    }

    /// What runs read first, per catalog.
    pub fn profiles_dir(&self) -> Place {
        self.holofs.below("profiles")
    }

    /// State of remote environments, and downloads in progress.
    pub fn remote_dir(&self) -> Place {
        self.holofs.below("remote")
    }

    /// Where `check --repair` moves damaged files.
    pub fn quarantine_dir(&self) -> Place {
        self.holofs.below("quarantine")
    }

    /// This machine's local channel, which RCC puts before all others.
    pub fn local_channel(&self) -> Option<PathBuf> {
        let dir = self.root.join("channel");
        dir.join("channeldata.json").metadata().is_ok_and(|found| !found.is_dir()).then_some(dir)
    }

    /// Our state of all spaces.
    pub fn spaces_dir(&self) -> Place {
        self.holofs.below("spaces")
    }

    /// Our state of the space `label` of `base`: bases other than the private one get a suffix. (A user who joins a shared holotree
    /// keeps the labels of the private one.)
    pub fn space_dir(&self, base: &Path, label: &Label) -> Place {
        if base == self.root.join("holotree") {
            return self.spaces_dir().below(label.as_str()).as_top();
        }
        let other = hash::textual(sipit(base.as_os_str().as_encoded_bytes()), 8);
        self.spaces_dir().below(format!("{label}-{other}")).as_top()
    }

    /// RCC's `UserHomeIdentity`: 7 characters.
    pub fn user_identity(&self) -> &str {
        &self.user_identity
    }

    /// True if this user takes part in the machine's shared holotree.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// True if new blobs are compressed (and named by SHA-256): RCC's `compress.no` is absent.
    pub fn is_compressed(&self) -> bool {
        let marker = self.catalog_dir().join("compress.no");
        !marker.metadata().is_ok_and(|found| !found.is_dir())
    }

    /// The label of this user's space for `controller` (without RCC's `rcc.`) and `space`.
    pub fn label(&self, controller: &str, space: &str) -> Label {
        let controller = hash::textual(sipit(controller_identity(controller)), 7);
        let space = hash::textual(sipit(space), 8);
        let text = format!("{}_{controller}_{space}", self.user_identity);
        Label::new(text.as_bytes()).unwrap_or_else(|| unreachable!("7 + 1 + 7 + 1 + 8 plain characters"))
    }

    /// The name of the directory in which this user's RCC builds for a platform: the identity in its catalogs.
    pub fn stage_identity(&self, goos: &str, goarch: &str) -> String {
        let platform = format!("{goos} {goarch}").to_lowercase();
        format!("h{}_{}t", self.user_identity, hash::textual(sipit(platform), 14))
    }

    /// Finds the one catalog that `what` means: a hash, a unique prefix, a catalog's file name, or a path. If catalogs of several
    /// platforms match, this machine's is taken.
    pub fn find_catalog(&self, what: &str) -> Result<PathBuf, HomeError> {
        find::find(&self.catalog_dir(), what)
    }

    /// All catalogs of the hololib, sorted.
    pub fn catalogs(&self) -> Result<Vec<PathBuf>, HomeError> {
        find::catalogs(&self.catalog_dir())
    }
}

/// RCC's name of a controller, as in `.meta` and in the journal.
pub fn controller_identity(controller: &str) -> String {
    format!("rcc.{controller}").to_lowercase()
}

/// This machine's platform in RCC's notation, such as `linux_amd64`.
pub fn platform() -> String {
    format!("{}_{}", host::GOOS, host::GOARCH)
}

fn expand_path(text: &OsStr, env: &Environment<'_>) -> Result<PathBuf, HomeError> {
    expand::expand_path(text, env).map_err(|source| HomeError::Absolute { path: text.to_owned(), source })
}

#[cfg(test)]
mod tests;
