//! A progress bar on a terminal, and the tally behind it.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::observe::{Counter, Observer, Tally};

/// Counts everything; shows progress if somebody is watching.
pub struct Progress {
    tally: Tally,
    bar: ProgressBar,
}

impl Progress {
    /// A bar with `what` before it: drawn on stderr if that is a terminal and `quiet` is not set.
    pub fn new(what: &'static str, quiet: bool) -> Progress {
        let shown = std::io::stderr().is_terminal() && !quiet;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {per_sec} {eta}");
        let bar = ProgressBar::with_draw_target(None, target).with_prefix(what);
        let bar = match style {
            Ok(style) => bar.with_style(style.progress_chars("=> ")),
            Err(error) => {
                log::debug!("No style for the progress bar: {error}");
                bar
            }
        };
        Progress { tally: Tally::new(), bar }
    }

    /// Every counter that is not zero.
    pub fn counts(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.tally.counts()
    }

    /// Takes the bar away; so does dropping it.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
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
    }

    fn advance(&self, steps: u64) {
        self.bar.inc(steps);
    }
}
