//! An rccremote server: official RCC clients pull the catalogs of this hololib from it (`RCC_REMOTE_ORIGIN`, `rcc holotree pull`).
//!
//! It only reads. A catalog is offered only if it is valid and all its blobs exist; a blob is verified before it is sent. Nothing a
//! client sends becomes a path: names must be those of catalogs, and digests must be in the requested catalog. Connections are
//! bounded in number, size and time, so a slow client occupies only its own connection. Answers are streamed in chunks: if a blob
//! turns out to be damaged, the connection ends without the last chunk, which every client notices.
//!
//! Deliberately not here: TLS, which a proxy provides.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufWriter, Read as _, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::identity;
use super::request::{self, Head, NoRequest, after_head};
use crate::error::chain;
use crate::rcc::catalog::Catalog;
use crate::rcc::digest::Digest;
use crate::rcc::home::Home;
use crate::space::archive;
use crate::store::Library;

/// The maximum number of connections.
const CONNECTIONS: usize = 64;
/// The timeout for one write.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long what a refused client still sends is read.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);
/// After this time an answer must have this rate, in bytes per second.
const GRACE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 8 << 10;
/// How long transfers may continue after the server was asked to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The length of a chunk.
const CHUNK: usize = 64 << 10;
/// Longer lines are no digests.
const MAX_LINE: u64 = 200;

/// The server.
pub struct Server {
    home: Home,
    /// The required value of `Authorization`.
    authorization: Option<String>,
    /// The identity of this process; requests with it come from here.
    identity: String,
    active: AtomicUsize,
}

/// A status with its text, and why.
type Refusal = (&'static str, &'static str);

const UNKNOWN: Refusal = ("404 Not Found", "404 not found, sorry");
const NO_METHOD: Refusal = ("405 Method Not Allowed", "GET /parts/CATALOG or POST /delta/CATALOG");
const BAD: Refusal = ("400 Bad Request", "not an HTTP request");
const BUSY: Refusal = ("503 Service Unavailable\r\nRetry-After: 5", "too many connections");

/// A catalog that is offered.
struct Offer {
    path: PathBuf,
    catalog: Catalog,
    blobs: BTreeMap<Digest, u64>,
}

impl Server {
    /// A server of this hololib; with `authorization`, only for requests that have it.
    pub fn new(home: Home, authorization: Option<String>) -> Server {
        Server { home, authorization, identity: identity::new(), active: AtomicUsize::new(0) }
    }

