"""Measures materialize, compared with rcc, cp, tar and uv; see scripts/bench.d/materialize.

Everything happens in loop images on tmpfs, one file system after the other. Within one, the cases take turns, round by round, so that a
disturbance of the machine affects all of them. A ratio is a ratio of medians. Only the command itself is timed, not the preparation of the
case (removing the last space, an empty or warm raw store, cold caches). rcc, a raw hololib and cold caches are measured on ext4 only,
where the bars are. At the end nothing stays mounted or in memory, even after a failure.
"""

import argparse
import gzip
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = "/dev/shm/holofs-bench-materialize"
STAGE = "h0c0ffee_493f813dad24d3t"
IMAGE_BYTES = 10 << 30
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "btrfs": ["mkfs.btrfs", "-q", "-f"], "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]}
UV_SET = "numpy pandas requests scipy matplotlib scikit-learn statsmodels sympy plotly==5.24.1".split()


def say(text):
    print("bench: " + text, file=sys.stderr, flush=True)


def run(command, env=None, cwd=None):
    """The elapsed seconds and the processor seconds of a command, which must succeed."""
    with open(ROOT + "/last.log", "wb") as log:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=cwd)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        seconds = time.perf_counter() - start
    if status != 0:
        sys.exit("Failed: %s\n%s" % (" ".join(command), open(ROOT + "/last.log", errors="replace").read()))
    return seconds, usage.ru_utime + usage.ru_stime


