//! RCC's command line: commands from RCC's own tests and from everyday use, run with the official RCC and with HoloFS.
//!
//! Each runs with both programs, in two homes with the same content; only `rcc` is replaced by `holofs`. Both succeed or
//! both fail, and their stdout agrees; or HoloFS refuses with the exit code of commands that it does not offer.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use holofs::rcc::home::{Environment, Home};
use serde_json::Value;

use crate::common::golden::{self, Regime};
use crate::common::rcc::{Rcc, rcc};
use crate::common::test_home::TestHome;
use crate::common::{exit, said, stderr, stdout};

/// What both programs must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Agree {
    /// Success or failure.
    Outcome,
    /// Also the JSON on stdout.
    Json,
    /// Also the names of the variables on stdout.
    Names,
    /// The lines on stdout and stderr that contain this text.
    Lines(&'static str),
    /// Nothing: HoloFS refuses it.
    Refused,
}

use Agree::{Json, Lines, Names, Outcome, Refused};

/// The command lines, in this order. LABEL is that of the space `jam`, HASH the golden blueprint.
const LINES: [(&str, Agree); 67] = [
    ("ht delete 4e67cd8", Outcome),
    ("holotree vars --controller citests conda.yaml other.yaml", Outcome),
    ("holotree vars --controller citests conda.yaml same.yaml --silent", Names),
    ("holotree list --controller citests --json", Lines("4e67cd8_9fcd2534")),
    ("holotree variables --controller citests conda.yaml", Names),
    ("holotree variables --controller citests -r robot/robot.yaml", Names),
    (
        "holotree variables --controller citests -r robot/robot.yaml --warranty-voided --anything I_know",
        Refused,
    ),
    ("holotree variables --controller citests --json conda.yaml", Json),
    (
        "holotree variables --controller citests conda.yaml --config tmp.yaml -r robot/robot.yaml -e robot/env.json",
        Names,
    ),
    (
        "holotree variables --controller citests --json conda.yaml --config tmp.yaml -r robot/robot.yaml -e robot/env.json",
        Json,
    ),
    ("holotree variables --space jam --controller citests conda.yaml", Names),
    ("holotree variables --space holotin --controller citests -r robot/robot.yaml", Names),
    ("holotree variables --space jam --controller citests --json conda.yaml", Json),
    (
        "holotree vars --liveonly --space jam --controller citests conda.yaml --config tmp.yaml --timeline",
        Names,
    ),
    (
        "ht vars --liveonly --space jam --controller citests --json conda.yaml --config tmp.yaml --timeline",
        Json,
    ),
    ("ht vars --space uvtest --controller citests conda.yaml", Names),
    ("ht vars -s author --controller citests -r robot/robot.yaml", Names),
    ("--controller citests --bundled=true ht vars -s author conda.yaml", Names),
    ("ht vars --no-pyc-management --no-temp-management --json conda.yaml -s author", Json),
    ("ht vars absent.yaml", Outcome),
    ("ht vars other.yaml --no-build", Outcome),
    ("ht hash --silent conda.yaml", Lines("HASH")),
    ("ht hash conda.yaml", Lines("HASH")),
    ("ht hash conda.yaml same.yaml --json", Json),
    ("ht hash package.yaml -j", Json),
    ("ht hash package.yaml --devdeps --json --show-blueprint", Json),
    ("ht hash conda.yaml --devdeps", Outcome),
    ("ht hash", Outcome),
    ("holotree blueprint --controller citests conda.yaml", Lines("is available: true")),
    ("holotree blueprint --controller citests other.yaml", Lines("is available: false")),
    ("ht bp -r robot/robot.yaml -j", Json),
    ("ht bp package.yaml --devdeps --json", Json),
    ("ht bp absent.yaml", Outcome),
    ("ht ls", Outcome),
    ("holotree list --controller citests", Outcome),
    ("holotree catalogs --controller citests", Outcome),
    ("holotree catalogs --controller citests --json", Json),
    ("ht catalogs -j -i -t 2", Json),
    ("ht export", Outcome),
    ("ht export --json", Json),
    ("ht export -z out.zip HASH", Outcome),
    ("ht export -z part.zip 14023", Outcome),
    ("ht export -r robot/robot.yaml -z robot.zip", Outcome),
    ("ht import out.zip", Outcome),
    ("ht import --strict out.zip part.zip", Outcome),
    ("ht import absent.zip", Outcome),
    ("ht plan LABEL", Outcome),
    ("ht plan nothing_such", Outcome),
    ("holotree delete -d LABEL", Lines("LABEL")),
    ("ht delete -s jam --controller citests", Lines("LABEL")),
    ("ht delete", Outcome),
    ("ht del --space nowhere", Outcome),
    ("holotree variables --unmanaged --space python39 --controller citests conda.yaml", Refused),
    ("holotree delete --controller citests UNMNGED_", Outcome),
    ("holotree check --controller citests", Outcome),
    ("holotree check --retries 5 --controller citests", Outcome),
    ("holotree remove cafebabe9000 --check 5 --controller citests", Outcome),
    ("holotree remove --unused 90 --controller citests", Outcome),
    ("holotree remove HASH --check 5 --controller citests", Outcome),
    ("ht export --json --silent", Json),
    ("ht vars -f conda.yaml", Refused),
    ("ht venv --devdeps --controller citests package.yaml", Refused),
    ("ht prebuild conda.yaml", Refused),
    ("ht init", Refused),
    ("ht shared --enable", Refused),
    ("ht stats -w 3", Refused),
    ("ht bootstrap --quick", Refused),
];

