//! Logins for a registry: those stored by `docker login` and `podman login`, exchanged for tokens if the registry requires them.
//!
//! A password is sent to the registry and to the token server that the registry names, which must use TLS unless the registry itself
//! does not. It is kept in memory only. A helper program that does not answer in ten seconds is ignored.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;
use ureq::http::Method;
use url::Url;

use crate::remote::error::RemoteError;
use crate::remote::transport::http::{Call, Client, basic};
use crate::remote::transport::{Access, Patience};
use crate::sys::process::this_process::effective_uid;

/// The timeout of a helper.
const HELPER: Duration = Duration::from_secs(10);
/// The lifetime of a token that does not state one, in seconds: the minimum of the protocol.
const SHORT_LIFE: u64 = 60;
/// The maximum length of a token server's answer.
const MAX_ANSWER: u64 = 1 << 20;

/// The permission that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// To read.
    Pull,
    /// To read and write.
    Push,
    /// To remove.
    Delete,
}

impl Right {
    fn scope(self) -> &'static str {
        match self {
            Right::Pull => "pull",
            Right::Push => "pull,push",
            Right::Delete => "pull,push,delete",
        }
    }
}

/// The logins of one registry.
pub struct Logins {
    registry: Url,
    shown: String,
    patience: Patience,
    podman: Vec<PathBuf>,
    known: Mutex<HashMap<Right, (String, Instant)>>,
    /// Held while a login is obtained: parallel requests need only one.
    obtaining: Mutex<()>,
}

impl Logins {
    /// No login is known yet.
    pub fn new(registry: Url, shown: String, access: &Access) -> Logins {
        Logins {
            registry,
            shown,
            patience: access.patience,
            podman: files_of_podman(access),
            known: Mutex::default(),
            obtaining: Mutex::default(),
        }
    }

    /// The header value that worked for the last request of this kind.
    pub fn known(&self, _: &str, right: Right) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&right).filter(|(_, until)| *until > Instant::now()).map(|(value, _)| value.clone())
    }

    /// The header value that answers `challenge` to a request with the login `refused`; `None` if it cannot be answered.
    pub fn answer(
        &self,
        client: &Client,
        challenge: &str,
        repository: &str,
        right: Right,
        refused: Option<&str>,
    ) -> Result<Option<String>, RemoteError> {
        let _one = self.obtaining.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request may have obtained one meanwhile.
        if let Some(known) = self.known(repository, right).filter(|known| refused != Some(known.as_str())) {
            return Ok(Some(known));
        }
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        let login = self.login()?;
        let found = match scheme.to_ascii_lowercase().as_str() {
            "basic" => login.and_then(|login| match login {
                DockerCredential::UsernamePassword(user, password) => {
                    Some((basic(&user, &password), Duration::from_secs(3600)))
                }
                DockerCredential::IdentityToken(_) => None,
            }),
            "bearer" => Some(self.token(client, &challenge_in(parameters), login, repository, right)?),
            _ => None,
        };
        let Some((value, life)) = found else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(right, (value.clone(), Instant::now() + life));
        Ok(Some(value))
    }

    /// The user's login for the registry.
    fn login(&self) -> Result<Option<DockerCredential>, RemoteError> {
        let host = self.registry.host_str().unwrap_or_default();
        let host = self.registry.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let docker_hub = host == "registry-1.docker.io" || host == "docker.io";
        let server = if docker_hub { "https://index.docker.io/v1/".to_owned() } else { host };
        let (send, receive) = mpsc::channel();
        let podman = self.podman.clone();
        let find = move || {
            let found = docker_credential::get_credential(&server)
                .or_else(|first| docker_credential::get_podman_credential(&server).map_err(|_| first))
                .or_else(|first| in_files(&podman, &server).map_err(|_| first));
            // After the timeout there is no receiver any more.
            send.send(found).unwrap_or_default();
        };
        let failed = |why: String| RemoteError::Login { remote: self.shown.clone(), why };
        std::thread::Builder::new()
            .name("login".into())
            .spawn(find)
            .map_err(|error| failed(error.to_string()))?;
        match receive.recv_timeout(HELPER) {
            Ok(Ok(login)) => Ok(Some(login)),
            Ok(Err(
                CredentialRetrievalError::NoCredentialConfigured
                | CredentialRetrievalError::ConfigNotFound
                | CredentialRetrievalError::ConfigReadError,
            )) => Ok(None),
            // The output of a helper may contain secrets.
            Ok(Err(CredentialRetrievalError::HelperFailure { helper, .. })) => {
                log::debug!("The credential helper {helper} has no login for {}", self.shown);
                Ok(None)
            }
            // The library reports both in the same way.
            Ok(Err(CredentialRetrievalError::HelperCommunicationError)) => Err(failed(
                "the credential helper cannot be started, or ended before it read the address".into(),
            )),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => {
                Err(failed(format!("the credential helper does not answer within {} s", HELPER.as_secs())))
            }
        }
    }

    fn token(
        &self,
        client: &Client,
        challenge: &HashMap<String, String>,
        login: Option<DockerCredential>,
        repository: &str,
        right: Right,
    ) -> Result<(String, Duration), RemoteError> {
        let failed = |why: &str| RemoteError::Login { remote: self.shown.clone(), why: why.to_owned() };
        let realm = challenge.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut realm = realm.ok_or_else(|| failed("the registry names no token server"))?;
        if realm.scheme() != "https" && self.registry.scheme() == "https" {
            return Err(failed("the registry names a token server without TLS"));
        }
        let scope = format!("repository:{repository}:{}", right.scope());
        let service = challenge.get("service").map_or("", String::as_str).to_owned();
        let (mut headers, mut form) = (Vec::new(), None);
        match login {
            Some(DockerCredential::IdentityToken(token)) => {
                let mut fields = url::form_urlencoded::Serializer::new(String::new());
                fields.append_pair("grant_type", "refresh_token").append_pair("client_id", "holofs");
                fields.append_pair("service", &service).append_pair("scope", &scope);
                form = Some(fields.append_pair("refresh_token", &token).finish());
                headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
            }
            other => {
                realm.query_pairs_mut().append_pair("service", &service).append_pair("scope", &scope);
                if let Some(DockerCredential::UsernamePassword(user, password)) = other {
                    headers.push(("authorization", basic(&user, &password)));
                }
            }
        }
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let (url, body) = (realm.as_str(), form.as_deref().map(str::as_bytes));
        let patience = self.patience.answer;
        let call = Call { doing: "Reading", what: "a token", method, url, headers, body, patience };
        let answer = client.send(&call)?;
        match answer.status {
            200 => token_in(&client.read(&call, answer, MAX_ANSWER)?)
                .ok_or_else(|| failed("the token server sends no token")),
            _ => Err(client.refusal(&call, answer)),
        }
    }
}

