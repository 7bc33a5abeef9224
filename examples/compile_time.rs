//! How long the first mount of a new catalog needs to compile it, compared with reading and parsing its JSON: for `scripts/bench mount`.
//!
//! `compile_time CATALOG ROUNDS` prints one JSON object with medians in milliseconds. The ways take turns, round by round. The home is not
//! changed: the Index goes to a temporary directory.

#![allow(clippy::disallowed_methods, reason = "a separate program, which reads its arguments")]
#![allow(clippy::print_stdout, reason = "a separate program, which prints its result")]

use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use holofs::store::index::Index;

/// A way to process a catalog.
type Way = fn(&Path) -> anyhow::Result<()>;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let catalog = arguments.next().context("usage: compile_time CATALOG ROUNDS")?;
    let rounds: usize = arguments.next().context("usage: compile_time CATALOG ROUNDS")?.parse()?;
    let ways: [(&str, Way); 3] = [("skim", skim), ("parse", parse), ("compile", compile)];
    let mut taken = vec![Vec::new(); ways.len()];
    for _ in 0..rounds.max(1) {
        for ((_, way), times) in ways.iter().zip(&mut taken) {
            let start = Instant::now();
            way(Path::new(&catalog))?;
            times.push(start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let medians = ways.iter().zip(&mut taken).map(|((name, _), times)| {
        times.sort_by(f64::total_cmp);
        ((*name).to_owned(), serde_json::json!(times[times.len() / 2]))
    });
    println!("{}", serde_json::Value::Object(medians.collect()));
    Ok(())
}

/// Reads, inflates and checks the JSON, and keeps nothing: the minimum for any program that reads a catalog.
fn skim(catalog: &Path) -> anyhow::Result<()> {
    serde_json::from_slice::<serde::de::IgnoredAny>(&text(catalog)?)?;
    Ok(())
}

/// Reads, inflates and parses the JSON into generic values, as a program without knowledge of catalogs would.
fn parse(catalog: &Path) -> anyhow::Result<()> {
    serde_json::from_slice::<serde_json::Value>(&text(catalog)?)?;
    Ok(())
}

fn text(catalog: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(catalog)?).read_to_end(&mut text)?;
    Ok(text)
}

/// What a first mount does in addition to a second one: identifies, reads, validates and compiles the catalog, stores and opens its Index.
fn compile(catalog: &Path) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    Index::ensure(home.path(), catalog)?;
    Ok(())
}
