//! Merges several files into one specification: conda.yaml, package.yaml, and robot.yaml with the file it names.

use std::io;
use std::path::{Path, PathBuf};

use super::{CondaError, Environment, Robot, package};
use crate::error::{Class, Failure};
use crate::rcc::home::{Home, blueprint_hash};
use crate::rcc::yaml;

/// Files that describe an environment.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// conda.yaml, package.yaml or robot.yaml files, merged in this order.
    pub files: Vec<PathBuf>,
    /// A robot.yaml whose environment comes before all others, and whose variables are used.
    pub robot: Option<PathBuf>,
    /// Include the `dev-dependencies` of package.yaml.
    pub dev_dependencies: bool,
}

/// The result of composing a [`Request`].
#[derive(Debug, Clone)]
pub struct Composed {
    /// The text that is hashed.
    pub text: String,
    /// Its hash.
    pub blueprint: String,
    /// The robot, if there is one.
    pub robot: Option<Robot>,
}

/// Why there is no specification.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A file cannot be read.
    #[error("Cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what its name promises, or contradicts the previous ones.
    #[error("Cannot hash {}", path.display())]
    Conda {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CondaError,
    },
    /// The robot needs no environment.
    #[error("{} names no environment: it has no condaConfigFile, and none of its environmentConfigs exists and is for this platform", path.display())]
    NoEnvironment {
        /// The robot.yaml.
        path: PathBuf,
    },
    /// There is nothing to hash.
    #[error("No environment specification is given")]
    Nothing,
}

impl Failure for ComposeError {
    fn class(&self) -> Option<Class> {
        match self {
            ComposeError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(Class::NotFound)
            }
            ComposeError::Read { .. } => None,
            ComposeError::Conda { .. } | ComposeError::NoEnvironment { .. } | ComposeError::Nothing => {
                Some(Class::BadCatalog)
            }
        }
    }
}

/// The format in which a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlueprintKind {
    /// A conda.yaml, whatever its name.
    Conda,
    /// A package.yaml.
    Package,
    /// A robot.yaml.
    Robot,
}

impl BlueprintKind {
    /// Decides by the file name alone, as RCC does.
    pub fn of(path: &Path) -> BlueprintKind {
        match path.file_name().map(|name| name.to_string_lossy().to_lowercase()).as_deref() {
            Some("package.yaml") => BlueprintKind::Package,
            Some("robot.yaml") => BlueprintKind::Robot,
            _ => BlueprintKind::Conda,
        }
    }
}

/// Reads the files with `read`, and merges them.
pub fn compose(
    home: &Home,
    request: &Request,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Composed, ComposeError> {
    let mut composer = Composer { home, dev_dependencies: request.dev_dependencies, read, robot: None };
    let mut merged: Option<(Environment, PathBuf)> = None;
    for path in request.robot.iter().chain(&request.files) {
        let next = composer.environment(path)?;
        let failed = |source| ComposeError::Conda { path: path.clone(), source };
        let both = match merged {
            None => next,
            Some((left, _)) => left.merge(next).map_err(failed)?,
        };
        merged = Some((both, path.clone()));
    }
    let (environment, path) = merged.ok_or(ComposeError::Nothing)?;
    let text = environment.normal_form().map_err(|source| ComposeError::Conda { path, source })?;
    let text = text.trim().to_owned();
    Ok(Composed { blueprint: blueprint_hash(&text), text, robot: composer.robot })
}

struct Composer<'a> {
    home: &'a Home,
    dev_dependencies: bool,
    read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    robot: Option<Robot>,
}

impl Composer<'_> {
    fn environment(&mut self, path: &Path) -> Result<Environment, ComposeError> {
        if BlueprintKind::of(path) == BlueprintKind::Robot {
            let robot = self.robot(path)?;
            let file = robot.environment_file();
            let file = file.ok_or_else(|| ComposeError::NoEnvironment { path: path.to_owned() })?;
            self.robot.get_or_insert(robot);
            return self.file(&file);
        }
        self.file(path)
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, ComposeError> {
        (self.read)(path).map_err(|source| ComposeError::Read { path: path.to_owned(), source })
    }

    fn robot(&self, path: &Path) -> Result<Robot, ComposeError> {
        let absolute = std::path::absolute(path)
            .map_err(|source| ComposeError::Read { path: path.to_owned(), source })?;
        let absolute = crate::rcc::home::clean(&absolute);
        let root = absolute.parent().unwrap_or(Path::new("/"));
        Robot::parse(&self.bytes(path)?, root)
            .map_err(|source| ComposeError::Conda { path: path.to_owned(), source })
    }

    /// A conda.yaml or package.yaml.
    fn file(&self, path: &Path) -> Result<Environment, ComposeError> {
        let bytes = self.bytes(path)?;
        let environment = match (BlueprintKind::of(path), self.dev_dependencies) {
            (BlueprintKind::Package, dev) => yaml::parse_bytes(&bytes)
                .map_err(CondaError::from)
                .and_then(|it| package::environment(&it, dev)),
            (_, true) => Err(CondaError::NoDevDependencies),
            (_, false) => {
                let channel = self.home.local_channel();
                let channel = channel.as_deref().map(|path| path.to_string_lossy().into_owned());
                Environment::parse(&bytes, channel.as_deref())
            }
        };
        environment.map_err(|source| ComposeError::Conda { path: path.to_owned(), source })
    }
}
