//! Keys for S3, from where the AWS tools look for them, in the same order. As in these tools, an identity that variables name and that
//! gives no keys is an error; without any, requests are not signed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusty_s3::Credentials;
use serde::Deserialize;
use ureq::http::Method;
use url::{Host, Url};

use crate::error::chain;
use crate::remote::address::is_private;
use crate::remote::error::RemoteError;
use crate::remote::transport::http::{Call, Client};
use crate::remote::transport::{Access, Patience, ini, logins, retrying};

/// The minimum interval between two lookups of keys.
const NOT_SOONER: Duration = Duration::from_secs(30);
/// The maximum length of an answer with keys.
const MAX_ANSWER: u64 = 64 << 10;
/// The instance's own metadata server, which answers at once or not at all.
const INSTANCE: &str = "http://169.254.169.254";
/// The container's own credentials server.
const CONTAINER: &str = "http://169.254.170.2";

/// The keys of one bucket.
pub struct Keys {
    access: Access,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<Credentials>>,
    looked: Option<Instant>,
    /// Why the last lookup failed.
    failed: Option<String>,
}

impl Keys {
    /// Keys according to this environment; not looked up yet.
    pub fn new(access: Access) -> Keys {
        Keys { access, state: Mutex::default() }
    }

    /// The keys, looked up once, or again after a failure.
    pub fn get(&self) -> Result<Option<Arc<Credentials>>, String> {
        let mut state = self.state();
        let is_recent = state.looked.is_some_and(|at| at.elapsed() < NOT_SOONER);
        if let Some(why) = state.failed.as_ref().filter(|_| is_recent) {
            return Err(why.clone());
        }
        if state.looked.is_none() || state.failed.is_some() {
            state.looked = Some(Instant::now());
            match find(&self.access) {
                Ok(found) => (state.keys, state.failed) = (found.map(Arc::new), None),
                Err(why) => state.failed = Some(why),
            }
        }
        state.failed.clone().map_or_else(|| Ok(state.keys.clone()), Err)
    }

    /// Keys that differ from the refused ones: those that another request has found meanwhile, or new ones.
    pub fn renew(&self, refused: Option<&Credentials>) -> Result<Option<Arc<Credentials>>, String> {
        let mut state = self.state();
        if let Some(known) = &state.keys
            && refused.is_none_or(|refused| !is_same(known, refused))
        {
            return Ok(Some(Arc::clone(known)));
        }
        if state.looked.is_some_and(|at| at.elapsed() < NOT_SOONER) {
            return Ok(None);
        }
        state.looked = Some(Instant::now());
        let Some(found) = find(&self.access)?.map(Arc::new) else { return Ok(None) };
        let is_new = refused.is_none_or(|refused| !is_same(&found, refused));
        state.keys = Some(Arc::clone(&found));
        Ok(is_new.then_some(found))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(one: &Credentials, other: &Credentials) -> bool {
    (one.key(), one.secret(), one.token()) == (other.key(), other.secret(), other.token())
}

/// The keys of the first source that is there; or what is wrong with it, without a value.
fn find(access: &Access) -> Result<Option<Credentials>, String> {
    let var = |name: &str| (access.var)(name);
    if let (Some(key), Some(secret)) = (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Some(credentials(key, secret, var("AWS_SESSION_TOKEN"))));
    }
    let setting = |name| profile_setting(access, name);
    if let (Some(key), Some(secret)) = (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        return Ok(Some(credentials(key, secret, setting("aws_session_token"))));
    }
    if let Some(found) = web_identity(access)? {
        return Ok(Some(found));
    }
    if let Some(found) = container(access)? {
        return Ok(Some(found));
    }
    // Whether this is an instance with a role is only known by asking.
    Ok(instance(access).unwrap_or_else(|error| {
        log::debug!("No keys from the instance: {error}");
        None
    }))
}

fn credentials(key: String, secret: String, token: Option<String>) -> Credentials {
    match token {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    }
}

/// A setting of the profile `AWS_PROFILE`, from `~/.aws/credentials` and `~/.aws/config`.
pub fn profile_setting(access: &Access, name: &str) -> Option<String> {
    let var = |name: &str| (access.var)(name);
    let profile = var("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let home = var("HOME").or_else(|| var("USERPROFILE")).map(PathBuf::from);
    let file = |variable: &str, name: &str| {
        var(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(name)))
    };
    let read = |path: Option<PathBuf>, section: &str| ini::setting(&logins::settings(&path?)?, section, name);
    let section = if profile == "default" { profile.clone() } else { format!("profile {profile}") };
    read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &profile)
        .or_else(|| read(file("AWS_CONFIG_FILE", "config"), &section))
}

