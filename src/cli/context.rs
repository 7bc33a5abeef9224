//! The start of every command: the session's context, made from the environment, and the output of reports.

use std::ffi::{OsStr, OsString};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::rcc::home::{Environment, Home};
use crate::session::error::SessionError;
use crate::session::lay_out::STRATEGY;
use crate::session::method;
use crate::session::report::Appeared;
use crate::session::request::Given;
use crate::session::variables::{Extra, Unmanaged};
use crate::session::{self, FrontEnd, ProcessEnv};
use crate::space::{Wait, Waiting};
use crate::store::observe::Observer;

use crate::sys::text;

use super::progress::Progress;
use super::terminal::{self, Lines, LogFormat, Manner};
use super::{Global, config, exit_code};

/// The context of one invocation, and how it reports.
#[derive(Clone)]
pub struct Context {
    session: session::Context,
    /// Whether to print reports and errors as JSON on stdout.
    pub json: bool,
}

impl Deref for Context {
    type Target = session::Context;

    fn deref(&self) -> &session::Context {
        &self.session
    }
}

impl Context {
    /// Reads the environment and starts logging.
    pub fn new(global: &Global) -> anyhow::Result<Context> {
        Context::replacing(global, Vec::new())
    }

    /// Like [`Context::new`], with other values for some variables.
    pub fn replacing(global: &Global, replaced: Vec<(&'static str, OsString)>) -> anyhow::Result<Context> {
        terminal::talk(Manner {
            quiet: global.quiet,
            no_progress: global.no_progress || !global.progress,
            color: global.color.on_stderr(),
        });
        terminal::start_logging(global.verbose, global.log_format);
        let wait = match global.wait {
            None => Wait::Forever,
            Some(0) => Wait::Not,
            Some(seconds) => Wait::For(Duration::from_secs(seconds)),
        };
        let given = Given {
            wait,
            paranoid: global.paranoid,
            verbose: global.verbose,
            log_json: global.log_format == LogFormat::Json,
            offline: global.offline,
            fetch_timeout: global.fetch_timeout,
            raw_bytes: global.raw_size,
            product: global.product(),
        };
        Context::with(given, global.json, replaced)
    }

    /// The context of a process that works for another holofs process.
    #[cfg(unix)]
    pub fn of_order(order: &session::request::Order) -> anyhow::Result<Context> {
        let format = if order.given.log_json { LogFormat::Json } else { LogFormat::Text };
        terminal::start_logging(order.given.verbose, format);
        Context::with(order.given.clone(), true, Vec::new())
    }

    fn with(given: Given, json: bool, replaced: Vec<(&'static str, OsString)>) -> anyhow::Result<Context> {
        let file = config::load()?;
        let find = |name: &str| {
            let ours = replaced.iter().find(|(replaced, _)| *replaced == name);
            let set = ours.map(|(_, value)| value.clone()).or_else(|| std::env::var_os(name));
            set.filter(|value| !value.is_empty()).or_else(|| Some(file.variable(name)?.into()))
        };
        let home = Home::locate(&Environment { var: &find }, given.product)?;
        let front = Arc::new(Terminal { json });
        let session = session::Context::new(home, given, ProcessEnv { replaced, ..process_env() }, front);
        Ok(Context { session, json })
    }

    /// Prints `report`: as JSON if requested, otherwise the `lines`.
    pub fn report<T: Serialize, L: Into<Lines>>(
        &self,
        report: &T,
        lines: impl FnOnce(&T) -> L,
    ) -> anyhow::Result<()> {
        let json = || serde_json::to_string_pretty(report);
        if self.json {
            return terminal::print(&text::json(&json()?));
        }
        match lines(report).into() {
            lines if lines.is_empty() => Ok(()),
            lines => terminal::print(&lines.shown()),
        }
    }

    /// Changes the additions to the variables of spaces.
    pub fn add(&mut self, change: impl FnOnce(&mut Extra)) {
        change(&mut self.session.process.extra);
    }

    /// True if reports are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }
}

/// How long a lazily mounted space must be idle before the rest of it is fetched, in seconds.
const IDLE_SECONDS: u64 = 10;

/// The environment of this process.
fn process_env() -> ProcessEnv {
    let set = |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let user_dirs = ["HOME", "TMPDIR", "XDG_RUNTIME_DIR"];
    ProcessEnv {
        called_by: std::env::args_os().next(),
        path: std::env::var_os("PATH"),
        temp_dir: std::env::temp_dir(),
        user_dirs: user_dirs.into_iter().filter_map(std::env::var_os).map(PathBuf::from).collect(),
        mount_helper: set("HOLOFS_MOUNT_HELPER").map(PathBuf::from),
        unmanaged: Unmanaged {
            bytecode: set("RCC_NO_PYC_MANAGEMENT").is_some(),
            temp: set("RCC_NO_TEMP_MANAGEMENT").is_some(),
        },
        strategy: set(STRATEGY),
        extra: Extra::default(),
        idle_fetch: idle_fetch(set("HOLOFS_IDLE_FETCH").as_deref()),
        replaced: Vec::new(),
    }
}

/// Seconds, or `off`.
fn idle_fetch(set: Option<&OsStr>) -> Option<Duration> {
    match set.and_then(OsStr::to_str) {
        Some("off") => None,
        text => Some(Duration::from_secs(text.and_then(|text| text.parse().ok()).unwrap_or(IDLE_SECONDS))),
    }
}

/// The terminal, or another consumer of stderr.
struct Terminal {
    json: bool,
}

impl FrontEnd for Terminal {
    fn waiting(&self, waiting: &Waiting<'_>) {
        say_waiting(waiting);
    }

    #[allow(clippy::print_stderr)]
    fn note(&self, text: &str) {
        if !terminal::manner().quiet {
            eprintln!("holofs: {text}");
        }
    }

    /// One line before the output of the command; stdout belongs to the command.
    #[allow(clippy::print_stderr)]
    fn appeared(&self, appeared: &Appeared<'_>) {
        if self.json {
            return eprintln!("{}", text::json(&serde_json::json!(appeared).to_string()));
        }
        let parts =
            [method::line(appeared.method, appeared.reasons), appeared.cache_not_writable.map(str::to_owned)];
        let line = parts.into_iter().flatten().collect::<Vec<String>>().join("; ");
        if !line.is_empty() {
            terminal::tell("holofs", &line);
        }
    }

    fn working(&self, what: &'static str) -> Arc<dyn Observer> {
        Arc::new(Progress::new(what, self.json))
    }

    fn exit_code(&self, error: &SessionError) -> u8 {
        exit_code::code(error)
    }
}

/// Reports that a lock is not immediately available.
pub fn say_waiting(waiting: &Waiting<'_>) {
    terminal::tell("holofs", &waiting.to_string());
}

/// Reports the method by which a space appeared, unless it is the best one.
pub fn say_method(method: method::Method, reasons: &[method::Refusal]) {
    if let Some(line) = method::line(method, reasons) {
        terminal::tell("holofs", &line);
    }
}

/// A space's name goes into a label only by its hash, but it is shown and logged: refuse control characters.
pub fn parse_space(text: &str) -> Result<String, String> {
    parse_name("space", text)
}

/// Like [`parse_space`].
pub fn parse_controller(text: &str) -> Result<String, String> {
    parse_name("controller", text)
}

fn parse_name(what: &str, text: &str) -> Result<String, String> {
    match text {
        "" => Err(format!("the name of a {what} must not be empty")),
        _ if text.chars().any(char::is_control) => {
            Err(format!("the name of a {what} must not contain control characters"))
        }
        _ => Ok(text.to_owned()),
    }
}
