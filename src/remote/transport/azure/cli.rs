//! Tokens of `az login`, which the Azure CLI prints: the last source, as in the Azure SDK.
//!
//! The program is found in `PATH` and started without a shell. Its output is read for a limited time and up to a limited size, and is
//! never displayed: it is a token, or may contain one.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(unix)]
use crate::sys::process::{command::dies_with_us, family};

use crate::remote::transport::Access;

/// The timeout: it is a Python program that may use the network.
const WITHIN: Duration = Duration::from_secs(20);
/// The maximum length of its output.
const MAX_OUTPUT: u64 = 64 << 10;
/// The minimum interval between two attempts after a failure.
const NOT_SOONER: Duration = Duration::from_secs(30);
/// The pause between two looks at its end.
const PAUSE: Duration = Duration::from_millis(10);
/// The file name of the program.
const NAME: &str = if cfg!(windows) { "az.cmd" } else { "az" };

/// The Azure CLI of a user who is logged in.
#[derive(Debug)]
pub struct Cli {
    program: PathBuf,
    /// When it failed, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

/// The directory in which `az` keeps its configuration and logins.
pub fn config_dir(access: &Access) -> Option<PathBuf> {
    let home = || (access.var)("HOME").or_else(|| (access.var)("USERPROFILE"));
    let own = (access.var)("AZURE_CONFIG_DIR").map(PathBuf::from);
    own.or_else(|| home().map(|home| Path::new(&home).join(".azure")))
}

/// True if the variables request the login of `az`, and no other.
pub fn is_requested(access: &Access) -> bool {
    let wanted = (access.var)("AZURE_TOKEN_CREDENTIALS");
    wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case("AzureCliCredential"))
}

impl Cli {
    /// The program, if its user has logged in, or if the variables request it. `AZURE_TOKEN_CREDENTIALS=prod` excludes it.
    pub fn find(access: &Access) -> Result<Option<Cli>, &'static str> {
        let is_requested = is_requested(access);
        let wanted = (access.var)("AZURE_TOKEN_CREDENTIALS");
        let may_be = wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case("dev"));
        let has_login = || config_dir(access).is_some_and(|dir| dir.join("azureProfile.json").is_file());
        let is_used = is_requested || (may_be && has_login());
        if !is_used {
            return Ok(None);
        }
        let path = (access.var)("PATH").unwrap_or_default();
        // A relative one would be in the directory of somebody else's project.
        let dirs = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
        let program = dirs.map(|dir| dir.join(NAME)).find(|program| program.is_file());
        match program {
            None if is_requested => {
                Err("AZURE_TOKEN_CREDENTIALS requests the login of az, which is not in PATH")
            }
            program => Ok(program.map(|program| Cli { program, failed: Mutex::default() })),
        }
    }

    /// What it prints for a token for `resource`; or why it does not. After a failure it is started again only after a while.
    pub fn output(&self, resource: &str) -> Result<Vec<u8>, String> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, why)) = failed.as_ref()
            && at.elapsed() < NOT_SOONER
        {
            return Err(why.clone());
        }
        let output =
            run(&self.program, resource, WITHIN).map_err(|why| format!("{}: {why}", self.program.display()));
        *failed = output.as_ref().err().map(|why| (Instant::now(), why.clone()));
        output
    }
}

fn run(program: &Path, resource: &str, within: Duration) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.args(["account", "get-access-token", "--resource", resource, "--output", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    #[cfg(unix)]
    dies_with_us(&mut command);
    let until = Instant::now() + within;
    let mut az = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let outcome = output_of(&mut az, until);
    // One that is still running is of no use any more.
    if outcome.is_err()
        && let Err(error) = end(&mut az)
    {
        log::debug!("{} cannot be ended: {error}", program.display());
    }
    let (bytes, status) = outcome.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => format!("it does not answer within {} s", within.as_secs()),
        _ => error.to_string(),
    })?;
    match status.success() {
        true => Ok(bytes),
        false => Err(format!(
            "it gives no token ({status}); `az login` may help, and AZURE_TOKEN_CREDENTIALS=prod excludes it"
        )),
    }
}

