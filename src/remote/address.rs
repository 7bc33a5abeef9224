//! Addresses of remote environments, as a user writes them.
//!
//! ```text
//! oci://HOST/REPOSITORY[:TAG]    s3://BUCKET[/PREFIX][#NAME]    https://HOST/PATH[#NAME]    file:///DIR[#NAME]
//! az://CONTAINER[/PREFIX][#NAME]    rccremote+https://HOST[/PATH]#CATALOG                 any of them with @sha256:… at its end
//! ```
//! The name is `latest` unless given. An address must not contain a login, since addresses are displayed and logged.

use std::fmt;
use std::path::PathBuf;

use url::{Host, Url};

use super::object::ObjectId;
use super::reference::is_name;

/// The default name.
pub const LATEST: &str = "latest";

/// The location of a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    File(PathBuf),
    /// A directory on a web server.
    Http(Url),
    /// A bucket and a key prefix.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key prefix, without a slash at either end.
        prefix: String,
        /// The endpoint, if the address determines it, as `gs://` does.
        endpoint: Option<&'static str>,
    },
    /// A container of Azure's blob storage and a prefix of names.
    Azure {
        /// The container.
        container: String,
        /// The prefix, without a slash at either end.
        prefix: String,
    },
    /// A repository of a registry.
    Oci {
        /// The registry: `https://HOST` or `http://HOST`.
        registry: Url,
        /// The repository.
        repository: String,
    },
    /// An rccremote server.
    Rccremote(Url),
}

/// A remote environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its location.
    pub place: Location,
    /// Its name there.
    pub name: String,
    /// The name was given explicitly.
    pub is_named: bool,
    /// The required identity.
    pub pin: Option<ObjectId>,
    /// The address without name and pin.
    shown: String,
}

/// The text is not a valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Not the address of a remote environment: {text}: {why}")]
pub struct BadAddress {
    /// The text, without a possible login.
    pub text: String,
    /// The problem.
    pub why: &'static str,
}

/// The supported schemes.
const SCHEMES: [&str; 10] =
    ["az", "oci", "oci+http", "s3", "gs", "http", "https", "file", "rccremote+http", "rccremote+https"];

/// True if `text` is meant as an address: it begins with one of the schemes.
pub fn is_address(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme))
}

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        parse(text).map_err(|why| BadAddress { text: without_login(text), why })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if matches!(self.place, Location::Oci { .. }) { ':' } else { '#' };
        f.write_str(&self.shown)?;
        if self.is_named || self.pin.is_none() {
            write!(f, "{mark}{}", self.name)?;
        }
        self.pin.map_or(Ok(()), |pin| write!(f, "@sha256:{pin}"))
    }
}

impl Address {
    /// The address without name and pin.
    pub fn remote(&self) -> &str {
        &self.shown
    }

    /// The same address, pinned to `head`.
    pub fn pinned(&self, head: ObjectId) -> Address {
        Address { pin: self.pin.or(Some(head)), is_named: true, ..self.clone() }
    }

    /// The same location with another name, not pinned.
    pub fn renamed(&self, name: &str) -> Address {
        Address { name: name.to_owned(), is_named: true, pin: None, ..self.clone() }
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    let (text, pin) = match text.rsplit_once("@sha256:") {
        Some((text, id)) => {
            (text, Some(id.parse().map_err(|_| "@sha256: must be followed by 64 hex digits")?))
        }
        None => (text, None),
    };
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme such as oci:// or s3://")?;
    if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("it has a blank or control character");
    }
    if rest.split(['/', '#']).next().is_some_and(|host| host.contains('@')) {
        return Err("an address must not contain a login");
    }
    if rest.contains('?') {
        return Err("an address must not contain a query");
    }
    let (place, name, shown) = match scheme {
        "oci" | "oci+http" => oci(scheme, rest)?,
        _ => {
            let (rest, name) = rest.split_once('#').map_or((rest, None), |(rest, name)| (rest, Some(name)));
            let rest = rest.trim_end_matches('/');
            (other(scheme, rest)?, name, format!("{scheme}://{rest}"))
        }
    };
    let is_named = name.is_some();
    let name = name.unwrap_or(LATEST).to_owned();
    match is_name(&name) {
        true => Ok(Address { place, name, is_named, pin, shown }),
        false => Err("a name has at most 128 letters, digits, '_', '.' and '-'"),
    }
}

fn other(scheme: &str, rest: &str) -> Result<Location, &'static str> {
    match scheme {
        "file" if rest.starts_with('/') => Ok(Location::File(PathBuf::from(rest))),
        "file" => Err("file:// must be followed by an absolute path: file:///srv/environments"),
        "http" | "https" => url(scheme, rest).map(Location::Http),
        "s3" => bucket(rest, None),
        "gs" => bucket(rest, Some("https://storage.googleapis.com")),
        "az" => container(rest),
        "rccremote+http" => url("http", rest).map(Location::Rccremote),
        "rccremote+https" => url("https", rest).map(Location::Rccremote),
        _ => Err(
            "the scheme must be one of oci, s3, gs, az, https, http, file, rccremote+https, rccremote+http",
        ),
    }
}

fn url(scheme: &str, rest: &str) -> Result<Url, &'static str> {
    let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| "it is not a valid URL")?;
    if url.has_host() { Ok(url) } else { Err("it names no host") }
}

fn bucket(rest: &str, endpoint: Option<&'static str>) -> Result<Location, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if bucket.is_empty() || !bucket.bytes().all(plain) {
        return Err("it names no bucket");
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: plain_prefix(prefix)?, endpoint })
}

