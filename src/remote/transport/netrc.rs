//! Finds the login for a host in a `.netrc`, as curl and git do. Pure.

/// Login and password for `host`, or else those of `default`.
pub fn login(text: &str, host: &str) -> Option<(String, String)> {
    let mut fallback = None;
    let mut words =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(str::split_whitespace);
    let mut entry: Option<Entry> = None;
    loop {
        let word = words.next();
        if matches!(word, None | Some("machine" | "default"))
            && let Some(done) = entry.take()
        {
            match done.host.as_deref() {
                Some(name) if name == host => return done.login(),
                Some(_) => {}
                None => fallback = fallback.or(done.login()),
            }
        }
        match word {
            None => return fallback,
            Some("machine") => {
                entry = Some(Entry { host: words.next().map(str::to_owned), ..Entry::default() })
            }
            Some("default") => entry = Some(Entry::default()),
            Some(key @ ("login" | "password" | "account")) => {
                let value = words.next().map(str::to_owned);
                if let Some(entry) = &mut entry {
                    match key {
                        "login" => entry.login = value,
                        "password" => entry.password = value,
                        _ => {}
                    }
                }
            }
            Some(_) => {}
        }
    }
}

#[derive(Default)]
struct Entry {
    host: Option<String>,
    login: Option<String>,
    password: Option<String>,
}

impl Entry {
    fn login(self) -> Option<(String, String)> {
        Some((self.login?, self.password.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_by_its_host() {
        let text = "# machine a login no password no\nmachine a\n login u password p\nmachine b login v password q\ndefault login d password r\n";
        let found = |host| login(text, host).map(|(user, word)| format!("{user}:{word}"));
        assert_eq!(found("a").as_deref(), Some("u:p"));
        assert_eq!(found("b").as_deref(), Some("v:q"));
        assert_eq!(found("c").as_deref(), Some("d:r"));
        assert_eq!(login("machine a login u", "b"), None);
        assert_eq!(login("machine a login u", "a"), Some(("u".to_owned(), String::new())));
        assert_eq!(login("login u password p machine", "a"), None);
    }
}
