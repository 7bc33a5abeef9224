"""Times workloads on a mounted space and on the same tree provided in other ways; prints ratios to a native copy.

A subject is a tree at some path; a workload is a function of that path. In every round all subjects of a workload are timed one after the
other, so that a change of the machine's speed affects all of them.
"""
import argparse, ctypes, glob, gzip, hashlib, json, mmap, os, shutil, statistics, subprocess, sys, time

import bench_ready
from halt_poll import HaltPoll

LIBC = ctypes.CDLL(None, use_errno=True)
IMPORT = "import numpy, pandas"
SCIENCE = "import numpy, pandas, scipy.stats, scipy.optimize, matplotlib.pyplot, sklearn.linear_model, sklearn.ensemble"


def run(*command, env=None, **more):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, env=env, **more).stdout


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def timed(work, *arguments):
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


# -- workloads: functions of a tree ------------------------------------------------------------------------------------

def python(code, bytecode):
    def work(root):
        env = {"PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": "/dev/shm/holofs-bench/mpl", "PATH": "/usr/bin:/bin"}
        if bytecode:
            env = {**env, "PYTHONPYCACHEPREFIX": "/dev/shm/holofs-bench/pyc"}
        run(f"{root}/bin/python3", "-c", code, env=env)
    return work


def files_of(root):
    for path, _, names in os.walk(root):
        for name in names:
            file = os.path.join(path, name)
            if not os.path.islink(file):
                yield file


def cached_bytes(path):
    """How many bytes of the file are in the page cache, by cachestat(2); with passthrough, the store's pages are not included."""
    whole, found = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
    with open(path, "rb", buffering=0) as f:
        if LIBC.syscall(451, f.fileno(), whole, found, 0) != 0:
            raise OSError(ctypes.get_errno(), "cachestat", path)
    return found[0] * mmap.PAGESIZE


def million_stats(root):
    files = list(files_of(root))
    for at in range(1_000_000):
        os.stat(files[at % len(files)])


def open_all(root):
    for file in files_of(root):
        os.close(os.open(file, os.O_RDONLY))


def read_all(root):
    for file in files_of(root):
        with open(file, "rb", buffering=0) as f:
            while f.read(1 << 20):
                pass


def tar_all(root):
    # Through a pipe, because GNU tar does not read files if it writes to /dev/null.
    run("sh", "-c", 'tar -C "$1" -cf - . | cat > /dev/null', "sh", root)


def big_file(root):
    with open(f"{root}/big", "rb", buffering=0) as f:
        while f.read(1 << 20):
            pass


