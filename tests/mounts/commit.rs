//! `holofs commit`: the new catalog is the space as it was, and RCC restores it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::compare::space_of;
use crate::common::golden::Regime;
use crate::common::rcc::rcc;
use crate::common::test_home::TestHome;
use crate::common::{exit, json, number_field, text_field};

/// Every kind of change in a mounted space.
fn change(root: &Path) {
    fs::write(root.join("new.txt"), format!("prefix={}\n", root.display())).unwrap();
    fs::create_dir_all(root.join("added/deep")).unwrap();
    fs::write(root.join("added/deep/script"), format!("#!{}/bin/x\n{}", root.display(), root.display()))
        .unwrap();
    fs::set_permissions(root.join("added/deep/script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("deep/script", root.join("added/link")).unwrap();
    symlink("added", root.join("dirlink")).unwrap();
    fs::create_dir_all(root.join("added/__pycache__")).unwrap();
    fs::write(root.join("added/__pycache__/x.pyc"), "bytecode").unwrap();
    fs::rename(root.join("plain"), root.join("moved")).unwrap();
    fs::remove_file(root.join("identity.yaml")).unwrap();
}

#[test]
fn commit_makes_the_space_a_catalog_that_rcc_restores_and_empties_the_upper() {
    let Some(rcc) = rcc(17) else { return };
    for regime in [Regime::Gzip, Regime::Raw] {
        let test_home = TestHome::golden(regime);
        let catalog = test_home.catalogs().remove(0);
        let mounted = test_home.mount(&catalog, "work", "user", &[]);
        let root = mounted.path().to_owned();
        change(&root);
        let label = root.file_name().unwrap().to_str().unwrap().to_owned();
        let before: Vec<_> = space_of(&root).into_keys().collect();
        drop(mounted);

        let yaml = test_home.scratch().join("conda.yaml");
        fs::write(&yaml, "channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n").unwrap();
        let blueprint = test_home.holofs_ok(&["hash", "--json", "--show-blueprint", yaml.to_str().unwrap()]);
        let specification = test_home.scratch().join("identity.yaml");
        fs::write(&specification, text_field(&json(&blueprint), "blueprint")).unwrap();
        let args = ["commit", "work", "--blueprint", specification.to_str().unwrap(), "--json"];
        let made = json(&test_home.holofs_ok(&args));
        assert_eq!(text_field(&made, "blueprint"), text_field(&json(&blueprint), "hash"));
        assert_eq!(number_field(&made, "left_out"), 1, "the directory of bytecode");
        assert_eq!(number_field(&made, "written_files"), 2);

        let new = text_field(&made, "blueprint");
        let ours = test_home.materialize(&new, "ours", "user");
        let after: Vec<_> = space_of(&ours).into_keys().collect();
        let kept = |path: &&std::path::PathBuf| !path.to_string_lossy().contains("__pycache__");
        let mut expected: Vec<_> = before.iter().filter(kept).cloned().collect();
        expected.push("identity.yaml".into());
        expected.sort();
        assert_eq!(after, expected);
        let text = fs::read_to_string(ours.join("added/deep/script")).unwrap();
        assert_eq!(text, format!("#!{0}/bin/x\n{0}", ours.display()), "relocated, like every recorded file");
        assert!(!fs::read_to_string(ours.join("new.txt")).unwrap().contains(&label));

        let (theirs, _) = rcc.restore(&test_home, &yaml, "user", "rcc");
        crate::common::compare::assert_same_space(&theirs, &ours);

        // The space continues with the new catalog and without changes.
        let again = test_home.mount(&new, "work", "user", &[]);
        assert!(again.path().join("moved").exists() && !again.path().join("plain").exists());
        drop(again);
        let diff = json(&test_home.holofs_ok(&["diff", "work", "--json"]));
        assert_eq!(diff["added"], serde_json::json!([]));
    }
}

#[test]
fn commit_is_refused_while_the_space_is_mounted_and_names_what_cannot_be_recorded() {
    let test_home = TestHome::golden(Regime::Gzip);
    let catalog = test_home.catalogs().remove(0);
    let mounted = test_home.mount(&catalog, "work", "user", &[]);
    symlink("/nonexistent", mounted.path().join("nowhere")).unwrap();
    test_home.holofs_fails(&["commit", "work", "--name", "x"], exit::BUSY);
    drop(mounted);
    let failed = test_home.holofs_fails(&["commit", "work", "--name", "x"], exit::IO);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(text.contains("nowhere") && text.contains("/nonexistent"), "{text}");
    assert_eq!(test_home.catalogs(), [catalog], "no catalog was made");
    let diff = json(&test_home.holofs_ok(&["diff", "work", "--json"]));
    assert_eq!(diff["added"], serde_json::json!(["nowhere"]), "nothing was lost");
}
