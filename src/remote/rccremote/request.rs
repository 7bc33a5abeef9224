//! A request to the rccremote server, read within bounds of size and time. Knows HTTP, but nothing of the hololib.

use std::io::{self, BufRead, Read};
use std::net::TcpStream;
use std::time::Duration;

use crate::remote::http_head::{self, Timed};

/// The maximum size of a request's head in bytes, and its maximum number of lines.
const MOST: usize = 16 << 10;
const LINES: usize = 64;
/// The maximum length of a body: a million digests.
const MAX_BODY: u64 = 66 << 20;
/// The timeout for a head, and for a body.
const HEAD_PATIENCE: Duration = Duration::from_secs(15);
const BODY_PATIENCE: Duration = Duration::from_secs(120);

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The value of `Authorization`.
    pub authorization: Option<Vec<u8>>,
    /// The value of `X-Rcc-Random-Identity`.
    pub identity: Option<Vec<u8>>,
    /// The client understands chunks: HTTP/1.1.
    pub takes_chunks: bool,
    /// How its body is framed.
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Why there is no request.
#[derive(Debug)]
pub enum NoRequest {
    /// The connection failed, ended, or was too slow.
    Gone(io::Error),
    /// It is not HTTP, or too long.
    Nonsense,
}

/// Reads a head; also returns the start of the body.
pub fn head(stream: &TcpStream) -> Result<(Head, Vec<u8>), NoRequest> {
    match http_head::read(stream, HEAD_PATIENCE, MOST, parse) {
        Ok(http_head::Read::Head(Ok((head, length)), mut bytes)) => Ok((head, bytes.split_off(length))),
        Ok(http_head::Read::Head(Err(()), _) | http_head::Read::TooLong) => Err(NoRequest::Nonsense),
        Ok(http_head::Read::Cut) => Err(NoRequest::Gone(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(NoRequest::Gone(error)),
    }
}

/// The head at the start of `bytes`, and its length; `None` if it is incomplete.
#[allow(clippy::result_unit_err, reason = "there is one answer to everything that is no request")]
pub fn parse(bytes: &[u8]) -> Option<Result<(Head, usize), ()>> {
    let mut lines = [httparse::EMPTY_HEADER; LINES];
    let mut request = httparse::Request::new(&mut lines);
    let length = match request.parse(bytes) {
        Err(_) => return Some(Err(())),
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(length)) => length,
    };
    let Some(framing) = framing(request.headers) else { return Some(Err(())) };
    let value = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| header.value.to_vec())
    };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request.path.unwrap_or_default().to_owned(),
        authorization: value("authorization"),
        identity: value("x-rcc-random-identity"),
        takes_chunks: request.version == Some(1),
        framing,
    };
    Some(Ok((head, length)))
}

/// How the body is framed; `None` if that is contradictory, which would let two parties see two different requests.
fn framing(headers: &[httparse::Header<'_>]) -> Option<Framing> {
    let values = |name: &'static str| {
        headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    let lengths: Vec<&[u8]> = values("content-length").collect();
    let codings: Vec<&[u8]> = values("transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Some(Framing::Length(0)),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(Framing::Chunked),
        ([length], []) => {
            let text = std::str::from_utf8(length).ok()?;
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            plain
                .then(|| text.parse().ok())
                .flatten()
                .filter(|&length| length <= MAX_BODY)
                .map(Framing::Length)
        }
        _ => None,
    }
}

impl Head {
    /// The body, which begins at `from`; reading it fails if it is cut or too long.
    pub fn body<'s>(&self, from: impl BufRead + 's) -> Box<dyn BufRead + 's> {
        body_of(self.framing, from)
    }
}

fn body_of<'s>(framing: Framing, from: impl BufRead + 's) -> Box<dyn BufRead + 's> {
    match framing {
        Framing::Length(left) => Box::new(io::BufReader::new(Whole { from, left })),
        Framing::Chunked => {
            Box::new(io::BufReader::new(Chunks { from, left: 0, total: 0, is_first: true, is_done: false }))
        }
    }
}

/// What follows a head: `start`, then the stream; reading fails if it is too slow.
pub fn after_head<'s>(start: &'s [u8], stream: &'s TcpStream) -> impl BufRead + 's {
    start.chain(io::BufReader::new(Timed::new(stream, BODY_PATIENCE)))
}

/// A body of a known length.
struct Whole<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.from.by_ref().take(self.left).read(buffer)?;
        if len == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= len as u64;
        Ok(len)
    }
}

/// A body in chunks.
struct Chunks<R> {
    from: R,
    left: u64,
    total: u64,
    is_first: bool,
    is_done: bool,
}

impl<R: BufRead> Chunks<R> {
    /// Reads the line before a chunk.
    fn next(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) && self.line()? != b"" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let line = self.line()?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
        let len = text.and_then(|text| u64::from_str_radix(text, 16).ok()).filter(|&len| len <= MAX_BODY);
        self.left = len.ok_or(io::ErrorKind::InvalidData)?;
        self.total += self.left;
        self.is_done = self.left == 0;
        if self.total > MAX_BODY { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.from.by_ref().take(1024).read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(line.to_vec()),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_done && !buffer.is_empty() {
            self.next()?;
        }
        if self.is_done || buffer.is_empty() {
            return Ok(0);
        }
        let len = self.from.by_ref().take(self.left).read(buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(lines: &str) -> Option<Framing> {
        let text = format!("POST /delta/x HTTP/1.1\r\n{lines}\r\n");
        parse(text.as_bytes()).unwrap().ok().map(|(head, _)| head.framing)
    }

    #[test]
    fn a_body_is_framed_in_one_way_or_refused() {
        assert_eq!(framed(""), Some(Framing::Length(0)));
        assert_eq!(framed("Content-Length: 7\r\n"), Some(Framing::Length(7)));
        assert_eq!(framed("Transfer-Encoding: chunked\r\n"), Some(Framing::Chunked));
        for bad in [
            "Content-Length: 7\r\nContent-Length: 7\r\n",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999\r\n",
        ] {
            assert_eq!(framed(bad), None, "{bad}");
        }
    }

    fn read(framing: Framing, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        body_of(framing, bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn a_body_ends_where_it_says() {
        assert_eq!(read(Framing::Length(3), b"abcdef").unwrap(), b"abc");
        assert_eq!(read(Framing::Chunked, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").unwrap(), b"abcde");
        let bad: [(Framing, &[u8]); 6] = [
            (Framing::Length(4), b"abc"),
            (Framing::Chunked, b"3\r\nab"),
            (Framing::Chunked, b"3\r\nabcd\r\n0\r\n\r\n"),
            (Framing::Chunked, b"ffffffffffffffff\r\nabc"),
            (Framing::Chunked, b"-1\r\n"),
            (Framing::Chunked, b""),
        ];
        for (framing, bytes) in bad {
            assert!(read(framing, bytes).is_err(), "{framing:?} {bytes:?}");
        }
    }
}
