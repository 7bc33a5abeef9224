//! Azure's blob storage: each request is signed with the key of the account, or has a shared access signature (SAS) in its query, or
//! a token of Entra ID.
//!
//! A signature of the first kind and a token are in a header, which is never sent along with a redirect. A SAS is part of the URL,
//! which is never displayed. Without any, requests are anonymous: for public containers. A token that is refused is replaced, at
//! most every 30 seconds.

mod account;
mod cli;
mod token;

use std::ops::Range;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use instant_xml::FromXml;
use jiff::Timestamp;
use jiff::fmt::rfc2822::{DateTimeParser, DateTimePrinter};
use sha2::Sha256;
use ureq::http::Method;
use url::Url;

use super::http::{AUTHORIZATION_NAME, Answer, Call, Client, done, size_of, value_in};
use super::keyed::{Bucket, Listed};
use super::{Access, listing, retrying, retrying_for};
use crate::remote::error::RemoteError;
use account::{Account, Login};

pub use token::{code_in, token_in};

/// The version of the protocol: ranges, listings and blobs of this size need no later one.
const VERSION: &str = "2021-12-02";
/// The maximum size of a page of a listing: it has at most 5,000 blobs.
const MAX_LISTING: u64 = 16 << 20;

/// A container and a prefix of names.
pub struct Azure {
    account: Account,
    container: String,
    prefix: String,
    client: Client,
}

impl Azure {
    /// The container of that name, in the account that the variables and the configuration of Azure's tools name.
    pub fn new(container: &str, prefix: &str, shown: String, access: &Access) -> Result<Azure, RemoteError> {
        let login = |why: String| RemoteError::Login { remote: shown.clone(), why };
        let account = Account::find(access).map_err(|why| login(why.to_owned()))?;
        let client = Client::new(shown, access);
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Azure { account, container: container.to_owned(), prefix, client })
    }

    /// The URL of a blob, or of the container; with the SAS if that is the login.
    fn url(&self, key: Option<&str>, query: &[(&str, &str)]) -> Url {
        let mut url = self.account.endpoint.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(&self.container);
            let full = key.map(|key| format!("{}{key}", self.prefix));
            path.extend(full.iter().flat_map(|full| full.split('/')));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        if let Login::Sas(sas) = &self.account.login {
            let joined = url.query().map_or_else(|| sas.clone(), |own| format!("{own}&{sas}"));
            url.set_query(Some(&joined));
        }
        url
    }

    fn call<'c>(&self, doing: &'static str, method: Method, what: &'c str, url: &'c Url) -> Call<'c> {
        let patience = self.client.patience().object;
        Call { doing, what, method, url: url.as_str(), headers: Vec::new(), body: None, patience }
    }

    /// Adds the headers that every request has, with a signature or a token that is valid now.
    fn signed<'c>(&self, call: &Call<'c>) -> Result<Call<'c>, RemoteError> {
        let mut call = call.copy();
        call.headers.push(("x-ms-date", date(Timestamp::now())));
        call.headers.push(("x-ms-version", VERSION.to_owned()));
        let authorization = match &self.account.login {
            Login::Key(key) => {
                let name = &self.account.name;
                format!("SharedKey {name}:{}", sign(key, &to_sign(name, &call)))
            }
            Login::Tokens(tokens) => tokens.get(self.client.remote())?.to_string(),
            Login::Sas(_) | Login::Anonymous => return Ok(call),
        };
        call.headers.push((AUTHORIZATION_NAME, authorization));
        Ok(call)
    }

    fn send(&self, call: &Call<'_>) -> Result<Answer, RemoteError> {
        self.client.send(&self.signed(call)?)
    }

    /// Runs `work`; once more if its token was refused and there is another one.
    fn logged_in<T>(&self, work: impl Fn() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
        let Login::Tokens(tokens) = &self.account.login else { return work() };
        let known = tokens.known();
        match work() {
            Err(RemoteError::Denied { .. }) if tokens.renew(known.as_ref()) => work(),
            outcome => outcome,
        }
    }

    fn page(&self, prefix: &str, from: Option<&str>) -> Result<Page, RemoteError> {
        let full = format!("{}{prefix}", self.prefix);
        let mut query = vec![("restype", "container"), ("comp", "list"), ("prefix", full.as_str())];
        query.extend(from.map(|from| ("marker", from)));
        let url = self.url(None, &query);
        let call = self.call("Listing", Method::GET, prefix, &url);
        let listed = || {
            let answer = self.send(&call)?;
            if answer.status != 200 {
                return Err(self.of_container(self.client.refusal(&call, answer)));
            }
            let body = self.client.read(&call, answer, MAX_LISTING)?;
            let odd = |why| self.client.odd(&call, format!("its listing cannot be read: {why}"), false);
            page_in(&body).map_err(odd)
        };
        self.logged_in(|| retrying(listed))
    }

    /// Where a blob need not exist, it is the container that does not.
    fn of_container(&self, error: RemoteError) -> RemoteError {
        match error {
            RemoteError::NotFound { remote, .. } => {
                RemoteError::NotFound { what: format!("container {}", self.container), remote }
            }
            other => other,
        }
    }
}

