//! Azure's blob storage, as Azurite answers for it: everything that HoloFS does with a remote, and each kind of login.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::real::{everything, survives_death};
use super::services::{self, Service};
use super::{contents, pull, recorded};
use crate::common::golden::{CATALOG, Regime};
use crate::common::mounted::server;
use crate::common::test_home::TestHome;
use crate::common::{exit, run, said, stderr, stdout};

/// The account of Azurite; its key is public.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const WRONG_KEY: &str = "d3JvbmdzZWNyZXR3cm9uZ3NlY3JldHdyb25nc2VjcmV0";

/// Makes the container `envs`, and prints two signatures for the account: one for everything, one for reading. Written without HoloFS.
const SETUP: &str = r#"
const crypto = require('crypto'), http = require('http');
const [port, name, key] = process.argv.slice(1);
const sign = (text) => crypto.createHmac('sha256', Buffer.from(key, 'base64')).update(text, 'utf8').digest('base64');
const sas = (allowed) => {
  const fields = { sp: allowed, ss: 'b', srt: 'sco', st: '', se: '2099-01-01T00:00:00Z', sip: '', spr: '', sv: '2019-12-12' };
  const sig = sign([name, ...Object.values(fields)].join('\n') + '\n');
  return new URLSearchParams({ ...Object.fromEntries(Object.entries(fields).filter(([, value]) => value)), sig }).toString();
};
const date = new Date().toUTCString(), version = '2021-12-02';
const path = `/${name}/envs`;
const text = `PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:${date}\nx-ms-version:${version}\n/${name}${path}\nrestype:container`;
const headers = { 'x-ms-date': date, 'x-ms-version': version, 'content-length': 0, authorization: `SharedKey ${name}:${sign(text)}` };
http.request({ host: '127.0.0.1', port, path: path + '?restype=container', method: 'PUT', headers }, (answer) => {
  if (answer.statusCode !== 201) { console.error(answer.statusCode); process.exit(1); }
  console.log(sas('rwdlac')); console.log(sas('rl'));
  process.exit(0);
}).end();
"#;

/// Azurite with the container `envs`.
struct Azurite {
    service: Service,
    endpoint: String,
    /// Signatures: for everything, and for reading.
    sas: [String; 2],
}

impl Azurite {
    fn start(dir: &Path) -> Option<Azurite> {
        let (service, port) = services::azurite(dir, &[])?;
        let port = port.to_string();
        let made = run(Command::new("node").args(["-e", SETUP, &port, ACCOUNT, KEY]));
        let mut lines = stdout(&made).lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        let sas = [lines.next().unwrap(), lines.next().unwrap()];
        Some(Azurite { service, endpoint: format!("http://127.0.0.1:{port}/{ACCOUNT}"), sas })
    }

    fn with_key(&self, key: &str) -> String {
        format!("AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={}", self.endpoint)
    }

    fn with_sas(&self, sas: &str) -> String {
        format!("BlobEndpoint={};SharedAccessSignature={sas}", self.endpoint)
    }
}

/// Writes the connection string into the configuration of `az`.
fn log_in(home: &TestHome, connection: &str) {
    let dir = home.user().join(".azure");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config"), format!("[storage]\nconnection_string = {connection}\n")).unwrap();
}

#[test]
fn azurite_does_everything_and_may_die() {
    let (from, to, other) = (TestHome::new(), TestHome::new(), TestHome::new());
    let Some(mut azurite) = Azurite::start(&from.scratch()) else { return };
    log_in(&from, &azurite.with_key(KEY));
    log_in(&to, &azurite.with_sas(&azurite.sas[1]));
    log_in(&other, &azurite.with_key(KEY));
    everything(&from, &to, "az://envs/team/x+ä", "az://envs/team/x+ä", '#');
    // Azurite writes its index every five seconds; kill -9 loses what is newer.
    std::thread::sleep(Duration::from_secs(7));
    survives_death(&other, "az://envs/team/x+ä#prod", &mut azurite.service);
}

#[test]
fn logins_of_azure_that_are_wrong_are_clear_errors_and_none_is_shown() {
    let (from, to) = (TestHome::golden(Regime::Gzip), TestHome::new());
    let Some(azurite) = Azurite::start(&from.scratch()) else { return };
    let push = |remote: &str, vars: &[(&str, &str)]| {
        let mut command = from.holofs_command(&["push", CATALOG, remote, "-vvv"]);
        command.env("RUST_LOG", "trace").envs(vars.iter().copied()).output().unwrap()
    };
    let endpoint = ("AZURE_STORAGE_ENDPOINT", azurite.endpoint.as_str());
    let account = ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT);
    let signature = |sas: &str| sas.split_once("sig=").unwrap().1.to_owned();
    let fails = |remote: &str, vars: &[(&str, &str)], code: i32, why: &str| {
        let output = push(remote, vars);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(stderr(&output).contains(why), "{why}: {}", stderr(&output));
        for secret in [KEY, WRONG_KEY, &signature(&azurite.sas[1])] {
            assert!(!said(&output).contains(secret), "{}", said(&output));
        }
    };
    let remote = "az://envs/team#prod";
    fails(remote, &[], exit::IO, "set AZURE_STORAGE_ACCOUNT_NAME");
    let key = |key| ("AZURE_STORAGE_ACCOUNT_KEY", key);
    fails(remote, &[account, endpoint, key(WRONG_KEY)], exit::IO, "status 403: AuthorizationFailure");
    fails(remote, &[account, endpoint, key("?")], exit::IO, "is not base64");
    let reader = ("AZURE_STORAGE_SAS_TOKEN", azurite.sas[1].as_str());
    fails(remote, &[account, endpoint, reader], exit::IO, "status 403: AuthorizationPermissionMismatch");
    fails("az://none/team", &[account, endpoint, key(KEY)], exit::NOT_FOUND, "no container none");

    let pushed = push(remote, &[account, endpoint, key(KEY)]);
    assert!(pushed.status.success() && !said(&pushed).contains(KEY), "{}", said(&pushed));
    log_in(&to, &azurite.with_sas(&azurite.sas[1]));
    let secret = signature(&azurite.sas[1]);
    let mounted = to.mount(remote, "lazy", "c", &["-vvv"]);
    let daemon = server(mounted.report());
    for pid in super::lazy::fetchers(daemon).into_iter().chain([daemon]) {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains(&secret), "{line:?}");
    }
    let pulled = run(to.holofs_command(&["pull", remote, "-vvv"]).env("RUST_LOG", "trace"));
    assert!(!said(&pulled).contains(&secret), "{}", said(&pulled));
    drop(mounted);
    let kept = Command::new("grep").args(["-rlF", &secret]).arg(to.home()).output().unwrap();
    assert_eq!(stdout(&kept), "", "the signature is in the state");
}

#[test]
fn a_connection_string_in_the_environment_is_used() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(azurite) = Azurite::start(&from.scratch()) else { return };
    let catalog = recorded(&from, &contents()[..3], "connection=1");
    log_in(&from, &azurite.with_sas(&azurite.sas[0]));
    super::push(&from, &catalog, "az://envs#prod");
    let mut command = to.holofs_command(&["pull", "az://envs#prod"]);
    run(command.env("AZURE_STORAGE_CONNECTION_STRING", azurite.with_key(KEY)));
    assert_eq!(to.catalogs(), [catalog]);
    log_in(&to, &azurite.with_key(KEY));
    assert_eq!(pull(&to, "az://envs#prod")["is_new"], false);
}
