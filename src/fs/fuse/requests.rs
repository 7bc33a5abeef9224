//! Counters of requests by opcode: the evidence for claims about the data path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! opcodes {
    ($($variant:ident = $name:literal,)*) => {
        /// A kind of request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs)] // the names are the kernel's
        pub enum Opcode { $($variant,)* }

        /// The names of all kinds, by opcode.
        pub const NAMES: &[&str] = &[$($name,)*];
    };
}

opcodes! {
    Lookup = "lookup", Forget = "forget", Getattr = "getattr", Setattr = "setattr", Readlink = "readlink",
    Mknod = "mknod", Mkdir = "mkdir", Unlink = "unlink", Rmdir = "rmdir", Symlink = "symlink", Rename = "rename",
    Link = "link", Open = "open", Release = "release", Read = "read", Write = "write", Statfs = "statfs", Fsync = "fsync",
    Setxattr = "setxattr", Getxattr = "getxattr", Listxattr = "listxattr", Removexattr = "removexattr",
    Flush = "flush", Opendir = "opendir", Readdir = "readdir", Readdirplus = "readdirplus", Fsyncdir = "fsyncdir",
    Access = "access", Create = "create", Ioctl = "ioctl", Fallocate = "fallocate", Lseek = "lseek",
    CopyFileRange = "copy_file_range",
}

/// The number of requests of each kind.
#[derive(Debug)]
pub struct Requests([AtomicU64; NAMES.len()]);

impl Default for Requests {
    fn default() -> Requests {
        Requests(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Requests {
    /// Counts a request of this kind.
    pub fn count(&self, opcode: Opcode) {
        self.0[opcode as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of all kinds that occurred.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let all = NAMES.iter().zip(&self.0).map(|(&name, count)| (name, count.load(Ordering::Relaxed)));
        all.filter(|&(_, count)| count > 0).collect()
    }
}
