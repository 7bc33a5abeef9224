"""Times many spaces and runs at once, each compared with a control in the same minute; see scripts/bench.d/company."""
import argparse, glob, json, os, shutil, statistics, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor

RECORDED = "h59acff1_493f813dad24d3t"
SEE = 'cat "$CONDA_PREFIX/stamp"'
NOBODY = 65534
AT_ONCE = 8
MODULES = 300


class Home:
    """A separate home, of root or of another user, with a small catalog (1) and a larger one (2)."""

    def __init__(self, path, holofs, uid=None, files=5000):
        self.path, self.uid = path, uid
        os.makedirs(path + "/user"), os.makedirs(path + "/home/holotree")
        self.env = {"HOME": path + "/user", "ROBOCORP_HOME": path + "/home", "PATH": os.environ["PATH"]}
        self.holofs = shutil.copy(holofs, path + "/holofs")
        self.small, self.large = self.record(1, 30), self.record(2, files)
        if uid is not None:
            subprocess.run(["chown", "-R", f"{uid}:{uid}", path], check=True)
            os.chmod(path, 0o755)

    def record(self, which, files, modules=0):
        stage = f"{self.path}/home/holotree/{RECORDED}"
        os.makedirs(stage + "/bin")
        for number in range(files):
            os.makedirs(f"{stage}/d{number % 50}", exist_ok=True)
            with open(f"{stage}/d{number % 50}/f{number}", "w") as out:
                out.write(f"{which} {number}\n")
        with open(stage + "/stamp", "w") as out:
            out.write(f"{which}\n")
        if modules:
            python(stage, modules)
        before = set(self.catalogs())
        self.start("record", stage, "--name", f"c{which}", as_root=True)
        shutil.rmtree(stage)
        return (set(self.catalogs()) - before).pop()

    def catalogs(self):
        path = self.path + "/home/hololib/catalog"
        return [name for name in os.listdir(path) if not name.endswith(".info")] if os.path.isdir(path) else []

    def command(self, *words, as_root=False, holofs=None):
        user = [] if self.uid is None or as_root else ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--"]
        return [*user, holofs or self.holofs, *words]

    def start(self, *words, as_root=False, check=True, holofs=None):
        command = self.command(*words, as_root=as_root, holofs=holofs)
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done


