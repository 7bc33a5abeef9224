//! An rccremote server with every fault that a hostile or broken one may have: a pull either succeeds or fails, and is never wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Cursor, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use super::blobs;
use crate::common::exit;
use crate::common::golden::{self, BLUEPRINT, CATALOG, Regime};
use crate::common::test_home::TestHome;
use crate::common::{run, said, stdout};
use crate::remote::listening::Listening;

/// The fault of a hostile or broken server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    WrongByte,
    OtherContent,
    Bomb,
    Lacking,
    Traversal,
    Absolute,
    OtherCatalog,
    NoCatalog,
    NoZip,
    Cut,
    CutWithoutLength,
    Endless,
    EndlessParts,
    ForeignParts,
    FewParts,
    Unavailable,
}

impl Fault {
    const ALL: [Fault; 17] = [
        Fault::None,
        Fault::WrongByte,
        Fault::OtherContent,
        Fault::Bomb,
        Fault::Lacking,
        Fault::Traversal,
        Fault::Absolute,
        Fault::OtherCatalog,
        Fault::NoCatalog,
        Fault::NoZip,
        Fault::Cut,
        Fault::CutWithoutLength,
        Fault::Endless,
        Fault::EndlessParts,
        Fault::ForeignParts,
        Fault::FewParts,
        Fault::Unavailable,
    ];

    fn code(self) -> i32 {
        match self {
            Fault::None => exit::OK,
            Fault::WrongByte | Fault::OtherContent | Fault::Bomb | Fault::Lacking => exit::DAMAGE,
            Fault::ForeignParts | Fault::FewParts => exit::DAMAGE,
            Fault::Traversal | Fault::Absolute | Fault::OtherCatalog | Fault::NoCatalog | Fault::NoZip => {
                exit::BAD_CATALOG
            }
            Fault::CutWithoutLength => exit::BAD_CATALOG,
            Fault::Cut | Fault::Endless | Fault::EndlessParts | Fault::Unavailable => exit::IO,
        }
    }
}

/// The first line of a request, and its body.
pub fn request(stream: &TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut from = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    from.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((first, body))
}

/// An rccremote server that follows the protocol up to its fault.
struct Fake {
    fault: Fault,
    blobs: BTreeMap<String, Vec<u8>>,
    catalog: Vec<u8>,
}

impl Fake {
    /// Starts it.
    fn start(self) -> Listening {
        let fake = Arc::new(self);
        Listening::start(Arc::default(), move |stream| {
            let fake = Arc::clone(&fake);
            // A client that disconnects ends only its own connection.
            std::thread::spawn(move || fake.answer(&stream).unwrap_or_default());
        })
    }

    fn answer(&self, mut out: &TcpStream) -> std::io::Result<()> {
        let (first, body) = request(out)?;
        if self.fault == Fault::Unavailable {
            return out.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        let is_parts = first.starts_with("GET /parts/");
        if is_parts && self.fault == Fault::EndlessParts || !is_parts && self.fault == Fault::Endless {
            out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            loop {
                out.write_all(&[b'a'; 1 << 16])?;
            }
        }
        let mut content = if is_parts { self.parts() } else { self.zip(&String::from_utf8_lossy(&body)) };
        let extra = match self.fault {
            Fault::CutWithoutLength if !is_parts => String::new(),
            _ => format!("Content-Length: {}\r\n", content.len()),
        };
        if !is_parts && matches!(self.fault, Fault::Cut | Fault::CutWithoutLength) {
            content.truncate(content.len() / 2);
        }
        write!(out, "HTTP/1.1 200 OK\r\n{extra}Connection: close\r\n\r\n")?;
        out.write_all(&content)
    }

    fn parts(&self) -> Vec<u8> {
        let names = self.blobs.keys().map(|path| path.rsplit('/').next().unwrap());
        let names: Vec<&str> = match self.fault {
            Fault::ForeignParts => vec!["../../etc/passwd"],
            Fault::FewParts => names.skip(1).collect(),
            _ => names.collect(),
        };
        names.join("\n").into_bytes()
    }

    fn zip(&self, wanted: &str) -> Vec<u8> {
        if self.fault == Fault::NoZip {
            return b"<html>".to_vec();
        }
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let mut add = |name: &str, bytes: &[u8]| {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        };
        let mut is_first = true;
        for (path, bytes) in &self.blobs {
            if !wanted.contains(path.rsplit('/').next().unwrap()) {
                continue;
            }
            let mut bytes = bytes.clone();
            if std::mem::take(&mut is_first) {
                match self.fault {
                    Fault::WrongByte => bytes[12] ^= 1,
                    Fault::OtherContent => bytes = golden::deflate("other"),
                    Fault::Bomb => bytes = golden::deflate(&"x".repeat(50_000_000)),
                    Fault::Lacking => continue,
                    _ => {}
                }
            }
            add(path, &bytes);
        }
        match self.fault {
            Fault::Traversal => add("../../../../escaped", b"x"),
            Fault::Absolute => add("/tmp/escaped", b"x"),
            _ => {}
        }
        match self.fault {
            Fault::NoCatalog => {}
            Fault::OtherCatalog => {
                let text = golden::inflate(&self.catalog).replace(BLUEPRINT, "0123456789abcdef");
                add(&format!("catalog/{CATALOG}"), &golden::deflate(&text));
            }
            _ => add(&format!("catalog/{CATALOG}"), &self.catalog),
        }
        zip.finish().unwrap().into_inner()
    }
}

#[test]
fn no_fault_of_a_server_causes_wrong_bytes() {
    let from = TestHome::golden(Regime::Gzip);
    let good = blobs(&from);
    let catalog = fs::read(from.hololib().join("catalog").join(CATALOG)).unwrap();
    for fault in Fault::ALL {
        let to = TestHome::new();
        let fake = Fake { fault, blobs: good.clone(), catalog: catalog.clone() }.start();
        let output = to.holofs(&["pull", &format!("rccremote+http://{}#{BLUEPRINT}", fake.address())]);
        assert_eq!(output.status.code(), Some(fault.code()), "{fault:?}: {}", said(&output));
        if fault == Fault::None {
            to.holofs_ok(&["check"]);
            continue;
        }
        assert_eq!(to.catalogs(), [""; 0], "{fault:?}");
        let escaped = run(std::process::Command::new("find").arg(to.scratch()).args(["-name", "escaped"]));
        assert_eq!(stdout(&escaped), "");
        if to.hololib().join("library").exists() {
            assert_eq!(blobs(&to), BTreeMap::new(), "{fault:?}");
        }
        if !matches!(fault, Fault::WrongByte | Fault::Cut) {
            continue;
        }
        // Right content is kept: the next attempt gets the rest from a working server, and the result is right.
        let fake = Fake { fault: Fault::None, blobs: good.clone(), catalog: catalog.clone() }.start();
        let remote = format!("rccremote+http://{}#{BLUEPRINT}", fake.address());
        to.holofs_ok(&["pull", &remote]);
        to.holofs_ok(&["check"]);
        assert_eq!(blobs(&to).len(), good.len());
    }
}
