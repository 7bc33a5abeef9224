//! A home that version 634e337 wrote: everything in it is used, and nothing that was written is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::test_home::TestHome;
use crate::common::{is_root, json, project, run, skip, stderr, stdout};

/// The path at which the home was written, which its catalog contains.
const HOME: &str = "/tmp/holofs-home-634e337";
/// The blueprint of its catalog.
const BLUEPRINT: &str = "80ce8542a3a2d2b3";

/// The unpacked home, removed when dropped.
struct OldHome(TestHome);

impl OldHome {
    fn unpack() -> OldHome {
        let archive = project().join("tests/data/home-634e337/home.tar.gz");
        run(Command::new("tar").args(["-C", "/tmp", "-xzf"]).arg(archive));
        let home = Path::new(HOME);
        OldHome(TestHome::at(&home.join("user"), &home.join("home")))
    }

    fn holofs(&self, args: &[&str]) -> String {
        stdout(&run(&mut self.0.holofs_command(args)))
    }
}

impl Drop for OldHome {
    fn drop(&mut self) {
        fs::remove_dir_all(HOME).unwrap();
    }
}

#[test]
fn home_of_634e337_is_used_and_keeps_what_was_written() {
    if !is_root() {
        return skip("the labels of its spaces contain the name of root");
    }
    let home = OldHome::unpack();
    let changes = "R bin/link\nA bin/other\nC lib/data\nA new\nR stamp\n";
    assert_eq!(home.holofs(&["diff", "written"]), changes);
    let script = "cat new lib/data; ls bin; head -n 1 bin/tool; echo more >>new";
    let seen = home.holofs(&[
        "run",
        BLUEPRINT,
        "written",
        "--",
        "sh",
        "-c",
        &format!("cd \"$CONDA_PREFIX\"; {script}"),
    ]);
    let space = PathBuf::from(HOME).join("home/holotree/2108d61_5a1fac3_63896fac");
    assert_eq!(seen, format!("new\nchanged\nother\ntool\n#!{}/bin/sh\n", space.display()));
    assert_eq!(home.holofs(&["diff", "written"]), changes);
    let plain = home.holofs(&[
        "run",
        "--mode",
        "materialize",
        BLUEPRINT,
        "plain",
        "--",
        "sh",
        "-c",
        "cat \"$CONDA_PREFIX/stamp\"",
    ]);
    assert_eq!(plain, "old 1\n");
    let listed = json(&run(&mut home.0.holofs_command(&["list", "--json"])));
    assert_eq!(listed.as_object().unwrap().len(), 2, "{listed}");
    let checked = run(&mut home.0.holofs_command(&["check"]));
    assert_eq!(stderr(&checked), "");
    home.holofs(&["gc"]);
    home.holofs(&["reset", "written"]);
    let seen = home.holofs(&["run", BLUEPRINT, "written", "--", "sh", "-c", "cat \"$CONDA_PREFIX/stamp\""]);
    assert_eq!(seen, "old 1\n");
}
