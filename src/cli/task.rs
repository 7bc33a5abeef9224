//! What `holofs run` runs: a command, or a task of a robot with the scripts before it, as `rcc run` does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::rcc::blueprint::Robot;

/// Command lines to run one after the other, and where.
pub struct Work {
    /// What must succeed before the command.
    pub before: Vec<Vec<OsString>>,
    /// The command.
    pub command: Vec<OsString>,
    /// The working directory, if not the current one.
    pub directory: Option<PathBuf>,
}

impl Work {
    /// The given command; a task if one is named, or if there is no command.
    pub fn of(task: Option<&str>, given: &[OsString], robot: Option<&Robot>) -> anyhow::Result<Work> {
        if task.is_none() && !given.is_empty() {
            return Ok(Work { before: Vec::new(), command: given.to_vec(), directory: None });
        }
        let robot = robot.context("Only a robot.yaml has tasks")?;
        let mut command = placed(robot, robot.task(task)?);
        command.extend(given.iter().cloned());
        let before = robot.pre_run()?.into_iter().map(|words| placed(robot, words)).collect();
        let artifacts = robot.artifacts();
        std::fs::create_dir_all(&artifacts)
            .with_context(|| format!("Cannot create {}", artifacts.display()))?;
        Ok(Work { before, command, directory: Some(robot.root.clone()) })
    }
}

/// The command line with an absolute path of its program, if it has a separator in it. RCC looks for it below the directories in `PATH`.
fn placed(robot: &Robot, words: Vec<String>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    if let Some(program) = words.first_mut().filter(|program| Path::new(program).components().count() > 1) {
        *program = below(robot, program);
    }
    words
}

fn below(robot: &Robot, program: &OsStr) -> OsString {
    let found = robot.path().into_iter().map(|dir| dir.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| robot.root.join(program)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_of_a_task_is_looked_for_in_the_robot() {
        let dir = tempfile::tempdir().unwrap();
        let robot = Robot::parse(b"PATH: [bin, .]\n", dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("bin/sub")).unwrap();
        let program = |text: &str| PathBuf::from(placed(&robot, vec![text.to_owned()]).remove(0));
        assert_eq!(program("sub/a"), dir.path().join("sub/a"));
        std::fs::write(dir.path().join("bin/sub/a"), "").unwrap();
        assert_eq!(program("sub/a"), dir.path().join("bin/sub/a"));
        assert_eq!(program("./b"), dir.path().join("b"));
        assert_eq!([program("python"), program("/bin/sh")], ["python", "/bin/sh"].map(PathBuf::from));
    }
}
