//! Answers of an rccremote server, and requests to our own: lists of digests, zip files, requests with bodies.

use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use holofs::remote::head::distinct;
use holofs::remote::rccremote::{digests, request};
use holofs::space::archive::Delta;
use holofs::store::Library;

/// The catalog that is requested.
const NAME: &str = "14023a1f332a0231v12.linux_amd64";

/// The first byte selects the kind of the rest.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 3 {
        0 => assert!(digests(bytes).is_none_or(|found| found.len() * 32 <= bytes.len())),
        1 => asked(bytes),
        _ => delta(bytes),
    }
}

/// A request with its body: it ends where its header says, or is an error.
fn asked(bytes: &[u8]) {
    let Some(Ok((head, length))) = request::parse(bytes) else { return };
    assert!(length <= bytes.len() && head.path.len() < bytes.len() && head.method.len() < bytes.len());
    let rest = &bytes[length..];
    let mut body = Vec::new();
    if head.body(rest).read_to_end(&mut body).is_ok() {
        assert!(body.len() <= rest.len());
    }
    let mut line = Vec::new();
    // An error is a valid result.
    let _read = head.body(rest).take(200).read_until(b'\n', &mut line);
    assert!(line.len() <= 200);
}

/// A zip file with a catalog and blobs: nothing is created outside of the library, and only verified blobs in it.
fn delta(bytes: &[u8]) {
    let temp = tempfile::tempdir().unwrap();
    let (library, zip) = (temp.path().join("library"), temp.path().join("zip"));
    std::fs::create_dir(&library).unwrap();
    File::create(&zip).unwrap().write_all(bytes).unwrap();
    let Ok(mut delta) = Delta::open(File::open(&zip).unwrap(), Path::new("the server")) else { return };
    let Ok((_, catalog)) = delta.catalog(NAME) else { return };
    assert_eq!(catalog.header.file_name(), NAME, "another catalog than the one that was requested");
    let Ok(blobs) = distinct(&catalog) else { return };
    let here = Library::open(&library).unwrap();
    for (digest, size) in blobs.into_iter().take(20) {
        match delta.publish(&library, &digest, size) {
            Ok(()) => here.verify(&digest, size).unwrap_or_else(|error| panic!("published: {error}")),
            Err(error) => assert!(error.to_string().len() < 5_000 && !here.exists(&digest)),
        }
    }
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [library, zip], "something was made outside of the library");
}

/// RCC's own export, and requests as its clients send them.
pub fn seeds(golden: &Path) -> Vec<Vec<u8>> {
    let zip = std::fs::read(golden.join("hololib-gz.zip")).unwrap();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let post = format!("POST /delta/{NAME} HTTP/1.1\r\nHost: x\r\n");
    let tagged = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    vec![
        tagged(0, format!("{digest}\n{digest}\r\n").as_bytes()),
        tagged(1, format!("GET /parts/{NAME} HTTP/1.1\r\nAuthorization: a\r\n\r\n").as_bytes()),
        tagged(1, format!("{post}Content-Length: 65\r\n\r\n{digest}\n").as_bytes()),
        tagged(
            1,
            format!("{post}Transfer-Encoding: chunked\r\n\r\n41\r\n{digest}\n\r\n0\r\n\r\n").as_bytes(),
        ),
        tagged(2, &zip),
    ]
}
