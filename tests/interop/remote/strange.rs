//! Servers of logins that answer with anything: each answer is a clear error in bounded time and memory, nothing of the request is shown, and
//! no other server gets it.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::listening::{Asked, Listening};
use super::services::free_port;
use crate::common::test_home::TestHome;
use crate::common::{exit, said, stderr};

/// A part of everything that is sent.
const SECRET: &str = "s3cr3t-w0rd";
/// What may be read of an endless answer, with the buffers of the network.
const MOST: usize = 16 << 20;

/// An answer.
enum Answer {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// A beginning, and more of the same until the client is gone.
    Endless(&'static str, &'static str),
}

/// Answers, each with a part of the message for it.
fn answers(elsewhere: &str) -> Vec<(Answer, &'static str)> {
    let bytes = |text: &str| Answer::Bytes(text.as_bytes().to_vec());
    let with = |status: &str, more: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n", body.len());
        Answer::Bytes([head.as_bytes(), body].concat())
    };
    let is = |body: &str| with("200 OK", "", body.as_bytes());
    let repeated = format!(
        r#"{{"error":"{SECRET}","error_description":"{SECRET}: {SECRET}","Error":{{"Code":"{SECRET}","Message":"{SECRET}"}}}}"#
    );
    let split = format!(r#"{{"access_token":"t\r\nx: {SECRET}","expires_in":1}}"#);
    let to = |status: &str| with(status, &format!("Location: http://{elsewhere}/{SECRET}\r\n"), b"");
    vec![
        (is(""), "sends no"),
        (is("<html>"), "sends no"),
        (is(&"[".repeat(60_000)), "sends no"),
        (is(&split), "sends no"),
        (with("200 OK", "", &[0xff; 5000]), "sends no"),
        (with("403 Forbidden", "Content-Type: application/json\r\n", repeated.as_bytes()), "status 403"),
        (to("302 Found"), "status 302"),
        (to("307 Temporary Redirect"), "status 307"),
        (bytes(""), "a token|keys"),
        (bytes("SSH-2.0-OpenSSH_9.2\r\n"), "a token|keys"),
        (bytes("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"), "a token|keys"),
        (Answer::Endless("HTTP/1.1 200 OK\r\n\r\n", "xxxxxxxxxxxxxxxx"), "it has more than 65536 bytes"),
        (Answer::Endless("HTTP/1.1 200 OK\r\n", "a: b\r\n"), "a token|keys"),
    ]
}

/// What is sent of an answer before the client is gone.
fn send(mut stream: &TcpStream, answer: &Answer, sent: &AtomicUsize) -> std::io::Result<()> {
    Asked::read(stream)?;
    let (head, more) = match answer {
        Answer::Bytes(bytes) => return stream.write_all(bytes),
        Answer::Endless(head, more) => (head, more.repeat(4096)),
    };
    stream.write_all(head.as_bytes())?;
    loop {
        stream.write_all(more.as_bytes())?;
        sent.fetch_add(more.len(), Ordering::Relaxed);
    }
}

/// The variables of each kind of identity, whose server is at this address, and the remote that needs it.
fn identities(server: &str, dir: &Path) -> [(&'static str, Vec<(&'static str, String)>); 4] {
    let file = dir.join("token");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let (file, url) = (file.to_str().unwrap().to_owned(), format!("http://{server}"));
    let text = str::to_owned;
    [
        (
            "az://envs#prod",
            vec![
                ("AZURE_AUTHORITY_HOST", url.clone()),
                ("AZURE_TENANT_ID", text("tenant")),
                ("AZURE_CLIENT_ID", text("client")),
                ("AZURE_CLIENT_SECRET", text(SECRET)),
            ],
        ),
        (
            "az://envs#prod",
            vec![("IDENTITY_ENDPOINT", format!("{url}/msi")), ("IDENTITY_HEADER", text(SECRET))],
        ),
        (
            "s3://envs#prod",
            vec![
                ("AWS_ENDPOINT_URL_STS", url.clone()),
                ("AWS_ROLE_ARN", text("role")),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", file.clone()),
            ],
        ),
        (
            "s3://envs#prod",
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/keys")),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file),
            ],
        ),
    ]
}

/// Pulls as the identity number `which`, with each answer of its server.
fn refused(which: usize) {
    let dir = tempfile::tempdir().unwrap();
    let is_asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_asked);
    let elsewhere = Listening::start(Arc::default(), move |_| seen.store(true, Ordering::Relaxed));
    for (number, (answer, why)) in answers(elsewhere.address()).into_iter().enumerate() {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        // A client that disconnects ends only its own connection.
        let server = Listening::start(Arc::default(), move |stream| {
            send(&stream, &answer, &count).unwrap_or_default();
        });
        let (remote, variables) = identities(server.address(), dir.path())[which].clone();
        let nobody = format!("http://127.0.0.1:{}", free_port());
        let storage = ["AWS_ENDPOINT_URL_S3", "AZURE_STORAGE_ENDPOINT"].map(|name| (name, nobody.clone()));
        let home = TestHome::new().with(storage.into_iter().chain(variables).collect());
        let started = Instant::now();
        let mut command = home.holofs_command(&["pull", remote, "-vvv"]);
        let pulled = command.env("RUST_LOG", "trace").output().unwrap();
        let what = format!("answer {number} to identity {which}: {}", said(&pulled));
        assert_eq!(pulled.status.code(), Some(exit::IO), "{what}");
        assert!(why.split('|').any(|why| stderr(&pulled).contains(why)), "{why} in {what}");
        assert!(!said(&pulled).contains("s3cr3t") && !said(&pulled).contains("panicked"), "{what}");
        assert!(started.elapsed() < Duration::from_secs(60), "{:?} for {what}", started.elapsed());
        assert!(sent.load(Ordering::Relaxed) < MOST, "{} bytes of {what}", sent.load(Ordering::Relaxed));
        assert!(!is_asked.load(Ordering::Relaxed), "another server was asked after {what}");
    }
}

#[test]
fn any_answer_to_an_identity_is_a_clear_error_that_shows_no_secret() {
    std::thread::scope(|scope| {
        (0..4).for_each(|which| drop(scope.spawn(move || refused(which))));
    });
}