fn container(rest: &str) -> Result<Location, &'static str> {
    let (container, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    // `$web` is that of static web sites.
    let name = container.strip_prefix('$').unwrap_or(container);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err("it must name a container, of lower-case letters, digits and '-': az://CONTAINER/PREFIX");
    }
    Ok(Location::Azure { container: container.to_owned(), prefix: plain_prefix(prefix)? })
}

fn plain_prefix(prefix: &str) -> Result<String, &'static str> {
    match prefix.split('/').any(|part| part == "." || part == "..") {
        true => Err("its prefix has '.' or '..'"),
        false => Ok(prefix.to_owned()),
    }
}

type Parts<'t> = (Location, Option<&'t str>, String);

fn oci<'t>(scheme: &str, rest: &'t str) -> Result<Parts<'t>, &'static str> {
    let (host, path) = rest.split_once('/').ok_or("it names no repository: oci://HOST/REPOSITORY")?;
    let (repository, tag) = path.split_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    let good = |part: &str| !part.is_empty() && part.bytes().all(plain) && !part.starts_with('.');
    if !repository.split('/').all(good) {
        return Err("a repository has lower-case letters, digits, '.', '_' and '-' between slashes");
    }
    let mut registry = url("https", host)?;
    if scheme == "oci+http" || is_this_machine(&registry) {
        registry = url("http", host)?;
    }
    let shown = format!("{scheme}://{host}/{repository}");
    Ok((Location::Oci { registry, repository: repository.to_owned() }, tag, shown))
}

/// True for the addresses of this machine: they are used without TLS, as in every other client. Names of domains may begin with `127.`
/// or `localhost.`, too.
pub fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// True if nobody between here and the server reads what is sent.
pub fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || is_this_machine(url)
}

/// The text without the part before an `@` in its host.
fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.chars().take(200).collect() };
    let host_end = rest.find(['/', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(host_end);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.split('?').next().unwrap_or(path);
    format!("{scheme}://{host}{path}").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> (Location, String) {
        let address: Address = text.parse().unwrap();
        (address.place, address.name)
    }

    #[test]
    fn every_kind_is_understood() {
        assert_eq!(place("file:///srv/e/"), (Location::File("/srv/e".into()), "latest".into()));
        let s3 = Location::S3 { bucket: "b".into(), prefix: "team/x".into(), endpoint: None };
        assert_eq!(place("s3://b/team/x#prod"), (s3, "prod".into()));
        let azure = Location::Azure { container: "c-1".into(), prefix: "team/x".into() };
        assert_eq!(place("az://c-1/team/x/#prod"), (azure, "prod".into()));
        let registry = Url::parse("https://ghcr.io").unwrap();
        assert_eq!(
            place("oci://ghcr.io/a/b:v1"),
            (Location::Oci { registry, repository: "a/b".into() }, "v1".into())
        );
        let registry = Url::parse("http://127.0.0.1:5000").unwrap();
        assert_eq!(
            place("oci://127.0.0.1:5000/e"),
            (Location::Oci { registry, repository: "e".into() }, "latest".into())
        );
        assert_eq!(place("https://h/p#x"), (Location::Http(Url::parse("https://h/p").unwrap()), "x".into()));
        let origin = Url::parse("http://h:4653/").unwrap();
        assert_eq!(place("rccremote+http://h:4653#x"), (Location::Rccremote(origin), "x".into()));
    }

    #[test]
    fn tls_is_omitted_only_for_this_machine_or_by_request() {
        let scheme = |text: &str| match text.parse::<Address>().unwrap().place {
            Location::Oci { registry, .. } => registry.scheme().to_owned(),
            other => panic!("{other:?}"),
        };
        let here = ["localhost", "LOCALHOST:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "127.1"];
        for host in here {
            assert_eq!(scheme(&format!("oci://{host}/e")), "http", "{host}");
            assert!(is_private(&Url::parse(&format!("http://{host}/e")).unwrap()), "{host}");
        }
        let others =
            ["127.0.0.1.example.com", "127.example.com", "localhost.example.com", "[::2]", "128.0.0.1"];
        for host in others {
            assert_eq!(scheme(&format!("oci://{host}/e")), "https", "{host}");
            assert_eq!(scheme(&format!("oci+http://{host}/e")), "http", "{host}");
            let url = |scheme: &str| Url::parse(&format!("{scheme}://{host}/e")).unwrap();
            assert!(is_private(&url("https")) && !is_private(&url("http")), "{host}");
        }
    }

    #[test]
    fn a_pin_is_read_and_shown() {
        let text = format!("oci://h/r:t@sha256:{}", ObjectId::of(b"x"));
        let address: Address = text.parse().unwrap();
        assert_eq!((address.pin, address.to_string()), (Some(ObjectId::of(b"x")), text));
        assert!("oci://h/r@sha256:12".parse::<Address>().is_err());
    }

    #[test]
    fn logins_and_nonsense_are_refused_and_a_login_is_not_shown() {
        for bad in [
            "x",
            "ftp://h/x",
            "az://account.blob.core.windows.net/container",
            "az://",
            "az://$/x",
            "az://c/../x",
            "oci://h",
            "oci://h/",
            "oci://h/A",
            "oci://h/../x",
            "s3://",
            "s3:///x",
            "s3://b/../x",
            "file://x",
            "https://",
            "https://h/x#a/b",
            "https://h/x?token=1",
            "oci://h/r:a b",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        let error = "https://user:secret@h/x".parse::<Address>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn catalogs_are_no_addresses() {
        for text in ["14023a1f332a0231", "/x/y", "c:\\x", "./x://y"] {
            assert!(!is_address(text), "{text}");
        }
        assert!(is_address("oci://h/r"));
    }
}
