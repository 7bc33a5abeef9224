//! The space through the kernel: a mount of the program that the test unmounts and kills.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, mknodat,
    renameat_with, utimensat,
};

use super::ops::Op;
use super::tree::{DIRS, ELOOP, FILES, IDENTITY, join};
use super::{Seen, World};
use crate::common::mounted::{kill, kill_mount, server_of};
use crate::common::test_home::TestHome;
use crate::common::{json, text_field};

const SPACE: &str = "model";

/// A live mount in a private home; everything is removed in the end.
pub struct Mounted {
    test_home: TestHome,
    catalog: String,
    root: PathBuf,
    pid: u32,
    mounts: usize,
}

impl Mounted {
    /// The space of the catalog, without changes.
    pub fn new() -> Mounted {
        let test_home = TestHome::new();
        let stage = test_home.holotree().join(IDENTITY);
        fs::create_dir(&stage).unwrap();
        for dir in DIRS {
            fs::create_dir(stage.join(dir)).unwrap();
        }
        for (path, mode, content) in FILES {
            fs::write(stage.join(path), content).unwrap();
            fs::set_permissions(stage.join(path), Permissions::from_mode(mode.into())).unwrap();
        }
        let blueprint = test_home.scratch().join("conda.yaml");
        fs::write(&blueprint, "channels: []\n").unwrap();
        let catalog = test_home.record(&stage, &blueprint);
        fs::remove_dir_all(stage).unwrap();
        let mut mounted = Mounted { test_home, catalog, root: PathBuf::new(), pid: 0, mounts: 0 };
        mounted.mount();
        mounted
    }

    /// Alternates between the two ways of reading: each finds the state that the other left.
    fn mount(&mut self) {
        let io = ["passthrough", "no-open"][self.mounts % 2];
        self.mounts += 1;
        let report = json(&self.test_home.holofs_ok(&["mount", &self.catalog, SPACE, "--io", io, "--json"]));
        self.root = PathBuf::from(text_field(&report, "path"));
        self.pid = u32::try_from(report["pid"].as_u64().unwrap()).unwrap();
    }

