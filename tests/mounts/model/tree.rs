//! The model: a tree in memory, written as simply as possible.

use std::collections::BTreeMap;

use super::Seen;
use super::ops::Op;

pub const ENOENT: i32 = 2;
pub const EEXIST: i32 = 17;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const EPERM: i32 = 1;
pub const ENOTEMPTY: i32 = 39;
pub const ENODATA: i32 = 61;
/// The result of this test itself for an operation that would follow a link.
pub const ELOOP: i32 = 40;

/// The catalog with which both sides begin: path, permissions and content of its files.
pub const FILES: [(&str, u16, &[u8]); 5] = [
    ("bin/tool", 0o755, b"#!/h0c0ffee_493f813dad24d3t/bin/python3\nprint('a relocated file')\n"),
    ("bin/f", 0o4755, b"setuid in the catalog"),
    ("lib/f", 0o644, &[7; 5000]),
    ("lib/bin/f", 0o600, b""),
    ("lib/lib/tool", 0o444, b"deep"),
];
/// The name of the recorded directory, which occurs in one of them.
pub const IDENTITY: &str = "h0c0ffee_493f813dad24d3t";
/// Its directories, parents first.
pub const DIRS: [&str; 4] = ["bin", "lib", "lib/bin", "lib/lib"];
/// Permissions of the catalog's directories in a space.
pub const DIR_MODE: u16 = 0o750;
const MOTHER_TIME: i64 = 1_610_000_000;

#[derive(Debug, Clone)]
enum What {
    File(Vec<u8>),
    Dir(BTreeMap<String, usize>),
    Link(String),
    Fifo,
}

#[derive(Debug, Clone)]
struct Node {
    what: What,
    mode: u16,
    names: u32,
    xattrs: BTreeMap<String, Vec<u8>>,
    mtime: Option<i64>,
}

/// The whole tree; node 0 is the root.
#[derive(Clone)]
pub struct Model {
    nodes: Vec<Node>,
}

type Outcome = Result<(), i32>;

impl Model {
    /// The tree of the catalog, with `label` in place of the recorded identity.
    pub fn new(label: &str) -> Model {
        let mut model = Model { nodes: Vec::new() };
        model.add(What::Dir(BTreeMap::new()), DIR_MODE);
        for dir in DIRS {
            model.make(dir, What::Dir(BTreeMap::new()), DIR_MODE).unwrap();
        }
        for (path, mode, content) in FILES {
            let content = relocated(content, label);
            model.make(path, What::File(content), mode).unwrap();
        }
        model.nodes.iter_mut().for_each(|node| node.mtime = Some(MOTHER_TIME));
        model
    }

