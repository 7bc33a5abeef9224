//! Who may mount where: `/etc/holofs/mount-policy`, read again for each request.
//!
//! ```text
//! # allow  WHO        BELOW      HOW MANY   more
//! allow    1000-1999  /home      32
//! allow    1001       /srv/ci    64         allow-other namespaces
//! ```
//! WHO is a user id, a range, or `*`. Mounts are allowed on directories below BELOW that the user owns. HOW MANY limits the user's
//! simultaneous mounts. `allow-other` allows access by other users; `namespaces` also serves users in other mount namespaces, such as
//! containers, unless the namespace belongs to a user namespace. The first matching rule decides. A request that no rule allows is
//! refused, and a user whom no rule names is not served at all.
//!
//! The location of a directory is checked when it is mounted on. Later its owner may move the directories above it, with the mount.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The maximum size of a policy, which has a few lines.
const MOST_BYTES: u64 = 64 << 10;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    from: u32,
    to: u32,
    below: PathBuf,
    /// The maximum number of a user's simultaneous mounts.
    pub most: usize,
    /// Users may let others in.
    pub allow_other: bool,
    /// Users in other mount namespaces are served.
    pub namespaces: bool,
}

/// All lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Vec<Rule>);

/// An invalid line; such a policy allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    number: usize,
    why: &'static str,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.number, self.why)
    }
}

impl Policy {
    /// Parses the text of a policy.
    pub fn parse(text: &str) -> Result<Policy, BadLine> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let rules = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let rules = rules.map(|(number, line)| rule(line).map_err(|why| BadLine { number, why }));
        Ok(Policy(rules.collect::<Result<_, _>>()?))
    }

    /// The rule for a mount of `uid` at `path`.
    pub fn find(&self, uid: u32, path: &Path) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.names(uid) && rule.covers(path))
    }

    /// True if some rule is for `uid`: all other users are not served at all.
    pub fn names(&self, uid: u32) -> bool {
        self.0.iter().any(|rule| rule.names(uid))
    }

    /// True if some rule serves `uid` in other mount namespaces.
    pub fn reaches(&self, uid: u32) -> bool {
        self.0.iter().any(|rule| rule.names(uid) && rule.namespaces)
    }

    /// True if some rule serves other mount namespaces.
    pub fn reaches_other_namespaces(&self) -> bool {
        self.0.iter().any(|rule| rule.namespaces)
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Rule {
    fn names(&self, uid: u32) -> bool {
        (self.from..=self.to).contains(&uid)
    }

    /// True if `path` is within the rule's directory.
    pub fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.below)
    }
}

fn rule(line: &str) -> Result<Rule, &'static str> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("allow") {
        return Err("a rule must begin with 'allow'");
    }
    let (from, to) = users(words.next().ok_or("the users are missing")?)?;
    let below = PathBuf::from(words.next().ok_or("the directory is missing")?);
    if !is_clean(&below) {
        return Err("the directory must be absolute, without '.', '..' and doubled slashes");
    }
    let most = words.next().ok_or("the number of mounts is missing")?;
    let most = most.parse().map_err(|_| "the number of mounts is not a number")?;
    let mut rule = Rule { from, to, below, most, allow_other: false, namespaces: false };
    for word in words {
        match word {
            "allow-other" => rule.allow_other = true,
            "namespaces" => rule.namespaces = true,
            _ => return Err("only 'allow-other' and 'namespaces' may follow"),
        }
    }
    Ok(rule)
}

fn users(word: &str) -> Result<(u32, u32), &'static str> {
    const WHO: &str = "the users must be a user id, FROM-TO, or *";
    if word == "*" {
        return Ok((0, u32::MAX));
    }
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().ok_or(WHO)
    };
    let (from, to) = (number(from)?, number(to)?);
    if from <= to { Ok((from, to)) } else { Err("the range of users is empty") }
}