    fn is_passthrough(&self) -> bool {
        !self.mounts.is_multiple_of(2)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn run(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Create(path, mode) => {
                let made = OpenOptions::new().write(true).create_new(true).open(self.at(path));
                made.and_then(|file| file.set_permissions(Permissions::from_mode((*mode).into())))
            }
            Op::Mkdir(path, mode) => self.mkdir(path, *mode),
            Op::Symlink(path, text) => symlink(text, self.at(path)),
            Op::Fifo(path) => {
                let kind = rustix::fs::FileType::Fifo;
                Ok(mknodat(CWD, self.at(path), kind, rustix::fs::Mode::from_raw_mode(0o600), 0)?)
            }
            Op::Link(from, to) => {
                Ok(rustix::fs::linkat(CWD, self.at(from), CWD, self.at(to), AtFlags::empty())?)
            }
            Op::Unlink(path) => fs::remove_file(self.at(path)),
            Op::Rmdir(path) => fs::remove_dir(self.at(path)),
            Op::Rename(from, to) => self.rename(from, to, RenameFlags::empty()),
            Op::RenameNoReplace(from, to) => self.rename(from, to, RenameFlags::NOREPLACE),
            Op::Exchange(from, to) => self.rename(from, to, RenameFlags::EXCHANGE),
            Op::Write(path, at, bytes) => self.open(path)?.write_all_at(bytes, (*at).into()),
            Op::Append(path, bytes) => {
                self.open(path)?;
                let mut file = OpenOptions::new().append(true).open(self.at(path))?;
                io::Write::write_all(&mut file, bytes)
            }
            Op::Truncate(path, size) => self.open(path)?.set_len((*size).into()),
            Op::Empty(path) => {
                self.open(path)?;
                OpenOptions::new().write(true).truncate(true).open(self.at(path)).map(drop)
            }
            Op::Allocate(path, at, len) => self.allocate(path, *at, *len, FallocateFlags::empty()),
            Op::AllocateKeepSize(path, at, len) => self.allocate(path, *at, *len, FallocateFlags::KEEP_SIZE),
            Op::Punch(path, at, len) => {
                self.allocate(path, *at, *len, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)
            }
            Op::Zero(path, at, len) => match self.allocate(path, *at, *len, FallocateFlags::ZERO_RANGE) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.open(path)?.write_all_at(&vec![0; (*len).into()], (*at).into())
                }
                other => other,
            },
            Op::CopyRange(from, at, to, to_at, len) => self.copy(from, *at, to, *to_at, *len),
            other => self.run_rest(other),
        }
    }

    fn run_rest(&mut self, op: &Op) -> io::Result<()> {
        match op {
            Op::Chmod(path, mode) => {
                self.refuse_link(path)?;
                fs::set_permissions(self.at(path), Permissions::from_mode((*mode).into()))
            }
            Op::SetTime(path, time) => {
                self.refuse_link(path)?;
                let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
                let mtime = Timespec { tv_sec: (*time).into(), tv_nsec: 7 };
                let times = Timestamps { last_access: omit, last_modification: mtime };
                Ok(utimensat(CWD, self.at(path), &times, AtFlags::SYMLINK_NOFOLLOW)?)
            }
            Op::SetXattr(path, name, value) => {
                let name = format!("user.{name}");
                Ok(rustix::fs::lsetxattr(self.at(path), name, value, XattrFlags::empty())?)
            }
            Op::RemoveXattr(path, name) => {
                Ok(rustix::fs::lremovexattr(self.at(path), format!("user.{name}"))?)
            }
            Op::Look(path) => fs::symlink_metadata(self.at(path)).map(drop),
            Op::List(path) => {
                self.refuse_link(path)?;
                fs::read_dir(self.at(path)).map(Iterator::count).map(drop)
            }
            Op::Sync(path) => {
                if !fs::symlink_metadata(self.at(path))?.is_dir() {
                    self.open_to(path, OpenOptions::new().read(true))?;
                }
                File::open(self.at(path))?.sync_all()
            }
            Op::Restart => {
                self.test_home.holofs_ok(&["unmount", SPACE]);
                self.mount();
                Ok(())
            }
            Op::Kill => {
                kill_mount(self.pid);
                self.mount();
                Ok(())
            }
            // Passthrough ends with its server.
            Op::KillServer if self.is_passthrough() => Ok(()),
            Op::KillServer => {
                server_of(self.pid).into_iter().for_each(kill);
                Ok(())
            }
            other => panic!("{other:?} is done elsewhere"),
        }
    }

    fn mkdir(&self, path: &str, mode: u16) -> io::Result<()> {
        fs::create_dir(self.at(path))?;
        let inherited = fs::metadata(self.at(path))?.mode() & 0o2000;
        fs::set_permissions(self.at(path), Permissions::from_mode(inherited | u32::from(mode)))
    }

    /// Opens an existing regular file for reading and writing, without following a link and without blocking on a FIFO.
    fn open(&self, path: &str) -> io::Result<File> {
        self.open_to(path, OpenOptions::new().read(true).write(true))
    }

    fn open_to(&self, path: &str, options: &mut OpenOptions) -> io::Result<File> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = options.custom_flags(flags.bits().cast_signed()).open(self.at(path))?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from_raw_os_error(ELOOP)) }
    }

    fn refuse_link(&self, path: &str) -> io::Result<()> {
        let is_link = fs::symlink_metadata(self.at(path))?.is_symlink();
        if is_link { Err(io::Error::from_raw_os_error(ELOOP)) } else { Ok(()) }
    }

    fn rename(&self, from: &str, to: &str, flags: RenameFlags) -> io::Result<()> {
        Ok(renameat_with(CWD, self.at(from), CWD, self.at(to), flags)?)
    }

    fn allocate(&self, path: &str, at: u16, len: u16, flags: FallocateFlags) -> io::Result<()> {
        Ok(rustix::fs::fallocate(self.open(path)?, flags, at.into(), len.into())?)
    }

    fn copy(&self, from: &str, at: u16, to: &str, to_at: u16, len: u16) -> io::Result<()> {
        let (from, to) = (self.open_to(from, OpenOptions::new().read(true))?, self.open(to)?);
        let (mut at, mut to_at, mut left) = (u64::from(at), u64::from(to_at), usize::from(len));
        while left > 0 {
            match rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut to_at), left)? {
                0 => break,
                count => left -= count,
            }
        }
        Ok(())
    }

    fn look(&self, path: &str, same_as: String) -> Seen {
        let at = self.at(path);
        let meta = fs::symlink_metadata(&at).unwrap();
        let (kind, content) = match meta.file_type() {
            kind if kind.is_dir() => ('d', Vec::new()),
            kind if kind.is_symlink() => {
                ('l', fs::read_link(&at).unwrap().into_os_string().as_bytes().to_vec())
            }
            kind if kind.is_fifo() => ('p', Vec::new()),
            _ => ('f', fs::read(&at).unwrap()),
        };
        Seen {
            kind,
            mode: u16::try_from(meta.mode() & 0o7777).unwrap(),
            nlink: u32::try_from(meta.nlink()).unwrap(),
            content,
            xattrs: if matches!(kind, 'f' | 'd') { xattrs(&at) } else { BTreeMap::new() },
            same_as,
            mtime: Some(meta.mtime()),
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 4096];
            let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            (String::from_utf8(name.to_vec()).unwrap(), value)
        })
        .collect()
}

impl World for Mounted {
    const EXACT: bool = false;

    fn label(&self) -> String {
        self.root.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn apply(&mut self, op: &Op) -> Result<(), i32> {
        self.run(op).map_err(|error| error.raw_os_error().unwrap_or(-1))
    }

    fn seen(&mut self) -> BTreeMap<String, Seen> {
        let (mut found, mut left) = (BTreeMap::new(), vec![String::new()]);
        while let Some(path) = left.pop() {
            let meta = fs::symlink_metadata(self.at(&path)).unwrap();
            if meta.is_dir() {
                let names = fs::read_dir(self.at(&path)).unwrap().map(|entry| entry.unwrap().file_name());
                left.extend(names.map(|name| join(&path, name.to_str().unwrap())));
            }
            assert_eq!(found.insert(path.clone(), meta.ino()), None, "{path} is listed twice");
        }
        let first = |ino| found.iter().find(|(_, other)| **other == ino).unwrap().0.clone();
        found.iter().map(|(path, &ino)| (path.clone(), self.look(path, first(ino)))).collect()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.test_home.holofs(&["unmount", SPACE]);
    }
}
