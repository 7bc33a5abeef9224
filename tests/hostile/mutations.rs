//! Every file that we or RCC keep, with randomly changed bytes: read two thousand times by the library, and sometimes by the program. There
//! is never a panic, a hang, a wrong byte of the catalog, or a write elsewhere.
//!
//! `remotes::` mutates remotes and our copies of them; `fuzz::` mutates their answers, and requests to the mount helper.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use holofs::fs::upper::{Access, Options, Upper};
use holofs::fs::vfs::{Vfs, View};
use holofs::rcc::home::{Environment, Home, Settings};
use holofs::space::Space;
use holofs::space::relocated::Relocated;
use holofs::store::index::{Index, Ino, NodeKind};
use holofs::store::observe::Tally;
use holofs::store::{Library, Limits, Store};

use super::bounds::within;
use super::fuzz::mutate;
use crate::common::golden::{CATALOG, Regime};
use crate::common::random::Random;
use crate::common::test_home::TestHome;
use crate::common::{PATIENCE, run, said, soak, stderr, stdout, until};

/// Files larger than this are not read each time.
const SMALL: u64 = 20_000;

/// A home in which everything was used once.
struct World {
    test_home: TestHome,
    home: Home,
    /// The space that was written to as a mount.
    state: PathBuf,
    /// Digests and contents of the catalog's files in that space.
    right: BTreeMap<u64, (String, Vec<u8>)>,
}

