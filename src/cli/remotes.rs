//! Shared by the commands about remotes: addresses, the environment for logins, keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use crate::rcc::catalog::MAX_STORED;
use crate::rcc::home::{Product, Settings};
use crate::remote::address::{self, Address, Location};
use crate::remote::error::RemoteError;
use crate::remote::lazy;
use crate::remote::object::ObjectId;
use crate::remote::rccremote;
use crate::remote::signature::PublicKey;
use crate::remote::transport::{self, Access, Network, Patience, Remote};
use crate::session::error::NoCatalogFor;

use super::config;
use super::context::Context;

/// How to use a remote environment where a catalog is expected.
#[derive(Debug, Clone, Default, Args)]
pub struct RemoteUseArgs {
    /// Fetch a remote environment completely first, into the hololib
    #[arg(long)]
    pub complete: bool,
    /// Remote environment to pull first if the hololib lacks the catalog
    #[arg(long, value_name = "REMOTE", value_parser = parse_address)]
    pub pull: Option<Address>,
    #[command(flatten)]
    pub fetch: FetchArgs,
}

/// The result of `find`; if the hololib has no catalog for a specification, pulls it first, if an option allows it.
pub fn or_pulled<T>(
    context: &Context,
    how: &RemoteUseArgs,
    find: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    match (find(), &how.pull) {
        (Err(error), Some(remote)) => {
            let Some(lacking) = error.downcast_ref::<NoCatalogFor>() else { return Err(error) };
            // An rccremote server has catalogs by their blueprints.
            let is_rccremote = matches!(remote.place, Location::Rccremote(_)) && !remote.is_named;
            let remote = if is_rccremote { remote.renamed(&lacking.blueprint) } else { remote.clone() };
            pull_first(context, &remote.to_string(), &how.fetch)?;
            find().map_err(|error| match error.is::<NoCatalogFor>() {
                true => error.context(format!("{remote} was pulled, but is another environment")),
                false => error,
            })
        }
        (found, _) => found,
    }
}

/// Pulls in a separate process: threads left over in this one would prevent it from entering a namespace.
fn pull_first(context: &Context, remote: &str, fetch: &FetchArgs) -> anyhow::Result<()> {
    let mut command = context.this_program()?;
    command.args(["pull", remote]).stdout(std::process::Stdio::null());
    command.args(context.given.product.map(Product::flag));
    command.args(fetch.require_signature.iter().flat_map(|key| ["--require-signature", key]));
    command.args(context.offline.then_some("--offline"));
    let status = command.status().context("Cannot start the pull")?;
    anyhow::ensure!(status.success(), "Pulling {remote} failed ({status})");
    Ok(())
}

/// What the user means by a word: itself, or the address that the configuration defines for a short name.
pub fn meant(given: &str) -> Cow<'_, str> {
    expanded(&config::current().remotes, given).map_or(Cow::Borrowed(given), Cow::Owned)
}

/// The address for `SHORT`, `SHORT#NAME` or `SHORT@sha256:…`; `None` if `SHORT` is not among the short names. It is not validated.
fn expanded(remotes: &BTreeMap<String, String>, given: &str) -> Option<String> {
    if let Some(address) = remotes.get(given) {
        return Some(address.clone());
    }
    let (text, pin) = given.find("@sha256:").map_or((given, ""), |at| given.split_at(at));
    let (short, name) = text.split_once('#').map_or((text, None), |(short, name)| (short, Some(name)));
    let address: Address = remotes.get(short)?.parse().ok()?;
    let address = address.renamed(name.unwrap_or(&address.name));
    Some(format!("{address}{pin}"))
}

/// The catalog to use: as given, or the local file of a remote catalog.
pub fn local(context: &Context, given: &str, how: &RemoteUseArgs) -> anyhow::Result<String> {
    let given = meant(given);
    if !address::is_address(&given) {
        return Ok(given.into_owned());
    }
    let address: Address = given.parse()?;
    if let Location::Rccremote(_) = address.place {
        return pulled(context, &address, how);
    }
    let key = how.fetch.key()?;
    let remote = if context.offline { None } else { Some(open(context, &address, patience(context))?) };
    let attached = lazy::attach(&context.home, &address, remote.as_deref(), key.as_ref())?;
    say_resolved(&address, &attached.head);
    let wants_all = how.complete || cfg!(windows);
    if !wants_all || context.offline {
        return Ok(attached.catalog.to_string_lossy().into_owned());
    }
    pull_first(context, &address.pinned(attached.head).to_string(), &how.fetch)?;
    let name = attached.catalog.file_name().unwrap_or_default();
    Ok(context.home.catalog_dir().join(name).to_string_lossy().into_owned())
}

