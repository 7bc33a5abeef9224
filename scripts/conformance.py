"""Runs the conformance suites on a mounted space; see scripts/conformance."""

import argparse
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TESTS = PROJECT + "/tests/conformance"
ROOT = "/dev/shm/holofs-conformance"
STAGE = "h0c0ffee_493f813dad24d3t"
SUITES = ["pjdfstest", "fsx", "stress-ng", "probe"]
failures = []


def say(text):
    print("conformance: " + text, file=sys.stderr, flush=True)


def result_line(suite, good, text):
    """Prints a summary line."""
    print("%-34s %-6s %s" % (suite, "ok" if good else "FAILED", text), flush=True)
    if not good:
        failures.append(suite)


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **more).stdout.decode()


def logged(name, command, **more):
    """Runs a suite; returns its exit status and its output."""
    path = ROOT + "/" + name.replace("/", "-") + ".log"
    with open(path, "wb") as log:
        try:
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=1200, **more).returncode
        except subprocess.TimeoutExpired:
            status = -1
    return status, open(path, errors="replace").read()


def put(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def make_tree(tree):
    for name in ("f", "u", "xf", "hl1", "hl2", "ro700/x", "tree/a/b/1", "tree/a/b/2", "tree/c"):
        put(tree + "/seed/" + name, b"content of " + name.encode() + b"\n")
    put(tree + "/seed/big", os.urandom(1_000_000))
    put(tree + "/seed/sparse", b"x")
    os.truncate(tree + "/seed/sparse", 8 << 20)
    put(tree + "/seed/reloc", STAGE.encode() + b" is here\n")
    os.makedirs(tree + "/seed/d")
    shutil.copy("/bin/ls", tree + "/seed/d/ls")
    os.symlink("f", tree + "/seed/sl")
    for number in range(5):
        put(tree + "/large/%d" % number, os.urandom(64 << 20))
    for number in range(500):
        put(tree + "/lower/sub/%d.py" % number, b"# %d\n" % number)


class World:
    """A home with one catalog, a mounted space of it, and an ext4 for comparison."""

    def __init__(self, holofs):
        self.holofs = holofs
        self.env = {"HOME": ROOT, "ROBOCORP_HOME": ROOT + "/h", "PATH": os.environ["PATH"]}
        if "HOLOFS_IO" in os.environ:  # passthrough
            self.env["HOLOFS_IO"] = os.environ["HOLOFS_IO"]
        self.ext4 = ROOT + "/ext4"
        # A short path to the space: the path of a socket has at most 107 bytes.
        self.root = tempfile.mkdtemp(prefix="hc", dir="/tmp")
        tree = ROOT + "/h/holotree/" + STAGE
        make_tree(tree)
        put(ROOT + "/blueprint.yaml", b"channels: []\n")
        run(holofs, "record", tree, "--blueprint", ROOT + "/blueprint.yaml", env=self.env, stderr=subprocess.DEVNULL)
        shutil.rmtree(tree)
        self.catalog = [n for n in os.listdir(ROOT + "/h/hololib/catalog") if not n.endswith(".info")][0]
        run("truncate", "-s", "4G", ROOT + "/image")
        run("mkfs.ext4", "-q", "-F", ROOT + "/image")
        os.mkdir(self.ext4)
        run("mount", "-o", "loop", ROOT + "/image", self.ext4)
        # The space's own files are on ext4 too: tmpfs lacks some of the tested features.
        self.env["HOLOFS_HOME"] = self.ext4 + "/holofs"
        self.mount()

    def mount(self, *more):
        said = run(self.holofs, "mount", self.catalog, "conformance", "--allow-other", "--json", *more, env=self.env)
        report = json.loads(said)
        path, self.supervisor = report["path"], report["pid"]
        run("mount", "--bind", path, self.root)
        os.chmod(self.root, 0o755)

    def unmount(self):
        run("umount", self.root)
        run(self.holofs, "unmount", "conformance", env=self.env)

    def end(self):
        subprocess.run(["umount", "-l", self.root], stderr=subprocess.DEVNULL)
        subprocess.run([self.holofs, "unmount", "--lazy", "conformance"], env=self.env, stdout=subprocess.DEVNULL)
        for line in open("/proc/self/mountinfo").read().splitlines()[::-1]:
            path = line.split(" ")[4]
            if path.startswith(ROOT) or path == self.root:
                subprocess.run(["umount", "-l", path])
        os.rmdir(self.root)

    def store_hash(self):
        digest = hashlib.sha256()
        for path in sorted(glob.glob(ROOT + "/h/hololib/library/**", recursive=True)):
            if os.path.isfile(path):
                stat = os.lstat(path)
                content = open(path, "rb").read()
                digest.update(repr((path, stat.st_mode, stat.st_mtime_ns, stat.st_nlink)).encode() + content)
        return digest.hexdigest()


class Killer(threading.Thread):
    """Kills the server of the mount every second."""

    def __init__(self, supervisor):
        super().__init__(daemon=True)
        self.children = "/proc/%d/task/%d/children" % (supervisor, supervisor)
        self.kills = 0
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(1):
            for server in open(self.children).read().split():
                os.kill(int(server), signal.SIGKILL)
                self.kills += 1

    def end(self):
        self.over.set()
        self.join()


def pjdfstest(world, args, expected):
    for name in ("new", "lower/sub"):
        directory = world.root + "/" + name
        os.makedirs(directory, exist_ok=True)
        for path in (os.path.dirname(directory), directory):
            os.chmod(path, 0o755)
        command = [args.tools + "/pjdfstest", "-c", TESTS + "/pjd.toml", "-s", "/dev/shm", "-p", directory]
        status, said = logged("pjdfstest-" + name, command, cwd=directory)
        counts = re.search(r"Summary: (\d+) failed, (\d+) skipped, (\d+) passed", said)
        failed, _, passed = map(int, counts.groups()) if counts else (-1, 0, 0)
        good = failed == 0 and passed >= expected["pjdfstest"]["least_passed"]
        result_line("pjdfstest in " + name, good, counts.group(0) if counts else "status %d, no summary" % status)


def fsx(world, args, _expected):
    large = TESTS + "/fsx-basic.toml"
    text = open(large).read().replace("flen = 1048576", "flen = 67108864")
    put(ROOT + "/fsx-large.toml", text.encode())
    for seed in range(1, 6):
        with open(world.root + "/large/%d" % (seed - 1), "ab") as file:
            file.write(b"copied up")
        cases = [("new file", large, world.root + "/fsx%d" % seed),
                 ("copied-up 64 MB", ROOT + "/fsx-large.toml", world.root + "/large/%d" % (seed - 1))]
        for name, config, path in cases:
            # A killed server costs some operations a hundred times their time.
            command = [args.tools + "/fsx", "-N", "3000" if args.kill else "30000", "-S", str(seed), "-P", ROOT, "-f", config, path]
            status, said = logged("fsx-%s-%d" % (name, seed), command)
            last = said.strip().splitlines()[-1:] or ["(nothing)"]
            result_line("fsx, seed %d, %s" % (seed, name), status == 0, last[0])
            if status == 0:
                os.unlink(path)


def stress_fails(directory, name):
    os.mkdir(directory)
    command = ["stress-ng", "--class", "filesystem", "--sequential", "1", "--timeout", "1s", "--verify", "--temp-path", directory]
    _, said = logged("stress-ng-" + name, command, cwd=directory)
    done = "successful run completed" in said or "run completed" in said
    fails = sorted(set(re.findall(r"fail: +\[\d+\] (.*)", said)))
    shutil.rmtree(directory, ignore_errors=True)
    return done, fails, len(set(re.findall(r"fail: +\[\d+\] ([\w-]+)", said)))


def stress(world, _args, _expected):
    known = {line.split(":")[0] for line in stress_fails(world.ext4 + "/stress", "ext4")[1]}
    done, fails, _ = stress_fails(world.root + "/stress", "holofs")
    new = [line for line in fails if line.split(":")[0] not in known]
    result_line("stress-ng filesystem class", done and not new, "%d failures, %d of them not on ext4" % (len(fails), len(new)))
    for line in new:
        print("    " + line)


def probe(world, _args, expected):
    status, said = logged("probe", ["python3", TESTS + "/probe.py", world.root])
    try:
        results = json.loads(said[said.index("{"):])
    except ValueError:
        return result_line("probe", False, "status %d: %s" % (status, said[-200:]))
    io = os.environ.get("HOLOFS_IO", "no-open")
    known = {entry["check"]: entry["result"] for entry in expected["probe"] if entry.get("io", io) == io}
    bad = ["%s: %s" % item for item in results.items() if item[1] != known.get(item[0], "ok") and known.get(item[0]) != "*"]
    bad += ["%s: listed, but not checked" % check for check in known if check not in results]
    result_line("probe", not bad, "%d of %d as on ext4, or as listed" % (len(results) - len(bad), len(results)))
    for line in bad:
        print("    " + line)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--holofs", required=True)
    parser.add_argument("--tools", required=True)
    parser.add_argument("--only", default=",".join(SUITES))
    parser.add_argument("--kill", action="store_true", help="kill the server every second")
    args = parser.parse_args()
    with open(PROJECT + "/tests/conformance.toml", "rb") as file:
        expected = tomllib.load(file)
    shutil.rmtree(ROOT, ignore_errors=True)
    os.makedirs(ROOT)
    world = World(args.holofs)
    killer = Killer(world.supervisor) if args.kill else None
    try:
        before = world.store_hash()
        if killer:
            killer.start()
        for name, suite in zip(SUITES, (pjdfstest, fsx, stress, probe)):
            if name in args.only.split(","):
                say(name)
                suite(world, args, expected)
        if killer:
            killer.end()
            result_line("servers killed meanwhile", killer.kills > 0, str(killer.kills))
        world.unmount()
        world.mount()
        result_line("the space after a remount", os.path.isdir(world.root + "/lower/sub"), "is readable")
        result_line("the store's tree hash", world.store_hash() == before, before[:16])
        why = [entry["why"] for entry in expected["probe"] if not entry["why"].startswith(("No deviation", "See"))]
        print("%d deviations from ext4 are listed, with their reasons, in tests/conformance.toml" % len(why))
    finally:
        world.end()
    if not failures:
        shutil.rmtree(ROOT)
    sys.exit("Failed: %s; the output is in %s" % (", ".join(failures), ROOT) if failures else 0)


main()
