//! `holofs metrics`: metrics of live spaces for Prometheus: printed, written to a file for node_exporter, or served.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::inspect::live::Sample;
use crate::inspect::metrics::{CONTENT_TYPE, text};
use crate::inspect::usage::usage;
use crate::remote::http_head;

use super::context::Context;
use super::terminal;

/// The maximum size of a request's head in bytes, and its maximum number of lines.
const MOST: usize = 8 << 10;
const LINES: usize = 64;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Write to this file, replaced atomically: for the textfile collector of node_exporter
    #[arg(short, long, value_name = "FILE", conflicts_with = "listen")]
    pub output: Option<PathBuf>,
    /// Serve http://ADDR/metrics until interrupted, for example on 127.0.0.1:9464; without login and TLS
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Also measure disk usage, which reads all directories of the home
    #[arg(long)]
    pub disk: bool,
}

/// Takes a sample, and writes it to the chosen place.
pub fn main(context: &Context, args: &MetricsArgs) -> anyhow::Result<ExitCode> {
    match (&args.listen, &args.output) {
        (Some(address), _) => serve(context, *address, args.disk)?,
        (None, Some(file)) => replace(file, &page(context, args.disk)?)?,
        (None, None) => terminal::print(page(context, args.disk)?.trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(context: &Context, disk: bool) -> anyhow::Result<String> {
    let usage = if disk { Some(usage(&context.home)?) } else { None };
    Ok(text(&Sample::take(&context.home)?, usage.as_ref()))
}

/// Replaces the file atomically: readers never see half of it.
fn replace(file: &Path, page: &str) -> anyhow::Result<()> {
    let cannot = || format!("Cannot write {}", file.display());
    let file = std::path::absolute(file).with_context(cannot)?;
    let parent = file.parent().context("A file is in a directory")?;
    let mode = std::fs::Permissions::from_mode(0o644);
    let new = tempfile::Builder::new().prefix(".holofs-").permissions(mode).tempfile_in(parent);
    let mut new = new.with_context(cannot)?;
    new.write_all(page.as_bytes()).with_context(cannot)?;
    new.persist(&file).map(drop).with_context(cannot)
}

/// Answers clients one after the other: each uses this one thread, for at most [`PATIENCE`].
fn serve(context: &Context, address: SocketAddr, disk: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("Cannot listen on {address}"))?;
    let address = listener.local_addr().context("Cannot find the address it listens on")?;
    terminal::tell("holofs", &format!("serving http://{address}/metrics"));
    for stream in listener.incoming() {
        let answered = stream.and_then(|mut stream| answer(&mut stream, || page(context, disk)));
        if let Err(error) = answered {
            log::debug!("A request was not answered: {error}");
        }
    }
    Ok(())
}

fn answer(stream: &mut TcpStream, page: impl FnOnce() -> anyhow::Result<String>) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, body) = match asked(stream)? {
        Asked::Metrics { body } => match page() {
            Ok(page) if body => ("200 OK", page),
            Ok(_) => ("200 OK", String::new()),
            Err(error) => ("500 Internal Server Error", format!("{error:#}\n")),
        },
        Asked::Other => ("404 Not Found", "there is /metrics\n".to_owned()),
        Asked::Method => ("405 Method Not Allowed", "GET or HEAD\n".to_owned()),
        Asked::Nonsense => ("400 Bad Request", "not an HTTP request\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// A client's request.
#[derive(Debug, PartialEq)]
enum Asked {
    Metrics { body: bool },
    Other,
    Method,
    Nonsense,
}

/// Reads a request's head.
fn asked(stream: &TcpStream) -> std::io::Result<Asked> {
    Ok(match http_head::read(stream, PATIENCE, MOST, meant)? {
        http_head::Read::Head(asked, _) => asked,
        http_head::Read::Cut | http_head::Read::TooLong => Asked::Nonsense,
    })
}

/// The request in `head`; `None` if it is incomplete.
fn meant(head: &[u8]) -> Option<Asked> {
    let mut lines = [httparse::EMPTY_HEADER; LINES];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(head) {
        Err(_) => Some(Asked::Nonsense),
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default().split('?').next();
            Some(match (request.method, path) {
                (Some("GET"), Some("/metrics")) => Asked::Metrics { body: true },
                (Some("HEAD"), Some("/metrics")) => Asked::Metrics { body: false },
                (Some("GET" | "HEAD"), _) => Asked::Other,
                _ => Asked::Method,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let meant = |text: &str| meant(text.as_bytes());
        assert_eq!(meant("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some(Asked::Metrics { body: true }));
        assert_eq!(meant("HEAD /metrics?x=1 HTTP/1.0\r\n\r\n"), Some(Asked::Metrics { body: false }));
        assert_eq!(meant("GET / HTTP/1.1\r\n\r\n"), Some(Asked::Other));
        assert_eq!(meant("POST /metrics HTTP/1.1\r\n\r\n"), Some(Asked::Method));
        assert_eq!(meant("GET /metrics HTTP/1.1\r\nHost"), None);
        assert_eq!(meant("\x16\x03\x01"), Some(Asked::Nonsense));
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(LINES + 1));
        assert_eq!(meant(&many), Some(Asked::Nonsense));
    }
}
