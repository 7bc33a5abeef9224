"""Measures writing into a space; see scripts/bench.d/writes.

One tree of small files exists natively, below a kernel overlay, below fuse-overlayfs, and as a catalog that HoloFS mounts, all on one
ext4 in a loop image on tmpfs. The systems take turns, round by round, so that a disturbance of the machine affects all of them. Each case
runs in a separate process that times only itself. A ratio is a ratio of medians.
"""

import argparse
import glob
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

from halt_poll import HaltPoll

ROOT = "/dev/shm/holofs-bench-writes"
DISK = ROOT + "/disk"
STAGE = "h0c0ffee_493f813dad24d3t"
SMALL = b"0123456789abcdef" * 192  # 3 KB
SETTLE = 3  # seconds: a new mount does some work in the background
ORDER = ["native", "holofs", "before", "overlayfs", "fuse-overlayfs"]
BARS = {"create": 4.5, "replace": 2.7, "read": 1.5, "read again": 1.5, "remove": 2.7, "remove catalog": 6, "write 262 MB": 2, "pip": 1.2}


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **more).stdout.decode()


# ---- the cases: functions of the root of a tree ------------------------------------------------------------------------

def files(root):
    return ["%s/made/%02d/%03d.py" % (root, d, f) for d in range(100) for f in range(100)]


def put(path, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, flags, 0o644)
    os.write(fd, SMALL)
    os.close(fd)


def create(root):
    os.mkdir(root + "/made")
    for d in range(100):
        os.mkdir("%s/made/%02d" % (root, d))
    for path in files(root):
        put(path)


def replace(root):
    for path in files(root):
        put(path + ".tmp")
        os.chmod(path + ".tmp", 0o755)
        os.utime(path + ".tmp", (1e9, 1e9))
        os.rename(path + ".tmp", path)


def read(root):
    for path in files(root):
        fd = os.open(path, os.O_RDONLY)
        assert len(os.read(fd, 1 << 16)) == len(SMALL)
        os.close(fd)


def remove(root):
    subprocess.run(["rm", "-rf", root + "/made"], check=True)


def remove_catalog(root):
    subprocess.run(["rm", "-rf", root + "/gone"], check=True)


def append(root):
    for f in range(1000):
        fd = os.open("%s/kept/%02d/%03d.py" % (root, f % 10, f), os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"# more\n")
        os.close(fd)


def write_large(root):
    block = b"\5" * (1 << 20)
    fd = os.open(root + "/large", os.O_WRONLY | os.O_CREAT, 0o644)
    for _ in range(250):
        os.write(fd, block)
    os.close(fd)


CASES = [("create", create, 10_000), ("replace", replace, 10_000), ("read", read, 10_000), ("read again", read, 10_000),
         ("remove", remove, 10_000), ("remove catalog", remove_catalog, 5_000), ("append", append, 1_000),
         ("write 262 MB", write_large, 1)]


# ---- the systems -------------------------------------------------------------------------------------------------------

def make_tree(tree):
    for name, dirs, count in (("gone", 50, 5000), ("kept", 10, 1000)):
        for d in range(dirs):
            os.makedirs("%s/%s/%02d" % (tree, name, d))
        for f in range(count):
            with open("%s/%s/%02d/%03d.py" % (tree, name, f % dirs, f), "wb") as file:
                file.write(SMALL * 3)


class Program:
    """A build of holofs with a home of its own, in which the tree is recorded."""

    def __init__(self, holofs, home):
        self.holofs, self.tree = holofs, home + "/holotree/" + STAGE
        self.env = {"HOME": home, "ROBOCORP_HOME": home, "PATH": os.environ["PATH"]}
        make_tree(self.tree)
        with open(ROOT + "/blueprint.yaml", "w") as file:
            file.write("channels: []\n")
        self.call("record", self.tree, "--blueprint", ROOT + "/blueprint.yaml")
        self.catalog = [n for n in os.listdir(home + "/hololib/catalog") if not n.endswith(".info")][0]

    def call(self, *arguments):
        return run(self.holofs, *arguments, env=self.env, stderr=subprocess.DEVNULL)

    def mount(self):
        return json.loads(self.call("mount", self.catalog, "bench", "--fresh", "--json"))["path"]


