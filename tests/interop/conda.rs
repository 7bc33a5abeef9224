//! `holofs build` of conda packages, with the real solver and installer of pixi and a local channel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::rcc::rcc;
use crate::common::test_home::TestHome;
use crate::common::uv::uv;
use crate::common::{json, project, run, said, skip, stdout, text_field};

/// A Python with py-rattler, kept in the cache directory of the tests; `None`, with the reason printed, where it is not available.
fn rattler(uv: &Path) -> Option<PathBuf> {
    let venv = uv.ancestors().nth(3).unwrap().join("rattler");
    let python = venv.join("bin/python3");
    let works = || {
        Command::new(&python)
            .args(["-c", "import rattler"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !works() {
        let uv = |args: &[&str]| {
            Command::new(uv).args(args).arg(&venv).env("UV_NATIVE_TLS", "1").output().unwrap()
        };
        uv(&["venv", "--clear"]);
        let output = uv(&["pip", "install", "py-rattler", "--python"]);
        if !works() {
            skip(&format!("No py-rattler: {}", said(&output)));
            return None;
        }
    }
    Some(python)
}

#[test]
fn build_of_conda_packages_from_a_channel_runs_at_every_path_and_rcc_restores_it() {
    let (Some(uv), Some(rcc)) = (uv(), rcc(17)) else { return };
    let Some(python) = rattler(&uv) else { return };
    let test_home = TestHome::new();
    let (channel, tool) = (test_home.scratch().join("channel"), test_home.scratch().join("micromamba"));
    let script = format!(
        "#!/bin/sh\nCONDA_TEST_CHANNEL={} exec {} -B {}/tests/interop/conda.py \"$@\"\n",
        channel.display(),
        python.display(),
        project().display()
    );
    fs::write(&tool, script).unwrap();
    run(Command::new("chmod").arg("755").arg(&tool));
    run(Command::new(&tool).arg("channel"));
    let yaml = test_home.scratch().join("conda.yaml");
    fs::write(&yaml, "channels:\n- conda-forge\ndependencies:\n- tool=1.0\n").unwrap();
    let mut command = test_home.holofs_command(&["build", "--json", yaml.to_str().unwrap()]);
    let built = json(&run(command.env("HOLOFS_CONDA", &tool)));
    // The script, the library, and conda's own records of both.
    assert!(built["recorded"]["relocated_files"].as_u64().unwrap() >= 2, "{built:#}");
    let blueprint = text_field(&built, "blueprint");
    let (theirs, _) = rcc.restore(&test_home, &yaml, "user", "byrcc");
    for mode in ["mount", "materialize"] {
        let args = [
            "run",
            "--mode",
            mode,
            &blueprint,
            mode,
            "--",
            "sh",
            "-c",
            "tool; cat \"$CONDA_PREFIX/lib/settings.bin\"",
        ];
        let printed = stdout(&test_home.holofs_ok(&args));
        let (first, rest) = printed.split_once('\n').unwrap();
        let root = first.strip_prefix("hello from ").unwrap();
        assert_ne!(root, theirs.to_str().unwrap());
        assert!(rest.contains(&format!("{root}/lib\0")), "{rest}");
    }
    let output = Command::new(theirs.join("bin/tool")).output().unwrap();
    assert_eq!(stdout(&output), format!("hello from {}\n", theirs.display()));
    rcc.be_quiet(&test_home);
    let mut command = test_home.holofs_command(&["verify", &blueprint, "--parity", "--json"]);
    run(command.env("HOLOFS_RCC", rcc.path()));
}
