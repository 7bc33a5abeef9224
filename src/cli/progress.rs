//! Progress: a bar on a terminal, a line from time to time in a log, and the counters for both.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::store::observe::{Counter, Observer, Tally};

use super::terminal;

/// The interval of lines in a log.
const PAUSE: Duration = Duration::from_secs(10);

/// From when on a bar shows the time that is left: the first steps say nothing about the rest.
const ESTIMATED_AFTER: Duration = Duration::from_secs(2);

/// The unit of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Files,
}

/// Counts everything; shows progress if it is visible.
pub struct Progress {
    tally: Tally,
    bar: ProgressBar,
    lines: Option<Mutex<Lines>>,
}

/// Progress in a log.
#[derive(Debug)]
struct Lines {
    what: &'static str,
    unit: Unit,
    begun: Instant,
    last: Instant,
    total: u64,
    done: u64,
}

impl Progress {
    /// A bar labelled `what` on stderr if that is a terminal; otherwise a line every ten seconds. Nothing if `silent`, or if the user
    /// disabled progress.
    pub fn new(what: &'static str, silent: bool) -> Progress {
        let manner = terminal::manner();
        let wanted = !silent && !manner.quiet && !manner.no_progress;
        let on_terminal = std::io::stderr().is_terminal();
        let unit = if matches!(what, "Materializing" | "Warming") { Unit::Files } else { Unit::Bytes };
        let target =
            if wanted && on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_prefix(what);
        let bar = match ProgressStyle::with_template(unit.template()) {
            Ok(style) => bar.with_style(style.with_key("left", draw_left).progress_chars("=> ")),
            Err(error) => {
                log::debug!("No style for the progress bar: {error}");
                bar
            }
        };
        let lines = (wanted && !on_terminal).then(|| Mutex::new(Lines::begun(what, unit, Instant::now())));
        Progress { tally: Tally::new(), bar, lines }
    }

    /// Every counter that is not zero.
    pub fn counts(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.tally.counts()
    }

    /// Removes the bar; so does dropping it.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn in_log(&self, change: impl FnOnce(&mut Lines)) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lines);
        if let Some(line) = lines.due(Instant::now()) {
            terminal::tell("holofs", &line);
        }
    }
}

impl Unit {
    /// The template of a bar: at most 80 columns.
    fn template(self) -> &'static str {
        match self {
            Unit::Bytes => "{prefix} [{bar:20}] {bytes} of {total_bytes}, {bytes_per_sec}{left}",
            Unit::Files => "{prefix} [{bar:20}] {human_pos} of {human_len} files, {per_sec}{left}",
        }
    }

    fn shown(self, count: u64) -> String {
        match self {
            Unit::Bytes => HumanBytes(count).to_string(),
            Unit::Files => format!("{} files", HumanCount(count)),
        }
    }
}

/// The end of a bar: the time that is left.
fn draw_left(state: &ProgressState, out: &mut dyn fmt::Write) {
    let left = left(state.elapsed(), state.pos(), state.len().unwrap_or_default());
    if let Some(left) = left.filter(|_| state.elapsed() >= ESTIMATED_AFTER) {
        // What cannot be drawn is drawn the next time.
        write!(out, ", {left:#} left").unwrap_or_default();
    }
}

/// The time that is left if the rest takes as long as what is done; nothing below one percent.
fn left(since: Duration, done: u64, total: u64) -> Option<HumanDuration> {
    (done > 0 && done <= total && done.saturating_mul(100) >= total)
        .then(|| HumanDuration(since.mul_f64((total - done) as f64 / done as f64)))
}

impl Lines {
    fn begun(what: &'static str, unit: Unit, now: Instant) -> Lines {
        Lines { what, unit, begun: now, last: now, total: 0, done: 0 }
    }

    /// The line that is due at `now`.
    fn due(&mut self, now: Instant) -> Option<String> {
        if now.duration_since(self.last) < PAUSE || self.done == 0 {
            return None;
        }
        self.last = now;
        let done = self.unit.shown(self.done);
        if self.total < self.done || self.total == 0 {
            return Some(format!("{}: {done}", self.what));
        }
        let (total, percent) = (self.unit.shown(self.total), self.done.saturating_mul(100) / self.total);
        let line = format!("{}: {done} of {total} ({percent} %)", self.what);
        Some(match left(now.duration_since(self.begun), self.done, self.total) {
            Some(left) => format!("{line}, about {left} left"),
            None => line,
        })
    }

    /// From here on the total is known; what came before does not count for the time that is left.
    fn expect(&mut self, total: u64, now: Instant) {
        if self.total == 0 {
            self.begun = now;
        }
        self.total = total;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for Progress {
    fn count(&self, counter: Counter, amount: u64) {
        self.tally.count(counter, amount);
    }

    fn fallback(&self, what: &'static str, reason: &str) {
        self.bar.suspend(|| self.tally.fallback(what, reason));
    }

    fn expect(&self, total: u64) {
        self.bar.set_length(total);
        self.in_log(|lines| lines.expect(total, Instant::now()));
    }

    fn advance(&self, steps: u64) {
        self.bar.inc(steps);
        self.in_log(|lines| lines.done += steps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_every_ten_seconds_with_units_and_what_is_left() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lines = Lines::begun("Importing", Unit::Bytes, begun);
        (lines.total, lines.done) = (400 << 20, 100 << 20);
        assert_eq!(lines.due(at(9)), None);
        let expected = "Importing: 100.00 MiB of 400.00 MiB (25 %), about 30 seconds left";
        assert_eq!(lines.due(at(10)).as_deref(), Some(expected));
        assert_eq!(lines.due(at(19)), None);
        lines.total = 0;
        assert_eq!(lines.due(at(20)).as_deref(), Some("Importing: 100.00 MiB"));
        let mut lines = Lines::begun("Materializing", Unit::Files, begun);
        (lines.total, lines.done) = (20_000, 5_000);
        let expected = "Materializing: 5,000 files of 20,000 files (25 %), about 60 seconds left";
        assert_eq!(lines.due(at(20)).as_deref(), Some(expected));
    }

    #[test]
    fn a_log_estimates_the_rest_from_where_the_total_is_known_and_not_below_one_percent() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut lines = Lines::begun("Building", Unit::Bytes, begun);
        lines.expect(400 << 20, at(20));
        lines.done = 166;
        assert_eq!(lines.due(at(21)).as_deref(), Some("Building: 166 B of 400.00 MiB (0 %)"));
        lines.done = 100 << 20;
        let expected = "Building: 100.00 MiB of 400.00 MiB (25 %), about 36 seconds left";
        assert_eq!(lines.due(at(32)).as_deref(), Some(expected));
    }

    #[test]
    fn an_estimate_needs_one_percent_and_ends_with_the_work() {
        let shown = |done, total| Some(format!("{:#}", left(Duration::from_secs(30), done, total)?));
        assert_eq!(shown(0, 400), None);
        assert_eq!(shown(3, 400), None);
        assert_eq!(shown(4, 400).as_deref(), Some("50m"));
        assert_eq!(shown(100, 400).as_deref(), Some("2m"));
        assert_eq!(shown(400, 400).as_deref(), Some("0s"));
        assert_eq!(shown(500, 400), None);
        assert_eq!(shown(0, 0), None);
    }

    #[test]
    fn a_bar_fits_80_columns() {
        for unit in [Unit::Bytes, Unit::Files] {
            assert!(ProgressStyle::with_template(unit.template()).is_ok());
        }
    }
}