/// One program: its home, and its working directory.
struct Side {
    test_home: TestHome,
    dir: PathBuf,
}

impl Side {
    fn new() -> Side {
        let test_home = TestHome::golden(Regime::Gzip);
        let dir = test_home.scratch().join("work");
        fs::create_dir_all(dir.join("robot")).unwrap();
        let yaml = fs::read_to_string(golden::file("golden.yaml")).unwrap();
        for name in ["conda.yaml", "same.yaml", "robot/conda.yaml"] {
            fs::write(dir.join(name), &yaml).unwrap();
        }
        fs::write(dir.join("other.yaml"), yaml.replace("3.11.7", "3.11.8")).unwrap();
        fs::write(dir.join("robot/env.json"), r#"{"FROM_ENV": "json", "NUMBER": 3}"#).unwrap();
        fs::write(
            dir.join("package.yaml"),
            "dependencies:\n  pypi: [a=1]\ndev-dependencies:\n  pypi: [b=2]\n",
        )
        .unwrap();
        let robot = "tasks:\n  a:\n    shell: x\ncondaConfigFile: conda.yaml\nartifactsDir: output\nPATH: [., bin]\nPYTHONPATH: [lib]\n";
        fs::write(dir.join("robot/robot.yaml"), robot).unwrap();
        Side { test_home, dir }
    }

    /// The command line with this program's label in it.
    fn words(&self, line: &str) -> Vec<String> {
        let line = line.replace("LABEL", &self.label()).replace("HASH", golden::BLUEPRINT);
        line.split(' ').map(str::to_owned).collect()
    }

    /// The label of the space `jam` of the controller `citests`, without the user.
    fn label(&self) -> String {
        "4e67cd8_f647e796".to_owned()
    }

    /// A text without the paths of this program's home.
    fn neutral(&self, text: &str) -> String {
        let root = self.test_home.home().parent().unwrap().to_str().unwrap();
        let user = self.test_home.user().as_os_str().to_owned();
        let var = |name: &str| (name == "HOME").then(|| user.clone());
        let home = Home::locate_with(&Environment { var: &var }, Path::new("/nonexistent")).unwrap();
        text.replace(root, "/ROOT").replace(home.user_identity(), "USER")
    }
}

fn ours(side: &Side, line: &str) -> Output {
    let words = side.words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    side.test_home.holofs_command(&words).current_dir(&side.dir).output().unwrap()
}

fn theirs(rcc: &Rcc, side: &Side, line: &str) -> Output {
    let words = side.words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // RCC would build a missing catalog.
    rcc.try_run_in(&side.test_home, &side.dir, &[&["--no-build"], &words[..]].concat())
}

/// Variables with values that only RCC has, or that come from the file of `--config`.
const OWN: [&str; 4] = ["RCC_EXE", "RCC_VERSION", "RCC_INSTALLATION_ID", "RCC_TRACKING_ALLOWED"];
/// Variables with a random value.
const RANDOM: [&str; 3] = ["PYTHONPYCACHEPREFIX", "TEMP", "TMP"];
/// The variables of `robot/env.json`: RCC keeps them in a map of Go, and so prints them in random order.
const UNORDERED: [&str; 2] = ["FROM_ENV", "NUMBER"];

/// The JSON of an output, without fields that only one of the programs can know.
fn comparable(side: &Side, output: &Output) -> Value {
    let text = side.neutral(&stdout(output));
    let mut value: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {}", said(output)));
    match &mut value {
        Value::Array(pairs) if pairs.iter().all(|pair| pair.get("key").is_some()) => {
            pairs.retain(|pair| !OWN.iter().any(|own| pair["key"] == *own));
            let random = |pair: &&mut Value| RANDOM.iter().any(|random| pair["key"] == *random);
            pairs.iter_mut().filter(random).for_each(|pair| pair["value"] = "random".into());
            // The sort is stable: the variables in `UNORDERED` come first, all others keep their order.
            pairs.sort_by_key(|pair| {
                UNORDERED.iter().position(|name| pair["key"] == *name).unwrap_or(UNORDERED.len())
            });
        }
        Value::Object(entries) => entries.values_mut().filter_map(Value::as_object_mut).for_each(|entry| {
            entry.remove("holofs");
            // The time of last use depends on which program lists first.
            entry.remove("days_since_last_use");
        }),
        _ => {}
    }
    value
}

fn names(output: &Output) -> BTreeSet<String> {
    let names = stdout(output);
    let names =
        names.lines().filter_map(|line| Some(line.strip_prefix("export ")?.split('=').next()?.to_owned()));
    names.filter(|name| !["RCC_EXE", "RCC_VERSION"].contains(&name.as_str())).collect()
}

fn has_line(side: &Side, output: &Output, text: &str) -> bool {
    let text = text.replace("LABEL", &side.label()).replace("HASH", golden::BLUEPRINT);
    (stdout(output) + &stderr(output)).contains(&text)
}

fn compare(line: &str, agree: Agree, (left, theirs): (&Side, &Output), (right, ours): (&Side, &Output)) {
    let context = || format!("{line}\nRCC: {}\nHoloFS: {}", said(theirs), said(ours));
    if agree == Refused {
        assert_eq!(ours.status.code(), Some(exit::NOT_OFFERED), "{}", context());
        assert!(stderr(ours).contains("is not supported: "), "{}", context());
        return;
    }
    assert_eq!(ours.status.success(), theirs.status.success(), "{}", context());
    match agree {
        Json => assert_eq!(comparable(right, ours), comparable(left, theirs), "{}", context()),
        Names => {
            assert!(names(ours).len() > 10, "{}", context());
            assert_eq!(names(ours), names(theirs), "{}", context());
        }
        Lines(text) => {
            assert!(has_line(left, theirs, text), "{}", context());
            assert!(has_line(right, ours, text), "{}", context());
        }
        Outcome | Refused => {}
    }
}

#[test]
fn words_of_rcc_mean_the_same_to_both_programs() {
    let Some(rcc) = rcc(19) else { return };
    let (left, right) = (Side::new(), Side::new());
    // Both homes belong to the same RCC installation.
    rcc.try_run_in(&left.test_home, &left.dir, &["ht", "ls"]);
    fs::copy(left.test_home.home().join("rcc.yaml"), right.test_home.home().join("rcc.yaml")).unwrap();
    let mut failed = Vec::new();
    for (line, agree) in LINES {
        let (theirs, ours) = (theirs(&rcc, &left, line), ours(&right, line));
        let word = format!("{agree:?}");
        println!("{:<4} {:<4} {:<8} {line}", code(&theirs), code(&ours), word.split('(').next().unwrap());
        let compared = || compare(line, agree, (&left, &theirs), (&right, &ours));
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(compared)).is_err() {
            failed.push(line);
        }
    }
    assert_eq!(failed, Vec::<&str>::new());
}

fn code(output: &Output) -> String {
    output.status.code().map_or("-".to_owned(), |code| code.to_string())
}

/// RCC merges the robot.yaml in the current directory with the given files.
#[test]
fn variables_and_blueprint_read_the_robot_yaml_that_is_here() {
    let Some(rcc) = rcc(19) else { return };
    let side = Side::new();
    let dir: &Path = &side.dir.join("robot");
    for args in [
        &["ht", "bp", "--json"][..],
        &["ht", "bp", "../package.yaml", "--json"],
        &["ht", "bp", "-r", "x.yaml", "conda.yaml", "-j"],
    ] {
        let theirs = rcc.try_run_in(&side.test_home, dir, args);
        let ours = side.test_home.holofs_command(args).current_dir(dir).output().unwrap();
        if args.contains(&"x.yaml") {
            // RCC ignores a missing robot.yaml, even if it was given by name.
            assert_eq!(ours.status.code(), Some(exit::NOT_FOUND), "{}", said(&ours));
            continue;
        }
        assert_eq!(comparable(&side, &ours), comparable(&side, &theirs), "{args:?}");
    }
}
