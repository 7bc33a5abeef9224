//! Damage to blobs: {missing, truncated, flipped bit, wrong codec, longer} in every form, and entries that are not files.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use holofs::error::Failure;
use holofs::rcc::digest::{Digest, Regime};
use holofs::store::observe::Counter;
use holofs::store::{BlobSource, Codec, RawReading, StoreError, Wanted};

use super::hololib::{FORMS, Form, Hololib};
use crate::common::golden::gzip;
use crate::common::is_root;

/// Damages the good blob of `form` and returns the error of opening it; all other blobs must stay readable.
fn damaged(form: Form, damage: impl FnOnce(&Path, Vec<u8>)) -> StoreError {
    let hololib = Hololib::new();
    let wanted = form.wanted(&form.good());
    let path = hololib.blob(&wanted.digest);
    let stored = fs::read(&path).unwrap();
    damage(&path, stored.clone());
    let error = hololib.store.open(&wanted).unwrap_err();
    assert!(error.is_damage());
    assert_eq!(error.digest(), Some(&wanted.digest));
    assert!(error.to_string().contains(&wanted.digest.to_string()), "{error}");
    assert!(error.hint().unwrap().contains("holofs check --repair"), "{error}");
    assert_eq!(hololib.tally.get(Counter::BlobErrors), 1);
    assert!(hololib.store.library().verify(&wanted.digest, wanted.size).is_err());
    assert_eq!(raw_entries(&hololib), 0, "nothing unverified may stay in the raw store");
    hololib.assert_neighbours_open(&hololib.store);
    replace(&path, &stored);
    assert!(
        hololib.store.open(&wanted).unwrap().read_all().unwrap() == form.good(),
        "a new blob helps at once"
    );
    error
}

fn replace(path: &Path, stored: &[u8]) {
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).unwrap();
    } else if path.is_symlink() || path.exists() {
        fs::remove_file(path).unwrap();
    }
    fs::write(path, stored).unwrap();
}

