//! S3 and compatible servers: signed URLs, so that neither a proxy nor a redirect ever sees a key.
//!
//! The endpoint, the region and the keys come from where the AWS tools look: `AWS_*` variables, `~/.aws` profiles, a web identity (as
//! in Kubernetes and CI), the container's or the instance's role. After a refusal that may mean expired keys they are looked up again,
//! at most every 30 seconds. Without any keys, requests are not signed: for public buckets.

mod keys;

use std::borrow::Cow;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rusty_s3::actions::list_objects_v2::ListObjectsContent;
use rusty_s3::actions::{ListObjectsV2, ListObjectsV2Response};
use rusty_s3::{Bucket as S3Bucket, Credentials, S3Action, UrlStyle};
use ureq::http::Method;
use url::Url;

use super::http::{Call, Client, done, size_of, value_in};
use super::keyed::{Bucket, Listed};
use super::{Access, listing, retrying, retrying_for};
use crate::remote::error::RemoteError;
use keys::Keys;

pub use keys::{exchanged_in, role_in};

/// The validity of a signed URL: a request is sent at once.
const GOOD_FOR: Duration = Duration::from_secs(900);
/// The maximum size of a page of a listing.
const MAX_LISTING: u64 = 16 << 20;

/// The namespace of listings, and a former one that some servers still use.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
const OLD_NAMESPACE: &str = "http://doc.s3.amazonaws.com/2006-03-01/";

/// A bucket and a key prefix.
pub struct S3 {
    bucket: S3Bucket,
    prefix: String,
    client: Client,
    keys: Keys,
}

impl S3 {
    /// The bucket of that name.
    pub fn new(
        name: &str,
        prefix: &str,
        endpoint: Option<&str>,
        shown: String,
        access: &Access,
    ) -> Result<S3, RemoteError> {
        let var = |name: &str| (access.var)(name);
        let region = var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION"));
        let region = region.or_else(|| keys::profile_setting(access, "region"));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let own = var("AWS_ENDPOINT_URL_S3").or_else(|| var("AWS_ENDPOINT_URL"));
        let given =
            own.or_else(|| keys::profile_setting(access, "endpoint_url")).or(endpoint.map(str::to_owned));
        let style = if given.is_some() { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let text = given.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let wrong = |why: String| RemoteError::Login { remote: shown.clone(), why };
        let url = Url::parse(&text)
            .map_err(|error| wrong(format!("the endpoint {text:?} is not a URL: {error}")))?;
        let bucket = S3Bucket::new(url, style, name.to_owned(), region)
            .map_err(|error| wrong(format!("no bucket {name:?} at {text:?}: {error}")))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(S3 { bucket, prefix, client: Client::new(shown, access), keys: Keys::new(access.clone()) })
    }

    /// Runs `work` with the keys; once more with new ones if these seem to be refused.
    fn with_keys<T>(
        &self,
        work: impl Fn(Option<&Credentials>) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        self.with_keys_by(|keys| retrying(|| work(keys)))
    }

    /// The same, where `work` itself tries again after passing errors.
    fn with_keys_by<T>(
        &self,
        work: impl Fn(Option<&Credentials>) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let failed = |why: String| RemoteError::Login { remote: self.client.remote().to_owned(), why };
        let keys = self.keys.get().map_err(failed)?;
        match work(keys.as_deref()) {
            Err(error) if is_about_keys(&error) => match self.keys.renew(keys.as_deref()).map_err(failed)? {
                Some(renewed) => work(Some(&renewed)),
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn call<'c>(&self, doing: &'static str, method: Method, what: &'c str, url: &'c Url) -> Call<'c> {
        let patience = self.client.patience().object;
        Call { doing, what, method, url: url.as_str(), headers: Vec::new(), body: None, patience }
    }

    fn page(&self, prefix: &str, from: Option<&str>) -> Result<ListObjectsV2Response, RemoteError> {
        self.with_keys(|keys| {
            let mut action = ListObjectsV2::new(&self.bucket, keys);
            action.with_prefix(Cow::Owned(self.key(prefix)));
            if let Some(from) = from {
                action.with_continuation_token(from);
            }
            let url = action.sign(GOOD_FOR);
            let call = self.call("Listing", Method::GET, prefix, &url);
            let answer = self.client.send(&call)?;
            if answer.status != 200 {
                return Err(self.client.refusal(&call, answer));
            }
            let body = self.client.read(&call, answer, MAX_LISTING)?;
            let text = String::from_utf8_lossy(&body).replace(OLD_NAMESPACE, NAMESPACE);
            let parsed = ListObjectsV2::parse_response(&text);
            parsed.map_err(|error| {
                self.client.odd(&call, format!("its listing cannot be read: {error}"), false)
            })
        })
    }
}

/// Expired keys cause 401, 403 or 400.
fn is_about_keys(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Denied { .. } | RemoteError::Answer { status: Some(400), .. })
}

impl Bucket for S3 {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let full = self.key(key);
        self.with_keys(|keys| {
            let url = self.bucket.get_object(keys, &full).sign(GOOD_FOR);
            let call = self.call("Reading", Method::GET, key, &url);
            let answer = self.client.send(&call)?;
            value_in(&self.client, &call, answer, limit)
        })
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        let full = self.key(key);
        self.with_keys(|keys| {
            let url = self.bucket.head_object(keys, &full).sign(GOOD_FOR);
            size_of(&self.client, &self.call("Looking for", Method::HEAD, key, &url))
        })
    }