class World:
    """The disk, and the programs."""

    def __init__(self, programs):
        os.makedirs(DISK, exist_ok=True)
        run("truncate", "-s", "8G", ROOT + "/image")
        run("mkfs.ext4", "-q", "-F", ROOT + "/image")
        run("mount", "-o", "loop", ROOT + "/image", DISK)
        homes = {"holofs": DISK, "before": DISK + "/before-home"}
        self.programs = {name: Program(program, homes[name]) for name, program in programs.items()}
        self.tree = self.programs["holofs"].tree

    def start(self, system):
        """Provides a fresh tree, and returns its root."""
        home = "%s/%s" % (DISK, system)
        for name in ("upper", "work", "merged"):
            os.makedirs(home + "/" + name)
        options = "lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (self.tree, home, home)
        if system == "native":
            run("cp", "-a", self.tree, home + "/tree")
            return home + "/tree"
        if system == "overlayfs":
            run("mount", "-t", "overlay", "overlay", "-o", options, home + "/merged")
        elif system == "fuse-overlayfs":
            run("fuse-overlayfs", "-o", options, home + "/merged")
        else:
            return self.programs[system].mount()
        return home + "/merged"

    def stop(self, system):
        home = "%s/%s" % (DISK, system)
        if system in self.programs:
            self.programs[system].call("unmount", "bench")
        elif system != "native":
            run("umount", home + "/merged")
        shutil.rmtree(home)
        run("sync", "-f", DISK)

    def end(self):
        for line in open("/proc/self/mountinfo").read().splitlines()[::-1]:
            path = line.split(" ")[4]
            if path.startswith(ROOT):
                subprocess.run(["umount", "-l", path])
        shutil.rmtree(ROOT, ignore_errors=True)


def store_hash():
    digest = hashlib.sha256()
    for path in sorted(glob.glob(DISK + "/hololib/library/**", recursive=True)):
        stat = os.lstat(path)
        content = open(path, "rb").read() if os.path.isfile(path) else b""
        digest.update(repr((path, stat.st_mode, stat.st_mtime_ns if content else 0, stat.st_nlink)).encode() + content)
    return digest.hexdigest()


def timed(case, root):
    """Runs one case in a separate process; returns the seconds that it reports."""
    pipe, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        started = time.perf_counter()
        case(root)
        os.write(child_end, repr(time.perf_counter() - started).encode())
        os._exit(0)
    os.close(child_end)
    with open(pipe) as said:
        text = said.read()
    os.waitpid(pid, 0)
    if not text:
        sys.exit("The case %s failed in %s" % (case.__name__, root))
    return float(text)


def pip_case(cache):
    """A case that installs and uninstalls numpy and pandas from local wheels, with --target."""
    wheels = cache + "/wheels-writes"
    if not glob.glob(wheels + "/pandas*"):
        run(sys.executable, "-m", "pip", "download", "-q", "-d", wheels, "numpy", "pandas")

    def pip(root):
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--find-links", wheels, "--no-compile",
                   "--root-user-action=ignore", "--disable-pip-version-check", "--target", root + "/site", "numpy", "pandas"]
        subprocess.run(install, check=True)
        uninstall = [sys.executable, "-m", "pip", "uninstall", "-q", "-y", "--root-user-action=ignore",
                     "--break-system-packages", "numpy", "pandas"]
        subprocess.run(uninstall, check=True, env=dict(os.environ, PYTHONPATH=root + "/site"))

    return ("pip", pip, 1)


def show(seconds, systems, cases):
    print("%-16s %12s" % ("", "native") + "".join("%17s" % name for name in systems[1:]) + "     bar")
    for name, _, count in cases:
        native = statistics.median(seconds["native", name])
        line = "%-16s %9.1f us" % (name, native / count * 1e6) if count > 1 else "%-16s %9.1f ms" % (name, native * 1e3)
        line += "".join("%15.2f x" % (statistics.median(seconds[system, name]) / native) for system in systems[1:])
        print(line + ("%6s x" % BARS[name] if name in BARS else "  overlayfs"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--holofs", required=True)
    parser.add_argument("--before", help="another build of holofs, measured in turn with this one, in a home of its own")
    parser.add_argument("--cache", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pip", action="store_true")
    parser.add_argument("--json", action="store_true")
    HaltPoll.add_option(parser)
    args = parser.parse_args()
    with HaltPoll(args.halt_poll):
        sys.exit(bench(args))


def bench(args):
    programs = {"holofs": args.holofs, **({"before": args.before} if args.before else {})}
    others = [name for name in ("fuse-overlayfs",) if shutil.which(name)]
    systems = [name for name in ORDER if name in ("native", "overlayfs", *programs, *others)]
    cases = CASES + ([pip_case(args.cache)] if args.pip else [])
    world = World(programs)
    try:
        before = store_hash()
        seconds = {}
        for number in range(args.rounds):
            for system in systems:
                say("round %d: %s" % (number + 1, system))
                root = world.start(system)
                time.sleep(SETTLE)
                for name, case, _ in cases:
                    seconds.setdefault((system, name), []).append(timed(case, root))
                world.stop(system)
        same = store_hash() == before
    finally:
        world.end()
    if args.json:
        print(json.dumps([{"system": s, "case": c, "seconds": v} for (s, c), v in seconds.items()]))
    else:
        show(seconds, systems, cases)
        print("the store's tree hash: " + ("identical" if same else "CHANGED"))
    return 0 if same else 1


main()
