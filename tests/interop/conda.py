"""Installs conda packages as `micromamba env create --yes --prefix PREFIX --file FILE` does, with the real solver and installer of pixi.

py-rattler is the library of pixi for Python, and is on PyPI; micromamba is not. The channel is in CONDA_TEST_CHANNEL. With the only
argument `channel`, this makes that channel: two packages, one of which needs the other.
"""
import asyncio, hashlib, io, json, os, sys, tarfile

PLACEHOLDER = "/opt/conda_placeholder_" + "placehold_" * 20


def package(channel, name, depends, files, placeholders):
    """A conda package; `placeholders` has the mode of each file that contains the prefix."""
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": depends, "subdir": "linux-64", "timestamp": 1700000000000}
    paths = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data),
         **({"prefix_placeholder": PLACEHOLDER, "file_mode": placeholders[path]} if path in placeholders else {})}
        for path, data in files.items()
    ]
    files = {**files, "info/index.json": json.dumps(index).encode(), "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode()}
    directory = os.path.join(channel, "linux-64")
    os.makedirs(directory, exist_ok=True)
    with tarfile.open(os.path.join(directory, name + "-1.0-0.tar.bz2"), "w:bz2") as archive:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(data))


def make(channel):
    script = "#!/bin/sh\n. %s/share/settings\necho \"$WORD from $(dirname \"$(dirname \"$0\")\")\"\n" % PLACEHOLDER
    package(channel, "tool", ["settings"], {"bin/tool": script.encode()}, {"bin/tool": "text"})
    binary = b"\x7fELF" + PLACEHOLDER.encode() + b"/lib\0" + bytes(100)
    package(channel, "settings", [], {"share/settings": b"WORD=hello\n", "lib/settings.bin": binary}, {"lib/settings.bin": "binary"})


async def create(prefix, file):
    import rattler
    from rattler.index import index_fs
    channel = os.environ["CONDA_TEST_CHANNEL"]
    await index_fs(channel)
    lines = [line.strip() for line in open(file)]
    specs = [line[2:] for line in lines[lines.index("dependencies:") + 1:] if line.startswith("- ")]
    records = await rattler.solve(["file://" + channel], specs, platforms=["linux-64", "noarch"])
    await rattler.install(records, prefix, show_progress=False, cache_dir=os.path.join(channel, "cache"))


if sys.argv[1] == "channel":
    make(os.environ["CONDA_TEST_CHANNEL"])
else:
    assert sys.argv[1:4] == ["env", "create", "--yes"], sys.argv
    asyncio.run(create(sys.argv[5], sys.argv[7]))
    sys.stdout.flush()
    os._exit(0)  # threads of py-rattler 0.28 can crash the interpreter while it ends
