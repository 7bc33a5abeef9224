//! The fuzz targets on a fixed sequence of inputs: every seed, every former finding, and mutations that are the same on each run.
//!
//! `scripts/fuzz` runs the same functions under libFuzzer. What it finds is kept in `tests/data/fuzz/<target>/` and tried here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test helper fails loudly")]

#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::random::Random;
use crate::common::soak;

use targets::{ALL, Target};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn byte(random: &mut Random) -> u8 {
    const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'9'];
    if random.below(2) == 0 { EDGES[random.index(EDGES.len())] } else { random.below(256) as u8 }
}

/// Changes to an input: bits, bytes, pieces that are moved, doubled, removed, or taken from another input.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.index(6) {
        let at = random.index(input.len() + 1);
        let len = random.index(64).min(input.len() - at);
        match random.index(8) {
            0 if at < input.len() => input[at] ^= 1 << random.index(8),
            1 | 2 if at < input.len() => input[at] = byte(random),
            3 => input.insert(at, byte(random)),
            4 => drop(input.drain(at..at + len)),
            5 => {
                let piece = input[at..at + len].to_vec();
                let to = random.index(input.len() + 1);
                input.splice(to..to, piece);
            }
            6 if !other.is_empty() => {
                let from = random.index(other.len());
                let end = (from + random.index(64)).min(other.len());
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
    let mut random = Random::new(0x00ca_7a10_9f00_d5ee);
    for _ in 0..target.usual * soak::amount(1, 50) {
        let mut input = inputs[random.index(inputs.len())].clone();
        let other = random.index(inputs.len());
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
fn index_answers_every_query_whatever_it_contains() {
    run(target("index"));
}

#[test]
fn blobs_decode_to_the_right_content_or_an_error() {
    run(target("blob"));
}

#[test]
fn import_of_any_archive_adds_only_verified_content() {
    run(target("zip"));
}

#[test]
fn requests_to_the_helper_are_parsed_exactly_or_refused() {
    run(target("request"));
}

#[test]
fn pull_gives_what_was_requested_or_nothing() {
    run(target("remote"));
}

#[test]
fn answers_of_a_registry_are_read_or_refused() {
    run(target("oci"));
}

#[test]
fn answers_of_servers_of_logins_are_read_or_refused() {
    run(target("logins"));
}

#[test]
fn answers_and_requests_of_rccremote_are_read_or_refused() {
    run(target("rccremote"));
}

#[test]
fn state_that_others_have_altered_is_read_or_refused() {
    run(target("state"));
}

#[test]
fn serve_survives_invalid_requests_from_the_kernel() {
    run(target("vfs"));
}