def python(stage, modules):
    """Creates an interpreter, and this number of modules with 60 functions each."""
    packages = "%s/lib/python%d.%d/site-packages" % (stage, *sys.version_info[:2])
    os.makedirs(packages)
    with open(stage + "/bin/python3", "w") as out:
        out.write(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S "$@"\n')
    os.chmod(stage + "/bin/python3", 0o755)
    for number in range(modules):
        with open(f"{packages}/m{number}.py", "w") as out:
            out.writelines(f"def f{row}(a, b=[{number}]):\n    return [a + c * {row} for c in b if c != a]\n" for row in range(60))


def timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def crowd(home, runs, spaces):
    """Starts `runs` runs, AT_ONCE in parallel: their seconds, failures and wrong trees, and the seconds of a control that only starts
    processes."""

    def one(number):
        done = home.start("run", home.small, f"crowd{number % spaces}", "--", "sh", "-c", SEE, check=False)
        return done.returncode != 0, done.returncode == 0 and done.stdout != "1\n"

    def control(_):
        home.start("--version")
        subprocess.run(["sh", "-c", "cat /dev/null"], check=True, env=home.env)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        plain = timed(lambda: list(pool.map(control, range(runs))))
        begin = time.perf_counter()
        found = list(pool.map(one, range(runs)))
        took = time.perf_counter() - begin
    failed, wrong = (sum(column) for column in zip(*found))
    return {"runs": runs, "spaces": spaces, "seconds": took, "control": plain, "ratio": took / plain, "failed": failed, "wrong": wrong}


def median(work, runs):
    return statistics.median(timed(work) for _ in range(runs)) * 1000


def shared(home, runs):
    """The time of a whole run, alone and while others are active, in turn."""
    run = lambda: home.start("run", home.small, "shared", "--", "true")
    run()
    popen = lambda words: subprocess.Popen(words, env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kinds = {
        "an isolated run": lambda: [popen(home.command("run", "--isolate", home.small, "alone", "--", "sleep", "1000"))],
        "unshare -m sleep": lambda: [popen(["unshare", "-m", "sleep", "1000"])],
        "50 other mounts": lambda: [home.start("mount", home.small, f"other{number}") for number in range(50)] and [],
    }
    found = {}
    for kind, begin in kinds.items():
        alone = median(run, runs)
        others = begin()
        time.sleep(0.5)
        with_others = median(run, runs)
        for other in others:
            other.kill(), other.wait()
        if not others:
            [home.start("unmount", f"other{number}") for number in range(50)]
        found[kind] = {"alone": alone, "shared": with_others, "ratio": with_others / alone}
    return found


def starts(home, runs, before):
    """`run … true` on an existing mount, and without one; with this build and, if given, with another one."""
    found = {}
    for name, holofs in {"this": home.holofs, **({"before": before} if before else {})}.items():
        start = lambda *words: home.start(*words, holofs=holofs)
        start("mount", home.small, "live")
        version = median(lambda: start("--version"), runs)
        live = median(lambda: start("run", home.small, "live", "--", "true"), runs)
        start("unmount", "live")
        nothing = median(lambda: start("run", home.small, "nothing", "--", "true"), runs)
        found[name] = {"version": version, "live": live, "nothing": nothing}
    return found


def first_import(home, runs):
    """Milliseconds that Python needs to import MODULES modules in a new space, and the same with RCC's variables, which forbid bytecode."""
    catalog = home.record(3, 30, MODULES)
    code = "import time; t = time.perf_counter(); import %s; print(time.perf_counter() - t)" % ",".join(f"m{n}" for n in range(MODULES))

    def one(*options):
        done = home.start("run", *options, catalog, "import", "--", "python3", "-c", code)
        home.start("delete", "import")
        return float(done.stdout) * 1000

    one()  # afterwards, its imports are compiled for all spaces in the background
    packs = home.path + "/home/holofs/pyc/*/pack"
    until = time.monotonic() + 60
    while not glob.glob(packs) and time.monotonic() < until:
        time.sleep(0.1)
    pairs = [(one(), one("--no-bytecode")) for _ in range(runs)]
    ours, rcc = (statistics.median(column) for column in zip(*pairs))
    return {"ours": ours, "rcc": rcc, "ratio": rcc / ours}


def listing(home, runs):
    """`list` with 30 spaces of 5,000 files: ten mounted, ten as files, ten known only from .meta."""
    for number in range(30):
        if number % 3 == 0:
            home.start("materialize", home.large, f"list{number}")
        else:
            home.start("mount", home.large, f"list{number}")
    time.sleep(1)
    [home.start("unmount", f"list{number}") for number in range(30) if number % 3 == 1]
    version, took = median(lambda: home.start("--version"), runs), median(lambda: home.start("list"), runs)
    [home.start("unmount", f"list{number}") for number in range(30) if number % 3 == 2]
    return {"milliseconds": took, "version": version, "ratio": took / version}


def everybody_may_mount(home):
    """Lets all users open /dev/fuse in this mount namespace, which only the benchmark uses."""
    node = home + "/fuse"
    subprocess.run(["mknod", "-m", "666", node, "c", "10", "229"], check=True)
    subprocess.run(["mount", "--bind", node, "/dev/fuse"], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", required=True)
    parser.add_argument("--holofs", required=True)
    parser.add_argument("--before")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    few = max(3, options.runs // 10)
    os.chmod(options.home, 0o755)
    root = Home(options.home + "/root", options.holofs, files=options.files)
    everybody_may_mount(options.home)
    user = Home(options.home + "/nobody", options.holofs, NOBODY, files=30)
    found = {"crowds": [], "shared": {}, "starts": {}, "list": {}}
    for who, home in ("root", root), ("user", user):
        for spaces in 1, AT_ONCE:
            row = {"who": who, **crowd(home, options.runs, spaces)}
            found["crowds"].append(row)
            bad = "  MISSED" if row["failed"] or row["wrong"] else ""
            print("%s: %d runs of %d spaces, %d at once: %.1f x the control, %d failed, %d wrong trees (bar: 0, 0)%s"
                  % (who, row["runs"], spaces, AT_ONCE, row["ratio"], row["failed"], row["wrong"], bad))
    found["shared"] = shared(root, few)
    for kind, row in found["shared"].items():
        print("a run during %s: %.2f x alone (bar: 1.5)%s" % (kind, row["ratio"], "" if row["ratio"] <= 1.5 else "  MISSED"))
    found["starts"] = starts(root, few, options.before)
    for name, row in found["starts"].items():
        print("%s: run … true on an existing mount %.1f ms, without a mount %.1f ms (--version %.1f ms)" % (name, row["live"], row["nothing"], row["version"]))
    row = found["first_import"] = first_import(root, few)
    print("the first import of %d modules in a new space: %.0f ms, with RCC's variables %.0f ms: %.1f x (bar: 3)%s"
          % (MODULES, row["ours"], row["rcc"], row["ratio"], "" if row["ratio"] >= 3 else "  MISSED"))
    found["list"] = listing(root, few)
    took = found["list"]["milliseconds"]
    print("list with 30 spaces of %d files: %.1f ms (bar: 20)%s" % (options.files, took, "" if took <= 20 else "  MISSED"))
    os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
    with open(options.json, "w") as out:
        json.dump(found, out, indent=1)


main()