def peak_rss(command, env):
    """Peak RSS of a command in kB, read while it runs, because wait4's value includes the moment before exec."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    peak = 0
    while child.poll() is None:
        try:
            text = open("/proc/%d/status" % child.pid).read()
            if "python" not in text.split("\n")[0]:
                peak = max([peak] + [int(n) for n in re.findall(r"VmHWM:\s+(\d+)", text)])
        except (OSError, ValueError):
            pass
        time.sleep(0.002)
    return peak


def count_files(tree):
    return sum(len(files) for _, _, files in os.walk(tree))


def remove(path):
    subprocess.run(["rm", "-rf", path], check=True)


def cold():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as out:
        out.write("3")


class Seed:
    """The environment and its two catalogs, created once: `whole`, and `part`, which lacks about 15,300 files."""

    def __init__(self, holofs, small):
        self.dir = ROOT + "/seed"
        self.tree = os.path.join(self.dir, "tree", STAGE)
        self.home = os.path.join(self.dir, "home")
        os.makedirs(os.path.dirname(self.tree))
        say("Creating the environment")
        subprocess.run([HERE + "/python-env", self.tree] + ([] if small else ["--big"]), check=True)
        self.record(holofs)
        self.record_raw(holofs)

    def record(self, holofs):
        say("Recording it, whole and in part")
        os.makedirs(self.home + "/holotree")
        os.makedirs(self.home + "/user")
        stage = self.home + "/holotree/" + STAGE
        subprocess.run(["cp", "-a", self.tree, stage], check=True)
        text = open(stage + "/identity.yaml").read()
        env = environment(self.home)
        subprocess.run(["tar", "-cf", self.dir + "/tree.tar", "-C", self.tree, "."], check=True)
        for name in ("whole", "part"):
            if name == "part":
                self.thin(stage)
            with open(os.path.join(self.dir, name + ".yaml"), "w") as out:
                out.write(text if name == "whole" else text + "# part\n")
            with open(stage + "/identity.yaml", "w") as out:
                out.write(text if name == "whole" else text + "# part\n")
            subprocess.run([holofs, "record", stage, "--blueprint", os.path.join(self.dir, name + ".yaml"), "--json"],
                           check=True, env=env, stdout=subprocess.DEVNULL)
            catalogs = self.home + "/hololib/catalog/"
            made = [n for n in os.listdir(catalogs) if "v12." in n and not n.endswith(".info")]
            new = [n for n in made if not os.path.exists(self.dir + "/catalog-" + n)]
            open(self.dir + "/catalog-" + new[0], "w").close()
            with open(os.path.join(self.dir, name + ".name"), "w") as out:
                out.write(new[0])
        shutil.rmtree(stage)
        remove(self.home + "/holofs")

    def record_raw(self, holofs):
        """The whole catalog again, in an uncompressed hololib."""
        home = self.home + "-raw"
        stage = home + "/holotree/" + STAGE
        os.makedirs(home + "/hololib/catalog")
        os.makedirs(home + "/holotree")
        os.makedirs(home + "/user")
        open(home + "/hololib/catalog/compress.no", "w").close()
        subprocess.run(["cp", "-a", self.tree, stage], check=True)
        subprocess.run([holofs, "record", stage, "--blueprint", self.dir + "/whole.yaml", "--json"],
                       check=True, env=environment(home), stdout=subprocess.DEVNULL)
        shutil.rmtree(stage)
        remove(home + "/holofs")

    def thin(self, stage):
        site = next(os.path.join(d, "site-packages") for d, s, _ in os.walk(stage) if "site-packages" in s)
        gone = 0
        for name in sorted(os.listdir(site), key=lambda n: -count_files(os.path.join(site, n))):
            many = count_files(os.path.join(site, name))
            if many and gone + many <= 15400:
                shutil.rmtree(os.path.join(site, name))
                gone += many
        say("The catalog `part` has %d fewer files" % gone)

    def prepare_own(self):
        with open(self.dir + "/own.yaml", "w") as out:
            out.write(open(self.dir + "/whole.yaml").read() + "# own\n")

    def name(self, which):
        return open(os.path.join(self.dir, which + ".name")).read()


def environment(home):
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG")}
    env.update(HOME=home + "/user", ROBOCORP_HOME=home, PYTHONDONTWRITEBYTECODE="1")
    return env


class Disk:
    """A file system in an image file, unmounted at the end of the block."""

    def __init__(self, kind):
        self.kind, self.image, self.mount = kind, "%s/%s.img" % (ROOT, kind), "%s/%s" % (ROOT, kind)

    def __enter__(self):
        os.makedirs(self.mount, exist_ok=True)
        if os.path.ismount(self.mount):
            subprocess.run(["umount", self.mount], check=True)
        with open(self.image, "wb") as out:
            out.truncate(IMAGE_BYTES)
        subprocess.run(MKFS[self.kind] + [self.image], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["mount", "-o", "loop", self.image, self.mount], check=True)
        return self

    def __exit__(self, *_):
        # This also removes the loop device, which `mount -o loop` set up.
        if subprocess.run(["umount", self.mount], check=False).returncode != 0:
            subprocess.run(["umount", "-l", self.mount], check=False)
        os.unlink(self.image)


class Bench:
    def __init__(self, args, seed, disk):
        self.args, self.seed, self.disk = args, seed, disk
        self.home = disk.mount + "/home"
        self.env = environment(self.home)
        self.base = self.home + "/holotree"
        self.tree = disk.mount + "/tree"
        self.times, self.cpu, self.rss, self.notes = {}, {}, {}, {}
        self.lay_out()

    def lay_out(self):
        subprocess.run(["cp", "-a", self.seed.tree, self.tree], check=True)
        self.move(self.seed.home, self.home)
        self.raw = self.home + "-raw"
        if self.disk.kind == "ext4":
            self.move(self.seed.home + "-raw", self.raw)
        catalogs = self.home + "/hololib/catalog/"
        self.whole, self.part = catalogs + self.seed.name("whole"), catalogs + self.seed.name("part")
        self.files = count_files(self.tree)
        for home in (self.home, self.raw) if self.args.rcc else ():
            subprocess.run([self.args.rcc, "--bundled", "configuration", "identity", "--do-not-track"], env=environment(home),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def move(self, seed, home):
        """Copies the home `seed` to `home`, and moves its catalogs to the new holotree."""
        subprocess.run(["cp", "-a", seed, home], check=True)
        catalogs = home + "/hololib/catalog/"
        for name in os.listdir(catalogs):
            path = catalogs + name
            if name.endswith(".info"):
                os.unlink(path)
            elif "v12." in name:
                text = gzip.open(path, "rt").read().replace(seed + "/holotree/", home + "/holotree/", 1)
                with gzip.open(path, "wt", compresslevel=1) as out:
                    out.write(text)

    # the timed operations

    def holofs(self, space, catalog=None, strategy=None, more=(), home=None):
        command = [self.args.holofs, "materialize", catalog or self.whole, space, "--controller", "bench", "--json"]
        if strategy:
            command += ["--strategy", strategy]
        outcome = run(command + list(more), environment(home) if home else self.env)
        text = open(ROOT + "/last.log").read()
        self.report = json.loads(text[text.index("{"):])
        return outcome

    def rcc(self, space, which="whole", home=None):
        return run([self.args.rcc, "--bundled", "--no-build", "holotree", "variables", "%s/%s.yaml" % (self.seed.dir, which),
                    "--controller", "bench", "--space", space], environment(home) if home else self.env)

    def clear(self, space):
        """Removes a space of either program, and the files next to it."""
        path = self.where.get(space)
        for suffix in ("", ".meta", ".meta.info", ".use") if path else ():
            remove(path + suffix)

    where = {}

    def find(self, space):
        self.holofs(space)
        self.where[space] = self.report["path"]

    # the cases by name: (preparation, command)

    def cases(self):
        target = self.disk.mount + "/target"
        fresh = lambda: (remove(target), os.sync())
        cases = {
            "cp -a": (fresh, lambda: run(["cp", "-a", self.tree, target])),
            "cp -al": (fresh, lambda: run(["cp", "-al", self.tree, target])),
            "tar x": (lambda: (fresh(), os.mkdir(target)), lambda: run(["tar", "-xf", self.seed.dir + "/tree.tar", "-C", target])),
        }
        if self.disk.kind != "ext4":
            cases["cp -a --reflink=always"] = (fresh, lambda: run(["cp", "-a", "--reflink=always", self.tree, target]))
        new = lambda space: lambda: (self.clear(space), os.sync())
        bare = lambda: (self.clear("new"), remove(self.home + "/holofs"), os.sync())
        cases["holofs first"] = (bare, lambda: self.noted("holofs first", self.holofs("new")))
        strategies = ["copy", "hardlink"] + (["reflink"] if self.disk.kind != "ext4" else []) + (["snapshot"] if self.disk.kind == "btrfs" else [])
        for strategy in strategies:
            name = "holofs " + strategy
            cases[name] = (self.warmed(), lambda s=strategy, n=name: self.noted(n, self.holofs("new", strategy=s)))
            if strategy == "hardlink":
                # Removing links changes the change time of their files, so this reads each file again.
                removed = lambda: (self.warm(), self.renew("settled"), self.clear("settled"), self.clear("new"), os.sync())
                cases["holofs hardlink, after"] = (removed, lambda: self.noted("holofs hardlink, after", self.holofs("new", strategy="hardlink")))
        if self.disk.kind == "btrfs":
            cases["holofs snapshot, 5 % own"] = (lambda: (self.warm(), self.many(), self.clear("new"), os.sync()),
                                                lambda: self.noted("holofs snapshot, 5 % own", self.holofs("new", self.own)))
        cases["holofs no-op"] = (lambda: (self.warm(), self.holofs("noop")), lambda: self.noted("holofs no-op", self.holofs("noop")))
        cases["holofs switch up"] = (lambda: (self.warm(), self.holofs("switch", self.part)), lambda: self.noted("holofs switch up", self.holofs("switch", self.whole)))
        cases["holofs switch back"] = (lambda: self.holofs("switch", self.whole), lambda: self.noted("holofs switch back", self.holofs("switch", self.part)))
        if self.disk.kind == "ext4":
            cases.update(self.on_ext4())
        if self.args.rcc:
            cases["rcc first"] = (new("rcc"), lambda: self.rcc("rcc"))
            cases["rcc no-op"] = (lambda: None, lambda: self.rcc("rcc"))
            cases["rcc switch up"] = (lambda: self.rcc("rccswitch", "part"), lambda: self.rcc("rccswitch"))
            cases["rcc switch back"] = (lambda: None, lambda: self.rcc("rccswitch", "part"))
        if self.args.uv:
            for mode in ["copy", "hardlink"] + (["clone"] if self.disk.kind != "ext4" else []):
                cases["uv " + mode] = (lambda: (remove(target), os.sync()), lambda m=mode: self.uv(m, target))
        return cases

    def on_ext4(self):
        """A raw hololib, and cold caches, compared with rcc."""
        raw = os.path.basename(self.seed.name("whole"))
        spaces = lambda: [remove(os.path.join(self.raw, "holotree", name)) for name in os.listdir(self.raw + "/holotree")]
        bare_raw = lambda: (spaces(), remove(self.raw + "/holofs"), os.sync())
        bare = lambda: (self.clear("new"), remove(self.home + "/holofs"), cold())
        target = self.disk.mount + "/target"
        cases = {
            "holofs first, raw": (bare_raw, lambda: self.holofs("raw", raw, home=self.raw)),
            "holofs first, cold": (bare, lambda: self.holofs("new")),
            "holofs no-op, cold": (lambda: (self.warm(), self.holofs("noop"), cold()), lambda: self.holofs("noop")),
            "cp -a, cold": (lambda: (remove(target), cold()), lambda: run(["cp", "-a", self.tree, target])),
        }
        if self.args.rcc:
            cases["rcc first, raw"] = (bare_raw, lambda: self.rcc("raw", home=self.raw))
            cases["rcc first, cold"] = (lambda: (self.clear("rcc"), cold()), lambda: self.rcc("rcc"))
            cases["rcc no-op, cold"] = (cold, lambda: self.rcc("rcc"))
        return cases

    def warmed(self):
        """Warm, and no hard link was removed since the files were last read."""
        def prepare():
            self.warm()
            self.clear("new")
            self.renew("settled")
            os.sync()
        return prepare

    def renew(self, space):
        """Makes a space with hard links, which stays."""
        self.clear(space)
        self.holofs(space, strategy="hardlink")
        self.where[space] = self.report["path"]

    def warm(self):
        """Creates the pristine trees of both catalogs if they are missing."""
        if not os.path.exists(self.home + "/holofs/warmed"):
            self.clear("new")
            for catalog in (self.whole, self.part):
                run([self.args.holofs, "materialize", catalog, "new", "--controller", "bench", "--warm", "--json"], self.env)
            open(self.home + "/holofs/warmed", "w").close()

    def many(self):
        """Lays out a third catalog, in which every twentieth file has a relocation."""
        self.own = self.home + "/hololib/catalog/" + "0123456789abcdef" + os.path.basename(self.whole)[16:]
        if not os.path.exists(self.own):
            self.record_many()
        self.clear("new") # another case has removed the tree with the raw store
        run([self.args.holofs, "materialize", self.own, "new", "--controller", "bench", "--warm", "--json"], self.env)

    def record_many(self):
        stage = self.base + "/" + STAGE
        subprocess.run(["cp", "-a", self.tree, stage], check=True)
        number = 0
        for path, _, files in os.walk(stage):
            for name in sorted(files):
                full = os.path.join(path, name)
                number += 1
                if number % 20 == 0 and not os.path.islink(full):
                    with open(full, "ab") as out:
                        out.write(b"\n# " + STAGE.encode() + b"/bin\n")
        before = set(os.listdir(os.path.dirname(self.own)))
        run([self.args.holofs, "record", stage, "--blueprint", self.seed.dir + "/own.yaml", "--json"], self.env)
        new = [n for n in os.listdir(os.path.dirname(self.own)) if n not in before and not n.endswith(".info")]
        os.rename(os.path.join(os.path.dirname(self.own), new[0]), self.own)
        remove(stage)

    def noted(self, name, outcome):
        self.notes[name] = {"strategy": self.report["strategy"], "counts": self.report["counts"],
                            "seconds": self.report["seconds"], "fallbacks": self.report["fallbacks"]}
        return outcome

    def uv(self, mode, target):
        env = dict(self.env, UV_CACHE_DIR=self.disk.mount + "/uvcache", UV_NO_PROGRESS="1", UV_LINK_MODE=mode)
        python = sys.executable
        return run([self.args.uv, "pip", "install", "--offline", "--quiet", "--no-deps", "--no-compile", "--python", python, "--target", target] + self.pinned, env)

    def prepare_uv(self):
        self.pinned = wanted = UV_SET[-2:] if self.args.small else UV_SET
        env = dict(self.env, UV_CACHE_DIR=self.disk.mount + "/uvcache", UV_NO_PROGRESS="1")
        env.update({k: v for k, v in os.environ.items() if re.match(r"(?i)(https?|no)_proxy$|pip_|uv_|ssl_", k)})
        target = self.disk.mount + "/target"
        done = subprocess.run([self.args.uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", target] + wanted, env=env)
        if done.returncode != 0:
            say("uv cannot install its packages here: skipped")
            self.args.uv = None
            return
        listed = subprocess.run([self.args.uv, "pip", "freeze", "--path", target], env=env, stdout=subprocess.PIPE, check=True, text=True)
        self.pinned = listed.stdout.split()
        self.uv_files = count_files(target)
        remove(target)

    def measure(self):
        self.where = {}
        if self.args.uv:
            self.prepare_uv()
        self.find("new")
        if self.args.rcc:
            self.rcc("rcc")
            paths = [os.path.join(self.base, n) for n in os.listdir(self.base) if len(n) == 24]
            self.where["rcc"] = next(path for path in paths if path not in self.where.values())
        for round_ in range(self.args.rounds):
            say("%s: round %d of %d" % (self.disk.kind, round_ + 1, self.args.rounds))
            for name, (prepare, command) in self.cases().items():
                self.settle()
                prepare()
                seconds, cpu = command()
                self.times.setdefault(name, []).append(seconds)
                self.cpu.setdefault(name, []).append(cpu)
        self.settle()
        self.measure_rss()
        return self

    def settle(self):
        """Waits until the directories that the last case set aside are deleted. This time does not count."""
        sweeper = self.report.get("swept_by")
        while sweeper and os.path.exists("/proc/%d" % sweeper):
            time.sleep(0.01)

    def measure_rss(self):
        """Runs our own cases once more, to measure their memory."""
        command = lambda catalog, strategy="auto": [self.args.holofs, "materialize", catalog, "new", "--controller", "bench", "--strategy", strategy]
        self.clear("new")
        for name, words in [("hardlink", command(self.whole, "hardlink")), ("no-op", command(self.whole)),
                            ("switch back", command(self.part)), ("switch up", command(self.whole))]:
            self.rss["holofs " + name] = peak_rss(words, self.env)
        for name, ready in [("first", lambda: remove(self.home + "/holofs")), ("copy", self.warm)]:
            self.clear("new")
            ready()
            self.rss["holofs " + name] = peak_rss(command(self.whole, "auto" if name == "first" else name), self.env)

    def result(self):
        medians = {name: statistics.median(times) for name, times in self.times.items()}
        return {"files": self.files, "uv_files": getattr(self, "uv_files", 0), "medians": medians, "rounds": self.times,
                "cpu": {name: statistics.median(times) for name, times in self.cpu.items()},
                "rss_kb": self.rss, "notes": self.notes}


# (file system, our case, the other case, the minimum ratio); against uv, times are per file
BARS = [
    ("ext4", "holofs first", "rcc first", 5), ("ext4", "holofs first", "cp -a", 0.55),
    ("btrfs", "holofs snapshot", "cp -a --reflink=always", 75),
    ("btrfs", "holofs reflink", "cp -a --reflink=always", 1.1), ("btrfs", "holofs hardlink", "cp -a", 1.7),
    ("xfs", "holofs reflink", "cp -a --reflink=always", 1.7), ("xfs", "holofs hardlink", "cp -a", 3.3),
    ("ext4", "holofs hardlink", "cp -a", 4), ("ext4", "holofs copy", "cp -a", 2),
    ("ext4", "holofs hardlink", "uv hardlink", 1.4), ("ext4", "holofs copy", "uv copy", 3.5),
    ("btrfs", "holofs reflink", "uv clone", 1), ("btrfs", "holofs hardlink", "uv hardlink", 1), ("btrfs", "holofs copy", "uv copy", 1),
    ("xfs", "holofs reflink", "uv clone", 1), ("xfs", "holofs hardlink", "uv hardlink", 1), ("xfs", "holofs copy", "uv copy", 1),
    ("ext4", "holofs no-op", "rcc no-op", 25),
    ("ext4", "holofs switch up", "rcc switch up", 6), ("ext4", "holofs switch back", "rcc switch back", 15),
    ("ext4", "holofs hardlink, after", "cp -a", None), ("btrfs", "holofs hardlink, after", "cp -a", None), ("xfs", "holofs hardlink, after", "cp -a", None),
    ("ext4", "holofs first, raw", "rcc first, raw", None), ("ext4", "holofs first, cold", "rcc first, cold", None),
    ("ext4", "holofs first, cold", "cp -a, cold", None), ("ext4", "holofs no-op, cold", "rcc no-op, cold", None),
]
# (file system, our case, the maximum milliseconds), and the maximum peak RSS of any case in megabytes
MOST = [("btrfs", "holofs snapshot", 25), ("btrfs", "holofs snapshot, 5 % own", 25)]
MOST_RSS = 64


def show(results):
    for kind, result in results.items():
        print("\n%s: %d files; ms: median, minimum - maximum, median of processor time; peak RSS in MB" % (kind, result["files"]))
        for name, median in result["medians"].items():
            times = result["rounds"][name]
            rss = "   %6.1f" % (result["rss_kb"][name] / 1024) if name in result["rss_kb"] else ""
            cpu = result["cpu"][name] * 1e3
            print("  %-26s %9.1f   %9.1f - %9.1f  cpu %8.1f%s" % (name, median * 1e3, min(times) * 1e3, max(times) * 1e3, cpu, rss))
    print("\n%-6s %-22s %-26s %8s %8s %8s" % ("", "", "against", "ratio", "by cpu", "bar"))
    for kind, ours, theirs, bar in BARS:
        result = results.get(kind)
        if not result or ours not in result["medians"] or theirs not in result["medians"]:
            continue
        ratio = result["medians"][theirs] / result["medians"][ours]
        by_cpu = result["cpu"][theirs] / max(result["cpu"][ours], 0.001)
        if theirs.startswith("uv"): # per file
            ratio, by_cpu = (r * result["files"] / result["uv_files"] for r in (ratio, by_cpu))
        wanted = "%8.2f %s" % (bar, "" if ratio >= bar else "MISSED") if bar else "       -"
        print("%-6s %-22s %-26s %8.2f %8.2f %s" % (kind, ours, theirs, ratio, by_cpu, wanted))
    for kind, ours, most in MOST:
        if kind in results and ours in results[kind]["medians"]:
            took = results[kind]["medians"][ours] * 1e3
            print("%-6s %-49s %5.1f ms          %5d ms %s" % (kind, ours, took, most, "" if took <= most else "MISSED"))
    for kind, result in results.items():
        name, peak = max(result["rss_kb"].items(), key=lambda item: item[1])
        print("%-6s %-49s %5.1f MB          %5d MB %s" % (kind, "peak RSS, " + name, peak / 1024, MOST_RSS, "" if peak <= MOST_RSS * 1024 else "MISSED"))


def measure(args):
    seed, results, uv, rcc = Seed(args.holofs, args.small), {}, args.uv, args.rcc
    seed.prepare_own()
    for kind in args.fs.split():
        args.uv, args.rcc = uv, rcc if kind == "ext4" else ""
        with Disk(kind) as disk:
            results[kind] = Bench(args, seed, disk).measure().result()
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--holofs", required=True)
    parser.add_argument("--rcc", default="")
    parser.add_argument("--uv", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--fs", default="ext4 btrfs xfs")
    parser.add_argument("--no-rcc", dest="rcc", action="store_const", const="")
    parser.add_argument("--no-uv", dest="uv", action="store_const", const="")
    parser.add_argument("--json", default=os.path.join(os.path.dirname(HERE), "target/bench/materialize.json"))
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number)) # so that the cleanup of `with` and `finally` runs
    os.makedirs(ROOT)
    try:
        results = measure(args)
    finally:
        shutil.rmtree(ROOT)
    os.makedirs(os.path.dirname(args.json), exist_ok=True)
    with open(args.json, "w") as out:
        json.dump(results, out, indent=2)
    show(results)
    say("Figures in " + args.json)


if __name__ == "__main__":
    main()
