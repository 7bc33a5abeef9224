//! Hashes of specifications equal those of the official RCC, for common and for unusual files.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

use std::fs;

use crate::common::rcc::{Rcc, rcc};
use crate::common::test_home::TestHome;
use crate::common::{json, said, stdout};

/// Common conda.yaml files, and some that RCC reads in surprising ways.
const SPECIFICATIONS: [&str; 18] = [
    "channels:\n  - conda-forge\n\ndependencies:\n  # python\n  - python=3.10.12   # pinned\n  - uv=0.9.22\n  - pip:\n      - robocorp==1.6.2\n",
    "dependencies:\n- python=3.12.8\n",
    "channels: [conda-forge, defaults]\ndependencies: [python=3.12.8, pip=23]\n",
    "channels:\n- a\n- b\n- a\ndependencies:\n- python\n- python=3.9\n- pip\n",
    "name: some name\nprefix: /x/y\nchannels:\n- a\ndependencies:\n- x\nrccPostInstall:\n- python -m do it\n- \"echo 'a: b'\"\n",
    "channels:\n- a\ndependencies:\n- pip:\n  - b\n- python=3\n- pip:\n  - c==1\n  - b==2\n",
    "channels:\n- a\ndependencies:\n- requests=2\n- numpy\n- pip:\n  - requests\n  - numpy==1\n  - other\n",
    "channels:\n- a\ndependencies:\n- requests=2\n- pip:\n  - requests==3\n  - numpy==1\n",
    "channels:\n- a\ndependencies:\n- pip:\n  - --extra-index-url https://x/simple\n  - -r requirements.txt\n  - pkg[extra,more]==1.0; python_version < \"3.9\"\n  - name @ https://example.com/a.whl\n",
    "channels:\n- a\ndependencies:\n- \"true\"\n- 'yes'\n- \"1.5\"\n- '@x'\n- 'a: b # c'\n- \"it's\"\n- 'x '\n",
    "channels:\n- a\ndependencies:\n- python >=3.8, <3.12\n- b = 1\n- =nothing\n- c ==\n",
    "channels:\n- a\ndependencies:\n- a word and another word and more words until the line is longer than eighty columns and then some more words\n- x\n",
    "channels:\n- a\ndependencies:\n- pip:\n  - a-very-long-requirement==1.2.3; python_version < '3.9' and sys_platform == 'win32' and extra == 'x'\n",
    "---\nchannels:\n- a\nvariables:\n  KEY: value\ndependencies:\n- x\nother:\n  - k: v\n    l: w\n",
    "name:\nchannels:\ndependencies:\n- x\n",
    "channels:\r\n- a\r\ndependencies:\r\n- x=1\r\n",
    "rccPostInstall: []\nchannels:\n- https://conda.example/x\ndependencies:\n- x\n",
    "name: 'quoted # name'\nchannels:\n- a\ndependencies:\n- x\n",
];

/// RCC's hash of several files, in this order.
fn rccs_hash(rcc: &Rcc, test_home: &TestHome, files: &[&str]) -> String {
    let output = rcc.run(test_home, &[&["holotree", "hash"], files].concat());
    let text = crate::common::stderr(&output) + &stdout(&output);
    let line = text
        .lines()
        .find(|line| line.starts_with("Blueprint hash for"))
        .unwrap_or_else(|| panic!("{}", said(&output)));
    line.rsplit(" is ").next().unwrap().trim_end_matches('.').to_owned()
}

#[test]
fn hash_of_ordinary_files_equals_that_of_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let mut files = Vec::new();
    for (at, text) in SPECIFICATIONS.iter().enumerate() {
        let path = test_home.scratch().join(format!("conda{at}.yaml"));
        fs::write(&path, text).unwrap();
        files.push(path.to_str().unwrap().to_owned());
    }
    for (file, text) in files.iter().zip(SPECIFICATIONS) {
        let report = json(&test_home.holofs_ok(&["hash", file, "--show-blueprint", "--json"]));
        assert_eq!(
            crate::common::text_field(&report, "hash"),
            rccs_hash(&rcc, &test_home, &[file]),
            "{text}\n{report:#}"
        );
    }
    for pair in [[4, 6], [6, 4], [8, 4], [13, 16]] {
        let pair = pair.map(|at: usize| files[at].as_str());
        let ours = stdout(&test_home.holofs_ok(&["hash", pair[0], pair[1]]));
        assert_eq!(ours.trim_end(), rccs_hash(&rcc, &test_home, &pair), "{pair:?}");
    }
}

