//! The main use on real input: a Python environment with numpy, pandas and requests, recorded, mounted, and run.
#![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::compare::assert_same_space;
use crate::common::mounted::below;
use crate::common::test_home::TestHome;
use crate::common::{json, number_field, project, run, stdout, until};

/// A stage name in RCC's format, which a space's label replaces.
const STAGE: &str = "h0c0ffee_493f813dad24d3t";

/// Makes the environment and records it; the stage is removed afterwards, as RCC does.
fn record_python(test_home: &TestHome) -> String {
    let stage = test_home.holotree().join(STAGE);
    // pip needs the caller's home for its cache; the environment itself does not contain its path.
    run(Command::new(project().join("scripts/python-env")).arg(&stage));
    let specification = test_home.scratch().join("conda.yaml");
    std::fs::copy(stage.join("identity.yaml"), &specification).unwrap();
    let catalog = test_home.record(&stage, &specification);
    std::fs::remove_dir_all(&stage).unwrap();
    catalog
}

/// Runs a program of the space without any Python variables in its environment.
fn in_space(space: &Path, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(space.join(program));
    run(command.args(args).env_clear().env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn prefix_of(space: &Path) -> PathBuf {
    let code = "import sys, numpy, pandas, requests; print(sys.prefix)";
    PathBuf::from(stdout(&in_space(space, "bin/python3", &["-c", code])).trim_end())
}

#[test]
fn run_of_a_real_python_from_two_mounts_and_files_has_its_own_prefix() {
    let test_home = TestHome::new();
    let catalog = record_python(&test_home);
    let one = test_home.mount(&catalog, "one", "user", &[]);
    let two = test_home.mount(&catalog, "two", "user", &["--read-only"]);
    assert!(number_field(one.report(), "entries") > 3_000, "{:#}", one.report());
    let three = test_home.materialize(&catalog, "three", "user");
    for space in [one.path(), two.path(), &three] {
        assert_eq!(prefix_of(space), space);
        let shebang = std::fs::read_to_string(space.join("bin/numpy-config")).unwrap();
        assert!(shebang.starts_with(&format!("#!{}/bin/python", space.display())), "{shebang:.100}");
        // The kernel follows the shebang to the interpreter of this same space.
        assert!(!stdout(&in_space(space, "bin/numpy-config", &["--version"])).is_empty());
    }
    assert_same_space(one.path(), &three);
    assert_same_space(two.path(), &three);
}

#[test]
fn run_sets_the_variables_of_the_space_and_unmounts_at_the_end() {
    let test_home = TestHome::new();
    let catalog = record_python(&test_home);
    let code = "import json, os, sys, numpy; print(json.dumps([sys.prefix, sys.flags.no_user_site, dict(os.environ)]))";
    for mode in ["mount", "materialize"] {
        let args = ["run", "--mode", mode, &catalog, mode, "--", "python3", "-c", code];
        let said = json(&test_home.holofs_ok(&args));
        let variable = |name: &str| said[2][name].as_str().unwrap().to_owned();
        let root = said[0].as_str().unwrap().to_owned();
        assert!(Path::new(&root).starts_with(test_home.holotree()), "{root}");
        assert_eq!(said[1], 1, "PYTHONNOUSERSITE does not work");
        assert_eq!(variable("RCC_HOLOTREE_SPACE_ROOT"), root);
        assert_eq!(variable("CONDA_PREFIX"), root);
        assert_eq!(variable("PYTHON_EXE"), format!("{root}/bin/python3"));
        assert!(variable("PATH").starts_with(&format!("{root}/bin:")));
        assert!(!Path::new(&variable("TEMP")).exists(), "the run's temporary directory stayed");
        assert!(below(&test_home.holotree()).is_empty(), "the run's mount stayed");
    }
}

/// The contents of the pack of shared bytecode, once there is one.
fn shared(test_home: &TestHome) -> Vec<String> {
    let dirs = || std::fs::read_dir(test_home.home().join("holofs/pyc")).into_iter().flatten();
    let pack = || dirs().map(|dir| dir.unwrap().path().join("pack")).find(|pack| pack.exists());
    until(|| pack().is_some());
    let bytes = std::fs::read(pack().unwrap()).unwrap();
    let head = &bytes[22..22 + u32::from_le_bytes(bytes[18..22].try_into().unwrap()) as usize];
    let head: serde_json::Value = serde_json::from_slice(head).unwrap();
    let path = |piece: &serde_json::Value| piece["path"].as_str().unwrap().to_owned();
    head["pieces"].as_array().unwrap().iter().map(path).collect()
}

#[test]
fn bytecode_is_shared_between_spaces_but_never_that_of_relocated_sources() {
    let test_home = TestHome::new();
    let catalog = record_python(&test_home);
    // `_sysconfigdata` is relocated: the same size and time in every space, with another prefix in each.
    let code = "import glob, importlib, os, sys, json, requests; \
                name = os.path.basename(glob.glob(sys.prefix + '/lib/python3*/_sysconfigdata*.py')[0])[:-3]; \
                module = importlib.import_module(name); \
                print(json.dumps([sys.prefix, module.build_time_vars['prefix'], requests.get.__code__.co_filename]))";
    for space in ["one", "two"] {
        let said = json(&test_home.holofs_ok(&["run", &catalog, space, "--", "python3", "-c", code]));
        assert_eq!(said[0], said[1], "bytecode of another space was used");
        assert!(said[2].as_str().unwrap().starts_with(said[0].as_str().unwrap()), "{said}");
        let now = shared(&test_home);
        assert!(now.iter().any(|path| path.contains("requests/api.")), "{now:?}");
        assert!(!now.iter().any(|path| path.contains("_sysconfigdata")), "{now:?}");
    }
    let code = "import sys; assert sys.dont_write_bytecode; import this, pandas";
    test_home.holofs_ok(&["run", "--no-bytecode", &catalog, "three", "--", "python3", "-c", code]);
    assert!(!shared(&test_home).iter().any(|path| path.contains("/this.")));
    let warmed = json(&test_home.holofs_ok(&["warm", &catalog, "--bytecode", "--json"]));
    assert!(
        warmed["errors"].as_array().unwrap().is_empty() && number_field(&warmed, "blobs") > 3_000,
        "{warmed:#}"
    );
    let all = shared(&test_home);
    assert!(all.len() > 1_000 && all.iter().any(|path| path.contains("/this.")), "{}", all.len());
    // Imported modules are copied first.
    assert!(
        all.iter().position(|path| path.contains("requests/api."))
            < all.iter().position(|path| path.contains("/this."))
    );
    assert!(below(&test_home.holotree()).is_empty());
}
