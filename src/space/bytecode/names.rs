//! Python's file names of bytecode: the bytecode of `lib/x.py` is `lib/x.cpython-311.pyc` or `lib/x.cpython-311.opt-1.pyc`.
//!
//! A valid name is below the space, in UTF-8 without line breaks, and of a regular file of the catalog that is the same in every
//! space. Everything else is compiled separately in each space.

use crate::rcc::digest::Digest;
use crate::store::index::{Index, Ino, NodeKind};
use crate::sys::fs::name::{Name, RelPath};

/// One source of a catalog at one level of optimization.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheName {
    /// The source, below the space, with `/` between names.
    pub source: String,
    /// The interpreter's tag: `cpython-311`.
    pub tag: String,
    /// The level of optimization: empty, `1` or `2`.
    pub level: String,
}

impl CacheName {
    /// Parses the path of a `.pyc` below the mirror of a space; `None` if it is not a bytecode name of Python.
    pub fn parse(path: &str) -> Option<CacheName> {
        let sound = RelPath::parse(path.as_bytes()).is_ok() && !path.contains(['\n', '\r', '\t', '\\']);
        let rest = path.strip_suffix(".pyc").filter(|_| sound)?;
        let (rest, level) = match rest.rsplit_once(".opt-") {
            Some((rest, level @ ("1" | "2"))) => (rest, level),
            Some(_) => return None,
            None => (rest, ""),
        };
        let (stem, tag) = rest.rsplit_once('.')?;
        let is_tag =
            tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && tag.contains('-');
        let named = !stem.is_empty() && !stem.ends_with('/');
        (is_tag && named).then(|| CacheName {
            source: format!("{stem}.py"),
            tag: tag.to_owned(),
            level: level.to_owned(),
        })
    }

    /// The path of the `.pyc` below the mirror of a space.
    pub fn path(&self) -> String {
        let stem = self.source.strip_suffix(".py").unwrap_or(&self.source);
        let level = if self.level.is_empty() { String::new() } else { format!(".opt-{}", self.level) };
        format!("{stem}.{}{level}.pyc", self.tag)
    }

    /// True if the source is a file of the catalog that is the same in every space.
    pub fn is_shared_by(&self, index: &Index) -> bool {
        self.shared_source(index).is_some()
    }

    /// The content of the source, if it is a file of the catalog that is the same in every space.
    pub fn shared_source(&self, index: &Index) -> Option<Digest> {
        match index.node(find(index, &self.source)?)?.kind {
            NodeKind::File(file) if file.rewrite.is_empty() => Some(file.digest),
            _ => None,
        }
    }
}

fn find(index: &Index, path: &str) -> Option<Ino> {
    path.split('/').try_fold(Ino::ROOT, |dir, name| index.lookup(dir, Name::new(name.as_bytes()).ok()?))
}

/// The tags of the interpreters in the tree, from the names of their libraries: `lib/python3.11` is `cpython-311`.
pub fn tags(index: &Index) -> Vec<String> {
    let directory = |dir: Ino, name: &[u8]| {
        let found = index.children(dir).find(|node| node.name.eq_ignore_ascii_case(name))?;
        matches!(found.kind, NodeKind::Dir { .. }).then_some(found.ino)
    };
    let Some(lib) = directory(Ino::ROOT, b"lib") else { return Vec::new() };
    let versions = index.children(lib).filter_map(|node| {
        let version = std::str::from_utf8(node.name).ok()?.strip_prefix("python3.")?;
        let is_dir = matches!(node.kind, NodeKind::Dir { .. });
        (is_dir && version.bytes().all(|byte| byte.is_ascii_digit())).then(|| format!("cpython-3{version}"))
    });
    versions.collect()
}

/// Every source of the catalog that is the same in every space, for each of its interpreters.
pub fn all(index: &Index) -> Vec<CacheName> {
    let tags = tags(index);
    let sources = index.nodes().filter_map(|node| match node.kind {
        NodeKind::File(file) if file.rewrite.is_empty() && node.name.ends_with(b".py") => {
            Some(index.path_of(node.ino)?.to_path().to_str()?.replace('\\', "/"))
        }
        _ => None,
    });
    let named = |source: String| {
        tags.iter().filter_map(move |tag| {
            let name = CacheName { source: source.clone(), tag: tag.clone(), level: String::new() };
            CacheName::parse(&name.path())
        })
    };
    sources.flat_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bytecode_are_read_and_written() {
        for (path, source, tag, level) in [
            ("lib/x.cpython-311.pyc", "lib/x.py", "cpython-311", ""),
            ("a.b/x.y.pypy39-pp73.opt-2.pyc", "a.b/x.y.py", "pypy39-pp73", "2"),
            ("__init__.cpython-39.opt-1.pyc", "__init__.py", "cpython-39", "1"),
        ] {
            let name = CacheName::parse(path).unwrap();
            assert_eq!((&*name.source, &*name.tag, &*name.level), (source, tag, level));
            assert_eq!(name.path(), path);
        }
    }

    #[test]
    fn what_python_never_calls_bytecode_or_leads_elsewhere_is_no_name() {
        for path in [
            "x.pyc",
            "x.py",
            ".cpython-311.pyc",
            "a/.cpython-311.pyc",
            "../x.cpython-311.pyc",
            "/x.cpython-311.pyc",
            "a//x.cpython-311.pyc",
            "x.cpython-311.opt-3.pyc",
            "x.cpython-311.opt-.pyc",
            "x\n.cpython-311.pyc",
            "x\t.cpython-311.pyc",
            "x.cpython-311.pyc.123456",
        ] {
            assert_eq!(CacheName::parse(path), None, "{path:?}");
        }
    }
}
