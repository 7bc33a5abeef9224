//! HTTP: one client for every kind of remote based on it, and a plain web server as a bucket.
//!
//! Servers answer range requests in many ways, so only two answers are accepted: 206 with exactly the range and its length, and 200
//! with exactly the whole, which is cached so that the rest of it is not fetched again. Bodies are requested without content encoding.
//! A login is sent to the host of the address only: redirects are followed without it.

use std::collections::VecDeque;
use std::io::Read as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use ureq::http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RETRY_AFTER,
};
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use url::Url;

use super::keyed::{Bucket, Listed};
use super::{Access, Network, Patience, netrc, retrying};
use crate::remote::error::RemoteError;

/// The `Authorization` header that a user sets for an `https://` remote, in full, as `Bearer …`.
const AUTHORIZATION_VARIABLE: &str = "HOLOFS_REMOTE_AUTHORIZATION";
/// The maximum length read of a server's error message.
const MAX_SAID: u64 = 4096;
/// The number of whole objects cached from servers that do not support ranges.
const KEPT_WHOLE: usize = 4;

/// Sends requests.
pub struct Client {
    agent: Agent,
    remote: String,
    patience: Patience,
    /// Objects that arrived whole although a part was requested, the newest last.
    whole: Mutex<VecDeque<(String, Arc<Vec<u8>>)>>,
}

/// One request.
pub struct Call<'c> {
    /// The operation, for messages.
    pub doing: &'static str,
    /// Its object, for messages.
    pub what: &'c str,
    /// The method.
    pub method: Method,
    /// The URL; it may contain a signature, so it is never displayed.
    pub url: &'c str,
    /// Additional headers.
    pub headers: Vec<(&'static str, String)>,
    /// The request body.
    pub body: Option<&'c [u8]>,
    /// The timeout for the bodies.
    pub patience: Duration,
}

/// The response.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    body: Body,
}

impl Answer {
    /// The body, as it comes.
    pub fn into_reader(self) -> impl std::io::Read {
        self.body.into_reader()
    }
}

/// How long the body is, if the server says so.
pub fn content_length(answer: &Answer) -> Option<u64> {
    header(&answer.headers, "content-length")?.parse().ok()
}

impl Client {
    /// A client for a remote that messages call `remote`.
    pub fn new(remote: String, access: &Access) -> Client {
        let patience = access.patience;
        static AUTHORITIES: OnceLock<RootCerts> = OnceLock::new();
        let authorities = AUTHORITIES.get_or_init(|| authorities(&access.network)).clone();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("holofs/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(patience.connect))
            .timeout_resolve(Some(patience.answer))
            .max_idle_connections_per_host(16)
            .proxy(Proxy::try_from_env().or_else(|| proxy(&access.network)))
            .tls_config(TlsConfig::builder().root_certs(authorities).build())
            .build();
        let agent = Agent::new_with_config(config);
        Client { agent, remote, patience, whole: Mutex::default() }
    }

    /// The timeouts.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// What messages call the remote.
    pub fn remote(&self) -> &str {
        &self.remote
    }

    /// Sends one request, once. Any status counts as an answer.
    pub fn send(&self, call: &Call<'_>) -> Result<Answer, RemoteError> {
        let mut request = Request::builder().method(call.method.clone()).uri(call.url);
        request = request.header(ACCEPT_ENCODING, "identity");
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        // The server must store the body before it can answer.
        let sent = match call.body {
            Some(body) => self.run(request.body(body), call.patience, call.patience / 2),
            None => self.run(request.body(()), call.patience, self.patience.answer.min(call.patience)),
        };
        let response = sent.map_err(|source| self.network(call, source))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        patience: Duration,
        answer: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request.map_err(ureq::Error::Http)?);
        let request = request
            .timeout_send_body(Some(patience))
            .timeout_recv_response(Some(answer))
            .timeout_recv_body(Some(patience));
        self.agent.run(request.build())
    }

    fn network(&self, call: &Call<'_>, source: ureq::Error) -> RemoteError {
        let (doing, what, remote) = (call.doing, call.what.to_owned(), self.remote.clone());
        RemoteError::Network { doing, what, remote, source: Box::new(source) }
    }