def big_mmap(root):
    with open(f"{root}/big", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        assert sum(m[at] for at in range(0, len(m), 4096)) >= 0


THRICE = ["cold", "2nd", "warm"]

# Name, work, states to time one after the other ("cold": after dropping caches), bars. The 2nd run is not warm yet: the kernel drops the
# cached access time of a file that was read from the daemon, and requests it once more, unless the mount is read-only.
WORKLOADS = [
    ("python -c pass", python("pass", True), ["warm"], [1.08]),
    ("import numpy, pandas", python(IMPORT, True), ["cold", "2nd", "3rd"], [1.25, 1.05, 1.03]),
    ("scientific stack", python(SCIENCE, True), ["cold", "2nd"], [1.15, 1.05]),
    ("find", lambda root: run("find", root), THRICE, [1.1, None, 1.7]),
    ("ls -lR", lambda root: run("ls", "-lR", root), THRICE, [0.9, None, 0.9]),
    ("a million stats", million_stats, ["warm"], [1.15]),
    ("open and close every file", open_all, ["warm"], [1.6]),
    ("read every file", read_all, THRICE, [1.6, None, 1.12]),
    ("tar of the tree", tar_all, THRICE, [1.6, None, 1.05]),
]
# By way of reading, each with its bars.
BIG = {
    "no-open": [("200 MB sequential", big_file, ["cold"], [1.16]), ("200 MB mmap", big_mmap, ["cold"], [1.43])],
    "passthrough": [("200 MB sequential, passthrough", big_file, ["cold"], [1.02]), ("200 MB mmap, passthrough", big_mmap, ["cold"], [1.08])],
}


class Bench:
    def __init__(self, options, holofs, work):
        self.options, self.program, self.work = options, holofs, os.path.join(options.cache, work)
        self.programs = {"holofs": self}
        self.home = os.path.join(self.work, "robocorp")
        self.holotree = os.path.join(self.home, "holotree")
        self.env = {**os.environ, "HOME": os.path.join(self.work, "user"), "ROBOCORP_HOME": self.home}
        self.rows, self.mounted = [], []
        shutil.rmtree("/dev/shm/holofs-bench", ignore_errors=True)
        os.makedirs("/dev/shm/holofs-bench/overlay")
        if options.before and holofs != options.before:
            self.programs["before"] = Bench(options, options.before, work + "-before")

    def holofs(self, *arguments):
        return run(self.program, *arguments, env=self.env)

    def turns(self, at):
        """The programs in the order of this round."""
        names = list(self.programs.items())
        return names[at % len(names):] + names[:at % len(names)]

    def mount(self, catalog, space, *more):
        report = json.loads(self.holofs("mount", catalog, space, "--json", *more))
        self.mounted.append(space)
        return report

    def unmount(self, space):
        self.holofs("unmount", space)
        self.mounted.remove(space)

    def close(self):
        for bench in self.programs.values():
            for space in list(bench.mounted):
                bench.unmount(space)
        for point in ("overlay/merged", "fuse/merged"):
            subprocess.run(["umount", "-l", f"/dev/shm/holofs-bench/{point}"], capture_output=True)
        shutil.rmtree("/dev/shm/holofs-bench", ignore_errors=True)

    def prepare(self):
        """Records and lays out the environment, and a tree with one file of 200 MB."""
        os.makedirs(self.env["HOME"], exist_ok=True)
        os.makedirs(self.holotree, exist_ok=True)
        names = os.path.join(self.work, "catalogs.json")
        if not os.path.exists(names):
            stage = os.path.join(self.holotree, "h0c0ffee_493f813dad24d3t")
            shutil.rmtree(stage, ignore_errors=True)
            print("creating the environment, once", file=sys.stderr)
            run(os.path.join(self.options.scripts, "python-env"), "--big", stage)
            shutil.copy(os.path.join(stage, "identity.yaml"), os.path.join(self.work, "conda.yaml"))
            found = json.loads(self.holofs("record", stage, "--blueprint", f"{self.work}/conda.yaml", "--json"))
            shutil.rmtree(stage)
            os.makedirs(stage)
            with open(os.path.join(stage, "big"), "wb") as f:
                for _ in range(200):
                    f.write(os.urandom(1 << 20))
            big = json.loads(self.holofs("record", stage, "--name", "big", "--json"))
            shutil.rmtree(stage)
            with open(names, "w") as f:
                json.dump({"catalog": found["blueprint"], "big": big["blueprint"], "files": found["files"]}, f)
        with open(names) as f:
            self.names = json.load(f)
        self.native = json.loads(self.holofs("materialize", self.names["catalog"], "native", "--json"))["path"]
        self.native_big = json.loads(self.holofs("materialize", self.names["big"], "native-big", "--json"))["path"]
        self.holofs("warm", self.names["catalog"])
        self.holofs("warm", self.names["big"])

    def overlays(self):
        """The native tree through the kernel's overlayfs and, if it is installed, fuse-overlayfs."""
        subjects = {}
        for name, command in (("overlayfs", ["mount", "-t", "overlay", "overlay"]), ("fuse-overlayfs", ["fuse-overlayfs"])):
            if not self.against(name):
                continue
            base = f"/dev/shm/holofs-bench/{'overlay' if name == 'overlayfs' else 'fuse'}"
            for part in ("upper", "work", "merged"):
                os.makedirs(f"{base}/{part}", exist_ok=True)
            layers = f"lowerdir={self.native},upperdir={base}/upper,workdir={base}/work"
            try:
                run(*command, "-o", layers, f"{base}/merged")
                subjects[name] = f"{base}/merged"
            except (OSError, subprocess.CalledProcessError) as error:
                print(f"no {name}: {error}", file=sys.stderr)
        return subjects

    def wanted(self, name):
        return any(word in name for word in self.options.only.split(","))

    def against(self, name):
        return self.options.against == "all" or name in self.options.against.split(",")

    def compare(self, subjects, workloads):
        for name, work, states, bars in workloads:
            if not self.wanted(name):
                continue
            times = {(state, subject): [] for state in states for subject in subjects}
            for subject in subjects.values():
                work(subject)  # bytecode, and everything else that only the first run does
            turns = list(subjects.items())
            for at in range(self.options.rounds):
                # Rotate the order, because it affects the state of memory and of the disk's cache that a workload finds.
                for subject, root in turns[at % len(turns):] + turns[:at % len(turns)]:
                    for state in states:
                        if state == "cold":
                            drop_caches()
                        times[state, subject].append(timed(work, root))
            for state, bar in zip(states, bars):
                native = times[state, "native"]
                ratio = {s: statistics.median(a / b for a, b in zip(times[state, s], native)) for s in subjects if s != "native"}
                self.add(f"{name}: {state}", ratio, bar, statistics.median(native))

    def add(self, name, ratios, bar, seconds=None, at_least=False):
        ours = ratios["holofs"]
        met = bar is None or (ours >= bar if at_least else ours <= bar)
        self.rows.append({"workload": name, "ratios": ratios, "bar": bar, "at_least": at_least, "met": met, "native_seconds": seconds})
        others = "  ".join(f"{s} {r:.2f}" for s, r in ratios.items() if s != "holofs")
        limit = "" if bar is None else f"{'>=' if at_least else '<='} {bar}"
        print(f"{name:44} {ours:9.3f}  {limit:11} {'' if met else 'MISSED':7} {others}", flush=True)

    def start_up(self):
        """From the start of the command to the first answer, for trees of three sizes."""
        if not self.wanted("mount"):
            return
        sizes = (1_000, 20_000, 100_000)
        catalogs = {(name, files): synthetic(each.home, each.holotree, files) for name, each in self.programs.items() for files in sizes}
        times = {key: [] for key in catalogs}
        for turn in range(3 * self.options.rounds + 1):
            if turn == 1:
                time.sleep(2)  # a catalog that was written a moment ago is read whole at each mount, until its times prove that it is unchanged
            for files in sizes:
                for name, each in self.turns(turn):
                    start = time.perf_counter()
                    os.stat(each.mount(catalogs[name, files], f"start-{files}", "--profile", "off")["path"] + "/d0")
                    if turn:  # the first compiles the catalog
                        times[name, files].append(1000 * (time.perf_counter() - start))
                    each.unmount(f"start-{files}")
        medians = {files: {name: statistics.median(times[name, files]) for name in self.programs} for files in sizes}
        for files in sizes:
            self.add(f"mount to first stat, {files} files (ms)", medians[files], 15)
        for catalog in catalogs.values():
            for path in (catalog, catalog + ".info"):
                os.path.exists(path) and os.remove(path)
        growth = {name: medians[100_000][name] / medians[1_000][name] for name in self.programs}
        self.add("growth from 1,000 to 100,000 files", growth, 1.5)

    def rcc(self):
        """The official RCC, with usage reports disabled in this home."""
        rcc = run(os.path.join(self.options.scripts, "rcc")).strip()
        run(rcc, "--bundled", "configuration", "identity", "--do-not-track", env=self.env)
        return rcc

    def restore(self, rcc):
        """Restores the environment with RCC, and returns its path."""
        said = run(rcc, "--bundled", "--no-build", "holotree", "variables", f"{self.work}/conda.yaml", "--space", "rcc", env=self.env)
        return next(line.split("=", 1)[1] for line in said.splitlines() if line.startswith("export RCC_HOLOTREE_SPACE_ROOT="))

    def against_rcc(self):
        """From the start of the command until Python has imported: RCC restores first, HoloFS mounts."""
        if not self.wanted("rcc"):
            return
        rcc, ratios = self.rcc(), []
        code = f"{IMPORT}; import time; print(time.monotonic())"

        def imported_after(work):
            drop_caches()
            start = time.monotonic()
            return float(work()) - start

        def restored():
            self.theirs = self.restore(rcc)
            return run(f"{self.theirs}/bin/python3", "-c", code, env={"PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"})

        for at in range(self.options.rounds):
            rcc_seconds = imported_after(restored)
            shutil.rmtree(self.theirs)
            ours = imported_after(lambda: self.holofs("run", self.names["catalog"], f"fresh{at}", "--", "python3", "-c", code))
            ratios.append(rcc_seconds / ours)
        self.add("rcc restore + import / mount + import", {"holofs": statistics.median(ratios)}, 20, at_least=True)

    def bytecode(self):
        """The first import in a new space, with shared bytecode and without, as with RCC."""
        if not self.wanted("bytecode"):
            return
        for each in self.programs.values():
            each.holofs("run", each.names["catalog"], "filler", "--", "python3", "-c", IMPORT)
            # After a run, the bytecode of its imports is compiled for other spaces in the background.
            until = time.monotonic() + 120
            while not glob.glob(f"{each.home}/holofs/pyc/*/pack") and time.monotonic() < until:
                time.sleep(0.1)
        ratios = {name: [] for name in self.programs}
        code = f"import time; s = time.perf_counter(); {IMPORT}; print(time.perf_counter() - s)"
        for at in range(self.options.rounds):
            for name, each in self.turns(at):
                plain = float(each.holofs("run", "--no-bytecode", each.names["catalog"], f"plain{at}", "--", "python3", "-c", code))
                shared = float(each.holofs("run", each.names["catalog"], f"shared{at}", "--", "python3", "-c", code))
                ratios[name].append(plain / shared)
        self.add("first import, no bytecode / shared bytecode", medians_of(ratios), 3, at_least=True)

    def primed(self):
        """A cold import right after the mount, with a profile of earlier reads, compared with a cold native import."""
        if not self.wanted("primed"):
            return
        work, ratios = python(IMPORT, True), {name: [] for name in self.programs}
        for each in list(self.programs.values()) * 2:  # the first mount records the profile, the second one uses it
            work(each.mount(each.names["catalog"], "primed")["path"])
            each.unmount("primed")
        for at in range(self.options.rounds):
            drop_caches()
            native = timed(work, self.native)
            for name, each in self.turns(at):
                drop_caches()
                root = each.mount(each.names["catalog"], "primed")["path"]
                ratios[name].append(timed(work, root) / native)
                each.unmount("primed")
        self.add("import numpy, pandas: cold, primed", medians_of(ratios), 1.0)

    def first_touch(self):
        """A cold import with nothing inflated yet, compared with a cold raw store."""
        if not self.wanted("first touch"):
            return
        work, ratios = python(IMPORT, True), {name: [] for name in self.programs}
        for at in range(self.options.rounds):
            for name, each in self.turns(at):
                times = []
                for raw in ("empty", "full"):
                    if raw == "empty":
                        shutil.rmtree(os.path.join(each.home, "holofs/raw"))
                    drop_caches()
                    root = each.mount(each.names["catalog"], "touch", "--profile", "off")["path"]
                    times.append(timed(work, root))
                    each.unmount("touch")
                ratios[name].append(times[0] / times[1])
        self.add("first touch from gzip / raw store, cold", medians_of(ratios), 2.0)
        for each in self.programs.values():
            each.holofs("warm", each.names["catalog"])

    def memory(self):
        if not self.wanted("memory"):
            return
        def private_and_rss(pid):
            """Of a supervisor and its server, in kB."""
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                pids = [pid, *f.read().split()]
            assert len(pids) == 2, pids
            rows = [line.split() for each in pids for line in open(f"/proc/{each}/smaps_rollup")]
            total = lambda *names: sum(int(row[1]) for row in rows if row[0].rstrip(":") in names)
            return total("Private_Clean", "Private_Dirty"), total("Rss")
        pids = []
        for space in ("one", "two"):
            report = self.mount(self.names["catalog"], f"memory-{space}", "--profile", "off")
            run("find", report["path"], "-ls")
            python(IMPORT, True)(report["path"])
            pids.append(report["pid"])
        self.add("daemon RSS, 29,000 files (MB)", {"holofs": private_and_rss(pids[0])[1] / 1000}, 24)
        self.add("a further space, private (MB)", {"holofs": private_and_rss(pids[1])[0] / 1000}, 12)
        for space in ("one", "two"):
            self.unmount(f"memory-{space}")
        grown = {io: [self.page_cache(io, spaces) for spaces in (1, 8)] for io in BIG}
        ratios = {io: eight / one for io, (one, eight) in grown.items()}
        print("page cache of 1 and 8 spaces (MB):", json.dumps(grown), file=sys.stderr)
        self.add("page cache, 8 spaces / 1, passthrough", {"holofs": ratios["passthrough"], "no-open": ratios["no-open"]}, 1.3)

    def page_cache(self, io, spaces):
        """How many MB of the stores and of the mounts are cached after this number of spaces of one catalog have imported."""
        names = [f"cache-{at}" for at in range(spaces)]
        reports = [self.mount(self.names["catalog"], name, "--profile", "off", "--io", io) for name in names]
        assert all(report["io"] == io for report in reports), reports[0]["io_reason"]
        time.sleep(3)  # relocated files are written in the background
        drop_caches()
        for report in reports:
            python(IMPORT, True)(report["path"])
        roots = [report["path"] for report in reports]
        total = sum(map(cached_bytes, files_of(f"{self.home}/holofs/raw")))
        # Without the sockets of live mounts.
        total += sum(map(cached_bytes, filter(os.path.isfile, files_of(f"{self.home}/holofs/spaces"))))
        # Every space has cached the same files of its mount as the first one.
        own = [os.path.relpath(file, roots[0]) for file in files_of(roots[0]) if cached_bytes(file)]
        total += sum(cached_bytes(os.path.join(root, file)) for root in roots for file in own)
        for name in names:
            self.unmount(name)
        return total / 1e6

    def earlier(self):
        """The other build of holofs, if one is given."""
        return [(name, each) for name, each in self.programs.items() if each is not self]

    def workloads(self):
        """Every selected workload, on every selected subject."""
        if not any(self.wanted(name) for name, *_ in WORKLOADS) and not self.wanted("requests"):
            return
        subjects = {"native": self.native, "holofs": self.mount(self.names["catalog"], "bench", "--profile", "off")["path"]}
        spaces = {"bench": "no-open"}
        for subject, more in (("read-only", ["--read-only"]), ("passthrough", ["--io", "passthrough"])):
            if self.against(subject):
                report = self.mount(self.names["catalog"], f"bench-{subject}", "--profile", "off", *more)
                name = report["io"] if subject == "passthrough" else subject
                subjects[name], spaces[f"bench-{subject}"] = report["path"], report["io"]
        before = {name: each.mount(each.names["catalog"], "bench", "--profile", "off")["path"] for name, each in self.earlier()}
        self.compare({**subjects, **before, **self.overlays()}, WORKLOADS)
        for _, each in self.earlier():
            each.unmount("bench")
        for space, io in spaces.items():
            if self.wanted("requests"):
                stats = json.loads(self.holofs("stats", space, "--json"))
                print(f"requests, {io}:", json.dumps(stats["requests"]))
            self.unmount(space)

    def run(self):
        for each in self.programs.values():
            each.prepare()
        print(f"{'workload':44} {'holofs':>9}  bar                 ratios to a native copy, {self.options.rounds} rounds")
        self.start_up()
        self.workloads()
        for io, workloads in BIG.items():
            space = f"bench-big-{io}"
            mounts = {name: each.mount(each.names["big"], space, "--profile", "off", "--io", io)["path"] for name, each in self.programs.items()}
            self.compare({"native": self.native_big, **mounts}, workloads)
            for each in self.programs.values():
                each.unmount(space)
        self.primed()
        self.bytecode()
        self.first_touch()
        self.memory()
        self.against_rcc()
        bench_ready.compiling(self)
        bench_ready.ready(self, timed, drop_caches)
        if self.options.json:
            with open(self.options.json, "w") as f:
                json.dump(self.rows, f, indent=2)
        missed = [row["workload"] for row in self.rows if not row["met"]]
        bars = sum(row["bar"] is not None for row in self.rows)
        print(f"{bars - len(missed)} of {bars} bars met" + (f"; missed: {', '.join(missed)}" if missed else ""))


def medians_of(lists):
    return {name: statistics.median(each) for name, each in lists.items()}


def synthetic(home, holotree, files):
    """Writes a catalog of this number of empty files, a hundred per directory. None of them is ever read."""
    empty = hashlib.sha256(b"").hexdigest()
    subdirs = {}
    for at in range(0, files, 100):
        entries = {f"f{n}.py": {"name": f"f{n}.py", "size": 0, "mode": 420, "digest": empty, "rewrite": []} for n in range(100)}
        name = f"d{at // 100}"
        subdirs[name] = {"name": name, "mode": 2147484141, "subdirs": {}, "files": entries}
    identity, blueprint = "h0c0ffee_493f813dad24d3t", f"{files:016x}"
    root = {"name": "", "mode": 2147484141, "subdirs": subdirs, "files": {}}
    catalog = {"rcc": "bench", "identity": identity, "path": f"{holotree}/{identity}", "controller": "", "space": "",
               "platform": "linux_amd64", "blueprint": blueprint, "lifted": True, "tree": root}
    path = f"{home}/hololib/catalog/{blueprint}v12.linux_amd64"
    with gzip.open(path, "wt", compresslevel=1) as f:
        json.dump(catalog, f, indent=2)
    old = time.time() - 60  # a catalog that was changed just now would not be trusted yet
    os.utime(path, (old, old))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--holofs", required=True)
    parser.add_argument("--before", help="another build of holofs, measured in turn with this one, in a home of its own")
    parser.add_argument("--scripts", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="words, separated by commas")
    parser.add_argument("--against", default="all", help="none, or some of read-only,passthrough,overlayfs,fuse-overlayfs")
    parser.add_argument("--uv", default="", help="the program; skipped if empty")
    parser.add_argument("--json")
    HaltPoll.add_option(parser)
    options = parser.parse_args()
    bench = Bench(options, options.holofs, "bench-mount")
    try:
        with HaltPoll(options.halt_poll):
            bench.run()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stdout}{error.stderr}")
    finally:
        bench.close()


if __name__ == "__main__":
    main()
