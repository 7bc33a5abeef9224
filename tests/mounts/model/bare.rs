//! The space without FUSE: a `Vfs` that gets requests by inode, like those of the kernel.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holofs::fs::upper::{Access, Options, Upper};
use holofs::fs::vfs::{Caller, Kind, New, RenameMode, SetAttr, SetMode, SetTime, Time, Vfs, VfsError, View};
use holofs::rcc::catalog::{self, Catalog, Dir, DirId, File, GoMode, Header};
use holofs::rcc::digest::{Digest, Regime};
use holofs::space::relocated::Relocated;
use holofs::store::index::{Index, Ino};
use holofs::store::memory::MemorySource;
use holofs::store::observe::Tally;
use holofs::sys::fs::name::OwnedName;

use super::ops::Op;
use super::tree::{DIR_MODE, DIRS, EINVAL, EISDIR, ELOOP, FILES, IDENTITY, join};
use super::{Seen, World};

pub const LABEL: &[u8; 24] = b"0123456_789abcd_ef012345";
pub const CALLER: Caller = Caller { uid: 0, gid: 0 };
const KEEP_SIZE: u32 = 1;
const PUNCH: u32 = 2;
const ZERO: u32 = 16;

/// A `Vfs` over a catalog in memory and an upper on disk.
pub struct Bare {
    dir: PathBuf,
    /// Removes `dir` in the end, unless it belongs to the caller.
    _temp: Option<tempfile::TempDir>,
    access: Access,
    index: Arc<Index>,
    source: Arc<MemorySource>,
    vfs: Option<Vfs>,
}

impl Bare {
    /// The space of the catalog, without changes.
    pub fn new() -> Bare {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        Bare { _temp: Some(temp), ..Bare::at(&dir) }
    }

    /// The space whose state is in `dir`.
    pub fn at(dir: &Path) -> Bare {
        Bare::for_access(dir, Access::Writable)
    }

    /// The `Vfs` of a process that opens the state in `dir` with this access.
    pub fn served(dir: &Path, access: Access) -> Vfs {
        Bare::for_access(dir, access).vfs.take().unwrap()
    }

    fn for_access(dir: &Path, access: Access) -> Bare {
        let mut source = MemorySource::new();
        let catalog = catalog(&mut source);
        let id = Digest::of(Regime::Sha256, b"the catalog of this test");
        let index = Arc::new(Index::from_bytes(Index::build(&catalog, &id).unwrap()).unwrap());
        let source = Arc::new(source);
        let mut bare = Bare { dir: dir.to_owned(), _temp: None, access, index, source, vfs: None };
        bare.open();
        bare
    }

    fn open(&mut self) {
        drop(self.vfs.take());
        let tally = Arc::new(Tally::new());
        let options = Options { access: self.access, descriptors: NonZeroUsize::new(3).unwrap() };
        let upper = Upper::open(&self.dir, &self.index.id(), &options, Arc::clone(&tally) as _).unwrap();
        let source = Arc::clone(&self.source) as _;
        let relocated = Relocated::new(&self.dir, &self.index, LABEL, source, tally);
        let view = View { uid: 0, gid: 0, dir_mode: DIR_MODE };
        let index = Arc::clone(&self.index);
        self.vfs = Some(Vfs::with_upper(index, Arc::new(relocated), Arc::new(upper), view, true));
    }

    fn vfs(&self) -> &Vfs {
        self.vfs.as_ref().unwrap()
    }

