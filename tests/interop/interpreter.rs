//! The script that copies an interpreter for `holofs build`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::build::{python, tool};
use crate::common::test_home::TestHome;
use crate::common::{said, stdout};

/// The script.
const SCRIPT: &str = include_str!("../../src/build/interpreter.py");

/// This machine's Python runs `code` with the functions of the script.
fn with_script(code: &str, arguments: &[&Path]) -> Output {
    let load =
        "import types, sys\nscript = types.ModuleType('script')\nexec(sys.argv.pop(1), script.__dict__)\n";
    let code = format!("{load}{code}");
    Command::new(python()).args(["-I", "-c", &code, SCRIPT]).args(arguments).output().unwrap()
}

#[test]
fn interpreter_is_copied_with_its_library_and_without_ldd() {
    let test_home = TestHome::new();
    let ldd = tool(&test_home, "ldd", "#!/bin/sh\ntouch \"$0.was-run\"\nexit 1\n");
    let prefix = test_home.scratch().join("prefix");
    fs::create_dir(&prefix).unwrap();
    let path = format!("{}:{}", ldd.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut copy = Command::new(python());
    copy.args(["-I", "-c", SCRIPT]).arg(&prefix).env("PATH", path).env_remove("LD_LIBRARY_PATH");
    let copied = copy.output().unwrap();
    assert!(copied.status.success(), "{}", said(&copied));
    assert!(!ldd.with_extension("was-run").exists());
    let maps = "import re\nfor line in set(re.findall('/.*libpython.*', open('/proc/self/maps').read())): print(line)";
    let loaded = Command::new(prefix.join("bin/python3")).args(["-I", "-c", maps]).output().unwrap();
    for library in stdout(&loaded).lines() {
        assert!(Path::new(library).starts_with(&prefix), "{library} is not the copy");
    }
}

#[test]
fn copied_file_has_content_and_mode_and_what_is_no_file_is_refused() {
    let test_home = TestHome::new();
    let scratch = test_home.scratch();
    let (from, to) = (scratch.join("from"), scratch.join("to"));
    for (content, mode) in [("", 0o600), ("text", 0o777), ("text", 0o440)] {
        fs::write(&from, content).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(mode)).unwrap();
        let copied = with_script("script.copy_file(*sys.argv[1:])", &[&from, &to]);
        assert!(copied.status.success(), "{}", said(&copied));
        assert_eq!(fs::read_to_string(&to).unwrap(), content);
        assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o7777, mode);
        fs::remove_file(&from).unwrap();
        fs::remove_file(&to).unwrap();
    }
    assert!(Command::new("mkfifo").arg(&from).status().unwrap().success());
    let refused = with_script("script.copy_file(*sys.argv[1:])", &[&from, &to]);
    assert!(said(&refused).contains("is a named pipe"), "{}", said(&refused));
}

#[test]
fn copied_interpreter_that_uses_something_outside_its_prefix_is_refused() {
    let test_home = TestHome::new();
    let prefix = test_home.scratch().join("prefix");
    let mut check = Command::new(python());
    let checked = check.args(["-B", "-c", SCRIPT, "--check"]).arg(&prefix).output().unwrap();
    assert!(!checked.status.success());
    assert!(said(&checked).contains("The copied interpreter still looks at /"), "{}", said(&checked));
}
