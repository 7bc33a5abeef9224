//! A remote and our copies of it, with randomly changed bytes: names, heads, packs and profiles of a directory. The result is always a clear
//! error or the right bytes, never a panic, a hang, or a file outside of our directories.

#![allow(clippy::result_large_err, reason = "the functions that it calls have such errors")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use holofs::rcc::digest::Digest;
use holofs::rcc::home::{Environment, Home};
use holofs::remote::fetch::{BULK, Source};
use holofs::remote::head::Blob;
use holofs::remote::pull::Pull;
use holofs::remote::transport::{self, Access, Network, Patience, Remote};
use holofs::remote::{Address, RemoteError, lazy, profile, resolve};
use holofs::store::Library;
use holofs::store::observe::Tally;

use super::bounds::within;
use super::fuzz::mutate;
use super::mutations::directly_in;
use crate::common::golden::{CATALOG, Regime};
use crate::common::random::Random;
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, run, said, soak, stdout};

/// A directory with a pushed environment, and a home that has attached it.
struct World {
    test_home: TestHome,
    dir: PathBuf,
    address: Address,
    attached: Home,
    /// The pushed catalog.
    catalog: Vec<u8>,
    right: BTreeMap<Digest, Vec<u8>>,
}

impl World {
    fn new() -> World {
        let test_home = TestHome::golden(Regime::Gzip);
        let dir = test_home.scratch().join("remote");
        let address = format!("file://{}#prod", dir.display());
        // A run is recorded, so that there is a profile.
        test_home.holofs_ok(&[
            "run",
            CATALOG,
            "s",
            "--",
            "sh",
            "-c",
            "cat $RCC_HOLOTREE_SPACE_ROOT/bin/tool",
        ]);
        test_home.holofs(&["unmount", "s"]);
        test_home.holofs_ok(&["push", CATALOG, &address]);
        let address: Address = address.parse().unwrap();
        let attached = home(&test_home.scratch().join("attached"));
        let mut world =
            World { test_home, dir, address, attached, catalog: Vec::new(), right: BTreeMap::new() };
        let found = world.resolved().unwrap();
        world.catalog.clone_from(&found.head.stored_catalog);
        let library = Library::open(&world.test_home.hololib().join("library")).unwrap();
        for blob in found.head.blobs() {
            let mut content = Vec::new();
            library.stream(&blob.digest, blob.size, &mut content).unwrap();
            world.right.insert(blob.digest, content);
        }
        assert_eq!(world.fetch(), Ok(world.right.len()), "a remote that nobody touched");
        lazy::attach(&world.attached, &world.address, Some(&*world.remote()), None).unwrap();
        assert_eq!(world.offline(), Ok(()), "a state that nobody touched");
        world
    }

    fn remote(&self) -> Arc<dyn Remote> {
        let patience = Patience::default();
        let access = Access { var: Arc::new(|_: &str| None), patience, network: Network::default() };
        transport::open(&self.address, &access).unwrap()
    }

    fn resolved(&self) -> Result<resolve::Resolved, RemoteError> {
        resolve::resolve(&*self.remote(), &self.address, None)
    }

    fn source(&self) -> Result<Source, RemoteError> {
        let head = self.resolved()?.head;
        assert_eq!(head.stored_catalog, self.catalog, "another environment");
        Ok(Source::new(self.remote(), head, Patience::default()))
    }

    /// Fetches everything, and compares all content that is reported as right; returns the number of blobs.
    fn fetch(&self) -> Result<usize, String> {
        let source = self.source().map_err(|error| error.to_string())?;
        let named = self.remote().names().map_err(|error| error.to_string())?;
        assert!(named.len() < 10, "{named:?}");
        assert!(!source.head.blobs().is_empty());
        check_profiles(&self.dir, &source);
        let wanted: Vec<&Blob> = source.head.blobs().iter().collect();
        let outcome = source.fetch(&wanted, BULK, &|blob, open| {
            let mut content = Vec::new();
            let read = open().and_then(|mut from| std::io::Read::read_to_end(&mut from, &mut content));
            match read {
                Ok(_) => assert!(content == self.right[&blob.digest], "wrong bytes of {}", blob.digest),
                Err(error) => {
                    return Err(RemoteError::Io { doing: "Reading", path: "".into(), source: error });
                }
            }
            Ok(())
        });
        outcome.map_err(|error| error.to_string()).map(|()| wanted.len())
    }

    /// Pulls into an empty home: everything arrives or no catalog, and nothing wrong.
    fn pull(&self) -> Result<(), String> {
        let temp = tempfile::tempdir_in(self.test_home.scratch()).unwrap();
        let home = home(temp.path());
        let pulled = self.source().and_then(|source| {
            let tally = Tally::new();
            let pull = Pull::new(&home, &source.head, &tally)?;
            pull.stage(&source, None)?;
            pull.publish()
        });
        let catalog = fs::read(home.catalog_dir().join(CATALOG)).ok();
        match &pulled {
            Ok(_) => assert!(catalog.is_some_and(|found| found == self.catalog)),
            Err(_) => assert!(catalog.is_none(), "a catalog without its blobs"),
        }
        if pulled.is_ok() {
            let library = Library::open(&home.library()).unwrap();
            self.right
                .iter()
                .for_each(|(digest, content)| library.verify(digest, content.len() as u64).unwrap());
        }
        pulled.map(drop).map_err(|error| error.to_string())
    }

