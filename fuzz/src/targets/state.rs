//! Our own files after another program changed them: records of mounts, profiles, settings, bytecode, `.meta`, fingerprints, and the
//! written state of a space. Any content gives a result in bounded time, and no file is created elsewhere.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holofs::fs::fuse::profile::{Item, Profile};
use holofs::fs::upper::{Access, Options, Upper};
use holofs::rcc::digest::{Digest, Regime};
use holofs::rcc::home::{Environment, Home, Settings};
use holofs::space::bytecode::pack::{self, Fresh, Pack};
use holofs::space::{MountState, Space, files};
use holofs::store::fingerprints::Fingerprints;
use holofs::store::index::Ino;
use holofs::store::observe::Tally;
use holofs::sys::fs::beneath::facts_of_file;
use holofs::sys::fs::place::Place;

/// The catalog to which everything belongs.
fn catalog() -> Digest {
    Digest::of(Regime::Sha256, b"catalog")
}

/// The first byte selects the file; the rest is its content.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let temp = tempfile::tempdir_in(place).unwrap();
    let dir = temp.path().join("state");
    std::fs::create_dir(&dir).unwrap();
    let here = Place::top(&dir);
    match kind % 7 {
        0 => {
            std::fs::write(dir.join(files::MOUNT), bytes).unwrap();
            let read = MountState::read_in(&here);
            assert!(
                read.is_err() || read.is_ok_and(|state| state.is_some()),
                "an existing record is reported as missing"
            );
        }
        1 => profile(&String::from_utf8_lossy(bytes)),
        2 => settings(&dir, bytes),
        3 => bytecode(&here, bytes),
        4 => meta(&dir, bytes),
        5 => {
            std::fs::write(dir.join("seals"), bytes).unwrap();
            let facts = facts_of_file(&std::fs::File::open(dir.join("seals")).unwrap()).unwrap();
            assert!(!Fingerprints::new(here).hold("name", &facts), "sealed by a file that cannot know it");
        }
        _ => written(&here, bytes),
    }
    let names: Vec<PathBuf> =
        std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, [dir], "something was made elsewhere");
}

fn profile(text: &str) {
    let Some(read) = Profile::from_text(text, &catalog()) else { return };
    assert!(read.items().len() <= text.len());
    assert_eq!(Profile::from_text(&read.to_text(&catalog()), &catalog()), Some(read));
}

fn home(root: &Path) -> Home {
    let given = root.to_owned();
    let var = move |name: &str| match name {
        "HOME" => Some(OsString::from("/nonexistent")),
        "ROBOCORP_HOME" => Some(given.clone().into_os_string()),
        _ => None,
    };
    Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap()
}

fn settings(dir: &Path, bytes: &[u8]) {
    std::fs::write(dir.join("settings.yaml"), bytes).unwrap();
    if let Err(error) = Settings::read(&home(dir)) {
        assert!(error.to_string().len() < 5_000);
    }
}

/// A piece is returned only if it matches its digest.
fn bytecode(dir: &Place, bytes: &[u8]) {
    let place = dir.below("pack");
    place.publish(bytes).unwrap();
    let Ok(Some(mut pack)) = Pack::open(&place, catalog()) else { return };
    let mut all = 0;
    let read = pack.for_each(|piece, bytes| {
        all += bytes.map_or(0, <[u8]>::len);
        assert!(bytes.is_none_or(|bytes| bytes.len() as u64 == piece.size));
        Ok(true)
    });
    assert!(all <= bytes.len() || read.is_err(), "more came out than is in");
}

fn meta(dir: &Path, bytes: &[u8]) {
    let space = Space::new(&home(dir), &dir.join("holotree"), "user", "space");
    std::fs::create_dir_all(dir.join("holotree")).unwrap();
    std::fs::write(space.sibling(".meta"), bytes).unwrap();
    if let Some(meta) = space.old_meta() {
        assert!(meta.id == Digest::of(Regime::Sha256, bytes));
    }
}