    /// Answers until `stop` is set; then gives transfers in progress some time.
    pub fn serve(self, listener: TcpListener, stop: &AtomicBool) -> io::Result<()> {
        let server = Arc::new(self);
        let accepting = Arc::clone(&server);
        std::thread::Builder::new().name("accept".into()).spawn(move || accepting.accept(&listener))?;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let until = Instant::now() + STOP_PATIENCE;
        while server.active.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn accept(self: Arc<Server>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Without descriptors there is nothing to do but wait for some.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let server = Arc::clone(&self);
            if self.active.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                log_failed(refuse(&stream, BUSY));
                self.active.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let work = move || {
                log_failed(server.answer(&stream));
                server.active.fetch_sub(1, Ordering::Relaxed);
            };
            if let Err(error) = std::thread::Builder::new().name("rccremote".into()).spawn(work) {
                log::warn!("Cannot answer a request: {error}");
                self.active.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Answers one request.
    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        let (head, start) = match request::head(stream) {
            Ok(found) => found,
            Err(NoRequest::Nonsense) => return refuse(stream, BAD),
            Err(NoRequest::Gone(error)) => return Err(error),
        };
        log::info!("{} {:?}", head.method.escape_debug(), head.path);
        match self.respond(&head, &start, stream)? {
            None => Ok(()),
            Some(refusal) => refuse(stream, refusal),
        }
    }

    /// Responds, or returns a refusal.
    fn respond(&self, head: &Head, start: &[u8], stream: &TcpStream) -> io::Result<Option<Refusal>> {
        if !self.is_authorized(head) {
            return Ok(Some(("401 Unauthorized", "this server requires an Authorization header")));
        }
        if head.identity.as_deref() == Some(self.identity.as_bytes()) {
            return Ok(Some(("409 Conflict", "409 conflict, sorry")));
        }
        let mut parts = head.path.strip_prefix('/').unwrap_or_default().splitn(2, '/');
        let (what, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match (what, head.method.as_str()) {
            ("parts" | "delta" | "force", _) if !archive::is_catalog(name) => Ok(Some(UNKNOWN)),
            ("force", _) => text(stream, "200 OK", "").map(|()| None),
            ("parts", "GET") => self.parts(name, stream),
            ("delta", "POST") => self.delta(name, head, start, stream),
            ("parts" | "delta", _) => Ok(Some(NO_METHOD)),
            _ => Ok(Some(UNKNOWN)),
        }
    }

    /// Compares in a time that does not depend on where the values differ.
    fn is_authorized(&self, head: &Head) -> bool {
        let Some(required) = self.authorization.as_deref().map(str::as_bytes) else { return true };
        let given = head.authorization.as_deref().unwrap_or_default();
        let differ = required.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b));
        given.len() == required.len() && std::hint::black_box(differ) == 0
    }

    /// The catalog `name`, if it is valid and complete.
    fn offer(&self, name: &str) -> Option<Offer> {
        let path = self.home.catalog_dir().join(name);
        if !path.exists() {
            return None;
        }
        let (catalog, _) = match Catalog::read(&path) {
            Ok(read) => read,
            Err(error) => {
                log::warn!("Not offered: {}", chain(&error));
                return None;
            }
        };
        if catalog.header.file_name() != name {
            log::warn!("Not offered: {} has another catalog's name", path.display());
            return None;
        }
        let blobs: BTreeMap<Digest, u64> = catalog.digests().map(|(digest, size)| (*digest, size)).collect();
        let library = Library::open(&self.home.library()).and_then(Library::hold);
        let missing = match &library {
            Ok(library) => blobs.keys().find(|digest| !library.exists(digest)),
            Err(_) => blobs.keys().next(),
        };
        if let Some(digest) = missing {
            log::warn!("Not offered: {name} lacks blob {digest}");
            return None;
        }
        Some(Offer { path, catalog, blobs })
    }

    fn parts(&self, name: &str, stream: &TcpStream) -> io::Result<Option<Refusal>> {
        let Some(offer) = self.offer(name) else { return Ok(Some(UNKNOWN)) };
        let lines: Vec<String> = offer.blobs.keys().map(Digest::to_string).collect();
        text(stream, "200 OK", &lines.join("\n")).map(|()| None)
    }

    fn delta(
        &self,
        name: &str,
        head: &Head,
        start: &[u8],
        stream: &TcpStream,
    ) -> io::Result<Option<Refusal>> {
        let Some(offer) = self.offer(name) else { return Ok(Some(UNKNOWN)) };
        if !head.takes_chunks {
            return Ok(Some(("505 HTTP Version Not Supported", "this needs HTTP/1.1")));
        }
        let mut body = head.body(after_head(start, stream));
        let Ok(wanted) = wanted(&mut body, &offer.blobs) else { return Ok(Some(BAD)) };
        let mut out = Paced { stream, started: Instant::now(), sent: 0 };
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/zip\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
        let mut chunks = BufWriter::with_capacity(CHUNK, Chunked(out));
        // The client sees the missing end, and the log says why.
        archive::stream(&self.home, (&offer.path, &offer.catalog), &wanted, &mut chunks)
            .map_err(|error| io::Error::other(chain(&error).to_string()))?;
        let Chunked(mut out) = chunks.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.write_all(b"0\r\n\r\n")?;
        log::info!("{name}: {} blobs, {} bytes", wanted.len(), out.sent);
        Ok(None)
    }
}

/// The requested digests that are in the catalog, with their sizes.
fn wanted(body: &mut dyn BufRead, blobs: &BTreeMap<Digest, u64>) -> io::Result<Vec<(Digest, u64)>> {
    let (mut wanted, mut line) = (BTreeMap::new(), Vec::new());
    loop {
        line.clear();
        if body.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(wanted.into_iter().collect());
        }
        let digest = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse::<Digest>().ok());
        wanted.extend(
            digest.and_then(|digest| blobs.get_key_value(&digest)).map(|(digest, size)| (*digest, *size)),
        );
    }
}

fn refuse(stream: &TcpStream, (status, why): Refusal) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    text(stream, status, &format!("{why}\n"))?;
    // If the rest of the request stays unread, the client may get a reset instead of the answer.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (mut rest, began) = ([0; 4096], Instant::now());
    // The thread that accepts connections refuses, too: a client that goes on sending must not keep it from others.
    while began.elapsed() < REFUSED_PATIENCE {
        match (&*stream).read(&mut rest) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    Ok(())
}

fn text(stream: &TcpStream, status: &str, body: &str) -> io::Result<()> {
    let mut out = Paced { stream, started: Instant::now(), sent: 0 };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    out.write_all(head.as_bytes())?;
    out.write_all(body.as_bytes())
}

/// A client that disconnects, or is too slow, ends only its own connection.
fn log_failed(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        log::warn!("A request was not answered completely: {error}");
    }
}

/// A connection that fails if the client reads too slowly.
struct Paced<'s> {
    stream: &'s TcpStream,
    started: Instant,
    sent: u64,
}

impl Write for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.stream.write(bytes)?;
        self.sent += len as u64;
        let elapsed = self.started.elapsed();
        if elapsed > GRACE && self.sent / elapsed.as_secs().max(1) < SLOWEST {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly"));
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes each piece as a chunk.
struct Chunked<W>(W);

impl<W: Write> Write for Chunked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            write!(self.0, "{:x}\r\n", bytes.len())?;
            self.0.write_all(bytes)?;
            self.0.write_all(b"\r\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
