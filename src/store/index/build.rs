//! Compiles a catalog into the bytes of an Index. Pure.
//!
//! One pass in breadth-first order. A directory's children are its visible subdirectories, its links and its files, merged and sorted
//! by name bytewise; everything below a link to a directory is left out.

use crate::rcc::catalog::{Catalog, CatalogId, Dir, DirId, File};

use super::format::{self, HEADER_LEN, Header, NewRecord, RECORD_LEN, Slice};

/// The tree does not fit the format: its Index would be larger than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The tree is larger than an index can hold (4 GiB)")]
pub struct TooLarge;

/// Compiles `catalog`, whose file has the digest `id`.
pub fn build(catalog: &Catalog, id: &CatalogId) -> Result<Vec<u8>, TooLarge> {
    let some_file = some_file(catalog);
    let header = &catalog.header;
    let base = catalog.base().as_os_str().as_encoded_bytes();
    let texts = [
        base,
        header.blueprint.as_bytes(),
        header.platform.as_bytes(),
        header.rcc.as_bytes(),
        some_file.as_bytes(),
    ];
    let heap_at = visible_nodes(catalog) * RECORD_LEN;
    let mut builder = Builder { catalog, records: Vec::new(), heap: Vec::new(), heap_at, bytes: 0 };
    builder.tree()?;
    builder.finish(id, texts)
}

/// The path of a regular file with as few directories as possible; empty if there is none, or it is not text.
fn some_file(catalog: &Catalog) -> String {
    let mut open = std::collections::VecDeque::from([(catalog.root(), String::new())]);
    while let Some((id, path)) = open.pop_front() {
        let dir = catalog.dir(id);
        let names = dir.files.iter().filter(|file| file.symlink.is_none());
        let mut names = names.filter_map(|file| std::str::from_utf8(file.name.as_bytes()).ok());
        if let Some(name) = names.next() {
            return path + name;
        }
        for (id, below) in dir.subdirs.iter().map(|&id| (id, catalog.dir(id))) {
            let name = below.name.as_ref().and_then(|name| std::str::from_utf8(name.as_bytes()).ok());
            if let Some(name) = name.filter(|_| below.symlink.is_none()) {
                open.push_back((id, format!("{path}{name}/")));
            }
        }
    }
    String::new()
}

struct Builder<'a> {
    catalog: &'a Catalog,
    records: Vec<NewRecord>,
    heap: Vec<u8>,
    heap_at: usize,
    bytes: u64,
}

/// A child that is still to be written.
enum Child<'a> {
    Dir(DirId, &'a Dir),
    File(&'a File),
}

impl Child<'_> {
    fn name(&self) -> &[u8] {
        match self {
            Child::Dir(_, dir) => dir.name.as_ref().map_or(&[], |name| name.as_bytes()),
            Child::File(file) => file.name.as_bytes(),
        }
    }
}

impl<'a> Builder<'a> {
    /// Writes all records, breadth first; `open` are directories whose children are still to come.
    fn tree(&mut self) -> Result<(), TooLarge> {
        let root = self.catalog.root();
        let mode = self.catalog.dir(root).mode.permissions();
        self.records.push(NewRecord { mode, ..EMPTY_DIR });
        let mut open = std::collections::VecDeque::from([(0_u32, root)]);
        while let Some((position, id)) = open.pop_front() {
            let children = sorted_children(self.catalog, self.catalog.dir(id));
            let first = len32(self.records.len())?;
            let mut subdirs = 0;
            for child in &children {
                let at = len32(self.records.len())?;
                if let Child::Dir(child_id, Dir { symlink: None, .. }) = child {
                    open.push_back((at, *child_id));
                    subdirs += 1;
                }
                let record = self.child(position, child)?;
                self.records.push(record);
            }
            let dir = &mut self.records[position as usize];
            dir.extent = format::pair(first, len32(children.len())?);
            dir.rewrites.len = subdirs;
        }
        Ok(())
    }

    fn child(&mut self, parent: u32, child: &Child<'a>) -> Result<NewRecord, TooLarge> {
        let name = self.store(child.name())?;
        let (symlink, mode) = match child {
            Child::Dir(_, dir) => (&dir.symlink, dir.mode),
            Child::File(file) => (&file.symlink, file.mode),
        };
        let record = NewRecord { name, parent, mode: mode.permissions(), ..EMPTY_DIR };
        match (symlink, child) {
            (Some(target), _) => self.link(record, target),
            (None, Child::Dir(..)) => Ok(record),
            (None, Child::File(file)) => self.file(record, file),
        }
    }