/// All files in the raw store.
fn raw_entries(hololib: &Hololib) -> usize {
    let out = Command::new("find").arg(hololib.root().join("raw")).args(["-type", "f"]).output().unwrap();
    out.stdout.iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn open_of_a_missing_blob_is_an_error() {
    for form in FORMS {
        let error = damaged(form, |path, _| fs::remove_file(path).unwrap());
        assert!(matches!(error, StoreError::Missing { .. }), "{form:?}: {error}");
    }
}

#[test]
fn open_detects_a_truncated_blob() {
    for form in FORMS {
        let error = damaged(form, |path, stored| fs::write(path, &stored[..stored.len() / 2]).unwrap());
        let expected_codec = [Codec::Gzip, Codec::Raw, Codec::Zstd][form as usize];
        let StoreError::Truncated { tried, got, size: 50_000, .. } = error else {
            panic!("{form:?}: {error}")
        };
        assert_eq!(tried.codec, expected_codec);
        assert!(got < 50_000);
        let empty = damaged(form, |path, _| fs::write(path, b"").unwrap());
        assert!(matches!(empty, StoreError::Truncated { got: 0, .. }), "{form:?}: {empty}");
    }
}

#[test]
fn open_detects_a_flipped_bit_anywhere() {
    let flip = |position: f64| {
        move |path: &Path, mut stored: Vec<u8>| {
            let index = (position * (stored.len() - 1) as f64) as usize;
            stored[index] ^= 0x10;
            fs::write(path, stored).unwrap();
        }
    };
    for position in [0.3, 0.5, 0.9] {
        let raw = damaged(Form::Raw, flip(position));
        assert!(matches!(raw, StoreError::Mismatch { .. }), "{raw}");
    }
    let checksum = |path: &Path, mut stored: Vec<u8>| {
        let index = stored.len() - 8;
        stored[index] ^= 1;
        fs::write(path, stored).unwrap();
    };
    let gzip = damaged(Form::Gzip, checksum);
    assert!(matches!(gzip, StoreError::Corrupt { .. }), "{gzip}");
    // Random content is stored, not compressed, so the flipped bit is in the content itself.
    for form in [Form::Gzip, Form::Zstd] {
        let error = damaged(form, flip(0.5));
        assert!(
            matches!(error, StoreError::Corrupt { .. } | StoreError::Mismatch { .. }),
            "{form:?}: {error}"
        );
    }
}

#[test]
fn open_detects_every_harmful_flip_in_a_small_gzip_blob() {
    let content = b"a small file, but long enough to be compressed, compressed, compressed".to_vec();
    let wanted = Form::Gzip.wanted(&content);
    let hololib = Hololib::new();
    let stored = gzip(&content);
    fs::create_dir_all(hololib.blob(&wanted.digest).parent().unwrap()).unwrap();
    for bit in 0..stored.len() * 8 {
        let mut flipped = stored.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(hololib.blob(&wanted.digest), flipped).unwrap();
        let mut sink = Vec::new();
        match hololib.store.library().stream(&wanted.digest, wanted.size, &mut sink) {
            Ok(()) => assert_eq!(sink, content, "bit {bit}"), // of the header: time, system, flags
            Err(error) => assert!(error.is_damage(), "bit {bit}: {error}"),
        }
    }
}

#[test]
fn open_names_a_codec_that_the_digest_does_not_allow() {
    let gzipped = damaged(Form::Raw, |path, stored| fs::write(path, gzip(&stored)).unwrap());
    assert!(matches!(gzipped, StoreError::WrongCodec { found: "gzip", .. }), "{gzipped}");
    let zstd = damaged(Form::Raw, |path, stored| {
        fs::write(path, zstd::encode_all(&stored[..], 3).unwrap()).unwrap()
    });
    assert!(matches!(zstd, StoreError::WrongCodec { found: "zstd", .. }), "{zstd}");
    for form in [Form::Gzip, Form::Zstd] {
        let xz = damaged(form, |path, stored| {
            fs::write(path, [b"\xfd7zXZ\0", &stored[..]].concat()).unwrap();
        });
        assert!(matches!(xz, StoreError::WrongCodec { found: "xz", .. }), "{form:?}: {xz}");
    }
}

#[test]
fn open_of_other_content_in_a_good_form_is_a_mismatch() {
    for form in FORMS {
        let mut other = form.good();
        other[0] ^= 1;
        let actual = form.wanted(&other).digest;
        let error = damaged(form, |path, _| fs::write(path, form.encode(&other)).unwrap());
        let StoreError::Mismatch { actual: reported, .. } = error else { panic!("{form:?}: {error}") };
        assert_eq!(*reported, actual);
    }
}

#[test]
fn open_detects_a_longer_blob() {
    for form in FORMS {
        let after = damaged(form, |path, stored| fs::write(path, [&stored[..], b"x"].concat()).unwrap());
        assert!(matches!(after, StoreError::Longer { .. }), "{form:?}: {after}");
        let inside = damaged(form, |path, _| {
            fs::write(path, form.encode(&[&form.good()[..], b"x"].concat())).unwrap();
        });
        assert!(matches!(inside, StoreError::Longer { .. }), "{form:?}: {inside}");
    }
}

#[test]
fn open_accepts_a_sha256_blob_in_any_form_and_with_any_first_bytes() {
    let inner = [Form::Gzip.encode(b"inner"), Form::Zstd.encode(b"inner"), b"plain".to_vec(), Vec::new()];
    for content in inner {
        for form in [Form::Gzip, Form::Zstd, Form::Raw] {
            let hololib = Hololib::new();
            let wanted = Form::Gzip.wanted(&content);
            fs::create_dir_all(hololib.blob(&wanted.digest).parent().unwrap()).unwrap();
            fs::write(hololib.blob(&wanted.digest), form.encode(&content)).unwrap();
            assert_eq!(hololib.store.open(&wanted).unwrap().read_all().unwrap(), content, "{form:?}");
        }
    }
}

#[test]
fn open_that_fails_says_what_each_reading_gave() {
    let hololib = Hololib::new();
    let inner = gzip(b"inner");
    let wanted = Form::Gzip.wanted(&inner);
    let mut other = inner.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::create_dir_all(hololib.blob(&wanted.digest).parent().unwrap()).unwrap();
    fs::write(hololib.blob(&wanted.digest), &other).unwrap();
    let error = hololib.store.open(&wanted).unwrap_err();
    let StoreError::Corrupt { tried, .. } = &error else { panic!("{error}") };
    let actual = Digest::of(Regime::Sha256, &other);
    assert_eq!((tried.codec, tried.raw), (Codec::Gzip, Some(RawReading::Digest(actual))));
    assert!(error.to_string().contains(&actual.to_string()), "{error}");
}

#[test]
fn open_does_not_decode_a_siphash_blob_that_holds_gzip() {
    let hololib = Hololib::new();
    let inner = gzip(b"inner");
    let wanted = Form::Raw.wanted(&inner);
    fs::create_dir_all(hololib.blob(&wanted.digest).parent().unwrap()).unwrap();
    fs::write(hololib.blob(&wanted.digest), &inner).unwrap();
    assert_eq!(hololib.store.open(&wanted).unwrap().read_all().unwrap(), inner);
}

/// Fails the test if `work` does not end, instead of hanging.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(crate::common::PATIENCE).unwrap()
}

