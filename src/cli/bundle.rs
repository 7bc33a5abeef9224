//! `holofs doctor --bundle`: collects data for a bug report in one JSON file, without the content of any user file.
//!
//! It contains numbers, versions, names of file systems, states of mounts, and the ends of our own logs, without debug lines
//! (RUST_LOG=debug), because they name the files that programs use. A path below the user's home is shown with `~`; values of
//! variables are shown only for our own and RCC's.

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::rcc::home::platform;
use crate::space::files;
use crate::sys::fs::disk;
use crate::sys::fs::place::Place;
use crate::sys::fs::shared;
use crate::sys::process::this_process;
use crate::sys::text::read_lossy;

use super::context::Context;

/// How many lines of each log are included.
const LOG_LINES: usize = 200;
/// How many bytes of each log are read for them, and of the record of a mount.
const MAX_FILE: u64 = 1 << 20;
/// Variables whose values are shown; other variables are not even named.
const SHOWN: [&str; 8] = [
    "HOLOFS_HOME",
    "HOLOFS_MOUNT_HELPER",
    "HOLOFS_PARANOID",
    "LANG",
    "RCC_HOLOTREE_STRATEGY",
    "ROBOCORP_HOME",
    "RUST_LOG",
    "TMPDIR",
];
/// System files that identify the system.
const SYSTEM: [&str; 3] = ["/proc/sys/kernel/osrelease", "/proc/sys/kernel/ostype", "/etc/os-release"];

/// Writes the bundle with the result of `doctor` to a new file at `path`.
pub fn write(context: &Context, path: &Path, doctor: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&gather(context, serde_json::to_value(doctor)?))?;
    let text = without_home(&text, std::env::var("HOME").ok().as_deref());
    let mut file = shared::create_new(path, 0o600)
        .with_context(|| format!("Cannot create the bundle {}", path.display()))?;
    writeln!(file, "{text}").with_context(|| format!("Cannot write the bundle {}", path.display()))
}

/// The content of a bundle.
fn gather(context: &Context, doctor: Value) -> Value {
    let home = &context.home;
    let places =
        [("holofs", home.holofs().path()), ("hololib", home.hololib()), ("holotree", home.holotree())];
    let disks: Map<String, Value> =
        places.map(|(name, path)| (name.to_owned(), disk_at(path))).into_iter().collect();
    let catalogs = home.catalogs().map(|catalogs| catalogs.len());
    json!({
        "holofs": env!("CARGO_PKG_VERSION"),
        "platform": platform(),
        "system": SYSTEM.map(|path| (path, fs::read_to_string(path).unwrap_or_default())),
        "environment": SHOWN.map(|name| (name, std::env::var(name).ok())),
        "user": this_process::effective_uid(),
        "descriptor_limit": this_process::descriptor_limit(),
        "shared": home.is_shared(),
        "compressed": home.is_compressed(),
        "catalogs": catalogs.map_err(|error| error.to_string()),
        "disks": disks,
        "mounts": mounts(),
        "spaces": spaces(&home.spaces_dir()),
        "doctor": doctor,
    })
}

/// The file system at `path`, and how full it is.
fn disk_at(path: &Path) -> Value {
    match disk::usage(path) {
        Err(error) => json!({ "path": path, "error": error.to_string() }),
        Ok(usage) => json!({
            "path": path,
            "file_system": disk::file_system(path).ok(),
            "block_size": usage.block_size,
            "blocks": usage.blocks,
            "available": usage.available,
            "files_free": usage.files_free,
        }),
    }
}

/// Our own mounts in the kernel's mount table.
fn mounts() -> Vec<String> {
    let table = read_lossy("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.contains(" fuse.holofs ")).map(str::to_owned).collect()
}

/// The state of every space, and the end of its log.
fn spaces(dir: &Place) -> Map<String, Value> {
    let listing = dir.entries().unwrap_or_default().into_iter().map(|space| {
        let log = end_of(&space.below(files::LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !is_detail(line)).collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        let state = space.below(files::MOUNT).read(MAX_FILE).unwrap_or_default();
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        let name = space.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, json!({ "mount": state, "log": tail }))
    });
    listing.collect()
}

/// The end of a log, which is never a link to another file.
fn end_of(log: &Place) -> io::Result<String> {
    let mut file = log.open_file()?;
    let len = file.metadata()?.len();
    file.seek(io::SeekFrom::Start(len.saturating_sub(MAX_FILE)))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// True for a line of the levels debug and trace.
fn is_detail(line: &str) -> bool {
    let level = line.split_once(']').map_or("", |(head, _)| head);
    level.ends_with(" DEBUG") || level.ends_with(" TRACE")
}

/// The text with `~` in place of the user's home.
fn without_home(text: &str, home: Option<&str>) -> String {
    match home.filter(|home| home.len() > 1) {
        Some(home) => text.replace(home, "~"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_home_is_not_shown() {
        assert_eq!(without_home("\"/home/me/x\"", Some("/home/me")), "\"~/x\"");
        assert_eq!(without_home("/x", Some("/")), "/x");
        assert_eq!(without_home("/x", None), "/x");
    }
}
