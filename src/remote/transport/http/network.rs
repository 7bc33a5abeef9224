//! What a site's settings say about its network: the proxy and the certificate authorities.

use ureq::Proxy;
use ureq::tls::{Certificate, RootCerts};

use crate::remote::transport::Network;

/// The proxy of the settings. One that cannot be used is reported, and not used.
pub(super) fn proxy(network: &Network) -> Option<Proxy> {
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
pub(super) fn authorities(network: &Network) -> RootCerts {
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