    /// The whole body, which must have at most `limit` bytes.
    pub fn read(&self, call: &Call<'_>, answer: Answer, limit: u64) -> Result<Vec<u8>, RemoteError> {
        let mut bytes = Vec::new();
        let read = answer.body.into_reader().take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| self.network(call, ureq::Error::Io(error)))?;
        match bytes.len() as u64 > limit {
            true => Err(self.odd(call, format!("it has more than {limit} bytes"), false)),
            false => Ok(bytes),
        }
    }

    /// The error for an unexpected answer.
    pub fn odd(&self, call: &Call<'_>, said: String, is_passing: bool) -> RemoteError {
        let (doing, what, remote) = (call.doing, call.what.to_owned(), self.remote.clone());
        RemoteError::Answer { doing, what, remote, said, retry_after: None, is_passing }
    }

    /// The error for a status.
    pub fn refusal(&self, call: &Call<'_>, answer: Answer) -> RemoteError {
        let (status, doing, what, remote) =
            (answer.status, call.doing, call.what.to_owned(), self.remote.clone());
        let retry_after = header(&answer.headers, RETRY_AFTER).and_then(|text| text.parse().ok());
        let said = format!("status {status}{}", said(call, answer));
        match status {
            401 | 403 => RemoteError::Denied { doing: said_of(doing), what, remote, said },
            404 | 410 => RemoteError::NotFound { what, remote },
            _ => {
                let is_passing = matches!(status, 408 | 425 | 429 | 500..);
                RemoteError::Answer { doing, what, remote, said, retry_after, is_passing }
            }
        }
    }

    /// A part of an object of `size` bytes, from an answer to a request for it.
    pub fn part(
        &self,
        call: &Call<'_>,
        answer: Answer,
        size: u64,
        range: &Range<u64>,
    ) -> Result<Vec<u8>, RemoteError> {
        let len = range.end.saturating_sub(range.start);
        let told = header(&answer.headers, CONTENT_RANGE).unwrap_or_default();
        let is_part = told.starts_with(&format!("bytes {}-{}/", range.start, range.end.saturating_sub(1)));
        match answer.status {
            206 if !is_part => Err(self.odd(call, format!("it sends the range {told:?}"), true)),
            // rclone answers 200 for a part.
            206 | 200 if is_part => {
                let bytes = self.read(call, answer, len)?;
                self.exactly(call, bytes, len)
            }
            200 => {
                let whole = self.read(call, answer, size)?;
                let whole = Arc::new(self.exactly(call, whole, size)?);
                log::debug!("{} sends {} whole, but a part was requested", self.remote, call.what);
                self.keep(call.what, &whole);
                Ok(cut(&whole, range))
            }
            _ => Err(self.refusal(call, answer)),
        }
    }

    fn exactly(&self, call: &Call<'_>, bytes: Vec<u8>, len: u64) -> Result<Vec<u8>, RemoteError> {
        match bytes.len() as u64 == len {
            true => Ok(bytes),
            false => Err(self.odd(call, format!("it sends {} bytes instead of {len}", bytes.len()), true)),
        }
    }

    fn keep(&self, what: &str, whole: &Arc<Vec<u8>>) {
        let mut kept = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(name, _)| name != what);
        kept.push_back((what.to_owned(), Arc::clone(whole)));
        while kept.len() > KEPT_WHOLE {
            kept.pop_front();
        }
    }

    /// A part of an object that arrived whole before.
    pub fn kept(&self, what: &str, range: &Range<u64>) -> Option<Vec<u8>> {
        let kept = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(name, _)| name == what).map(|(_, whole)| cut(whole, range))
    }

    /// Drops an object that arrived whole before and was invalid.
    pub fn forget(&self, what: &str) {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| name != what);
    }
}

fn cut(whole: &[u8], range: &Range<u64>) -> Vec<u8> {
    let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    bounds.and_then(|(start, end)| whole.get(start..end)).unwrap_or_default().to_vec()
}

fn said_of(doing: &'static str) -> &'static str {
    match doing {
        "Reading" => "reading",
        "Writing" => "writing",
        "Removing" => "removing",
        "Listing" => "listing",
        _ => "access to",
    }
}

/// The server's error message, if it is a short text.
fn said(call: &Call<'_>, answer: Answer) -> String {
    let kind = header(&answer.headers, CONTENT_TYPE).unwrap_or_default();
    let length: Option<u64> = header(&answer.headers, CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let is_text = ["json", "text/plain", "xml"].iter().any(|word| kind.contains(word));
    if call.method == Method::HEAD
        || answer.status == 416
        || !is_text
        || length.is_none_or(|len| len > MAX_SAID)
    {
        return String::new();
    }
    let mut text = Vec::new();
    if answer.body.into_reader().take(MAX_SAID).read_to_end(&mut text).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text);
    let plain: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    format!(": {plain}")
}

/// The text of a header.
pub fn header(headers: &HeaderMap, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The proxy of the settings. One that cannot be used is reported, and not used.
fn proxy(network: &Network) -> Option<Proxy> {
    let url = network.proxy.as_deref()?;
    let built = Proxy::new(url).and_then(|plain| {
        let mut proxy = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
        if let Some(user) = plain.username() {
            proxy = proxy.username(user);
        }
        if let Some(password) = plain.password() {
            proxy = proxy.password(password);
        }
        let hosts = network.no_proxy.split(',').map(str::trim).filter(|host| !host.is_empty());
        hosts.fold(proxy, ureq::ProxyBuilder::no_proxy).build()
    });
    // The URL may contain a password.
    built.map_err(|_| log::warn!("The proxy in settings.yaml is no valid address: it is not used")).ok()
}

/// The certificate authorities that this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` override them), and those of the settings; a
/// machine without any, such as a bare container, gets Mozilla's.
fn authorities(network: &Network) -> RootCerts {
    let mut found = rustls_native_certs::load_native_certs();
    if let Some(bundle) = &network.ca_bundle {
        let own = rustls_native_certs::load_certs_from_paths(Some(bundle), None);
        found.errors.extend(own.errors);
        if found.certs.is_empty() && !own.certs.is_empty() {
            log::warn!("This machine has no authorities: only those in {} are trusted", bundle.display());
        }
        found.certs.extend(own.certs);
    }
    for error in &found.errors {
        log::warn!("An authority of this machine cannot be read: {error}");
    }
    let certs: Vec<Certificate<'static>> =
        found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    if certs.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certs) }
}

