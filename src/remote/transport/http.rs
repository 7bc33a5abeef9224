//! HTTP: one client for every kind of remote based on it, and a plain web server as a bucket.
//!
//! Servers answer range requests in many ways, so only two contents are accepted: exactly the range with its length, and exactly the
//! whole, which is cached so that the rest of it is not fetched again. Either may come with status 200 or 206. Bodies
//! are requested without content encoding. A login is sent to the host of the address only: redirects are followed without it.

mod network;
mod said;

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, LOCATION, RETRY_AFTER};
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body, Proxy};
use url::Url;

use super::keyed::{Bucket, Listed};
use super::{Access, Patience, logins, netrc, retrying, retrying_for};
use crate::remote::error::RemoteError;
use network::{agent, proxy};
use said::said;

/// The `Authorization` header that a user sets for an `https://` remote, in full, as `Bearer …`.
const AUTHORIZATION_VARIABLE: &str = "HOLOFS_REMOTE_AUTHORIZATION";
/// The number of whole objects cached from servers that do not support ranges.
const KEPT_WHOLE: usize = 4;
/// The maximum number of redirects of one request.
const MAX_REDIRECTS: u32 = 5;

/// Sends requests.
pub struct Client {
    agent: Agent,
    remote: String,
    patience: Patience,
    /// Objects that arrived whole although a part was requested, the newest last.
    whole: Mutex<VecDeque<(String, Arc<Vec<u8>>)>>,
    /// Where the server sent requests for parts of an object: usually to a storage service, by an address that expires.
    moved: Mutex<HashMap<String, Url>>,
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

impl<'c> Call<'c> {
    /// The same request again.
    pub fn copy(&self) -> Call<'c> {
        Call { method: self.method.clone(), headers: self.headers.clone(), ..*self }
    }

