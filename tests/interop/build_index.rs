//! `holofs build` from package indexes: options and uv's variables choose them, and name the catalog where they change what it contains.
//!
//! The indexes are directories of wheels, served by Python.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::build::{build, python};
use crate::common::test_home::TestHome;
use crate::common::uv::uv;
use crate::common::wheel::wheel_of;
use crate::common::{json, said, stdout, text_field};

/// A web server on this machine, for the life of the value.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(dir: &Path) -> Server {
        let mut command = Command::new(python());
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(dir);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.split(" port ").nth(1).unwrap().split(' ').next().unwrap();
        Server { url: format!("http://127.0.0.1:{port}"), child }
    }

    /// The address of an index.
    fn index(&self, name: &str) -> String {
        format!("{}/{name}/simple", self.url)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A home, and the index `old` with tinytool 1.0, `new` with tinytool 2.0 and othertool 1.0.
fn with_indexes() -> (TestHome, Server) {
    let test_home = TestHome::new();
    let root = test_home.scratch().join("indexes");
    for (index, name, version) in
        [("old", "tinytool", "1.0"), ("new", "tinytool", "2.0"), ("new", "othertool", "1.0")]
    {
        let dir = root.join(index).join("simple").join(name);
        fs::create_dir_all(&dir).unwrap();
        wheel_of(&dir, name, version);
    }
    let server = Server::start(&root);
    (test_home, server)
}

/// The blueprint of a build, and whether it is new.
#[track_caller]
fn built(command: &mut Command) -> (String, bool) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report = json(&output);
    (text_field(&report, "blueprint"), report["is_new"].as_bool().unwrap())
}

fn version(test_home: &TestHome, blueprint: &str) -> String {
    let code = "import tinytool; print(tinytool.VERSION)";
    stdout(&test_home.holofs_ok(&["run", "--space", "auto", blueprint, "--", "python3", "-c", code]))
        .trim()
        .to_owned()
}

#[test]
fn build_takes_packages_from_the_index_that_options_or_variables_name() {
    let Some(uv) = uv() else { return };
    let (test_home, server) = with_indexes();
    let (old, new) = (server.index("old"), server.index("new"));
    let file = test_home.scratch().join("requirements.txt");
    fs::write(&file, "tinytool\n").unwrap();
    let file = file.to_str().unwrap();
    let from_old = built(&mut build(&test_home, &uv, &["--index-url", &old, file]));
    assert_eq!((version(&test_home, &from_old.0), from_old.1), ("1.0".to_owned(), true));
    // An option takes precedence over a variable, even one that uv prefers to its own option.
    let mut other = build(&test_home, &uv, &["--index-url", &new, file]);
    let from_new = built(other.env("UV_DEFAULT_INDEX", &old));
    assert_eq!((version(&test_home, &from_new.0), from_new.1), ("2.0".to_owned(), true));
    for variable in ["UV_DEFAULT_INDEX", "UV_INDEX_URL"] {
        let again = built(build(&test_home, &uv, &[file]).env(variable, format!("{new}/")));
        assert_eq!(again, (from_new.0.clone(), false), "{variable}");
    }
    let secret = new.replace("http://", "http://someone:secret@");
    assert_eq!(
        built(&mut build(&test_home, &uv, &["--index-url", &secret, file])),
        (from_new.0.clone(), false)
    );
    let args = ["--index-url", &old, "--extra-index-url", &new, file];
    let from_both = built(&mut build(&test_home, &uv, &args));
    assert_eq!((version(&test_home, &from_both.0), from_both.1), ("2.0".to_owned(), true));
    let mut again = build(&test_home, &uv, &["--index-url", &old, file]);
    assert_eq!(built(again.env("UV_INDEX", format!("team={new}"))), (from_both.0, false));
}

#[test]
fn build_of_inputs_that_name_the_bytes_has_the_same_hash_for_every_index() {
    let Some(uv) = uv() else { return };
    let (test_home, server) = with_indexes();
    let file = test_home.scratch().join("requirements.txt");
    let wheel = test_home.scratch().join("indexes/new/simple/tinytool/tinytool-2.0-py3-none-any.whl");
    let digest = crate::common::run(Command::new("sha256sum").arg(wheel));
    let digest = stdout(&digest).split(' ').next().unwrap().to_owned();
    fs::write(&file, format!("tinytool==2.0 --hash=sha256:{digest}\n")).unwrap();
    let file = file.to_str().unwrap();
    let first = built(&mut build(&test_home, &uv, &["--index-url", &server.index("new"), file]));
    let again = built(&mut build(&test_home, &uv, &["--index-url", &server.index("old"), file]));
    assert_eq!(again, (first.0, false));
    // RCC's blueprint has no indexes.
    let yaml = test_home.scratch().join("conda.yaml");
    fs::write(&yaml, "channels:\n- conda-forge\ndependencies:\n- python\n- pip:\n  - tinytool\n").unwrap();
    let yaml = yaml.to_str().unwrap();
    let (blueprint, _) = built(&mut build(&test_home, &uv, &["--index-url", &server.index("old"), yaml]));
    assert_eq!(stdout(&test_home.holofs_ok(&["hash", yaml])).trim_end(), blueprint);
    assert_eq!(version(&test_home, &blueprint), "1.0");
}

#[test]
fn build_of_a_project_takes_packages_from_the_indexes_of_its_lock_file() {
    let Some(uv) = uv() else { return };
    let (test_home, server) = with_indexes();
    let project = test_home.scratch().join("project");
    fs::create_dir_all(&project).unwrap();
    let text = format!(
        "[project]\nname = \"p\"\nversion = \"1\"\nrequires-python = \">=3.9\"\ndependencies = [\"tinytool\"]\n\
         [[tool.uv.index]]\nname = \"team\"\nurl = \"{}\"\ndefault = true\n",
        server.index("new")
    );
    fs::write(project.join("pyproject.toml"), text).unwrap();
    let mut lock = test_home.command(&uv);
    lock.args(["lock", "--quiet", "--python", &python(), "--project"]).arg(&project);
    crate::common::run(lock.env("UV_CACHE_DIR", test_home.scratch().join("uv")));
    let file = project.join("uv.lock");
    let (blueprint, _) = built(&mut build(&test_home, &uv, &["--frozen", file.to_str().unwrap()]));
    assert_eq!(version(&test_home, &blueprint), "2.0");
}