/// The value of an `Authorization` header.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// The value of a `Range` header for a range that is not empty.
pub fn bytes_range(range: &Range<u64>) -> (&'static str, String) {
    ("range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
}

/// A directory on a web server.
pub struct Site {
    base: Url,
    client: Client,
    authorization: Option<String>,
}

impl Site {
    /// The directory at `base`.
    pub fn new(base: Url, shown: String, access: &Access) -> Site {
        let host = base.host_str().unwrap_or_default();
        let from_netrc = || {
            let file = (access.var)("NETRC")
                .or_else(|| (access.var)("HOME").map(|home| format!("{home}/.netrc")))?;
            let (user, password) = netrc::login(&std::fs::read_to_string(file).ok()?, host)?;
            Some(basic(&user, &password))
        };
        let authorization = (access.var)(AUTHORIZATION_VARIABLE).or_else(from_netrc);
        Site { base, client: Client::new(shown, access), authorization }
    }

    fn url(&self, key: &str) -> String {
        format!("{}/{key}", self.base.as_str().trim_end_matches('/'))
    }

    fn call<'c>(&self, doing: &'static str, method: Method, key: &'c str, url: &'c str) -> Call<'c> {
        let patience = self.client.patience().object;
        let headers = self.authorization.iter().map(|value| (AUTHORIZATION_NAME, value.clone())).collect();
        Call { doing, what: key, method, url, headers, body: None, patience }
    }
}

/// The name of the header with a login.
pub const AUTHORIZATION_NAME: &str = "authorization";

impl Bucket for Site {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let url = self.url(key);
        let call = self.call("Reading", Method::GET, key, &url);
        retrying(|| {
            let answer = self.client.send(&call)?;
            match answer.status {
                200 => self.client.read(&call, answer, limit).map(Some),
                404 | 410 => Ok(None),
                _ => Err(self.client.refusal(&call, answer)),
            }
        })
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        let url = self.url(key);
        let call = self.call("Looking for", Method::HEAD, key, &url);
        retrying(|| size_of(&self.client, &call))
    }

    fn range(&self, key: &str, size: u64, range: Range<u64>) -> Result<Vec<u8>, RemoteError> {
        if let Some(part) = self.client.kept(key, &range) {
            return Ok(part);
        }
        let url = self.url(key);
        let mut call = self.call("Reading", Method::GET, key, &url);
        call.headers.push(bytes_range(&range));
        call.patience = self.client.patience().piece;
        retrying(|| {
            let answer = self.client.send(&call)?;
            self.client.part(&call, answer, size, &range)
        })
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let url = self.url(key);
        let call = Call { body: Some(bytes), ..self.call("Writing", Method::PUT, key, &url) };
        retrying(|| done(&self.client, &call))
    }

    fn list(&self, _: &str) -> Result<Vec<Listed>, RemoteError> {
        Err(RemoteError::Unsupported { what: "list what it has", remote: self.client.remote().to_owned() })
    }

    fn remove(&self, key: &str) -> Result<(), RemoteError> {
        let url = self.url(key);
        let call = self.call("Removing", Method::DELETE, key, &url);
        retrying(|| done(&self.client, &call))
    }
}

/// The size in the answer to a HEAD request.
pub fn size_of(client: &Client, call: &Call<'_>) -> Result<Option<u64>, RemoteError> {
    let answer = client.send(call)?;
    match answer.status {
        200 => {
            let length = header(&answer.headers, CONTENT_LENGTH).and_then(|text| text.parse().ok());
            length.map(Some).ok_or_else(|| client.odd(call, "it reports no length".to_owned(), false))
        }
        404 | 410 => Ok(None),
        _ => Err(client.refusal(call, answer)),
    }
}

/// A request of which only success matters.
pub fn done(client: &Client, call: &Call<'_>) -> Result<(), RemoteError> {
    let answer = client.send(call)?;
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(client.refusal(call, answer)) }
}
