//! How requests use the network: connections and timeouts, and what the environment and a site's settings say about the proxy and the
//! certificate authorities.

use std::sync::OnceLock;

use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use crate::remote::transport::{Access, Network};

/// The number of idle connections kept per host: as many as there are parallel requests.
const CONNECTIONS: usize = 16;

/// Connections to servers, through `proxy` if there is one; with `is_led` also to where they redirect.
pub(super) fn agent(proxy: Option<Proxy>, is_led: bool, access: &Access) -> Agent {
    static AUTHORITIES: OnceLock<RootCerts> = OnceLock::new();
    let authorities = AUTHORITIES.get_or_init(|| authorities(&access.network)).clone();
    let usual = Agent::config_builder();
    let followed = if is_led { usual } else { usual.max_redirects(0).max_redirects_will_error(false) };
    let config = followed
        .http_status_as_error(false)
        .user_agent(concat!("holofs/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(access.patience.connect))
        .timeout_resolve(Some(access.patience.answer))
        .max_idle_connections(2 * CONNECTIONS)
        .max_idle_connections_per_host(CONNECTIONS)
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(authorities).build())
        .build();
    Agent::new_with_config(config)
}

/// The proxy of the environment, or else of the settings.
pub(super) fn proxy(network: &Network) -> Option<Proxy> {
    Proxy::try_from_env().or_else(|| of_settings(network))
}

/// The proxy of the settings. One that cannot be used is reported, and not used.
fn of_settings(network: &Network) -> Option<Proxy> {
    let url = network.proxy.as_deref()?;
    let built = Proxy::new(url).and_then(|plain| {
        let mut proxy = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
        if let Some(user) = plain.username() {
            proxy = proxy.username(user);
        }
        if let Some(password) = plain.password() {
            proxy = proxy.password(password);
        }
        let hosts = network.no_proxy.split(',').map(str::trim).filter(|host| !host.is_empty());
        hosts.fold(proxy, ureq::ProxyBuilder::no_proxy).build()
    });
    // The URL may contain a password.
    built.map_err(|_| log::warn!("The proxy in settings.yaml is not a valid address; ignored")).ok()
}

/// The certificate authorities that this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` override them), and those of the settings; a
/// machine without any, such as a bare container, gets Mozilla's.
fn authorities(network: &Network) -> RootCerts {
    let mut found = rustls_native_certs::load_native_certs();
    if let Some(bundle) = &network.ca_bundle {
        let own = rustls_native_certs::load_certs_from_paths(Some(bundle), None);
        found.errors.extend(own.errors);
        if found.certs.is_empty() && !own.certs.is_empty() {
            log::warn!(
                "This machine has no certificate authorities: only those in {} are trusted",
                bundle.display()
            );
        }
        found.certs.extend(own.certs);
    }
    for error in &found.errors {
        log::warn!("A certificate authority of this machine cannot be read: {error}");
    }
    let certs: Vec<Certificate<'static>> =
        found.certs.iter().map(|cert| Certificate::from_der(cert).to_owned()).collect();
    if certs.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&certs) }
}
