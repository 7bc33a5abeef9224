//! Disk space below a path, and read-ahead advice for files.

use std::fs::File;
use std::io;
use std::path::Path;

pub use super::facts::Usage;

/// Usage of the file system that contains `path`.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Usage {
        block_size: u32::try_from(stat.f_frsize).unwrap_or(4096),
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
    })
}

/// Makes everything written to the file system that contains `path` durable.
pub fn sync(path: &Path) -> io::Result<()> {
    sync_of(&File::open(path)?)
}

/// Makes everything durable that was written to the file system that `file` is on; outside of Linux, only `file` itself.
pub fn sync_of(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(file)?;
    #[cfg(not(target_os = "linux"))]
    file.sync_all()?;
    Ok(())
}

/// Advises the kernel that `file` will be read sequentially, which doubles its read-ahead. This is only advice, so errors are ignored.
///
/// `WillNeed` for the next part is not used: it reads in single pages, and 200 MB from a virtual disk took 210 ms instead of 118.
#[cfg(target_os = "linux")]
pub fn will_be_read_in_order(file: &File) {
    if let Err(error) = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential) {
        log::debug!("The kernel reads no further ahead: {error}");
    }
}

/// No such advice on this platform.
#[cfg(not(target_os = "linux"))]
pub fn will_be_read_in_order(_: &File) {}

/// The name of the file system that contains `path`, or its magic number if it is not a known one.
#[cfg(target_os = "linux")]
pub fn file_system(path: &Path) -> io::Result<String> {
    const KNOWN: [(u64, &str); 10] = [
        (0xef53, "ext4"),
        (0x9123_683e, "btrfs"),
        (0x5846_5342, "xfs"),
        (0x0102_1994, "tmpfs"),
        (0x794c_7630, "overlayfs"),
        (0x6573_5546, "fuse"),
        (0x2fc1_2fc1, "zfs"),
        (0xf2f5_2010, "f2fs"),
        (0xca45_1a4e, "bcachefs"),
        (0x6969, "nfs"),
    ];
    let number = rustix::fs::statfs(path)?.f_type as u64 & 0xffff_ffff;
    let known = KNOWN.iter().find(|(known, _)| *known == number);
    Ok(known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned()))
}

/// The name of the file system that contains `path`.
#[cfg(target_os = "macos")]
pub fn file_system(path: &Path) -> io::Result<String> {
    let stat = rustix::fs::statfs(path)?;
    let name = stat.f_fstypename.iter().take_while(|&&byte| byte != 0);
    Ok(name.map(|&byte| char::from(byte.cast_unsigned())).collect())
}

/// Not known on this platform.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn file_system(_path: &Path) -> io::Result<String> {
    Ok("unknown".to_owned())
}
