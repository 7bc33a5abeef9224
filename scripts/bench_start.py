"""Times `python3 -c pass` in a space that is not there yet, by each way it can appear; see scripts/bench.d/start."""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("--home", required=True)
parser.add_argument("--stage", required=True)
parser.add_argument("--programs", required=True)
parser.add_argument("--runs", type=int, default=20)
options = parser.parse_args()

holofs = os.path.join(options.programs, "holofs")
env = {"HOME": options.home + "/user", "ROBOCORP_HOME": options.home + "/robocorp", "PATH": os.environ["PATH"]}
python = ["python3", "-c", "pass"]


def call(*arguments):
    subprocess.run([holofs, *arguments], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(what, work, before=lambda: None):
    taken = []
    for _ in range(options.runs):
        before()
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    print("| %-42s | %7.1f | %7.1f |" % (what, statistics.median(taken), min(taken)))


def stripped(path):
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["strip", "-o", copy.name, path], check=True)
        return os.path.getsize(copy.name)


native = os.path.join(options.home, "native")
shutil.copytree(options.stage, native, symlinks=True)
call("record", options.stage, "--name", "bench")
shutil.rmtree(options.stage)
catalogs = os.listdir(options.home + "/robocorp/hololib/catalog")
catalog = next(name for name in catalogs if not name.endswith(".info"))
run = lambda *more: call("run", *more, catalog, "bench", "--", *python)
space = lambda: subprocess.run(["rm", "-rf"] + [p for p in (os.path.join(options.home, "robocorp/holotree", n) for n in os.listdir(options.home + "/robocorp/holotree"))])

print("| from nothing to python3 -c pass            |  median |     min |\n|---|---|---|")
timed("plain files that are there", lambda: subprocess.run([native + "/bin/python3", "-B", "-c", "pass"], check=True))
timed("holofs --version", lambda: call("--version"))
timed("holofs run", run)
timed("holofs run --isolate", lambda: run("--isolate"))
timed("holofs run --mode materialize, every file", lambda: run("--mode", "materialize"), space)
timed("holofs run --mode materialize, there", lambda: run("--mode", "materialize"))
call("mount", catalog, "bench")
timed("holofs run, mounted before", run)
call("unmount", "bench")
for name in ("holofs", "holofs-mount-helper"):
    path = os.path.join(options.programs, name)
    print("%s: %.1f MB, stripped %.1f MB" % (name, os.path.getsize(path) / 1e6, stripped(path) / 1e6))
