//! The storage account and its key, SAS or tokens, from the variables and the configuration file of Azure's own tools.
//!
//! What variables say precedes what the file says, a connection string precedes single values, and a key or SAS precedes tokens.
//! Errors never contain a value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::cli::config_dir;
use super::token::Tokens;
use crate::remote::address::is_private;
use crate::remote::transport::{Access, ini, logins};

/// A storage account.
pub struct Account {
    /// The URL of its blobs.
    pub endpoint: Url,
    /// Its name, as a part of signatures.
    pub name: String,
    /// How requests are authorized.
    pub login: Login,
}

/// How requests are authorized.
pub enum Login {
    /// Signed with this key of the account.
    Key(Vec<u8>),
    /// With this shared access signature in the query.
    Sas(String),
    /// With tokens of Entra ID.
    Tokens(Box<Tokens>),
    /// Not at all.
    Anonymous,
}

/// The account of Azurite and of Azure's former emulator, whose key is public.
const EMULATOR: &str = "AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1";
/// The end of the host name of Azure's public cloud.
const SUFFIX: &str = "core.windows.net";

/// Settings of one source.
#[derive(Debug, Default, PartialEq)]
struct Given {
    connection: Option<String>,
    account: Option<String>,
    key: Option<String>,
    sas: Option<String>,
    endpoint: Option<String>,
}

impl Account {
    /// The account that is configured; an error says what is missing or wrong.
    pub fn find(access: &Access) -> Result<Account, &'static str> {
        let (own, file) = (Given::from_variables(access), Given::from_file(access));
        let given = match (&own.connection, &file.connection) {
            (Some(text), _) => Given::from_connection(text)?,
            (None, Some(text)) if own == Given::default() => Given::from_connection(text)?,
            _ => own.or(file),
        };
        let account = given.account()?;
        match (&account.login, Tokens::find(access)?) {
            (Login::Anonymous, Some(_)) if !is_private(&account.endpoint) => {
                Err("tokens of Entra ID are not sent without TLS: the endpoint must begin with https")
            }
            (Login::Anonymous, Some(tokens)) => {
                Ok(Account { login: Login::Tokens(Box::new(tokens)), ..account })
            }
            _ => Ok(account),
        }
    }
}

impl Given {
    fn from_variables(access: &Access) -> Given {
        let first = |names: &[&str]| names.iter().find_map(|name| (access.var)(name));
        Given {
            connection: first(&["AZURE_STORAGE_CONNECTION_STRING"]),
            account: first(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]),
            key: first(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCESS_KEY"]),
            sas: first(&["AZURE_STORAGE_SAS_TOKEN"]),
            endpoint: first(&["AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_SERVICE_ENDPOINT"]),
        }
    }

    /// The section `storage` of the configuration of `az`.
    fn from_file(access: &Access) -> Given {
        let text =
            config_dir(access).and_then(|dir| logins::settings(&dir.join("config"))).unwrap_or_default();
        let setting = |name| ini::setting(&text, "storage", name).filter(|value| !value.is_empty());
        Given {
            connection: setting("connection_string"),
            account: setting("account"),
            key: setting("key"),
            sas: setting("sas_token"),
            endpoint: None,
        }
    }

    /// The values of a connection string: `AccountName=…;AccountKey=…;…`.
    fn from_connection(text: &str) -> Result<Given, &'static str> {
        let parts = || text.split(';').filter_map(|part| part.split_once('='));
        let value = |name: &str| {
            let found = parts().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        if value("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Given::from_connection(EMULATOR);
        }
        let account = value("AccountName");
        let built = || {
            let protocol = value("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
            let suffix = value("EndpointSuffix").unwrap_or_else(|| SUFFIX.to_owned());
            Some(format!("{protocol}://{}.blob.{suffix}", account.as_ref()?))
        };
        let endpoint = value("BlobEndpoint").or_else(built);
        let endpoint = endpoint.ok_or("the connection string has neither AccountName nor BlobEndpoint")?;
        let (key, sas) = (value("AccountKey"), value("SharedAccessSignature"));
        Ok(Given { connection: None, account, key, sas, endpoint: Some(endpoint) })
    }

    /// These settings, and what they lack from `other`: a key or SAS only if it is of the same account.
    fn or(self, other: Given) -> Given {
        let is_other = self.account.is_some() && self.account != other.account;
        let has_login = self.key.is_some() || self.sas.is_some();
        let (key, sas) = if is_other || has_login { (None, None) } else { (other.key, other.sas) };
        Given {
            connection: None,
            account: self.account.or(other.account),
            key: self.key.or(key),
            sas: self.sas.or(sas),
            endpoint: self.endpoint.or(other.endpoint),
        }
    }

    fn account(self) -> Result<Account, &'static str> {
        let login = match (self.key, self.sas) {
            (Some(key), _) => {
                Login::Key(STANDARD.decode(key).map_err(|_| "the key of the storage account is not base64")?)
            }
            (None, Some(sas)) => Login::Sas(sas.trim_start_matches('?').to_owned()),
            (None, None) => Login::Anonymous,
        };
        let name = match (self.account, &login) {
            (Some(name), _) if is_name(&name) => name,
            (Some(_), _) => return Err("the name of the storage account has other than letters and digits"),
            (None, Login::Key(_)) => {
                return Err("a key needs the name of its account: AZURE_STORAGE_ACCOUNT_NAME");
            }
            (None, _) => String::new(),
        };
        let endpoint = match self.endpoint {
            Some(endpoint) => endpoint,
            None if name.is_empty() => {
                return Err("set AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING");
            }
            None => format!("https://{name}.blob.{SUFFIX}"),
        };
        let endpoint = Url::parse(&endpoint).ok().filter(is_endpoint);
        let endpoint = endpoint.ok_or("the endpoint is not the URL of a server, with http or https")?;
        Ok(Account { endpoint, name, login })
    }
}

