//! A robot.yaml: what determines the robot's environment, the variables of its programs, and its tasks.

use std::path::{Path, PathBuf};

use super::task::{TaskError, Tasks, split};
use super::{CondaError, text, texts};
use crate::rcc::yaml;
use crate::sys::host;

/// A robot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Robot {
    /// The directory of the robot.yaml, absolute.
    pub root: PathBuf,
    /// `artifactsDir`.
    artifacts: String,
    /// `condaConfigFile`; empty for none.
    conda: String,
    /// `environmentConfigs`.
    environments: Vec<String>,
    /// `PATH`.
    path: Vec<String>,
    /// `PYTHONPATH`.
    python_path: Vec<String>,
    /// `tasks`.
    tasks: Tasks,
    /// `preRunScripts`.
    pre_run: Vec<String>,
}

impl Robot {
    /// Reads a robot.yaml whose directory is `root`.
    pub fn parse(bytes: &[u8], root: &Path) -> Result<Robot, CondaError> {
        let document = yaml::parse_bytes(bytes)?;
        Ok(Robot {
            root: root.to_owned(),
            artifacts: text(&document, "artifactsDir")?,
            conda: text(&document, "condaConfigFile")?,
            environments: texts(&document, "environmentConfigs")?,
            path: texts(&document, "PATH")?,
            python_path: texts(&document, "PYTHONPATH")?,
            tasks: Tasks::parse(&document)?,
            pre_run: texts(&document, "preRunScripts")?,
        })
    }

    /// The file that describes the environment on this machine: the first of `environmentConfigs` that exists and is meant for this
    /// platform, else `condaConfigFile`.
    pub fn environment_file(&self) -> Option<PathBuf> {
        let chosen = self.environments.iter().filter(|name| is_for(name, host::GOOS, host::GOARCH));
        let mut there = chosen
            .map(|name| self.root.join(name))
            .filter(|path| path.metadata().is_ok_and(|found| !found.is_dir()));
        there.next().or_else(|| (!self.conda.is_empty()).then(|| self.root.join(&self.conda)))
    }

    /// `ROBOT_ARTIFACTS`.
    pub fn artifacts(&self) -> PathBuf {
        absolute(&self.root, &self.artifacts)
    }

    /// The command line of the task `name`, or of the only task.
    pub fn task(&self, name: Option<&str>) -> Result<Vec<String>, TaskError> {
        self.tasks.words(&self.root, &self.artifacts, name)
    }

    /// The command lines to run before a task: the `preRunScripts` for this platform.
    pub fn pre_run(&self) -> Result<Vec<Vec<String>>, TaskError> {
        let ours = |script: &&String| is_acceptable(script, host::GOOS, host::GOARCH);
        self.pre_run.iter().filter(ours).map(|script| split(script)).collect()
    }

    /// The directories that come first in `PATH`.
    pub fn path(&self) -> Vec<PathBuf> {
        self.path.iter().map(|part| below(&self.root, part)).collect()
    }

    /// The directories of `PYTHONPATH`.
    pub fn python_path(&self) -> Vec<PathBuf> {
        self.python_path.iter().map(|part| below(&self.root, part)).collect()
    }
}

/// RCC uses an absolute path unchanged only if it is a directory; otherwise it prefixes the robot's own directory.
fn below(root: &Path, part: &str) -> PathBuf {
    let path = Path::new(part);
    if path.is_absolute() && path.is_dir() { path.to_owned() } else { absolute(root, part) }
}

fn absolute(root: &Path, part: &str) -> PathBuf {
    crate::rcc::home::clean(&root.join(part.trim_start_matches(['/', std::path::MAIN_SEPARATOR])))
}

/// RCC's rule: the first operating system and the first processor that a name mentions must be this machine's, in lower case.
fn is_acceptable(name: &str, os: &str, cpu: &str) -> bool {
    let lower = name.to_lowercase();
    let mentioned = |words: &[&str]| {
        let at = words.iter().filter_map(|word| Some((lower.find(word)?, word.len()))).min()?;
        name.get(at.0..at.0 + at.1)
    };
    mentioned(&["windows", "darwin", "linux"]).is_none_or(|word| word == os)
        && mentioned(&["amd64", "arm64"]).is_none_or(|word| word == cpu)
}

/// Also RCC's rule: a name that contains `freeze` or more than two underscores must mention the platform.
fn is_for(name: &str, os: &str, cpu: &str) -> bool {
    let particular = name.to_lowercase().contains("freeze") || name.matches('_').count() > 2;
    is_acceptable(name, os, cpu) && (!particular || name.contains(&format!("{os}_{cpu}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen_by_platform() {
        let cases = [
            ("environment_linux_amd64_freeze.yaml", true),
            ("environment_windows_amd64_freeze.yaml", false),
            ("environment_linux_arm64_freeze.yaml", false),
            ("environment_freeze.yaml", false),
            ("conda_linux.yaml", true),
            ("conda_Linux.yaml", false),
            ("conda_darwin.yaml", false),
            ("conda_amd64.yaml", true),
            ("conda_arm64.yaml", false),
            ("conda.yaml", true),
            ("a_b_c_d.yaml", false),
            ("a_b_c_linux_amd64.yaml", true),
        ];
        for (name, expected) in cases {
            assert_eq!(is_for(name, "linux", "amd64"), expected, "{name}");
        }
    }

    #[test]
    fn robot_names_the_first_file_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "condaConfigFile: c.yaml\nenvironmentConfigs:\n- environment_{0}_freeze.yaml\n- conda.yaml\nartifactsDir: out\nPATH: [., bin]\nPYTHONPATH: [lib/../src]\ntasks: {{a: {{shell: x}}}}\n",
            crate::rcc::home::platform()
        );
        let robot = Robot::parse(text.as_bytes(), dir.path()).unwrap();
        assert_eq!(robot.environment_file(), Some(dir.path().join("c.yaml")));
        std::fs::write(dir.path().join("conda.yaml"), "").unwrap();
        assert_eq!(robot.environment_file(), Some(dir.path().join("conda.yaml")));
        let freeze = dir.path().join(format!("environment_{}_freeze.yaml", crate::rcc::home::platform()));
        std::fs::write(&freeze, "").unwrap();
        assert_eq!(robot.environment_file(), Some(freeze));
        assert_eq!(robot.path(), [dir.path().to_owned(), dir.path().join("bin")]);
        assert_eq!(robot.python_path(), [dir.path().join("src")]);
        assert_eq!(robot.artifacts(), dir.path().join("out"));
        assert_eq!(Robot::parse(b"tasks: {}\n", dir.path()).unwrap().environment_file(), None);
    }

    #[test]
    fn scripts_before_a_task_are_those_for_this_platform() {
        let text = b"preRunScripts:\n- a.sh 'b c' # d\n- darwin.sh\n- linux.sh\n- windows.bat\n";
        let lines = Robot::parse(text, Path::new("/r")).unwrap().pre_run().unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], ["a.sh", "b c"]);
        assert!(lines[1][0].starts_with(host::GOOS), "{lines:?}");
        assert!(Robot::parse(b"preRunScripts: ['a \"b']\n", Path::new("/r")).unwrap().pre_run().is_err());
        assert!(Robot::parse(b"preRunScripts: a\n", Path::new("/r")).is_err());
    }
}