    /// Performs the operation; returns the errno if it fails.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Create(path, mode) => self.make(path, What::File(Vec::new()), *mode),
            Op::Mkdir(path, mode) => self.make(path, What::Dir(BTreeMap::new()), *mode),
            Op::Symlink(path, text) => self.make(path, What::Link(text.clone()), 0o777),
            Op::Fifo(path) => self.make(path, What::Fifo, 0o600),
            Op::Link(from, to) => self.link(from, to),
            Op::Unlink(path) => self.unlink(path),
            Op::Rmdir(path) => self.rmdir(path),
            Op::Rename(from, to) => self.rename(from, to, false),
            Op::RenameNoReplace(from, to) => self.rename(from, to, true),
            Op::Exchange(from, to) => self.exchange(from, to),
            Op::Write(path, at, bytes) => self.write(path, usize::from(*at), bytes),
            Op::Append(path, bytes) => {
                let end = self.file(path)?.len();
                self.write(path, end, bytes)
            }
            Op::Truncate(path, size) => self.change(path, |content| content.resize(usize::from(*size), 0)),
            Op::Empty(path) => self.change(path, Vec::clear),
            Op::Allocate(path, at, len) => self.change(path, |content| grow(content, *at, *len)),
            Op::AllocateKeepSize(path, ..) => self.change(path, |_| {}),
            Op::Punch(path, at, len) => self.change(path, |content| zero(content, *at, *len)),
            Op::Zero(path, at, len) => self.change(path, |content| {
                grow(content, *at, *len);
                zero(content, *at, *len);
            }),
            Op::CopyRange(from, at, to, to_at, len) => self.copy_range(from, *at, to, *to_at, *len),
            Op::Chmod(path, mode) => {
                self.no_link(path)?.mode = *mode;
                Ok(())
            }
            Op::SetTime(path, time) => {
                self.no_link(path)?.mtime = Some(i64::from(*time));
                Ok(())
            }
            Op::SetXattr(path, name, value) => {
                self.plain(path)?.xattrs.insert(format!("user.{name}"), value.clone());
                Ok(())
            }
            Op::RemoveXattr(path, name) => {
                let removed = self.plain(path)?.xattrs.remove(&format!("user.{name}"));
                removed.map(drop).ok_or(ENODATA)
            }
            Op::Look(path) => self.find(path).map(drop),
            Op::List(path) => self.dir(path).map(drop),
            Op::Sync(path) => self.plain(path).map(drop),
            Op::Restart | Op::Kill | Op::KillServer => Ok(()),
        }
    }

    /// Every entry, by path.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        let (mut seen, mut first) = (BTreeMap::new(), BTreeMap::new());
        let mut left = vec![(String::new(), 0)];
        while let Some((path, id)) = left.pop() {
            let node = &self.nodes[id];
            let same_as: &mut String = first.entry(id).or_insert_with(|| path.clone());
            if path < *same_as {
                same_as.clone_from(&path);
            }
            let (kind, content) = match &node.what {
                What::File(content) => ('f', content.clone()),
                What::Dir(_) => ('d', Vec::new()),
                What::Link(text) => ('l', text.clone().into_bytes()),
                What::Fifo => ('p', Vec::new()),
            };
            let mut nlink = node.names;
            if let What::Dir(entries) = &node.what {
                let subdirs = entries.values().filter(|&&id| matches!(self.nodes[id].what, What::Dir(_)));
                nlink = 2 + u32::try_from(subdirs.count()).unwrap();
                left.extend(entries.iter().map(|(name, &id)| (join(&path, name), id)));
            }
            let shown = Seen {
                kind,
                mode: node.mode,
                nlink,
                content,
                xattrs: node.xattrs.clone(),
                same_as: String::new(),
                mtime: node.mtime,
            };
            seen.insert(path, (id, shown));
        }
        let named = |(path, (id, shown)): (String, (usize, Seen))| {
            (path, Seen { same_as: first[&id].clone(), ..shown })
        };
        seen.into_iter().map(named).collect()
    }

    fn add(&mut self, what: What, mode: u16) -> usize {
        self.nodes.push(Node { what, mode, names: 1, xattrs: BTreeMap::new(), mtime: None });
        self.nodes.len() - 1
    }

    fn find(&self, path: &str) -> Result<usize, i32> {
        let mut id = 0;
        for name in path.split('/') {
            let What::Dir(entries) = &self.nodes[id].what else { return Err(ENOTDIR) };
            id = *entries.get(name).ok_or(ENOENT)?;
        }
        Ok(id)
    }

    /// The directory of a path's last name, and that name.
    fn parent<'p>(&self, path: &'p str) -> Result<(usize, &'p str), i32> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let id = if dir.is_empty() { 0 } else { self.find(dir)? };
        match self.nodes[id].what {
            What::Dir(_) => Ok((id, name)),
            _ => Err(ENOTDIR),
        }
    }

    fn entries(&mut self, dir: usize) -> &mut BTreeMap<String, usize> {
        self.nodes[dir].mtime = None;
        match &mut self.nodes[dir].what {
            What::Dir(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn dir(&self, path: &str) -> Result<usize, i32> {
        let id = self.find(path)?;
        if self.is_dir(id) { Ok(id) } else { Err(ENOTDIR) }
    }

    fn is_dir(&self, id: usize) -> bool {
        matches!(self.nodes[id].what, What::Dir(_))
    }

    fn no_link(&mut self, path: &str) -> Result<&mut Node, i32> {
        let id = self.find(path)?;
        if matches!(self.nodes[id].what, What::Link(_)) { Err(ELOOP) } else { Ok(&mut self.nodes[id]) }
    }

    /// A file or directory: these can be opened without blocking.
    fn plain(&mut self, path: &str) -> Result<&mut Node, i32> {
        let node = self.no_link(path)?;
        if matches!(node.what, What::Fifo) { Err(ELOOP) } else { Ok(node) }
    }

    fn file(&mut self, path: &str) -> Result<&mut Vec<u8>, i32> {
        match &mut self.plain(path)?.what {
            What::File(content) => Ok(content),
            _ => Err(EISDIR),
        }
    }

    fn change(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        change(self.file(path)?);
        self.plain(path)?.mtime = None;
        Ok(())
    }

    fn write(&mut self, path: &str, at: usize, bytes: &[u8]) -> Outcome {
        self.file(path)?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.change(path, |content| {
            content.resize(content.len().max(at + bytes.len()), 0);
            content[at..at + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn copy_range(&mut self, from: &str, at: u16, to: &str, to_at: u16, len: u16) -> Outcome {
        let source = self.file(from)?.clone();
        self.file(to)?;
        let (at, len) = (usize::from(at), usize::from(len));
        let part = source.get(at..source.len().min(at + len)).unwrap_or_default();
        let overlaps = at.abs_diff(usize::from(to_at)) < len;
        if overlaps && self.find(from) == self.find(to) {
            return Err(EINVAL);
        }
        self.write(to, usize::from(to_at), part)
    }

    fn make(&mut self, path: &str, what: What, mode: u16) -> Outcome {
        let (dir, name) = self.parent(path)?;
        if self.find(path).is_ok() {
            return Err(EEXIST);
        }
        // A directory created in a setgid directory is setgid too.
        let inherited = if matches!(what, What::Dir(_)) { self.nodes[dir].mode & 0o2000 } else { 0 };
        let id = self.add(what, mode | inherited);
        self.entries(dir).insert(name.to_owned(), id);
        Ok(())
    }

    fn link(&mut self, from: &str, to: &str) -> Outcome {
        let id = self.find(from)?;
        let (dir, name) = self.parent(to)?;
        if self.find(to).is_ok() {
            return Err(EEXIST);
        }
        if self.is_dir(id) {
            return Err(EPERM);
        }
        self.nodes[id].names += 1;
        self.entries(dir).insert(name.to_owned(), id);
        Ok(())
    }

    fn unlink(&mut self, path: &str) -> Outcome {
        let id = self.find(path)?;
        if self.is_dir(id) {
            return Err(EISDIR);
        }
        self.drop_name(path)
    }

    fn drop_name(&mut self, path: &str) -> Outcome {
        let (dir, name) = self.parent(path)?;
        let id = self.entries(dir).remove(name).ok_or(ENOENT)?;
        self.nodes[id].names -= 1;
        Ok(())
    }

    fn rmdir(&mut self, path: &str) -> Outcome {
        let id = self.dir(path)?;
        self.ensure_empty(id)?;
        self.drop_name(path)
    }

    fn ensure_empty(&self, id: usize) -> Outcome {
        match &self.nodes[id].what {
            What::Dir(entries) if !entries.is_empty() => Err(ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, from: &str, to: &str, no_replace: bool) -> Outcome {
        let source = self.both_ends(from, to)?;
        if let Ok(target) = self.find(to) {
            match (self.is_dir(source), self.is_dir(target)) {
                _ if no_replace => return Err(EEXIST),
                _ if source == target => return Ok(()),
                _ if self.is_below(from, to) => return Err(EINVAL),
                (true, false) => return Err(ENOTDIR),
                (false, true) => return Err(EISDIR),
                _ => self.ensure_empty(target)?,
            }
            self.drop_name(to)?;
        } else if self.is_below(from, to) {
            return Err(EINVAL);
        }
        self.drop_name(from)?;
        self.nodes[source].names += 1;
        let (dir, name) = self.parent(to)?;
        self.entries(dir).insert(name.to_owned(), source);
        Ok(())
    }

    fn exchange(&mut self, from: &str, to: &str) -> Outcome {
        let source = self.both_ends(from, to)?;
        let target = self.find(to)?;
        if source == target {
            return Ok(());
        }
        if self.is_below(from, to) || self.is_below(to, from) {
            return Err(EINVAL);
        }
        let ((dir, name), (to_dir, to_name)) = (self.parent(from)?, self.parent(to)?);
        self.entries(dir).insert(name.to_owned(), target);
        self.entries(to_dir).insert(to_name.to_owned(), source);
        Ok(())
    }

    fn both_ends(&self, from: &str, to: &str) -> Result<usize, i32> {
        self.parent(from)?;
        self.parent(to)?;
        self.find(from)
    }

    fn is_below(&self, from: &str, to: &str) -> bool {
        self.find(from).is_ok_and(|id| self.is_dir(id)) && to.starts_with(&format!("{from}/"))
    }
}

/// The content of a catalog file in the space `label`.
fn relocated(content: &[u8], label: &str) -> Vec<u8> {
    match String::from_utf8(content.to_vec()) {
        Ok(text) => text.replace(IDENTITY, label).into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

fn grow(content: &mut Vec<u8>, at: u16, len: u16) {
    content.resize(content.len().max(usize::from(at) + usize::from(len)), 0);
}

fn zero(content: &mut [u8], at: u16, len: u16) {
    let end = content.len().min(usize::from(at) + usize::from(len));
    if let Some(part) = content.get_mut(usize::from(at)..end) {
        part.fill(0);
    }
}

pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
