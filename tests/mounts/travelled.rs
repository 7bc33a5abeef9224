//! Bytecode that comes with a remote environment: nothing is compiled again, and it is executed in runs of that environment alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use holofs::remote::head::{self, Head, add_bytecode};
use holofs::remote::{ObjectId, Reference, bytecode};

use crate::common::test_home::TestHome;
use crate::common::{json, run, said, stdout, text_field};
use crate::inherited::{MODULES, catalog, compiled, has_python, import, own, packs, values, wait_for_packs};

/// Replaces the code of module 3 in a pack, which stays bound to the same source.
const POISON: &str = r#"
import hashlib, json, marshal, sys
data = open(sys.argv[1], "rb").read()
end = data.index(b"\n") + 1
size = int.from_bytes(data[end:end + 4], "little")
head, at, pieces = json.loads(data[end + 4:end + 4 + size]), end + 4 + size, []
for piece in head["pieces"]:
    code, at = data[at:at + piece["size"]], at + piece["size"]
    if "/m3." in piece["path"]:
        code = code[:16] + marshal.dumps(compile("V = 'poison'", "m3.py", "exec"))
    piece.pop("origin", None)
    piece.update(size=len(code), sha256=hashlib.sha256(code).hexdigest())
    pieces.append(code)
head = json.dumps(head).encode()
open(sys.argv[2], "wb").write(data[:end] + len(head).to_bytes(4, "little") + head + b"".join(pieces))
"#;

fn remote(store: &Path, name: &str) -> String {
    format!("file://{}#{name}", store.display())
}

/// A home with a catalog whose modules a run has compiled, and where it is pushed to.
fn compiled_home() -> (TestHome, String, PathBuf) {
    let from = TestHome::new();
    let catalog = catalog(&from, "sent", own, "one");
    assert_eq!(compiled(&import(&from, &[], &catalog, "s")).len(), MODULES);
    wait_for_packs(&from, 1);
    let store = from.scratch().join("store");
    (from, catalog, store)
}

#[test]
fn remote_environment_brings_what_its_runs_compiled() {
    if !has_python() {
        return;
    }
    let (from, catalog, store) = compiled_home();
    let pushed = json(&from.holofs_ok(&["push", &catalog, &remote(&store, "with"), "--json"]));
    assert!(pushed[0]["bytecode_bytes"].as_u64().unwrap() > 0, "{pushed:#}");
    let again = json(&from.holofs_ok(&["push", &catalog, &remote(&store, "with"), "--json"]));
    assert_eq!((&again[0]["head"], &again[0]["bytes_sent"]), (&pushed[0]["head"], &0.into()));
    from.holofs_ok(&["push", &catalog, &remote(&store, "without"), "--no-bytecode"]);
    for (name, expected) in [("with", 0), ("without", MODULES)] {
        let to = TestHome::new();
        let output = import(&to, &[], &remote(&store, name), "lazy");
        assert_eq!(stdout(&output).trim_end(), values("one"));
        assert_eq!(compiled(&output).len(), expected, "{name}: {}", said(&output));
        if expected == 0 {
            // Without network, from what is here; and a run compiles nothing for others.
            let output = import(&to, &["--offline", "--fresh"], &remote(&store, name), "lazy");
            assert_eq!(compiled(&output).len(), 0, "{}", said(&output));
            assert_eq!(packs(&to), Vec::<PathBuf>::new());
        }
    }
    let verified = json(&from.holofs_ok(&["remote", "verify", &remote(&store, "with"), "--json"]));
    assert_eq!(verified["wrong"].as_array().unwrap().len(), 0);
    from.holofs_ok(&["remote", "gc", &remote(&store, "with"), "--grace", "0"]);
    assert_eq!(compiled(&import(&TestHome::new(), &[], &remote(&store, "with"), "kept")).len(), 0);
}

#[test]
fn push_right_after_a_run_sends_what_it_compiles() {
    if !has_python() {
        return;
    }
    let from = TestHome::new();
    let catalog = catalog(&from, "sent", own, "one");
    import(&from, &[], &catalog, "s");
    let pushed = json(&from.holofs_ok(&["push", &catalog, &remote(&from.scratch(), "now"), "--json"]));
    assert!(pushed[0]["bytecode_bytes"].as_u64().unwrap() > 0, "{pushed:#}");
}

/// Adds the environment `evil`: that of the head `id`, with other bytecode.
fn poison(from: &TestHome, store: &Path, id: &str) {
    let bad = from.scratch().join("bad");
    run(Command::new("/usr/bin/python3").args(["-c", POISON]).arg(&packs(from)[0]).arg(&bad));
    let bytes = fs::read(store.join("v1/heads").join(id)).unwrap();
    let right = Head::parse(&bytes, &ObjectId::of(&bytes)).unwrap();
    let (object, packed) = bytecode::packed(&fs::read(&bad).unwrap()).unwrap().unwrap();
    let name = object.id.to_string();
    fs::create_dir_all(store.join("v1/packs").join(&name[..2])).unwrap();
    fs::write(store.join("v1/packs").join(&name[..2]).join(&name), packed).unwrap();
    let frames: BTreeMap<_, _> =
        right.blobs().iter().map(|blob| (blob.digest, right.frames(blob).to_vec())).collect();
    let packs = [&right.packs[..], &[object]].concat();
    let mut forged = head::encode(&right.stored_catalog, &packs, &frames).unwrap();
    add_bytecode(&mut forged, packs.len() - 1);
    let id = ObjectId::of(&forged);
    fs::write(store.join("v1/heads").join(id.to_string()), &forged).unwrap();
    let reference = Reference::new(id, forged.len() as u64, right.catalog_name(), 0);
    fs::write(store.join("v1/refs/evil"), reference.to_json()).unwrap();
}

#[test]
fn bytecode_of_a_remote_is_executed_in_no_other_run() {
    if !has_python() {
        return;
    }
    let (from, sent, store) = compiled_home();
    let pushed = json(&from.holofs_ok(&["push", &sent, &remote(&store, "good"), "--json"]));
    poison(&from, &store, &text_field(&pushed[0], "head"));
    let to = TestHome::new();
    // Its sender decides about all of its code, so there is something that could spread.
    let lies = stdout(&import(&to, &[], &remote(&store, "evil"), "s"));
    assert_eq!(lies.split_whitespace().nth(3), Some("poison"));
    // The same catalog, in the same space and in another one.
    to.holofs_ok(&["pull", &remote(&store, "good")]);
    for (options, space) in
        [(&[][..], "s"), (&["--isolate"], "s"), (&["--mode=materialize"], "files"), (&[], "other")]
    {
        let output = import(&to, options, &sent, space);
        assert_eq!(stdout(&output).trim_end(), values("one"), "{options:?} {space}");
    }
    assert_eq!(stdout(&import(&to, &[], &remote(&store, "good"), "s")).trim_end(), values("one"));
    // Another catalog with the same interpreter and mostly the same sources.
    let next = catalog(&to, "next", own, "two");
    assert_eq!(stdout(&import(&to, &[], &next, "next")).trim_end(), values("two"));
}