#[test]
fn hash_as_json_is_that_of_rcc_19() {
    let Some(rcc) = rcc(19) else { return };
    let test_home = TestHome::new();
    for text in SPECIFICATIONS {
        let file = test_home.scratch().join("conda.yaml");
        fs::write(&file, text).unwrap();
        for more in [&[][..], &["--show-blueprint"]] {
            let args = [&["hash", file.to_str().unwrap(), "--json"], more].concat();
            let theirs = rcc.try_run(&test_home, &[&["holotree"], &args[..]].concat());
            let ours = json(&test_home.holofs_ok(&args));
            // RCC 19 has no --show-blueprint; later versions do.
            let known = theirs.status.success();
            assert!(known || !more.is_empty(), "{}", said(&theirs));
            if known {
                assert_eq!(ours, json(&theirs), "{text}");
            }
        }
    }
}

#[test]
fn hash_includes_a_local_channel() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let file = test_home.scratch().join("conda.yaml");
    fs::write(&file, SPECIFICATIONS[0]).unwrap();
    let file = file.to_str().unwrap();
    let without = stdout(&test_home.holofs_ok(&["hash", file]));
    fs::create_dir_all(test_home.home().join("channel")).unwrap();
    fs::write(test_home.home().join("channel/channeldata.json"), "{}").unwrap();
    let with = stdout(&test_home.holofs_ok(&["hash", file]));
    assert_ne!(with, without);
    assert_eq!(with.trim_end(), rccs_hash(&rcc, &test_home, &[file]));
}

#[test]
fn hash_refuses_a_file_that_cannot_be_parsed() {
    let test_home = TestHome::new();
    for text in ["channels: [a:, b]\ndependencies: []\n", "tasks:\n  a:\n    shell: x\n", "channels: x\n"] {
        let path = test_home.scratch().join("conda.yaml");
        fs::write(&path, text).unwrap();
        test_home.holofs_fails(&["hash", path.to_str().unwrap()], crate::common::exit::BAD_CATALOG);
    }
}

