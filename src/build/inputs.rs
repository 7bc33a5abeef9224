//! What to build: files of a known kind become one specification, whose hash names the catalog.
//!
//! Files that RCC can read (conda.yaml, package.yaml, robot.yaml) have RCC's own blueprint, so that RCC finds the catalog too. For
//! everything else the specification is the text of the inputs, the interpreter and the platform: it changes if, and only if, one of
//! them does.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::rcc::blueprint::{self, Request};
use crate::rcc::home::{Home, blueprint_hash, platform};

use super::BuildError;
use super::locked::is_hashed;

/// The kind of the input files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// requirements.txt and similar files, for pip and uv.
    Requirements,
    /// pylock.toml: PEP 751.
    PyLock,
    /// pyproject.toml with the uv.lock next to it.
    Project,
    /// conda.yaml, package.yaml or robot.yaml that requires only Python and pip packages.
    CondaPip,
    /// The same with conda packages.
    Conda,
    /// package-lock.json with its package.json: npm packages.
    Node,
}

/// Parsed input files.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Their kind.
    pub kind: InputKind,
    /// The files, absolute.
    pub files: Vec<PathBuf>,
    /// The required Python version, such as `3.11` or `3.11.7`.
    pub python: Option<String>,
    /// Requirements for pip in a conda.yaml.
    pub requirements: Vec<String>,
    /// The text whose hash names the catalog.
    pub specification: String,
}

/// File names to look for if no file is given, the best first.
const DEFAULTS: [&str; 9] = [
    "robot.yaml",
    "package.yaml",
    "conda.yaml",
    "environment.yml",
    "environment.yaml",
    "pylock.toml",
    "uv.lock",
    "requirements.txt",
    "package-lock.json",
];

impl Inputs {
    /// Reads `files`; if empty, the first of the usual names in `dir`. `indexes` are the lines of [`Indexes`](super::Indexes).
    pub fn read(
        home: &Home,
        files: &[PathBuf],
        dir: &Path,
        python: Option<&str>,
        dev_dependencies: bool,
        indexes: &[String],
    ) -> Result<Inputs, BuildError> {
        let files = if files.is_empty() { vec![usual(dir)?] } else { files.to_vec() };
        let files: Vec<PathBuf> = files.iter().map(|file| dir.join(file)).collect();
        let kinds = files.iter().map(|file| Ok((file, kind_of(file)?)));
        let kinds = kinds.collect::<Result<Vec<_>, BuildError>>()?;
        let Some(&(first, kind)) = kinds.first() else {
            return Err(refused(dir, "no file was given"));
        };
        if let Some((other, _)) = kinds.iter().find(|(_, other)| *other != kind) {
            return Err(refused(other, &format!("it is of another kind than {}", first.display())));
        }
        match kind {
            InputKind::Conda | InputKind::CondaPip => of_rcc(home, files, dev_dependencies),
            _ => plain(kind, files, python, indexes),
        }
    }

    /// The hash in the catalog's name.
    pub fn blueprint(&self) -> String {
        blueprint_hash(&self.specification)
    }
}

fn refused(path: &Path, why: &str) -> BuildError {
    BuildError::Input { path: path.to_owned(), why: why.to_owned() }
}

fn read(path: &Path) -> Result<String, BuildError> {
    fs::read_to_string(path).map_err(|source| BuildError::Read { path: path.to_owned(), source })
}

fn usual(dir: &Path) -> Result<PathBuf, BuildError> {
    let found = DEFAULTS.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| refused(dir, &format!("it has none of {}", DEFAULTS.join(", "))))
}

fn kind_of(path: &Path) -> Result<InputKind, BuildError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    match ending.as_ref() {
        "yaml" | "yml" => Ok(InputKind::Conda),
        "txt" | "in" => Ok(InputKind::Requirements),
        "toml" if name.starts_with("pylock") => Ok(InputKind::PyLock),
        "toml" | "lock" if matches!(name.as_ref(), "pyproject.toml" | "uv.lock") => {
            match path.with_file_name("uv.lock").is_file() {
                true => Ok(InputKind::Project),
                false => Err(refused(path, "there is no uv.lock next to it; run `uv lock` first")),
            }
        }
        "json" if name == "package-lock.json" => match path.with_file_name("package.json").is_file() {
            true => Ok(InputKind::Node),
            false => Err(refused(path, "there is no package.json next to it")),
        },
        _ => Err(refused(
            path,
            "its name must be one of requirements*.txt, pylock*.toml, pyproject.toml, uv.lock, package-lock.json, *.yaml and *.yml",
        )),
    }
}

/// Files that RCC cannot read.
fn plain(
    kind: InputKind,
    files: Vec<PathBuf>,
    python: Option<&str>,
    indexes: &[String],
) -> Result<Inputs, BuildError> {
    let mut specification = format!("# holofs build 1\nplatform: {}\n", platform());
    if let Some(python) = python {
        // Writing to a string cannot fail.
        writeln!(specification, "python: {python}").unwrap_or_default();
    }
    let files = match kind {
        InputKind::Project => files.iter().map(|file| file.with_file_name("uv.lock")).collect(),
        _ => files,
    };
    let mut texts = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = read(file)?;
        let text =
            if kind == InputKind::Requirements { without_remarks(&text) } else { text.trim().to_owned() };
        texts.push((name, text));
    }
    if kind == InputKind::Requirements && !texts.iter().all(|(_, text)| is_hashed(text)) {
        indexes.iter().for_each(|line| writeln!(specification, "{line}").unwrap_or_default());
    }
    for (name, text) in texts {
        write!(specification, "--- {name}\n{text}\n").unwrap_or_default();
    }
    let specification = specification.trim().to_owned();
    Ok(Inputs { kind, files, python: python.map(str::to_owned), requirements: Vec::new(), specification })
}

