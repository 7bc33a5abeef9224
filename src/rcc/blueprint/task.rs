//! The tasks of a robot.yaml: which one is chosen, and the command lines to run for it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::{CondaError, text, texts, words};
use crate::error::{Class, Failure};
use crate::rcc::yaml::Yaml;

/// The tasks of a robot, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tasks(Vec<Task>);

/// One task: a command line in one of three forms.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    name: String,
    /// `robotTaskName`: a task of Robot Framework.
    robot: String,
    /// `shell`: one text, which is split into words.
    shell: String,
    /// `command`: the words.
    command: Vec<String>,
}

/// Why no task of a robot can run.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It has none.
    #[error("The robot in {} has no tasks", root.display())]
    Nothing {
        /// The directory of the robot.
        root: PathBuf,
    },
    /// It has several, and none was chosen.
    #[error("The robot in {} has several tasks: {names}", root.display())]
    Several {
        /// The directory of the robot.
        root: PathBuf,
        /// Their names.
        names: String,
    },
    /// It has others.
    #[error("The robot in {} has no task {name:?}, but {names}", root.display())]
    Unknown {
        /// The directory of the robot.
        root: PathBuf,
        /// The chosen name.
        name: String,
        /// The names of its tasks.
        names: String,
    },
    /// RCC runs no task of such a robot.
    #[error("The robot.yaml in {} has no artifactsDir", root.display())]
    NoArtifacts {
        /// The directory of the robot.
        root: PathBuf,
    },
    /// RCC runs no task of such a robot.
    #[error("The task {name:?} needs exactly one of robotTaskName, shell and command")]
    Form {
        /// The task.
        name: String,
    },
    /// A command line is not one.
    #[error("Cannot split {line:?} into words: {why}")]
    Line {
        /// The text.
        line: String,
        /// Why.
        why: &'static str,
    },
}

impl Failure for TaskError {
    fn class(&self) -> Option<Class> {
        match self {
            TaskError::Nothing { .. } | TaskError::Several { .. } | TaskError::Unknown { .. } => {
                Some(Class::NotFound)
            }
            TaskError::NoArtifacts { .. } | TaskError::Form { .. } | TaskError::Line { .. } => {
                Some(Class::BadCatalog)
            }
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            TaskError::Nothing { .. } => {
                Some("name a command, or start a shell in the environment with `holofs shell`".into())
            }
            TaskError::Several { .. } | TaskError::Unknown { .. } => {
                Some("choose one with --task NAME".into())
            }
            TaskError::NoArtifacts { .. } | TaskError::Form { .. } | TaskError::Line { .. } => None,
        }
    }
}

impl Tasks {
    /// Reads the `tasks` of a robot.yaml.
    pub fn parse(document: &Yaml) -> Result<Tasks, CondaError> {
        match document.get("tasks") {
            None => Ok(Tasks(Vec::new())),
            Some(nothing) if nothing.is_nothing() => Ok(Tasks(Vec::new())),
            Some(Yaml::Map(entries)) => entries
                .iter()
                .map(|(name, value)| Task::parse(name, value))
                .collect::<Result<_, _>>()
                .map(Tasks),
            Some(_) => Err(CondaError::Part { part: "tasks", why: "it is not a map" }),
        }
    }

    /// The command line of the task `name`, or of the only task, of the robot in `root`; `artifacts` is the text of its
    /// `artifactsDir`. A name that differs only in case, or in quotes and blanks around it, is accepted, as in RCC.
    pub fn words(&self, root: &Path, artifacts: &str, name: Option<&str>) -> Result<Vec<String>, TaskError> {
        let root = || root.to_owned();
        if self.0.is_empty() {
            return Err(TaskError::Nothing { root: root() });
        }
        if artifacts.is_empty() {
            return Err(TaskError::NoArtifacts { root: root() });
        }
        self.0.iter().try_for_each(Task::check)?;
        let name = name.unwrap_or_default();
        let chosen = match &self.0[..] {
            [only] if name.is_empty() => only,
            _ if name.is_empty() => return Err(TaskError::Several { root: root(), names: self.names() }),
            _ => self.find(name).ok_or_else(|| TaskError::Unknown {
                root: root(),
                name: name.to_owned(),
                names: self.names(),
            })?,
        };
        chosen.words(artifacts)
    }

    fn find(&self, name: &str) -> Option<&Task> {
        let name = name.trim_matches(['\t', '\r', '\n', '"', '\'', ' ']);
        let caseless = name.to_lowercase();
        let exact = self.0.iter().find(|task| task.name == name);
        exact.or_else(|| self.0.iter().find(|task| task.name.trim().to_lowercase() == caseless))
    }