    fn has_range(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == RANGE_NAME)
    }
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
        Client::by(proxy(&access.network), true, remote, access)
    }

    /// A client for a server of logins: what it is sent is for this server alone, so redirects are not followed.
    pub fn of_logins(remote: String, access: &Access) -> Client {
        Client::by(proxy(&access.network), false, remote, access)
    }

    /// The same for a server of this machine: no proxy can reach it, or should see logins.
    pub fn direct(remote: String, access: &Access) -> Client {
        Client::by(None, false, remote, access)
    }

    fn by(proxy: Option<Proxy>, is_led: bool, remote: String, access: &Access) -> Client {
        let (agent, patience) = (agent(proxy, is_led, access), access.patience);
        Client { agent, remote, patience, whole: Mutex::default(), moved: Mutex::default() }
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
            Some(body) => self.run(request.body(body), call, call.patience / 2),
            None => self.run(request.body(()), call, self.patience.answer.min(call.patience)),
        };
        let response = sent.map_err(|source| self.network(call, source))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        request: Result<Request<B>, ureq::http::Error>,
        call: &Call<'_>,
        answer: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let patience = call.patience;
        let mut request = self.agent.configure_request(request.map_err(ureq::Error::Http)?);
        if call.has_range() {
            // Redirects of parts are remembered: see `range`.
            request = request.max_redirects(0).max_redirects_will_error(false);
        }
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
        self.unusable(call.doing, call.what, said, is_passing)
    }

    /// The error for a listing that is unusable as a whole.
    pub fn bad_listing(&self, what: &str, said: String) -> RemoteError {
        self.unusable("Listing", what, said, false)
    }

    fn unusable(&self, doing: &'static str, what: &str, said: String, is_passing: bool) -> RemoteError {
        let (what, remote) = (what.to_owned(), self.remote.clone());
        RemoteError::Answer { doing, what, remote, said, status: None, retry_after: None, is_passing }
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
                let status = Some(status);
                RemoteError::Answer { doing, what, remote, said, status, retry_after, is_passing }
            }
        }
    }

    /// A part of an object of `size` bytes. `call` requests all of it, and `send` sends requests to the address of the remote, with
    /// a login if one is needed.
    ///
    /// A redirect is followed without the login, and remembered, so that the next request for this object takes one round trip. When
    /// its target refuses a request, the address has expired, and the remote is asked again.
    pub fn range(
        &self,
        mut call: Call<'_>,
        size: u64,
        range: &Range<u64>,
        send: &dyn Fn(&Call<'_>) -> Result<Answer, RemoteError>,
    ) -> Result<Vec<u8>, RemoteError> {
        if let Some(part) = self.kept(call.what, range) {
            return Ok(part);
        }
        let plain = Call { headers: vec![bytes_range(range)], method: call.method.clone(), ..call };
        // Looked up first: the lock must not be held while the request runs.
        let known = self.moved().get(call.what).cloned();
        if let Some(target) = known {
            let answer = self.send(&Call { url: target.as_str(), ..plain.copy() });
            match answer {
                Ok(answer) if matches!(answer.status, 200 | 206 | 429 | 500..) => {
                    return self.part(&plain, answer, size, range);
                }
                // It has expired, or is gone: the remote knows another.
                _ => drop(self.moved().remove(call.what)),
            }
        }
        call.headers.push(bytes_range(range));
        let mut answer = send(&call)?;
        let mut at = Url::parse(call.url).ok();
        for _ in 0..MAX_REDIRECTS {
            let (true, Some(from)) = (matches!(answer.status, 301 | 302 | 303 | 307 | 308), &at) else {
                break;
            };
            let target = header(&answer.headers, LOCATION).and_then(|place| from.join(place).ok());
            let Some(target) = target.filter(|target| may_lead(from, target)) else {
                return Err(self.odd(&call, "it redirects to no acceptable address".to_owned(), false));
            };
            answer = self.send(&Call { url: target.as_str(), ..plain.copy() })?;
            if answer.status == 206 {
                self.moved().insert(call.what.to_owned(), target.clone());
            }
            at = Some(target);
        }
        self.part(&call, answer, size, range)
    }

    fn moved(&self) -> MutexGuard<'_, HashMap<String, Url>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of an object of `size` bytes, from an answer to a request for it.
    fn part(
        &self,
        call: &Call<'_>,
        answer: Answer,
        size: u64,
        range: &Range<u64>,
    ) -> Result<Vec<u8>, RemoteError> {
        let len = range.end.saturating_sub(range.start);
        let sent_range = header(&answer.headers, CONTENT_RANGE).unwrap_or_default();
        let sends = |start: u64, end: u64| {
            sent_range.starts_with(&format!("bytes {start}-{}/", end.saturating_sub(1)))
        };
        // s3rver sends the whole object for its first byte.
        let (is_part, is_whole) = (sends(range.start, range.end), sends(0, size));
        match answer.status {
            206 if !is_part && !is_whole => {
                Err(self.odd(call, format!("it sends the range {sent_range:?}"), true))
            }
            // rclone answers 200 for a part.
            206 | 200 if is_part => {
                let bytes = self.read(call, answer, len)?;
                self.exactly(call, bytes, len)
            }
            200 | 206 => {
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
    fn kept(&self, what: &str, range: &Range<u64>) -> Option<Vec<u8>> {
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

/// The text of a header.
pub fn header(headers: &HeaderMap, name: impl ureq::http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The value of an `Authorization` header.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// A redirect never leads away from TLS.
fn may_lead(from: &Url, to: &Url) -> bool {
    to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http")
}

/// The name of the header that requests a part.
const RANGE_NAME: &str = "range";

/// The `Range` header for a range that is not empty.
fn bytes_range(range: &Range<u64>) -> (&'static str, String) {
    (RANGE_NAME, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
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
            let (user, password) = netrc::login(&logins::settings(Path::new(&file))?, host)?;
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
                410 => Ok(None),
                _ => value_in(&self.client, &call, answer, limit),
            }
        })
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        let url = self.url(key);
        let call = self.call("Looking for", Method::HEAD, key, &url);
        retrying(|| size_of(&self.client, &call))
    }

    fn range(
        &self,
        key: &str,
        size: u64,
        range: Range<u64>,
        limit: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let url = self.url(key);
        retrying_for(limit, |patience| {
            let call = Call { patience, ..self.call("Reading", Method::GET, key, &url) };
            self.client.range(call, size, &range, &|call| self.client.send(call))
        })
    }

    fn forget(&self, key: &str) {
        self.client.forget(key);
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

/// The value in the answer to a request for all of it, at most `limit` bytes; `None` if it does not exist.
pub fn value_in(
    client: &Client,
    call: &Call<'_>,
    answer: Answer,
    limit: u64,
) -> Result<Option<Vec<u8>>, RemoteError> {
    match answer.status {
        200 => client.read(call, answer, limit).map(Some),
        404 => Ok(None),
        _ => Err(client.refusal(call, answer)),
    }
}

/// The size in the answer to a HEAD request.
pub fn size_of(client: &Client, call: &Call<'_>) -> Result<Option<u64>, RemoteError> {
    let answer = client.send(call)?;
    match answer.status {
        200 => content_length(&answer)
            .map(Some)
            .ok_or_else(|| client.odd(call, "it reports no length".to_owned(), false)),
        404 | 410 => Ok(None),
        _ => Err(client.refusal(call, answer)),
    }
}

/// A request of which only success matters.
pub fn done(client: &Client, call: &Call<'_>) -> Result<(), RemoteError> {
    let answer = client.send(call)?;
    if (200..300).contains(&answer.status) { Ok(()) } else { Err(client.refusal(call, answer)) }
}
