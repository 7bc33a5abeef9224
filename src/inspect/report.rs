//! An HTML report about an environment: one self-contained file, no network.
//!
//! The data is embedded as one JSON object in a `<script type="application/json">`; `<` is escaped in it, so no name can end the
//! element. The page itself is `page.html`; it only uses `textContent`, so no name becomes markup.

use std::collections::HashMap;

use serde::Serialize;

use super::compare::Comparison;
use super::packages::{Package, Packages};
use super::run::Run;
use super::touched::{Share, Touched};
use crate::session::recording::Recording;
use crate::store::index::Index;
use crate::store::observe::origin::Origin;

/// The page, in which the comment `DATA` is replaced with the data.
const PAGE: &str = include_str!("page.html");
const PLACE: &str = "/*DATA*/";
/// The maximum number of reads of a run that are drawn, to keep the page small.
const MOST_READS: usize = 10_000;

/// The data of the page.
#[derive(Debug, Serialize)]
pub struct Page {
    /// The blueprint.
    pub blueprint: String,
    /// The platform.
    pub platform: String,
    /// Names and versions.
    pub packages: Vec<(String, String)>,
    /// Directories, each once: 30,000 full paths would take twice the space.
    pub directories: Vec<String>,
    /// Index of the directory, name, bytes, index of the package, bytes touched, position in the order of first reads (0: never).
    pub files: Vec<(usize, String, u64, usize, u64, usize)>,
    /// How much was touched in total.
    pub touched: Share,
    /// The changes since another catalog, with its blueprint.
    pub comparison: Option<(String, Comparison)>,
    /// Recorded runs, at most two, for comparison.
    pub runs: Vec<RunShown>,
}

/// A recorded run on the page.
#[derive(Debug, Serialize)]
pub struct RunShown {
    /// The command.
    pub title: String,
    /// Its duration, in milliseconds.
    pub run_ms: f64,
    /// How long it waited for answers, in milliseconds.
    pub waited_ms: f64,
    /// A summary in one sentence.
    pub sentence: String,
    /// Names of the origins of bytes.
    pub origins: Vec<&'static str>,
    /// The first reads: start and duration in milliseconds, index of the file on the page (-1: none), index of the origin, bytes.
    pub reads: Vec<(f64, f64, i64, usize, u32)>,
    /// The total number of reads.
    pub all_reads: u64,
}

impl RunShown {
    /// The data of `recording` for the page.
    pub fn new(recording: &Recording, run: &Run, index: &Index) -> RunShown {
        let positions: HashMap<u64, i64> =
            super::files(index).zip(0..).map(|((node, ..), position)| (node.ino.0, position)).collect();
        let ms = |us: f64| (us / 10.0).round() / 100.0;
        let reads = recording.requests.iter().filter(|asked| asked.kind == "read" && asked.size > 0);
        let all_reads = reads.clone().count() as u64;
        let reads = reads.take(MOST_READS).map(|asked| {
            let file = positions.get(&asked.ino).copied().unwrap_or(-1);
            (ms(asked.at_us), ms(asked.took_us), file, asked.origin as usize, asked.size)
        });
        RunShown {
            title: recording.command.join(" "),
            run_ms: run.run_ms,
            waited_ms: run.waited_ms,
            sentence: run.sentence(),
            origins: Origin::ALL.iter().map(|origin| origin.name()).collect(),
            reads: reads.collect(),
            all_reads,
        }
    }
}

impl Page {
    /// The report about one catalog.
    pub fn new(index: &Index, packages: &Packages, touched: &Touched) -> Page {
        let sorted = packages.sorted();
        let order: HashMap<_, _> =
            touched.order().iter().enumerate().map(|(place, ino)| (*ino, place + 1)).collect();
        let positions: HashMap<*const Package, usize> = sorted
            .iter()
            .enumerate()
            .map(|(position, package)| (std::ptr::from_ref(*package), position))
            .collect();
        let position = |ino| positions.get(&std::ptr::from_ref(packages.owner(ino)?)).copied();
        let mut directories: Vec<String> = Vec::new();
        let mut known = HashMap::new();
        let mut files = Vec::new();
        for (node, size, path) in super::files(index) {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let directory = *known.entry(directory.to_owned()).or_insert_with(|| {
                directories.push(directory.to_owned());
                directories.len() - 1
            });
            let place = order.get(&node.ino).copied().unwrap_or_default();
            let package = position(node.ino).unwrap_or_default();
            files.push((directory, name.to_owned(), size, package, touched.bytes(node.ino), place));
        }
        Page {
            blueprint: index.blueprint().to_owned(),
            platform: index.platform().to_owned(),
            directories,
            files,
            packages: sorted.iter().map(|package| (package.name.clone(), package.version.clone())).collect(),
            touched: touched.share(index),
            comparison: None,
            runs: Vec::new(),
        }
    }

    /// The page with the data.
    pub fn to_html(&self) -> Result<String, serde_json::Error> {
        let data = serde_json::to_string(self)?.replace('<', "\\u003c");
        Ok(PAGE.replacen(PLACE, &data, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_the_element_that_holds_the_data() {
        let report = Page {
            blueprint: "x".into(),
            platform: "linux_amd64".into(),
            packages: vec![("</script><script>alert(1)".into(), String::new())],
            directories: Vec::new(),
            files: Vec::new(),
            touched: Share { files: 0, all_files: 0, bytes: 0, all_bytes: 0 },
            comparison: None,
            runs: Vec::new(),
        };
        let html = report.to_html().unwrap();
        assert_eq!(html.matches("</script>").count(), PAGE.matches("</script>").count());
        assert!(html.contains("\\u003c/script>\\u003cscript>alert(1)"));
        assert!(!html.contains(PLACE));
    }
}
