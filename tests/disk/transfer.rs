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
use crate::common::sandbox::Sandbox;
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
fn empty(regime: Regime) -> Sandbox {
    let sandbox = Sandbox::new();
    if regime == Regime::Raw {
        fs::create_dir_all(sandbox.hololib().join("catalog")).unwrap();
        fs::write(sandbox.hololib().join("catalog/compress.no"), "present").unwrap();
    }
    sandbox
}

fn import(sandbox: &Sandbox, zip: &Path) -> serde_json::Value {
    json(&sandbox.holofs_ok(&["import", zip.to_str().unwrap(), "--json"]))[0].clone()
}

/// Every file below the hololib, except marks of use, by path.
fn hololib(sandbox: &Sandbox) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![sandbox.hololib()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push((
                    path.strip_prefix(sandbox.hololib()).unwrap().to_owned(),
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
        let sandbox = empty(regime);
        let report = import(&sandbox, &golden_zip(regime));
        assert_eq!(report["catalogs"], serde_json::json!([golden::CATALOG]), "{regime:?}");
        let mut expected: Entries = entries(&golden_zip(regime));
        expected.sort();
        let mut imported = hololib(&sandbox);
        imported.retain(|(path, _)| path != Path::new("catalog/compress.no"));
        let imported: Entries =
            imported.into_iter().map(|(path, bytes)| (path.to_str().unwrap().to_owned(), bytes)).collect();
        assert_eq!(imported, expected, "{regime:?}");
        sandbox.holofs_ok(&["check"]);
    }
}

#[test]
fn export_is_imported_and_restored_by_either_rcc() {
    for version in [17, 19] {
        let Some(rcc) = rcc(version) else { return };
        let fixed = FixedHome::take();
        let sandbox = &fixed.sandbox;
        import(sandbox, &golden_zip(Regime::Gzip));
        let zip = sandbox.scratch().join("ours.zip");
        sandbox.holofs_ok(&["export", golden::BLUEPRINT, "-z", zip.to_str().unwrap()]);
        fs::remove_dir_all(sandbox.hololib()).unwrap();
        rcc.import(sandbox, &zip);
        let (theirs, dirty) = rcc.restore(sandbox, &golden::file("golden.yaml"), "interop", "theirs");
        assert!(dirty.dirty > 0);
        assert_same_space(&golden::unpack_restored(Regime::Gzip, &sandbox.scratch()), &theirs);
        rcc.run(sandbox, &["holotree", "check"]);
        assert_eq!(sandbox.catalogs(), [golden::CATALOG]);
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
                fs::create_dir_all(fixed.sandbox.hololib().join("catalog")).unwrap();
                fs::write(fixed.sandbox.hololib().join("catalog/compress.no"), "present").unwrap();
            }
            import(&fixed.sandbox, &golden_zip(regime));
            let (theirs, _) = rcc.restore(&fixed.sandbox, &golden::file("golden.yaml"), "golden", "interop");
            assert_same_space(&golden::unpack_restored(regime, &fixed.sandbox.scratch()), &theirs);
            fixed.sandbox.holofs_ok(&["check"]);
            // RCC's check considers a raw blob damaged if its content is itself gzip, and deletes the catalog.
            if regime == Regime::Gzip {
                rcc.run(&fixed.sandbox, &["holotree", "check"]);
                assert_eq!(fixed.sandbox.catalogs(), [golden::CATALOG]);
            }
        }
    }
}

