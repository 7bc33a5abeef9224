//! The fuzz targets on a fixed sequence of inputs: every seed, every former finding, and mutations that are the same on each run.
//!
//! `scripts/fuzz` runs the same functions under libFuzzer. What it finds is kept in `tests/data/fuzz/<target>/` and tried here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::soak;

use targets::{ALL, Target};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A generator of numbers with the same sequence on every run.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (end as u64).max(1)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'9'];
        if self.below(2) == 0 { EDGES[self.below(8)] } else { self.below(256) as u8 }
    }
}

/// Changes to an input: bits, bytes, pieces that are moved, doubled, removed, or taken from another input.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let len = random.below(64).min(input.len() - at);
        match random.below(8) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 | 2 if at < input.len() => input[at] = random.byte(),
            3 => input.insert(at, random.byte()),
            4 => drop(input.drain(at..at + len)),
            5 => {
                let piece = input[at..at + len].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            6 if !other.is_empty() => {
                let from = random.below(other.len());
                let end = (from + random.below(64)).min(other.len());
                input.splice(at..at + len, other[from..end].iter().copied());
            }
            _ => input.truncate(at.max(input.len() / 2)),
        }
    }
}

fn run(target: &Target) {
    let mut inputs = (target.seeds)(&data().join("golden"));
    let found = fs::read_dir(data().join("fuzz").join(target.name)).into_iter().flatten();
    inputs.extend(found.map(|entry| fs::read(entry.unwrap().path()).unwrap()));
    inputs.iter().for_each(|input| (target.run)(input));
    let mut random = Random(0x00ca_7a10_9f00_d5ee);
    for _ in 0..target.usual * soak::amount(1, 50) {
        let mut input = inputs[random.below(inputs.len())].clone();
        let other = random.below(inputs.len());
        mutate(&mut random, &mut input, &inputs[other]);
        let outcome = std::panic::catch_unwind(|| (target.run)(&input));
        if let Err(panic) = outcome {
            let kept = std::env::temp_dir().join(format!("holofs-fuzz-{}", target.name));
            fs::write(&kept, &input).unwrap();
            let why = panic.downcast_ref::<String>().map_or("see above", String::as_str);
            panic!("{why}; the input is in {}", kept.display());
        }
    }
}

fn target(name: &str) -> &'static Target {
    ALL.iter().find(|target| target.name == name).unwrap()
}

#[test]
fn catalogs_are_parsed_or_refused() {
    run(target("catalog"));
}

#[test]
fn index_answers_whatever_it_holds() {
    run(target("index"));
}

#[test]
fn blobs_come_out_right_or_not_at_all() {
    run(target("blob"));
}

#[test]
fn archives_bring_what_verifies_or_nothing() {
    run(target("zip"));
}

#[test]
fn requests_to_the_helper_are_what_they_say() {
    run(target("request"));
}

#[test]
fn pull_gives_what_was_requested_or_nothing() {
    run(target("remote"));
}

#[test]
fn state_that_somebody_wrote_to_is_read_or_refused() {
    run(target("state"));
}

#[test]
fn serve_survives_a_senseless_kernel() {
    run(target("vfs"));
}
