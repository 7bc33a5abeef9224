//! The law of bytecode between catalogs: one takes over from another what was compiled from the same source by the same interpreter, and
//! nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::test_home::TestHome;
use crate::common::{run, said, skip, stderr, stdout, until};

/// More modules than the minimum for which a run compiles shared bytecode.
pub const MODULES: usize = 30;
/// An interpreter that is a script, and compiles all sources as if they were another text.
const EVIL: &str = "#!/bin/sh\n\
    case \"$*\" in *_code_to_hash_pyc*)\n\
    exec /usr/bin/python3 -I -S -B -c \"$(printf %s \"$5\" | sed 's/compile(data,/compile(b\"V = 666\",/')\";; esac\n\
    exec /usr/bin/python3 \"$@\"\n";

/// Puts the interpreter into a stage.
pub type Interpreter = fn(&Path);

/// This machine's own program, which finds its standard library where it is installed.
pub fn own(bin: &Path) {
    fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), bin.join("python3.real")).unwrap();
    std::os::unix::fs::symlink("python3.real", bin.join("python3")).unwrap();
}

fn evil(bin: &Path) {
    fs::write(bin.join("python3"), EVIL).unwrap();
    run(Command::new("chmod").arg("755").arg(bin.join("python3")));
}

/// A catalog with an interpreter and `MODULES` modules, of which `m1` has this value.
pub fn catalog(test_home: &TestHome, name: &str, interpreter: Interpreter, m1: &str) -> String {
    let stage = test_home.holotree().join("h0c0ffee_493f813dad24d3t");
    let site = stage.join("lib/python3.11/site-packages");
    fs::create_dir_all(&site).unwrap();
    fs::create_dir_all(stage.join("bin")).unwrap();
    interpreter(&stage.join("bin"));
    for module in 0..MODULES {
        let value = if module == 1 { m1 } else { "same" };
        fs::write(site.join(format!("m{module}.py")), format!("V = '{value}'\n")).unwrap();
    }
    let blueprint = test_home.scratch().join("conda.yaml");
    fs::write(&blueprint, format!("name: {name}\n")).unwrap();
    let catalog = test_home.record(&stage, &blueprint);
    fs::remove_dir_all(&stage).unwrap();
    catalog
}

/// False, with the reason, if this machine's Python cannot be used.
pub fn has_python() -> bool {
    let is_program = fs::read("/usr/bin/python3").is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
    if !is_program {
        skip("There is no /usr/bin/python3 in machine code");
    }
    is_program
}

/// Imports everything after a pause in which bytecode is copied, and prints the values.
pub fn import(test_home: &TestHome, options: &[&str], catalog: &str, space: &str) -> Output {
    let code = "import os, sys, time; time.sleep(1); \
        sys.path.insert(0, os.environ['CONDA_PREFIX'] + '/lib/python3.11/site-packages'); \
        print(*[__import__('m%d' % n).V for n in range(30)])";
    test_home.holofs_ok(&[&["run"], options, &[catalog, space, "--", "python3", "-v", "-c", code]].concat())
}

/// The modules of the catalog that Python compiled, according to `-v`.
pub fn compiled(output: &Output) -> Vec<String> {
    let stderr = stderr(output);
    let paths = stderr.lines().filter_map(|line| line.strip_prefix("# code object from "));
    let ours = paths.filter_map(|path| path.trim_matches('\'').split_once("/site-packages/m"));
    ours.filter_map(|(_, file)| file.strip_suffix(".py")).map(|number| format!("m{number}")).collect()
}

/// The values that a catalog's programs see.
pub fn values(m1: &str) -> String {
    let value = |module| if module == 1 { m1 } else { "same" };
    (0..MODULES).map(value).collect::<Vec<_>>().join(" ")
}

/// The shared bytecode of all catalogs.
pub fn packs(test_home: &TestHome) -> Vec<PathBuf> {
    let dirs = fs::read_dir(test_home.home().join("holofs/pyc")).into_iter().flatten().flatten();
    dirs.map(|dir| dir.path().join("pack")).filter(|pack| pack.exists()).collect()
}

/// Waits until this many catalogs share bytecode.
pub fn wait_for_packs(test_home: &TestHome, count: usize) {
    until(|| packs(test_home).len() == count);
}

#[test]
fn new_catalog_of_the_same_interpreter_compiles_only_what_changed() {
    if !has_python() {
        return;
    }
    let test_home = TestHome::new();
    let old = catalog(&test_home, "old", own, "one");
    assert_eq!(compiled(&import(&test_home, &[], &old, "old")).len(), MODULES);
    wait_for_packs(&test_home, 1);
    for (number, options) in [&[][..], &["--isolate"], &["--mode=materialize"]].into_iter().enumerate() {
        // Of the same size and time: only its content shows that it is another source.
        let m1 = ["two", "six", "ten"][number];
        let new = catalog(&test_home, m1, own, m1);
        let output = import(&test_home, options, &new, m1);
        assert_eq!(stdout(&output).trim_end(), values(m1), "{options:?}");
        assert_eq!(compiled(&output), ["m1"], "{options:?}: {}", said(&output));
    }
    // What one takes over, the others do not lose.
    let output = import(&test_home, &["--fresh"], &old, "again");
    assert_eq!((stdout(&output).trim_end(), compiled(&output)), (&*values("one"), Vec::new()));
}

#[test]
fn what_the_interpreter_of_another_catalog_made_of_the_same_sources_is_not_executed() {
    if !has_python() {
        return;
    }
    let test_home = TestHome::new();
    let bad = catalog(&test_home, "bad", evil, "same");
    import(&test_home, &[], &bad, "bad");
    wait_for_packs(&test_home, 1);
    // It does what it likes in its own spaces, so its pack has something to be taken over.
    let lies = import(&test_home, &["--fresh"], &bad, "bad");
    assert_eq!(stdout(&lies).trim_end(), ["666"; MODULES].join(" "), "{}", said(&lies));
    // Of a script, what it starts is not known: not even a catalog with the same one takes anything over.
    for (name, interpreter, m1) in [("own", own as Interpreter, "same"), ("script", evil, "else")] {
        let good = catalog(&test_home, name, interpreter, m1);
        let output = import(&test_home, &[], &good, name);
        assert_eq!(stdout(&output).trim_end(), values(m1), "{name}");
        assert_eq!(compiled(&output).len(), MODULES, "{name}");
    }
    // Isolated, Python does not compare bytecode with its source.
    let good = catalog(&test_home, "isolated", own, "some");
    assert_eq!(stdout(&import(&test_home, &["--isolate"], &good, "isolated")).trim_end(), values("some"));
}
