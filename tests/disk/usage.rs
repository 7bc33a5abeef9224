//! `holofs df`, `du` and `catalogs diff`: the numbers match the disk and the catalogs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::golden::{CATALOG, Regime};
use crate::common::loop_fs::LoopFs;
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, run, stdout, until};

#[test]
fn df_counts_the_home_as_du_does_and_each_file_once() {
    let test_home = TestHome::golden(Regime::Gzip);
    let catalog = test_home.catalogs().remove(0);
    for space in ["one", "two"] {
        test_home.materialize(&catalog, space, "user");
    }
    test_home.holofs_ok(&["materialize", &catalog, "three", "--strategy", "hardlink"]);
    let usage = json(&test_home.holofs_ok(&["df", "--json"]));
    let du = run(Command::new("du").args(["-s", "-B1"]).arg(test_home.home()));
    let du: u64 = stdout(&du).split_whitespace().next().unwrap().parse().unwrap();
    let total = number_field(&usage["total"], "bytes");
    assert!(total.abs_diff(du) * 100 <= du, "df says {total}, du says {du}");
    let parts = usage["parts"].as_object().unwrap().values();
    assert_eq!(parts.map(|part| number_field(part, "bytes")).sum::<u64>(), total);
    let catalogs = usage["catalogs"].as_array().unwrap();
    assert_eq!((catalogs.len(), number_field(&catalogs[0], "shared_bytes")), (1, 0));
    assert!(number_field(&catalogs[0], "exclusive_bytes") > 0);
    assert_eq!(number_field(&usage["unnamed_blobs"], "entries"), 0);
    assert_eq!(usage["spaces"].as_object().unwrap().len(), 3);
}

/// Bytes in use on the file system at `path`, after everything was written.
fn bytes_in_use(path: &Path) -> u64 {
    run(Command::new("sync").arg("-f").arg(path));
    let df_output = run(Command::new("df").args(["-B1", "--output=used"]).arg(path));
    stdout(&df_output).lines().nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn df_counts_blocks_that_files_share_once() {
    for kind in ["btrfs", "xfs"] {
        let Some(disk) = LoopFs::new(kind, 512) else { continue };
        let before = bytes_in_use(&disk.path());
        fs::create_dir(disk.path().join("user")).unwrap();
        let test_home = TestHome::at(&disk.path().join("user"), &disk.path().join("home"));
        let stage = test_home.holotree().join("h59acff1_493f813dad24d3t");
        fs::create_dir_all(&stage).unwrap();
        for number in 0..20_u8 {
            // Nothing that could be compressed or stored inline.
            let bytes = (0..1_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ number);
            fs::write(stage.join(number.to_string()), bytes.collect::<Vec<u8>>()).unwrap();
        }
        let made =
            json(&test_home.holofs_ok(&["record", stage.to_str().unwrap(), "--name", "big", "--json"]));
        let catalog = made["blueprint"].as_str().unwrap().to_owned();
        fs::remove_dir_all(&stage).unwrap();
        for space in ["one", "two", "three"] {
            test_home.holofs_ok(&["materialize", &catalog, space, "--strategy", "reflink"]);
        }
        let used = bytes_in_use(&disk.path()) - before;
        let usage = json(&test_home.holofs_ok(&["df", "--json"]));
        let (total, again) =
            (number_field(&usage["total"], "bytes"), number_field(&usage["reflinked"], "bytes"));
        let du = run(Command::new("du").args(["-s", "-B1"]).arg(test_home.home()));
        let du: u64 = stdout(&du).split_whitespace().next().unwrap().parse().unwrap();
        assert!(
            (total + again).abs_diff(du) * 100 <= du,
            "{kind}: df says {total} and {again}, du says {du}"
        );
        // At least two of three spaces; the first one may have been written before there was anything to share.
        assert!(again >= 40_000_000, "{kind}: {usage:#}");
        assert_eq!(number_field(&usage, "sharing_unknown"), 0, "{kind}");
        // The file system needs some space for its own metadata.
        assert!(total.abs_diff(used) < 4 << 20, "{kind}: df says {total}, the disk has {used} more in use");
        assert!(stdout(&test_home.holofs_ok(&["df"])).contains("with files counted before"), "{kind}");
    }
}

#[test]
fn du_counts_our_own_notes_as_state_and_every_directory() {
    let test_home = TestHome::golden(Regime::Gzip);
    let mounted = test_home.mount(CATALOG, "s", "user", &[]);
    let states = test_home.home().join("holofs/spaces").join(mounted.path().file_name().unwrap());
    let relocated = || stdout(&run(Command::new("find").arg(states.join("relocated")).args(["-type", "f"])));
    until(|| {
        test_home.holofs(&["du", "s"]);
        states.join("relocated").is_dir() && relocated().lines().count() > 0
    });
    mounted.unmount();
    let ours = relocated().lines().filter(|line| line.ends_with("/seals")).count() as u64;
    let files = relocated().lines().count() as u64;
    assert_eq!(ours, 1, "{}", relocated());
    let used = json(&test_home.holofs_ok(&["du", "s", "--json"]));
    assert_eq!(number_field(&used, "relocated_files"), files - ours, "{used}");
    // Also for a space whose directories are writable by others, as those of RCC are with a permissive umask.
    let space = test_home.materialize(CATALOG, "laid", "user");
    let count = || number_field(&json(&test_home.holofs_ok(&["du", "laid", "--json"])), "laid_out_files");
    let before = count();
    for dir in [space.join("bin"), space] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    }
    assert_eq!(count(), before);
}

#[test]
fn catalogs_diff_names_packages_and_files_that_changed() {
    let test_home = TestHome::new();
    let mut catalogs = Vec::new();
    for (version, text) in [("1.0", "one"), ("2.0", "two, longer")] {
        let stage = test_home.holotree().join("h59acff1_493f813dad24d3t");
        let site = stage.join("lib/python3.11/site-packages");
        let info = site.join(format!("tiny-{version}.dist-info"));
        std::fs::create_dir_all(&info).unwrap();
        std::fs::write(site.join("tiny.py"), text).unwrap();
        std::fs::write(site.join("same.py"), "same").unwrap();
        std::fs::write(info.join("RECORD"), "tiny.py,,\n").unwrap();
        let made = test_home.holofs_ok(&["record", stage.to_str().unwrap(), "--name", version, "--json"]);
        catalogs.push(json(&made)["blueprint"].as_str().unwrap().to_owned());
        std::fs::remove_dir_all(&stage).unwrap();
    }
    let diff = json(&test_home.holofs_ok(&["catalogs", "diff", &catalogs[0], &catalogs[1], "--json"]));
    assert_eq!(diff["packages"], serde_json::json!([{ "name": "tiny", "before": "1.0", "after": "2.0" }]));
    let files: Vec<(&str, &str)> = diff["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["change"].as_str().unwrap(), file["path"].as_str().unwrap()))
        .collect();
    let site = "lib/python3.11/site-packages";
    assert_eq!(
        files,
        [
            ("removed", format!("{site}/tiny-1.0.dist-info/RECORD").as_str()),
            ("added", format!("{site}/tiny-2.0.dist-info/RECORD").as_str()),
            ("changed", format!("{site}/tiny.py").as_str()),
        ]
    );
    let text = stdout(&test_home.holofs_ok(&["catalogs", "diff", &catalogs[0], &catalogs[1], "--files"]));
    assert!(text.contains("tiny     1.0     2.0") && text.contains(&format!("C {site}/tiny.py")), "{text}");
}
