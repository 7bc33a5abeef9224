//! RCC's own server, as its published source answers: the program itself cannot be had here (neither wheels nor packages contain it).
//!
//! What differs from ours: it keeps each zip file by the requested digests alone, so that the same request for two catalogs gets
//! the file of the first; and it lists a link that leads nowhere as `N/A`.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::faults::request;
use super::pull;
use crate::common::test_home::TestHome;
use crate::common::{exit, golden, number_field, said};
use crate::remote::listening::Listening;
use crate::remote::{contents, recorded};

struct Official {
    hololib: PathBuf,
    /// Zip files by the digests in them.
    kept: Mutex<HashMap<Vec<String>, Vec<u8>>>,
}

impl Official {
    /// Serves the hololib of a home.
    fn start(test_home: &TestHome) -> Listening {
        let official = Arc::new(Official { hololib: test_home.hololib(), kept: Mutex::default() });
        Listening::start(Arc::default(), move |stream| {
            let official = Arc::clone(&official);
            // A client that disconnects ends only its own connection.
            std::thread::spawn(move || official.answer(&stream).unwrap_or_default());
        })
    }

    fn answer(&self, mut out: &TcpStream) -> std::io::Result<()> {
        let (first, body) = request(out)?;
        let path = first.split(' ').nth(1).unwrap();
        let catalog = path.rsplit('/').next().unwrap();
        let Some(parts) = self.parts(catalog) else {
            return out
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let content = match first.starts_with("GET /parts/") {
            true => parts.join("\n").into_bytes(),
            false => self.zip(catalog, &parts, &String::from_utf8(body).unwrap()),
        };
        write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
        out.write_all(&content)
    }

    /// Every digest in the text of the catalog.
    fn parts(&self, catalog: &str) -> Option<Vec<String>> {
        let text = golden::inflate(&fs::read(self.hololib.join("catalog").join(catalog)).ok()?);
        let digests =
            text.split("\"digest\":").skip(1).map(|rest| rest.split('"').nth(1).unwrap().to_owned());
        let mut parts: Vec<String> = digests.chain(["N/A".to_owned()]).collect();
        parts.sort();
        parts.dedup();
        Some(parts)
    }

    fn zip(&self, catalog: &str, parts: &[String], wanted: &str) -> Vec<u8> {
        let is_approved = |line: &&str| line.len() > 10 && parts.iter().any(|part| part == line);
        let wanted: Vec<String> =
            wanted.lines().map(str::trim).filter(is_approved).map(str::to_owned).collect();
        let build = || {
            let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
            let mut add = |name: &str| {
                zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
                zip.write_all(&fs::read(self.hololib.join(name)).unwrap()).unwrap();
            };
            for digest in &wanted {
                add(&format!("library/{}/{}/{}/{digest}", &digest[..2], &digest[2..4], &digest[4..6]));
            }
            add(&format!("catalog/{catalog}"));
            zip.finish().unwrap().into_inner()
        };
        self.kept.lock().unwrap().entry(wanted.clone()).or_insert_with(build).clone()
    }
}

#[test]
fn pull_gets_the_right_catalog_from_a_server_that_keeps_zip_files_without_it() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let mut files = contents();
    let first = recorded(&from, &files, "official=1");
    files[5].1[7] ^= 1;
    let second = recorded(&from, &files, "official=2");
    let official = Official::start(&from);
    let address = official.address();
    for (catalog, fetched) in [(&first, 68), (&second, 1)] {
        let pulled = pull(&to, &format!("rccremote+http://{address}#{catalog}"));
        assert_eq!(number_field(&pulled, "blobs_fetched"), fetched, "{pulled:#}");
        let stored = |home: &TestHome| fs::read(home.hololib().join("catalog").join(catalog)).unwrap();
        assert_eq!(stored(&to), stored(&from));
    }
    to.holofs_ok(&["check"]);
    let unknown = to.holofs(&["pull", &format!("rccremote+http://{address}#0123456789abcdef")]);
    assert_eq!(unknown.status.code(), Some(exit::NOT_FOUND), "{}", said(&unknown));
}
