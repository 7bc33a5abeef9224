//! Splits a command line into words, as RCC does (github.com/google/shlex). Nothing is expanded: there is no shell.

/// The words of `line`; the error says why it cannot be split.
///
/// Single quotes keep everything, double quotes everything but a backslash, which keeps the next character, as outside of quotes. A
/// `#` at the start of a word begins a comment.
pub fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut letters = line.chars();
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => drop(letters.find(|letter| *letter == '\n')),
            '\\' => {
                let kept = letters.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(kept);
            }
            '\'' | '"' => quoted(&mut letters, letter, word.get_or_insert_default())?,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Appends everything up to the closing quote.
fn quoted(letters: &mut std::str::Chars<'_>, quote: char, word: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "a quote is not closed";
    loop {
        match letters.next().ok_or(OPEN)? {
            letter if letter == quote => return Ok(()),
            '\\' if quote == '"' => word.push(letters.next().ok_or(OPEN)?),
            letter => word.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn split_keeps_what_is_quoted() {
        let cases: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("  python \t hello.py\r\n-x ", &["python", "hello.py", "-x"]),
            (r#"a 'b  "c" \' "d 'e' \" \\ \n""#, &["a", r#"b  "c" \"#, r#"d 'e' " \ n"#]),
            (r"a\ b \'c \\", &["a b", "'c", r"\"]),
            (r#"--x="a b"c'd'e"#, &["--x=a bcde"]),
            (r#"a '' """#, &["a", "", ""]),
            ("a#b # c 'd\ne", &["a#b", "e"]),
            ("$HOME `id` * ~ | a;b && c", &["$HOME", "`id`", "*", "~", "|", "a;b", "&&", "c"]),
            ("ä\u{a0}ö", &["ä\u{a0}ö"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        for open in ["a 'b", "a \"b", "a\\", "\"a\\"] {
            assert!(split(open).is_err(), "{open}");
        }
    }
}