/// Texts with unusual features of the YAML dialects, of the library and of RCC itself.
const CORNERS: [&str; 44] = [
    "channels:\n- a\ndependencies:\n- python=3.10.12\n- pip :\n  - robocorp==1.6.2\n",
    "channels:\n- a\ndependencies:\n- x\nrccPostInstall:\n- rfbrowser init\n- rfbrowser init\n",
    "channels:\n- a\ndependencies:\n- python\n- --pre\n- --pre\n- pip:\n  - --pre\n  - --pre\n  - a==1\n",
    "name: ~\nchannels: [~, 3, yes, 2001-12-14, 0x1F]\ndependencies: [x, 3, 1., 1e5, yes, ~, 2001-12-14]\n",
    "channels: [x]\nchannels: [y]\ndependencies: [x]\n",
    "b: &b\n  channels: [m]\n  name: mm\nname: early\n<<: *b\ndependencies: [x]\n",
    "a: &a {name: n1, channels: [a]}\nb: &b {name: n2, prefix: p}\n<<: [*a, *b]\ndependencies: [x]\n",
    "x-c: &c [conda-forge, \"b\"]\nchannels: *c\ndependencies:\n- &p python=3.7\n- *p\n- pip: &l\n  - a\n",
    "channels: []\ndependencies: [x]\nrccPostInstall:\n- |\n  a b",
    "channels: []\ndependencies: [x]\nrccPostInstall:\n- |\n  a\n  ",
    "channels: []\ndependencies: [x]\nrccPostInstall:\n- >\n  python -m\n  pip install\n\n  x\n- |\n  a\n   b\n\n- >-\n  x\n    more\n  y\n- \"a\n  b\n\n  c\"\n- plain\n  goes on\n",
    "channels: []\ndependencies: [x]\nrccPostInstall:\n- |+\n  a\n\n- b\n- |+\n  c\n\n",
    "name: a\nchannels: [\"1.\", \"1e5\", \".5\", \"0o7\", \"08\", \"0b2\", \"-0b1\", \"1_000\", \"+.inf\", \"190:20:30\", \"y\", \"<<\", \"=\"]\ndependencies: [x]\n",
    "channels: [größe, \"a\\tb\", \"a\\u00a0b\", \"\\U0001F600\", \" x\", \"x \", \"\", \"a\\nb\", \"\\nb\", \"b\\n\\n\", \" a\\nb\", \"a \\nb\"]\ndependencies: [x]\n",
    "channels:\n- a\t# c\ndependencies:\n- x\t\n- y=1\n",
    "channels: [x]\ndependencies: [x]\n---\nfoo: [\n",
    "channels: [!!str 1]\ndependencies: [x]\n",
    "channels: [x]\ndependencies:\n- x\n- pip:\n   a: b\n- pip: foo\n- pip:\n  - 3\n  - z\n  - [z]\n- [l]\n",
    "rccPostInstall: [x]\n",
    "channels:\r- a\rdependencies:\r- x\r",
    "channels: [a]\ndependencies:\n- python\n  =3.7\n- pip:\n  - a\n    ==1\n",
    "channels:\t[a]\ndependencies:\t\n- x\n",
    "channels: [\"C:\\\\x\", \"a\\x41\", \"\\u00fc\", \"a\\\n  b\"]\ndependencies: [x]\n",
    "# c\n\n--- # d\nchannels: # e\n# f\n  - a # g\n  # h\n  - b\ndependencies:\n  - x#y\n  - z #y\n...\nfoo\n",
    "\"channels\": [a]\n'dependencies':\n- \"pip\" : [b]\n- c\n? name\n: n\n",
    "channels: [a,\n  b, # c\n  c,\n]\ndependencies: [python=3.7, {pip: [a==1, \"b>=2\"]}]\n",
    "channels: [https://x/y, c::d, http://u:p@h:80/x]\ndependencies: [x]\n",
    "channels: [a]\ndependencies:\n-\n- x\n- \"\"\n- pip:\n  -\n  - z\n- pip:\n- w\n",
    "channels: [a]\ndependencies:\n- '@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb cccccccccc dddddd'\n",
    "channels: [\"\\taaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  bbbbbbbb cccc  dddd\"]\ndependencies: [x]\n",
    "channels: [a]\ndependencies:\n- a=1\n- a=2\n- b\n- pip:\n  - c==1\n  - c==2\n  - d\n",
    "channels: [a]\ndependencies:\n- a=1\n- e\n- pip:\n  - e==3\n  - a==2\n  - d\n",
    "channels: [a]\ndependencies:\n- \"a >=\n\n  1\"\n- \"b >= 1\n\n  2\"\n- \"c\\tx=1\"\n- \"=x\"\n- \"d==\\n1\"\n- \"e\\n\\n\"\n",
    "channels:\n- a\n- #x\n- b\ndependencies: [x]\n",
    "channels: [a]\ndependencies:\n- pip:\n  - a @ git+https://x@y#egg=z\n  - ./local\n  - -e .\n  - a==1 ; python_version<\"3\"\n",
    "channels: [a]\ndependencies:\n- a & b\n- a | b\n- a > b\n- a!=1\n- \"!a\"\n",
    "--- {channels: [a], dependencies: [b]}\n",
    "channels: [a]\ndependencies:\n- a\u{a0}b\n- \u{a0}c\n- d\u{200b}=1\n",
    "name: \u{1f600} größe\nchannels: [a]\ndependencies:\n- x\n",
    "name: \"a\\ab\"\nchannels: [a]\ndependencies:\n- 2001-12-14 21:59:43.10 -5\n- 2001-12-14 21:59:43\n- 2001-12-1412\n",
    "\u{feff}channels: [a]\ndependencies: [x]\n",
    "name: 3.10\nchannels: [a]\ndependencies:\n- python=3.10\nvariables:\n  A: \"x\"\nprefix: C:\\Users\\x\\y\n",
    "channels: [a]\ndependencies: [x]\nrccPostInstall:\n- |2\n   a\n  b\n- |1-\n  a\n",
    "channels: [a]\ndependencies:\n- 'x'   # c\n- \"y z\"\n- pip:\n  - 'q'\n",
];

