//! Resolves symbolic links of a space, as long as they stay in the space.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::fs::vfs::{Attr, Kind, Vfs};
use crate::store::index::Ino;
use crate::sys::fs::name::Name;

/// The maximum number of links followed, as on Linux.
const MOST_LINKS: u32 = 40;

/// The target of `text`, a link in `dir`; `None` if it is outside of the space, or missing.
pub fn target(vfs: &Vfs, root: &Path, dir: Ino, text: &[u8]) -> Option<Attr> {
    let mut at = vec![Ino::ROOT];
    at.extend(ancestors(vfs, dir));
    let mut left = MOST_LINKS;
    follow(vfs, root, &mut at, text, &mut left)?;
    vfs.getattr(*at.last()?).ok()
}

/// The directories from below the root down to `dir`.
fn ancestors(vfs: &Vfs, dir: Ino) -> Vec<Ino> {
    let mut found = Vec::new();
    let mut at = dir;
    while at != Ino::ROOT {
        found.push(at);
        match vfs.parent(at) {
            Ok(parent) => at = parent,
            Err(_) => break,
        }
    }
    found.reverse();
    found
}

/// Walks `text` from the directory at the end of `at`; follows the last component, too.
fn follow(vfs: &Vfs, root: &Path, at: &mut Vec<Ino>, text: &[u8], left: &mut u32) -> Option<()> {
    *left = left.checked_sub(1)?;
    let path = Path::new(std::ffi::OsStr::from_bytes(text));
    let path = match path.is_absolute() {
        true => {
            at.truncate(1);
            path.strip_prefix(root).ok()?
        }
        false => path,
    };
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if at.len() > 1 => drop(at.pop()),
            Component::Normal(name) => {
                let child = vfs.child(*at.last()?, Name::new(name.as_bytes()).ok()?)?;
                let child = vfs.getattr(child).ok()?;
                match child.kind {
                    Kind::Link => {
                        let text = vfs.readlink(child.ino).ok()?.into_owned();
                        follow(vfs, root, at, &text, left)?;
                    }
                    _ => at.push(child.ino),
                }
            }
            _ => return None,
        }
    }
    Some(())
}