/// Its output and how it ended.
fn output_of(az: &mut Child, until: Instant) -> io::Result<(Vec<u8>, ExitStatus)> {
    let stdout = az.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let (send, receive) = mpsc::channel();
    let read = move || {
        let mut bytes = Vec::new();
        let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut bytes).map(|_| bytes);
        // After the timeout there is no receiver any more.
        send.send(read).unwrap_or_default();
    };
    std::thread::Builder::new().name("az".into()).spawn(read)?;
    let left = until.saturating_duration_since(Instant::now());
    let bytes = receive.recv_timeout(left).map_err(|_| io::ErrorKind::TimedOut)??;
    if bytes.len() as u64 > MAX_OUTPUT {
        return Err(io::Error::other(format!("it prints more than {MAX_OUTPUT} bytes")));
    }
    loop {
        if let Some(status) = az.try_wait()? {
            return Ok((bytes, status));
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Ends it, and the interpreter that it started.
#[cfg(unix)]
fn end(az: &mut Child) -> io::Result<()> {
    family::kill(az)
}

/// Ends it.
#[cfg(not(unix))]
fn end(az: &mut Child) -> io::Result<()> {
    az.kill().and_then(|()| az.wait()).map(drop)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::remote::transport::{Network, Patience};

    /// A directory with a program `az`.
    fn with(script: &str) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        let program = temp.path().join("az");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        temp
    }

    fn said(script: &str, within: Duration) -> Result<String, String> {
        let temp = with(script);
        run(&temp.path().join("az"), "R", within).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn output_is_limited_in_time_and_size_and_never_part_of_an_error() {
        assert_eq!(
            said("echo \"$@\"", WITHIN).unwrap(),
            "account get-access-token --resource R --output json\n"
        );
        let started = Instant::now();
        for (script, why) in [
            ("echo s3cret; echo s3cret >&2; exit 1", "it gives no token (exit status: 1)"),
            ("echo s3cret; kill -9 $$", "it gives no token (signal: 9"),
            ("while :; do echo s3cret; done", "it prints more than 65536 bytes"),
            ("echo s3cret; exec sleep 60", "it does not answer within 1 s"),
            ("sleep 60", "it does not answer within 1 s"),
            ("exec >&-; sleep 60", "it does not answer within 1 s"),
        ] {
            let error = said(script, Duration::from_secs(1)).unwrap_err();
            assert!(error.starts_with(why) && !error.contains("s3cret"), "{script}: {error}");
        }
        assert!(started.elapsed() < Duration::from_secs(30));
        let none = run(Path::new("/none/az"), "R", WITHIN).unwrap_err();
        assert!(none.starts_with("it cannot be started: "), "{none}");
    }

    #[test]
    fn the_program_is_used_after_a_login_or_by_request() {
        let (bin, config) = (with("exit 3"), tempfile::tempdir().unwrap());
        let find = |path: &str, wanted: Option<&str>| {
            let vars = [
                ("PATH", Some(path.to_owned())),
                ("AZURE_CONFIG_DIR", config.path().to_str().map(str::to_owned)),
                ("AZURE_TOKEN_CREDENTIALS", wanted.map(str::to_owned)),
            ];
            let var = move |name: &str| vars.iter().find(|(key, _)| *key == name)?.1.clone();
            let access =
                Access { var: Arc::new(var), patience: Patience::default(), network: Network::default() };
            Cli::find(&access).map(|cli| cli.map(|cli| cli.program))
        };
        let dir = bin.path().to_str().unwrap();
        let (path, program) = (format!("/none:{dir}"), Some(bin.path().join("az")));
        assert_eq!(find(&path, None), Ok(None), "nobody has logged in");
        assert_eq!(find(&path, Some("azureclicredential")), Ok(program.clone()));
        assert!(find("/none", Some("AzureCliCredential")).is_err());
        std::fs::write(config.path().join("azureProfile.json"), "{}").unwrap();
        assert_eq!(find(&path, None), Ok(program.clone()));
        assert_eq!(find(&path, Some("dev")), Ok(program));
        for other in ["prod", "ManagedIdentityCredential"] {
            assert_eq!(find(&path, Some(other)), Ok(None), "{other}");
        }
        for path in ["", ".", "..:bin", "/none"] {
            assert_eq!(find(path, None), Ok(None), "{path}");
        }
    }

    #[test]
    fn a_failure_is_known_for_a_while() {
        let temp = with("echo x >> \"$(dirname \"$0\")/started\"; exit 1");
        let cli = Cli { program: temp.path().join("az"), failed: Mutex::default() };
        let starts = || std::fs::read_to_string(temp.path().join("started")).unwrap().lines().count();
        let why = cli.output("R").unwrap_err();
        assert_eq!((cli.output("R"), starts()), (Err(why), 1));
        cli.failed.lock().unwrap().as_mut().unwrap().0 -= NOT_SOONER;
        cli.output("R").unwrap_err();
        assert_eq!(starts(), 2);
    }
}
