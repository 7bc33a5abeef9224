"""Times mounts of two programs in turn; see scripts/bench.d/overhead."""
import argparse, json, os, statistics, subprocess, sys, time

IMPORT = "import numpy, pandas"
# The kernel answers each stat from its cache; the listings of directories before that cause requests to the daemon.
STATS = """
import os
root = os.environ["RCC_HOLOTREE_SPACE_ROOT"]
files = [os.path.join(d, f) for d, _, names in os.walk(root) for f in names]
for at in range(1000000):
    os.lstat(files[at % len(files)])
"""


class Subject:
    """One program with a separate home, built from the same requirements."""

    def __init__(self, name, program, options):
        self.program, self.work = program, os.path.join(options.work, name)
        os.makedirs(self.work)
        self.env = {**os.environ, "HOME": self.work, "ROBOCORP_HOME": self.work + "/home", "UV_NATIVE_TLS": "1"}

    def holofs(self, *arguments):
        done = subprocess.run([self.program, *arguments], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, "%s %s: %s" % (self.program, " ".join(arguments), done.stderr)
        return done.stdout

    def timed(self, code):
        """Seconds of `code` in a new mount, with the content in the raw store and the bytecode compiled."""
        self.holofs("mount", self.catalog, "bench")
        started = time.perf_counter()
        self.holofs("run", self.catalog, "bench", "--", "python3", "-c", code)
        taken = time.perf_counter() - started
        self.holofs("unmount", "bench")
        return taken


def built(subject, options):
    """The catalog in the subject's home; both get the same one, because the new program builds both."""
    text = os.path.join(options.work, "requirements.txt")
    with open(text, "w") as file:
        file.write("numpy\npandas\n")
    env = {**subject.env, "HOLOFS_UV": options.uv, "UV_CACHE_DIR": options.work + "/uv-cache"}
    done = subprocess.run([options.holofs, "build", "--json", "--python", sys.executable, text], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["blueprint"]


def main():
    parser = argparse.ArgumentParser()
    for name in ["--work", "--holofs", "--uv", "--before"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    subjects = [Subject("with", options.holofs, options), Subject("without", options.before, options)]
    for subject in subjects:
        subject.catalog = built(subject, options)
    for name, code in [("import numpy, pandas", IMPORT), ("a million stats", STATS)]:
        times = [[], []]
        for turn in range(options.runs + 1):
            # The order changes with every round.
            for at in ([0, 1], [1, 0])[turn % 2]:
                taken = subjects[at].timed(code)
                if turn:
                    times[at].append(taken)
        ours, theirs = map(statistics.median, times)
        print("%s: %.3f s with, %.3f s without; ratio %.3f (bar 1.010)" % (name, ours, theirs, ours / theirs))


main()
