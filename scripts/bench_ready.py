"""The time until an environment can be used, with each method, and the time to compile a new catalog. Part of bench_mount.py.

The methods take turns, round by round, first with cold and then with warm caches. The result of a method is removed before the next one
starts; that time does not count. `uv` installs only the wheels, without an interpreter, so it creates fewer files; their number is printed.
"""
import json, os, re, shutil, statistics, subprocess, sys

from bench_materialize import UV_SET


def call(command, env=None):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, env=env).stdout


class Uv:
    """uv with a separate warm cache on the same disk as the home, and the pinned packages that it installs."""

    def __init__(self, program, work):
        self.program, self.target = program, os.path.join(work, "uv-target")
        self.env = {k: v for k, v in os.environ.items() if re.match(r"(?i)path$|lang$|(https?|no)_proxy$|pip_|uv_|ssl_", k)}
        self.env.update(UV_CACHE_DIR=os.path.join(work, "uv-cache"), UV_NO_PROGRESS="1")
        self.pinned = UV_SET
        self.install("copy", [])
        self.pinned = call([program, "pip", "freeze", "--path", self.target], self.env).split()
        self.files = sum(len(names) for _, _, names in os.walk(self.target))
        self.remove()

    def install(self, mode, more=("--offline", "--no-deps", "--no-compile")):
        where = ["--python", sys.executable, "--target", self.target, "--link-mode", mode]
        call([self.program, "pip", "install", "--quiet", *where, *more, *self.pinned], self.env)

    def remove(self):
        shutil.rmtree(self.target, ignore_errors=True)


def ways(bench):
    """By name: how to create the environment, and how to remove it."""
    copy = os.path.join(bench.work, "copy")
    catalog = bench.names["catalog"]

    def mount():
        os.stat(bench.mount(catalog, "ready", "--profile", "off")["path"] + "/bin/python3")

    def unmount():
        bench.unmount("ready")
        bench.holofs("delete", "ready")

    def materialize(strategy):
        return lambda: bench.holofs("materialize", catalog, "ready-files", "--strategy", strategy)

    def delete():
        bench.holofs("delete", "ready-files")

    found = {"holofs": (mount, unmount)}
    for strategy in ("copy", "hardlink"):
        found[f"materialize {strategy}"] = (materialize(strategy), delete)
    found["cp -a"] = (lambda: call(["cp", "-a", bench.native, copy]), lambda: shutil.rmtree(copy))
    rcc = bench.rcc()
    restored = []
    found["rcc"] = (lambda: restored.append(bench.restore(rcc)), lambda: shutil.rmtree(restored.pop()))
    if bench.options.uv:
        uv = Uv(bench.options.uv, bench.work)
        print(f"uv installs {uv.files} files of {bench.names['files']}", file=sys.stderr)
        for mode in ("copy", "hardlink", "clone"):
            found[f"uv {mode}"] = (lambda mode=mode: uv.install(mode), uv.remove)
    return found


def ready(bench, timed, drop_caches):
    """A mount and its first answer, compared with every other way to get the same files, in milliseconds."""
    if not bench.wanted("environment ready"):
        return
    found = ways(bench)
    times = {state: {name: [] for name in found} for state in ("cold", "warm")}
    for _ in range(bench.options.rounds):
        for name, (work, take_away) in found.items():
            for state in times:
                drop_caches() if state == "cold" else os.sync()  # pending writes of the previous method must not count
                times[state][name].append(1000 * timed(work))
                take_away()
    for state, taken in times.items():
        bench.add(f"environment ready: {state} (ms)", {name: statistics.median(list_) for name, list_ in taken.items()}, None)


def compiling(bench):
    """The first mount of a new catalog, compared with reading and parsing its JSON; with warm caches."""
    if not bench.wanted("compile"):
        return
    name = next(n for n in os.listdir(f"{bench.home}/hololib/catalog") if n.startswith(bench.names["catalog"]) and not n.endswith(".info"))
    program = os.path.join(os.path.dirname(bench.options.holofs), "examples/compile_time")
    taken = json.loads(call([program, f"{bench.home}/hololib/catalog/{name}", 5 * bench.options.rounds]))
    ratios = {"holofs": taken["compile"] / taken["parse"], "against skimming the JSON": taken["compile"] / taken["skim"]}
    bench.add("compile a catalog / parse its JSON", ratios, 2.0, taken["parse"] / 1000)