#[test]
fn open_refuses_anything_but_a_regular_file_at_once() {
    type Plant = fn(&Path);
    let plants: [(&str, Plant); 6] = [
        ("symbolic link", |path| symlink("/etc/passwd", path).unwrap()),
        ("symbolic link", |path| symlink("/dev/zero", path).unwrap()),
        ("FIFO", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("socket or device", |path| drop(UnixListener::bind(path).unwrap())),
        ("device", |path| {
            let made = Command::new("mknod").arg(path).args(["c", "1", "5"]).status().unwrap();
            assert!(made.success());
        }),
    ];
    for form in FORMS {
        for (expected, plant) in plants {
            if expected == "device" && !is_root() {
                eprintln!("skipped in part: making a device node needs root");
                continue;
            }
            let error = in_time(move || {
                damaged(form, |path, _| {
                    fs::remove_file(path).unwrap();
                    plant(path);
                })
            });
            let StoreError::NotRegular { kind, .. } = error else { panic!("{form:?} {expected}: {error}") };
            assert_eq!(kind, expected);
        }
    }
}

#[test]
fn open_refuses_a_link_on_the_way_to_a_blob() {
    let hololib = Hololib::new();
    let wanted = Form::Gzip.wanted(&Form::Gzip.good());
    let path = hololib.blob(&wanted.digest);
    let dir = path.parent().unwrap();
    fs::rename(dir, dir.with_file_name("moved")).unwrap();
    symlink("moved", dir).unwrap();
    let error = hololib.store.open(&wanted).unwrap_err();
    assert!(matches!(error, StoreError::NotRegular { kind: "symbolic link", .. }), "{error}");
    hololib.assert_neighbours_open(&hololib.store);
}

/// The peak memory of this process, in KiB.
fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The processor time of this thread: unlike the clock, it is the same on a busy machine.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[test]
fn open_of_a_bomb_costs_neither_time_nor_memory() {
    let hololib = Hololib::new();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..1024).for_each(|_| encoder.write_all(&zeros).unwrap());
    let bombs = [encoder.finish().unwrap(), zstd::encode_all(std::io::repeat(0).take_gib(), 3).unwrap()];
    for bomb in bombs {
        let wanted = Wanted { digest: Digest::of(Regime::Sha256, &bomb), size: 10, mode: 0o644 };
        fs::create_dir_all(hololib.blob(&wanted.digest).parent().unwrap()).unwrap();
        fs::write(hololib.blob(&wanted.digest), bomb).unwrap();
        let (before, memory) = (cpu_time(), peak_memory_kib());
        let error = hololib.store.open(&wanted).unwrap_err();
        assert!(matches!(error, StoreError::Longer { size: 10, .. }), "{error}");
        let taken = cpu_time().saturating_sub(before);
        assert!(taken < Duration::from_secs(2), "{taken:?}");
        let grown = peak_memory_kib() - memory;
        assert!(grown < 64 * 1024, "{grown} KiB");
    }
}

/// A gibibyte from an endless reader.
trait TakeGib: std::io::Read + Sized {
    fn take_gib(self) -> std::io::Take<Self> {
        self.take(1 << 30)
    }
}

impl TakeGib for std::io::Repeat {}