    fn names(&self) -> String {
        let mut names: Vec<String> = self.0.iter().map(|task| format!("{:?}", task.name)).collect();
        names.sort();
        names.join(", ")
    }
}

impl Task {
    fn parse(name: &str, value: &Yaml) -> Result<Task, CondaError> {
        if !value.is_nothing() && !matches!(value, Yaml::Map(_)) {
            return Err(CondaError::Part { part: "tasks", why: "a task is not a map" });
        }
        Ok(Task {
            name: name.to_owned(),
            robot: text(value, "robotTaskName")?,
            shell: text(value, "shell")?,
            command: texts(value, "command")?,
        })
    }

    fn check(&self) -> Result<(), TaskError> {
        let forms = [!self.robot.is_empty(), !self.shell.is_empty(), !self.command.is_empty()];
        match forms.into_iter().filter(|is_given| *is_given).count() {
            1 => Ok(()),
            _ => Err(TaskError::Form { name: self.name.clone() }),
        }
    }

    /// The words of its command line; `artifacts` as written in the robot.yaml.
    fn words(&self, artifacts: &str) -> Result<Vec<String>, TaskError> {
        if !self.command.is_empty() {
            return Ok(self.command.clone());
        }
        if !self.shell.is_empty() {
            return split(&self.shell);
        }
        let words = ["python", "-m", "robot", "--report", "NONE", "--outputdir", artifacts];
        let words = words.into_iter().chain(["--logtitle", "Task log", "--task", &self.robot, "."]);
        Ok(words.map(str::to_owned).collect())
    }
}

/// The words of a command line, at least one.
pub fn split(line: &str) -> Result<Vec<String>, TaskError> {
    let failed = |why| TaskError::Line { line: line.to_owned(), why };
    match words::split(line).map_err(failed)? {
        words if words.is_empty() => Err(failed("it has none")),
        words => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::yaml;

    fn words(text: &str, artifacts: &str, name: Option<&str>) -> Result<Vec<String>, TaskError> {
        let document = yaml::parse_bytes(text.as_bytes()).unwrap();
        Tasks::parse(&document).unwrap().words(Path::new("/r"), artifacts, name)
    }

    const THREE: &str = "tasks:\n  Run Bot: {robotTaskName: Do it}\n  x y:\n    shell: python \"a b.py\" # why\n  \
        1: {command: [echo, 2, '']}\n";

    #[test]
    fn task_has_the_command_line_that_rcc_gives_it() {
        let framework =
            "python|-m|robot|--report|NONE|--outputdir|out put|--logtitle|Task log|--task|Do it|.";
        let expected = [
            ("1", "echo|2|"),
            ("x y", "python|a b.py"),
            (" \"X Y\" ", "python|a b.py"),
            ("run bot", framework),
            ("Run Bot", framework),
        ];
        for (name, line) in expected {
            assert_eq!(words(THREE, "out put", Some(name)).unwrap().join("|"), line, "{name}");
        }
    }

    #[test]
    fn task_must_be_chosen_among_several() {
        let said = |name| words(THREE, "o", name).unwrap_err().to_string();
        assert_eq!(said(None), r#"The robot in /r has several tasks: "1", "Run Bot", "x y""#);
        assert_eq!(said(Some("z")), r#"The robot in /r has no task "z", but "1", "Run Bot", "x y""#);
        let only = |name| words("tasks: {a: {shell: b}}\n", "o", name);
        assert_eq!([None, Some(""), Some("A")].map(|name| only(name).unwrap()), [["b"], ["b"], ["b"]]);
        assert!(only(Some("b")).is_err());
    }

    #[test]
    fn robots_of_which_rcc_runs_no_task_are_refused() {
        let said = |text: &str, artifacts| words(text, artifacts, None).unwrap_err().to_string();
        assert_eq!(said("PATH: []\n", "o"), "The robot in /r has no tasks");
        assert_eq!(said("tasks: {a: {shell: b}}\n", ""), "The robot.yaml in /r has no artifactsDir");
        for form in ["", "{}", "{shell: '', command: []}", "{shell: a, command: [b]}"] {
            let expected = "The task \"a\" needs exactly one of robotTaskName, shell and command";
            assert_eq!(said(&format!("tasks:\n  a: {form}\n"), "o"), expected, "{form}");
        }
        for shell in ["a 'b", "# b"] {
            assert!(said(&format!("tasks: {{a: {{shell: {shell:?}}}}}\n"), "o").starts_with("Cannot split "));
        }
        for wrong in ["tasks: [a]\n", "tasks: {a: b}\n", "tasks: {a: {command: b}}\n"] {
            assert!(Tasks::parse(&yaml::parse_bytes(wrong.as_bytes()).unwrap()).is_err(), "{wrong}");
        }
    }
}
