"""Copies the running interpreter into a new prefix (with src/build/interpreter.py) and installs packages there; see scripts/python-env."""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "src", "build"))
import interpreter  # noqa: E402
from interpreter import LEFT_OUT, TESTS, check_links, copy_interpreter, files_below, links_below  # noqa: E402

DEFAULT = "numpy pandas requests"
# For benchmarks with many files: plotly 5 alone has 13,000 small ones.
BIG = "scipy matplotlib scikit-learn statsmodels sympy plotly==5.24.1"


def say(text):
    print("python-env: " + text, file=sys.stderr)


def die(text):
    say(text)
    sys.exit(1)


# --- packages --------------------------------------------------------------------------------------------------------


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
    return done.returncode == 0


def wheels_of(cache):
    path = os.path.join(cache, "wheels", "%s-%s-%s" % (sys.implementation.cache_tag, platform.machine(), platform.libc_ver()[1]))
    os.makedirs(path, exist_ok=True)
    return path


def download(python, wheels, packages):
    """Downloads wheels. They are published by rename, so that parallel runs and interrupted downloads are safe."""
    temp = tempfile.mkdtemp(prefix=".temp.", dir=wheels)
    try:
        if not run(*python, "-m", "pip", "download", "--only-binary=:all:", "--dest", temp, "--find-links", wheels, *packages):
            die("Cannot download %s" % " ".join(packages))
        for name in os.listdir(temp):
            os.replace(os.path.join(temp, name), os.path.join(wheels, name))
    finally:
        shutil.rmtree(temp)


def install(prefix, cache, packages):
    """Installs the packages with pip in the copy. It runs from pip's own wheel, so the machine's pip only downloads that wheel."""
    wheels = wheels_of(cache)

    def pip_wheel():
        return next((os.path.join(wheels, n) for n in sorted(os.listdir(wheels)) if n.startswith("pip-")), None)

    if pip_wheel() is None:
        download([sys.executable], wheels, ["pip"])
    python = os.path.join(prefix, "bin", "python3")
    offline = ["install", "--quiet", "--no-compile", "--no-index", "--no-warn-script-location", "--find-links", wheels]
    if not run(python, pip_wheel() + "/pip", *offline, "pip"):
        die("Cannot install pip into %s" % prefix)
    command = [python, "-m", "pip"] + offline + packages
    known = os.path.join(wheels, "complete-" + re.sub(r"[^\w.=<>-]+", "+", "+".join(sorted(packages))))
    if not os.path.exists(known):
        download([python], wheels, packages)
        open(known, "w").close()
    if not run(*command):
        os.unlink(known)
        die("Cannot install %s from %s: run this script again to download them again" % (" ".join(packages), wheels))


# --- what RCC leaves in every environment ----------------------------------------------------------------------------


def installed(prefix):
    listing = subprocess.run(
        [os.path.join(prefix, "bin", "python3"), "-m", "pip", "list", "--format=json"],
        stdout=subprocess.PIPE, universal_newlines=True, check=True)
    return sorted((p["name"], p["version"]) for p in json.loads(listing.stdout))


def write(prefix, name, text, mode=0o644):
    path = os.path.join(prefix, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)


def leave_rcc_files(prefix, packages):
    python = platform.python_version()
    blueprint = ["channels:", "- conda-forge", "dependencies:", "- python=" + python, "- pip:"]
    blueprint += ["  - %s==%s" % p for p in packages]
    write(prefix, "identity.yaml", "\n".join(blueprint))
    golden = [("python", python, "conda-forge")] + [(n, v, "pypi") for n, v in packages]
    write(prefix, "golden-ee.yaml", "".join("- name: %s\n  version: %s\n  origin: %s\n" % g for g in golden))
    write(prefix, "rcc_plan.log", "Environment creation plan\nPrefix: %s\n---  installation plan complete\n" % prefix)
    write(prefix, "rcc_activate.sh", "#!/bin/bash\nexport CONDA_PREFIX=%s\nexport PATH=%s/bin:$PATH\n" % (prefix, prefix), 0o755)
    write(prefix, "rcc_activate.json", json.dumps({"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": "rcc"}, indent=2))


def figures(prefix):
    files = list(files_below(prefix))
    identity = os.path.basename(prefix).encode()
    relocated = []
    for path in files:
        with open(path, "rb") as f:
            if identity in f.read():
                relocated.append(path)
    links = len(list(links_below(prefix)))
    size = sum(os.path.getsize(p) for p in files)
    return "%d files, %d links, %.1f MB, %d files contain the name of the prefix" % (len(files), links, size / 1e6, len(relocated))


def main():
    parser = argparse.ArgumentParser(prog="python-env")
    parser.add_argument("prefix", metavar="DIR")
    parser.add_argument("--packages", default=DEFAULT)
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    prefix = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(options.prefix))), os.path.basename(options.prefix))
    if not re.match(r"h[0-9a-f]{7}_[0-9a-f]{14}t$", os.path.basename(prefix)):
        die("The base name of %s does not have RCC's format: h, 7 hex digits, _, 14 hex digits, t" % prefix)
    if os.path.lexists(prefix):
        die("%s already exists: remove it, or choose another directory" % prefix)
    if sys.version_info < (3, 9):
        die("Python %s is too old: choose Python 3.9 or later with --python" % platform.python_version())
    packages = options.packages.split() + (BIG.split() if options.big else [])
    os.makedirs(prefix, mode=0o755)
    started = time.time()
    done = False
    try:
        copy_interpreter(prefix, LEFT_OUT if options.big else LEFT_OUT | TESTS)
        install(prefix, options.cache, packages)
        leave_rcc_files(prefix, installed(prefix))
        check_links(prefix)
        with open(interpreter.__file__, encoding="utf-8") as f:
            # Not as a file, whose directory Python would look at.
            subprocess.run([os.path.join(prefix, "bin", "python3"), "-B", "-c", f.read(), "--check", prefix], check=True)
        done = True
    finally:
        if not done:
            shutil.rmtree(prefix, ignore_errors=True)
    say("Python %s from %s: %s, in %.1f s" % (platform.python_version(), sys.base_prefix, figures(prefix), time.time() - started))
    print(prefix)


if __name__ == "__main__":
    main()
