//! `holofs help TOPIC`: short pages on topics that concern several commands.

use super::terminal;

/// The pages by name.
const TOPICS: [(&str, &str); 5] = [
    ("exit-codes", include_str!("topics/exit-codes.txt")),
    ("environment", include_str!("topics/environment.txt")),
    ("methods", include_str!("topics/methods.txt")),
    ("rcc", include_str!("topics/rcc.txt")),
    ("remotes", include_str!("topics/remotes.txt")),
];

/// The line that lists all topics.
pub const NAMED: &str = "Topics (holofs help TOPIC): exit-codes, environment, methods, rcc, remotes";

/// Prints the topic that the command line names, if any.
pub fn requested(words: &[std::ffi::OsString]) -> Option<anyhow::Result<()>> {
    let [_, help, topic] = words else { return None };
    let (_, text) = TOPICS.iter().find(|(name, _)| help == "help" && topic == *name)?;
    Some(terminal::print(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_fit_a_terminal_and_are_named() {
        for (name, text) in TOPICS {
            assert!(NAMED.contains(name) && !text.is_empty());
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }
}
