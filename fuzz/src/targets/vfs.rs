//! A file system that gets invalid requests from the kernel: wrong inodes, bad names, absurd offsets, in any order. It answers each
//! request, and shows the same state after a restart.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use holofs::fs::upper::{Access, Options, Upper};
use holofs::fs::vfs::{
    Caller, Kind, Listed, Listing, New, RenameMode, SetAttr, SetMode, SetTime, Time, Vfs, View,
};
use holofs::rcc::catalog::Catalog;
use holofs::rcc::digest::{Digest, Regime};
use holofs::space::relocated::Relocated;
use holofs::store::index::{Index, Ino};
use holofs::store::memory::MemorySource;
use holofs::store::observe::Tally;

const LABEL: &[u8; 24] = b"0123456_789abcd_ef012345";
const NAMES: [&[u8]; 12] =
    [b"bin", b"tool", b"a", b"b", b"c", b"", b".", b"..", b"a/b", b"x\0y", &[b'n'; 255], &[0xff; 256]];

/// Numbers from the input; zeros at its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A small number, or one at a limit.
    fn number(&mut self) -> u64 {
        match self.next() {
            255 => u64::MAX,
            254 => i64::MAX as u64,
            253 => i64::MAX as u64 - 4096,
            252 => 1 << 40,
            small => u64::from(small) * 37,
        }
    }

    /// An inode of the catalog, one that was created, or one that never existed.
    fn ino(&mut self, made: &[Ino]) -> Ino {
        match (self.next(), made) {
            (255, _) => Ino(u64::MAX),
            (254, _) => Ino(0),
            (choice @ 128.., [_, ..]) => made[usize::from(choice) % made.len()],
            (choice, _) => Ino(u64::from(choice)),
        }
    }

    fn name(&mut self) -> &'static [u8] {
        NAMES[usize::from(self.next()) % NAMES.len()]
    }
}

/// Each operation is a byte, followed by its arguments.
pub fn run(data: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let index = Arc::new(index());
    let vfs = open(&index, dir.path());
    let (mut bytes, mut made) = (Bytes(data), Vec::new());
    let mut left = 200;
    while !bytes.0.is_empty() && left > 0 {
        left -= 1;
        operate(&vfs, &mut bytes, &mut made);
    }
    let before = seen(&vfs);
    drop(vfs);
    assert_eq!(seen(&open(&index, dir.path())), before, "a restart changed the space");
}

fn operate(vfs: &Vfs, bytes: &mut Bytes<'_>, made: &mut Vec<Ino>) {
    const CALLER: Caller = Caller { uid: 0, gid: 0 };
    let operation = bytes.next() % 20;
    let (ino, name) = (bytes.ino(made), bytes.name());
    let outcome = match operation {
        0 => vfs.make(CALLER, ino, name, 0o644, New::File).map(|attr| made.push(attr.ino)),
        1 => vfs.make(CALLER, ino, name, 0o755, New::Dir).map(|attr| made.push(attr.ino)),
        2 => vfs.make(CALLER, ino, name, 0o777, New::Link(bytes.name())).map(|attr| made.push(attr.ino)),
        3 => vfs.make(CALLER, ino, name, 0o600, New::Fifo).map(|attr| made.push(attr.ino)),
        4 => vfs.link(ino, bytes.ino(made), name).map(drop),
        5 => vfs.unlink(ino, name),
        6 => vfs.rmdir(ino, name),
        7 | 8 => {
            let mode = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
            vfs.rename(ino, name, bytes.ino(made), bytes.name(), mode[usize::from(bytes.next()) % 3])
        }
        9 => vfs
            .write(ino, bytes.number(), &vec![b'w'; usize::from(bytes.next())], bytes.next() > 127)
            .map(drop),
        10 => vfs.read(ino, bytes.number(), &mut [0; 300]).map(drop),
        11 => vfs.lookup(ino, name).map(drop),
        12 => vfs.getattr(ino).map(drop),
        13 => vfs.setattr(CALLER, ino, &set(bytes)).map(drop),
        14 => vfs.setxattr(
            ino,
            &[b"user.", name].concat(),
            &vec![b'v'; usize::from(bytes.next())],
            SetMode::Either,
        ),
        15 => vfs.removexattr(ino, &[b"user.", name].concat()),
        16 => vfs.readlink(ino).map(drop),
        // Small lengths only: the allocation is on a real disk.
        17 => vfs.allocate(ino, bytes.number() % 100_000, u64::from(bytes.next()) * 100, bytes.next().into()),
        18 => vfs
            .copy_range(ino, bytes.number(), bytes.ino(made), bytes.number() % 100_000, bytes.next().into())
            .map(drop),
        _ => {
            vfs.forget(ino, bytes.number());
            vfs.list(ino, bytes.number(), false, &mut Names::default())
        }
    };
    if let Err(error) = outcome {
        assert!(error.errno().0 > 0, "{error} has no number");
    }
}

