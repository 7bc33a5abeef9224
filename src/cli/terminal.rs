//! All output in one place: reports on stdout, messages on stderr, and the log.
//!
//! Each line goes through [`text::line`], so that foreign names cannot send escape sequences to the terminal, start a new line, or be
//! taken for a command by a CI system. Repeated log messages are written a few times, then counted.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use log::{Level, Log, Metadata, Record};
use serde::{Deserialize, Serialize};

use crate::sys::text;

/// How many lines one place in the code may log in each [`WHILE`]; further ones are counted.
const MOST_LINES: u64 = 50;
const WHILE: Duration = Duration::from_secs(10);

/// When to color output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The output settings of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Print only results and errors.
    pub quiet: bool,
    /// No progress.
    pub no_progress: bool,
    /// Colors on stderr.
    pub color: bool,
}

static MANNER: OnceLock<Manner> = OnceLock::new();

/// The output settings; the defaults before [`talk`].
pub fn manner() -> Manner {
    MANNER.get().copied().unwrap_or_default()
}

/// Sets the output settings, once.
pub fn talk(manner: Manner) {
    if MANNER.set(manner).is_err() {
        log::trace!("The output mode is already set");
    }
}

impl Color {
    /// Whether stderr is colored.
    pub fn on_stderr(self) -> bool {
        let no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no && std::io::stderr().is_terminal(),
        }
    }

    /// The same for clap.
    pub fn of_help(self) -> clap::ColorChoice {
        match self {
            Color::Always => clap::ColorChoice::Always,
            Color::Never => clap::ColorChoice::Never,
            Color::Auto => clap::ColorChoice::Auto,
        }
    }

    /// The setting in a command line that is not parsed yet, otherwise the default.
    pub fn of_words(words: &[std::ffi::OsString], usual: Option<&str>) -> Color {
        let words: Vec<_> =
            words.iter().take_while(|word| *word != "--").map(|word| word.to_string_lossy()).collect();
        let joined = words.iter().rev().find_map(|word| word.strip_prefix("--color="));
        let apart = words.iter().position(|word| word == "--color").and_then(|at| words.get(at + 1));
        let said = joined.or(apart.map(AsRef::as_ref)).or(usual).unwrap_or_default();
        Color::from_str(said, false).unwrap_or_default()
    }
}

/// The first word of a line on stderr, colored if wanted.
pub fn leading(word: &str) -> String {
    let code = match word {
        "error" => "1;31",
        "hint" => "1;36",
        _ => "1",
    };
    if manner().color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}

/// The format of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// JSON object per line, with time, level, target and message
    Json,
}

/// Lines of a report; each text becomes one line, whatever it contains.
pub struct Lines(Vec<String>);

impl From<String> for Lines {
    fn from(line: String) -> Lines {
        Lines(vec![line])
    }
}

impl From<Vec<String>> for Lines {
    fn from(lines: Vec<String>) -> Lines {
        Lines(lines)
    }
}

impl Lines {
    /// True if there is nothing to print, not even an empty line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The printed form.
    pub fn shown(&self) -> String {
        self.0.iter().map(|line| text::line(line)).collect::<Vec<_>>().join("\n")
    }
}

/// Prints on stdout; a closed pipe is not an error.
pub fn print(shown: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{shown}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("Cannot print"),
        _ => Ok(()),
    }
}

/// Prints one line on stderr, after the program's name, unless `quiet`.
#[allow(clippy::print_stderr)]
pub fn tell(who: &str, what: &str) {
    if manner().quiet {
        return;
    }
    eprintln!("{who}: {}", text::line(what));
}

/// Prints a warning on stderr, unless `quiet`.
pub fn warn(what: &str) {
    tell("holofs", &format!("warning: {what}"));
}

/// Prints usage errors or help; arguments are shown without control characters.
#[allow(clippy::print_stderr)]
pub fn explain(error: &clap::Error) -> std::io::Result<()> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.filter(|argument| text::line(argument) != *argument).collect();
    if !error.use_stderr() || arguments.is_empty() {
        return error.print();
    }
    let shown = |said: String, argument: &String| said.replace(argument, &text::line(argument));
    eprint!("{}", arguments.iter().fold(error.to_string(), shown));
    Ok(())
}

