//! Tokens of Entra ID: for a service principal with a secret, a workload identity (a token in a file, as in Kubernetes and CI), the
//! managed identity of an application or a machine, or the user who is logged in with `az`.
//!
//! They are obtained by Microsoft's documented requests, with the variables of the Azure SDK. A secret, and a token, are sent with
//! TLS only, or within this machine. Errors contain the server's error code, but nothing of what was sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use ureq::http::Method;
use url::Url;
use url::form_urlencoded::Serializer;

use super::cli::{self, Cli};
use crate::remote::address::is_private;
use crate::remote::error::RemoteError;
use crate::remote::transport::http::{Call, Client};
use crate::remote::transport::{Access, Patience, logins};

/// What the token is for: the blobs of any account.
const RESOURCE: &str = "https://storage.azure.com/";
/// The login server of Azure's public cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// The machine's own metadata server, which answers at once or not at all.
const INSTANCE: &str = "http://169.254.169.254";
/// The minimum interval between two requests for a token after a refusal.
const NOT_SOONER: Duration = Duration::from_secs(30);
/// The lifetime of a token whose answer does not contain it, in seconds.
const SHORT_LIFE: u64 = 60;
/// The maximum length of an answer with a token.
const MAX_ANSWER: u64 = 64 << 10;

/// Who obtains a token, and how.
enum Identity {
    /// A service principal: the URL of its tenant, its name, and its secret.
    Secret { authority: Url, client: String, secret: String },
    /// A workload identity: the file has a token that proves it.
    Federated { authority: Url, client: String, file: String },
    /// The managed identity of an application, from a server in its container.
    Application { endpoint: Url, header: String, client: Option<String> },
    /// The managed identity of a virtual machine.
    Machine { endpoint: Url, client: Option<String> },
}

/// Where tokens come from.
enum Source {
    /// A server, for this identity.
    Server(Identity),
    /// The Azure CLI.
    Cli(Cli),
}

/// The tokens of one account.
pub struct Tokens {
    source: Source,
    access: Access,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Option<Token>,
    obtained: Option<Instant>,
}

#[derive(Clone)]
struct Token {
    /// The value of `Authorization`.
    value: Arc<str>,
    until: Instant,
}

impl From<(String, Duration)> for Token {
    fn from((value, life): (String, Duration)) -> Token {
        Token { value: value.into(), until: Instant::now() + life }
    }
}

