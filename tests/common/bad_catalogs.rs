//! Bad catalogs, each with the reason for the refusal and the entry that the error must name.
//!
//! One table for the parser's tests and for the program's: a catalog that the parser refuses must leave no trace on disk.

pub const IDENTITY: &str = "h59acff1_493f813dad24d3t";

/// A catalog whose root has these `subdirs` and `files`.
pub fn with_tree(subdirs: &str, files: &str) -> String {
    with_root(&format!(r#"{{"name":"","mode":2147484141,"subdirs":{subdirs},"files":{files}}}"#))
}

pub fn with_root(tree: &str) -> String {
    with_head(
        &format!(r#""identity":"{IDENTITY}","path":"/b/{IDENTITY}","blueprint":"14023a1f332a0231""#),
        tree,
    )
}

pub fn with_head(head: &str, tree: &str) -> String {
    format!(r#"{{{head},"tree":{tree}}}"#)
}

pub const SHA: &str = "97cb822b82cd288e67ff03ca66c3e036c4fded9c3a5263d781bf6882f5c62f76";

/// A file called `name` of 100 bytes, with these additional fields.
pub fn a_file(name: &str, more: &str) -> String {
    format!(r#"{{"{name}":{{"name":"{name}","size":100,"mode":420,"digest":"{SHA}"{more}}}}}"#)
}

pub fn a_dir(name: &str, more: &str) -> String {
    format!(r#"{{"{name}":{{"name":"{name}","mode":2147484141{more}}}}}"#)
}

/// The expected reason of a refusal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Class {
    Json,
    Header,
    Name,
    OtherName,
    DuplicateName,
    DuplicateField,
    Shadow,
    Root,
    LinkText,
    Size,
    Mode,
    Digest,
    NoDigest,
    Relocation,
}

/// Files that no catalog may contain: the additional fields, the reason of the refusal, and the entry that is named.
fn bad_files() -> Vec<(String, Class, String)> {
    let long = "n".repeat(256);
    let link = "l".repeat(4096);
    let digest = |text: &str| format!(r#"{{"f":{{"name":"f","size":1,"mode":420,"digest":"{text}"}}}}"#);
    let mode = |mode: u64| format!(r#"{{"f":{{"name":"f","size":1,"mode":{mode},"digest":"{SHA}"}}}}"#);
    let size = |size: &str| format!(r#"{{"f":{{"name":"f","size":{size},"mode":420,"digest":"{SHA}"}}}}"#);
    let rewrite = |list: &str| a_file("f", &format!(r#","rewrite":{list}"#));
    let mut bad = Vec::new();
    for (name, shown) in [
        ("", ""),
        (".", "."),
        ("..", ".."),
        ("a/b", "a/b"),
        ("/abs", "/abs"),
        ("a\\u0000b", "a\\0b"),
        (&long, "nnn"),
    ] {
        bad.push((a_file(name, ""), Class::Name, shown.to_owned()));
    }
    let f = |json: String, class| (json, class, "f".to_owned());
    bad.extend([
        f(r#"{"f":{"name":"g","size":1,"mode":420,"digest":"x"}}"#.into(), Class::OtherName),
        f(r#"{"f":{"size":1,"mode":420}}"#.into(), Class::OtherName),
        f(a_file("f", r#","size":100"#), Class::DuplicateField),
        f(a_file("f", r#","SIZE":100"#), Class::DuplicateField),
        f(
            a_file("f", "").trim_end_matches('}').to_owned() + "}," + &a_file("f", "")[1..],
            Class::DuplicateName,
        ),
        f(size("-1"), Class::Size),
        f(size("9223372036854775808"), Class::Json),
        f(size("1.5"), Class::Json),
        f(size("\"1\""), Class::Json),
        f(mode(1 << 31 | 0o755), Class::Mode),
        f(mode(1 << 27 | 0o777), Class::Mode),
        f(mode(1 << 26 | 0o644), Class::Mode),
        f(mode(1 << 25 | 0o644), Class::Mode),
        f(mode(1 << 24 | 0o644), Class::Mode),
        f(mode(1 << 21 | 1 << 26), Class::Mode),
        f(mode(1 << 19), Class::Mode),
        f(mode(0o7777), Class::Mode),
        f(mode(1 << 32), Class::Json),
        f(digest(&SHA.to_uppercase()), Class::Digest),
        f(digest(&SHA[..63]), Class::Digest),
        f(digest("../../../../../../../../../../../../../../../../etc/passwd/aaaaaa"), Class::Digest),
        f(digest(""), Class::Digest),
        f(digest(&"a".repeat(1 << 20)), Class::Digest),
        f(digest("N/A"), Class::NoDigest),
        f(r#"{"f":{"name":"f","size":1,"mode":420}}"#.into(), Class::NoDigest),
        f(rewrite("[-1]"), Class::Relocation),
        f(rewrite("[0,77]"), Class::Relocation),
        f(rewrite("[9223372036854775807]"), Class::Relocation),
        f(rewrite("[18446744073709551615]"), Class::Json),
        f(rewrite("[0.5]"), Class::Json),
        f(rewrite("{}"), Class::Json),
        f(a_file("f", &format!(r#","symlink":"{link}""#)), Class::LinkText),
        f(a_file("f", r#","symlink":"a\u0000b""#), Class::LinkText),
        f(r#"{"f":null}"#.into(), Class::Json),
        f(r#"{"f":[]}"#.into(), Class::Json),
    ]);
    bad
}

/// Directories that no catalog may contain.
fn bad_dirs() -> Vec<(String, Class, String)> {
    let inner = |more: &str| format!(r#","subdirs":{}"#, a_dir("e", more));
    vec![
        (a_dir("..", ""), Class::Name, "..".into()),
        (a_dir("a/b", ""), Class::Name, "a/b".into()),
        (a_dir("d", &inner(r#","name":"e""#)), Class::DuplicateField, "d/e".into()),
        (r#"{"d":{"name":"d","mode":493}}"#.into(), Class::Mode, "d".into()),
        (r#"{"d":{"name":"d"}}"#.into(), Class::Mode, "d".into()),
        (a_dir("d", r#","shadow":true"#), Class::Shadow, "d".into()),
        (a_dir("d", &format!(r#","symlink":"/tmp/x"{}"#, inner(""))), Class::Shadow, "d/e".into()),
        (a_dir("d", r#","symlink":"a\u0000""#), Class::LinkText, "d".into()),
        (a_dir("f", ""), Class::DuplicateName, "f".into()),
        (a_dir("f", r#","symlink":"x""#), Class::DuplicateName, "f".into()),
        (a_dir("d", r#","subdirs":[]"#), Class::Json, "d".into()),
        (a_dir("d", r#","files":"x""#), Class::Json, "d".into()),
        (a_dir("d", &format!(r#","files":{}"#, a_file("..", ""))), Class::Name, "d/..".into()),
        (r#"{"d":null}"#.into(), Class::Json, "d".into()),
        (a_dir("d", ",").replace(",}", "}").replace("}}", ",}}"), Class::Json, "d".into()),
    ]
}

/// Headers and roots that no catalog may have.
fn bad_heads() -> Vec<(String, Class, String)> {
    let good = (IDENTITY, format!("/b/{IDENTITY}"), "14023a1f332a0231");
    let root = r#"{"name":"","mode":2147484141}"#;
    let head = |identity: &str, path: &str, blueprint: &str| {
        with_head(&format!(r#""identity":"{identity}","path":"{path}","blueprint":"{blueprint}""#), root)
    };
    let mut bad = Vec::new();
    for path in [
        "relative/ID",
        "/b/../ID",
        "/b/./ID",
        "/b//ID",
        "/b/ID/",
        "/b/other",
        "",
        "/b/x\\u0000/ID",
        "C:\\\\b\\\\ID",
    ] {
        bad.push((head(good.0, &path.replace("ID", IDENTITY), good.2), Class::Header, "path".to_owned()));
    }
    for identity in
        ["", "short", "h59acff1_493f813dad24d3t0", "h59acff1/493f813dad24d3t", "h59acff1-493f813dad24d3t"]
    {
        bad.push((head(identity, &format!("/b/{identity}"), good.2), Class::Header, "identity".into()));
    }
    for blueprint in ["", "../../../../../x", "14023A1F332A0231"] {
        bad.push((head(good.0, &good.1, blueprint), Class::Header, "blueprint".into()));
    }
    bad.extend([
        (with_root(r#"{"name":"x","mode":2147484141}"#), Class::Root, ".".into()),
        (with_root(r#"{"name":"","mode":2147484141,"symlink":"x"}"#), Class::Root, ".".into()),
        (with_root(r#"{"name":"","mode":2147484141,"shadow":true}"#), Class::Root, ".".into()),
        (with_root(r#"{"name":"","mode":420}"#), Class::Mode, ".".into()),
        (with_root("[]"), Class::Json, ".".into()),
        (with_root("null"), Class::Json, ".".into()),
        ("[]".into(), Class::Json, ".".into()),
        ("\"catalog\"".into(), Class::Json, ".".into()),
        ("{}".into(), Class::Json, ".".into()),
        ("".into(), Class::Json, ".".into()),
        ("nonsense".into(), Class::Json, ".".into()),
        (with_tree("{}", "{}").replace("\"path\"", "\"identity\""), Class::DuplicateField, ".".into()),
    ]);
    bad
}

/// A tree with a chain of `levels` directories below the root.
pub fn deep(levels: usize) -> String {
    let open = r#""subdirs":{"d":{"name":"d","mode":2147484141,"#.repeat(levels);
    let close = r#""files":{}}}"#.to_owned() + &r#","files":{}}}"#.repeat(levels.saturating_sub(1));
    with_root(&format!(r#"{{"name":"","mode":2147484141,{open}{close},"files":{{}}}}"#))
}

/// Every bad catalog: its text, the reason of the refusal, and the entry that is named.
pub fn all() -> Vec<(String, Class, String)> {
    let files = bad_files().into_iter().map(|(files, class, entry)| (with_tree("{}", &files), class, entry));
    let file_f = a_file("f", "");
    let dirs = bad_dirs().into_iter().map(|(dirs, class, entry)| (with_tree(&dirs, &file_f), class, entry));
    files.chain(dirs).chain(bad_heads()).collect()
}