    fn find(&self, path: &str) -> Result<Ino, VfsError> {
        let mut ino = Ino::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = self.vfs().lookup(ino, name.as_bytes())?.ino;
            self.vfs().forget(found, 1);
            ino = found;
        }
        Ok(ino)
    }

    fn end<'p>(&self, path: &'p str) -> Result<(Ino, &'p [u8]), VfsError> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.find(dir)?;
        match self.vfs().getattr(dir)?.kind {
            Kind::Dir => Ok((dir, name.as_bytes())),
            _ => Err(VfsError::NotADirectory(dir)),
        }
    }

    fn make(&self, path: &str, mode: u16, new: New<'_>) -> Result<(), VfsError> {
        let (dir, name) = self.end(path)?;
        let made = self.vfs().make(CALLER, dir, name, mode, new)?;
        self.vfs().forget(made.ino, 1);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str, mode: RenameMode) -> Result<(), VfsError> {
        let ((dir, name), (to_dir, to_name)) = (self.end(from)?, self.end(to)?);
        self.vfs().rename(dir, name, to_dir, to_name, mode)
    }

    fn allocate(&self, path: &str, at: u16, len: u16, flags: u32) -> Result<(), VfsError> {
        self.vfs().allocate(self.find(path)?, at.into(), len.into(), flags)
    }

    fn set(&self, path: &str, set: SetAttr) -> Result<(), VfsError> {
        self.vfs().setattr(CALLER, self.find(path)?, &set).map(drop)
    }

    fn write(&self, path: &str, at: Option<u64>, bytes: &[u8]) -> Result<(), VfsError> {
        let ino = self.find(path)?;
        let at = at.unwrap_or(self.vfs().getattr(ino)?.size);
        if bytes.is_empty() {
            return Ok(());
        }
        assert_eq!(self.vfs().write(ino, at, bytes, false)?, bytes.len());
        Ok(())
    }

    fn copy(&self, from: &str, at: u16, to: &str, to_at: u16, len: u16) -> Result<(), VfsError> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        self.vfs().copy_range(from, at.into(), to, to_at.into(), len.into()).map(drop)
    }

    /// The error that the kernel returns to a program without sending a request.
    fn refused(&self, op: &Op) -> Option<i32> {
        let kind =
            |path: &str| self.find(path).and_then(|ino| self.vfs().getattr(ino)).map(|attr| attr.kind).ok();
        let content = |path: &str| match kind(path)? {
            Kind::File => None,
            Kind::Dir => Some(EISDIR),
            _ => Some(ELOOP),
        };
        match op {
            Op::Write(path, ..) | Op::Append(path, _) | Op::Truncate(path, _) | Op::Empty(path) => {
                content(path)
            }
            Op::Allocate(path, ..) | Op::AllocateKeepSize(path, ..) => content(path),
            Op::Punch(path, ..) | Op::Zero(path, ..) => content(path),
            Op::CopyRange(from, at, to, to_at, len) => content(from).or_else(|| {
                kind(from)?;
                let same = self.find(from).ok() == self.find(to).ok() && at.abs_diff(*to_at) < *len;
                content(to).or(same.then_some(EINVAL))
            }),
            Op::Chmod(path, _) | Op::SetTime(path, _) => (kind(path)? == Kind::Link).then_some(ELOOP),
            Op::SetXattr(path, ..) | Op::RemoveXattr(path, _) | Op::Sync(path) => {
                (!matches!(kind(path)?, Kind::File | Kind::Dir)).then_some(ELOOP)
            }
            _ => None,
        }
    }

    fn run(&mut self, op: &Op) -> Result<(), VfsError> {
        match op {
            Op::Create(path, mode) => self.make(path, *mode, New::File),
            Op::Mkdir(path, mode) => self.make(path, *mode, New::Dir),
            Op::Symlink(path, text) => self.make(path, 0o777, New::Link(text.as_bytes())),
            Op::Fifo(path) => self.make(path, 0o600, New::Fifo),
            Op::Link(from, to) => {
                let (ino, (dir, name)) = (self.find(from)?, self.end(to)?);
                self.vfs().link(ino, dir, name).map(|attr| self.vfs().forget(attr.ino, 1))
            }
            Op::Unlink(path) => self.end(path).and_then(|(dir, name)| self.vfs().unlink(dir, name)),
            Op::Rmdir(path) => self.end(path).and_then(|(dir, name)| self.vfs().rmdir(dir, name)),
            Op::Rename(from, to) => self.rename(from, to, RenameMode::Replace),
            Op::RenameNoReplace(from, to) => self.rename(from, to, RenameMode::NoReplace),
            Op::Exchange(from, to) => self.rename(from, to, RenameMode::Exchange),
            Op::Write(path, at, bytes) => self.write(path, Some((*at).into()), bytes),
            Op::Append(path, bytes) => self.write(path, None, bytes),
            Op::Truncate(path, size) => {
                self.set(path, SetAttr { size: Some((*size).into()), ..SetAttr::default() })
            }
            Op::Empty(path) => self.set(path, SetAttr { size: Some(0), ..SetAttr::default() }),
            Op::Allocate(path, at, len) => self.allocate(path, *at, *len, 0),
            Op::AllocateKeepSize(path, at, len) => self.allocate(path, *at, *len, KEEP_SIZE),
            Op::Punch(path, at, len) => self.allocate(path, *at, *len, PUNCH | KEEP_SIZE),
            Op::Zero(path, at, len) => self.zero(path, *at, *len),
            Op::CopyRange(from, at, to, to_at, len) => self.copy(from, *at, to, *to_at, *len),
            Op::Chmod(path, mode) => self.set(path, SetAttr { mode: Some(*mode), ..SetAttr::default() }),
            Op::SetTime(path, time) => {
                let mtime = Some(SetTime::At(Time { seconds: (*time).into(), nanos: 7 }));
                self.set(path, SetAttr { mtime, ..SetAttr::default() })
            }
            Op::SetXattr(path, name, value) => {
                let name = format!("user.{name}");
                self.vfs().setxattr(self.find(path)?, name.as_bytes(), value, SetMode::Either)
            }
            Op::RemoveXattr(path, name) => {
                self.vfs().removexattr(self.find(path)?, format!("user.{name}").as_bytes())
            }
            Op::Look(path) => self.find(path).map(drop),
            Op::List(path) => self.vfs().list(self.find(path)?, 0, false, &mut Vec::new()),
            Op::Sync(path) => self.vfs().sync(self.find(path)?, false),
            Op::Restart | Op::Kill | Op::KillServer => {
                self.open();
                Ok(())
            }
        }
    }

    /// Not every file system can zero a range; in that case write zeros, and compare only the result.
    fn zero(&self, path: &str, at: u16, len: u16) -> Result<(), VfsError> {
        match self.allocate(path, at, len, ZERO) {
            Err(error) if error.errno() == holofs::sys::errno::Errno::NOTSUP => {
                self.write(path, Some(at.into()), &vec![0; len.into()])
            }
            other => other,
        }
    }

    fn look(&self, ino: Ino, same_as: String) -> Seen {
        let attr = self.vfs().getattr(ino).unwrap();
        let names = self.vfs().listxattr(ino).unwrap();
        let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let named = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let (kind, content) = match attr.kind {
            Kind::File => {
                let mut content = vec![0; usize::try_from(attr.size).unwrap() + 1];
                let count = self.vfs().read(ino, 0, &mut content).unwrap();
                content.truncate(count);
                ('f', content)
            }
            Kind::Dir => ('d', Vec::new()),
            Kind::Link => ('l', self.vfs().readlink(ino).unwrap().into_owned()),
            Kind::Fifo => ('p', Vec::new()),
            other => panic!("Nobody made a {other:?}"),
        };
        Seen {
            kind,
            mode: attr.mode,
            nlink: attr.nlink,
            content,
            xattrs: names.map(|name| (named(name), self.vfs().getxattr(ino, name).unwrap())).collect(),
            same_as,
            mtime: Some(attr.mtime.seconds),
        }
    }
}

