//! Setting attributes: mode, owner, size, times.

use std::fs::File;

use crate::fs::upper::{Inode, Kind, Time};
use crate::store::index::Ino;
use crate::sys::fs::bytes;

use super::{Attr, Caller, Vfs, VfsError};

/// What to set; `None` is left unchanged. If all are `None`, the kernel wants privileges dropped, as by `chown(-1, -1)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permissions: 12 bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes; growth is filled with zeros.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of content.
    pub mtime: Option<SetTime>,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The current time.
    Now,
    /// This time.
    At(Time),
}

impl SetTime {
    fn at(self, now: Time) -> Time {
        match self {
            SetTime::Now => now,
            SetTime::At(time) => time,
        }
    }
}

/// The mode without setuid, and without setgid unless it only marks a file for mandatory locking.
pub(super) fn unprivileged(mode: u16) -> u16 {
    let kept = mode & !0o4000;
    if mode & 0o010 != 0 { kept & !0o2000 } else { kept }
}

impl Vfs {
    /// Sets attributes, and returns the new ones. A request that only repeats the catalog's values writes nothing: RCC makes such
    /// requests for every directory.
    pub fn setattr(&self, caller: Caller, ino: Ino, set: &SetAttr) -> Result<Attr, VfsError> {
        self.writer()?;
        if self.is_shown(ino, set)? {
            return self.getattr(ino);
        }
        let mut change = self.change(&[ino])?;
        let before = change.inode(ino)?;
        let now = change.now();
        let (atime, mtime) = (set.atime.map(|time| time.at(now)), set.mtime.map(|time| time.at(now)));
        let file = match set.size {
            Some(size) => Some(self.own_bytes_in(&mut change, ino, size)?),
            None => None,
        };
        let has_bytes = before.has_bytes || file.is_some();
        if let Some(file) = file.filter(|_| !before.has_bytes) {
            // These bytes are not visible yet: a failure here has no effect.
            self.set_file(ino, &file, set, atime, mtime)?;
        }
        let mut after = change.inode(ino)?;
        apply(&mut after, caller, set);
        if !has_bytes {
            after.atime = atime.unwrap_or(after.atime);
            after.mtime = mtime.unwrap_or(after.mtime);
        }
        // The times and the size of a file with bytes are not stored in a row.
        let row = !has_bytes || !before.has_bytes || set.size.is_none() && atime.or(mtime).is_none();
        if row || after != before {
            after.ctime = now;
            change.tx.put(ino, after);
            change.commit(None)?;
        }
        if before.has_bytes {
            self.set_file(ino, &*self.writer()?.file(ino)?, set, atime, mtime)?;
        }
        self.getattr(ino)
    }

    /// Sets size and times, which are not in rows. Resizing a file also sets its modification time, so a truncation to the
    /// current time is a single call.
    fn set_file(
        &self,
        ino: Ino,
        file: &File,
        set: &SetAttr,
        atime: Option<Time>,
        mtime: Option<Time>,
    ) -> Result<(), VfsError> {
        if let Some(size) = set.size {
            let resized = self.writer()?.with_room(|| file.set_len(size));
            resized.map_err(|source| VfsError::Io { doing: "resize", ino, source })?;
        }
        let mtime = mtime.filter(|_| set.size.is_none() || set.mtime != Some(SetTime::Now));
        if atime.or(mtime).is_none() {
            return Ok(());
        }
        let dated = bytes::set_times(file, atime.map(Time::into), mtime.map(Time::into));
        dated.map_err(|source| VfsError::Io { doing: "set the times", ino, source })
    }

    /// True if `ino` was never changed and `set` only repeats the catalog's values.
    fn is_shown(&self, ino: Ino, set: &SetAttr) -> Result<bool, VfsError> {
        if self.written().and_then(|upper| upper.inode(ino)).is_some() || *set == SetAttr::default() {
            return Ok(false);
        }
        let shown = self.getattr(ino)?;
        let same = |set: Option<SetTime>, shown| set.is_none_or(|time| time == SetTime::At(shown));
        let owned = set.uid.is_none_or(|uid| uid == shown.uid) && set.gid.is_none_or(|gid| gid == shown.gid);
        let kept = set.uid.or(set.gid).is_none() || unprivileged(shown.mode) == shown.mode;
        Ok(set.size.is_none()
            && owned
            && kept
            && set.mode.is_none_or(|mode| mode == shown.mode)
            && same(set.atime, shown.atime)
            && same(set.mtime, shown.mtime))
    }
}

/// Sets mode and owner, and drops the privileges that a new owner, a new size or the kernel's request clears.
fn apply(inode: &mut Inode, caller: Caller, set: &SetAttr) {
    let chown = set.uid.or(set.gid).is_some();
    let truncated_by_other = set.size.is_some() && caller.uid != 0;
    if inode.kind != Kind::Dir && (chown || truncated_by_other || *set == SetAttr::default()) {
        inode.mode = unprivileged(inode.mode);
    }
    inode.mode = set.mode.unwrap_or(inode.mode);
    inode.uid = set.uid.unwrap_or(inode.uid);
    inode.gid = set.gid.unwrap_or(inode.gid);
}