/// Absolute, and spelled as the kernel spells it.
fn is_clean(path: &Path) -> bool {
    let spelled: PathBuf = path.components().collect();
    let plain = |part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_));
    path.is_absolute() && path.components().all(plain) && spelled.as_os_str() == path.as_os_str()
}

/// Reads the policy at `path`, which only root may be able to change.
pub fn read(path: &Path) -> Result<Policy, String> {
    let failed = |why: &dyn fmt::Display| format!("Cannot use the policy {}: {why}", path.display());
    let file = File::open(path).map_err(|error| failed(&error))?;
    let meta = file.metadata().map_err(|error| failed(&error))?;
    if !meta.is_file() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(failed(&"it must be a file that belongs to root and that only root can write"));
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(|error| failed(&error))?;
    Policy::parse(&text).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helper fails loudly")]
    use super::*;

    const TEXT: &str = "# who may\n\nallow 1000-1999 /home 32\n allow 1001 /srv/ci 64 allow-other namespaces\nallow * /scratch 1\n";

    #[test]
    fn the_first_rule_that_fits_the_user_and_the_directory_decides() {
        let policy = Policy::parse(TEXT).unwrap();
        let most = |uid, path: &str| policy.find(uid, Path::new(path)).map(|rule| rule.most);
        assert_eq!(policy.len(), 3);
        assert_eq!(most(1000, "/home/a/x"), Some(32));
        assert_eq!(most(1000, "/home"), Some(32));
        assert_eq!(most(1000, "/homework"), None);
        assert_eq!(most(1000, "/srv/ci/x"), None);
        assert_eq!(most(1001, "/srv/ci/x"), Some(64));
        assert_eq!(most(2000, "/home/a"), None);
        assert_eq!(most(0, "/scratch/x"), Some(1));
        assert!(policy.reaches_other_namespaces() && policy.reaches(1001) && !policy.reaches(1000));
        assert!(policy.names(4_000_000_000) && !Policy::parse("allow 5-7 /x 1").unwrap().names(8));
        let ci = policy.find(1001, Path::new("/srv/ci")).unwrap();
        assert!(ci.allow_other && ci.namespaces);
    }

    #[test]
    fn a_line_that_is_not_understood_makes_the_policy_invalid() {
        for (line, why) in [
            ("deny 1 /x 1", "a rule must begin with 'allow'"),
            ("allow", "the users are missing"),
            ("allow 1", "the directory is missing"),
            ("allow 1 /x", "the number of mounts is missing"),
            ("allow 1 /x many", "the number of mounts is not a number"),
            ("allow 1 /x -1", "the number of mounts is not a number"),
            ("allow +1 /x 1", "the users must be a user id, FROM-TO, or *"),
            ("allow 1- /x 1", "the users must be a user id, FROM-TO, or *"),
            ("allow 4294967296 /x 1", "the users must be a user id, FROM-TO, or *"),
            ("allow me /x 1", "the users must be a user id, FROM-TO, or *"),
            ("allow 2-1 /x 1", "the range of users is empty"),
            ("allow 1 x 1", "the directory must be absolute, without '.', '..' and doubled slashes"),
            ("allow 1 /x/../y 1", "the directory must be absolute, without '.', '..' and doubled slashes"),
            ("allow 1 /x//y 1", "the directory must be absolute, without '.', '..' and doubled slashes"),
            ("allow 1 /x/ 1", "the directory must be absolute, without '.', '..' and doubled slashes"),
            ("allow 1 /x 1 setuid", "only 'allow-other' and 'namespaces' may follow"),
        ] {
            let text = format!("allow 1 /good 1\n{line}");
            assert_eq!(Policy::parse(&text), Err(BadLine { number: 2, why }), "{line}");
        }
    }

    #[test]
    fn a_policy_that_others_can_write_is_not_used() {
        let dir = std::env::temp_dir().join(format!("holofs-policy-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("policy");
        std::fs::write(&path, TEXT).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o664)).unwrap();
        let why = read(&path).unwrap_err();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(why.contains("only root can write"), "{why}");
    }
}