/// The lines that pip reads: without comments, empty lines and surrounding whitespace.
fn without_remarks(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find(" #") {
        Some(at) => line[..at].trim(),
        None => line.trim(),
    });
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Files that RCC can read: RCC's own specification.
fn of_rcc(home: &Home, files: Vec<PathBuf>, dev_dependencies: bool) -> Result<Inputs, BuildError> {
    let request = Request { files, robot: None, dev_dependencies };
    let specification = blueprint::compose(home, &request, &|path| fs::read(path))?.text;
    let asked = Asked::of(&specification);
    let kind = if asked.is_only_pip { InputKind::CondaPip } else { InputKind::Conda };
    let files = request.files;
    Ok(Inputs { kind, files, python: asked.python, requirements: asked.pip, specification })
}

/// The contents of a specification in RCC's normal form. The form is RCC's own output: one item per line, pip's items last and
/// indented by two more spaces.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    python: Option<String>,
    pip: Vec<String>,
    is_only_pip: bool,
}

impl Asked {
    fn of(specification: &str) -> Asked {
        let mut asked = Asked { is_only_pip: true, ..Asked::default() };
        let (mut section, mut in_pip) = ("", false);
        for line in specification.lines() {
            if let Some(item) = line.strip_prefix("  - ") {
                if in_pip {
                    asked.pip.push(unquoted(item));
                }
            } else if let Some(item) = line.strip_prefix("- ") {
                in_pip = item == "pip:";
                if section == "dependencies:" && !in_pip {
                    asked.dependency(&unquoted(item));
                }
            } else {
                (section, in_pip) = (line.trim_end(), false);
                asked.is_only_pip &= !section.starts_with("rccPostInstall:");
            }
        }
        asked
    }

    fn dependency(&mut self, item: &str) {
        let end = item.find(|c: char| "<>=!~ ".contains(c)).unwrap_or(item.len());
        let (name, version) = item.split_at(end);
        match name {
            "python" => {
                let version = version.trim().trim_start_matches('=').trim();
                let is_exact = version.starts_with(|c: char| c.is_ascii_digit());
                self.python = is_exact.then(|| version.trim_end_matches(".*").to_owned());
                self.is_only_pip &= is_exact || version.is_empty();
            }
            // The tools themselves, which a prefix made by uv does not need.
            "pip" | "uv" => {}
            _ => self.is_only_pip = false,
        }
    }
}

fn unquoted(item: &str) -> String {
    item.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_with_pip_packages_alone_needs_no_conda() {
        let text =
            "channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- uv=0.9\n- pip:\n  - a==1\n  - b";
        let asked = Asked::of(text);
        assert_eq!(asked.python.as_deref(), Some("3.11.7"));
        assert_eq!(asked.pip, ["a==1", "b"]);
        assert!(asked.is_only_pip);
    }

    #[test]
    fn a_conda_package_a_range_of_pythons_and_a_post_install_need_conda() {
        for more in ["- ca-certificates", "- python>=3.9"] {
            assert!(!Asked::of(&format!("channels: []\ndependencies:\n{more}\n- pip:\n  - a")).is_only_pip);
        }
        assert!(!Asked::of("channels: []\ndependencies:\n- python=3.9\nrccPostInstall:\n- x").is_only_pip);
    }

    #[test]
    fn remarks_and_blank_lines_do_not_change_the_specification_but_versions_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("requirements.txt");
        let specification = |text: &str| {
            fs::write(&file, text).unwrap();
            plain(InputKind::Requirements, vec![file.clone()], Some("3.11"), &["index: a 0".to_owned()])
                .unwrap()
                .specification
        };
        let one = specification("requests==2.0\n");
        assert_eq!(specification("# of the team\n\n  requests==2.0   # pinned\n"), one);
        assert_ne!(specification("requests==2.1\n"), one);
        assert!(one.starts_with("# holofs build 1\nplatform: "));
        assert!(one.ends_with("\npython: 3.11\nindex: a 0\n--- requirements.txt\nrequests==2.0"), "{one}");
        assert!(!specification("requests==2.0 \\\n  --hash=sha256:00\n").contains("index:"));
    }

    #[test]
    fn files_of_unknown_or_mixed_kinds_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let why = |name: &str| kind_of(&dir.path().join(name)).unwrap_err().to_string();
        assert!(why("setup.py").contains("its name must be one of"), "{}", why("setup.py"));
        assert!(why("pyproject.toml").ends_with("there is no uv.lock next to it; run `uv lock` first"));
        fs::write(dir.path().join("uv.lock"), "").unwrap();
        assert_eq!(kind_of(&dir.path().join("pyproject.toml")).unwrap(), InputKind::Project);
    }
}
