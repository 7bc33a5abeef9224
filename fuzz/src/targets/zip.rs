//! Archives of hololibs: an import creates no file outside of the home, no catalog without its blobs, and no content that was not verified.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use holofs::rcc::catalog::Catalog;
use holofs::rcc::home::{Environment, Home};
use holofs::space::archive::{Options, import};
use holofs::store::Library;
use holofs::store::observe::Tally;

/// The bytes are a `hololib.zip`.
pub fn run(data: &[u8]) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("home");
    std::fs::create_dir(&root).unwrap();
    let zip = temp.path().join("hololib.zip");
    std::fs::write(&zip, data).unwrap();
    let given = root.clone();
    let var = move |name: &str| match name {
        "HOME" => Some(OsString::from("/nonexistent")),
        "ROBOCORP_HOME" => Some(given.clone().into_os_string()),
        _ => None,
    };
    let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
    let outcome = import(&home, &zip, Options::default(), &Tally::new());
    if let Err(error) = &outcome {
        assert!(error.to_string().len() < 20_000);
    }
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [zip, root], "something was created outside the home");
    check_catalogs(&home);
}

/// Every catalog in the hololib is valid, and so are its blobs.
fn check_catalogs(home: &Home) {
    let Ok(entries) = std::fs::read_dir(home.catalog_dir()) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|extension| extension == "info") || path.ends_with("compress.no") {
            continue;
        }
        let (catalog, _) = Catalog::read(&path).unwrap_or_else(|error| panic!("published: {error}"));
        let library = Library::open(&home.library()).unwrap();
        for (digest, size) in catalog.digests() {
            library
                .verify(digest, size)
                .unwrap_or_else(|error| panic!("published without its blob: {error}"));
        }
    }
}

/// RCC's exports.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let read = |name: &str| std::fs::read(golden.join(name)).unwrap();
    vec![read("hololib-gz.zip"), read("hololib-raw.zip")]
}
