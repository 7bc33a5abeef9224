//! Logins of Entra ID: a server that accepts exactly the requests for tokens that Microsoft documents, and Azurite, which checks the
//! tokens: audience, issuer, lifetime, and TLS.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::listening::{Asked, Listening, Pairs};
use super::real::{everything, trusts};
use super::services::{self, Service, certificates};
use super::{contents, push, recorded};
use crate::common::test_home::TestHome;
use crate::common::{exit, said, stderr};

const ACCOUNT: &str = "devstoreaccount1";
const RESOURCE: &str = "https://storage.azure.com/";
/// The lifetime of a token, in seconds.
const LIFE: u64 = 4;
const SECRET: &str = "s3cr3t-w0rd";
const PROOF: &str = "proof-from-the-cluster";
const HEADER: &str = "h3ader-w0rd";

/// A server that issues tokens.
struct Entra {
    listening: Listening,
    issued: Arc<AtomicUsize>,
}

impl Entra {
    fn start() -> Entra {
        let issued = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&issued);
        // A client that disconnects ends only its own connection.
        let listening = Listening::start(Arc::default(), move |stream| {
            answer(&stream, &count).unwrap_or_default();
        });
        Entra { listening, issued }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listening.address())
    }

    fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }

    /// The variables of a service principal.
    fn principal(&self, secret: &str) -> Vec<(&'static str, String)> {
        vec![
            ("AZURE_AUTHORITY_HOST", self.url("")),
            ("AZURE_TENANT_ID", "tenant-1".to_owned()),
            ("AZURE_CLIENT_ID", "client-1".to_owned()),
            ("AZURE_CLIENT_SECRET", secret.to_owned()),
        ]
    }

    /// The variables of a workload identity.
    fn workload(&self, dir: &Path) -> Vec<(&'static str, String)> {
        let file = dir.join("federated-token");
        fs::write(&file, format!("{PROOF}\n")).unwrap();
        let mut variables = self.principal("");
        variables[3] = ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap().to_owned());
        variables
    }
}

/// True for a request that Microsoft documents, with the right proof.
fn is_right(asked: &Asked) -> bool {
    let is = |found: &Pairs, expected: &[(&str, &str)]| {
        let expected: Pairs = expected.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        *found == expected
    };
    let common = [
        ("grant_type", "client_credentials"),
        ("client_id", "client-1"),
        ("scope", "https://storage.azure.com/.default"),
    ];
    let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let header = |name: &str| asked.headers.get(name).map(String::as_str);
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/tenant-1/oauth2/v2.0/token") => {
            let proves = |proof: &[(&str, &str)]| is(&asked.form, &[&common, proof].concat());
            header("content-type") == Some("application/x-www-form-urlencoded")
                && asked.query.is_empty()
                && (proves(&[("client_secret", SECRET)]) || proves(&[kind, ("client_assertion", PROOF)]))
        }
        ("GET", "/msi/token") => {
            header("x-identity-header") == Some(HEADER)
                && is(&asked.query, &[("api-version", "2019-08-01"), ("resource", RESOURCE)])
        }
        ("GET", "/metadata/identity/oauth2/token") => {
            header("metadata") == Some("true")
                && is(
                    &asked.query,
                    &[("api-version", "2018-02-01"), ("resource", RESOURCE), ("client_id", "client-2")],
                )
        }
        _ => false,
    }
}

