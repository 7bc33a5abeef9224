//! A repository of an OCI registry.
//!
//! Head, packs and profile are blobs; a manifest has the reference as an annotation and lists them as layers, head first, so that the
//! registry keeps them and any tool can copy them. Every manifest has a tag: registries remove untagged ones. For a registry that does
//! not accept a manifest with its own artifact type, one that looks like an image's is written; readers only use the annotation.

mod login;
mod manifest;

use std::ops::Range;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::{LINK, LOCATION};
use url::Url;

use super::http::{AUTHORIZATION_NAME, Answer, Call, Client, content_length, header, value_in};
use super::{Access, Remote, listing, retrying, retrying_for};
use crate::remote::error::RemoteError;
use crate::remote::object::Object;
use crate::remote::reference::Reference;
use login::{Logins, Right};

pub use login::{challenge_in, token_in};
pub use manifest::reference_in;

/// The maximum size of a manifest or list of tags.
const MAX_TEXT: u64 = 4 << 20;

/// The repository.
pub struct Repository {
    registry: Url,
    name: String,
    client: Client,
    logins: Logins,
}

impl Repository {
    /// The repository `name` of `registry`.
    pub fn new(registry: Url, name: String, shown: String, access: &Access) -> Repository {
        let client = Client::new(shown.clone(), access);
        Repository { logins: Logins::new(registry.clone(), shown, access), registry, name, client }
    }

    fn url(&self, path: &str) -> String {
        format!("{}v2/{}/{path}", self.registry, self.name)
    }

    fn blob(&self, object: &Object) -> String {
        self.url(&format!("blobs/sha256:{}", object.id))
    }

    fn call<'c>(&self, doing: &'static str, method: Method, what: &'c str, url: &'c str) -> Call<'c> {
        let patience = self.client.patience().object;
        Call { doing, what, method, url, headers: Vec::new(), body: None, patience }
    }

    /// Sends a request with the known login; if that is refused, once more with a new one.
    fn send(&self, mut call: Call<'_>, right: Right) -> Result<Answer, RemoteError> {
        let plain = call.headers.clone();
        let authorized = |value: Option<String>| {
            let mut headers = plain.clone();
            headers.extend(value.map(|value| (AUTHORIZATION_NAME, value)));
            headers
        };
        call.headers = authorized(self.logins.known(&self.name, right));
        let answer = self.client.send(&call)?;
        if answer.status != 401 {
            return Ok(answer);
        }
        let challenge = header(&answer.headers, "www-authenticate").unwrap_or_default().to_owned();
        let refused = call.headers.iter().find(|(name, _)| *name == AUTHORIZATION_NAME);
        let refused = refused.map(|(_, value)| value.as_str());
        match self.logins.answer(&self.client, &challenge, &self.name, right, refused)? {
            Some(value) => {
                call.headers = authorized(Some(value));
                self.client.send(&call)
            }
            None => Err(self.client.refusal(&call, answer)),
        }
    }

    fn upload(&self, object: &Object, bytes: &[u8]) -> Result<(), RemoteError> {
        let what = object.to_string();
        let start = self.url("blobs/uploads/");
        let call = Call { body: Some(b""), ..self.call("Writing", Method::POST, &what, &start) };
        let answer = self.send(call.copy(), Right::Push)?;
        if answer.status != 202 {
            return Err(self.client.refusal(&call, answer));
        }
        let place = header(&answer.headers, LOCATION).and_then(|place| self.registry.join(place).ok());
        let Some(mut place) = place else {
            return Err(self.client.odd(&call, "it names no upload location".to_owned(), false));
        };
        place.query_pairs_mut().append_pair("digest", &format!("sha256:{}", object.id));
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        let call =
            Call { headers, body: Some(bytes), ..self.call("Writing", Method::PUT, &what, place.as_str()) };
        // A login is only for the registry's own host.
        let answer = match place.origin() == self.registry.origin() {
            true => self.send(call.copy(), Right::Push)?,
            false => self.client.send(&call)?,
        };
        if answer.status == 201 { Ok(()) } else { Err(self.client.refusal(&call, answer)) }
    }

    fn manifest(&self, reference: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let (what, url) = (format!("manifest {reference}"), self.url(&format!("manifests/{reference}")));
        retrying(|| {
            let headers = vec![("accept", manifest::ACCEPTED.to_owned())];
            let call = Call { headers, ..self.call("Reading", Method::GET, &what, &url) };
            let answer = self.send(call.copy(), Right::Pull)?;
            value_in(&self.client, &call, answer, MAX_TEXT)
        })
    }

    fn put_manifest(&self, tag: &str, bytes: &[u8]) -> Result<u16, RemoteError> {
        let (what, url) = (format!("manifest {tag}"), self.url(&format!("manifests/{tag}")));
        retrying(|| {
            let headers = vec![("content-type", manifest::MANIFEST.to_owned())];
            let call = Call { headers, body: Some(bytes), ..self.call("Writing", Method::PUT, &what, &url) };
            let answer = self.send(call.copy(), Right::Push)?;
            match answer.status {
                201 | 400 => Ok(answer.status),
                _ => Err(self.client.refusal(&call, answer)),
            }
        })
    }

    fn page_of_tags(&self, url: &str) -> Result<(Vec<String>, Option<String>), RemoteError> {
        retrying(|| {
            let call = self.call("Listing", Method::GET, "tags", url);
            let answer = self.send(call.copy(), Right::Pull)?;
            match answer.status {
                200 => {}
                404 => return Ok((Vec::new(), None)),
                _ => return Err(self.client.refusal(&call, answer)),
            }
            let next = header(&answer.headers, LINK)
                .and_then(next_page)
                .and_then(|next| self.registry.join(next).ok());
            let next = next.filter(|next| next.origin() == self.registry.origin()).map(String::from);
            let body = self.client.read(&call, answer, MAX_TEXT)?;
            let tags = tags_in(&body).map_err(|error| {
                self.client.odd(&call, format!("its list cannot be read: {error}"), false)
            })?;
            Ok((tags, next))
        })
    }
}

