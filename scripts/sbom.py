"""Reads `cargo metadata` on stdin and the output of `cargo tree` from the second argument; prints a bill of materials (CycloneDX 1.5,
JSON) of what goes into the program.

Fails if a licence is not among those that deny.toml (the first argument) allows, if a crate does not come from crates.io, or if a
direct dependency in Cargo.toml has no reason next to it.
"""

import json
import pathlib
import re
import sys
import tomllib


def shipped(tree):
    """The packages listed by `cargo tree --edges no-dev --prefix none`, as (name, version). `cargo metadata` would also include those
    needed only by a feature of a development dependency."""
    lines = pathlib.Path(tree).read_text().splitlines()
    return {(words[0], words[1].removeprefix("v")) for words in map(str.split, lines) if words}


def is_allowed(licence, allowed):
    """True if some choice within the SPDX expression is allowed. OR has a lower precedence than AND; brackets as in `(A OR B) AND C`."""
    text = licence.replace("/", " OR ")
    words = re.findall(r"\(|\)|[^\s()]+", text)
    python, name = [], []

    def flush():
        if name:
            python.append(str(" ".join(name) in allowed))
            name.clear()

    for word in words:
        if word in ("(", ")", "AND", "OR"):
            flush()
            python.append(word.lower())
        else:
            name.append(word)
    flush()
    return bool(eval(" ".join(python), {"__builtins__": {}}))  # only True, False, and, or, brackets


def without_reason(manifest):
    """The direct dependencies of a manifest without a comment that gives the reason."""
    found, inside = [], False
    for line in manifest.read_text().splitlines():
        if line.startswith("["):
            inside = line.strip("[]").endswith("dependencies")
        elif inside and "=" in line and not line.startswith("#") and "#" not in line:
            found.append(f"{manifest}: {line.split('=')[0].strip()} has no comment with the reason for it")
    return found


def component(package):
    return {
        "type": "library",
        "name": package["name"],
        "version": package["version"],
        "purl": f"pkg:cargo/{package['name']}@{package['version']}",
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
    }


def main():
    metadata = json.load(sys.stdin)
    allowed = set(tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["licenses"]["allow"])
    parts, members = shipped(sys.argv[2]), set(metadata["workspace_members"])
    wrong, components = [], []
    for package in sorted(metadata["packages"], key=lambda package: (package["name"], package["version"])):
        name = f"{package['name']} {package['version']}"
        if (package["name"], package["version"]) not in parts:
            continue
        if not package["license"] or not is_allowed(package["license"], allowed):
            wrong.append(f"{name}: licence {package['license']} is not among those that deny.toml allows")
        if package["id"] in members:
            wrong.extend(without_reason(pathlib.Path(package["manifest_path"])))
            continue
        if not (package["source"] or "").startswith("registry+https://github.com/rust-lang/crates.io-index"):
            wrong.append(f"{name}: comes from {package['source']}, not from crates.io")
        components.append(component(package))
    if wrong:
        sys.exit("\n".join(wrong))
    own = next(package for package in metadata["packages"] if package["name"] == "holofs")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(own) | {"type": "application"}},
        "components": components,
    }
    json.dump(bill, sys.stdout, indent=2)
    print()


main()