/// Keys as sent by the servers of containers and instances.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    session_token: Option<String>,
}

impl Role {
    fn credentials(self) -> Credentials {
        credentials(self.access_key_id, self.secret_access_key, self.token.or(self.session_token))
    }
}

/// The keys in an answer of the server of a container or an instance.
pub fn role_in(bytes: &[u8]) -> Option<Credentials> {
    serde_json::from_slice::<Role>(bytes).ok().map(Role::credentials)
}

/// The keys in the answer to a web identity.
pub fn exchanged_in(bytes: &[u8]) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        assume_role_with_web_identity_response: Response,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Response {
        assume_role_with_web_identity_result: Outcome,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Outcome {
        credentials: Role,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let response = answer.assume_role_with_web_identity_response;
    Some(response.assume_role_with_web_identity_result.credentials.credentials())
}

/// The token in a file from CI or Kubernetes, exchanged for keys.
fn web_identity(access: &Access) -> Result<Option<Credentials>, String> {
    let var = |name: &str| (access.var)(name);
    let (Some(file), Some(role)) = (var("AWS_WEB_IDENTITY_TOKEN_FILE"), var("AWS_ROLE_ARN")) else {
        return Ok(None);
    };
    let token = logins::token("AWS_WEB_IDENTITY_TOKEN_FILE", &file)?;
    let session = var("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "holofs".to_owned());
    let region = var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION"));
    let usual = region.map_or_else(
        || "https://sts.amazonaws.com".to_owned(),
        |region| format!("https://sts.{region}.amazonaws.com"),
    );
    let endpoint = var("AWS_ENDPOINT_URL_STS").unwrap_or(usual);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", &role)
        .append_pair("RoleSessionName", &session)
        .append_pair("WebIdentityToken", &token)
        .finish();
    let headers = || {
        vec![
            ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ("accept", "application/json".to_owned()),
        ]
    };
    let client = Client::of_logins(host_of(&endpoint), access);
    let answer =
        retrying(|| ask(&client, Method::POST, &endpoint, headers(), Some(form.as_bytes()))).map_err(said)?;
    given(exchanged_in(&answer), &endpoint)
}

fn container(access: &Access) -> Result<Option<Credentials>, String> {
    let var = |name: &str| (access.var)(name);
    let relative = var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let Some(url) = relative.or_else(|| var("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
    if !Url::parse(&url).is_ok_and(|url| is_private(&url) || is_of_aws(&url)) {
        return Err(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is without TLS, and not an address of this machine".into()
        );
    }
    const FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    let token = match var(FILE) {
        Some(file) => Some(logins::token(FILE, &file)?),
        None => var("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|token| token.trim().to_owned()),
    };
    let headers = || token.iter().map(|token| ("authorization", token.clone())).collect();
    let client = near(access, &url);
    let answer = retrying(|| ask(&client, Method::GET, &url, headers(), None)).map_err(said)?;
    given(role_in(&answer), &url)
}

fn said(error: RemoteError) -> String {
    chain(&error).to_string()
}

/// The keys, which must be there.
fn given(keys: Option<Credentials>, url: &str) -> Result<Option<Credentials>, String> {
    keys.map(Some).ok_or_else(|| format!("{} sends no keys", host_of(url)))
}

fn instance(access: &Access) -> Result<Option<Credentials>, RemoteError> {
    if (access.var)("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let base = (access.var)("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.to_owned());
    let base = Url::parse(&base)
        .map_or_else(|_| INSTANCE.to_owned(), |url| url.as_str().trim_end_matches('/').to_owned());
    let life = vec![("x-aws-ec2-metadata-token-ttl-seconds", "300".to_owned())];
    let client = near(access, &base);
    let token = ask(&client, Method::PUT, &format!("{base}/latest/api/token"), life, Some(b""))?;
    let token = String::from_utf8_lossy(&token).trim().to_owned();
    let headers = || vec![("x-aws-ec2-metadata-token", token.clone())];
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let names = ask(&client, Method::GET, &roles, headers(), None)?;
    let names = String::from_utf8_lossy(&names).into_owned();
    let Some(name) = names.lines().next() else { return Ok(None) };
    let answer = ask(&client, Method::GET, &format!("{roles}{name}"), headers(), None)?;
    Ok(role_in(&answer))
}

/// One request to a server that provides keys; its answer is never displayed.
fn ask(
    client: &Client,
    method: Method,
    url: &str,
    headers: Vec<(&'static str, String)>,
    body: Option<&[u8]>,
) -> Result<Vec<u8>, RemoteError> {
    let patience = client.patience().answer;
    let call = Call { doing: "Reading", what: "keys", method, url, headers, body, patience };
    let answer = client.send(&call)?;
    match answer.status {
        200 => client.read(&call, answer, MAX_ANSWER),
        status => Err(client.odd(&call, format!("status {status}"), matches!(status, 429 | 500..))),
    }
}

/// A client for the server of the container's or the instance's keys at `url`.
fn near(access: &Access, url: &str) -> Client {
    let soon = Duration::from_secs(1);
    let is_local = Url::parse(url).is_ok_and(|url| is_of_aws(&url));
    let patience =
        if is_local { Patience { connect: soon, answer: soon, ..access.patience } } else { access.patience };
    Client::direct(host_of(url), &Access { patience, ..access.clone() })
}

/// True for the addresses at which AWS serves containers and instances: they are not routed.
fn is_of_aws(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local(),
        Some(Host::Ipv6(address)) => address.segments()[..2] == [0xfd00, 0xec2],
        _ => false,
    }
}

fn host_of(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_the_environment_first() {
        let keys = find(&Access::of(&[
            ("AWS_ACCESS_KEY_ID", "k"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", "t"),
        ]));
        let keys = keys.unwrap().unwrap();
        assert_eq!((keys.key(), keys.secret(), keys.token()), ("k", "s", Some("t")));
    }

    #[test]
    fn many_requests_with_expired_keys_all_get_the_new_ones() {
        let keys = Keys::new(Access::of(&[("AWS_ACCESS_KEY_ID", "new"), ("AWS_SECRET_ACCESS_KEY", "s")]));
        let expired = Credentials::new("old", "s");
        *keys.state() = State { keys: Some(Arc::new(expired.clone())), ..State::default() };
        for _ in 0..3 {
            assert_eq!(keys.renew(Some(&expired)).unwrap().unwrap().key(), "new");
        }
        let again = keys.renew(Some(&Credentials::new("new", "s"))).unwrap();
        assert!(again.is_none(), "those were refused, too");
    }

    #[test]
    fn an_identity_that_gives_no_keys_is_an_error_and_is_asked_again_only_later() {
        let refused = |vars: &'static [(&'static str, &'static str)], file: &str| {
            let keys = Keys::new(Access::of(vars));
            let why = keys.get().unwrap_err();
            assert!(why.starts_with(&format!("{file} cannot be read: /dev/zero: ")), "{why}");
            assert_eq!(keys.get(), Err(why));
            keys.state().looked = Instant::now().checked_sub(NOT_SOONER);
            keys.get().unwrap_err();
            assert!(keys.state().looked.is_some_and(|at| at.elapsed() < NOT_SOONER), "it was asked again");
        };
        let file = "AWS_WEB_IDENTITY_TOKEN_FILE";
        refused(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/dev/zero"), ("AWS_ROLE_ARN", "r")], file);
        let file = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
        let url = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://[fd00:ec2::23]/x");
        refused(vec![url, ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/dev/zero")].leak(), file);
    }

    #[test]
    fn the_token_of_a_container_is_not_sent_without_tls() {
        let at = |url: &'static str| {
            let variables = [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/dev/zero"),
            ];
            find(&Access::of(variables.to_vec().leak())).map(drop).unwrap_err()
        };
        let near =
            ["http://localhost/x", "http://169.254.170.23/x", "http://[fd00:ec2::23]/x", "https://x/x"];
        assert!(near.into_iter().all(|url| at(url).contains("/dev/zero")));
        let far = ["http://169.254.170.2.example.com/x", "http://10.0.0.1/x", "http://example.com/x", "x"];
        assert!(far.into_iter().all(|url| at(url).contains("is without TLS")));
    }

    #[test]
    fn answers_are_read_or_refused() {
        let keys = r#"{"AccessKeyId":"k","SecretAccessKey":"s","Token":"t","Expiration":"x"}"#;
        let found = |keys: Credentials| format!("{} {} {:?}", keys.key(), keys.secret(), keys.token());
        assert_eq!(role_in(keys.as_bytes()).map(found).as_deref(), Some("k s Some(\"t\")"));
        let answer = format!(
            r#"{{"AssumeRoleWithWebIdentityResponse":{{"AssumeRoleWithWebIdentityResult":{{"Credentials":{keys}}}}}}}"#
        );
        assert_eq!(exchanged_in(answer.as_bytes()).map(found).as_deref(), Some("k s Some(\"t\")"));
        for bad in ["", "{}", r#"{"Code":"Success"}"#, "<html>", "[]"] {
            assert!(role_in(bad.as_bytes()).is_none() && exchanged_in(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
