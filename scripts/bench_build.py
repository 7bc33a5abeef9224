"""Times builds, upgrades, commits and parity checks, in turn, round by round; see scripts/bench.d/build.

uv's environment uses the interpreter where it is installed, and with it the bytecode of the standard library that earlier programs or the
installation left there. So a build by HoloFS is timed in a home that is empty ("first"), and in one where another environment of the same
interpreter was used before, without any of the packages ("later"): there a program has imported the same modules of the standard library.
"""
import argparse, glob, json, os, shutil, statistics, subprocess, sys, time, zipfile

IMPORT = "import numpy, pandas, requests"
REQUIREMENTS = "numpy\npandas\nrequests\n"


def wheel(path, name, version, files):
    """Creates a wheel with `files` modules, a hundred in each package."""
    info = "%s-%s.dist-info/" % (name, version)
    texts = {"%s/p%d/m%d.py" % (name, n // 100, n): "V = %d\n" % n * 40 for n in range(files)}
    texts[name + "/__init__.py"] = "VERSION = '%s'\n" % version
    texts[info + "METADATA"] = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version)
    texts[info + "WHEEL"] = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in texts.items():
            archive.writestr(file, text)
        archive.writestr(info + "RECORD", "".join(file + ",,\n" for file in texts) + info + "RECORD,,\n")
    return path


class Bench:
    def __init__(self, options):
        self.options = options
        self.python = sys.executable
        self.home = options.work + "/home"
        self.env = {**os.environ, "HOME": options.work, "ROBOCORP_HOME": self.home, "HOLOFS_UV": options.uv,
                    "UV_CACHE_DIR": options.work + "/uv-cache", "UV_NATIVE_TLS": "1"}
        # `holofs run` lets Python write bytecode, so Python in uv's environment must do so, too.
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)
        self.lock = options.work + "/lock/requirements.txt"
        big = wheel(options.work + "/bigtree-1.0-py3-none-any.whl", "bigtree", "1.0", options.files)
        self.small = [wheel("%s/small-%d.0-py3-none-any.whl" % (options.work, n), "small", "%d.0" % n, 30) for n in range(options.runs + 2)]
        self.big = REQUIREMENTS + big + "\n"

    def run(self, *command, **more):
        done = subprocess.run(command, env={**self.env, **more}, capture_output=True, text=True)
        assert done.returncode == 0, "%s: %s" % (" ".join(command), done.stderr)
        return done.stdout

    def holofs(self, *arguments):
        return self.run(self.options.holofs, *arguments)

    def requirements(self, text):
        path = self.options.work + "/requirements.txt"
        with open(path, "w") as file:
            file.write(text)
        return path

    def timed(self, work):
        started = time.perf_counter()
        value = work()
        return time.perf_counter() - started, value

    def build(self, text, *more):
        output = self.holofs("build", "--json", "--python", self.python, *more, self.requirements(text))
        return json.loads(output)

    def use_interpreter(self):
        """Another environment of the same interpreter, in which a program imports what IMPORT needs of the standard library."""
        code = "import sys; %s; print(*[n for n in sys.modules if n.split('.')[0] in sys.stdlib_module_names])" % IMPORT
        modules = self.run(self.options.work + "/venv/bin/python3", "-c", code).split()
        built = self.build(self.small[0] + "\n")
        self.holofs("run", built["blueprint"], "earlier", "--", "python3", "-c", "for n in %r: __import__(n)" % modules)
        self.settle()

    def settle(self):
        """Waits until bytecode is compiled, which happens after a run, in the background: it would slow down what is timed next."""
        def is_compiling(path):
            try:
                with open(path) as file:
                    words = file.read()
                return "--imported" in words and self.home in words
            except OSError:
                return False  # it has ended
        while any(is_compiling(path) for path in glob.glob("/proc/[0-9]*/cmdline")):
            time.sleep(0.05)

    def from_nothing(self, text, is_first=False):
        """Seconds to build, mount, and import, in a home that is empty (`is_first`) or has another environment of the same interpreter."""
        shutil.rmtree(self.home, ignore_errors=True)
        if not is_first:
            self.use_interpreter()

        def work():
            built = self.build(text, "--from-nothing")
            self.holofs("run", built["blueprint"], "bench", "--", "python3", "-c", IMPORT)

        taken = self.timed(work)[0]
        self.settle()
        return taken

    def compile(self, lock):
        self.run(self.options.uv, "pip", "compile", "--quiet", "--python", self.python, "-o", lock, self.requirements(REQUIREMENTS))

    def locked(self):
        """The requirements as `uv pip compile` locks them."""
        if not os.path.exists(self.lock):
            os.makedirs(os.path.dirname(self.lock))
            self.compile(self.lock)
        with open(self.lock) as file:
            return file.read()

    def by_uv(self, is_locked):
        """Seconds for `uv venv`, `uv pip compile` (unless there is a lock file), `uv pip sync`, and the same import."""
        venv, uv = self.options.work + "/venv", self.options.uv
        shutil.rmtree(venv, ignore_errors=True)

        def work():
            lock = self.lock
            if not is_locked:
                lock = self.options.work + "/compiled.txt"
                self.compile(lock)
            self.run(uv, "venv", "--quiet", "--python", self.python, venv)
            self.run(uv, "pip", "sync", "--quiet", "--python", venv + "/bin/python3", lock)
            self.run(venv + "/bin/python3", "-c", IMPORT)

        return self.timed(work)[0]

    def upgrade(self, turn):
        """Changes one package of the large environment. Seconds until it is mounted, and the tools' share of that."""

        def work():
            built = self.build(self.big + self.small[turn] + "\n")
            assert turn == 0 or built["base"], built
            self.holofs("run", built["blueprint"], "bench", "--fresh", "--", "true")
            return built

        taken, built = self.timed(work)
        self.catalog = built["blueprint"]
        return taken, built["tool_seconds"]

    def commit(self, turn):
        """Changes 500 files of the large environment in a space. Seconds to commit them."""
        code = ("import os\nroot = os.environ['RCC_HOLOTREE_SPACE_ROOT']\nimport bigtree\nd = os.path.dirname(bigtree.__file__)\n"
                "for n in range(500):\n    open('%%s/p%%d/m%%d.py' %% (d, n // 100, n), 'w').write('changed %d %%d' %% n)\n" % turn)
        self.holofs("run", "--fresh", self.catalog, "changed", "--", "python3", "-c", code)
        self.settle()
        return self.timed(lambda: self.holofs("commit", "changed", "--name", "commit %d" % turn))[0]

    def verify(self):
        report = json.loads(self.holofs("verify", self.catalog, "--parity", "--json"))
        return report["parity"]["entries"], report["parity"]["ways"]

    def read(self, mode):
        """Seconds to read the whole tree with `find` and one `cat` per processor, without the time to mount or materialize it."""
        code = ("import os, subprocess, time\nstarted = time.perf_counter()\n"
                "subprocess.run('find . -type f -print0 | xargs -0 -n 200 -P %d cat > /dev/null' % os.cpu_count(), shell=True, check=True,"
                " cwd=os.environ['RCC_HOLOTREE_SPACE_ROOT'])\nprint(time.perf_counter() - started)\n")
        command = ["run", "--fresh", "--mode", mode, "--profile", "off", self.catalog, "read-" + mode, "--", sys.executable, "-c", code]
        taken = float(self.holofs(*command))
        self.holofs("delete", "read-" + mode)
        return taken

    def measure(self):
        kinds = ["uv", "later", "first", "uv locked", "later locked", "first locked", "upgrade", "tools", "commit", "parity", "own reading", "reading"]
        rows = {name: [] for name in kinds}
        for turn in range(self.options.runs + 1):
            locked = self.locked()
            taken = {}
            for more, text in [("", REQUIREMENTS), (" locked", locked)]:
                taken["uv" + more] = self.by_uv(bool(more))
                taken["later" + more] = self.from_nothing(text)
                taken["first" + more] = self.from_nothing(text, is_first=True)
            for name, seconds in taken.items():
                rows[name] += [seconds] if turn else []
        shutil.rmtree(self.home, ignore_errors=True)
        self.upgrade(0)
        for turn in range(1, self.options.runs + 1):
            taken, tools = self.upgrade(turn)
            rows["upgrade"].append(taken)
            rows["tools"].append(tools)
            rows["commit"].append(self.commit(turn))
            whole, (entries, ways) = self.timed(self.verify)
            rows["parity"].append(whole)
            rows["own reading"].append(sum(way["read_seconds"] for way in ways))
            rows["reading"].append(self.read("mount") + self.read("materialize"))
        middle = {name: statistics.median(values) for name, values in rows.items()}
        for what, more in [("a lock file", " locked"), ("requirements.txt", "")]:
            theirs = middle["uv" + more]
            for name, where in [("later", "its interpreter was used before"), ("first", "empty home")]:
                ours = middle[name + more]
                print("numpy, pandas, requests from %s until imported (%s): %.2f s; uv %.2f s; ratio %.2f" % (what, where, ours, theirs, ours / theirs))
        print("one package changed in %d entries until mounted: %.2f s: %.2f s in tools, %.2f s in HoloFS"
              % (entries, middle["upgrade"], middle["tools"], middle["upgrade"] - middle["tools"]))
        print("commit of 500 changed files: %.2f s" % middle["commit"])
        print("verify --parity: %.2f s; find and cat of both trees %.2f s, ratio %.2f; its own reads %.2f s, ratio %.2f"
              % (middle["parity"], middle["reading"], middle["parity"] / middle["reading"],
                 middle["own reading"], middle["parity"] / middle["own reading"]))


def main():
    parser = argparse.ArgumentParser()
    for name in ["--work", "--holofs", "--uv"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=24000)
    Bench(parser.parse_args()).measure()


main()