/// Starts logging to stderr, with the level from `RUST_LOG`, otherwise from -q or the number of -v.
pub fn start_logging(verbose: u8, format: LogFormat) {
    let level = match verbose {
        0 if manner().quiet => "error",
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // A reply that cannot be sent belongs to an interrupted request.
    let filter = format!("{level},fuser=error,fuser::reply=off");
    let mut builder = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter));
    // At lower levels, these log logins and signed addresses.
    for library in ["ureq", "ureq_proto", "rustls", "rusty_s3", "docker_credential"] {
        builder.filter_module(library, log::LevelFilter::Warn);
    }
    builder.format(move |out, record| {
        let (said, time) = (record.args().to_string(), out.timestamp_millis());
        match format {
            LogFormat::Text => {
                writeln!(out, "[{} {:<5}] {}", out.timestamp(), record.level(), text::line(&said))
            }
            LogFormat::Json => writeln!(out, "{}", json_line(&time.to_string(), record, &said)),
        }
    });
    let inner = builder.build();
    let most = inner.filter();
    if log::set_boxed_logger(Box::new(Limited { inner, places: Mutex::default() })).is_ok() {
        log::set_max_level(most);
    } else {
        // A second start in one process (tests) keeps the first.
        log::debug!("Logging is already started");
    }
}

/// One record as JSON, with time, level, target and message.
fn json_line(time: &str, record: &Record<'_>, said: &str) -> String {
    let (level, target) = (record.level().as_str().to_ascii_lowercase(), record.target());
    let line = serde_json::json!({ "time": time, "level": level, "target": target, "message": said });
    text::json(&line.to_string()).into_owned()
}

/// A log in which every place in the code has a limit.
struct Limited {
    inner: env_logger::Logger,
    places: Mutex<Places>,
}

/// The places that logged recently, with counts.
#[derive(Default)]
struct Places(BTreeMap<(String, u32), (Option<Instant>, u64)>);

impl Places {
    /// Counts a line of `place` at `now`; true if it is to be written.
    fn counts(&mut self, place: (String, u32), now: Instant) -> bool {
        let (since, count) = self.0.entry(place).or_default();
        since.get_or_insert(now);
        *count += 1;
        *count <= MOST_LINES
    }

    /// The number of omitted lines of each period that has ended at `now`, or of all; resets them.
    fn left_out(&mut self, now: Option<Instant>) -> Vec<String> {
        let over = |since: &Option<Instant>| {
            now.is_none_or(|now| since.is_some_and(|since| now.duration_since(since) >= WHILE))
        };
        let (ended, going_on) =
            std::mem::take(&mut self.0).into_iter().partition(|(_, (since, _))| over(since));
        self.0 = going_on;
        let ended: BTreeMap<_, _> = ended;
        let more = ended.into_iter().filter(|(_, (_, count))| *count > MOST_LINES);
        more.map(|((file, line), (_, count))| {
            format!("Left out {} more lines like those from {file}:{line}", count - MOST_LINES)
        })
        .collect()
    }
}

impl Limited {
    fn summarize(&self, now: Option<Instant>) {
        let left_out = self.places.lock().unwrap_or_else(PoisonError::into_inner).left_out(now);
        for said in left_out {
            let args = format_args!("{said}");
            self.inner.log(&Record::builder().args(args).level(Level::Warn).target("holofs").build());
        }
    }
}

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        let now = Instant::now();
        self.summarize(Some(now));
        let place = (record.file().unwrap_or_default().to_owned(), record.line().unwrap_or_default());
        // If every operation is to be logged, nothing is omitted.
        let is_requested = record.level() > Level::Info;
        if is_requested || self.places.lock().unwrap_or_else(PoisonError::into_inner).counts(place, now) {
            self.inner.log(record);
        }
    }

    fn flush(&self) {
        self.summarize(None);
        self.inner.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_says_the_same_without_end_is_counted() {
        let (mut places, start) = (Places::default(), Instant::now());
        let blob = || ("src/x.rs".to_owned(), 7);
        assert_eq!((0..1000).filter(|_| places.counts(blob(), start)).count(), 50);
        assert!(places.counts(("src/y.rs".to_owned(), 7), start));
        assert!(places.left_out(Some(start + WHILE / 2)).is_empty());
        let said = "Left out 950 more lines like those from src/x.rs:7";
        assert_eq!(places.left_out(Some(start + WHILE)), [said]);
        assert!(places.counts(blob(), start + WHILE) && places.0.len() == 1);
        assert!(places.left_out(None).is_empty() && places.0.is_empty());
    }

    #[test]
    fn a_record_is_one_line_of_json_whatever_is_in_it() {
        let args = format_args!("{}", "a\"b\nc\u{1b}");
        let record = Record::builder().args(args).level(Level::Warn).target("holofs::x").build();
        let line = json_line("2026-01-02T03:04:05.678Z", &record, &record.args().to_string());
        assert_eq!(line.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        let right = serde_json::json!({
            "time": "2026-01-02T03:04:05.678Z", "level": "warn", "target": "holofs::x", "message": "a\"b\nc\u{1b}",
        });
        assert_eq!(read, right);
    }

    #[test]
    fn a_text_is_one_line_and_lines_are_lines() {
        assert_eq!(Lines::from("a\nb".to_owned()).shown(), r"a\nb");
        assert_eq!(Lines::from(vec!["a".to_owned(), "b\x1b".to_owned()]).shown(), "a\nb\\u{1b}");
    }
}
