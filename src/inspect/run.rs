//! What one run touched: totals of a recording, by file, by package and by the origin of the bytes.
//!
//! Touched bytes are counted as in profiles, in chunks of 128 KiB, so that a run and its report agree. Reads answered from the
//! kernel's page cache cause no request, and are not counted.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::Serialize;

use super::packages::{NONE, Packages};
use super::touched::{Share, Touched};
use crate::fs::fuse::profile::{CHUNK, Item, Profile};
use crate::session::recording::{Asked, Recording};
use crate::store::index::{Index, Ino};
use crate::store::observe::origin::Origin;

/// The kind of read requests.
const READ: &str = "read";

/// The totals of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The blueprint.
    pub blueprint: String,
    /// The command; empty if a space was watched.
    pub command: Vec<String>,
    /// The mount method.
    pub method: String,
    /// Milliseconds until the command started.
    pub ready_ms: f64,
    /// Its duration in milliseconds.
    pub run_ms: f64,
    /// Requests about files, by kind.
    pub requests: BTreeMap<String, u64>,
    /// Lookups of names that do not exist.
    pub missed: u64,
    /// Milliseconds that programs waited for answers; several may wait at once.
    pub waited_ms: f64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Requests made by prefetching.
    pub ahead: u64,
    /// Requests that were not fetched in time, and so are not counted.
    pub dropped: u64,
    /// Why the recording is incomplete.
    pub incomplete: Option<String>,
    /// Files and bytes of the catalog that were read.
    pub touched: Share,
    /// By origin of the bytes.
    pub origins: BTreeMap<&'static str, Part>,
    /// By package, the most touched bytes first.
    pub packages: Vec<OfPackage>,
    /// By file, in the order of first reads.
    pub files: Vec<OfFile>,
}

/// A group of reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Part {
    /// Their number.
    pub reads: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their duration in milliseconds.
    pub waited_ms: f64,
}

/// The touched part of a package.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfPackage {
    /// Its name.
    pub name: String,
    /// Files that were read.
    pub files: u64,
    /// Bytes touched.
    pub bytes: u64,
    /// Duration of the reads in milliseconds.
    pub waited_ms: f64,
}

/// The touched part of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfFile {
    /// Its path below the space; a file created there is identified by its number.
    pub path: String,
    /// Its package.
    pub package: String,
    /// Its first read, in microseconds since the start of the run.
    pub at_us: f64,
    /// Bytes touched.
    pub bytes: u64,
    /// Its reads.
    pub reads: Part,
    /// The origin of the first read's bytes.
    pub origin: Origin,
}

impl Run {
    /// Summarizes `recording`, of the catalog `index`.
    pub fn of(recording: &Recording, index: &Index, packages: &Packages) -> Run {
        let touched = Touched::of(index, &profile(recording));
        let mut run = Run {
            blueprint: recording.blueprint.clone(),
            command: recording.command.clone(),
            method: recording.method.clone(),
            ready_ms: recording.ready_ms,
            run_ms: recording.run_ms,
            requests: BTreeMap::new(),
            missed: 0,
            waited_ms: 0.0,
            read_bytes: 0,
            ahead: 0,
            dropped: recording.dropped,
            incomplete: recording.incomplete.clone(),
            touched: touched.share(index),
            origins: BTreeMap::new(),
            packages: Vec::new(),
            files: Vec::new(),
        };
        let mut positions: HashMap<u64, usize> = HashMap::new();
        for asked in &recording.requests {
            run.count(asked);
            if is_read(asked) {
                let position = *positions.entry(asked.ino).or_insert_with(|| {
                    run.files.push(file_of(asked, index, packages, &touched));
                    run.files.len() - 1
                });
                add(&mut run.files[position].reads, asked);
                add(run.origins.entry(asked.origin.name()).or_default(), asked);
            }
        }
        run.sum_packages();
        run
    }

    fn count(&mut self, asked: &Asked) {
        *self.requests.entry(asked.kind.clone()).or_default() += 1;
        self.missed += u64::from(asked.missed);
        self.ahead += u64::from(asked.ahead);
        if !asked.ahead {
            self.waited_ms += asked.took_us / 1000.0;
        }
        if is_read(asked) {
            self.read_bytes += u64::from(asked.size);
        }
    }

    fn sum_packages(&mut self) {
        let mut by_name: BTreeMap<&str, OfPackage> = BTreeMap::new();
        for file in &self.files {
            let package = by_name.entry(&file.package).or_insert_with(|| OfPackage {
                name: file.package.clone(),
                files: 0,
                bytes: 0,
                waited_ms: 0.0,
            });
            package.files += 1;
            package.bytes += file.bytes;
            package.waited_ms += file.reads.waited_ms;
        }
        let mut packages: Vec<OfPackage> = by_name.into_values().collect();
        packages.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        self.packages = packages;
    }

