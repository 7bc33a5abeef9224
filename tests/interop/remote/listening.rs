//! The loop that accepts connections, and their requests, for the tests' own servers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Accepts connections on this machine until it is dropped.
pub struct Listening {
    address: String,
    stop: Arc<AtomicBool>,
}

impl Listening {
    /// Calls `answer` for each connection; sets `stop` when it ends.
    pub fn start(stop: Arc<AtomicBool>, mut answer: impl FnMut(TcpStream) + Send + 'static) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                answer(stream.unwrap());
            }
        });
        Listening { address, stop }
    }

    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the loop.
        drop(TcpStream::connect(&self.address));
    }
}

pub type Pairs = BTreeMap<String, String>;

/// A request.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: Pairs,
    /// By their names in lower case.
    pub headers: Pairs,
    /// The body.
    pub form: Pairs,
}

impl Asked {
    pub fn read(stream: &TcpStream) -> std::io::Result<Asked> {
        let mut from = BufReader::new(stream);
        let mut first = String::new();
        from.read_line(&mut first)?;
        let mut headers = Pairs::new();
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
        from.read_exact(&mut body)?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let pairs = |bytes: &[u8]| url::form_urlencoded::parse(bytes).into_owned().collect();
        Ok(Asked {
            method,
            path: path.to_owned(),
            query: pairs(query.as_bytes()),
            headers,
            form: pairs(&body),
        })
    }
}