#[test]
fn export_holds_what_an_export_of_rcc_holds() {
    let Some(rcc) = rcc(17) else { return };
    for regime in Regime::BOTH {
        let sandbox = Sandbox::golden(regime);
        let (ours, theirs) = (sandbox.scratch().join("ours.zip"), sandbox.scratch().join("theirs.zip"));
        sandbox.holofs_ok(&["export", "14023", "-z", ours.to_str().unwrap()]);
        rcc.run(&sandbox, &["holotree", "export", "-z", theirs.to_str().unwrap(), golden::BLUEPRINT]);
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
    let sandbox = Sandbox::new();
    let zip = sandbox.scratch().join("windows.zip");
    let windows: Entries = entries(&golden_zip(Regime::Gzip))
        .into_iter()
        .map(|(name, bytes)| (name.replace('/', "\\"), bytes))
        .collect();
    pack(&zip, &windows);
    import(&sandbox, &zip);
    let usual = Sandbox::new();
    import(&usual, &golden_zip(Regime::Gzip));
    assert_eq!(hololib(&sandbox), hololib(&usual));
}

#[test]
fn import_refuses_a_file_with_a_name_outside_a_hololib() {
    let good = entries(&golden_zip(Regime::Gzip));
    let digest = "7".repeat(64);
    let misplaced = format!("library/00/00/00/{digest}");
    let outside =
        ["../../evil", "/tmp/holofs-evil", "library/../../evil", "catalog\\..\\..\\evil", "C:\\evil"];
    for name in outside.map(str::to_owned).into_iter().chain([misplaced]) {
        let sandbox = Sandbox::new();
        let zip = sandbox.scratch().join("bad.zip");
        pack(&zip, &[good.clone(), vec![(name.clone(), b"x".to_vec())]].concat());
        let output = sandbox.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
        assert!(stderr(&output).contains("nothing was imported"), "{}", stderr(&output));
        assert_eq!(hololib(&sandbox), [], "{name}");
        let beside = fs::read_dir(sandbox.scratch()).unwrap().count();
        assert_eq!(beside, 1, "{name} was written outside");
    }
}

#[test]
fn import_passes_over_what_else_programs_and_rcc_put_into_a_zip() {
    let sandbox = Sandbox::new();
    let zip = sandbox.scratch().join("more.zip");
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
    let report = import(&sandbox, &zip);
    assert_eq!(number_field(&report, "files_ignored"), others.len() as u64);
    assert_eq!(sandbox.catalogs(), [golden::CATALOG, "14023a1f332a0231v12.windows_amd64"]);
    assert!(
        !sandbox.hololib().join("catalog/compress.no").exists() && !sandbox.hololib().join("used").exists()
    );
    sandbox.holofs_ok(&["check"]);
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
    let sandbox = Sandbox::new();
    let good = entries(&golden_zip(Regime::Gzip));
    let zip = sandbox.scratch().join("bad.zip");
    let (name, bytes) = good[0].clone();
    pack(&zip, &[good, vec![(name.replace('/', "\\"), bytes)]].concat());
    sandbox.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
    assert_eq!(hololib(&sandbox), []);
}

/// The golden zip with one entry changed.
fn changed(sandbox: &Sandbox, which: impl Fn(&str) -> bool, change: impl Fn(&[u8]) -> Vec<u8>) -> PathBuf {
    let zip = sandbox.scratch().join("bad.zip");
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
        let sandbox = Sandbox::new();
        let zip = changed(&sandbox, is_catalog, change);
        sandbox.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
        assert_eq!(hololib(&sandbox), []);
    }
}

fn deflated_zeros(len: usize) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&vec![0; len]).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn import_leaves_out_a_bad_blob_and_its_catalog_and_keeps_the_rest() {
    let is_blob = |name: &str| name.starts_with("library/");
    let changes: [Change; 6] = [
        &|bytes| bytes[..bytes.len() - 1].to_vec(),
        &|_| Vec::new(),
        &|_| b"anything".to_vec(),
        &|bytes| [bytes, b"more"].concat(),
        // A bomb twice: in the gzip of the blob, and in the zip around it.
        &|_| deflated_zeros(64 << 20),
        &|_| vec![0x1f; 64 << 20],
    ];
    for change in changes {
        let sandbox = Sandbox::new();
        let zip = changed(&sandbox, is_blob, change);
        let output = sandbox.holofs_fails(&["import", zip.to_str().unwrap()], exit::DAMAGE);
        assert!(stderr(&output).contains("bad.zip"), "{}", stderr(&output));
        assert_eq!(sandbox.catalogs(), Vec::<String>::new());
        let library = hololib(&sandbox);
        assert_eq!(library.len(), entries(&golden_zip(Regime::Gzip)).len() - 2);
        assert!(library.iter().all(|(path, _)| !path.to_str().unwrap().contains(".part")), "a part is left");
        let report = import(&sandbox, &golden_zip(Regime::Gzip));
        assert_eq!(number_field(&report, "blobs_written"), 1);
        assert_eq!(number_field(&report, "blobs_present"), library.len() as u64);
        sandbox.holofs_ok(&["check"]);
    }
}

#[test]
fn import_reports_a_missing_blob_unless_the_hololib_has_it() {
    let sandbox = Sandbox::new();
    let zip = sandbox.scratch().join("delta.zip");
    let mut all = entries(&golden_zip(Regime::Gzip));
    all.retain(|(name, _)| name.starts_with("catalog/"));
    pack(&zip, &all);
    sandbox.holofs_fails(&["import", zip.to_str().unwrap()], exit::DAMAGE);
    assert_eq!(sandbox.catalogs(), Vec::<String>::new());
    import(&sandbox, &golden_zip(Regime::Gzip));
    fs::remove_file(sandbox.hololib().join("catalog").join(golden::CATALOG)).unwrap();
    let report = import(&sandbox, &zip);
    assert_eq!(report["catalogs"], serde_json::json!([golden::CATALOG]));
    assert_eq!(number_field(&report, "blobs_written"), 0);
}

