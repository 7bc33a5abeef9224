//! The head of an HTTP request to one of our servers, read within bounds of size and time.

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A connection, read until a deadline.
pub struct Timed<'s> {
    stream: &'s TcpStream,
    until: Instant,
}

impl<'s> Timed<'s> {
    /// Reads fail once `patience` is over.
    pub fn new(stream: &'s TcpStream, patience: Duration) -> Timed<'s> {
        Timed { stream, until: Instant::now() + patience }
    }
}

impl io::Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// What was read.
pub enum Read<T> {
    /// The parsed head, and all bytes read, which may include the start of a body.
    Head(T, Vec<u8>),
    /// The connection ended before the end of the head.
    Cut,
    /// The head is not complete after the maximum number of bytes.
    TooLong,
}

/// Reads until `parse` recognizes the bytes read so far (`None`: they are incomplete), at most some more than `most` of them.
pub fn read<T>(
    stream: &TcpStream,
    patience: Duration,
    most: usize,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Read<T>> {
    let mut from = Timed::new(stream, patience);
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        let count = from.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..count]);
        match parse(&bytes) {
            Some(head) => return Ok(Read::Head(head, bytes)),
            None if count == 0 => return Ok(Read::Cut),
            None if bytes.len() > most => return Ok(Read::TooLong),
            None => {}
        }
    }
}
