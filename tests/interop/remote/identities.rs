//! Keys for S3 that are not in a file: a server that hands them out only for the requests that AWS documents, and s3s-fs, which
//! checks every signature.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::listening::{Asked, Listening, Pairs};
use super::services::{self, S3, free_port};
use super::{content_of, contents, pull, push, recorded};
use crate::common::test_home::TestHome;
use crate::common::{exit, said, stderr};

const ROLE: &str = "arn:aws:iam::123456789012:role/reader";
const PROOF: &str = "pr00f-of-the-cluster";

/// Hands out keys; its address.
fn start() -> Listening {
    // A client that disconnects ends only its own connection.
    Listening::start(Default::default(), |stream| answer(&stream).unwrap_or_default())
}

fn answer(mut stream: &TcpStream) -> std::io::Result<()> {
    let asked = Asked::read(stream)?;
    let said = said_to(&asked);
    let (status, body) = said.map_or(("403 Forbidden", String::new()), |body| ("200 OK", body));
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// The answer to a request that AWS documents.
fn said_to(asked: &Asked) -> Option<String> {
    let keys = |token: &str| {
        format!(
            r#"{{"AccessKeyId":"key","SecretAccessKey":"secret","{token}":"t0ken","Expiration":"2099-01-01T00:00:00Z"}}"#
        )
    };
    let header = |name: &str| asked.headers.get(name).map(String::as_str);
    let is_instance = header("x-aws-ec2-metadata-token") == Some("instance-token");
    match (asked.method.as_str(), asked.path.as_str()) {
        ("POST", "/") => {
            let expected = [
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", ROLE),
                ("RoleSessionName", "holofs"),
                ("WebIdentityToken", PROOF),
            ];
            let expected: Pairs = expected.iter().map(|&(key, value)| (key.into(), value.into())).collect();
            (asked.form == expected && header("accept") == Some("application/json")).then(|| {
                format!(
                    r#"{{"AssumeRoleWithWebIdentityResponse":{{"AssumeRoleWithWebIdentityResult":{{"Credentials":{}}}}}}}"#,
                    keys("SessionToken")
                )
            })
        }
        ("GET", "/container") => (header("authorization") == Some("c0ntainer")).then(|| keys("Token")),
        ("PUT", "/latest/api/token") => {
            let life = header("x-aws-ec2-metadata-token-ttl-seconds")?.parse::<u32>().ok()?;
            (1..=21_600).contains(&life).then(|| "instance-token".to_owned())
        }
        ("GET", "/latest/meta-data/iam/security-credentials/") => is_instance.then(|| "role-1\n".to_owned()),
        ("GET", "/latest/meta-data/iam/security-credentials/role-1") => is_instance.then(|| keys("Token")),
        _ => None,
    }
}

#[test]
fn identities_of_aws_get_keys_and_nothing_of_them_is_shown() {
    let from = TestHome::new();
    let Some(service) = services::s3(S3::S3sFs, &from.scratch(), &[&from]) else { return };
    let catalog = recorded(&from, &contents()[..3], "identities=1");
    push(&from, &catalog, "s3://envs/team#prod");
    let (server, proof, secret) = (start(), from.scratch().join("proof"), from.scratch().join("container"));
    fs::write(&proof, format!("{PROOF}\n")).unwrap();
    fs::write(&secret, "c0ntainer\n").unwrap();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    // Another name of this machine, so that the proxy is used for it unless it is never used for such servers.
    let at = |path: &str| format!("http://localhost:{}{path}", server.address().rsplit(':').next().unwrap());
    let proxy =
        [("HTTP_PROXY", format!("http://127.0.0.1:{}", free_port())), ("NO_PROXY", "127.0.0.1".to_owned())];
    let off = ("AWS_EC2_METADATA_DISABLED", "true".to_owned());
    let common = || {
        vec![
            ("AWS_ENDPOINT_URL_S3", format!("http://{}", service.address())),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    };
    let kinds = [
        vec![
            ("AWS_ENDPOINT_URL_STS", at("/")),
            ("AWS_ROLE_ARN", ROLE.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", path(&proof)),
            off.clone(),
        ],
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", at("/container")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path(&secret)),
            proxy[0].clone(),
            proxy[1].clone(),
            off.clone(),
        ],
        vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", at("/")), proxy[0].clone(), proxy[1].clone()],
    ];
    for kind in kinds {
        let to = TestHome::new().with([common(), kind.clone()].concat());
        let mut command = to.holofs_command(&["pull", "s3://envs/team#prod", "-vvv"]);
        let pulled = command.env("RUST_LOG", "trace").output().unwrap();
        assert!(pulled.status.success(), "{kind:?}: {}", said(&pulled));
        for secret in ["t0ken", "pr00f", "c0ntainer"] {
            assert!(!said(&pulled).contains(secret), "{kind:?}: {}", said(&pulled));
        }
    }
    let stranger = TestHome::new().with([common(), vec![off]].concat());
    let refused = stranger.holofs_fails(&["pull", "s3://envs/team#prod"], exit::IO);
    assert!(stderr(&refused).contains("403"), "{}", stderr(&refused));
}

#[test]
fn an_identity_of_aws_that_gives_no_keys_is_a_clear_error() {
    let (dir, server) = (tempfile::tempdir().unwrap(), start());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("wrong"), "wr0ng-proof").unwrap();
    fs::File::create(path("large")).unwrap().set_len(1 << 40).unwrap();
    let at = |path: &str| format!("http://{}{path}", server.address());
    let fails = |variables: Vec<(&'static str, String)>, why: &str| {
        // Nothing is sent to the bucket.
        let bucket = ("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{}", free_port()));
        let to = TestHome::new().with([vec![bucket], variables].concat());
        let pulled = to.holofs_fails(&["pull", "s3://envs/team#prod", "-vvv"], exit::IO);
        assert!(stderr(&pulled).contains(why), "{why}: {}", stderr(&pulled));
        assert!(!said(&pulled).contains("wr0ng"), "{}", said(&pulled));
    };
    let web = |file: &str| {
        vec![
            ("AWS_ENDPOINT_URL_STS", at("/")),
            ("AWS_ROLE_ARN", ROLE.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_owned()),
        ]
    };
    let unreadable =
        |file: &str, why: &str| format!("AWS_WEB_IDENTITY_TOKEN_FILE cannot be read: {file}: {why}");
    fails(web(&path("none")), &unreadable(&path("none"), "No such file"));
    fails(web(&path("large")), &unreadable(&path("large"), "it is larger than 65536 bytes"));
    fails(web("/dev/zero"), &unreadable("/dev/zero", "it is not a regular file"));
    fails(web(&path("wrong")), "status 403");
    let container = |file: &str| {
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", at("/container")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_owned()),
        ]
    };
    fails(container(&path("none")), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read: ");
    fails(container(&path("wrong")), "status 403");
}

