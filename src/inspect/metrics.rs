//! Metrics of live spaces, and of the disk, in the text format of Prometheus; names are documented in docs/observability.md.

use std::fmt::Write as _;

use super::live::{LiveSpace, Sample, Stats};
use super::usage::Usage;
use crate::fs::fuse::latency::BOUNDS;

/// The content type of the format in HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of `sample`, and of `usage` if it was counted.
pub fn text(sample: &Sample, usage: Option<&Usage>) -> String {
    let mut page = Page::default();
    page.family("holofs_spaces", "gauge", "Spaces that are mounted.");
    page.line("holofs_spaces", "", sample.spaces.len());
    page.family("holofs_space_info", "gauge", "A mounted space.");
    for space in &sample.spaces {
        let io = space.stats.as_ref().map_or("", |stats| &stats.io);
        let more = [("blueprint", space.blueprint.as_str()), ("mode", &space.mode), ("io", io)];
        page.line("holofs_space_info", &labels(space, &more), 1);
    }
    page.family("holofs_space_answers", "gauge", "1 if the server of the space answers.");
    for space in &sample.spaces {
        page.line("holofs_space_answers", &labels(space, &[]), u8::from(space.stats.is_some()));
    }
    page.family("holofs_space_users", "gauge", "Processes that hold the space.");
    for space in &sample.spaces {
        page.line("holofs_space_users", &labels(space, &[]), space.users.len());
    }
    requests(&mut page, sample);
    counters(&mut page, sample);
    if let Some(usage) = usage {
        page.family("holofs_disk_bytes", "gauge", "Bytes on disk by purpose; each file is counted once.");
        for (part, taken) in &usage.parts {
            page.line("holofs_disk_bytes", &format!("part=\"{}\"", escaped(part)), taken.bytes);
        }
    }
    page.0
}

fn requests(page: &mut Page, sample: &Sample) {
    page.family("holofs_requests_total", "counter", "Requests of the kernel, by kind.");
    for (space, stats) in answering(sample) {
        for (kind, count) in &stats.requests {
            page.line("holofs_requests_total", &labels(space, &[("kind", kind)]), count);
        }
    }
    let name = "holofs_request_duration_seconds";
    page.family(name, "histogram", "Time from receiving a request to answering it.");
    for (space, stats) in answering(sample) {
        for (kind, latency) in &stats.latency {
            let of_kind = labels(space, &[("kind", kind)]);
            for (bound, count) in BOUNDS.iter().zip(&latency.buckets) {
                let bound = *bound as f64 / 1e6;
                page.line(&format!("{name}_bucket"), &format!("{of_kind},le=\"{bound}\""), count);
            }
            page.line(&format!("{name}_bucket"), &format!("{of_kind},le=\"+Inf\""), latency.count);
            page.line(&format!("{name}_sum"), &of_kind, latency.sum_us / 1e6);
            page.line(&format!("{name}_count"), &of_kind, latency.count);
        }
    }
}

fn counters(page: &mut Page, sample: &Sample) {
    page.family("holofs_events_total", "counter", "Counters of the layers of a mount, by name.");
    for (space, stats) in answering(sample) {
        for (event, count) in &stats.counts {
            page.line("holofs_events_total", &labels(space, &[("event", event)]), count);
        }
    }
    page.family("holofs_primed_total", "counter", "Items that were read ahead.");
    for (space, stats) in answering(sample) {
        page.line("holofs_primed_total", &labels(space, &[]), stats.primed);
    }
    page.family("holofs_fallbacks_total", "counter", "Fallbacks to slower or weaker methods.");
    for (space, stats) in answering(sample) {
        for (what, fallback) in &stats.fallbacks {
            let count = fallback["count"].as_u64().unwrap_or_default();
            page.line("holofs_fallbacks_total", &labels(space, &[("what", what)]), count);
        }
    }
}

fn answering(sample: &Sample) -> impl Iterator<Item = (&LiveSpace, &Stats)> {
    sample.spaces.iter().filter_map(|space| Some((space, space.stats.as_ref()?)))
}

/// A page being written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").unwrap_or_default();
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        writeln!(self.0, "{name}{labels} {value}").unwrap_or_default();
    }
}

fn labels(space: &LiveSpace, more: &[(&str, &str)]) -> String {
    let own = [("space", space.space.as_str()), ("controller", &space.controller), ("label", &space.label)];
    let all = own.iter().chain(more);
    all.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
    }

    #[test]
    fn without_spaces_there_is_a_page_still() {
        let page = text(&Sample { at: std::time::Instant::now(), spaces: Vec::new() }, None);
        assert!(page.contains("\nholofs_spaces 0\n"), "{page}");
        assert!(page.ends_with('\n'));
    }
}