    fn range(
        &self,
        key: &str,
        size: u64,
        range: Range<u64>,
        limit: Duration,
    ) -> Result<Vec<u8>, RemoteError> {
        let full = self.key(key);
        let read = |keys: Option<&Credentials>| {
            retrying_for(limit, |patience| {
                let url = self.bucket.get_object(keys, &full).sign(GOOD_FOR);
                let call = Call { patience, ..self.call("Reading", Method::GET, key, &url) };
                self.client.range(call, size, &range, &|call| self.client.send(call))
            })
        };
        self.with_keys_by(read)
    }

    fn forget(&self, key: &str) {
        self.client.forget(key);
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let full = self.key(key);
        self.with_keys(|keys| {
            let url = self.bucket.put_object(keys, &full).sign(GOOD_FOR);
            done(&self.client, &Call { body: Some(bytes), ..self.call("Writing", Method::PUT, key, &url) })
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, RemoteError> {
        let listed = |content: ListObjectsContent| {
            let key = content.key.strip_prefix(&self.prefix)?.to_owned();
            let written = content.last_modified.as_deref().and_then(time_of).unwrap_or_else(SystemTime::now);
            Some(Listed { key, size: content.size.unwrap_or_default(), written })
        };
        let page = |from: Option<&str>| {
            let page = self.page(prefix, from)?;
            Ok((page.contents.into_iter().filter_map(listed).collect(), page.next_continuation_token))
        };
        listing::all(page, |said| self.client.bad_listing(prefix, said))
    }

    fn remove(&self, key: &str) -> Result<(), RemoteError> {
        let full = self.key(key);
        self.with_keys(|keys| {
            let url = self.bucket.delete_object(keys, &full).sign(GOOD_FOR);
            done(&self.client, &self.call("Removing", Method::DELETE, key, &url))
        })
    }
}

/// Parses a time such as `2026-11-28T10:00:00.000Z`; `None` if it is unreadable.
fn time_of(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().and_then(listing::since_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_listings_are_read() {
        let seconds =
            |text| time_of(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(seconds("2026-11-28T10:00:01.000Z"), Some(1_795_860_001));
        assert_eq!(seconds("2024-02-29T00:00:00Z"), Some(1_709_164_800));
        for bad in ["", "x", "1960-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-11-28"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