#[test]
fn hash_of_rare_syntax_equals_that_of_both_rccs() {
    let (Some(seventeen), Some(nineteen)) = (rcc(17), rcc(19)) else { return };
    let test_home = TestHome::new();
    for text in CORNERS {
        let file = test_home.scratch().join("conda.yaml");
        fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let ours = stdout(&test_home.holofs_ok(&["hash", file]));
        for rcc in [&seventeen, &nineteen] {
            assert_eq!(ours.trim_end(), rccs_hash(rcc, &test_home, &[file]), "{text}");
        }
    }
}

#[test]
fn hash_of_utf_16_is_that_of_rcc() {
    let Some(rcc) = rcc(17) else { return };
    let test_home = TestHome::new();
    let file = test_home.scratch().join("conda.yaml");
    let text = "\u{feff}channels: [größe]\r\ndependencies: [x]\r\n";
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(&file, bytes).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        stdout(&test_home.holofs_ok(&["hash", file])).trim_end(),
        rccs_hash(&rcc, &test_home, &[file])
    );
}

/// Pseudo-random numbers, the same on each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }
}

/// A realistic file: its parts in any order, style and indentation.
fn specification(dice: &mut Dice) -> String {
    let mut parts = vec![channels(dice), dependencies(dice)];
    if dice.roll(3) == 0 {
        parts.insert(
            0,
            format!("name: {}\n", dice.one_of(&["my-env", "3.10", "\"a b\"", "yes", "rpa # old"])),
        );
    }
    if dice.roll(3) == 0 {
        parts.push(post_install(dice));
    }
    if dice.roll(6) == 0 {
        parts.swap(0, 1);
    }
    let between = dice.one_of(&["", "\n", "# next\n", "\n  # next\n"]);
    let text =
        dice.one_of(&["", "", "# For more details\n", "---\n", "\n"]).to_owned() + &parts.join(between);
    match dice.roll(8) {
        0 => text.replace('\n', "\r\n"),
        1 => format!("\u{feff}{text}"),
        2 => text.trim_end().to_owned(),
        _ => text,
    }
}

fn channels(dice: &mut Dice) -> String {
    let names = ["conda-forge", "defaults", "\"conda-forge\"", "https://repo.example/x", "a::b", "größe"];
    let chosen: Vec<&str> = (0..1 + dice.roll(3)).map(|_| dice.one_of(&names)).collect();
    match dice.roll(4) {
        0 => format!("channels: [{}]\n", chosen.join(", ")),
        1 => format!("channels: &c\n- {}\n", chosen.join("\n- ")),
        _ => block(dice, "channels:", &chosen, 0),
    }
}

fn dependencies(dice: &mut Dice) -> String {
    let conda = [
        "python=3.10.12",
        "python=3.9.13  # pinned",
        "pip=22.1.2",
        "python",
        "nodejs=16.14.2",
        "tesseract=4",
        "numpy >=1.2, <2",
        "uv=0.6.1",
        "'libxml2 = 2.9'",
        "conda-forge::jq",
        "3",
        "~",
        "x=1.*=py_0",
    ];
    let pip = [
        "rpaframework==28.0.0",
        "rpaframework==28.0.0 # newest",
        "robotframework>=6",
        "numpy",
        "pip",
        "--pre",
        "pkg[extra,more]==1.0; python_version < \"3.9\"",
        "-r requirements.txt",
        "\"PyYAML==6.0\"",
        "uv",
        "--extra-index-url https://user:word@packages.example.org/a/long/path/to/simple --trusted-host packages.example.org",
        "name @ https://example.com/a.whl#sha256=00",
        "'docutils<0.18'\t# tab",
        "robocorp==1.6.2",
    ];
    let mut chosen: Vec<&str> = (0..1 + dice.roll(5)).map(|_| dice.one_of(&conda)).collect();
    let below: Vec<&str> = (0..dice.roll(7)).map(|_| dice.one_of(&pip)).collect();
    let deeper = 2 * dice.roll(3);
    let key = dice.one_of(&["pip:", "pip:", "pip :", "pip:   # by pip", "\"pip\":"]);
    let nested = block(dice, key, &below, deeper + 4);
    if !below.is_empty() {
        chosen.insert(dice.roll(chosen.len() + 1), nested.trim_end());
    }
    block(dice, "dependencies:", &chosen, 0)
}

