//! Downloads one file from a web server, and computes its digest. The caller verifies the content.

use std::io::{Read, Write};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use ureq::http::Method;

use crate::store::observe::Observer;

use super::error::RemoteError;
use super::transport::{Access, Call, Client};

/// How long the whole file may take.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);

/// Downloads `url` to `to`; returns the SHA-256.
pub fn download(
    url: &str,
    access: &Access,
    to: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<[u8; 32], RemoteError> {
    let client = Client::new(url.to_owned(), access);
    let (doing, method) = ("Downloading", Method::GET);
    let call = Call { doing, what: url, method, url, headers: Vec::new(), body: None, patience: PATIENCE };
    let answer = client.send(&call)?;
    if answer.status != 200 {
        return Err(client.refusal(&call, answer));
    }
    let length = super::transport::content_length(&answer);
    observer.expect(length.unwrap_or(0));
    let (mut from, mut digest) = (answer.into_reader(), Sha256::new());
    let mut buffer = vec![0; 256 << 10];
    let failed = |source| RemoteError::Io { doing, path: url.into(), source };
    loop {
        let got = from.read(&mut buffer).map_err(failed)?;
        if got == 0 {
            return Ok(digest.finalize().into());
        }
        digest.update(&buffer[..got]);
        to.write_all(&buffer[..got]).map_err(failed)?;
        observer.advance(got as u64);
    }
}
