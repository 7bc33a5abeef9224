//! Produces the text that RCC's YAML library writes: keys in a fixed order, lists not indented below their key, and each scalar in the
//! style that yaml.v2 chooses.

use super::{CondaError, Environment};

mod scalar;

/// Writes the environment.
pub(super) fn emit(environment: &Environment) -> Result<String, CondaError> {
    let mut out = String::new();
    if !environment.name.is_empty() {
        line(&mut out, "name:", &environment.name, 2)?;
    }
    list(&mut out, "channels", &environment.channels)?;
    let conda: Vec<String> = environment.conda.iter().map(|item| item.text.clone()).collect();
    match (conda.is_empty(), environment.pip.is_empty()) {
        (true, false) => out.push_str("dependencies:\n"),
        _ => list(&mut out, "dependencies", &conda)?,
    }
    if !environment.pip.is_empty() {
        out.push_str("- pip:\n");
        for item in &environment.pip {
            line(&mut out, "  -", &item.text, 4)?;
        }
    }
    if !environment.prefix.is_empty() {
        line(&mut out, "prefix:", &environment.prefix, 2)?;
    }
    if !environment.post_install.is_empty() {
        list(&mut out, "rccPostInstall", &environment.post_install)?;
    }
    Ok(out)
}

fn list(out: &mut String, key: &str, items: &[String]) -> Result<(), CondaError> {
    out.push_str(key);
    if items.is_empty() {
        out.push_str(": []\n");
        return Ok(());
    }
    out.push_str(":\n");
    items.iter().try_for_each(|item| line(out, "-", item, 2))
}

/// `before text`; continuation lines are indented by `indent`.
fn line(out: &mut String, before: &str, text: &str, indent: usize) -> Result<(), CondaError> {
    out.push_str(before);
    out.push(' ');
    let written = scalar::write(text, before.len() + 1, indent);
    out.push_str(&written.ok_or_else(|| CondaError::Unwritable { text: text.to_owned() })?);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        let mut out = String::new();
        line(&mut out, "-", text, 2).ok()?;
        Some(out)
    }

    #[test]
    fn words_are_quoted_as_the_library_does() {
        let cases = [
            ("python=3.7.8", "- python=3.7.8\n"),
            ("--index-url https://x", "- --index-url https://x\n"),
            ("pkg[a,b]==1; python_version < \"3.9\"", "- pkg[a,b]==1; python_version < \"3.9\"\n"),
            ("true", "- \"true\"\n"),
            ("1.5", "- \"1.5\"\n"),
            ("1e5", "- \"1e5\"\n"),
            ("2001-01-01", "- \"2001-01-01\"\n"),
            ("190:20:30", "- \"190:20:30\"\n"),
            ("0b2", "- 0b2\n"),
            ("@x", "- '@x'\n"),
            ("a: b # c", "- 'a: b # c'\n"),
            ("it's", "- it's\n"),
            ("'it's", "- '''it''s'\n"),
            ("---x", "- '---x'\n"),
            ("", "- \"\"\n"),
            (" x", "- ' x'\n"),
            ("größe", "- größe\n"),
            ("a\tb \"c\\", "- \"a\\tb \\\"c\\\\\"\n"),
            ("\u{1f600}", "- \"\\U0001F600\"\n"),
            ("a\nb", "- |-\n  a\n  b\n"),
            ("\nb\n", "- |2\n\n  b\n"),
            ("b\n\n", "- |+\n  b\n\n"),
            ("a \nb", "- \"a \\nb\"\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(written(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(written("a\u{2028}b"), None);
    }

    #[test]
    fn long_text_is_folded_at_the_first_blank_behind_column_80() {
        let (left, right) = ("a".repeat(76), "d".repeat(10));
        let text = format!("{left} bb {right} ccc");
        assert_eq!(written(&text).unwrap(), format!("- {left} bb\n  {right} ccc\n"));
        let single = format!("@{text}");
        assert_eq!(written(&single).unwrap(), format!("- '@{left} bb\n  {right} ccc'\n"));
        let double = format!("\t{text}");
        assert_eq!(written(&double).unwrap(), format!("- \"\\t{left}\n  bb {right} ccc\"\n"));
    }
}