impl Tokens {
    /// Tokens for the identity that the environment names; nothing is requested yet.
    pub fn find(access: &Access) -> Result<Option<Tokens>, &'static str> {
        let identity = if cli::is_requested(access) { None } else { Identity::find(access)? };
        let source = match identity {
            Some(identity) => Some(Source::Server(identity)),
            None => Cli::find(access)?.map(Source::Cli),
        };
        Ok(source.map(|source| Tokens { source, access: access.clone(), state: Mutex::default() }))
    }

    /// The value of `Authorization` for a request now.
    pub fn get(&self, remote: &str) -> Result<Arc<str>, RemoteError> {
        // Other requests wait for the first one's token.
        let mut state = self.state();
        if let Some(token) = state.known.as_ref().filter(|token| token.until > Instant::now()) {
            return Ok(Arc::clone(&token.value));
        }
        state.obtained = Some(Instant::now());
        let token = self.source.token(&self.access, remote)?;
        Ok(Arc::clone(&state.known.insert(token).value))
    }

    /// The value that requests have had so far.
    pub fn known(&self) -> Option<Arc<str>> {
        self.state().known.as_ref().map(|token| Arc::clone(&token.value))
    }

    /// True if a request that was refused with this value may succeed with another one.
    pub fn renew(&self, refused: Option<&Arc<str>>) -> bool {
        let mut state = self.state();
        let is_same = state.known.as_ref().map(|token| &token.value) == refused;
        if is_same && state.obtained.is_some_and(|at| at.elapsed() < NOT_SOONER) {
            return false;
        }
        if is_same {
            state.known = None;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn token(&self, access: &Access, remote: &str) -> Result<Token, RemoteError> {
        let cli = match self {
            Source::Server(identity) => return identity.token(access, remote),
            Source::Cli(cli) => cli,
        };
        let token = cli.output(RESOURCE).and_then(|output| {
            let token = token_in(&output, SystemTime::now());
            token.map(Token::from).ok_or_else(|| "az prints no token".to_owned())
        });
        token.map_err(|why| RemoteError::Login { remote: remote.to_owned(), why })
    }
}

impl Identity {
    fn find(access: &Access) -> Result<Option<Identity>, &'static str> {
        let var = |name: &str| (access.var)(name);
        let client = var("AZURE_CLIENT_ID");
        if let (Some(tenant), Some(client)) = (var("AZURE_TENANT_ID"), client.clone()) {
            let authority = || authority(access, &tenant);
            if let Some(secret) = var("AZURE_CLIENT_SECRET") {
                return Ok(Some(Identity::Secret { authority: authority()?, client, secret }));
            }
            if let Some(file) = var("AZURE_FEDERATED_TOKEN_FILE") {
                return Ok(Some(Identity::Federated { authority: authority()?, client, file }));
            }
        }
        if let (Some(endpoint), Some(header)) = (var("IDENTITY_ENDPOINT"), var("IDENTITY_HEADER")) {
            let endpoint = Url::parse(&endpoint).map_err(|_| "IDENTITY_ENDPOINT is not a URL")?;
            return Ok(Some(Identity::Application { endpoint, header, client }));
        }
        let wanted = var("AZURE_TOKEN_CREDENTIALS").unwrap_or_default();
        if client.is_none() && !wanted.eq_ignore_ascii_case("ManagedIdentityCredential") {
            return Ok(None);
        }
        let base = var("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| INSTANCE.to_owned());
        let endpoint = Url::parse(&base).and_then(|base| base.join("/metadata/identity/oauth2/token"));
        let endpoint = endpoint.map_err(|_| "AZURE_POD_IDENTITY_AUTHORITY_HOST is not a URL")?;
        Ok(Some(Identity::Machine { endpoint, client }))
    }

    fn token(&self, access: &Access, remote: &str) -> Result<Token, RemoteError> {
        let failed = |why: String| RemoteError::Login { remote: remote.to_owned(), why };
        let (url, headers, form) = self.request().map_err(failed)?;
        let client = self.client(access, remote);
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let (url, body) = (url.as_str(), form.as_deref().map(str::as_bytes));
        let patience = access.patience.answer;
        let call = Call { doing: "Reading", what: "a token", method, url, headers, body, patience };
        // Passing failures are repeated with the request that needs the token.
        let answer = client.send(&call)?;
        let status = answer.status;
        if matches!(status, 429 | 500..) {
            return Err(client.refusal(&call, answer));
        }
        let text = client.read(&call, answer, MAX_ANSWER)?;
        match status {
            200 => token_in(&text, SystemTime::now())
                .map(Token::from)
                .ok_or_else(|| failed("its server sends no token".into())),
            _ => Err(failed(format!("its server answers with status {status}{}", code_in(&text)))),
        }
    }

    fn client(&self, access: &Access, remote: &str) -> Client {
        let soon = Duration::from_secs(1);
        match self {
            Identity::Secret { .. } | Identity::Federated { .. } => {
                Client::of_logins(remote.to_owned(), access)
            }
            Identity::Application { .. } => Client::direct(remote.to_owned(), access),
            Identity::Machine { .. } => {
                let patience = Patience { connect: soon, ..access.patience };
                Client::direct(remote.to_owned(), &Access { patience, ..access.clone() })
            }
        }
    }

    /// The URL, the headers, and the form of a request for a token.
    #[allow(clippy::type_complexity, reason = "the parts of a call that differ")]
    fn request(&self) -> Result<(Url, Vec<(&'static str, String)>, Option<String>), String> {
        match self {
            Identity::Secret { authority, client, secret } => {
                Ok(granted(authority, client, &[("client_secret", secret)]))
            }
            Identity::Federated { authority, client, file } => {
                let token = logins::token("AZURE_FEDERATED_TOKEN_FILE", file)?;
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                let proof = [("client_assertion_type", kind), ("client_assertion", &token)];
                Ok(granted(authority, client, &proof))
            }
            Identity::Application { endpoint, header, client } => {
                let url = queried(endpoint, "2019-08-01", client.as_deref());
                Ok((url, vec![("x-identity-header", header.clone())], None))
            }
            Identity::Machine { endpoint, client } => {
                let url = queried(endpoint, "2018-02-01", client.as_deref());
                Ok((url, vec![("metadata", "true".to_owned())], None))
            }
        }
    }
}

/// The URL at which a tenant's tokens are obtained.
fn authority(access: &Access, tenant: &str) -> Result<Url, &'static str> {
    let host = (access.var)("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned());
    let url = Url::parse(&host).map_err(|_| "AZURE_AUTHORITY_HOST is not a URL")?;
    if !is_private(&url) {
        return Err("AZURE_AUTHORITY_HOST is without TLS");
    }
    if tenant.is_empty() || !tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    {
        return Err("AZURE_TENANT_ID has other than letters, digits, - and .");
    }
    url.join(&format!("/{tenant}/oauth2/v2.0/token")).map_err(|_| "AZURE_AUTHORITY_HOST is not a URL")
}

/// The request of a client that proves itself in a form.
fn granted(
    authority: &Url,
    client: &str,
    proof: &[(&str, &str)],
) -> (Url, Vec<(&'static str, String)>, Option<String>) {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials").append_pair("client_id", client);
    form.append_pair("scope", &format!("{RESOURCE}.default")).extend_pairs(proof);
    let kind = ("content-type", "application/x-www-form-urlencoded".to_owned());
    (authority.clone(), vec![kind], Some(form.finish()))
}

/// The URL of a request to a server of managed identities.
fn queried(endpoint: &Url, version: &str, client: Option<&str>) -> Url {
    let mut url = endpoint.clone();
    url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", RESOURCE);
    if let Some(client) = client {
        url.query_pairs_mut().append_pair("client_id", client);
    }
    url
}

/// The value of `Authorization` in an answer, and how long it is used. The lifetime is a number or a string, and counted from now or
/// from 1970.
pub fn token_in(bytes: &[u8], now: SystemTime) -> Option<(String, Duration)> {
    #[derive(Deserialize)]
    struct Given {
        /// `az` prints the other name.
        #[serde(alias = "accessToken")]
        access_token: String,
        expires_in: Option<Number>,
        expires_on: Option<Number>,
    }
    let given: Given = serde_json::from_slice(bytes).ok()?;
    // Anything else is no header.
    if given.access_token.is_empty() || !given.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = || Some(given.expires_on.as_ref()?.value()?.saturating_sub(now));
    let life = given.expires_in.as_ref().and_then(Number::value).or_else(until).unwrap_or(SHORT_LIFE);
    // Slightly earlier than the token expires.
    let life = Duration::from_millis(life.min(24 * 3600) * 800);
    Some((format!("Bearer {}", given.access_token), life))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Number::Number(value) => Some(*value),
            Number::Text(text) => text.parse().ok(),
        }
    }
}

/// The error codes in an answer: `: invalid_client, AADSTS7000215`. The rest of it may repeat what was sent, which is why a code has
/// small letters or a number only.
pub fn code_in(bytes: &[u8]) -> String {
    #[derive(Deserialize, Default)]
    struct Refusal {
        #[serde(default)]
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let refusal: Refusal = serde_json::from_slice(bytes).unwrap_or_default();
    let is = |text: &str, known: fn(u8) -> bool| (1..40).contains(&text.len()) && text.bytes().all(known);
    let word = Some(refusal.error.as_str())
        .filter(|text| is(text, |byte| byte.is_ascii_lowercase() || byte == b'_'));
    let number = refusal.error_description.split(':').next().filter(|text| {
        text.strip_prefix("AADSTS").is_some_and(|number| is(number, |byte| byte.is_ascii_digit()))
    });
    let codes: Vec<&str> = word.into_iter().chain(number).collect();
    if codes.is_empty() { String::new() } else { format!(": {}", codes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requested(vars: &'static [(&'static str, &'static str)]) -> (String, Option<String>) {
        let identity = Identity::find(&Access::of(vars)).unwrap().unwrap();
        let (url, _, form) = identity.request().unwrap();
        (url.to_string(), form)
    }

    #[test]
    fn requests_are_those_that_microsoft_documents() {
        let (url, form) = requested(&[
            ("AZURE_TENANT_ID", "t-1"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", "s&e"),
        ]);
        assert_eq!(url, "https://login.microsoftonline.com/t-1/oauth2/v2.0/token");
        let expected = "grant_type=client_credentials&client_id=c&scope=https%3A%2F%2Fstorage.azure.com%2F.default&client_secret=s%26e";
        assert_eq!(form.as_deref(), Some(expected));
        let (url, form) = requested(&[("AZURE_CLIENT_ID", "c")]);
        assert_eq!(
            url,
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F&client_id=c"
        );
        assert_eq!(form, None);
        let (url, _) =
            requested(&[("IDENTITY_ENDPOINT", "http://127.0.0.1:9/msi?x=1"), ("IDENTITY_HEADER", "h")]);
        assert_eq!(
            url,
            "http://127.0.0.1:9/msi?x=1&api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com%2F"
        );
        requested(&[("AZURE_TOKEN_CREDENTIALS", "managedidentitycredential")]);
        assert!(
            Identity::find(&Access::of(&[("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_SECRET", "s")]))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn secrets_are_sent_to_acceptable_servers_only() {
        const LOGIN: [(&str, &str); 2] = [("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
        let tenant = |tenant| [LOGIN[0], LOGIN[1], ("AZURE_TENANT_ID", tenant)];
        let find = |vars: Vec<(&'static str, &'static str)>| Identity::find(&Access::of(vars.leak()));
        let host = |host| find([&tenant("t")[..], &[("AZURE_AUTHORITY_HOST", host)]].concat());
        assert!(host("http://127.0.0.1:9").is_ok() && host("https://login.microsoftonline.us/").is_ok());
        for bad in ["http://login.example.com", "x", ""] {
            assert!(host(bad).is_err(), "{bad}");
        }
        for bad in ["../x", "a/b", "a?b", ""] {
            assert!(find(tenant(bad).to_vec()).is_err(), "{bad}");
        }
    }

    #[test]
    fn answers_are_read_in_each_form() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let life = |text: &str| {
            let (value, life) = token_in(text.as_bytes(), now)?;
            assert_eq!(value, "Bearer t");
            Some(life.as_secs())
        };
        assert_eq!(life(r#"{"token_type":"Bearer","expires_in":3600,"access_token":"t"}"#), Some(2880));
        assert_eq!(life(r#"{"access_token":"t","expires_in":"3600","expires_on":"9"}"#), Some(2880));
        assert_eq!(life(r#"{"access_token":"t","expires_on":"1100"}"#), Some(80));
        assert_eq!(life(r#"{"access_token":"t","expires_on":"never"}"#), Some(48));
        let of_az = r#"{"accessToken":"t","expiresOn":"2026-11-29 22:00:00.000000","expires_on":1100,"tenant":"x","tokenType":"Bearer"}"#;
        assert_eq!(life(of_az), Some(80));
        assert_eq!(life(r#"{"accessToken":"t","expiresOn":"2026-11-29 22:00:00.000000"}"#), Some(48));
        assert_eq!(life(r#"{"token":"t"}"#), None);
        for no_header in ["", "t\\r\\nx: y", "t t", "\u{e4}"] {
            assert_eq!(life(&format!(r#"{{"access_token":"{no_header}"}}"#)), None, "{no_header}");
        }
        assert_eq!(life("nonsense"), None);
    }

    #[test]
    fn a_refused_token_is_replaced_at_most_every_half_minute() {
        let identity = Identity::find(&Access::of(&[("AZURE_CLIENT_ID", "c")])).unwrap().unwrap();
        let source = Source::Server(identity);
        let tokens = Tokens { source, access: Access::of(&[]), state: Mutex::default() };
        let token = |value: &str| Token { value: value.into(), until: Instant::now() + NOT_SOONER };
        let set = |value: &str, age: u64| {
            let obtained = Instant::now().checked_sub(Duration::from_secs(age));
            *tokens.state() = State { known: Some(token(value)), obtained };
        };
        set("old", 0);
        let old = tokens.known();
        assert!(!tokens.renew(old.as_ref()));
        set("old", 31);
        let old = tokens.known();
        assert!(tokens.renew(old.as_ref()) && tokens.known().is_none());
        set("new", 0);
        assert!(tokens.renew(old.as_ref()), "another request has replaced it");
        assert_eq!(tokens.known().as_deref(), Some("new"));
    }

    #[test]
    fn errors_have_the_servers_codes_only() {
        let said = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret 's3cret'. Trace"}"#;
        assert_eq!(code_in(said.as_bytes()), ": invalid_client, AADSTS7000215");
        for repeated in ["what is s3cret?", "s3cret", "S3CRET", "AADSTSs3cret"] {
            let said = format!(r#"{{"error":"{repeated}","error_description":"{repeated}: x"}}"#);
            assert_eq!(code_in(said.as_bytes()), "", "{repeated}");
        }
        assert_eq!(code_in(b"<html>"), "");
    }
}
