//! Opening paths without following links.
//!
//! `std` has no paths relative to a handle on Windows. Instead, a directory that is held open without delete sharing can be neither
//! renamed nor removed, and its parents cannot be renamed: a path that was walked with every directory held leads to the same place
//! for as long as they are held. One gap remains: a process of the same user can turn an *empty* directory into a junction while it is
//! held; NTFS allows that to anyone who may write to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_READ_ATTRIBUTES, FILE_SHARE_READ, FILE_SHARE_WRITE,
};

use super::info::Info;

/// A directory that cannot be moved or removed while this value lives.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    file: File,
}

impl Held {
    /// Holds the directory at `path`, which is trusted and may lead through links.
    pub fn open(path: &Path) -> io::Result<Held> {
        let file = hold(path, FILE_FLAG_BACKUP_SEMANTICS)?;
        if !Info::of(&file)?.is_dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Held { path: std::path::absolute(path)?, file })
    }

    /// Holds the directory `name` in this one; a link or junction there is an error.
    pub fn open_dir(&self, name: impl AsRef<Path>) -> io::Result<Held> {
        let path = self.path.join(name);
        let file = hold(&path, FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)?;
        let is_link = is_link(&file)?;
        match Info::of(&file)?.is_dir {
            _ if is_link => Err(link_refused()),
            true => Ok(Held { path, file }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Holds the directory at a relative path of any number of components, each in turn.
    pub fn walk(&self, name: &Path) -> io::Result<Held> {
        let mut reached = self.reopen()?;
        for component in name.components() {
            let Component::Normal(name) = component else { return Err(io::ErrorKind::InvalidInput.into()) };
            reached = reached.open_dir(name)?;
        }
        Ok(reached)
    }

    /// Another handle of the same directory.
    pub fn reopen(&self) -> io::Result<Held> {
        Ok(Held { path: self.path.clone(), file: self.file.try_clone()? })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn hold(path: &Path, flags: u32) -> io::Result<File> {
    File::options().read(true).share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE).custom_flags(flags).open(path)
}

/// Opens the regular file at `path` with `options`. A link or a directory is an error.
pub fn open_file(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    let file = options.clone().custom_flags(flags).open(path)?;
    let info = Info::of(&file)?;
    if is_link(&file)? {
        return Err(link_refused());
    }
    if info.is_dir {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !info.is_reparse_point {
        return Ok(file);
    }
    // Not a link, but a file whose content a driver provides (deduplicated, compressed, in the cloud). It does not with
    // FILE_FLAG_OPEN_REPARSE_POINT, so the file is opened again without it.
    let filled = options.open(path)?;
    if Info::of(&filled)?.id == info.id { Ok(filled) } else { Err(link_refused()) }
}

/// True if `path` names `file`.
pub fn names(path: &Path, file: &File) -> io::Result<bool> {
    match look(path) {
        Ok(there) => Ok(Info::of(file)?.id == there.id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The facts of `path`, without following a link.
pub fn look(path: &Path) -> io::Result<Info> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    Info::of(&File::options().access_mode(FILE_READ_ATTRIBUTES).custom_flags(flags).open(path)?)
}

fn is_link(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    Ok(meta.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0 && meta.file_type().is_symlink())
}

/// The error for a link.
#[derive(Debug, thiserror::Error)]
#[error("It is a link or junction")]
struct IsLink;

fn link_refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, IsLink)
}

/// True for the error that [`open_file`] and [`Held::open_dir`] return for a link.
pub fn is_link_refused(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<IsLink>())
}