/// `state.db`: opened for reading and for writing, and once more after that.
fn written(dir: &Place, bytes: &[u8]) {
    std::fs::write(dir.join("state.db"), bytes).unwrap();
    for access in [Access::ReadOnly, Access::Writable, Access::Writable] {
        let options = Options { access, descriptors: NonZeroUsize::MIN };
        let Ok(upper) = Upper::open(dir.clone(), &catalog(), &options, Arc::new(Tally::new())) else {
            continue;
        };
        if upper.check_tree(|_| None).is_err() {
            continue;
        }
        for (ino, _) in upper.inodes() {
            let _known = upper.attributes(ino).is_ok();
            upper.directory(ino, |directory| directory.map(|directory| directory.before(u64::MAX).count()));
        }
    }
}

/// Every file in its valid form.
pub fn seeds(_golden: &Path) -> Vec<Vec<u8>> {
    let mut known = Profile::default();
    known.add(Item::Read { ino: Ino(7), chunk: 3 });
    known.add(Item::Miss { dir: Ino(1), name: b"x\xff".as_slice().into() });
    let mount = br#"{"pid":12,"started":345,"catalog":"aa","catalog_path":"/c","mountpoint":"/m","mode":"read-write","rung":"fuse","reason":"","device":52,"namespace":7,"kept_in":[7],"options":{"io":"no-open","allow_other":false,"uid":null,"gid":null,"no_exec":false},"meta":null}"#;
    let settings = b"certificates:\n  verify-ssl: true\nnetwork:\n  https-proxy: http://proxy\nendpoints:\n  pypi: https://pypi.invalid/simple\n";
    let seal = b"name 12 1610000000 5\nother 13 1610000000 6\n";
    let meta = super::catalog::gzip(br#"{"rcc":"v18","identity":"h59acff1_493f813dad24d3t","path":"/b/h59acff1_493f813dad24d3t","controller":"user","space":"s","platform":"linux_amd64","blueprint":"14023a1f332a0231","tree":{"name":"","mode":2147484141,"subdirs":{},"files":{}}}"#);
    let tagged = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let text = known.to_text(&catalog());
    let mut seeds = vec![
        tagged(0, mount),
        tagged(1, text.as_bytes()),
        tagged(2, settings),
        tagged(3, &packed()),
        tagged(4, &meta),
        tagged(5, seal),
    ];
    // The most complex file is tried most often.
    seeds.extend(std::iter::repeat_n(tagged(6, &database()), 3));
    seeds
}

fn packed() -> Vec<u8> {
    let temp = tempfile::tempdir().unwrap();
    let place = Place::top(temp.path()).below("pack");
    let piece = |name: &str| {
        let mut bytes = vec![7; 40];
        bytes[4..8].copy_from_slice(&[3, 0, 0, 0]);
        Fresh {
            path: format!("lib/__pycache__/{name}.cpython-312.pyc"),
            imported: true,
            origin: String::new(),
            bytes,
        }
    };
    pack::add(&place, catalog(), vec![piece("one"), piece("two")], &[]).unwrap();
    assert!(Pack::open(&place, catalog()).unwrap().is_some());
    place.read(1 << 20).unwrap()
}

/// A space with one change of each kind.
fn database() -> Vec<u8> {
    use holofs::fs::vfs::{Caller, New, SetMode};
    let temp = tempfile::tempdir().unwrap();
    let vfs = super::vfs::open_as(&catalog(), temp.path());
    let caller = Caller { uid: 0, gid: 0 };
    let dir = vfs.make(caller, Ino::ROOT, b"dir", 0o755, New::Dir).unwrap().ino;
    let file = vfs.make(caller, dir, b"file", 0o644, New::File).unwrap().ino;
    vfs.make(caller, dir, b"link", 0o777, New::Link(b"file")).unwrap();
    vfs.setxattr(file, b"user.name", b"value", SetMode::Either).unwrap();
    vfs.link(file, Ino::ROOT, b"other").unwrap();
    vfs.unlink(Ino::ROOT, b"tool").unwrap();
    drop(vfs);
    std::fs::read(temp.path().join("state.db")).unwrap()
}
