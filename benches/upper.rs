//! The cost of single operations of the upper: `cargo bench --bench upper`, with `TMPDIR` on the disk to be measured.
//!
//! `scripts/bench` measures whole programs on a mount; this benchmark shows which part of them changed.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails loudly")]

#[cfg(unix)]
mod on_unix {
    use std::num::NonZeroUsize;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    use divan::{Bencher, black_box};
    use holofs::fs::upper::{Access, Inode, Kind, Options, Upper};
    use holofs::rcc::digest::{Digest, Regime};
    use holofs::store::index::Ino;
    use holofs::store::observe::Tally;
    use holofs::sys::fs::name::Name;

    /// The directory that contains everything.
    const DIR: Ino = Ino(1);

    /// An upper in a temporary directory.
    struct Space {
        upper: Upper,
        _dir: tempfile::TempDir,
    }

    impl Space {
        fn new() -> Space {
            let dir = tempfile::tempdir().unwrap();
            let upper = open(dir.path());
            Space { upper, _dir: dir }
        }

        /// A space with this number of files, named `0`, `1` and so on.
        fn with(files: usize) -> (Space, Vec<Ino>) {
            let space = Space::new();
            let inos = (0..files).map(|number| space.create(&number.to_string())).collect();
            (space, inos)
        }

        fn create(&self, name: &str) -> Ino {
            let mut transaction = self.upper.begin(&[DIR]);
            let ino = transaction.create_file().unwrap();
            transaction.put(ino, Inode { has_bytes: true, ..Inode::new(Kind::File, 0o644) });
            transaction.link(DIR, Name::new(name.as_bytes()).unwrap(), ino, Kind::File, None);
            transaction.put(DIR, Inode::new(Kind::Dir, 0o750));
            transaction.commit().unwrap();
            self.upper.file(ino).unwrap().write_all_at(&[0; 3000], 0).unwrap();
            ino
        }
    }

    fn open(dir: &std::path::Path) -> Upper {
        let options = Options { access: Access::Writable, descriptors: NonZeroUsize::new(16).unwrap() };
        let catalog = Digest::of(Regime::Sha256, b"a catalog");
        Upper::open(dir, &catalog, &options, Arc::new(Tally::new())).unwrap()
    }

    #[divan::bench]
    fn open_a_space_with_5000_files(bencher: Bencher<'_, '_>) {
        let dir = tempfile::tempdir().unwrap();
        let space = Space { upper: open(dir.path()), _dir: tempfile::tempdir().unwrap() };
        for number in 0..5000 {
            space.create(&number.to_string());
        }
        drop(space);
        bencher.bench_local(|| open(dir.path()));
    }

    #[divan::bench(sample_count = 1000, sample_size = 1)]
    fn create_a_file_of_3000_bytes(bencher: Bencher<'_, '_>) {
        let space = Space::new();
        let mut number = 0_usize;
        bencher.bench_local(|| {
            number += 1;
            space.create(&number.to_string())
        });
    }

    #[divan::bench(sample_count = 1000, sample_size = 1)]
    fn create_a_file_of_3000_bytes_that_was_prepared(bencher: Bencher<'_, '_>) {
        let space = Space::new();
        let mut number = 0_usize;
        bencher.with_inputs(|| space.upper.prepare_file()).bench_local_values(|()| {
            number += 1;
            space.create(&number.to_string())
        });
    }

    #[divan::bench(sample_count = 1000, sample_size = 1)]
    fn change_one_inode(bencher: Bencher<'_, '_>) {
        let (space, inos) = Space::with(1);
        bencher.bench_local(|| {
            let mut transaction = space.upper.begin(&inos);
            transaction.put(inos[0], Inode { has_bytes: true, ..Inode::new(Kind::File, 0o600) });
            transaction.commit().unwrap();
        });
    }

    #[divan::bench(sample_count = 1000, sample_size = 1)]
    fn unlink_a_file(bencher: Bencher<'_, '_>) {
        let (space, inos) = Space::with(1000);
        let mut left = inos.iter().enumerate();
        bencher.bench_local(|| {
            let Some((number, &ino)) = left.next() else { return };
            let mut transaction = space.upper.begin(&[DIR, ino]);
            transaction.unlink(DIR, Name::new(number.to_string().as_bytes()).unwrap(), false);
            transaction.put(ino, Inode { nlink: 0, ..transaction.inode(ino).unwrap() });
            transaction.commit().unwrap();
        });
    }

    #[divan::bench]
    fn attributes_of_a_file_with_bytes(bencher: Bencher<'_, '_>) {
        let (space, inos) = Space::with(1);
        bencher.bench_local(|| space.upper.attributes(black_box(inos[0])).unwrap());
    }
}

fn main() {
    divan::main();
}