/// The catalog of an rccremote server, pulled first unless the network is forbidden: its blobs come in one file, so nothing is lazy.
fn pulled(context: &Context, address: &Address, how: &RemoteUseArgs) -> anyhow::Result<String> {
    let name = rccremote::catalog_name(address)?;
    if !context.offline {
        pull_first(context, &address.to_string(), &how.fetch)?;
    }
    let path = context.home.catalog_dir().join(name);
    if let Some(pin) = address.pin {
        let remote = path.display().to_string();
        let found = ObjectId::of(
            &crate::sys::fs::stat::read_regular(&path, MAX_STORED)
                .with_context(|| format!("Cannot read {remote}"))?,
        );
        if found != pin {
            Err(RemoteError::OtherPin { remote, pin, found })?;
        }
    }
    Ok(path.to_string_lossy().into_owned())
}

/// Prints the address of a short name, once.
#[allow(clippy::print_stderr)]
fn say_resolved(address: &Address, head: &ObjectId) {
    if address.pin.is_none() {
        eprintln!("holofs: {address} is sha256:{head}");
    }
}

/// How to fetch an environment.
#[derive(Debug, Clone, Default, Args)]
pub struct FetchArgs {
    /// Minisign key that must have signed a remote environment: a file, or the key itself
    #[arg(long, value_name = "KEY.pub", env = "HOLOFS_REQUIRE_SIGNATURE")]
    pub require_signature: Option<String>,
}

impl FetchArgs {
    /// The key that must have signed environments.
    pub fn key(&self) -> anyhow::Result<Option<PublicKey>> {
        let Some(given) = &self.require_signature else { return Ok(None) };
        let (text, shown) = match std::fs::read_to_string(given) {
            Ok(text) => (text, given.as_str()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (given.clone(), "of --require-signature")
            }
            Err(error) => return Err(error).with_context(|| format!("Cannot read the key {given}")),
        };
        Ok(Some(PublicKey::parse(&text, shown)?))
    }
}

/// The timeouts.
pub fn patience(context: &Context) -> Patience {
    Patience { piece: Duration::from_secs(context.fetch_timeout.max(1)), ..Patience::default() }
}

/// The variables of this process for logins, and the network according to RCC's settings.
pub fn access(context: &Context, patience: Patience) -> anyhow::Result<Access> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let settings = Settings::read(&context.home)?;
    let proxies = [settings.https_proxy, settings.http_proxy];
    let network = Network {
        proxy: proxies.into_iter().find(|proxy| !proxy.is_empty()),
        no_proxy: settings.no_proxy,
        ca_bundle: settings.ca_bundle,
    };
    Ok(Access { var: Arc::new(var), patience, network })
}

/// The remote at an address.
pub fn open(context: &Context, address: &Address, patience: Patience) -> anyhow::Result<Arc<dyn Remote>> {
    Ok(transport::open(address, &access(context, patience)?)?)
}

/// Parses an address for clap.
pub fn parse_address(text: &str) -> Result<Address, String> {
    meant(text).parse().map_err(|error: crate::remote::address::BadAddress| error.why.to_owned())
}

/// A minisign secret key in a file; a locked one is opened with `HOLOFS_SIGN_PASSWORD`.
pub fn secret_key(path: &Path) -> anyhow::Result<crate::remote::signature::SecretKey> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("Cannot read the key {}", path.display()))?;
    let password = std::env::var("HOLOFS_SIGN_PASSWORD").ok();
    Ok(crate::remote::signature::SecretKey::parse(&text, password, &path.display().to_string())?)
}

/// The path of a local file given by the user: `None` for `off`, the default for `auto`.
#[cfg(unix)]
pub fn chosen(given: &Path, usual: impl FnOnce() -> PathBuf) -> Option<PathBuf> {
    match given.to_str() {
        Some("off") => None,
        Some("auto") => Some(usual()),
        _ => Some(given.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_name_takes_another_name_and_a_pin() {
        let id = ObjectId::of(b"x");
        let remotes = [
            ("team", "oci://h/r:v1"),
            ("lab", "s3://b/p#prod"),
            ("plain", "file:///x"),
            ("a#b", "file:///y"),
        ];
        let remotes = remotes.map(|(short, address)| (short.to_owned(), address.to_owned())).into();
        for (given, expected) in [
            ("team", "oci://h/r:v1".to_owned()),
            ("team#dev", "oci://h/r:dev".to_owned()),
            (&format!("team@sha256:{id}"), format!("oci://h/r:v1@sha256:{id}")),
            (&format!("lab#dev@sha256:{id}"), format!("s3://b/p#dev@sha256:{id}")),
            ("plain", "file:///x".to_owned()),
            ("plain#e", "file:///x#e".to_owned()),
            ("a#b", "file:///y".to_owned()),
        ] {
            let found = expanded(&remotes, given).unwrap();
            assert_eq!(found, expected, "{given}");
            assert_eq!(found.parse::<Address>().map(|_| ()), Ok(()), "{given}");
        }
        for given in ["other", "other#dev", "tea", "14023a1f332a0231", "a", "team/x"] {
            assert_eq!(expanded(&remotes, given), None, "{given}");
        }
        // A name that is none is an error of the address, not another environment.
        for given in ["team#", "team#a/b", "lab#a b", "lab@sha256:12"] {
            assert!(expanded(&remotes, given).unwrap().parse::<Address>().is_err(), "{given}");
        }
    }
}
