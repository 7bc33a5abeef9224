//! What every command starts from: the home, the way to report, and the things it names.

use std::cell::OnceCell;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::rcc::home::{Environment, Home};
use crate::space::{Lock, Space, Wait, Waiting};
use crate::store::index::{Index, Made};
use crate::store::observe::Observer;
#[cfg(unix)]
use crate::store::observe::Tally;
use crate::store::{Library, Limits, Store};

use super::{Global, SpaceArgs};

/// The environment of one invocation.
#[derive(Clone)]
pub struct Context {
    /// Where RCC keeps things.
    pub home: Home,
    /// How long to wait for locks.
    pub wait: Wait,
    json: bool,
    paranoid: bool,
    unkept: OnceCell<Option<String>>,
}

impl Context {
    /// Reads the environment and starts logging.
    pub fn new(global: &Global) -> anyhow::Result<Context> {
        start_logging(global.verbose);
        let home = Home::locate(&Environment { var: &|name| std::env::var_os(name) }, global.product())?;
        let wait = match global.wait {
            None => Wait::Forever,
            Some(0) => Wait::Not,
            Some(seconds) => Wait::For(Duration::from_secs(seconds)),
        };
        let unkept = OnceCell::new();
        Ok(Context { home, wait, json: global.json, paranoid: global.paranoid, unkept })
    }

    /// The same, but reports are JSON: who reads them is a program of ours.
    #[cfg(unix)]
    pub fn for_program(&self) -> Context {
        Context { json: true, ..self.clone() }
    }

    /// Prints `report`: as JSON if asked for, else the lines of `text`.
    #[allow(clippy::print_stdout)]
    pub fn report<T: Serialize>(&self, report: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let shown = if self.json { serde_json::to_string_pretty(report)? } else { text(report) };
        let mut out = std::io::stdout().lock();
        // A reader that went away has seen enough.
        match writeln!(out, "{shown}").and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(error).context("Cannot print")
            }
            _ => Ok(()),
        }
    }

    /// True if content is hashed at each use.
    pub fn is_paranoid(&self) -> bool {
        self.paranoid
    }

    /// True if the report goes out as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Why nothing can be kept that would save time the next time, in one line; `None` if it can be. Who finds it out tells it
    /// once, and what fails by it is no news any more.
    pub fn unkept(&self) -> Option<&str> {
        let ours = self.home.holofs();
        let why = || {
            let there = ours.ancestors().find(|above| above.is_dir())?;
            let error = crate::sys::fs::dir::may_write(there).err()?;
            let why = error.to_string();
            let why = why.split(" (os error").next().unwrap_or(&why);
            Some(format!(
                "nothing is kept for the next time, since {} cannot be written: {why}",
                ours.display()
            ))
        };
        self.unkept.get_or_init(why).as_deref()
    }

    /// Counts what the store does, and logs what it does worse than it could, but for what is told of [`Self::unkept`].
    #[cfg(unix)]
    pub fn tally(&self) -> Tally {
        if self.unkept().is_some() { Tally::new() } else { Tally::logging() }
    }

    /// The Index of the catalog that `what` names: a hash, a unique prefix, a file name, a path.
    pub fn index(&self, what: &str) -> anyhow::Result<(Index, Made, std::path::PathBuf)> {
        let path = self.home.find_catalog(what)?;
        let (index, made) = Index::ensure(self.home.index_dir(), &path)?;
        match &made {
            Made::Opened | Made::Compiled(None) => {}
            Made::Compiled(Some(why)) => log::warn!("{why}: compiled anew"),
            Made::NotKept(why) if self.unkept().is_some() => log::debug!("{why}: compiled in memory"),
            Made::NotKept(why) => log::warn!("{why}: compiled in memory"),
        }
        Ok((index, made, path))
    }

    /// The space of `args` for a catalog whose base is `base`.
    pub fn space(&self, base: &std::path::Path, args: &SpaceArgs) -> Space {
        Space::new(&self.home, base, &args.controller, &args.space)
    }

    /// RCC's lock of the whole hololib: for whoever changes it.
    pub fn lock_hololib(&self, on_wait: &dyn Fn(&Waiting<'_>)) -> anyhow::Result<Lock> {
        let nobody = Space::new(&self.home, self.home.holotree(), "user", "user");
        Ok(nobody.lock_hololib(self.wait, on_wait)?)
    }

    /// The store of this home.
    pub fn store(&self, observer: Arc<dyn Observer>) -> anyhow::Result<Arc<Store>> {
        self.store_over(Library::open(&self.home.library())?, observer)
    }

    /// As [`Context::store`], for work that ends soon and opens many blobs.
    pub fn store_for_now(&self, observer: Arc<dyn Observer>) -> anyhow::Result<Arc<Store>> {
        self.store_over(Library::open(&self.home.library())?.hold()?, observer)
    }

    fn store_over(&self, library: Library, observer: Arc<dyn Observer>) -> anyhow::Result<Arc<Store>> {
        let store = Store::open(library, self.home.raw_dir(), Limits::default(), observer);
        Ok(Arc::new(store.with_paranoia(self.paranoid)))
    }
}

/// Told when a lock is not free at once.
#[allow(clippy::print_stderr)]
pub fn say_waiting(waiting: &Waiting<'_>) {
    eprintln!("holofs: {waiting}");
}

/// A space's name goes into a label by its hash only, but is shown and logged: no control characters.
pub fn parse_space(text: &str) -> Result<String, String> {
    parse_name("space", text)
}

/// As [`parse_space`].
pub fn parse_controller(text: &str) -> Result<String, String> {
    parse_name("controller", text)
}

fn parse_name(what: &str, text: &str) -> Result<String, String> {
    match text {
        "" => Err(format!("a {what} needs a name")),
        _ if text.chars().any(char::is_control) => Err(format!("a {what}'s name has no control characters")),
        _ => Ok(text.to_owned()),
    }
}

/// Logs go to stderr; `RUST_LOG` decides, else the number of -v.
fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // A reply that cannot be sent is one whose asker was interrupted meanwhile.
    let filter = format!("{level},fuser=error,fuser::reply=off");
    let env = env_logger::Env::default().default_filter_or(filter);
    // A second start in one process (tests) keeps the first.
    if env_logger::Builder::from_env(env).format_target(false).try_init().is_err() {
        log::debug!("Logging was started before");
    }
}