/// The tags in one page of a list; some may be no names of environments.
pub fn tags_in(page: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Tags {
        tags: Option<Vec<String>>,
    }
    serde_json::from_slice(page).map(|Tags { tags }| tags.unwrap_or_default())
}

/// The target of `<…>; rel="next"`.
pub fn next_page(link: &str) -> Option<&str> {
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then_some(target)
}

impl Remote for Repository {
    fn address(&self) -> &str {
        self.client.remote()
    }

    fn size(&self, object: &Object) -> Result<Option<u64>, RemoteError> {
        let (what, url) = (object.to_string(), self.blob(object));
        retrying(|| {
            let call = self.call("Looking for", Method::HEAD, &what, &url);
            let answer = self.send(call.copy(), Right::Pull)?;
            match answer.status {
                200 => content_length(&answer)
                    .map(Some)
                    .ok_or_else(|| self.client.odd(&call, "it reports no length".to_owned(), false)),
                404 => Ok(None),
                _ => Err(self.client.refusal(&call, answer)),
            }
        })
    }

    fn get(&self, object: &Object) -> Result<Option<Vec<u8>>, RemoteError> {
        let (what, url) = (object.to_string(), self.blob(object));
        retrying(|| {
            let call = self.call("Reading", Method::GET, &what, &url);
            let answer = self.send(call.copy(), Right::Pull)?;
            value_in(&self.client, &call, answer, object.size)
        })
    }

    fn range(&self, object: &Object, range: Range<u64>, limit: Duration) -> Result<Vec<u8>, RemoteError> {
        let (what, url) = (object.to_string(), self.blob(object));
        retrying_for(limit, |patience| {
            let call = Call { patience, ..self.call("Reading", Method::GET, &what, &url) };
            self.client.range(call, object.size, &range, &|call| self.send(call.copy(), Right::Pull))
        })
    }

    fn forget(&self, object: &Object) {
        self.client.forget(&object.to_string());
    }

    fn put(&self, object: &Object, bytes: &[u8]) -> Result<(), RemoteError> {
        retrying(|| self.upload(object, bytes))
    }

    fn reference(&self, name: &str) -> Result<Option<Reference>, RemoteError> {
        let Some(bytes) = self.manifest(name)? else { return Ok(None) };
        let invalid = |source| {
            let (name, remote) = (name.to_owned(), self.client.remote().to_owned());
            RemoteError::Reference { name, remote, source }
        };
        let text = manifest::reference_in(&bytes).map_err(invalid)?;
        Reference::parse(text.as_bytes()).map(Some).map_err(invalid)
    }

    fn publish(&self, name: &str, reference: &Reference, objects: &[Object]) -> Result<(), RemoteError> {
        self.put(&manifest::EMPTY_OBJECT, manifest::EMPTY)?;
        if self.put_manifest(name, &manifest::own(reference, objects))? == 201 {
            return Ok(());
        }
        log::info!(
            "{} accepts only manifests of images: the environment is sent as one",
            self.client.remote()
        );
        let config = manifest::image_config();
        self.put(&manifest::object_of(&config), &config)?;
        let (what, url) = (format!("manifest {name}"), self.url(&format!("manifests/{name}")));
        match self.put_manifest(name, &manifest::image(reference, objects, &config))? {
            201 => Ok(()),
            status => {
                let call = self.call("Writing", Method::PUT, &what, &url);
                Err(self.client.odd(&call, format!("status {status} to a manifest of an image, too"), false))
            }
        }
    }

    fn names(&self) -> Result<Vec<String>, RemoteError> {
        let first = self.url("tags/list?n=500");
        let page = |url: Option<&str>| self.page_of_tags(url.unwrap_or(&first));
        let mut names = listing::all(page, |said| self.client.bad_listing("tags", said))?;
        names.retain(|name| crate::remote::reference::is_name(name));
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn remove_name(&self, name: &str) -> Result<(), RemoteError> {
        let (what, url) = (format!("tag {name}"), self.url(&format!("manifests/{name}")));
        retrying(|| {
            let call = self.call("Removing", Method::DELETE, &what, &url);
            let answer = self.send(call.copy(), Right::Delete)?;
            match answer.status {
                200..=299 | 404 => Ok(()),
                400 | 405 => Err(RemoteError::Unsupported {
                    what: "remove tags",
                    remote: self.client.remote().to_owned(),
                }),
                _ => Err(self.client.refusal(&call, answer)),
            }
        })
    }

    fn objects(&self) -> Result<Option<Vec<(Object, SystemTime)>>, RemoteError> {
        Ok(None)
    }

    fn remove(&self, _: &Object) -> Result<(), RemoteError> {
        Err(RemoteError::Unsupported { what: "remove single blobs", remote: self.client.remote().to_owned() })
    }
}
