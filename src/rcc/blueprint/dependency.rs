//! One item of a list of dependencies, and how RCC chooses between two with the same name.

/// A dependency, as far as RCC parses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    /// The trimmed text, which is written out again.
    pub text: String,
    name: String,
    qualifier: String,
    version: String,
}

/// Two dependencies that require different versions of one name.
#[derive(Debug)]
pub(super) struct Conflict {
    pub left: String,
    pub right: String,
}

fn is_operator(c: char) -> bool {
    matches!(c, '<' | '=' | '~' | '!' | '>')
}

impl Dependency {
    /// Parses an item; `None` if it does not begin with a name, which RCC skips.
    pub fn parse(line: &str) -> Option<Dependency> {
        let text = line.trim();
        let end = text.find(|c| is_operator(c) || c == ' ').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if name.is_empty() {
            return None;
        }
        let blank = [' ', '\t', '\n', '\u{c}', '\r'];
        let rest = rest.trim_start_matches(blank);
        let operators = rest.len() - rest.trim_start_matches(is_operator).len();
        // A version has at least one character, even if that is an operator.
        let operators = if operators == rest.len() { operators.saturating_sub(1) } else { operators };
        let (qualifier, version) = rest.split_at(operators);
        let version = version.trim_start_matches(blank);
        if version.contains('\n') {
            return None;
        }
        let own = |text: &str| text.to_owned();
        Some(Dependency {
            text: own(text),
            name: own(name),
            qualifier: own(qualifier),
            version: own(version),
        })
    }

    /// The dependency as an item of package.yaml's `pypi`, where one `=` means `==`.
    pub fn for_pip(self) -> Dependency {
        if self.qualifier != "=" {
            return self;
        }
        let text = format!("{}=={}", self.name, self.version);
        Dependency { text, qualifier: "==".to_owned(), ..self }
    }

    fn is_exact(&self) -> bool {
        !self.qualifier.is_empty() || !self.version.is_empty()
    }

    /// The more exact of two dependencies with the same name.
    fn choose(self, other: Dependency) -> Result<Dependency, Conflict> {
        let same = self.qualifier == other.qualifier && self.version == other.version;
        match (self.is_exact(), other.is_exact()) {
            (true, false) => Ok(self),
            (false, true) => Ok(other),
            _ if same => Ok(self),
            _ => Err(Conflict { left: self.text, right: other.text }),
        }
    }
}

/// Adds a dependency, or merges it into the one with the same name. Options (`--pre`) are never merged.
pub(super) fn push(list: &mut Vec<Dependency>, added: Dependency) -> Result<(), Conflict> {
    let same = list.iter_mut().find(|known| known.name == added.name && !known.name.starts_with('-'));
    match same {
        Some(known) => *known = known.clone().choose(added)?,
        None => list.push(added),
    }
    Ok(())
}

/// Moves dependencies that are in both lists into the first. On a conflict the second list keeps its own, as in RCC.
pub(super) fn promote(conda: &mut [Dependency], pip: &mut Vec<Dependency>) -> Result<(), Conflict> {
    let mut promoted = Vec::new();
    for (at, item) in pip.iter().enumerate() {
        for known in conda.iter_mut().filter(|known| known.name == item.name && !known.name.starts_with('-'))
        {
            *known = known.clone().choose(item.clone())?;
            promoted.push(at);
        }
    }
    let mut at = 0;
    pip.retain(|_| {
        at += 1;
        !promoted.contains(&(at - 1))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> Option<(String, String, String)> {
        Dependency::parse(line).map(|it| (it.name, it.qualifier, it.version))
    }

    #[test]
    fn lines_are_taken_apart_as_by_rccs_pattern() {
        let cases = [
            ("python", "python", "", ""),
            (" python=3.7.8 ", "python", "=", "3.7.8"),
            ("robot >= 6, <7", "robot", ">=", "6, <7"),
            ("pkg[extra]==1; x", "pkg[extra]", "==", "1; x"),
            ("name word", "name", "", "word"),
            ("name==", "name", "=", "="),
            ("--pre", "--pre", "", ""),
        ];
        for (line, name, qualifier, version) in cases {
            assert_eq!(parts(line), Some((name.into(), qualifier.into(), version.into())), "{line}");
        }
        assert_eq!(parts("=3"), None);
        assert_eq!(parts(""), None);
    }
}
