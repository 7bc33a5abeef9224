//! Finds the catalog that a command line selects: by its name, or by a file or directory with a specification.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::rcc::blueprint::{BlueprintKind, Composed, Request};
use crate::rcc::catalog::file_name;
use crate::rcc::home::{Home, HomeError};
use crate::remote::address::is_address;
use crate::session::error::{NoCatalogFor, NotAmong};

use super::context::Context;
use super::hash::composed;
use super::remotes;

/// The files searched in a directory; the first one found is used.
const IN_DIRECTORY: [&str; 3] = ["robot.yaml", "package.yaml", "conda.yaml"];

/// A catalog, and how it was selected.
#[derive(Debug)]
pub struct Target {
    /// The catalog, as a path or a name.
    pub catalog: String,
    /// The specification, if it was selected by files.
    pub composed: Option<Composed>,
}

/// The catalog that one word selects; `None` selects by the files in the current directory.
pub fn of_word(context: &Context, word: Option<&str>) -> anyhow::Result<Target> {
    let path = Path::new(word.unwrap_or("."));
    match file_of(path)? {
        Some(file) => of_files(context, Request { files: vec![file], ..Request::default() }),
        None => Ok(Target { catalog: path.to_string_lossy().into_owned(), composed: None }),
    }
}

/// The catalog in the hololib that one word selects.
pub fn path_of_word(context: &Context, word: &str) -> anyhow::Result<PathBuf> {
    Ok(context.home.find_catalog(&of_word(context, Some(word))?.catalog)?)
}

/// The catalog for some files, with the robot.yaml in the current directory first, as in RCC's commands.
pub fn of_request(context: &Context, request: Request) -> anyhow::Result<Target> {
    let mut request = request;
    for file in &mut request.files {
        *file = file_of(file)?.unwrap_or_else(|| file.clone());
    }
    if let Some(robot) = robot_here(&request) {
        request.robot = Some(robot);
    }
    of_files(context, request)
}

fn of_files(context: &Context, request: Request) -> anyhow::Result<Target> {
    let composed = composed(&context.home, &request)?;
    let file = request.files.first().or(request.robot.as_ref()).cloned();
    of_composed(context, &file.unwrap_or_else(|| "robot.yaml".into()), composed)
}

/// The catalog for the specification of `file`.
pub fn of_composed(context: &Context, file: &Path, composed: Composed) -> anyhow::Result<Target> {
    let path = find_blueprint(&context.home, &composed.blueprint)?;
    let path =
        path.ok_or_else(|| NoCatalogFor { file: file.to_owned(), blueprint: composed.blueprint.clone() })?;
    Ok(Target { catalog: path.to_string_lossy().into_owned(), composed: Some(composed) })
}

/// The specification; a robot.yaml in the current directory comes first unless another one is given, as in RCC.
pub fn composed_here(context: &Context, mut request: Request) -> anyhow::Result<Composed> {
    if let Some(robot) = robot_here(&request) {
        request.robot = Some(robot);
    }
    composed(&context.home, &request)
}

/// The robot.yaml of the current directory, unless one is given.
fn robot_here(request: &Request) -> Option<PathBuf> {
    let here = PathBuf::from("robot.yaml");
    let named = request.robot.is_some()
        || request.files.iter().any(|file| BlueprintKind::of(file) == BlueprintKind::Robot);
    (!named && here.is_file()).then_some(here)
}

/// True for a word on a command line of `run` that selects a catalog: see [`super::run_words`].
pub fn is_target(word: &OsString) -> bool {
    let (path, text) = (Path::new(word), word.to_string_lossy());
    let hex = text.split_once("v12.").map_or(&*text, |(hash, _)| hash);
    let named = hex.len() >= 8 && hex.len() <= 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let directory = || IN_DIRECTORY.iter().any(|name| path.join(name).is_file());
    let address = || is_address(&remotes::meant(&text));
    is_yaml(path) || named || directory() || address() || (text.contains("v12.") && path.is_file())
}

/// The catalog of a blueprint for this machine.
pub fn find_blueprint(home: &Home, blueprint: &str) -> Result<Option<PathBuf>, HomeError> {
    let name = file_name(blueprint, &crate::rcc::home::platform());
    match home.find_catalog(&name) {
        Ok(path) => Ok(Some(path)),
        Err(HomeError::CatalogNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True for a word that can only be a file or directory with a specification.
pub fn is_file_word(word: &OsStr) -> bool {
    let path = Path::new(word);
    is_yaml(path) || path.is_dir()
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    matches!(extension, "yaml" | "yml")
}

/// True if the word, or the current directory without one, selects by a robot.yaml; nothing is read.
pub fn is_robot(word: Option<&str>) -> bool {
    let file = file_of(Path::new(word.unwrap_or("."))).ok().flatten();
    file.is_some_and(|file| BlueprintKind::of(&file) == BlueprintKind::Robot)
}

/// The specification file in a directory; nothing is read.
pub fn file_here(directory: &Path) -> Option<PathBuf> {
    IN_DIRECTORY.iter().map(|name| directory.join(name)).find(|path| path.is_file())
}

/// The specification file: `path`, or one in it.
pub fn file_in(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(file_of(path)?.unwrap_or_else(|| path.to_owned()))
}

/// The specification file, if `path` is one or a directory with one.
fn file_of(path: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !path.is_dir() {
        return Ok(is_yaml(path).then(|| path.to_owned()));
    }
    match file_here(path) {
        Some(file) => Ok(Some(file)),
        None => Err(NotAmong::definitions(format!(
            "No environment is defined in {}: it has no {}",
            path.display(),
            IN_DIRECTORY.join(", no ")
        ))
        .into()),
    }
}
