//! A private home with the golden hololib, and operations of tests on it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use holofs::rcc::home::{Environment, Home};
use holofs::space::Space;
use holofs::space::materialize::{
    Job, MaterializeError, MaterializeReport, Options, Strategy, WarmedTree, materialize, warm,
};
use holofs::store::index::Index;
use holofs::store::observe::Tally;
use holofs::store::{Library, Limits, Store};
use serde_json::Value;

use crate::common::golden;

/// The file name of the golden catalogs.
const CATALOG: &str = "14023a1f332a0231v12.linux_amd64";
const GOLDEN_BASE: &str = "/tmp/holofs-golden/holotree";
const GOLDEN_SPACE: &str = "59acff1_ed69061_b99589a1";

pub struct World {
    root: PathBuf,
    /// Removed when dropped.
    _temp: Option<tempfile::TempDir>,
    pub home: Home,
    pub catalog: PathBuf,
    pub space: Space,
}

/// As root, the golden tree keeps its setuid bits only with the option.
pub const ALL_BITS: Options = Options {
    strategy: Strategy::Auto,
    verify: false,
    allow_setuid: true,
    wait: holofs::space::Wait::Not,
    warm: false,
    threads: None,
};

impl World {
    pub fn new(regime: &str) -> World {
        let temp = tempfile::tempdir().unwrap();
        let world = World::new_in(regime, temp.path());
        World { _temp: Some(temp), ..world }
    }

    /// A new world in a permanent directory: the root of a file system.
    pub fn new_in(regime: &str, root: &Path) -> World {
        let world = World::at(root);
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
        fs::create_dir_all(world.home.holotree()).unwrap();
        untar(&golden.join(format!("hololib-dir-{regime}.tar.gz")), world.home.root());
        untar(&golden.join(format!("restored-{regime}.tar.gz")), root);
        world.edit_catalog(|catalog| {
            let path = catalog["path"].as_str().unwrap();
            let base = world.home.holotree().to_str().unwrap();
            catalog["path"] = path.replace(GOLDEN_BASE, base).into();
        });
        world
    }

    /// The world in an existing, permanent directory.
    pub fn at(root: &Path) -> World {
        let rcc = root.join("rcc");
        let var = |name: &str| match name {
            "HOME" => Some(OsString::from("/home/user")),
            "ROBOCORP_HOME" => Some(rcc.clone().into_os_string()),
            _ => None,
        };
        let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
        let space = Space::new(&home, home.holotree(), "golden", "interop");
        let catalog = home.catalog_dir().join(CATALOG);
        World { root: root.to_owned(), _temp: None, home, catalog, space }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The space as RCC restored it.
    pub fn golden(&self) -> PathBuf {
        self.root.join(GOLDEN_SPACE)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&golden::inflate(&fs::read(&self.catalog).unwrap())).unwrap()
    }

    pub fn edit_catalog(&self, edit: impl FnOnce(&mut Value)) {
        let mut catalog = self.json();
        edit(&mut catalog);
        fs::write(&self.catalog, golden::deflate(&catalog.to_string())).unwrap();
    }

    pub fn materialize(&self, options: &Options) -> Result<MaterializeReport, MaterializeError> {
        let (index, _) = Index::ensure(self.home.index_dir(), &self.catalog).unwrap();
        let observer = Tally::new();
        let store = self.store();
        let job = Job::new(&self.home, &self.catalog, &index, &store, &self.space);
        materialize(&job, options, &observer, &|_| {})
    }

    /// The same home with another space of the same catalog.
    pub fn other(&self, name: &str) -> World {
        let world = World::at(&self.root);
        World { space: Space::new(&world.home, world.home.holotree(), "golden", name), ..world }
    }

    /// The golden tree in a space of another name: its label is in the relocated files.
    pub fn golden_as(&self, other: &World) -> PathBuf {
        let path = self.root.join(format!("golden-{}", other.space.label));
        crate::common::oracle::restore(&other.json(), &other.home.library(), &{
            // The oracle writes the label that is the name of the directory.
            let named = path.join(other.space.label.as_str());
            fs::create_dir_all(&path).unwrap();
            named
        });
        path.join(other.space.label.as_str())
    }

    pub fn store(&self) -> Store {
        let library = Library::open(&self.home.library()).unwrap();
        Store::open(library, self.home.raw_dir(), Limits::default(), Arc::new(Tally::new()))
    }

    /// Lays the catalog out. A process that another test is just starting can hold our locks for an instant.
    pub fn warm(&self, index: &Index) -> WarmedTree {
        loop {
            match warm(&self.home, index, &self.store(), &Tally::new(), None) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
                made => return made.unwrap(),
            }
        }
    }

    pub fn restore(&self) -> MaterializeReport {
        self.materialize(&ALL_BITS).unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// A path in the space.
    pub fn file(&self, path: &str) -> PathBuf {
        self.space.root.join(path)
    }

    /// The names next to the space.
    pub fn siblings(&self) -> Vec<String> {
        let names = fs::read_dir(&self.space.base).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The catalog's blob with the content of a golden file that is not relocated.
    pub fn blob_of(&self, path: &str) -> PathBuf {
        let mut dir = &self.json()["tree"].clone();
        let (dirs, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in dirs.split('/').filter(|part| !part.is_empty()) {
            dir = &dir["subdirs"][part];
        }
        let digest = dir["files"][name]["digest"].as_str().unwrap().to_owned();
        self.home.library().join(&digest[..2]).join(&digest[2..4]).join(&digest[4..6]).join(&digest)
    }
}

fn untar(archive: &Path, into: &Path) {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--gzip", "--preserve-permissions", "--no-same-owner", "--file"]).arg(archive);
    assert!(tar.arg("--directory").arg(into).status().unwrap().success());
}
