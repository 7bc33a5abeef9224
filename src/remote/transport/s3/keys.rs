//! Keys for S3, from where the AWS tools look for them, in the same order.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusty_s3::Credentials;
use serde::Deserialize;
use ureq::http::Method;
use url::Url;

use crate::remote::error::RemoteError;
use crate::remote::transport::http::{Call, Client};
use crate::remote::transport::{Access, Patience, ini, logins};

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
}

impl Keys {
    /// Keys according to this environment; not looked up yet.
    pub fn new(access: Access) -> Keys {
        Keys { access, state: Mutex::default() }
    }

    /// The keys, looked up once.
    pub fn get(&self) -> Option<Arc<Credentials>> {
        let mut state = self.state();
        if state.looked.is_none() {
            state.keys = find(&self.access).map(Arc::new);
            state.looked = Some(Instant::now());
        }
        state.keys.clone()
    }

    /// Keys that differ from the refused ones: those that another request has found meanwhile, or new ones.
    pub fn renew(&self, refused: Option<&Credentials>) -> Option<Arc<Credentials>> {
        let mut state = self.state();
        if let Some(known) = &state.keys
            && refused.is_none_or(|refused| !is_same(known, refused))
        {
            return Some(Arc::clone(known));
        }
        if state.looked.is_some_and(|at| at.elapsed() < NOT_SOONER) {
            return None;
        }
        state.looked = Some(Instant::now());
        let found = find(&self.access).map(Arc::new)?;
        let is_new = refused.is_none_or(|refused| !is_same(&found, refused));
        state.keys = Some(Arc::clone(&found));
        is_new.then_some(found)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(one: &Credentials, other: &Credentials) -> bool {
    (one.key(), one.secret(), one.token()) == (other.key(), other.secret(), other.token())
}

fn find(access: &Access) -> Option<Credentials> {
    let var = |name: &str| (access.var)(name);
    if let (Some(key), Some(secret)) = (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY")) {
        return Some(credentials(key, secret, var("AWS_SESSION_TOKEN")));
    }
    let setting = |name| profile_setting(access, name);
    if let (Some(key), Some(secret)) = (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        return Some(credentials(key, secret, setting("aws_session_token")));
    }
    type Find = fn(&Access) -> Result<Option<Credentials>, RemoteError>;
    let sources: [(&str, Find); 3] =
        [("the web identity", web_identity), ("the container", container), ("the instance", instance)];
    for (what, source) in sources {
        match source(access) {
            Ok(None) => {}
            Ok(found) => return found,
            Err(error) => log::debug!("No keys from {what}: {error}"),
        }
    }
    None
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

/// The token in a file from CI or Kubernetes, exchanged for keys.
fn web_identity(access: &Access) -> Result<Option<Credentials>, RemoteError> {
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
    let var = |name: &str| (access.var)(name);
    let (Some(file), Some(role)) = (var("AWS_WEB_IDENTITY_TOKEN_FILE"), var("AWS_ROLE_ARN")) else {
        return Ok(None);
    };
    let token = std::fs::read_to_string(&file).map_err(RemoteError::io("Reading", &file))?;
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
        .append_pair("WebIdentityToken", token.trim())
        .finish();
    let headers = vec![
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ("accept", "application/json".to_owned()),
    ];
    let client = Client::new(host_of(&endpoint), access);
    let answer = ask(&client, Method::POST, &endpoint, headers, Some(form.as_bytes()))?;
    let parsed: Option<Answer> = serde_json::from_slice(&answer).ok();
    Ok(parsed.map(|answer| {
        let response = answer.assume_role_with_web_identity_response;
        response.assume_role_with_web_identity_result.credentials.credentials()
    }))
}

fn container(access: &Access) -> Result<Option<Credentials>, RemoteError> {
    let var = |name: &str| (access.var)(name);
    let relative = var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let Some(url) = relative.or_else(|| var("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
    let from_file = || std::fs::read_to_string(var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")?).ok();
    let token = from_file().or_else(|| var("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    let headers = token.map(|token| ("authorization", token.trim().to_owned())).into_iter().collect();
    let answer = ask(&near(access, &url), Method::GET, &url, headers, None)?;
    Ok(serde_json::from_slice::<Role>(&answer).ok().map(Role::credentials))
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
    let token = String::from_utf8_lossy(&token).into_owned();
    let headers = || vec![("x-aws-ec2-metadata-token", token.clone())];
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let names = ask(&client, Method::GET, &roles, headers(), None)?;
    let names = String::from_utf8_lossy(&names).into_owned();
    let Some(name) = names.lines().next() else { return Ok(None) };
    let answer = ask(&client, Method::GET, &format!("{roles}{name}"), headers(), None)?;
    Ok(serde_json::from_slice::<Role>(&answer).ok().map(Role::credentials))
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
        status => Err(client.odd(&call, format!("status {status}"), false)),
    }
}

/// A client for the server of the container's or the instance's keys at `url`.
fn near(access: &Access, url: &str) -> Client {
    let soon = Duration::from_secs(1);
    let is_local = url.starts_with(INSTANCE) || url.starts_with(CONTAINER);
    let patience =
        if is_local { Patience { connect: soon, answer: soon, ..access.patience } } else { access.patience };
    Client::direct(host_of(url), &Access { patience, ..access.clone() })
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
        let keys = keys.unwrap();
        assert_eq!((keys.key(), keys.secret(), keys.token()), ("k", "s", Some("t")));
    }

    #[test]
    fn many_requests_with_expired_keys_all_get_the_new_ones() {
        let keys = Keys::new(Access::of(&[("AWS_ACCESS_KEY_ID", "new"), ("AWS_SECRET_ACCESS_KEY", "s")]));
        let expired = Credentials::new("old", "s");
        *keys.state() = State { keys: Some(Arc::new(expired.clone())), looked: None };
        for _ in 0..3 {
            assert_eq!(keys.renew(Some(&expired)).unwrap().key(), "new");
        }
        assert!(keys.renew(Some(&Credentials::new("new", "s"))).is_none(), "those were refused, too");
    }
}
