//! Completions in the real shells: commands, options, and existing catalogs and spaces.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::golden::{CATALOG, Regime};
use crate::common::pty::{program, seen};
use crate::common::test_home::TestHome;
use crate::common::{run, stdout};

/// A home with the golden catalog and a space, and the program's directory first in PATH.
fn world() -> (TestHome, String) {
    let test_home = TestHome::golden(Regime::Gzip);
    test_home.materialize(CATALOG, "my-space", "user");
    let dir = Path::new(env!("CARGO_BIN_EXE_holofs")).parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    (test_home, format!("{}:{path}", dir.display()))
}

fn script(test_home: &TestHome, shell: &str) -> PathBuf {
    let path = test_home.scratch().join(format!("_holofs.{shell}"));
    fs::write(&path, stdout(&test_home.holofs_ok(&["completions", shell]))).unwrap();
    path
}

/// Command lines that end at the position of the completion, each with one of the words that must be offered.
const CASES: [(&str, &str); 7] = [
    ("holofs mat", "materialize"),
    ("holofs kernel ins", "install"),
    ("holofs run --keep", "--keep-awake"),
    ("holofs run 140", "14023a1f332a0231"),
    ("holofs mount 140", "14023a1f332a0231"),
    ("holofs unmount my", "my-space"),
    ("holofs run --space my", "my-space"),
];

#[test]
fn bash_completes_commands_catalogs_and_spaces() {
    let (test_home, path) = world();
    let file = script(&test_home, "bash");
    for (line, word) in CASES {
        let code = "source \"$1\"; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
            _holofs_and_what_is_there holofs \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut bash = test_home.command("bash");
        let output = run(bash.args(["--norc", "-c", code, "bash"]).arg(&file).arg(line).env("PATH", &path));
        assert!(stdout(&output).lines().any(|found| found == word), "{line}: {}", stdout(&output));
    }
}

#[test]
fn fish_completes_commands_catalogs_and_spaces() {
    let (test_home, path) = world();
    let file = script(&test_home, "fish");
    for (line, word) in CASES {
        let code = format!("source {}; complete -C '{line}'", file.display());
        let output = run(test_home.command("fish").args(["--no-config", "-c", &code]).env("PATH", &path));
        let found = stdout(&output);
        assert!(found.lines().any(|found| found.split('\t').next() == Some(word)), "{line}: {found}");
    }
}

#[test]
fn zsh_completes_commands_catalogs_and_spaces() {
    let (test_home, path) = world();
    let file = script(&test_home, "zsh");
    let dir = test_home.scratch().join("functions");
    fs::create_dir(&dir).unwrap();
    fs::rename(file, dir.join("_holofs")).unwrap();
    let begin = format!(
        "PS1='at''> '; fpath=({} $fpath); autoload -U compinit; compinit -u -D; echo re''ady",
        dir.display()
    );
    for (line, word) in CASES {
        let mut command: Command = program(&test_home, &["zsh", "-f", "-i"]);
        command.env("PATH", &path);
        // Completes, then puts `echo` before the line and runs it: TAB, start of line, end of line.
        let typed = format!("{line}\t\u{1}echo SEEN \u{5}");
        let steps = [
            (if crate::common::is_root() { "# " } else { "% " }, begin.as_str()),
            ("at> ", typed.as_str()),
            ("SEEN holofs", ""),
            ("at> ", "exit 0"),
        ];
        let text = seen(command, &steps);
        let text: Vec<&str> = text.lines().filter(|line| line.starts_with("SEEN holofs")).collect();
        let text = text.join("\n");
        assert!(text.contains(word), "{line}: {text}");
    }
}
