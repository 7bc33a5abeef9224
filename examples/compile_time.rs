//! How long the first mount of a new catalog compiles, beside what reading and parsing its JSON takes: for `scripts/bench mount`.
//!
//! `compile_time CATALOG ROUNDS` prints one JSON object of medians in milliseconds. The two take turns, round by round. Nothing of
//! the home is touched: the Index goes to a temporary directory.

#![allow(clippy::disallowed_methods, reason = "a program of its own")]
#![allow(clippy::print_stdout, reason = "it is a program of its own")]

use std::io::Read as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use holofs::store::index::Index;

/// One thing to do with a catalog.
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

/// Reads, inflates and checks the JSON, and keeps nothing: the least that anybody needs who looks at a catalog.
fn skim(catalog: &Path) -> anyhow::Result<()> {
    serde_json::from_slice::<serde::de::IgnoredAny>(&text(catalog)?)?;
    Ok(())
}

/// Reads, inflates and parses the JSON into values, as any program would that knows nothing of catalogs.
fn parse(catalog: &Path) -> anyhow::Result<()> {
    serde_json::from_slice::<serde_json::Value>(&text(catalog)?)?;
    Ok(())
}

fn text(catalog: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(std::fs::File::open(catalog)?).read_to_end(&mut text)?;
    Ok(text)
}

/// All that a first mount does more than a second: identifies, reads, validates and compiles the catalog, keeps and opens its Index.
fn compile(catalog: &Path) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    Index::ensure(home.path(), catalog)?;
    Ok(())
}