/// Names of accounts are parts of host names and of signatures.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Neither a login nor a SAS belongs there.
fn is_endpoint(url: &Url) -> bool {
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    plain && url.has_host() && matches!(url.scheme(), "http" | "https")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::remote::transport::{Network, Patience};

    fn find(vars: &[(&str, &str)]) -> Result<Account, &'static str> {
        let vars: Vec<(String, String)> =
            vars.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let var = move |name: &str| vars.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Account::find(&Access {
            var: Arc::new(var),
            patience: Patience::default(),
            network: Network::default(),
        })
    }

    /// Endpoint, name, login.
    fn shown(account: Account) -> (String, String, String) {
        let login = match account.login {
            Login::Key(key) => String::from_utf8_lossy(&key).into_owned(),
            Login::Sas(sas) => sas,
            Login::Tokens(_) => "tokens".to_owned(),
            Login::Anonymous => String::new(),
        };
        (account.endpoint.to_string(), account.name, login)
    }

    #[test]
    fn every_form_of_a_login_is_found() {
        let found = |vars: &[(&str, &str)]| shown(find(vars).unwrap());
        let expected = |endpoint: &str, name: &str, login: &str| (endpoint.into(), name.into(), login.into());
        let azure = "https://team.blob.core.windows.net/";
        let (name, key) = (("AZURE_STORAGE_ACCOUNT_NAME", "team"), ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0"));
        assert_eq!(found(&[name, key]), expected(azure, "team", "secret"));
        assert_eq!(found(&[name]), expected(azure, "team", ""));
        let old = [("AZURE_STORAGE_ACCOUNT", "team"), ("AZURE_STORAGE_KEY", "c2VjcmV0")];
        assert_eq!(found(&old), expected(azure, "team", "secret"));
        let client = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
        assert_eq!(found(&[&[name], &client[..]].concat()), expected(azure, "team", "tokens"));
        assert_eq!(found(&[&[name, key], &client[..]].concat()), expected(azure, "team", "secret"));
        let sas = ("AZURE_STORAGE_SAS_TOKEN", "?sv=1&sig=a%2Bb");
        assert_eq!(found(&[name, sas]), expected(azure, "team", "sv=1&sig=a%2Bb"));
        let endpoint = ("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:9/team");
        assert_eq!(found(&[name, key, endpoint]), expected("http://127.0.0.1:9/team", "team", "secret"));
        let connection =
            |text: &str| found(&[("AZURE_STORAGE_CONNECTION_STRING", text), ("AZURE_STORAGE_ACCOUNT", "x")]);
        assert_eq!(connection("AccountName=team;AccountKey=c2VjcmV0"), expected(azure, "team", "secret"));
        let china = "DefaultEndpointsProtocol=https;AccountName=team;AccountKey=c2VjcmV0;EndpointSuffix=core.chinacloudapi.cn";
        assert_eq!(connection(china), expected("https://team.blob.core.chinacloudapi.cn/", "team", "secret"));
        let shared = "BlobEndpoint=https://team.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=a%3D";
        assert_eq!(connection(shared), expected(azure, "", "sv=1&sig=a%3D"));
        let (at, name, _) = connection("UseDevelopmentStorage=true");
        let emulator = ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1");
        assert_eq!((at.as_str(), name.as_str()), emulator);
    }

    #[test]
    fn the_file_of_az_gives_what_variables_do_not() {
        let temp = tempfile::tempdir().unwrap();
        let text = "[core]\noutput = json\n[storage]\naccount = team\nkey = c2VjcmV0\n";
        std::fs::write(temp.path().join("config"), text).unwrap();
        let dir = ("AZURE_CONFIG_DIR", temp.path().to_str().unwrap());
        let found = |more: &[(&str, &str)]| shown(find(&[&[dir], more].concat()).unwrap());
        assert_eq!(found(&[]).2, "secret");
        assert_eq!(found(&[("AZURE_STORAGE_SAS_TOKEN", "sig=x")]).2, "sig=x");
        let other = found(&[("AZURE_STORAGE_ACCOUNT", "other")]);
        assert_eq!(
            (other.1.as_str(), other.2.as_str()),
            ("other", ""),
            "a key of another account is not used"
        );
    }

    #[test]
    fn what_is_wrong_is_an_error_without_the_value() {
        for vars in [
            &[][..],
            &[("AZURE_STORAGE_KEY", "c2VjcmV0")],
            &[("AZURE_STORAGE_ACCOUNT", "team"), ("AZURE_STORAGE_KEY", "c2Vj-cmV0")],
            &[("AZURE_STORAGE_ACCOUNT", "te/am")],
            &[("AZURE_STORAGE_ACCOUNT", "team"), ("AZURE_STORAGE_ENDPOINT", "ftp://c2Vj")],
            &[("AZURE_STORAGE_ACCOUNT", "team"), ("AZURE_STORAGE_ENDPOINT", "https://x/?sig=c2Vj")],
            &[("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=c2Vj")],
            &[
                ("AZURE_STORAGE_ACCOUNT", "team"),
                ("AZURE_STORAGE_ENDPOINT", "http://example.com"),
                ("AZURE_CLIENT_ID", "c2Vj"),
            ],
        ] {
            let Err(why) = find(vars) else { panic!("{vars:?}") };
            assert!(!why.contains("c2Vj"), "{why}");
        }
    }
}
