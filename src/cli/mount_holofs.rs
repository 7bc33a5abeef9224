//! `mount.holofs`: the mount(8) helper, so that `mount -t holofs` and /etc/fstab work.
//!
//! ```text
//! mount.holofs CATALOG DIRECTORY [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]
//! ```
//! The directory must be that of the space named by the options, because the catalog determines where its spaces are. Options are
//! parsed strictly: unknown ones, and those that cannot be ignored safely, are refused.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::fs::fuse::Io;
use crate::fs::fuse::awake::KeepAwake;
use crate::session::appear::appear;
use crate::session::request::ProfileAt;

use super::context::{Context, parse_space};
use super::terminal;
use super::{Cli, Command, Global};

/// Our own options.
const KNOWN: &str = "space, controller, home, robocorp_home, holofs_home, io, keep_awake, profile, wait, uid, gid, ro, rw, exec, noexec, allow_other and fresh";

/// mount(8): incorrect invocation.
const USAGE: u8 = 1;
/// mount(8): the mount failed.
const FAILED: u8 = 32;

/// Arguments of `holofs mount.holofs`.
#[derive(Debug, clap::Args)]
pub struct MountHolofsArgs {
    /// CATALOG DIRECTORY [-sfnv] [-o OPTIONS]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<OsString>,
}

/// The parsed arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Invocation {
    catalog: String,
    dir: PathBuf,
    /// Do nothing.
    fake: bool,
    verbose: u8,
    options: Options,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    space: Option<String>,
    controller: Option<String>,
    io: Option<Io>,
    keep_awake: Option<KeepAwake>,
    profile: Option<PathBuf>,
    wait: Option<u64>,
    home: Option<PathBuf>,
    robocorp_home: Option<PathBuf>,
    holofs_home: Option<PathBuf>,
    read_only: bool,
    allow_other: bool,
    no_exec: bool,
    fresh: bool,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// The arguments, if this process was called by the helper's name.
pub fn called_so() -> Option<Vec<OsString>> {
    let mut words = std::env::args_os();
    let name = PathBuf::from(words.next()?);
    (name.file_name()? == "mount.holofs").then(|| words.collect())
}

