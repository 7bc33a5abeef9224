//! The law of `hololib.zip`: both programs read each other's archives, and nothing hostile or damaged is imported.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use crate::common::compare::assert_same_space;
use crate::common::exit;
use crate::common::fixed::FixedHome;
use crate::common::golden::{self, Regime};
use crate::common::rcc::rcc;
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, run, stderr};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The entries of a zip file.
type Entries = Vec<(String, Vec<u8>)>;
/// A change to the bytes of one entry.
type Change = &'static dyn Fn(&[u8]) -> Vec<u8>;

fn entries(path: &Path) -> Entries {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let read = |at: usize, archive: &mut ZipArchive<File>| {
        let mut entry = archive.by_index(at).unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.name().to_owned(), bytes)
    };
    (0..archive.len()).map(|at| read(at, &mut archive)).collect()
}

fn pack(path: &Path, entries: &Entries) {
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file(name.as_str(), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn golden_zip(regime: Regime) -> PathBuf {
    golden::file(match regime {
        Regime::Gzip => "hololib-gz.zip",
        Regime::Raw => "hololib-raw.zip",
    })
}

/// An empty home whose hololib takes blobs of that kind.
fn empty(regime: Regime) -> TestHome {
    let test_home = TestHome::new();
    if regime == Regime::Raw {
        fs::create_dir_all(test_home.hololib().join("catalog")).unwrap();
        fs::write(test_home.hololib().join("catalog/compress.no"), "present").unwrap();
    }
    test_home
}

fn import(test_home: &TestHome, zip: &Path) -> serde_json::Value {
    json(&test_home.holofs_ok(&["import", zip.to_str().unwrap(), "--json"]))[0].clone()
}

/// Every file below the hololib, except marks of use, by path.
fn hololib(test_home: &TestHome) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![test_home.hololib()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push((
                    path.strip_prefix(test_home.hololib()).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                ));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn import_takes_what_rcc_exported_blob_for_blob() {
    for regime in Regime::BOTH {
        let test_home = empty(regime);
        let report = import(&test_home, &golden_zip(regime));
        assert_eq!(report["catalogs"], serde_json::json!([golden::CATALOG]), "{regime:?}");
        let mut expected: Entries = entries(&golden_zip(regime));
        expected.sort();
        let mut imported = hololib(&test_home);
        imported.retain(|(path, _)| path != Path::new("catalog/compress.no"));
        let imported: Entries =
            imported.into_iter().map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes)).collect();
        assert_eq!(imported, expected, "{regime:?}");
        test_home.holofs_ok(&["check"]);
    }
}

#[test]
fn export_is_imported_and_restored_by_either_rcc() {
    for version in [17, 19] {
        let Some(rcc) = rcc(version) else { return };
        let fixed = FixedHome::take();
        let test_home = &fixed.test_home;
        import(test_home, &golden_zip(Regime::Gzip));
        let zip = test_home.scratch().join("ours.zip");
        test_home.holofs_ok(&["export", golden::BLUEPRINT, "-z", zip.to_str().unwrap()]);
        fs::remove_dir_all(test_home.hololib()).unwrap();
        rcc.import(test_home, &zip);
        let (theirs, dirty) = rcc.restore(test_home, &golden::file("golden.yaml"), "interop", "theirs");
        assert!(dirty.dirty > 0);
        assert_same_space(&golden::unpack_restored(Regime::Gzip, &test_home.scratch()), &theirs);
        rcc.run(test_home, &["holotree", "check"]);
        assert_eq!(test_home.catalogs(), [golden::CATALOG]);
        fs::remove_file(&zip).unwrap();
    }
}

#[test]
fn import_is_restored_by_either_rcc() {
    for version in [17, 19] {
        let Some(rcc) = rcc(version) else { return };
        for regime in Regime::BOTH {
            let fixed = FixedHome::take();
            if regime == Regime::Raw {
                fs::create_dir_all(fixed.test_home.hololib().join("catalog")).unwrap();
                fs::write(fixed.test_home.hololib().join("catalog/compress.no"), "present").unwrap();
            }
            import(&fixed.test_home, &golden_zip(regime));
            let (theirs, _) =
                rcc.restore(&fixed.test_home, &golden::file("golden.yaml"), "golden", "interop");
            assert_same_space(&golden::unpack_restored(regime, &fixed.test_home.scratch()), &theirs);
            fixed.test_home.holofs_ok(&["check"]);
            // RCC's check considers a raw blob damaged if its content is itself gzip, and deletes the catalog.
            if regime == Regime::Gzip {
                rcc.run(&fixed.test_home, &["holotree", "check"]);
                assert_eq!(fixed.test_home.catalogs(), [golden::CATALOG]);
            }
        }
    }
}

#[test]
fn export_holds_what_an_export_of_rcc_holds() {
    let Some(rcc) = rcc(17) else { return };
    for regime in Regime::BOTH {
        let test_home = TestHome::golden(regime);
        let (ours, theirs) = (test_home.scratch().join("ours.zip"), test_home.scratch().join("theirs.zip"));
        test_home.holofs_ok(&["export", "14023", "-z", ours.to_str().unwrap()]);
        rcc.run(&test_home, &["holotree", "export", "-z", theirs.to_str().unwrap(), golden::BLUEPRINT]);
        let sorted = |path: &Path| {
            let mut all = entries(path);
            all.sort();
            all
        };
        assert!(sorted(&ours) == sorted(&theirs), "{regime:?}");
        assert!(entries(&ours).last().unwrap().0.starts_with("catalog/"));
    }
}

#[test]
fn backslashes_are_slashes() {
    let test_home = TestHome::new();
    let zip = test_home.scratch().join("windows.zip");
    let windows: Entries = entries(&golden_zip(Regime::Gzip))
        .into_iter()
        .map(|(name, bytes)| (name.replace('/', "\\"), bytes))
        .collect();
    pack(&zip, &windows);
    import(&test_home, &zip);
    let usual = TestHome::new();
    import(&usual, &golden_zip(Regime::Gzip));
    assert_eq!(hololib(&test_home), hololib(&usual));
}

#[test]
fn import_refuses_a_file_with_a_name_outside_a_hololib() {
    let good = entries(&golden_zip(Regime::Gzip));
    let digest = "7".repeat(64);
    let misplaced = format!("library/00/00/00/{digest}");
    let outside =
        ["../../evil", "/tmp/holofs-evil", "library/../../evil", "catalog\\..\\..\\evil", "C:\\evil"];
    for name in outside.map(str::to_owned).into_iter().chain([misplaced]) {
        let test_home = TestHome::new();
        let zip = test_home.scratch().join("bad.zip");
        pack(&zip, &[good.clone(), vec![(name.clone(), b"x".to_vec())]].concat());
        let output = test_home.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
        assert!(stderr(&output).contains("nothing was imported"), "{}", stderr(&output));
        assert_eq!(hololib(&test_home), [], "{name}");
        let entry_count = fs::read_dir(test_home.scratch()).unwrap().count();
        assert_eq!(entry_count, 1, "{name} was written outside");
    }
}

#[test]
fn import_ignores_other_files_that_programs_and_rcc_put_into_a_zip() {
    let test_home = TestHome::new();
    let zip = test_home.scratch().join("more.zip");
    let foreign = catalog_of("windows_amd64", r"C:\\ProgramData\\robocorp\\ht");
    let mut all: Entries = entries(&golden_zip(Regime::Gzip))
        .into_iter()
        .map(|(name, bytes)| (format!("./{name}"), bytes))
        .collect();
    let others = [
        ".DS_Store".to_owned(),
        "README.md".to_owned(),
        "__MACOSX/library/._x".to_owned(),
        format!("library/AA/AA/AA/{}", "A".repeat(64)),
        format!("catalog/{}.info", golden::CATALOG),
        "catalog/compress.no".to_owned(),
        "catalog/14023a1f332a0231v13.linux_amd64".to_owned(),
        "used/14023a1f332a0231.59acff1".to_owned(),
        "robot.yaml".to_owned(),
    ];
    all.extend(others.iter().map(|name| (name.clone(), b"x".to_vec())));
    all.push(("catalog/14023a1f332a0231v12.windows_amd64".to_owned(), foreign));
    pack(&zip, &all);
    let report = import(&test_home, &zip);
    assert_eq!(number_field(&report, "files_ignored"), others.len() as u64);
    assert_eq!(test_home.catalogs(), [golden::CATALOG, "14023a1f332a0231v12.windows_amd64"]);
    assert!(
        !test_home.hololib().join("catalog/compress.no").exists()
            && !test_home.hololib().join("used").exists()
    );
    test_home.holofs_ok(&["check"]);
}

/// The golden catalog as another platform would have recorded it, with its base spelled as in JSON.
fn catalog_of(platform: &str, base: &str) -> Vec<u8> {
    let (_, stored) = entries(&golden_zip(Regime::Gzip))
        .into_iter()
        .find(|(name, _)| name.starts_with("catalog/"))
        .unwrap();
    let separator = if platform.starts_with("windows") { r"\\" } else { "/" };
    let text = golden::inflate(&stored).replacen("\"linux_amd64\"", &format!("\"{platform}\""), 1).replacen(
        &format!("{}/", golden::BASE),
        &format!("{base}{separator}"),
        1,
    );
    golden::deflate(&text)
}

#[test]
fn import_refuses_a_file_with_a_name_twice() {
    let test_home = TestHome::new();
    let good = entries(&golden_zip(Regime::Gzip));
    let zip = test_home.scratch().join("bad.zip");
    let (name, bytes) = good[0].clone();
    pack(&zip, &[good, vec![(name.replace('/', "\\"), bytes)]].concat());
    test_home.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
    assert_eq!(hololib(&test_home), []);
}

/// The golden zip with one entry changed.
fn changed(test_home: &TestHome, which: impl Fn(&str) -> bool, change: impl Fn(&[u8]) -> Vec<u8>) -> PathBuf {
    let zip = test_home.scratch().join("bad.zip");
    let mut all = entries(&golden_zip(Regime::Gzip));
    let (_, bytes) = all.iter_mut().find(|(name, _)| which(name)).unwrap();
    *bytes = change(bytes);
    pack(&zip, &all);
    zip
}

#[test]
fn import_refuses_a_file_with_a_bad_catalog() {
    let is_catalog = |name: &str| name.starts_with("catalog/");
    let changes: [Change; 5] = [
        &|bytes| bytes[..bytes.len() / 2].to_vec(),
        &|_| b"{}".to_vec(),
        &|bytes| golden::deflate(&golden::inflate(bytes).replacen("14023a1f332a0231", "24023a1f332a0231", 1)),
        &|bytes| golden::deflate(&golden::inflate(bytes).replacen("\"size\": ", "\"size\": -", 1)),
        &|_| golden::deflate(&"[".repeat(1_000_000)),
    ];
    for change in changes {
        let test_home = TestHome::new();
        let zip = changed(&test_home, is_catalog, change);
        test_home.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
        assert_eq!(hololib(&test_home), []);
    }
}

#[test]
fn import_leaves_out_a_bad_blob_and_its_catalog_and_keeps_the_rest() {
    let is_blob = |name: &str| name.starts_with("library/");
    let changes: [Change; 6] = [
        &|bytes| bytes[..bytes.len() - 1].to_vec(),
        &|_| Vec::new(),
        &|_| b"anything".to_vec(),
        &|bytes| [bytes, b"more"].concat(),
        // Two bombs: in the gzip of the blob, and in the zip that contains it.
        &|_| golden::gzip(&vec![0; 64 << 20]),
        &|_| vec![0x1f; 64 << 20],
    ];
    for change in changes {
        let test_home = TestHome::new();
        let zip = changed(&test_home, is_blob, change);
        let output = test_home.holofs_fails(&["import", zip.to_str().unwrap()], exit::DAMAGE);
        assert!(stderr(&output).contains("bad.zip"), "{}", stderr(&output));
        assert_eq!(test_home.catalogs(), Vec::<String>::new());
        let library = hololib(&test_home);
        assert_eq!(library.len(), entries(&golden_zip(Regime::Gzip)).len() - 2);
        assert!(library.iter().all(|(path, _)| !path.to_str().unwrap().contains(".part")), "a part is left");
        let report = import(&test_home, &golden_zip(Regime::Gzip));
        assert_eq!(number_field(&report, "blobs_written"), 1);
        assert_eq!(number_field(&report, "blobs_present"), library.len() as u64);
        test_home.holofs_ok(&["check"]);
    }
}

#[test]
fn import_reports_a_missing_blob_unless_the_hololib_has_it() {
    let test_home = TestHome::new();
    let zip = test_home.scratch().join("delta.zip");
    let mut all = entries(&golden_zip(Regime::Gzip));
    all.retain(|(name, _)| name.starts_with("catalog/"));
    pack(&zip, &all);
    test_home.holofs_fails(&["import", zip.to_str().unwrap()], exit::DAMAGE);
    assert_eq!(test_home.catalogs(), Vec::<String>::new());
    import(&test_home, &golden_zip(Regime::Gzip));
    fs::remove_file(test_home.hololib().join("catalog").join(golden::CATALOG)).unwrap();
    let report = import(&test_home, &zip);
    assert_eq!(report["catalogs"], serde_json::json!([golden::CATALOG]));
    assert_eq!(number_field(&report, "blobs_written"), 0);
}

#[test]
fn import_leaves_out_a_blob_that_no_catalog_names() {
    let test_home = TestHome::new();
    let zip = test_home.scratch().join("more.zip");
    let digest = "7".repeat(64);
    let more = vec![(format!("library/77/77/77/{digest}"), vec![0; 100])];
    pack(&zip, &[entries(&golden_zip(Regime::Gzip)), more].concat());
    assert_eq!(number_field(&import(&test_home, &zip), "blobs_ignored"), 1);
    assert!(!test_home.hololib().join("library/77/77/77").exists());
}

#[test]
fn import_moves_a_damaged_blob_of_the_hololib_aside_and_replaces_it() {
    let test_home = TestHome::new();
    import(&test_home, &golden_zip(Regime::Gzip));
    let (path, _) = hololib(&test_home).into_iter().rfind(|(path, _)| path.starts_with("library")).unwrap();
    fs::write(test_home.hololib().join(&path), b"damage").unwrap();
    let report = import(&test_home, &golden_zip(Regime::Gzip));
    assert_eq!(number_field(&report, "blobs_repaired"), 1);
    let aside = test_home.home().join("holofs/quarantine").join(path.file_name().unwrap());
    assert_eq!(fs::read(aside).unwrap(), b"damage");
    test_home.holofs_ok(&["check"]);
}

#[test]
fn blobs_of_the_other_kind_are_refused_unless_requested() {
    let test_home = empty(Regime::Raw);
    let zip = golden_zip(Regime::Gzip);
    let output = test_home.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
    assert!(stderr(&output).contains("compress.no"), "{}", stderr(&output));
    test_home.holofs_ok(&["import", zip.to_str().unwrap(), "--mixed"]);
    test_home.holofs_ok(&["check"]);
}

#[test]
fn import_distinguishes_a_file_that_is_not_a_zip_from_a_missing_file() {
    let test_home = TestHome::new();
    let path = test_home.scratch().join("x.zip");
    let name = path.to_str().unwrap();
    test_home.holofs_fails(&["import", name], exit::NOT_FOUND);
    fs::write(&path, "no zip").unwrap();
    test_home.holofs_fails(&["import", name], exit::BAD_CATALOG);
    ZipWriter::new(File::create(&path).unwrap()).finish().unwrap();
    test_home.holofs_fails(&["import", name], exit::BAD_CATALOG);
    let mut fifo = test_home.command("mkfifo");
    fs::remove_file(&path).unwrap();
    run(fifo.arg(&path));
    test_home.holofs_fails(&["import", "https://example.com/x.zip"], exit::IO);
    assert_eq!(hololib(&test_home), []);
}

#[test]
fn export_of_a_damaged_environment_leaves_no_file() {
    let test_home = TestHome::golden(Regime::Gzip);
    let (path, _) = hololib(&test_home).into_iter().rfind(|(path, _)| path.starts_with("library")).unwrap();
    fs::write(test_home.hololib().join(path), b"damage").unwrap();
    let zip = test_home.scratch().join("x.zip");
    test_home.holofs_fails(&["export", "14", "-z", zip.to_str().unwrap()], exit::DAMAGE);
    assert_eq!(fs::read_dir(test_home.scratch()).unwrap().count(), 0);
    test_home.holofs_fails(&["export", "ff", "-z", zip.to_str().unwrap()], exit::NOT_FOUND);
}

#[test]
fn zstd_is_exported_as_gzip_so_that_rcc_can_read_it() {
    let test_home = TestHome::golden(Regime::Gzip);
    for (path, bytes) in hololib(&test_home).into_iter().filter(|(path, _)| path.starts_with("library")) {
        let mut content = Vec::new();
        flate2::read::MultiGzDecoder::new(Cursor::new(bytes)).read_to_end(&mut content).unwrap();
        fs::write(test_home.hololib().join(path), zstd::encode_all(content.as_slice(), 1).unwrap()).unwrap();
    }
    let zip = test_home.scratch().join("x.zip");
    test_home.holofs_ok(&["export", "14", "-z", zip.to_str().unwrap()]);
    assert!(entries(&zip).iter().all(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b])));
    import(&TestHome::new(), &zip);
}