fn post_install(dice: &mut Dice) -> String {
    let items = [
        "rfbrowser init",
        "python -m pip install x",
        ">\n    python -m\n    pip list",
        "|\n    a\n     b",
        "\"a: b\"",
        "echo one and two and three and four and five and six and seven and eight and nine and ten and eleven",
        "plain text\n    that goes on",
    ];
    let chosen: Vec<&str> = (0..1 + dice.roll(3)).map(|_| dice.one_of(&items)).collect();
    block(dice, "rccPostInstall:", &chosen, 0)
}

/// A list below its key.
fn block(dice: &mut Dice, key: &str, items: &[&str], indent: usize) -> String {
    let indent = " ".repeat(if indent == 0 { 2 * dice.roll(2) } else { indent });
    let dash = dice.one_of(&["- ", "- ", "-   "]);
    let lines: String = items.iter().map(|item| format!("{indent}{dash}{item}\n")).collect();
    format!("{key}\n{lines}")
}

#[test]
fn hash_of_published_files_equals_that_of_both_rccs() {
    let (Some(seventeen), Some(nineteen)) = (rcc(17), rcc(19)) else { return };
    // A few in every run; all 300 with HOLOFS_HASHES=300.
    let count = std::env::var("HOLOFS_HASHES").ok().map_or(40, |text| text.parse().unwrap());
    let test_home = TestHome::new();
    let mut dice = Dice(20_261_128);
    let mut refused = 0;
    for at in 0..count {
        let text = specification(&mut dice);
        let file = test_home.scratch().join("conda.yaml");
        fs::write(&file, &text).unwrap();
        let file = file.to_str().unwrap();
        let theirs = try_rccs_hash(&seventeen, &test_home, file);
        assert_eq!(try_rccs_hash(&nineteen, &test_home, file), theirs, "{text}");
        match theirs {
            Some(hash) => {
                assert_eq!(stdout(&test_home.holofs_ok(&["hash", file])).trim_end(), hash, "{at}:\n{text}")
            }
            None => refused += 1,
        }
    }
    assert!(refused * 10 < count, "{refused} of {count} are no specifications for RCC either");
}

fn try_rccs_hash(rcc: &Rcc, test_home: &TestHome, file: &str) -> Option<String> {
    let output = rcc.try_run(test_home, &["holotree", "hash", file]);
    output.status.success().then(|| rccs_hash(rcc, test_home, &[file]))
}

/// package.yaml files of action packages.
const PACKAGES: [&str; 8] = [
    "name: Bare\ndescription: x\nversion: 0.0.1\nspec-version: v2\ndependencies:\n  conda-forge:\n  - python=3.12.8\n  - uv=0.6.11\n  pypi:\n  - sema4ai-actions=1.3.1\n  - pytz=2024.1\npackaging:\n  exclude:\n  - ./.git/**\n",
    "dependencies:\n  conda-forge: [python=3.12, 'uv = 0.6', python]\n  pypi: [a=1, b==2, c>=3, d = 4, e, \"f[x]=5\", uv=0.6]\ndev-dependencies:\n  pypi: [pytest=8, a=1]\n  conda-forge: [nodejs=20]\npost-install:\n- do it\n- do it\n- python -m x\n",
    "dependencies:\n  pypi: [a=1, a=2, b]\n",
    "dependencies:\ndev-dependencies: ~\npost-install:\n",
    "spec-version: v2\n",
    "dependencies:\n  conda-forge:\n  - python=3.10\n  - 3\n  - yes\n  pypi:\n  - 1.0\n  - ~\n",
    "external-endpoints: {a: [b]}\ndependencies: &d\n  pypi: [x=1]\ndev-dependencies: *d\n",
    "dependencies:\n  conda-forge:\n  - python=3.11.11\ndev-dependencies:\n  conda-forge:\n  - python=3.12\n  pypi:\n  - x=1\n",
];

#[test]
fn hash_of_package_yaml_is_that_of_rcc_19() {
    let Some(rcc) = rcc(19) else { return };
    let test_home = TestHome::new();
    let file = test_home.scratch().join("Package.yaml");
    for text in PACKAGES {
        fs::write(&file, text).unwrap();
        for more in [&[][..], &["--devdeps"]] {
            let args = [&["hash", file.to_str().unwrap(), "--json", "--show-blueprint"], more].concat();
            let theirs = json(&rcc.run(&test_home, &[&["holotree"], &args[..]].concat()));
            assert_eq!(json(&test_home.holofs_ok(&args)), theirs, "{text}");
        }
    }
}

