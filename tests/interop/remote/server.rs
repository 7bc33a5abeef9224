//! A web server for a directory, with one kind of error.

use std::fs;
use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::listening::Listening;

/// Its error with packs; names and heads are always right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No error.
    None,
    /// No error, but a delay.
    Slow,
    /// 200 with the whole object instead of a range.
    Whole,
    /// 200 with the range.
    PartAs200,
    /// Every fourth response ends in the middle of the body.
    CutSometimes,
    /// Every body is truncated.
    CutAlways,
    /// Every third range has a wrong byte.
    WrongSometimes,
    /// Every range has a wrong byte.
    WrongAlways,
    /// 206 with another range.
    OtherRange,
    /// 416 that promises a body and sends none.
    NotSatisfiable,
    /// 429 with `Retry-After: 1` to every second request.
    TooMany,
    /// 503 always.
    Unavailable,
    /// Accepts the request and never answers.
    Stall,
    /// Redirects to another address that works.
    Redirect,
    /// Packs are missing.
    Missing,
    /// Redirects to an address that is refused after a few requests.
    RedirectExpires,
    /// Closes connections without an answer, like a dead server; only by [`Server::set`].
    Dead,
}

impl Fault {
    pub const ALL: [Fault; 16] = [
        Fault::None,
        Fault::Slow,
        Fault::Whole,
        Fault::PartAs200,
        Fault::CutSometimes,
        Fault::CutAlways,
        Fault::WrongSometimes,
        Fault::WrongAlways,
        Fault::OtherRange,
        Fault::NotSatisfiable,
        Fault::TooMany,
        Fault::Unavailable,
        Fault::Stall,
        Fault::Redirect,
        Fault::Missing,
        Fault::RedirectExpires,
    ];

    pub fn can_be_overcome(self) -> bool {
        !matches!(
            self,
            Fault::CutAlways
                | Fault::WrongAlways
                | Fault::OtherRange
                | Fault::NotSatisfiable
                | Fault::Unavailable
                | Fault::Stall
                | Fault::Missing
                | Fault::Dead
        )
    }

    /// The `--fetch-timeout` of a reader: as long as a busy machine needs, except where it passes in vain.
    pub fn patience(self) -> &'static str {
        if self.can_be_overcome() { "60" } else { "4" }
    }
}

/// The number of requests after which an address expires: more than a client sends at the same time.
const GOOD_FOR: usize = 10;

/// The server; it ends when dropped.
pub struct Server {
    listening: Listening,
    count: Arc<AtomicUsize>,
    fault: Arc<Mutex<Fault>>,
}

impl Server {
    pub fn start(root: &Path, fault: Fault) -> Server {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let fault = Arc::new(Mutex::new(fault));
        let site = Arc::new(Site {
            root: root.to_owned(),
            fault: Arc::clone(&fault),
            count: Arc::clone(&count),
            stop: Arc::clone(&stop),
        });
        let listening = Listening::start(stop, move |stream| {
            let site = Arc::clone(&site);
            // A reader that disconnects ends only its own connection.
            std::thread::spawn(move || site.serve(stream).unwrap_or_default());
        });
        Server { listening, count, fault }
    }

    /// From now on it has another error.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub fn remote(&self, name: &str) -> String {
        format!("http://{}#{name}", self.listening.address())
    }

    pub fn requests(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

struct Site {
    root: PathBuf,
    fault: Arc<Mutex<Fault>>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Site {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push(line.trim().to_owned());
            }
            if !self.answer(&head, &stream)? {
                return stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Answers one request; returns whether the connection stays open.
    #[allow(clippy::too_many_lines, reason = "a line for each mistake")]
    fn answer(&self, head: &[String], mut out: &TcpStream) -> std::io::Result<bool> {
        let mut words = head[0].split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let range = head.iter().find_map(|line| {
            let value = line.to_ascii_lowercase().strip_prefix("range: bytes=")?.to_owned();
            let (from, to) = value.split_once('-')?;
            Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))
        });
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::Dead {
            return Ok(false);
        }
        // `/moved-N/...` is valid for a few requests after the Nth.
        let moved = path.strip_prefix("/moved-").and_then(|rest| rest.split_once('/'));
        let is_moved = moved.is_some();
        if moved.is_some_and(|(number, _)| {
            number.parse::<usize>().unwrap() + GOOD_FOR < self.count.load(Ordering::Relaxed)
        }) {
            assert!(!head.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization")));
            write!(out, "HTTP/1.1 403 Expired\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        }
        let Ok(content) =
            fs::read(self.root.join(moved.map_or(path.trim_start_matches('/'), |(_, path)| path)))
        else {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(true);
        };
        let is_part = range.is_some();
        let number = if is_part { self.count.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let (from, to) = range.unwrap_or((0, content.len().saturating_sub(1)));
        let body = content.get(from..=to.min(content.len().saturating_sub(1))).unwrap_or_default();
        let range_header = format!("Content-Range: bytes {from}-{to}/{}\r\n", content.len());
        let fault = if is_part && !is_moved { fault } else { Fault::None };
        let refuse = |mut out: &TcpStream, text: &str| write!(out, "HTTP/1.1 {text}\r\n\r\n").map(|()| true);
        match fault {
            Fault::Missing => return refuse(out, "404 Not Found\r\nContent-Length: 0"),
            Fault::Unavailable => return refuse(out, "503 Busy\r\nContent-Length: 0"),
            Fault::TooMany if number % 2 == 0 => {
                return refuse(out, "429 Slow\r\nRetry-After: 1\r\nContent-Length: 0");
            }
            Fault::NotSatisfiable => {
                return refuse(out, &format!("416 No\r\nContent-Length: {}", content.len()));
            }
            Fault::Redirect => {
                let place = format!("/moved-{}{path}", usize::MAX / 2);
                return refuse(out, &format!("307 There\r\nLocation: {place}\r\nContent-Length: 0"));
            }
            Fault::RedirectExpires => {
                let place = format!("/moved-{number}{path}");
                return refuse(out, &format!("307 There\r\nLocation: {place}\r\nContent-Length: 0"));
            }
            Fault::Stall => {
                while !self.stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(false);
            }
            Fault::Slow => std::thread::sleep(Duration::from_millis(30)),
            _ => {}
        }
        let (status, range_header, mut body) = match fault {
            Fault::Whole => ("200 OK", String::new(), content.clone()),
            Fault::PartAs200 => ("200 OK", range_header, body.to_vec()),
            Fault::OtherRange => (
                "206 Part",
                format!("Content-Range: bytes 0-{}/{}\r\n", body.len(), content.len()),
                body.to_vec(),
            ),
            _ if is_part => ("206 Part", range_header, body.to_vec()),
            _ => ("200 OK", String::new(), body.to_vec()),
        };
        let is_wrong = fault == Fault::WrongAlways || fault == Fault::WrongSometimes && number % 3 == 0;
        if is_wrong && let Some(byte) = body.last_mut() {
            *byte ^= 1;
        }
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range_header}\r\n", body.len())?;
        if method == "HEAD" {
            return Ok(true);
        }
        let is_cut = fault == Fault::CutAlways || fault == Fault::CutSometimes && number % 4 == 0;
        let sent = if is_cut { body.len() / 2 } else { body.len() };
        out.write_all(&body[..sent])?;
        Ok(!is_cut)
    }
}