#[test]
fn keys_that_are_replaced_during_a_mount_are_found() {
    let (from, to) = (TestHome::new(), TestHome::new());
    let Some(mut service) = services::s3(S3::S3sFs, &from.scratch(), &[&from, &to]) else { return };
    let catalog = recorded(&from, &contents(), "rotated=1");
    push(&from, &catalog, "s3://envs/team#prod");
    let (started, mounted) = (Instant::now(), to.mount("s3://envs/team#prod", "lazy", "c", &[]));
    let read = |name: &str| fs::read(mounted.path().join("lib").join(name));
    assert_eq!(read("small-1").unwrap(), content_of("small-1"));
    service.kill();
    service.replace("secret", "other-secret");
    service.restart();
    assert_eq!(
        read("file-9000000").unwrap_err().raw_os_error(),
        Some(5),
        "the old key is not valid any more"
    );
    let keys = to.user().join(".aws/credentials");
    fs::write(&keys, fs::read_to_string(&keys).unwrap().replace("= secret", "= other-secret")).unwrap();
    // Keys are looked up at most every 30 seconds.
    std::thread::sleep(Duration::from_secs(31).saturating_sub(started.elapsed()));
    assert_eq!(read("file-9000000").unwrap(), content_of("file-9000000"));
    drop(mounted);
    pull(&to, "s3://envs/team#prod");
}