#[test]
fn hash_refuses_devdeps_without_a_package_yaml_as_rcc_19_does() {
    let Some(rcc) = rcc(19) else { return };
    let test_home = TestHome::new();
    let [conda, package] = ["conda.yaml", "package.yaml"].map(|name| test_home.scratch().join(name));
    fs::write(&conda, SPECIFICATIONS[0]).unwrap();
    let args = ["hash", conda.to_str().unwrap(), "--devdeps"];
    assert!(!rcc.try_run(&test_home, &[&["holotree"], &args[..]].concat()).status.success());
    test_home.holofs_fails(&args, crate::common::exit::BAD_CATALOG);
    fs::write(&package, "dependencies: [a]\n").unwrap();
    let args = ["hash", package.to_str().unwrap()];
    assert!(!rcc.try_run(&test_home, &[&["holotree"], &args[..]].concat()).status.success());
    test_home.holofs_fails(&args, crate::common::exit::BAD_CATALOG);
}

#[test]
fn hash_of_stdin_uses_the_given_name() {
    let test_home = TestHome::new();
    let piped = |name: &str, text: &str| {
        let input = test_home.scratch().join("input");
        fs::write(&input, text).unwrap();
        let mut command = test_home.holofs_command(&["hash", "--stdin", name]);
        stdout(&crate::common::run(command.stdin(fs::File::open(input).unwrap())))
    };
    let package = test_home.scratch().join("package.yaml");
    fs::write(&package, PACKAGES[0]).unwrap();
    let from_file = stdout(&test_home.holofs_ok(&["hash", package.to_str().unwrap()]));
    assert_eq!(piped("/nowhere/package.yaml", PACKAGES[0]), from_file);
    assert_ne!(piped("conda.yaml", SPECIFICATIONS[0]), from_file);
}

#[test]
fn hash_of_robot_yaml_is_that_of_the_environment_which_rcc_chooses() {
    let Some(rcc) = rcc(19) else { return };
    let test_home = TestHome::new();
    let root = test_home.scratch().join("robot");
    fs::create_dir(&root).unwrap();
    let names = [
        "conda.yaml",
        "package.yaml",
        "environment_linux_amd64_freeze.yaml",
        "environment_windows_amd64_freeze.yaml",
        "environment_freeze.yaml",
        "conda_linux.yaml",
        "conda_Linux.yaml",
        "conda_darwin_arm64.yaml",
        "a_b_c_d.yaml",
    ];
    for name in names {
        let text = format!("name: {name}\nchannels: [a]\ndependencies: [x=1]\n");
        fs::write(root.join(name), if name == "package.yaml" { PACKAGES[0] } else { &text }).unwrap();
    }
    let robots = [
        "condaConfigFile: conda.yaml\n",
        "condaConfigFile: package.yaml\nenvironmentConfigs: []\n",
        "condaConfigFile: conda.yaml\nenvironmentConfigs:\n- environment_windows_amd64_freeze.yaml\n- environment_linux_amd64_freeze.yaml\n- conda_linux.yaml\n",
        "condaConfigFile: conda.yaml\nenvironmentConfigs: [environment_freeze.yaml, conda_darwin_arm64.yaml, absent.yaml]\n",
        "environmentConfigs: [conda_Linux.yaml, a_b_c_d.yaml, conda_linux.yaml]\n",
        "condaConfigFile: ../robot/conda.yaml\n",
    ];
    for robot in robots {
        let file = root.join("robot.yaml");
        fs::write(&file, format!("tasks:\n  a:\n    shell: x\nartifactsDir: output\n{robot}")).unwrap();
        let file = file.to_str().unwrap();
        let theirs = json(&rcc.run(&test_home, &["holotree", "blueprint", "-r", file, "--json"]));
        let ours = stdout(&test_home.holofs_ok(&["hash", file]));
        assert_eq!(ours.trim_end(), crate::common::text_field(&theirs, "hash"), "{robot}");
    }
    fs::write(root.join("robot.yaml"), "tasks: {}\n").unwrap();
    let file = root.join("robot.yaml");
    test_home.holofs_fails(&["hash", file.to_str().unwrap()], crate::common::exit::BAD_CATALOG);
}
