//! Tests of the reader.

use super::*;

fn text(text: &str) -> Yaml {
    Yaml::Text(text.to_owned())
}

#[test]
fn lists_and_maps_of_any_usual_indent_are_read_alike() {
    let flat = "a:\n- x\n- k: z\n  w:\n  - v\nb: 'it''s' # why\n";
    let deep = "---\n# head\na:\n   - x # c\n   -  k: z\n      w:\n         -   v\n\nb:   \"it's\"\r\n";
    let inner = Yaml::Map(vec![("k".into(), text("z")), ("w".into(), Yaml::List(vec![text("v")]))]);
    let expected =
        Yaml::Map(vec![("a".into(), Yaml::List(vec![text("x"), inner])), ("b".into(), text("it's"))]);
    assert_eq!(parse(flat), Ok(expected.clone()));
    assert_eq!(parse(deep), Ok(expected));
}

#[test]
fn words_mean_what_they_mean_to_rccs_library() {
    let numbers = [
        "3",
        "-1",
        "1.0",
        "1.",
        ".5",
        "1e5",
        "1E+5",
        "0x1f",
        "017",
        "0o7",
        "08",
        "0b1",
        "-0b1",
        "1_000",
        "+.inf",
        ".inf",
        ".NaN",
        "18446744073709551615",
        "1__0",
    ];
    for word in numbers {
        assert_eq!(scalar::meaning(word), Some(Word::Number), "{word}");
    }
    for (word, truth) in
        [("yes", true), ("On", true), ("Y", true), ("TRUE", true), ("no", false), ("OFF", false)]
    {
        assert_eq!(scalar::meaning(word), Some(Word::Truth(truth)), "{word}");
    }
    for word in ["", "~", "null", "NULL"] {
        assert_eq!(scalar::meaning(word), Some(Word::Nothing), "{word}");
    }
    let texts = [
        "python",
        "yEs",
        "nULL",
        "0b2",
        "0x1G",
        "_1",
        "1.0rc1",
        "<<",
        "=",
        "--pre",
        ".",
        "+",
        "7zip",
        "2001-12-14",
        "190:20:30",
        "2001-12-14T21:59:43.10-05:00",
        "1.2.3",
        "1e",
        "72b5124f-e667-8e5b-e266-4fd105bac84e",
    ];
    for word in texts {
        assert_eq!(scalar::meaning(word), None, "{word}");
    }
}

#[test]
fn dates_and_numbers_of_base_60_are_written_with_quotes() {
    for word in
        ["2001-12-14", "2001-1-1", "2001-12-14 21:59:43.10", "2001-12-14t21:59:43Z", "190:20:30", "1:2"]
    {
        assert!(!is_text(word), "{word}");
    }
    for word in ["2001-13-14", "2001-02-29", "1:60", "a:1", "2001-12-14T25:00:00Z", "2001-12"] {
        assert!(is_text(word), "{word}");
    }
}

#[test]
fn anchors_merges_blocks_and_brackets_are_read() {
    let document = parse(
        "a: &a\n  x: 1\n  y: [p, \"q\"]\nb:\n  y: before\n  <<: *a\n  x: after\nc: *a\nd: >\n  one\n  two\n\n  three\ne: |-\n  one\n  two\nf: one\n  two\n",
    )
    .unwrap();
    let list = Yaml::List(vec![text("p"), text("q")]);
    assert_eq!(document.get("b").and_then(|b| b.get("y")), Some(&list));
    assert_eq!(document.get("b").and_then(|b| b.get("x")), Some(&text("after")));
    assert_eq!(document.get("c").and_then(|c| c.get("y")), Some(&list));
    assert_eq!(document.get("d"), Some(&text("one two\nthree\n")));
    assert_eq!(document.get("e"), Some(&text("one\ntwo")));
    assert_eq!(document.get("f"), Some(&text("one two")));
}

#[test]
fn every_encoding_of_yaml_is_read() {
    let expected = parse("a: ü\n");
    assert!(expected.is_ok());
    assert_eq!(parse_bytes(b"\xef\xbb\xbfa: \xc3\xbc\n"), expected);
    assert_eq!(parse_bytes(b"\xff\xfea\0:\0 \0\xfc\0\n\0"), expected);
    assert_eq!(parse_bytes(b"\xfe\xff\0a\0:\0 \0\xfc\0\n"), expected);
    assert_eq!(parse_bytes(b"a: b\nc: \xff\n").unwrap_err().line, 2);
    assert!(parse_bytes(b"\xff\xfea").is_err());
}

#[test]
fn only_the_first_document_is_read_and_the_last_of_equal_keys_counts() {
    assert_eq!(parse("a: b\na: c\n---\nd: [\n"), Ok(Yaml::Map(vec![("a".into(), text("c"))])));
    assert_eq!(parse(""), Ok(Yaml::Word(Word::Nothing, String::new())));
}

#[test]
fn a_block_at_the_end_of_the_file_ends_as_the_file_does() {
    assert_eq!(parse("a: |\n  b").unwrap().get("a"), Some(&text("b")));
    assert_eq!(parse("a: |\n  b\n").unwrap().get("a"), Some(&text("b\n")));
    assert_eq!(parse("a: >\n  b\n  c").unwrap().get("a"), Some(&text("b c")));
}

#[test]
fn what_the_dialects_read_differently_is_refused_with_its_line() {
    for line in ["[a:, b]", "[a?b]", "{a:, b: c}", "\"x\u{85}y\"", "!foo y", "x\u{2028}y", "*a", "x\u{1}"] {
        let error = parse(&format!("a: b\nc: {line}\n")).unwrap_err();
        assert_eq!(error.line, 2, "{line:?}: {error}");
    }
    for text in ["a: 'x", "a: [x,\n", "a:\n\t- b\n", "a: &x [*x]\n", "[a]: b\n"] {
        assert!(parse(text).is_err(), "{text:?} is {:?}", parse(text));
    }
}

#[test]
fn what_grows_without_bounds_is_refused() {
    assert!(parse(&format!("{}a", "- ".repeat(1000))).is_err());
    assert!(parse(&format!("a: {}", "[".repeat(1000))).is_err());
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..30 {
        bomb += &format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 10].join(", "));
    }
    assert_eq!(parse(&bomb).unwrap_err().why, "It has too many values");
}