impl World for Bare {
    const EXACT: bool = true;

    fn label(&self) -> String {
        String::from_utf8(LABEL.to_vec()).unwrap()
    }

    fn apply(&mut self, op: &Op) -> Result<(), i32> {
        match self.refused(op) {
            Some(errno) => Err(errno),
            None => self.run(op).map_err(|error| error.errno().0),
        }
    }

    fn seen(&mut self) -> BTreeMap<String, Seen> {
        let (mut found, mut left) = (BTreeMap::new(), vec![(String::new(), Ino::ROOT)]);
        while let Some((path, ino)) = left.pop() {
            let mut entries = Vec::new();
            if self.vfs().getattr(ino).unwrap().kind == Kind::Dir {
                self.vfs().list(ino, 2, false, &mut entries).unwrap();
            }
            for (name, ..) in entries {
                let path = join(&path, std::str::from_utf8(&name).unwrap());
                let child = self.find(&path).unwrap();
                left.push((path, child));
            }
            assert_eq!(found.insert(path.clone(), ino), None, "{path} is listed twice");
        }
        let first = |ino| found.iter().find(|(_, other)| **other == ino).unwrap().0.clone();
        found.iter().map(|(path, &ino)| (path.clone(), self.look(ino, first(ino)))).collect()
    }
}

/// The catalog of [`FILES`] and [`DIRS`].
fn catalog(source: &mut MemorySource) -> Catalog {
    let paths: Vec<&str> = [""].into_iter().chain(DIRS).collect();
    let place =
        |path: &str| DirId(u32::try_from(paths.iter().position(|&dir| dir == path).unwrap()).unwrap());
    let mut dirs: Vec<Dir> = Vec::new();
    for (position, &path) in paths.iter().enumerate() {
        let (parent, name) = split(path);
        let below = |other: &&&str| !other.is_empty() && split(other).0 == path;
        let files = FILES.iter().filter(|(file, ..)| split(file).0 == path);
        dirs.push(Dir {
            name: (position > 0).then(|| OwnedName::new(name.as_bytes()).unwrap()),
            parent: (position > 0).then(|| place(parent)),
            symlink: None,
            mode: GoMode::from_unix(catalog::EntryKind::Directory, 0o755),
            shadow: false,
            subdirs: paths.iter().filter(below).map(|dir| place(dir)).collect(),
            files: files
                .map(|(file, mode, content)| file_entry(source, split(file).1, *mode, content))
                .collect(),
        });
    }
    dirs.iter_mut().for_each(|dir| dir.files.sort_by(|left, right| left.name.cmp(&right.name)));
    let header = Header {
        identity: IDENTITY.into(),
        path: format!("/base/{IDENTITY}"),
        platform: "linux_amd64".into(),
        blueprint: "14023a1f332a0231".into(),
        lifted: true,
        ..Header::default()
    };
    Catalog::new(header, dirs).unwrap()
}

/// The directory of a path, and its last name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

pub fn file_entry(source: &mut MemorySource, name: &str, mode: u16, content: &[u8]) -> File {
    let at = content.windows(24).position(|part| part == IDENTITY.as_bytes());
    File {
        name: OwnedName::new(name.as_bytes()).unwrap(),
        symlink: None,
        size: content.len() as u64,
        mode: GoMode::from_unix(catalog::EntryKind::File, mode),
        digest: Some(source.add(Regime::Sha256, content)),
        rewrite: at.into_iter().map(|at| at as u64).collect(),
    }
}