#[test]
fn import_leaves_out_a_blob_that_no_catalog_names() {
    let sandbox = Sandbox::new();
    let zip = sandbox.scratch().join("more.zip");
    let digest = "7".repeat(64);
    let more = vec![(format!("library/77/77/77/{digest}"), vec![0; 100])];
    pack(&zip, &[entries(&golden_zip(Regime::Gzip)), more].concat());
    assert_eq!(number_field(&import(&sandbox, &zip), "blobs_ignored"), 1);
    assert!(!sandbox.hololib().join("library/77/77/77").exists());
}

#[test]
fn import_moves_a_damaged_blob_of_the_hololib_aside_and_replaces_it() {
    let sandbox = Sandbox::new();
    import(&sandbox, &golden_zip(Regime::Gzip));
    let (path, _) = hololib(&sandbox).into_iter().rfind(|(path, _)| path.starts_with("library")).unwrap();
    fs::write(sandbox.hololib().join(&path), b"damage").unwrap();
    let report = import(&sandbox, &golden_zip(Regime::Gzip));
    assert_eq!(number_field(&report, "blobs_repaired"), 1);
    let aside = sandbox.home().join("holofs/quarantine").join(path.file_name().unwrap());
    assert_eq!(fs::read(aside).unwrap(), b"damage");
    sandbox.holofs_ok(&["check"]);
}

#[test]
fn blobs_of_the_other_kind_are_refused_unless_asked_for() {
    let sandbox = empty(Regime::Raw);
    let zip = golden_zip(Regime::Gzip);
    let output = sandbox.holofs_fails(&["import", zip.to_str().unwrap()], exit::BAD_CATALOG);
    assert!(stderr(&output).contains("compress.no"), "{}", stderr(&output));
    sandbox.holofs_ok(&["import", zip.to_str().unwrap(), "--mixed"]);
    sandbox.holofs_ok(&["check"]);
}

#[test]
fn import_distinguishes_no_zip_from_no_file() {
    let sandbox = Sandbox::new();
    let path = sandbox.scratch().join("x.zip");
    let name = path.to_str().unwrap();
    sandbox.holofs_fails(&["import", name], exit::NOT_FOUND);
    fs::write(&path, "no zip").unwrap();
    sandbox.holofs_fails(&["import", name], exit::BAD_CATALOG);
    ZipWriter::new(File::create(&path).unwrap()).finish().unwrap();
    sandbox.holofs_fails(&["import", name], exit::BAD_CATALOG);
    let mut fifo = sandbox.command("mkfifo");
    fs::remove_file(&path).unwrap();
    run(fifo.arg(&path));
    sandbox.holofs_fails(&["import", "https://example.com/x.zip"], exit::IO);
    assert_eq!(hololib(&sandbox), []);
}

#[test]
fn export_of_a_damaged_environment_leaves_no_file() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let (path, _) = hololib(&sandbox).into_iter().rfind(|(path, _)| path.starts_with("library")).unwrap();
    fs::write(sandbox.hololib().join(path), b"damage").unwrap();
    let zip = sandbox.scratch().join("x.zip");
    sandbox.holofs_fails(&["export", "14", "-z", zip.to_str().unwrap()], exit::DAMAGE);
    assert_eq!(fs::read_dir(sandbox.scratch()).unwrap().count(), 0);
    sandbox.holofs_fails(&["export", "ff", "-z", zip.to_str().unwrap()], exit::NOT_FOUND);
}

#[test]
fn zstd_is_exported_as_gzip_so_that_rcc_can_read_it() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    for (path, bytes) in hololib(&sandbox).into_iter().filter(|(path, _)| path.starts_with("library")) {
        let mut content = Vec::new();
        flate2::read::MultiGzDecoder::new(Cursor::new(bytes)).read_to_end(&mut content).unwrap();
        fs::write(sandbox.hololib().join(path), zstd::encode_all(content.as_slice(), 1).unwrap()).unwrap();
    }
    let zip = sandbox.scratch().join("x.zip");
    sandbox.holofs_ok(&["export", "14", "-z", zip.to_str().unwrap()]);
    assert!(entries(&zip).iter().all(|(_, bytes)| bytes.starts_with(&[0x1f, 0x8b])));
    import(&Sandbox::new(), &zip);
}
