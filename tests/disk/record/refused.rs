//! What record refuses: entries and directories that no catalog can describe, and trees that change meanwhile.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use holofs::error::line;
use holofs::space::record::{Options, RecordError, record};
use holofs::store::observe::{Counter, Observer, Tally};

use super::{Fixture, IDENTITY};

/// Something that cannot be recorded, put into a stage.
type Plant = fn(&Path);

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn record_names_what_it_cannot_record_and_publishes_nothing() {
    let cases: [(&str, &str, Plant); 8] = [
        ("bad", "leads nowhere", |path| symlink("missing", path).unwrap()),
        ("bad", "leads nowhere", |path| symlink("bad", path).unwrap()),
        ("bad", "contains itself", |path| symlink(".", path).unwrap()),
        ("bad", "contains itself", |path| symlink("../..", path).unwrap()),
        ("bad", "a FIFO", make_fifo),
        ("bad", "a socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
        ("bad", "a device", |path| symlink("/dev/null", path).unwrap()),
        ("bad", "a FIFO", |path| {
            make_fifo(&path.with_extension("pyc")); // dropped by name, but visible through the link
            symlink("bad.pyc", path).unwrap();
        }),
    ];
    for (name, reason, plant) in cases {
        let fixture = Fixture::new();
        fixture.put("sub/good", "content");
        plant(&fixture.stage().join("sub").join(name));
        let error = fixture.record().unwrap_err().to_string();
        assert!(error.contains("sub/bad") && error.contains(reason), "{error}");
        assert!(!fixture.home.hololib().exists(), "{error}");
    }
}

#[test]
fn names_and_link_texts_that_are_not_utf8_are_refused() {
    let fixture = Fixture::new();
    let odd = fixture.stage().join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&odd, "x").unwrap();
    assert!(matches!(fixture.record(), Err(RecordError::NotUtf8 { path }) if path == odd));
    fs::remove_file(&odd).unwrap();
    let target = fixture.temp.path().join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&target, "x").unwrap();
    symlink(&target, fixture.stage().join("link")).unwrap();
    assert!(matches!(fixture.record(), Err(RecordError::NotUtf8 { .. })));
}

#[test]
fn record_does_not_look_at_excluded_names() {
    let fixture = Fixture::new();
    symlink("missing", fixture.stage().join("gone.pyc")).unwrap();
    fs::create_dir(fixture.stage().join("repo.git")).unwrap();
    make_fifo(&fixture.stage().join(".gitignore"));
    fixture.put("kept.pyo", "x");
    let recorded = fixture.record().unwrap();
    assert_eq!((recorded.files, recorded.directories), (1, 1));
}

#[test]
fn record_refuses_a_directory_whose_name_no_label_can_replace_with_advice() {
    let fixture = Fixture::new();
    for (name, expected) in [
        ("env", "24 letters"),
        ("h59acff1_493f813dad24d3t0", "24 letters"),
        ("h59acff1-493f813dad24d3t", "24 letters"),
        ("t59acff1_493f813dad24d3t", "never finds"),
        ("59acff1_5a1fac3_9fcd2535", "never finds"),
    ] {
        let dir = fixture.temp.path().join(name);
        fs::create_dir(&dir).unwrap();
        let error = record(&dir, &fixture.home, &Options::new("x"), &Tally::new()).unwrap_err();
        let error = line(&error).to_string();
        let advice =
            if cfg!(all(target_os = "linux", target_arch = "x86_64")) { IDENTITY } else { "h59acff1_" };
        assert!(error.contains(expected) && error.contains(advice) && error.contains(name), "{error}");
    }
    let missing = fixture.temp.path().join("missing");
    let error = record(&missing, &fixture.home, &Options::new("x"), &Tally::new()).unwrap_err();
    assert!(matches!(error, RecordError::Io { .. }), "{error}");
    let file = fixture.put("file", "x");
    let error = record(&file, &fixture.home, &Options::new("x"), &Tally::new()).unwrap_err();
    assert!(matches!(error, RecordError::NotADirectory { .. }), "{error}");
}

/// Changes the tree at a certain moment of the recording.
struct Meddler {
    at_start: Box<dyn Fn() + Send + Sync>,
    at_end: Box<dyn Fn() + Send + Sync>,
}

impl Observer for Meddler {
    fn count(&self, _: Counter, _: u64) {}
    fn fallback(&self, _: &'static str, _: &str) {}
    fn expect(&self, _: u64) {
        (self.at_start)();
    }
    fn advance(&self, _: u64) {
        (self.at_end)();
    }
}

#[test]
fn record_refuses_a_tree_that_changes_by_name() {
    type Change = fn(&Path);
    let append: Change = |file| {
        let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
        file.write_all(b"more").unwrap();
    };
    let changes: [(Change, Change, &str); 7] = [
        (append, |_| {}, "file"),
        (|file| fs::write(file, "CONTENT").unwrap(), |_| {}, "file"),
        (|file| fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap(), |_| {}, "file"),
        (|file| fs::write(file, "").unwrap(), |_| {}, "file"),
        (|file| fs::remove_file(file).unwrap(), |_| {}, "file"),
        (
            |file| {
                fs::remove_file(file).unwrap();
                make_fifo(file);
            },
            |_| {},
            "file",
        ),
        (|_| {}, |file| fs::write(file.with_extension("new"), "").unwrap(), IDENTITY),
    ];
    for (at_start, at_end, named) in changes {
        let fixture = Fixture::new();
        let file = fixture.put("file", "content");
        let (first, second) = (file.clone(), file);
        let meddler = Meddler {
            at_start: Box::new(move || at_start(&first)),
            at_end: Box::new(move || at_end(&second)),
        };
        let error = record(&fixture.stage(), &fixture.home, &Options::new("x"), &meddler).unwrap_err();
        let expected =
            matches!(error, RecordError::Changed { .. } | RecordError::Io { doing: "Opening", .. });
        assert!(expected && error.to_string().contains(named), "{error}");
        assert!(!fixture.home.catalog_dir().exists(), "{error}");
        assert!(fixture.hololib().keys().all(|path| !path.to_string_lossy().contains(".part#")));
    }
}
