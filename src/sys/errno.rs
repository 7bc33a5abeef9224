//! Error numbers, as the kernel and programs use them.

use std::io;

/// An error number, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// EBUSY.
    pub const BUSY: Errno = Errno(libc::EBUSY);
    /// EEXIST.
    pub const EXIST: Errno = Errno(libc::EEXIST);
    /// EFBIG.
    pub const FBIG: Errno = Errno(libc::EFBIG);
    /// EINVAL.
    pub const INVAL: Errno = Errno(libc::EINVAL);
    /// EIO.
    pub const IO: Errno = Errno(libc::EIO);
    /// EISDIR.
    pub const ISDIR: Errno = Errno(libc::EISDIR);
    /// ENAMETOOLONG.
    pub const NAMETOOLONG: Errno = Errno(libc::ENAMETOOLONG);
    /// ENODATA.
    pub const NODATA: Errno = Errno(libc::ENODATA);
    /// ENOENT.
    pub const NOENT: Errno = Errno(libc::ENOENT);
    /// ENOSPC.
    pub const NOSPC: Errno = Errno(libc::ENOSPC);
    /// ENOTDIR.
    pub const NOTDIR: Errno = Errno(libc::ENOTDIR);
    /// ENOTEMPTY.
    pub const NOTEMPTY: Errno = Errno(libc::ENOTEMPTY);
    /// ENOTSUP.
    pub const NOTSUP: Errno = Errno(libc::ENOTSUP);
    /// ENXIO.
    pub const NXIO: Errno = Errno(libc::ENXIO);
    /// EDQUOT.
    #[cfg(unix)]
    pub const DQUOT: Errno = Errno(libc::EDQUOT);
    /// EPERM.
    pub const PERM: Errno = Errno(libc::EPERM);
    /// EROFS.
    pub const ROFS: Errno = Errno(libc::EROFS);
    /// ESTALE.
    pub const STALE: Errno = Errno(libc::ESTALE);

    /// The number behind an I/O error; EIO if it has none.
    pub fn of(error: &io::Error) -> Errno {
        error.raw_os_error().filter(|&number| number > 0).map_or(Errno::IO, Errno)
    }
}