    /// Uses the local copies, without the remote.
    fn offline(&self) -> Result<(), String> {
        let attached =
            lazy::attach(&self.attached, &self.address, None, None).map_err(|error| error.to_string())?;
        let catalog = fs::read(&attached.catalog).map_err(|error| error.to_string())?;
        assert!(catalog == self.catalog, "another catalog");
        let first = lazy::profile(&self.attached, &attached.head);
        assert!(first.len() <= 60_000);
        lazy::origin(&self.attached, &attached.catalog).map(drop).ok_or_else(|| "no origin".to_owned())
    }

    /// Everything that is mutated: the remote's files by kind, then ours.
    fn kinds(&self) -> Vec<Vec<PathBuf>> {
        let v1 = self.dir.join("v1");
        let mut kinds: Vec<Vec<PathBuf>> =
            ["refs", "heads", "packs", "profiles"].iter().map(|kind| files_in(&v1.join(kind))).collect();
        kinds.push(files_in(self.attached.remote_dir().path()));
        assert!(kinds.iter().all(|kind| !kind.is_empty()), "{kinds:?}");
        kinds
    }
}

/// No profile of the remote has more items for this environment than bytes.
fn check_profiles(dir: &Path, source: &Source) {
    for bytes in directly_in(&dir.join("v1/profiles")).values() {
        let items = profile::Profile::parse(bytes, &source.head).items().len();
        assert!(items <= bytes.len());
    }
}

fn home(root: &Path) -> Home {
    fs::create_dir_all(root).unwrap();
    let root = root.to_owned();
    let var =
        move |name: &str| ["HOME", "ROBOCORP_HOME"].contains(&name).then(|| root.clone().into_os_string());
    Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let found = stdout(&run(Command::new("find").arg(dir).args(["-type", "f"])));
    let mut files: Vec<PathBuf> = found.lines().map(PathBuf::from).collect();
    files.sort();
    files
}

#[test]
fn read_of_a_remote_is_right_or_refused_whatever_is_in_it() {
    let world = World::new();
    let mut random = Random::new(0x5eed_0000_0600_0001);
    let (kinds, outside) = (world.kinds(), files_in(world.test_home.user()));
    let (inputs, mut refused) = (soak::amount(400, 20_000), 0);
    for round in 0..inputs {
        let kind = &kinds[random.index(kinds.len())];
        let file = &kind[random.index(kind.len())];
        let before = directly_in(file.parent().unwrap());
        let mut changed = before[file].clone();
        let other = fs::read(&kind[random.index(kind.len())]).unwrap();
        mutate(&mut random, &mut changed, &other);
        fs::write(file, &changed).unwrap();
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| match file.starts_with(&world.dir) {
            false => world.offline(),
            true if round % 8 == 0 => world.pull(),
            true => world.fetch().map(drop),
        }));
        let outcome = outcome.unwrap_or_else(|_| panic!("input {round}: {}", file.display()));
        refused += u64::from(outcome.is_err());
        assert!(started.elapsed() < PATIENCE, "input {round} takes too long: {}", file.display());
        for (path, content) in &before {
            fs::write(path, content).unwrap();
        }
    }
    assert_eq!((world.fetch(), world.offline()), (Ok(world.right.len()), Ok(())));
    assert_eq!(files_in(world.test_home.user()), outside);
    eprintln!("{inputs} inputs, {refused} refused");
    assert!(refused * 3 > inputs, "only {refused} of {inputs} were noticed: this test shows little");
}

/// A member who can write to a shared directory can put something other than a file there.
#[test]
fn pull_from_a_directory_does_not_wait_for_what_is_no_file() {
    let world = World::new();
    for kind in &world.kinds()[..4] {
        let file = kind.iter().find(|file| file.ends_with("prod")).unwrap_or(&kind[0]);
        let content = fs::read(file).unwrap();
        for planted in ["fifo", "directory", "device", "missing"] {
            fs::remove_file(file).unwrap();
            match planted {
                "fifo" => drop(run(Command::new("mkfifo").arg(file))),
                "directory" => fs::create_dir(file).unwrap(),
                "device" => symlink("/dev/zero", file).unwrap(),
                _ => {}
            }
            let fresh = TestHome::new();
            let output = within(&mut fresh.holofs_command(&["pull", &world.address.to_string()]), PATIENCE);
            let is_hint = file.starts_with(world.dir.join("v1/profiles"));
            assert_eq!(output.status.success(), is_hint, "{planted} {}: {}", file.display(), said(&output));
            assert_eq!(fresh.catalogs().is_empty(), !is_hint);
            if planted == "directory" {
                fs::remove_dir(file).unwrap()
            } else {
                drop(fs::remove_file(file))
            }
            fs::write(file, &content).unwrap();
        }
    }
}
