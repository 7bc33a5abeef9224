//! Checks on the user's machine that a catalog gives the same tree when it is mounted, laid out as files, and restored by RCC.
//!
//! All three are created one after the other at the same path, in a space used for nothing else, so that relocated files too are
//! compared byte by byte. The space is deleted afterwards; the next run removes what a killed one left.

mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use crate::rcc::home::blueprint_hash;
use crate::space::record::IDENTITY_FILE;
use crate::store::index::Index;
use crate::sys::process::is_root;

use super::appear;
use super::context::Context;
use super::error::{Busy, SessionError, Tried as _};
use super::method::{Mode, described};
use super::obtain::{Obtained, obtain};
use super::own_space::OwnSpace;
use super::unmount::leave;

use tree::{Entry, Tree};

/// One way to create the tree.
#[derive(Debug, Serialize)]
pub struct Way {
    /// `files`, `mount` or `rcc`.
    pub way: &'static str,
    /// Why it was not tried.
    pub skipped: Option<String>,
    /// Seconds until the tree was complete.
    pub seconds: f64,
    /// Seconds to read all of it.
    pub read_seconds: f64,
    /// How it differs from `files`, path by path.
    pub differences: Vec<String>,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Parity {
    /// The blueprint.
    pub blueprint: String,
    /// The number of entries compared.
    pub entries: usize,
    /// The size of their files in bytes.
    pub bytes: u64,
    /// Setuid and setgid bits were compared; as root they are not, because files are laid out without them.
    pub compares_setuid: bool,
    /// Every way.
    pub ways: Vec<Way>,
}

impl Parity {
    /// True if every way that was tried gives the same tree.
    pub fn is_equal(&self) -> bool {
        self.ways.iter().all(|way| way.differences.is_empty())
    }
}

/// Creates the tree of `catalog` in every way that works here, and compares. `rcc` is RCC's program, if available.
pub fn parity(context: &Context, catalog: &str, rcc: Option<&Path>) -> Result<Parity, SessionError> {
    let (index, _, _) = context.index(catalog)?;
    let own = OwnSpace::new(context, &index, "holofs verify");
    let root = own.space.root.display();
    if own.space.live_holder().is_some() {
        return Err(Busy(format!("{root} is in use by another `holofs verify`")).into());
    }
    own.during(|| Proof { context, catalog, own: &own, index: &index }.compare(rcc))
}

struct Proof<'a> {
    context: &'a Context,
    catalog: &'a str,
    own: &'a OwnSpace<'a>,
    index: &'a Index,
}

/// A tree, or why it was not created; with the seconds to create and read it.
struct Made {
    tree: Result<Tree, String>,
    seconds: f64,
    read_seconds: f64,
}

impl Proof<'_> {
    fn compare(&self, rcc: Option<&Path>) -> Result<Parity, SessionError> {
        let mounted = self.mounted()?;
        // Files are placed faster if nothing has to be compared first, and everything is read afterwards anyway.
        self.own.delete()?;
        let files = self.files()?;
        let text = specification(&self.own.space.root);
        self.own.delete()?;
        let restored = self.restored(rcc, text)?;
        let reference = files.tree.map_err(|why| SessionError::State(why.into()))?;
        let size = |entry: &Entry| if let Entry::File { size, .. } = entry { *size } else { 0 };
        let first = Way {
            way: "files",
            skipped: None,
            seconds: files.seconds,
            read_seconds: files.read_seconds,
            differences: Vec::new(),
        };
        let ways = [("mount", mounted), ("rcc", restored)];
        let others = ways.map(|(way, made)| way_of(way, made, &reference));
        Ok(Parity {
            blueprint: self.index.blueprint().to_owned(),
            entries: reference.len(),
            bytes: reference.values().map(size).sum(),
            compares_setuid: !is_root(),
            ways: std::iter::once(first).chain(others).collect(),
        })
    }

    fn mounted(&self) -> Result<Made, SessionError> {
        let started = Instant::now();
        let request = self.own.request(self.catalog, Mode::Mount);
        let Obtained { lease, .. } = match obtain(self.context, &request, Some("holofs verify"))? {
            Ok(obtained) => obtained,
            Err(refused) => {
                return Ok(Made { tree: Err(described(&refused.refused)), seconds: 0.0, read_seconds: 0.0 });
            }
        };
        let made = self.read(started);
        leave(self.context, &self.own.space, lease)?;
        made
    }

    fn files(&self) -> Result<Made, SessionError> {
        let started = Instant::now();
        appear::materialized(self.context, &self.own.request(self.catalog, Mode::Materialize), Vec::new())?;
        self.read(started)
    }

    /// Lets RCC restore the space, if the catalog is one that it would build: RCC finds it by its hash, so it builds nothing.
    fn restored(&self, rcc: Option<&Path>, text: Option<String>) -> Result<Made, SessionError> {
        let skipped = |why: &str| Ok(Made { tree: Err(why.to_owned()), seconds: 0.0, read_seconds: 0.0 });
        let Some(rcc) = rcc else { return skipped("there is no rcc in PATH") };
        let text = text.filter(|text| blueprint_hash(text.trim()) == self.index.blueprint());
        let Some(text) = text.filter(|text| is_conda(text)) else {
            return skipped("RCC has no blueprint for this catalog");
        };
        let dir = tempfile::tempdir_in(&self.context.process.temp_dir).tried("Cannot create a directory")?;
        let yaml = dir.path().join("conda.yaml");
        std::fs::write(&yaml, text).tried_with(|| format!("Cannot write {}", yaml.display()))?;
        let started = Instant::now();
        let mut command = Command::new(rcc);
        command.args(["--no-build", "holotree", "variables", "--silent"]).arg(&yaml);
        command.args(["--controller", &self.own.name.controller, "--space", &self.own.name.space]);
        let home = self.context.home.root();
        command.env("ROBOCORP_HOME", home).env("SEMA4AI_HOME", home).stdin(Stdio::null());
        let output = command.output().tried_with(|| format!("Cannot run {}", rcc.display()))?;
        if !output.status.success() {
            return Err(SessionError::State(
                format!(
                    "{} cannot restore the catalog ({}): {}",
                    rcc.display(),
                    output.status,
                    String::from_utf8_lossy(&output.stderr).trim()
                )
                .into(),
            ));
        }
        self.read(started)
    }

    fn read(&self, started: Instant) -> Result<Made, SessionError> {
        let seconds = started.elapsed().as_secs_f64();
        let reading = Instant::now();
        let tree = tree::read(&self.own.space.root, if is_root() { 0o1777 } else { 0o7777 })?;
        Ok(Made { tree: Ok(tree), seconds, read_seconds: reading.elapsed().as_secs_f64() })
    }
}

fn way_of(way: &'static str, made: Made, reference: &Tree) -> Way {
    let Made { tree, seconds, read_seconds } = made;
    let (skipped, differences) = match tree {
        Ok(tree) => (None, tree::differences(reference, &tree)),
        Err(why) => (Some(why), Vec::new()),
    };
    Way { way, skipped, seconds, read_seconds, differences }
}

/// The specification recorded in the catalog.
fn specification(root: &Path) -> Option<String> {
    let path: PathBuf = root.join(IDENTITY_FILE);
    std::fs::read_to_string(path).ok()
}

/// True for the text of a conda.yaml; our other builds begin with a comment.
fn is_conda(text: &str) -> bool {
    crate::rcc::blueprint::Environment::parse(text.as_bytes(), None)
        .is_ok_and(|found| found.normal_form().is_ok_and(|normal| normal.trim() == text.trim()))
}