/// Mounts; returns the exit codes of mount(8).
pub fn main(words: &[OsString]) -> ExitCode {
    let wanted = match parse(words) {
        Ok(wanted) => wanted,
        Err(why) => {
            terminal::tell("mount.holofs", &why);
            return ExitCode::from(USAGE);
        }
    };
    match mount(wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            terminal::tell("mount.holofs", &format!("{why:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn mount(wanted: Invocation) -> anyhow::Result<()> {
    if wanted.fake {
        return Ok(());
    }
    let options = wanted.options;
    let space = options.space.as_deref().unwrap_or("user");
    // Everything not given here is as in `holofs mount`, by default or by the environment.
    let cli = Cli::try_parse_from(["holofs", "mount", "--mode=mount", "--", &wanted.catalog, space])?;
    let Command::Mount(args) = cli.command else { anyhow::bail!("Unknown command") };
    let mut request = args.request(&wanted.catalog);
    request.read_only = options.read_only;
    request.allow_other = options.allow_other;
    request.no_exec = options.no_exec;
    request.fresh = options.fresh;
    (request.uid, request.gid) = (options.uid, options.gid);
    request.at = Some(wanted.dir);
    request.space.controller = options.controller.unwrap_or(request.space.controller);
    request.io = options.io.or(request.io);
    request.keep_awake = options.keep_awake.unwrap_or(request.keep_awake);
    request.profile = options.profile.as_deref().map_or(request.profile, ProfileAt::from);
    let global = Global { wait: options.wait.or(cli.global.wait), verbose: wanted.verbose, ..cli.global };
    let homes = [
        ("HOME", options.home),
        ("ROBOCORP_HOME", options.robocorp_home),
        ("HOLOFS_HOME", options.holofs_home),
    ];
    let replaced = homes.into_iter().filter_map(|(name, value)| Some((name, value?.into_os_string())));
    let context = Context::replacing(&global, replaced.collect())?;
    appear(&context, &request)?;
    Ok(())
}

fn parse(words: &[OsString]) -> Result<Invocation, String> {
    let mut wanted = Invocation::default();
    let mut places = Vec::new();
    let mut words = words.iter().map(|word| word.to_str().ok_or(format!("{} is not UTF-8", word.display())));
    let mut lists = String::new();
    let mut sloppy = false;
    while let Some(word) = words.next().transpose()? {
        match word {
            "-o" => {
                lists.push_str(words.next().ok_or("-o needs options")??);
                lists.push(',');
            }
            "-t" => match words.next().ok_or("-t needs a type")?? {
                "holofs" | "fuse.holofs" => {}
                other => return Err(format!("This mounts holofs, not {other}")),
            },
            "-N" => return Err("-N is not supported: enter the namespace first".to_owned()),
            _ if word.len() > 1 && word.starts_with('-') => {
                for flag in word.chars().skip(1) {
                    match flag {
                        's' => sloppy = true,
                        'f' => wanted.fake = true,
                        'v' => wanted.verbose = wanted.verbose.saturating_add(1),
                        'n' => {}
                        _ => return Err(format!("Unknown option -{flag}")),
                    }
                }
            }
            _ => places.push(word),
        }
    }
    let [catalog, dir] = places.as_slice() else {
        return Err("Usage: mount.holofs CATALOG DIRECTORY [-sfnv] [-o OPTIONS]".to_owned());
    };
    wanted.catalog = (*catalog).to_owned();
    wanted.dir = clean(dir)?;
    wanted.options = options(&lists, sloppy)?;
    Ok(wanted)
}

/// Parses all -o options. Those handled by mount(8) itself, and those that always apply here, are accepted.
fn options(list: &str, sloppy: bool) -> Result<Options, String> {
    let mut found = Options::default();
    for option in list.split(',').filter(|option| !option.is_empty()) {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let needed = || value.filter(|value| !value.is_empty()).ok_or(format!("{name} needs a value"));
        match (name, value) {
            ("space", _) => found.space = Some(parse_space(needed()?)?),
            ("controller", _) => found.controller = Some(parse_space(needed()?)?),
            ("io", _) => found.io = Some(word(name, needed()?)?),
            ("keep_awake", _) => found.keep_awake = Some(word(name, needed()?)?),
            ("profile", Some("auto" | "off")) => found.profile = Some(needed()?.into()),
            ("profile", _) => found.profile = Some(clean(needed()?)?),
            ("wait", _) => found.wait = Some(seconds(needed()?)?),
            ("home", _) => found.home = Some(clean(needed()?)?),
            ("robocorp_home", _) => found.robocorp_home = Some(clean(needed()?)?),
            ("holofs_home", _) => found.holofs_home = Some(clean(needed()?)?),
            ("uid", _) => found.uid = Some(number(name, needed()?)?),
            ("gid", _) => found.gid = Some(number(name, needed()?)?),
            // mount(8) itself adds noexec for user mounts; a later exec cancels it.
            ("noexec", None) => found.no_exec = true,
            ("exec", None) => found.no_exec = false,
            ("ro", None) => found.read_only = true,
            ("rw", None) => found.read_only = false,
            ("allow_other", None) => found.allow_other = true,
            ("fresh", None) => found.fresh = true,
            _ if is_harmless(name) => {}
            ("suid" | "dev" | "remount", None) => {
                return Err(format!("{name} is not supported here"));
            }
            _ if sloppy => {}
            _ => return Err(format!("Unknown option {option:?}; known options: {KNOWN}")),
        }
    }
    Ok(found)
}

fn is_harmless(name: &str) -> bool {
    let known = [
        "defaults",
        "auto",
        "noauto",
        "nofail",
        "_netdev",
        "nosuid",
        "nodev",
        "async",
        "user",
        "nouser",
        "users",
        "owner",
        "group",
        "noatime",
        "relatime",
        "nodiratime",
        "default_permissions",
        "comment",
    ];
    known.contains(&name) || name.starts_with("x-") || name.starts_with("X-")
}

/// Parses an option with a fixed set of values.
fn word<T: ValueEnum>(name: &str, value: &str) -> Result<T, String> {
    T::from_str(value, false).map_err(|_| {
        let words = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let words: Vec<String> = words.map(|word| word.get_name().to_owned()).collect();
        format!("{name} must be one of {}, not {value:?}", words.join(", "))
    })
}

/// Parses a waiting time.
fn seconds(value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("wait must be a number of seconds, not {value:?}"))
}

/// Parses the number of a user or group; mount(8) converts names to numbers.
fn number(name: &str, value: &str) -> Result<u32, String> {
    value.parse().ok().filter(|&id| id != u32::MAX).ok_or(format!("{name} must be a number, not {value:?}"))
}

/// An absolute path without dots.
fn clean(path: &str) -> Result<PathBuf, String> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let ok = Path::new(path).is_absolute() && Path::new(path).components().all(plain);
    ok.then(|| Path::new(path).components().collect())
        .ok_or(format!("{path:?} is not an absolute path without dots"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, String> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<OsString>>())
    }

    #[test]
    fn what_mount_gives_its_helper_is_understood() {
        let wanted = parsed("abc /h/s -sv -t fuse.holofs -o rw,nosuid,space=a,controller=b,ro,io=passthrough,robocorp_home=/r/,x-systemd.automount").unwrap();
        assert_eq!(
            (wanted.catalog.as_str(), wanted.dir.as_path(), wanted.fake),
            ("abc", Path::new("/h/s"), false)
        );
        let options = wanted.options;
        assert_eq!((options.space.as_deref(), options.controller.as_deref()), (Some("a"), Some("b")));
        assert_eq!((options.read_only, options.allow_other, options.fresh), (true, false, false));
        assert_eq!(options.io, Some(Io::Passthrough));
        assert_eq!(options.robocorp_home, Some("/r".into()));
        assert!(parsed("abc /h/s -f").unwrap().fake);
        let options = parsed("abc /h/s -o keep_awake=off,profile=/a/p,wait=3").unwrap().options;
        assert_eq!((options.keep_awake, options.wait), (Some(KeepAwake::Off), Some(3)));
        assert_eq!(options.profile, Some("/a/p".into()));
        assert_eq!(parsed("abc /h/s").unwrap().options, Options::default());
    }

    #[test]
    fn what_fstab_says_is_taken_and_what_it_means_is_kept() {
        let line = "abc /a -o rw,defaults,noauto,user,nofail,x-systemd.automount,_netdev,nosuid,nodev,noexec";
        assert!(parsed(line).unwrap().options.no_exec);
        let options = parsed(&format!("{line},exec,uid=1000,gid=7")).unwrap().options;
        assert_eq!(options, Options { uid: Some(1000), gid: Some(7), ..Options::default() });
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (line, why) in [
            ("abc", "Usage: mount.holofs CATALOG DIRECTORY [-sfnv] [-o OPTIONS]"),
            ("abc /a /b", "Usage: mount.holofs CATALOG DIRECTORY [-sfnv] [-o OPTIONS]"),
            ("abc a", "\"a\" is not an absolute path without dots"),
            ("abc /a/../b", "\"/a/../b\" is not an absolute path without dots"),
            ("abc /a -x", "Unknown option -x"),
            ("abc /a -o", "-o needs options"),
            ("abc /a -t ext4", "This mounts holofs, not ext4"),
            ("abc /a -N 1", "-N is not supported: enter the namespace first"),
            ("abc /a -o suid", "suid is not supported here"),
            ("abc /a -o dev", "dev is not supported here"),
            ("abc /a -o space=", "space needs a value"),
            ("abc /a -o space=a\tb", "the name of a space must not contain control characters"),
            ("abc /a -o uid=", "uid needs a value"),
            ("abc /a -o uid=me", "uid must be a number, not \"me\""),
            ("abc /a -o gid=-1", "gid must be a number, not \"-1\""),
            ("abc /a -o uid=4294967295", "uid must be a number, not \"4294967295\""),
            ("abc /a -o io=fast", "io must be one of no-open, passthrough, not \"fast\""),
            ("abc /a -o keep_awake=", "keep_awake needs a value"),
            ("abc /a -o profile=x", "\"x\" is not an absolute path without dots"),
            ("abc /a -o wait=long", "wait must be a number of seconds, not \"long\""),
            ("abc /a -o home=x", "\"x\" is not an absolute path without dots"),
        ] {
            assert_eq!(parsed(line), Err(why.to_owned()), "{line}");
        }
        for option in ["ro=1", "spaces=a", "allow_root", "umask=022"] {
            let why = format!("Unknown option {option:?}; known options: {KNOWN}");
            assert_eq!(parsed(&format!("abc /a -o {option}")), Err(why));
        }
        assert!(parsed("abc /a -s -o allow_root").is_ok());
        assert!(parsed("abc /a -s -o suid").is_err());
    }
}
