//! Reads settings in the files of the AWS and Azure tools. Pure.

/// The value of `name` in `[section]`.
pub fn setting(text: &str, section: &str, name: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = head.trim() == section;
        } else if inside
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == name
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_their_section() {
        let text = "[default]\nregion = a\n# x\n[profile ci]\nregion=b\naws_access_key_id = k\n";
        assert_eq!(setting(text, "default", "region").as_deref(), Some("a"));
        assert_eq!(setting(text, "profile ci", "region").as_deref(), Some("b"));
        assert_eq!(setting(text, "default", "aws_access_key_id"), None);
    }
}