impl World {
    fn new() -> World {
        let test_home = TestHome::golden(Regime::Gzip);
        fs::write(
            test_home.home().join("settings.yaml"),
            "certificates:\n  verify-ssl: true\nnetwork:\n  https-proxy: x\n",
        )
        .unwrap();
        test_home.materialize(CATALOG, "laid", "user");
        let mounted = test_home.mount(CATALOG, "written", "user", &[]);
        let state = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap());
        fs::write(mounted.path().join("new"), "new").unwrap();
        fs::create_dir(mounted.path().join("dir")).unwrap();
        fs::rename(mounted.path().join("new"), mounted.path().join("dir/moved")).unwrap();
        until(|| fs::read_dir(state.join("relocated")).is_ok_and(|mut entries| entries.next().is_some()));
        run(Command::new("find")
            .arg(mounted.path())
            .args(["-type", "f", "-size", "-90k", "-exec", "cat", "{}", "+"]));
        mounted.unmount();
        let (user, given) =
            (test_home.user().as_os_str().to_owned(), test_home.home().as_os_str().to_owned());
        let var = move |name: &str| match name {
            "HOME" => Some(user.clone()),
            "ROBOCORP_HOME" => Some(given.clone()),
            _ => None,
        };
        let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
        let mut world = World { test_home, home, state, right: BTreeMap::new() };
        let vfs = world.open().unwrap(); // still unchanged
        assert!(vfs.lookup(Ino::ROOT, b"dir").is_ok(), "what was written is not shown");
        let files = vfs.index().nodes().filter_map(|node| match node.kind {
            NodeKind::File(file) if file.size <= SMALL => {
                Some((node.ino.0, (file.digest.to_string(), read(&vfs, node.ino, file.size)?)))
            }
            _ => None,
        });
        world.right = files.collect();
        assert_eq!(world.look(vfs.index(), Path::new(""), 0), 0, "a home that nobody touched");
        assert!(world.right.len() > 40, "{}", world.right.len());
        world
    }

    /// The written space, without a mount; `None` if an error reports what is wrong with it.
    fn open(&self) -> Option<Vfs> {
        let (index, _) = Index::ensure(self.home.index_dir(), &self.home.catalog_dir().join(CATALOG)).ok()?;
        let index = Arc::new(index);
        let tally = Arc::new(Tally::new());
        let library = Library::open(&self.home.library()).unwrap();
        let store =
            Arc::new(Store::open(library, self.home.raw_dir(), Limits::default(), Arc::clone(&tally) as _));
        let space = Space::new(&self.home, index.base(), "user", "written");
        let label = space.label.as_bytes();
        let relocated = Relocated::new(&space.state_dir, &index, label, store, Arc::clone(&tally) as _);
        relocated.fill(&index, &AtomicBool::new(false));
        let options = Options { access: Access::ReadOnly, descriptors: NonZeroUsize::new(4).unwrap() };
        let upper = Upper::open(&space.state_dir, &index.id(), &options, tally).ok()?;
        upper.check_tree(|ino| index.node(ino).map(|node| node.parent)).ok()?;
        let view = View { uid: 0, gid: 0, dir_mode: 0o750 };
        Some(Vfs::with_upper(index, Arc::new(relocated), Arc::new(upper), view, false))
    }

    /// Reads all our files, and compares what has a known right content: the files that `file` affects, and more in each `round`. Returns how
    /// many are refused.
    fn look(&self, right_index: &Index, file: &Path, round: u64) -> usize {
        let space = Space::new(&self.home, right_index.base(), "user", "written");
        let laid = Space::new(&self.home, right_index.base(), "user", "laid");
        let mut refused = 0;
        refused += usize::from(laid.restored_state().is_err()) + usize::from(laid.old_meta().is_none());
        refused += usize::from(space.mount_state().is_err());
        refused += usize::from(Settings::read(&self.home).is_err());
        let Some(vfs) = self.open() else { return refused + 1 };
        if vfs.index().id() != right_index.id() {
            return refused; // it is another catalog now, with unknown content
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (&ino, (digest, right)) in &self.right {
            if ino % 7 != round % 7 && !name.starts_with(digest) && name != ino.to_string() {
                continue;
            }
            match read(&vfs, Ino(ino), right.len() as u64) {
                Some(content) if !vfs.has_own_bytes(Ino(ino)) => {
                    assert!(content == *right, "wrong bytes in inode {ino}")
                }
                Some(_) => {}
                None => refused += 1,
            }
        }
        refused
    }

    /// All our files, by kind.
    fn files(&self) -> Vec<Vec<PathBuf>> {
        let home = self.test_home.home();
        let dirs = [
            "hololib/catalog",
            "hololib/library",
            "holofs/index",
            "holofs/raw",
            "holofs/spaces",
            "holofs/profiles",
        ];
        let mut kinds: Vec<Vec<PathBuf>> = dirs.iter().map(|dir| files_in(&home.join(dir), SMALL)).collect();
        kinds.push(
            files_in(&self.test_home.holotree(), SMALL)
                .into_iter()
                .filter(|path| path.extension().is_some_and(|it| it == "meta"))
                .collect(),
        );
        kinds.push(vec![home.join("settings.yaml")]);
        kinds.push(files_in(&self.state, SMALL));
        assert!(kinds.iter().all(|kind| !kind.is_empty()), "{kinds:?}");
        kinds
    }

    /// All other files, with their contents.
    fn outside(&self) -> BTreeMap<PathBuf, u64> {
        let user = files_in(self.test_home.user(), u64::MAX);
        let home = fs::read_dir(self.test_home.home()).unwrap().map(|entry| entry.unwrap().path());
        let home = home.filter(|path| !path.ends_with("temp"));
        let parent =
            fs::read_dir(self.test_home.home().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        user.into_iter().chain(home).chain(parent).map(|path| (path, 0)).collect()
    }
}

fn read(vfs: &Vfs, ino: Ino, size: u64) -> Option<Vec<u8>> {
    let mut content = vec![0; usize::try_from(size).unwrap()];
    let count = vfs.read(ino, 0, &mut content).ok()?;
    (count == content.len()).then_some(content)
}

fn files_in(dir: &Path, most: u64) -> Vec<PathBuf> {
    let output = Command::new("find").arg(dir).args(["-type", "f"]).output().unwrap();
    let all = stdout(&output);
    let mut files: Vec<PathBuf> = all.lines().map(PathBuf::from).collect();
    files.retain(|path| path.metadata().is_ok_and(|meta| meta.len() <= most && meta.len() > 0));
    files.sort();
    files
}

/// One change to one file, undone when dropped.
struct Mutation {
    file: PathBuf,
    /// The content of its directory: code that finds damage may change more of it.
    neighbors: BTreeMap<PathBuf, Vec<u8>>,
}

impl Mutation {
    fn new(world: &World, random: &mut Random, kinds: &[Vec<PathBuf>]) -> Mutation {
        let kind = &kinds[random.index(kinds.len())];
        let (file, original) = loop {
            // Damaged files may have been removed.
            let file = &kind[random.index(kind.len())];
            if let Ok(content) = fs::read(file) {
                break (file.clone(), content);
            }
        };
        let other = fs::read(&kind[random.index(kind.len())]).unwrap_or_default();
        let mut changed = original.clone();
        mutate(random, &mut changed, &other);
        let state = world.test_home.home().join("holofs");
        let is_remade =
            ["raw", "relocated"].iter().any(|dir| file.components().any(|part| part.as_os_str() == *dir));
        let neighbors = if is_remade { BTreeMap::new() } else { directly_in(file.parent().unwrap()) };
        if file.starts_with(world.test_home.hololib().join("library")) {
            // So that it is read.
            let digest = file.file_name().unwrap().to_str().unwrap();
            for raw in files_in(&state.join("raw").join(&digest[..2]), u64::MAX) {
                fs::remove_file(raw).unwrap();
            }
        }
        let time = file.metadata().unwrap().modified().unwrap();
        overwrite(&file, &changed);
        if random.index(2) == 0 {
            File::open(&file).unwrap().set_modified(time).unwrap();
        }
        Mutation { file, neighbors }
    }
}

/// Writes in place, as careless programs do.
fn overwrite(file: &Path, content: &[u8]) {
    if fs::write(file, content).is_err() {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(file, content).unwrap();
    }
}

/// The files of a directory, not of those below.
pub(super) fn directly_in(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

impl Drop for Mutation {
    fn drop(&mut self) {
        if self.neighbors.is_empty() {
            return; // it was recreated, or will be
        }
        for (path, content) in directly_in(self.file.parent().unwrap()) {
            match self.neighbors.get(&path) {
                None => fs::remove_file(&path).unwrap(),
                Some(before) if *before == content => {}
                Some(before) => overwrite(&path, before),
            }
        }
        self.neighbors
            .iter()
            .filter(|(path, _)| !path.exists())
            .for_each(|(path, content)| overwrite(path, content));
    }
}

#[test]
fn read_of_our_own_files_never_shows_wrong_content_whatever_is_in_them() {
    let world = World::new();
    let mut random = Random::new(0x5eed_0000_2000_0001);
    let (index, _) = Index::ensure(world.home.index_dir(), &world.home.catalog_dir().join(CATALOG)).unwrap();
    let (outside, mut kinds) = (world.outside(), world.files());
    let (inputs, started) = (soak::amount(2_000, 50_000), Instant::now());
    let (mut refused, mut done) = (0, 0);
    for round in 0..inputs {
        if round % 100 == 0 {
            kinds = world.files();
        }
        let mutation = Mutation::new(&world, &mut random, &kinds);
        let looked = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| world.look(&index, &mutation.file, round)));
        let file = &mutation.file;
        refused += usize::from(outcome.unwrap_or_else(|_| panic!("input {round}: {}", file.display())) > 0);
        assert!(looked.elapsed() < PATIENCE, "input {round} takes too long: {}", file.display());
        drop(mutation);
        done += 1;
    }
    assert_eq!(world.outside(), outside);
    eprintln!("{done} inputs, {refused} refused, {:?}", started.elapsed());
    assert!(refused * 20 > done, "only {refused} of {done} were noticed at all: this test shows little");
}

#[test]
fn commands_survive_any_content_of_our_own_files() {
    let world = World::new();
    let mut random = Random::new(0x5eed_0000_0000_0020);
    let (outside, kinds) = (world.outside(), world.files());
    for round in 0..soak::amount(12, 500) {
        let mutation = Mutation::new(&world, &mut random, &kinds);
        for args in [
            &["run", CATALOG, "written", "--", "cat", "/dev/null"][..],
            &["diff", "written"],
            &["materialize", CATALOG, "laid"],
            &["list", "--json"],
            &["check"],
        ] {
            let output = within(&mut world.test_home.holofs_command(args), PATIENCE);
            let what = format!("input {round}, {}: {args:?}: {}", mutation.file.display(), said(&output));
            assert!(output.status.code().is_some_and(|code| code < 128 && code != 101), "{what}");
            assert!(!stderr(&output).contains("panicked"), "{what}");
        }
        world.test_home.holofs(&["unmount", "written", "--lazy"]);
        until(|| crate::common::mounted::daemons_of(&world.test_home).is_empty());
        drop(mutation);
    }
    assert_eq!(world.outside(), outside);
}
