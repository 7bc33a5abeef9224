//! Disk space below a path.

use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    GetDiskFreeSpaceExW, GetVolumeInformationW, GetVolumePathNameW,
};

pub use super::facts::Usage;

/// Usage of the file system that contains `path`.
pub fn usage(path: &Path) -> io::Result<Usage> {
    const BLOCK: u64 = 4096;
    let (mut available, mut all, mut free) = (0, 0, 0);
    let path = wide(path);
    // SAFETY: the path ends with NUL, and it and the three numbers outlive the call.
    #[allow(unsafe_code)]
    let outcome =
        unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut available, &raw mut all, &raw mut free) };
    succeeded(outcome)?;
    Ok(Usage {
        block_size: BLOCK as u32,
        blocks: all / BLOCK,
        free: free / BLOCK,
        available: available / BLOCK,
        files: 0,
        files_free: u64::MAX,
    })
}

/// Such advice can only be given here when a file is opened.
pub fn will_be_read_in_order(_: &File) {}

/// The name of the file system that contains `path`, such as NTFS or `ReFS`.
pub fn file_system(path: &Path) -> io::Result<String> {
    const ROOM: u32 = 1024;
    let path = wide(path);
    let (mut volume, mut name) = ([0; ROOM as usize], [0; ROOM as usize]);
    // SAFETY: both paths end with NUL; the buffers have the stated size and outlive the calls; unneeded outputs are null.
    #[allow(unsafe_code)]
    unsafe {
        succeeded(GetVolumePathNameW(path.as_ptr(), volume.as_mut_ptr(), ROOM))?;
        let (none, no_number) = (std::ptr::null_mut(), std::ptr::null_mut());
        let root = volume.as_ptr();
        let outcome =
            GetVolumeInformationW(root, none, 0, no_number, no_number, no_number, name.as_mut_ptr(), ROOM);
        succeeded(outcome)?;
    }
    let end = name.iter().position(|&unit| unit == 0).unwrap_or(name.len());
    Ok(String::from_utf16_lossy(&name[..end]))
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

fn succeeded(outcome: i32) -> io::Result<()> {
    if outcome == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
