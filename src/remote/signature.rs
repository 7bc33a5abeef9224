//! Signatures of environments: minisign over the text `sha256:<head>`, so that everything the head refers to is signed too.
//!
//! Verification needs no network: what is already on this machine is verified as well.

use std::io::Cursor;

use super::error::RemoteError;
use super::object::ObjectId;
use super::reference::Reference;

/// A key for signing.
pub struct SecretKey(minisign::SecretKey);

/// A key for verification.
pub struct PublicKey {
    key: minisign::PublicKey,
    shown: String,
}

fn text(head: &ObjectId) -> Cursor<Vec<u8>> {
    Cursor::new(format!("sha256:{head}").into_bytes())
}

impl SecretKey {
    /// Parses the text of a minisign secret key, decrypted with `password` if necessary; `shown` names it in messages.
    pub fn parse(content: &str, password: Option<String>, shown: &str) -> Result<SecretKey, RemoteError> {
        let failed = |why: String| RemoteError::Login { remote: format!("the key {shown}"), why };
        let stored =
            minisign::SecretKeyBox::from_string(content).map_err(|error| failed(error.to_string()))?;
        let key = match password {
            Some(password) => stored.into_secret_key(Some(password)),
            None => stored.into_unencrypted_secret_key(),
        };
        key.map(SecretKey).map_err(|error| failed(error.to_string()))
    }

    /// Signs an environment.
    pub fn sign(&self, head: &ObjectId, shown: &str) -> Result<String, RemoteError> {
        let comment = format!("holofs environment sha256:{head}");
        let signed = minisign::sign(None, &self.0, text(head), Some(&comment), None);
        let failed = |error: minisign::PError| RemoteError::Login {
            remote: format!("the key {shown}"),
            why: error.to_string(),
        };
        signed.map(|signed| signed.into_string()).map_err(failed)
    }
}

impl PublicKey {
    /// Parses the text of a minisign public key file, or the key itself; `shown` names it in messages.
    pub fn parse(content: &str, shown: &str) -> Result<PublicKey, RemoteError> {
        let boxed = || minisign::PublicKeyBox::from_string(content)?.into_public_key();
        let key = minisign::PublicKey::from_base64(content.trim()).or_else(|_| boxed());
        let failed = |error: minisign::PError| RemoteError::Login {
            remote: format!("the key {shown}"),
            why: error.to_string(),
        };
        key.map(|key| PublicKey { key, shown: shown.to_owned() }).map_err(failed)
    }

    /// Fails unless the environment is signed by this key.
    pub fn check(&self, reference: &Reference, remote: &str) -> Result<(), RemoteError> {
        let refused = |why: String| {
            let (remote, key) = (remote.to_owned(), self.shown.clone());
            RemoteError::Signature { remote, key, why }
        };
        let signature =
            reference.signature.as_deref().ok_or_else(|| refused("it has no signature".to_owned()))?;
        let parsed =
            minisign::SignatureBox::from_string(signature).map_err(|error| refused(error.to_string()))?;
        minisign::verify(&self.key, &parsed, text(&reference.head), true, false, false)
            .map_err(|error| refused(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signed_head_passes_and_only_with_its_key() {
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let secret = pair.sk.to_box(None).unwrap().into_string();
        let secret = SecretKey::parse(&secret, None, "k").unwrap();
        let key = |pair: &minisign::KeyPair| {
            PublicKey::parse(&pair.pk.to_box().unwrap().into_string(), "k.pub").unwrap()
        };
        let mut reference = Reference::new(ObjectId::of(b"head"), 4, "c".to_owned(), 1);
        assert!(key(&pair).check(&reference, "x").unwrap_err().to_string().contains("no signature"));
        reference.signature = Some(secret.sign(&reference.head, "k").unwrap());
        key(&pair).check(&reference, "x").unwrap();
        assert!(key(&other).check(&reference, "x").is_err());
        PublicKey::parse(&pair.pk.to_base64(), "x").unwrap().check(&reference, "x").unwrap();
        reference.head = ObjectId::of(b"other");
        assert!(key(&pair).check(&reference, "x").is_err());
        reference.signature = Some("nonsense".to_owned());
        assert!(key(&pair).check(&reference, "x").is_err());
    }
}