fn answer(mut stream: &TcpStream, issued: &AtomicUsize) -> std::io::Result<()> {
    let asked = Asked::read(stream)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (status, body) = match is_right(&asked) {
        true => {
            issued.fetch_add(1, Ordering::Relaxed);
            // Each kind of server says the lifetime in its own way.
            let life = match asked.path.as_str() {
                "/msi/token" => format!(r#""expires_on":"{}""#, now + LIFE),
                "/metadata/identity/oauth2/token" => {
                    format!(r#""expires_in":"{LIFE}","expires_on":"{}""#, now + LIFE)
                }
                _ => format!(r#""expires_in":{LIFE}"#),
            };
            ("200 OK", format!(r#"{{"token_type":"Bearer",{life},"access_token":"{}"}}"#, token(now)))
        }
        false => (
            "401 Unauthorized",
            format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS7000215: Invalid secret {}"}}"#,
                asked.form.get("client_secret").map_or("", String::as_str)
            ),
        ),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A token whose signature Azurite does not check.
fn token(now: u64) -> String {
    token_for(now, LIFE)
}

fn token_for(now: u64, life: u64) -> String {
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256"});
    let claims = serde_json::json!({
        "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/tenant-1/",
        "iat": now - 60, "nbf": now - 60, "exp": now + life,
    });
    [header.to_string(), claims.to_string(), "signature".to_owned()]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".")
}

/// Azurite that accepts tokens, with the container `envs`; and its endpoint.
fn azurite(dir: &Path) -> Option<(Service, String)> {
    certificates(dir);
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    let (service, port) = services::azurite(
        dir,
        &["--oauth", "basic", "--cert", &cert, "--key", &key, "--skipApiVersionCheck"],
    )?;
    let endpoint = format!("https://127.0.0.1:{port}/{ACCOUNT}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--request", "PUT", "--cacert", &at("ca.pem")]);
    curl.args(["--header", &format!("authorization: Bearer {}", token(now))]);
    curl.args(["--header", "x-ms-version: 2021-12-02", "--header", "content-length: 0"]);
    crate::common::run(curl.arg(format!("{endpoint}/envs?restype=container")));
    Some((service, endpoint))
}

/// A home with these variables, for the storage at `endpoint`.
fn home(endpoint: &str, dir: &Path, variables: Vec<(&'static str, String)>) -> TestHome {
    let account =
        [("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()), ("AZURE_STORAGE_ENDPOINT", endpoint.to_owned())];
    let home = TestHome::new().with(account.into_iter().chain(variables).collect());
    trusts(&home, dir);
    home
}

#[test]
fn identities_of_entra_do_everything_and_expired_tokens_are_replaced() {
    let (dir, entra) = (tempfile::tempdir().unwrap(), Entra::start());
    let Some((_service, endpoint)) = azurite(dir.path()) else { return };
    let new = |variables| home(&endpoint, dir.path(), variables);
    let from = new(entra.principal(SECRET));
    let to = new(entra.workload(dir.path()));
    everything(&from, &to, "az://envs/team", "az://envs/team", '#');

    let late = new(entra.workload(dir.path()));
    let mounted = late.mount("az://envs/team#prod", "late", "c", &[]);
    let before = entra.issued();
    for name in ["small-1", "file-9000000"] {
        std::thread::sleep(Duration::from_secs(LIFE + 1));
        assert_eq!(fs::read(mounted.path().join("lib").join(name)).unwrap(), super::content_of(name));
    }
    drop(mounted);
    assert!(entra.issued() > before + 1, "an expired token cannot have been used");

    let application =
        new(vec![("IDENTITY_ENDPOINT", entra.url("/msi/token")), ("IDENTITY_HEADER", HEADER.to_owned())]);
    application.holofs_ok(&["pull", "az://envs/team#prod"]);
    let machine = new(vec![
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.url("")),
        ("AZURE_CLIENT_ID", "client-2".to_owned()),
    ]);
    machine.holofs_ok(&["pull", "az://envs/team#prod"]);
}

#[test]
fn what_entra_refuses_is_a_clear_error_without_the_secret() {
    let (dir, entra) = (tempfile::tempdir().unwrap(), Entra::start());
    let Some((_service, endpoint)) = azurite(dir.path()) else { return };
    let from = home(&endpoint, dir.path(), entra.principal(SECRET));
    let catalog = recorded(&from, &contents()[..3], "entra=1");
    push(&from, &catalog, "az://envs#prod");
    let refused = |variables: Vec<(&'static str, String)>, why: &str| {
        let home = home(&endpoint, dir.path(), variables);
        let pulled = home
            .holofs_command(&["pull", "az://envs#prod", "-vvv"])
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        assert_eq!(pulled.status.code(), Some(exit::IO), "{}", said(&pulled));
        assert!(stderr(&pulled).contains(why), "{why}: {}", stderr(&pulled));
        assert!(!said(&pulled).contains("w0rd"), "{}", said(&pulled));
    };
    refused(entra.principal("wr0ng-w0rd"), "status 401: invalid_client, AADSTS7000215");
    let application = |header: &str| {
        vec![("IDENTITY_ENDPOINT", entra.url("/msi/token")), ("IDENTITY_HEADER", header.to_owned())]
    };
    refused(application("wr0ng-w0rd"), "status 401");
    let mut missing = entra.workload(dir.path());
    missing[3].1 = dir.path().join("none").to_str().unwrap().to_owned();
    refused(missing.clone(), &format!("AZURE_FEDERATED_TOKEN_FILE cannot be read: {}: ", missing[3].1));
    missing[3].1 = "/dev/zero".to_owned();
    refused(missing, "AZURE_FEDERATED_TOKEN_FILE cannot be read: /dev/zero: it is not a regular file");
    let mut plain = entra.principal(SECRET);
    plain[0].1 = "http://login.example.com".to_owned();
    refused(plain, "AZURE_AUTHORITY_HOST is without TLS");
}

/// A directory with a program `az` that prints `answer`, and writes down its arguments.
fn az(dir: &Path, answer: &str) -> std::path::PathBuf {
    let bin = tempfile::tempdir_in(dir).unwrap().keep();
    fs::write(bin.join("answer"), answer).unwrap();
    let script = format!("#!/bin/sh\necho \"$@\" >> {0}/asked\ncat {0}/answer\n", bin.display());
    fs::write(bin.join("az"), script).unwrap();
    fs::set_permissions(bin.join("az"), fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
fn the_login_of_az_is_used_if_there_is_no_other_and_is_never_shown() {
    let (dir, entra) = (tempfile::tempdir().unwrap(), Entra::start());
    let Some((_service, endpoint)) = azurite(dir.path()) else { return };
    let from = home(&endpoint, dir.path(), entra.principal(SECRET));
    push(&from, &recorded(&from, &contents()[..3], "az=1"), "az://envs#prod");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let token = token_for(now, 3600);
    let printed = format!(
        r#"{{"accessToken":"{token}","expiresOn":"2026-11-29 22:00:00.000000","expires_on":{},"tokenType":"Bearer"}}"#,
        now + 3600
    );
    let with = |bin: &Path, variables: Vec<(&'static str, String)>| {
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let home = home(&endpoint, dir.path(), [vec![("PATH", path)], variables].concat());
        fs::create_dir(home.user().join(".azure")).unwrap();
        fs::write(home.user().join(".azure/azureProfile.json"), "{}").unwrap();
        home
    };
    let asked = |bin: &Path| fs::read_to_string(bin.join("asked")).unwrap_or_default();
    let pull = |home: &TestHome| {
        let mut command = home.holofs_command(&["pull", "az://envs#prod", "-vvv"]);
        let pulled = command.env("RUST_LOG", "trace").output().unwrap();
        assert!(!said(&pulled).contains(&token), "{}", said(&pulled));
        pulled
    };

    let bin = az(dir.path(), &printed);
    let to = with(&bin, Vec::new());
    let pulled = pull(&to);
    assert!(pulled.status.success(), "{}", said(&pulled));
    let request = "account get-access-token --resource https://storage.azure.com/ --output json\n";
    assert_eq!(asked(&bin), request, "once for all requests");
    let lazy = with(&bin, Vec::new());
    let mounted = lazy.mount("az://envs#prod", "lazy", "c", &[]);
    assert_eq!(fs::read(mounted.path().join("lib/file-4000")).unwrap(), super::content_of("file-4000"));
    drop(mounted);
    let kept = std::process::Command::new("grep").args(["-rlF", &token]).arg(lazy.home()).output().unwrap();
    assert_eq!(crate::common::stdout(&kept), "", "the token is in the state");

    let unused = az(dir.path(), &printed);
    assert!(pull(&with(&unused, entra.principal(SECRET))).status.success());
    let anonymous = pull(&with(&unused, vec![("AZURE_TOKEN_CREDENTIALS", "prod".to_owned())]));
    assert!(!anonymous.status.success(), "{}", said(&anonymous));
    assert_eq!(asked(&unused), "");

    for (answer, why) in [("{}", "az prints no token"), (&format!("x{printed}"), "az prints no token")] {
        let refused = pull(&with(&az(dir.path(), answer), Vec::new()));
        assert_eq!(refused.status.code(), Some(exit::IO), "{}", said(&refused));
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }
    let broken = az(dir.path(), &printed);
    fs::write(broken.join("az"), format!("#!/bin/sh\necho {token}\necho {token} >&2\nexit 1\n")).unwrap();
    let refused = pull(&with(&broken, Vec::new()));
    assert!(
        stderr(&refused).contains("it gives no token (exit status: 1); `az login` may help"),
        "{}",
        said(&refused)
    );
}
