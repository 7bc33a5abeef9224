"""Times `python3 -c pass` with each method, in turn, round by round; see scripts/bench.d/start."""
import argparse, json, os, shutil, statistics, subprocess, tempfile, time

STAGE = "h0c0ffee_493f813dad24d3t"
PYTHON = ["python3", "-c", "pass"]
# The bar: of all methods that start without a space, `--isolate` is the fastest.
FROM_NOTHING = ["run", "isolate", "materialize"]


class Bench:
    """One build of holofs with a home of its own, in which the environment is recorded."""

    def __init__(self, holofs, home):
        self.holofs, self.home = holofs, home
        self.robocorp = os.path.join(home, "robocorp")
        self.native = os.path.join(home, "native")
        self.env = {"HOME": home + "/user", "ROBOCORP_HOME": self.robocorp, "PATH": os.environ["PATH"]}
        self.catalog = self.record()

    def call(self, *arguments):
        done = subprocess.run([self.holofs, *arguments], env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"holofs {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def record(self):
        stage = os.path.join(self.robocorp, "holotree", STAGE)
        os.makedirs(self.home + "/user")
        shutil.copytree(stage, self.native, symlinks=True)
        self.call("record", stage, "--name", "bench")
        shutil.rmtree(stage)
        catalogs = os.listdir(self.robocorp + "/hololib/catalog")
        return next(name for name in catalogs if not name.endswith(".info"))

    def run(self, space, *more):
        return lambda: self.call("run", *more, self.catalog, space, "--", *PYTHON)

    def plain(self, **more):
        env = {**self.env, **more}
        return lambda: subprocess.run([self.native + "/bin/python3", *PYTHON[1:]], env=env, check=True)

    def native_ways(self):
        return {
            "native": ("plain files, no bytecode, as with RCC", self.plain(PYTHONDONTWRITEBYTECODE="x")),
            "native-bytecode": ("plain files, bytecode", self.plain(PYTHONPYCACHEPREFIX=self.home + "/pyc")),
        }

    def ways(self):
        """By name: description and command. Each has its own space, so that all can take turns."""
        files = ("--mode", "materialize")
        return {
            "version": ("holofs --version", lambda: self.call("--version")),
            "isolate": ("holofs run --isolate", self.run("isolate", "--isolate")),
            "run": ("holofs run", self.run("run")),
            "materialize": ("holofs run --mode materialize, every file", self.run("new", *files)),
            "mounted": ("holofs run, mounted before", self.run("mounted")),
            "files": ("holofs run --mode materialize, files exist", self.run("files", *files)),
        }


def measure(benches, runs):
    """Milliseconds of each method, by round. The first round fills the stores and does not count."""
    mounted = {name: bench.call("mount", bench.catalog, "mounted") for name, bench in benches.items()}
    ways = benches[""].native_ways()
    for method in benches[""].ways():
        for name, bench in benches.items():
            what, work = bench.ways()[method]
            ways[method + name] = (what + name, work)
    taken = {method: [] for method in ways}
    for turn in range(runs + 1):
        for method, (_, work) in ways.items():
            start = time.perf_counter()
            work()
            if turn:
                taken[method].append((time.perf_counter() - start) * 1000)
        for bench in benches.values():
            bench.call("delete", "new")
    for name, bench in benches.items():
        bench.call("unmount", "mounted")
        assert not os.path.ismount(mounted[name])
    return {method: {"what": ways[method][0], "median": statistics.median(list_), "min": min(list_), "runs": list_}
            for method, list_ in taken.items()}


def stripped(path):
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["strip", "-o", copy.name, path], check=True)
        return os.path.getsize(copy.name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--programs", required=True)
    parser.add_argument("--before", help="another build of holofs, measured in turn with this one, in a home of its own")
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    benches = {"": Bench(os.path.join(options.programs, "holofs"), options.home + "/this")}
    if options.before:
        benches[", before"] = Bench(options.before, options.home + "/before")
    found = measure(benches, options.runs)
    print(f"| `python3 -c pass`, ms, {options.runs} rounds                      |  median |     min |\n|---|---|---|")
    for way in found.values():
        print("| %-50s | %7.1f | %7.1f |" % (way["what"], way["median"], way["min"]))
    fastest = min(FROM_NOTHING, key=lambda name: found[name]["median"])
    held = "" if fastest == "isolate" else "  MISSED"
    print(f"fastest method without a space: {fastest} (bar: isolate){held}")
    sizes = {}
    for name in ("holofs", "holofs-mount-helper"):
        path = os.path.join(options.programs, name)
        sizes[name] = {"bytes": os.path.getsize(path), "stripped": stripped(path)}
        print("%s: %.1f MB, stripped %.1f MB" % (name, sizes[name]["bytes"] / 1e6, sizes[name]["stripped"] / 1e6))
    os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
    with open(options.json, "w") as out:
        json.dump({"ways": found, "fastest_from_nothing": fastest, "sizes": sizes}, out, indent=1)


main()