    fn link(&mut self, record: NewRecord, target: &str) -> Result<NewRecord, TooLarge> {
        let place = self.store(target.as_bytes())?;
        Ok(NewRecord {
            kind: format::KIND_LINK,
            mode: 0o777,
            extent: format::pair(place.at, place.len),
            ..record
        })
    }

    fn file(&mut self, record: NewRecord, file: &File) -> Result<NewRecord, TooLarge> {
        let mut offsets = file.rewrite.clone();
        offsets.sort_unstable();
        offsets.dedup();
        let encoded: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
        self.bytes = self.bytes.saturating_add(file.size);
        let rewrites = self.store(&encoded)?;
        Ok(NewRecord { kind: format::KIND_FILE, extent: file.size, rewrites, digest: file.digest, ..record })
    }

    /// Adds bytes to the heap; returns their place in the entries.
    fn store(&mut self, bytes: &[u8]) -> Result<Slice, TooLarge> {
        if bytes.is_empty() {
            return Ok(Slice::default());
        }
        let at = len32(self.heap_at + self.heap.len())?;
        self.heap.extend_from_slice(bytes);
        Ok(Slice { at, len: len32(bytes.len())? })
    }

    fn finish(self, id: &CatalogId, texts: [&[u8]; 5]) -> Result<Vec<u8>, TooLarge> {
        let entries = self.heap_at + self.heap.len();
        let checksums = vec![0; entries.div_ceil(format::BLOCK) * 4];
        let mut at = HEADER_LEN;
        let mut place = |bytes: &[u8]| {
            let slice = Slice { at: len32(at)?, len: len32(bytes.len())? };
            at += bytes.len();
            Ok(slice)
        };
        let [base, blueprint, platform, rcc, some_file] = texts;
        let header = Header {
            base: place(base)?,
            blueprint: place(blueprint)?,
            platform: place(platform)?,
            rcc: place(rcc)?,
            some_file: place(some_file)?,
            checksums: place(&checksums)?,
            id: *id,
            identity: self.identity()?,
            nodes: len32(self.records.len())?,
            first_record: len32(at)?,
            file_len: u64::from(len32(at + entries)?),
            content_bytes: self.bytes,
        };
        let mut out = Vec::with_capacity(at + entries);
        out.extend_from_slice(&header.encode());
        texts.into_iter().chain([&checksums[..]]).for_each(|bytes| out.extend_from_slice(bytes));
        self.records.iter().for_each(|record| out.extend_from_slice(&record.encode()));
        out.extend_from_slice(&self.heap);
        format::seal(&mut out, &header);
        Ok(out)
    }

    fn identity(&self) -> Result<[u8; 24], TooLarge> {
        let identity = self.catalog.header.identity.as_bytes().get(..24);
        identity.and_then(|identity| identity.try_into().ok()).ok_or(TooLarge)
    }
}

/// A directory without a name, a parent or children; the template of every record.
const EMPTY_DIR: NewRecord = NewRecord {
    name: Slice { at: 0, len: 0 },
    kind: format::KIND_DIR,
    mode: 0,
    parent: 0,
    extent: 0,
    rewrites: Slice { at: 0, len: 0 },
    digest: None,
};

fn len32(len: usize) -> Result<u32, TooLarge> {
    u32::try_from(len).map_err(|_| TooLarge)
}

/// The number of records of the tree: shadow directories and their files have none.
fn visible_nodes(catalog: &Catalog) -> usize {
    let dirs = catalog.dirs().iter().filter(|dir| !dir.shadow);
    dirs.map(|dir| 1 + if dir.symlink.is_none() { dir.files.len() } else { 0 }).sum()
}

/// Merges the two lists, which are already sorted.
fn sorted_children<'a>(catalog: &'a Catalog, dir: &'a Dir) -> Vec<Child<'a>> {
    let mut children = Vec::with_capacity(dir.subdirs.len() + dir.files.len());
    children.extend(dir.subdirs.iter().map(|&id| Child::Dir(id, catalog.dir(id))));
    children.extend(dir.files.iter().map(Child::File));
    children.sort_by(|left, right| left.name().cmp(right.name()));
    children
}