fn set(bytes: &mut Bytes<'_>) -> SetAttr {
    let which = bytes.next();
    let some = |bit: u8| which >> bit & 1 == 1;
    SetAttr {
        mode: some(0).then(|| u16::from(bytes.next()) << 4),
        uid: some(1).then(|| bytes.next().into()),
        gid: some(2).then(|| bytes.next().into()),
        // At most the size of a hole, which costs nothing.
        size: some(3).then(|| bytes.number().min(1 << 40)),
        mtime: some(4).then(|| SetTime::At(Time { seconds: bytes.number() as i64, nanos: 7 })),
        ..SetAttr::default()
    }
}

#[derive(Default)]
struct Names(Vec<(Vec<u8>, Ino)>);

impl Listing for Names {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        self.0.push((entry.name.to_vec(), entry.attr.ino));
        false
    }
}

/// Every reachable path, with its visible attributes.
fn seen(vfs: &Vfs) -> BTreeMap<Vec<u8>, String> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), Ino::ROOT)];
    while let Some((path, dir)) = waiting.pop() {
        let mut names = Names::default();
        vfs.list(dir, 0, false, &mut names).unwrap();
        for (name, ino) in names.0.into_iter().filter(|(name, _)| name != b"." && name != b"..") {
            let attr = vfs.lookup(dir, &name).unwrap_or_else(|error| panic!("listed, but: {error}"));
            assert_eq!(attr.ino, ino);
            let path = [&path[..], b"/", &name].concat();
            let text = format!("{:?} {:o} {} {} {}", attr.kind, attr.mode, attr.size, attr.nlink, attr.ino);
            assert!(all.insert(path.clone(), text).is_none(), "a name twice");
            if attr.kind == Kind::Dir {
                waiting.push((path, ino));
            }
        }
    }
    all
}

fn open(index: &Arc<Index>, dir: &Path) -> Vfs {
    let tally = Arc::new(Tally::new());
    let options = Options { access: Access::Writable, descriptors: NonZeroUsize::new(3).unwrap() };
    let upper = Upper::open(dir, &index.id(), &options, Arc::clone(&tally) as _).unwrap();
    let mut source = MemorySource::new();
    source.add(Regime::Sha256, &[b'x'; 100]);
    let relocated = Relocated::new(dir, index, LABEL, Arc::new(source), tally);
    let view = View { uid: 0, gid: 0, dir_mode: 0o750 };
    Vfs::with_upper(Arc::clone(index), Arc::new(relocated), Arc::new(upper), view, true)
}

/// The same tree, as the catalog `id`.
pub fn open_as(id: &Digest, dir: &Path) -> Vfs {
    open(&Arc::new(index_as(Some(id))), dir)
}

fn index() -> Index {
    index_as(None)
}

/// A small tree: `bin/tool`, a link, and files without content in the library.
fn index_as(id: Option<&Digest>) -> Index {
    let digest = Digest::of(Regime::Sha256, &[b'x'; 100]);
    let tool = format!(r#""tool":{{"name":"tool","size":100,"mode":493,"digest":"{digest}"}}"#);
    let lost = tool.replace("tool", "lost").replace(&digest.to_string(), &"0".repeat(64));
    let bin = format!(r#""bin":{{"name":"bin","mode":2147484141,"files":{{{tool},{lost}}}}}"#);
    let link = r#""a":{"name":"a","mode":2147484141,"symlink":"bin"}"#;
    let text = format!(
        r#"{{"identity":"h59acff1_493f813dad24d3t","path":"/b/h59acff1_493f813dad24d3t","blueprint":"14023a1f332a0231","tree":{{"name":"","mode":2147484141,"subdirs":{{{bin},{link}}},"files":{{{tool}}}}}}}"#
    );
    let catalog = Catalog::parse(&super::catalog::gzip(text.as_bytes())).unwrap();
    let own = Digest::of(Regime::Sha256, text.as_bytes());
    Index::from_bytes(Index::build(&catalog, id.unwrap_or(&own)).unwrap()).unwrap()
}

/// Sequences that create something to work on; golden files serve as random input.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let mut text = Vec::new();
    let stored = std::fs::read(golden.join("catalog-gz.json.gz")).unwrap();
    MultiGzDecoder::new(&stored[..]).read_to_end(&mut text).unwrap();
    let mut seeds = vec![
        vec![1, 1, 2, 0, 128, 3, 9, 129, 0, 10, 200, 0, 7, 1, 2, 1, 4, 0, 5, 128, 3],
        vec![9, 2, 0, 0, 9, 0, 13, 2, 0, 8, 0, 13, 2, 0, 15, 7, 1, 2, 3, 6, 1, 1, 1],
        (0..255).collect(),
    ];
    seeds.extend(stored.chunks(400).take(8).map(<[u8]>::to_vec));
    seeds.extend(text.chunks(400).take(4).map(<[u8]>::to_vec));
    seeds
}
