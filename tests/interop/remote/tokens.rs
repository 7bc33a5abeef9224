//! A token server for a registry, whose tokens live for four seconds.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::listening::Listening;
use super::services::certificates;

/// The lifetime of a token, in seconds.
pub const LIFE: u64 = 4;
/// How much longer a registry accepts it, because clocks differ.
const LEEWAY: u64 = 60;

/// The server; it ends when dropped.
pub struct Tokens {
    listening: Listening,
    dir: PathBuf,
    count: Arc<AtomicUsize>,
}

impl Tokens {
    /// Writes its key and certificate to `dir`.
    pub fn start(dir: &Path) -> Tokens {
        certificates(dir);
        let count = Arc::new(AtomicUsize::new(0));
        let (given, files) = (Arc::clone(&count), dir.to_owned());
        // A client that disconnects ends only its own connection.
        let listening = Listening::start(Arc::default(), move |stream| {
            answer(&stream, &files, &given).unwrap_or_default();
        });
        Tokens { listening, dir: dir.to_owned(), count }
    }

    pub fn address(&self) -> &str {
        self.listening.address()
    }

    pub fn certificate(&self) -> PathBuf {
        self.dir.join("cert.pem")
    }

    /// The number of tokens that were issued.
    pub fn given(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

fn answer(stream: &TcpStream, dir: &Path, given: &AtomicUsize) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let is_user =
        headers.iter().any(|line| line.eq_ignore_ascii_case("authorization: basic dXNlcjpzZWNyZXQ="));
    let (status, body) = match is_user {
        true => {
            given.fetch_add(1, Ordering::Relaxed);
            // The answer does not contain the lifetime: the client notices the expiry by a refusal.
            ("200 OK", format!(r#"{{"token":"{}"}}"#, token(&first, dir)))
        }
        false => ("401 Unauthorized", "{}".to_owned()),
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// A token for the scope in the request's first line.
fn token(request: &str, dir: &Path) -> String {
    let path = request.split(' ').nth(1).unwrap();
    let url = url::Url::parse(&format!("http://x{path}")).unwrap();
    let scope = url.query_pairs().find(|(key, _)| key == "scope").unwrap().1.into_owned();
    let parts: Vec<&str> = scope.splitn(3, ':').collect();
    let actions: Vec<&str> = parts[2].split(',').collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let certificate = fs::read_to_string(dir.join("cert.pem")).unwrap();
    let der: String = certificate.lines().filter(|line| !line.starts_with("-----")).collect();
    let header = serde_json::json!({"typ": "JWT", "alg": "ES256", "x5c": [der]});
    let claims = serde_json::json!({
        "iss": "test", "sub": "user", "aud": "registry", "jti": now.to_string(),
        "exp": now + LIFE - LEEWAY, "nbf": now - 2 * LEEWAY, "iat": now - 2 * LEEWAY,
        "access": [{"type": parts[0], "name": parts[1], "actions": actions}],
    });
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = raw_signature(&sign(&signed, &dir.join("key.pem")));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn sign(text: &str, key: &Path) -> Vec<u8> {
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(key).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// The two numbers of a signature in ASN.1, 32 bytes each.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut raw = Vec::new();
    for _ in 0..2 {
        let len = usize::from(rest[1]);
        let digits: Vec<u8> = rest[2..2 + len].iter().copied().skip_while(|byte| *byte == 0).collect();
        raw.extend(std::iter::repeat_n(0, 32 - digits.len()).chain(digits));
        rest = &rest[2 + len..];
    }
    raw
}