/// Where podman keeps logins without a directory of the session, as in containers: `docker_credential` does not look there.
fn files_of_podman(access: &Access) -> Vec<PathBuf> {
    let var = |name: &str| (access.var)(name);
    if var("XDG_RUNTIME_DIR").is_some() || var("REGISTRY_AUTH_FILE").is_some() {
        return Vec::new();
    }
    let config = var("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(var("HOME")?).join(".config")));
    let run = cfg!(unix).then(|| PathBuf::from(format!("/run/containers/{}", effective_uid())));
    let dirs = [run, config.map(|dir| dir.join("containers"))];
    dirs.into_iter().flatten().map(|dir| dir.join("auth.json")).collect()
}

/// The login in the first of these files that has one.
fn in_files(files: &[PathBuf], server: &str) -> Result<DockerCredential, CredentialRetrievalError> {
    let login = |file: &PathBuf| {
        let file = File::open(file).ok()?;
        docker_credential::get_credential_from_reader(BufReader::new(file), server).ok()
    };
    files.iter().find_map(login).ok_or(CredentialRetrievalError::NoCredentialConfigured)
}

/// The value of `Authorization` in the answer of a token server, and how long it is used.
pub fn token_in(bytes: &[u8]) -> Option<(String, Duration)> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    let answer: Token = serde_json::from_slice(bytes).ok()?;
    let token = answer.token.or(answer.access_token)?;
    // Slightly earlier than the token expires.
    let life = answer.expires_in.unwrap_or(SHORT_LIFE).min(24 * 3600);
    Some((format!("Bearer {token}"), Duration::from_millis(life * 800)))
}

/// `a="b",c="d,e"` as a map.
pub fn challenge_in(parameters: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut rest = parameters;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_ascii_lowercase();
        found.insert(key, value.to_owned());
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let found = challenge_in(
            r#"realm="https://auth.x/token",service="x", scope="repository:a:pull,push",error=denied"#,
        );
        assert_eq!(found["realm"], "https://auth.x/token");
        assert_eq!(found["scope"], "repository:a:pull,push");
        assert_eq!(found["error"], "denied");
        assert_eq!(challenge_in("").len(), 0);
        assert_eq!(challenge_in(r#"a="b"#)["a"], "b");
    }

    #[test]
    fn tokens_are_used_a_little_shorter_than_they_live() {
        let read = |text: &str| token_in(text.as_bytes());
        assert_eq!(
            read(r#"{"token":"t","expires_in":4}"#),
            Some(("Bearer t".to_owned(), Duration::from_millis(3200)))
        );
        assert_eq!(read(r#"{"access_token":"t"}"#), Some(("Bearer t".to_owned(), Duration::from_secs(48))));
        assert_eq!(read("{}"), None);
        assert_eq!(read("nonsense"), None);
    }
}