impl Bucket for Azure {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let url = self.url(Some(key), &[]);
        let call = self.call("Reading", Method::GET, key, &url);
        let value = || value_in(&self.client, &call, self.send(&call)?, limit);
        self.logged_in(|| retrying(value))
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        let url = self.url(Some(key), &[]);
        let call = self.call("Looking for", Method::HEAD, key, &url);
        self.logged_in(|| retrying(|| size_of(&self.client, &self.signed(&call)?)))
    }

    fn range(
        &self,
        key: &str,
        size: u64,
        range: Range<u64>,
        limit: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let url = self.url(Some(key), &[]);
        let part = |patience| {
            let call = Call { patience, ..self.call("Reading", Method::GET, key, &url) };
            self.client.range(call, size, &range, &|call| self.send(call))
        };
        self.logged_in(|| retrying_for(limit, part))
    }

    fn forget(&self, key: &str) {
        self.client.forget(key);
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let url = self.url(Some(key), &[]);
        let mut call = Call { body: Some(bytes), ..self.call("Writing", Method::PUT, key, &url) };
        call.headers.push(("content-type", "application/octet-stream".to_owned()));
        call.headers.push(("x-ms-blob-type", "BlockBlob".to_owned()));
        let written = || done(&self.client, &self.signed(&call)?);
        self.logged_in(|| retrying(written)).map_err(|error| self.of_container(error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, RemoteError> {
        let listed = |Blob { name, properties }: Blob| {
            let key = name.strip_prefix(&self.prefix)?.to_owned();
            let written = properties.written.as_deref().and_then(time_of).unwrap_or_else(SystemTime::now);
            Some(Listed { key, size: properties.size.unwrap_or_default(), written })
        };
        let page = |from: Option<&str>| {
            let page = self.page(prefix, from)?;
            let next = page.next.filter(|next| !next.is_empty());
            Ok((page.blobs.found.into_iter().filter_map(listed).collect(), next))
        };
        listing::all(page, |said| self.client.bad_listing(prefix, said))
    }

    fn remove(&self, key: &str) -> Result<(), RemoteError> {
        let url = self.url(Some(key), &[]);
        let call = self.call("Removing", Method::DELETE, key, &url);
        match self.logged_in(|| retrying(|| done(&self.client, &self.signed(&call)?))) {
            Err(RemoteError::NotFound { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}

/// A page of a listing.
#[derive(Debug, FromXml)]
#[xml(rename = "EnumerationResults")]
pub struct Page {
    blobs: Blobs,
    #[xml(rename = "NextMarker")]
    next: Option<String>,
}

#[derive(Debug, FromXml)]
#[xml(rename = "Blobs")]
struct Blobs {
    found: Vec<Blob>,
}

#[derive(Debug, FromXml)]
#[xml(rename = "Blob")]
struct Blob {
    #[xml(rename = "Name")]
    name: String,
    properties: Properties,
}

#[derive(Debug, FromXml)]
#[xml(rename = "Properties")]
struct Properties {
    #[xml(rename = "Last-Modified")]
    written: Option<String>,
    #[xml(rename = "Content-Length")]
    size: Option<u64>,
}

impl Page {
    /// The names of the blobs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.blobs.found.iter().map(|blob| blob.name.as_str())
    }
}

/// Parses a page of a listing, which begins with a mark of its encoding; or says what is wrong with it.
pub fn page_in(bytes: &[u8]) -> Result<Page, String> {
    let text = String::from_utf8_lossy(bytes);
    instant_xml::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string())
}

/// A time as the protocol writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(time: Timestamp) -> String {
    // Only years beyond 9999 cannot be written.
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

/// Parses such a time; `None` if it is unreadable.
fn time_of(text: &str) -> Option<SystemTime> {
    DateTimeParser::new().parse_timestamp(text).ok().and_then(listing::since_1970)
}

/// The text that is signed for a request.
fn to_sign(account: &str, call: &Call<'_>) -> String {
    let header = |name: &str| {
        call.headers.iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value.as_str())
    };
    let length = call.body.map_or(0, <[u8]>::len);
    let length = if length == 0 { String::new() } else { length.to_string() };
    // Empty lines are headers that are never sent: an encoding, a digest, another date, and four conditions.
    let mut text = format!(
        "{}\n\n\n{length}\n\n{}\n\n\n\n\n\n{}\n",
        call.method,
        header("content-type"),
        header("range")
    );
    let mut own: Vec<_> = call.headers.iter().filter(|(name, _)| name.starts_with("x-ms-")).collect();
    own.sort();
    own.iter().for_each(|(name, value)| text.extend([name, ":", value.trim(), "\n"]));
    let Ok(url) = Url::parse(call.url) else { return text };
    text.extend(["/", account, url.path()]);
    let mut query: Vec<(String, String)> =
        url.query_pairs().map(|(name, value)| (name.to_lowercase(), value.into_owned())).collect();
    query.sort();
    query.iter().for_each(|(name, value)| text.extend(["\n", name, ":", value]));
    text
}

fn sign(key: &[u8], text: &str) -> String {
    // A key of any length is valid.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'c>(method: Method, url: &'c str, headers: &[(&'static str, &str)]) -> Call<'c> {
        let headers = headers.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        Call { doing: "Reading", what: "x", method, url, headers, body: None, patience: Duration::ZERO }
    }

    /// The examples in "Authorize with Shared Key", as Microsoft publishes them.
    #[test]
    fn the_signed_text_is_that_of_the_published_examples() {
        let common = [("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"), ("x-ms-version", "2015-02-21")];
        let shown =
            "https://myaccount.blob.core.windows.net/mycontainer?comp=metadata&restype=container&timeout=20";
        assert_eq!(
            to_sign("myaccount", &call(Method::GET, shown, &common)),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
        );
        let put = [&common[..], &[("content-type", "text/plain"), ("x-ms-blob-type", "BlockBlob")]].concat();
        let url = "https://myaccount.blob.core.windows.net/mycontainer/hello.txt";
        let put = Call { body: Some(b"hello world"), ..call(Method::PUT, url, &put) };
        assert_eq!(
            to_sign("myaccount", &put),
            "PUT\n\n\n11\n\ntext/plain\n\n\n\n\n\n\nx-ms-blob-type:BlockBlob\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n/myaccount/mycontainer/hello.txt"
        );
        let part = call(Method::GET, url, &[("range", "bytes=0-9")]);
        assert_eq!(
            to_sign("myaccount", &part),
            "GET\n\n\n\n\n\n\n\n\n\n\nbytes=0-9\n/myaccount/mycontainer/hello.txt"
        );
    }

    /// The second test case of RFC 4231, as base64.
    #[test]
    fn signatures_are_those_of_hmac_sha256() {
        assert_eq!(
            sign(b"Jefe", "what do ya want for nothing?"),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
        );
        assert_eq!(date(Timestamp::from_second(784_111_777).unwrap()), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn listings_are_read() {
        let text = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://x/\" ContainerName=\"c\"><Prefix>p/</Prefix><Blobs>\
            <Blob><Name>p/v1/refs/a&amp;b</Name><Properties><Creation-Time>Fri, 26 Jun 2015 23:39:12 GMT</Creation-Time><Last-Modified>Fri, 26 Jun 2015 23:39:12 GMT</Last-Modified><Etag>0x8</Etag><Content-Length>7</Content-Length><Content-MD5 /></Properties><OrMetadata /></Blob>\
            <Blob><Name>x</Name><Properties></Properties></Blob></Blobs><NextMarker>2!4</NextMarker></EnumerationResults>";
        let page = page_in(text.as_bytes()).unwrap();
        assert_eq!(page.names().collect::<Vec<_>>(), ["p/v1/refs/a&b", "x"]);
        assert_eq!((page.next.as_deref(), page.blobs.found[0].properties.size), (Some("2!4"), Some(7)));
        let written = page.blobs.found[0].properties.written.as_deref().and_then(time_of).unwrap();
        assert_eq!(written, SystemTime::UNIX_EPOCH + Duration::from_secs(1_435_361_952));
        let empty = page_in(b"<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>").unwrap();
        assert_eq!((empty.names().count(), empty.next.unwrap_or_default()), (0, String::new()));
        for bad in ["", "<", "<Blobs/>", "<EnumerationResults><Blobs><Blob/></Blobs></EnumerationResults>"] {
            assert!(page_in(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(["yesterday", "Fri, 26 Jun 1959 23:39:12 GMT"].map(time_of), [None; 2]);
    }
}