    /// A summary in one sentence.
    pub fn sentence(&self) -> String {
        let Share { files, all_files, bytes, all_bytes } = self.touched;
        let mut said = format!(
            "The run touched {} of {} files ({:.1} %), {:.1} % of bytes",
            grouped(files),
            grouped(all_files),
            percent(files, all_files),
            percent(bytes, all_bytes)
        );
        if let Some(most) = self.packages.first().filter(|package| package.bytes > 0) {
            let all = self.packages.iter().map(|package| package.bytes).sum();
            // Writing to a string cannot fail.
            write!(said, ", {:.0} % of that in {}", percent(most.bytes, all), most.name).unwrap_or_default();
        }
        said
    }
}

fn is_read(asked: &Asked) -> bool {
    asked.kind == READ && asked.size > 0
}

fn add(part: &mut Part, asked: &Asked) {
    part.reads += 1;
    part.bytes += u64::from(asked.size);
    part.waited_ms += asked.took_us / 1000.0;
}

fn file_of(asked: &Asked, index: &Index, packages: &Packages, touched: &Touched) -> OfFile {
    let ino = Ino(asked.ino);
    let package = packages.owner(ino).map_or(NONE, |package| &package.name).to_owned();
    OfFile {
        path: path_of(ino, index),
        package,
        at_us: asked.at_us,
        bytes: touched.bytes(ino),
        reads: Part::default(),
        origin: asked.origin,
    }
}

/// The path of a file of the catalog; the number of a file created in the space.
pub fn path_of(ino: Ino, index: &Index) -> String {
    index.path_of(ino).map_or_else(|| format!("(written: inode {ino})"), |path| path.to_string())
}

/// The reads as a profile.
pub fn profile(recording: &Recording) -> Profile {
    let mut profile = Profile::default();
    for asked in recording.requests.iter().filter(|asked| is_read(asked)) {
        let last = (asked.offset + u64::from(asked.size) - 1) / CHUNK;
        let ino = Ino(asked.ino);
        (asked.offset / CHUNK..=last).for_each(|chunk| profile.add(Item::Read { ino, chunk }));
    }
    profile
}

/// A part of all, in percent.
pub fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

/// A number with commas as thousands separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The recording in Chrome's trace format, for Perfetto and `chrome://tracing`. Each row is a process that made requests.
pub fn chrome(recording: &Recording, index: &Index, packages: &Packages) -> serde_json::Value {
    use serde_json::json;
    let mut events = vec![json!({
        "ph": "M", "pid": 1, "tid": 0, "name": "process_name",
        "args": { "name": format!("HoloFS {}", recording.blueprint) },
    })];
    let mut named = std::collections::BTreeSet::new();
    for asked in &recording.requests {
        if named.insert(asked.pid) {
            let name = match (asked.ahead, asked.pid) {
                (true, _) => "read ahead by HoloFS".to_owned(),
                (false, 0) => "the kernel".to_owned(),
                (false, pid) => format!("process {pid}"),
            };
            events.push(json!({
                "ph": "M", "pid": 1, "tid": asked.pid, "name": "thread_name", "args": { "name": name },
            }));
        }
        let ino = Ino(asked.ino);
        events.push(json!({
            "ph": "X", "pid": 1, "tid": asked.pid, "ts": asked.at_us, "dur": asked.took_us, "cat": asked.kind,
            "name": format!("{} {}", asked.kind, path_of(ino, index)),
            "args": {
                "offset": asked.offset, "size": asked.size, "from": asked.origin.name(), "missed": asked.missed,
                "package": packages.owner(ino).map(|package| package.name.as_str()),
            },
        }));
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_was_read_is_counted_in_the_chunks_of_profiles() {
        let asked = |kind: &str, offset, size| Asked {
            at_us: 0.0,
            took_us: 1.0,
            kind: kind.to_owned(),
            ino: 7,
            offset,
            size,
            pid: 1,
            origin: Origin::Raw,
            missed: false,
            ahead: false,
        };
        let requests = vec![
            asked("read", 0, 10),
            asked("read", 5, 1),
            asked("read", CHUNK - 1, 2),
            asked("read", CHUNK * 9, 0),
            asked("lookup", CHUNK * 5, 1),
        ];
        let profile = profile(&Recording { requests, ..Recording::default() });
        let read = |chunk| Item::Read { ino: Ino(7), chunk };
        assert_eq!(profile.items(), [read(0), read(1)]);
    }
}
