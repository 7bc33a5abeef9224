//! The tree of a space in the form of a catalog.

use std::collections::HashMap;
use std::path::Path;

use crate::fs::vfs::{Attr, Kind, Vfs};
use crate::rcc::catalog::{self, Catalog, Dir, DirId, File, GoMode};
use crate::space::record::{IDENTITY_FILE, is_left_out};
use crate::store::index::Ino;
use crate::sys::fs::name::{OwnedName, RelPath};

use super::contents::{Recorded, Relocator};
use super::links;
use crate::session::error::{SessionError, Tried as _};

/// The directories of a new catalog, with statistics.
pub struct Tree {
    /// Parents before their children.
    pub dirs: Vec<Dir>,
    /// Files that were written in the space.
    pub written_files: u64,
    /// Their bytes.
    pub written_bytes: u64,
    /// Entries that RCC never records.
    pub left_out: u64,
}

/// A directory to read: its place, its current inode, and its previous one.
struct Pending {
    id: DirId,
    ino: Ino,
    before: Option<DirId>,
    path: RelPath,
}

struct Reader<'a> {
    vfs: &'a Vfs,
    base: &'a Catalog,
    root: &'a Path,
    relocator: &'a Relocator<'a>,
    tree: Tree,
    left: Vec<Pending>,
}

impl Tree {
    /// Reads the whole space. Fails on an entry that a catalog cannot contain, and names it.
    pub fn read(
        vfs: &Vfs,
        base: &Catalog,
        root: &Path,
        relocator: &Relocator<'_>,
        specification: &str,
    ) -> Result<Tree, SessionError> {
        let top = Dir { subdirs: Vec::new(), files: Vec::new(), ..base.dir(base.root()).clone() };
        let tree = Tree { dirs: vec![top], written_files: 0, written_bytes: 0, left_out: 0 };
        let first =
            Pending { id: DirId(0), ino: Ino::ROOT, before: Some(base.root()), path: RelPath::root() };
        let mut reader = Reader { vfs, base, root, relocator, tree, left: vec![first] };
        while let Some(pending) = reader.left.pop() {
            reader.directory(&pending)?;
        }
        let identity = reader.file(
            OwnedName::new(IDENTITY_FILE.as_bytes())
                .tried_with(|| format!("{IDENTITY_FILE} cannot be in a catalog"))?,
            GoMode::from_unix(catalog::EntryKind::File, 0o644),
            relocator.text(specification)?,
        );
        let mut tree = reader.tree;
        let files = &mut tree.dirs[0].files;
        files.retain(|file| file.name != identity.name);
        files.push(identity);
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tree)
    }
}

impl Reader<'_> {
    fn directory(&mut self, pending: &Pending) -> Result<(), SessionError> {
        let base = self.base;
        let before = pending.before.map(|id| base.dir(id));
        let old_dirs: HashMap<&[u8], DirId> = before
            .iter()
            .flat_map(|dir| &dir.subdirs)
            .filter_map(|&id| Some((base.dir(id).name.as_ref()?.as_bytes(), id)))
            .collect();
        let mut entries = self.vfs.entries_now(pending.ino)?;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, attr) in entries {
            if is_left_out(name.as_bytes()) {
                self.tree.left_out += 1;
                continue;
            }
            let mut path = pending.path.clone();
            path.push(name.clone());
            let old = old_dirs.get(name.as_bytes()).copied();
            self.entry(pending, name, &attr, old, path.clone())
                .tried_with(|| format!("{path} cannot be in a catalog"))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: &Pending,
        name: OwnedName,
        attr: &Attr,
        old: Option<DirId>,
        path: RelPath,
    ) -> Result<(), SessionError> {
        std::str::from_utf8(name.as_bytes()).tried("Its name is not UTF-8")?;
        match attr.kind {
            Kind::Dir => {
                let old = old.filter(|&id| self.base.dir(id).symlink.is_none());
                let mode = match old {
                    Some(id) => self.base.dir(id).mode,
                    None => GoMode::from_unix(catalog::EntryKind::Directory, attr.mode),
                };
                let id = self.add_dir(parent.id, name, None, mode);
                self.left.push(Pending { id, ino: attr.ino, before: old, path });
            }
            Kind::File => {
                let content = self.relocator.content(attr.ino)?;
                if content.is_written {
                    self.tree.written_files += 1;
                    self.tree.written_bytes += content.size;
                }
                let file = self.file(name, GoMode::from_unix(catalog::EntryKind::File, attr.mode), content);
                self.tree.dirs[parent.id.index()].files.push(file);
            }
            Kind::Link => self.link(parent, name, attr)?,
            kind => {
                return Err(SessionError::State(
                    format!("It is neither a file, a directory nor a link, but {kind:?}").into(),
                ));
            }
        }
        Ok(())
    }

    /// RCC also records the target of a link.
    fn link(&mut self, parent: &Pending, name: OwnedName, attr: &Attr) -> Result<(), SessionError> {
        let text = self.vfs.readlink(attr.ino)?.into_owned();
        let text: Box<str> = String::from_utf8(text).tried("The text of the link is not UTF-8")?.into();
        match links::target(self.vfs, self.root, parent.ino, text.as_bytes()) {
            Some(target) if target.kind == Kind::Dir => {
                let mode = GoMode::from_unix(catalog::EntryKind::Directory, target.mode);
                self.add_dir(parent.id, name, Some(text), mode);
            }
            Some(target) if target.kind == Kind::File => {
                let content = self.relocator.content(target.ino)?;
                let mode = GoMode::from_unix(catalog::EntryKind::File, target.mode);
                let file = File { symlink: Some(text), ..self.file(name, mode, content) };
                self.tree.dirs[parent.id.index()].files.push(file);
            }
            _ => self.link_as_before(parent, name, text)?,
        }
        Ok(())
    }

    /// A dangling link is kept if the old catalog has it, because that contains what RCC records of it.
    fn link_as_before(
        &mut self,
        parent: &Pending,
        name: OwnedName,
        text: Box<str>,
    ) -> Result<(), SessionError> {
        let base = self.base;
        let old = parent.before.map(|id| base.dir(id));
        let files = old.iter().flat_map(|dir| &dir.files);
        let mut same = files.filter(|file| file.name == name && file.symlink.as_ref() == Some(&text));
        if let Some(file) = same.next() {
            self.tree.dirs[parent.id.index()].files.push(file.clone());
            return Ok(());
        }
        let dirs = old.iter().flat_map(|dir| &dir.subdirs).map(|&id| base.dir(id));
        let mut same =
            dirs.filter(|dir| dir.name.as_ref() == Some(&name) && dir.symlink.as_ref() == Some(&text));
        let same = same.next().tried_with(|| format!("It leads out of the space, or nowhere: {text}"))?;
        self.add_dir(parent.id, name, Some(text), same.mode);
        Ok(())
    }

    fn add_dir(&mut self, parent: DirId, name: OwnedName, symlink: Option<Box<str>>, mode: GoMode) -> DirId {
        let id = DirId(u32::try_from(self.tree.dirs.len()).unwrap_or(u32::MAX));
        self.tree.dirs[parent.index()].subdirs.push(id);
        self.tree.dirs.push(Dir {
            name: Some(name),
            parent: Some(parent),
            symlink,
            mode,
            shadow: false,
            subdirs: Vec::new(),
            files: Vec::new(),
        });
        id
    }

    fn file(&self, name: OwnedName, mode: GoMode, content: Recorded) -> File {
        let Recorded { digest, size, rewrite, .. } = content;
        File { name, symlink: None, size, mode, digest: Some(digest), rewrite }
    }
}
