"""Times environments from a remote over a slow link, in turn with other ways to get the same files; see scripts/bench.d/remote."""
import argparse, gzip, hashlib, json, os, re, shutil, signal, socket, statistics, subprocess, sys, tarfile, time

from bench_link import SERVER, Link

PASS = ["python3", "-c", "pass"]
IMPORT = ["python3", "-c", "import numpy, pandas"]
SCIENCE = ["python3", "-c", "import numpy, pandas, scipy.stats, sklearn, matplotlib.pyplot"]
LINKS = ["20ms/200Mbit", "5ms/1000Mbit", "80ms/50Mbit"]
TOUCHED = 19_600_000  # bytes that `import numpy, pandas` touches, in frames of 256 KiB


def call(command, env=None, **more):
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **more)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-3000:]}"
    return done.stdout


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


class Home:
    """The home of HoloFS and RCC. Its path is always the same, because RCC restores only what was recorded there."""

    def __init__(self, options):
        self.options, self.path = options, options.work + "/home"
        self.user = options.work + "/user"
        self.env = {"HOME": self.user, "ROBOCORP_HOME": self.path, "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}

    def bare(self):
        for path in (self.path, self.user):
            # A daemon may still be writing its last state, or compile bytecode after a run.
            for _ in range(1200):
                shutil.rmtree(path, ignore_errors=True)
                if not os.path.exists(path):
                    break
                time.sleep(0.05)
            os.makedirs(path)

    def holofs(self, *words, link=None, check=True):
        command = [self.options.holofs, *words]
        return call(link.client(*command) if link else command, self.env)

    def record(self, tree, name):
        stage = f"{self.path}/holotree/h0c0ffee_493f813dad24d3t"
        shutil.copytree(tree, stage, symlinks=True)
        yaml = f"{self.options.work}/{name}.yaml"
        shutil.copy(f"{tree}/identity.yaml", yaml)
        folder = self.path + "/hololib/catalog"
        before = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        self.holofs("record", stage, "--blueprint", yaml)
        shutil.rmtree(stage)
        return next(name for name in set(os.listdir(folder)) - before if not name.endswith(".info"))

    def unmount(self):
        """Unmounts what an interrupted method left."""
        with open("/proc/self/mountinfo") as mounts:
            left = [line.split()[4] for line in mounts if self.path + "/" in line]
        for path in reversed(left):
            subprocess.run(["umount", "--lazy", path], check=False)

    def wait_for_daemons(self):
        """Waits until no mount below this home is left; compiling the bytecode of a large environment takes a while."""
        for _ in range(3000):
            with open("/proc/self/mountinfo") as mounts:
                if not any(self.path + "/" in line for line in mounts):
                    return
            time.sleep(0.02)
        with open("/proc/self/mountinfo") as mounts:
            sys.exit("A mount is left: " + "".join(line for line in mounts if self.path + "/" in line))


class Servers:
    """A web server and a registry for a directory, in the server's namespace."""

    def __init__(self, link, work):
        self.work = work
        for name in ("www", "registry", "log"):
            os.makedirs(f"{work}/{name}", exist_ok=True)
        with open(work + "/nginx.conf", "w") as out:
            out.write(f"""user root; daemon off; pid {work}/nginx.pid; error_log {work}/log/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{ access_log {work}/log/access.log; sendfile on; tcp_nopush on; keepalive_requests 100000; default_type application/octet-stream;
  client_body_temp_path {work}/log/body; proxy_temp_path {work}/log/proxy; fastcgi_temp_path {work}/log/fcgi; uwsgi_temp_path {work}/log/uwsgi; scgi_temp_path {work}/log/scgi;
  types {{ text/html html; }}
  server {{ listen {SERVER}:8080; root {work}/www; autoindex on; }} }}
""")
        with open(work + "/registry.yml", "w") as out:
            out.write(f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {work}/registry}}, delete: {{enabled: true}}}}\n"
                      f"http: {{addr: '{SERVER}:5000'}}\n")
        self.running = []
        try:
            self.running.append(self.start(link.server("nginx", "-c", work + "/nginx.conf")))
            self.running.append(self.start(link.server("docker-registry", "serve", work + "/registry.yml")))
            for port in (8080, 5000):
                self.wait(link, port)
        except BaseException:
            self.close()
            raise

    def start(self, command, env=None):
        with open(self.work + "/log/servers.log", "a") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait(self, link, port):
        for _ in range(200):
            if subprocess.run(link.server("bash", "-c", f": < /dev/tcp/{SERVER}/{port}"), stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return
            time.sleep(0.05)
        sys.exit(f"No server listens on port {port}: {open(self.work + '/log/servers.log').read()}")

    def close(self):
        for server in self.running:
            server.terminate()
            server.wait()


class Bench:
    def __init__(self, options, link):
        self.options, self.link, self.home = options, link, Home(options)
        self.http, self.oci = f"http://{SERVER}:8080/env", f"oci+http://{SERVER}:5000/team/env"
        self.native = options.work + "/first/bin/python3"
        self.fetched = {}

    # --- prepared once, on the server's side --------------------------------------------------------------------------

    def prepare(self):
        home, work = self.home, self.options.work
        home.bare()
        self.catalog = home.record(work + "/first", "first")
        space = json.loads(home.holofs("mount", self.catalog, "profiled", "--json"))
        path = space["path"] if isinstance(space, dict) else space[0]["path"]
        call([path + "/bin/python3", *(SCIENCE if self.options.big else IMPORT)[1:]], home.env)
        home.holofs("unmount", "profiled")
        home.holofs("run", self.catalog, "profiled", "--", *self.imports())
        self.wait_for_bytecode()
        # Over a further link, everything is sent again.
        shutil.rmtree(work + "/www/env", ignore_errors=True)
        env = f"file://{work}/www/env"
        push = lambda catalog, remote, *more: json.loads(home.holofs("push", catalog, remote, "--json", *more))[0]
        self.pushed = {"first": push(self.catalog, env + "#profiled"), "bare": push(self.catalog, env + "#bare", "--profile", "off")}
        registry = lambda *words: call(self.link.server(self.options.holofs, *words), home.env)
        registry("push", self.catalog, self.oci + ":profiled")
        registry("push", self.catalog, self.oci + ":bare", "--profile", "off")
        home.holofs("export", self.catalog, "--zipfile", work + "/www/hololib.zip")
        self.second()
        self.image()
        wheels = work + "/www/wheels"
        if not os.path.isdir(wheels):
            shutil.copytree(self.options.wheels, wheels)
        shutil.rmtree(work + "/serving", ignore_errors=True)
        # Only the hololib is served. The state of spaces contains sockets, which cannot be copied.
        shutil.copytree(home.path, work + "/serving", symlinks=True, ignore=shutil.ignore_patterns("spaces"))

    def wait_for_bytecode(self):
        """Waits until what the run imported is compiled for others; a push sends it too."""
        folder = self.home.path + "/holofs/pyc"
        for _ in range(3000):
            if os.path.isdir(folder) and any(os.path.exists(f"{folder}/{name}/pack") for name in os.listdir(folder)):
                return
            time.sleep(0.02)
        sys.exit("The run left no bytecode in " + folder)

    def second(self):
        """Pushes a second environment in which one package differs, and counts what is sent."""
        home, work = self.home, self.options.work
        catalog = home.record(work + "/second", "second")
        pushed = json.loads(home.holofs("push", catalog, f"file://{work}/www/env#second", "--profile", "off", "--json"))[0]
        here = {sha256_of(path) for path in files(work + "/first")}
        changed = [path for path in files(work + "/second") if sha256_of(path) not in here]
        raw = sum(os.path.getsize(path) for path in changed)
        packed = sum(len(gzip.compress(open(path, "rb").read(), 6)) for path in changed)
        head = os.path.getsize(f"{work}/www/env/v1/heads/{pushed['head']}")
        self.push_row = {"changed_files": len(changed), "changed_bytes": raw, "changed_gzip": packed, "head": head,
                         "sent": pushed["bytes_sent"], "first_push": self.pushed["first"]["bytes_sent"]}

    def image(self):
        """Puts an image with the tree as its only layer into the registry."""
        work = self.options.work
        layout = work + "/layout"
        shutil.rmtree(layout, ignore_errors=True)
        os.makedirs(layout + "/blobs/sha256")
        with tarfile.open(work + "/layer", "w:gz", compresslevel=6) as tar:
            tar.add(work + "/first", "env")

        def blob(path=None, content=None):
            if content is not None:
                path = work + "/blob"
                with open(path, "wb") as out:
                    out.write(content)
            digest, size = sha256_of(path), os.path.getsize(path)
            shutil.move(path, f"{layout}/blobs/sha256/{digest}")
            return {"digest": "sha256:" + digest, "size": size}

        image = "application/vnd.oci.image."
        layer = {"mediaType": image + "layer.v1.tar+gzip", **blob(work + "/layer")}
        with gzip.open(f"{layout}/blobs/sha256/{layer['digest'][7:]}") as tar:
            raw = hashlib.sha256(tar.read()).hexdigest()
        config = blob(content=json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + raw]}}).encode())
        manifest = {"schemaVersion": 2, "mediaType": image + "manifest.v1+json", "config": {"mediaType": image + "config.v1+json", **config}, "layers": [layer]}
        entry = {"mediaType": image + "manifest.v1+json", **blob(content=json.dumps(manifest).encode())}
        for name, content in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", {"schemaVersion": 2, "manifests": [entry]})):
            with open(f"{layout}/{name}", "w") as out:
                json.dump(content, out)
        call(self.link.server("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{SERVER}:5000/image:env"), self.home.env)

    # --- the methods --------------------------------------------------------------------------------------------------

    def lazy(self, remote, command):
        return lambda: self.home.holofs("run", remote, "user", "--", *command, link=self.link)

    def get(self):
        """The ideal: one request for all touched bytes, then the import from plain files."""
        size = min(TOUCHED, self.fetched.get("http", TOUCHED)) if not self.options.big else self.fetched.get("http", TOUCHED)
        call(self.link.client("curl", "-sSf", "-o", "/dev/null", "-r", f"0-{size - 1}", f"http://{SERVER}:8080/hololib.zip"))
        self.native_import()

    def native_import(self):
        call([self.native, *self.imports()[1:]], self.home.env)

    def imports(self):
        return SCIENCE if self.options.big else IMPORT

    def zip(self):
        path = self.home.user + "/hololib.zip"
        call(self.link.client("curl", "-sSf", "-o", path, f"http://{SERVER}:8080/hololib.zip"))
        self.home.holofs("import", path)
        self.home.holofs("run", self.catalog, "user", "--", *self.imports())

    def skopeo(self):
        target = self.home.user + "/image"
        call(self.link.client("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", f"docker://{SERVER}:5000/image:env", f"dir:{target}"), self.home.env)
        layer = max((os.path.join(target, name) for name in os.listdir(target)), key=os.path.getsize)
        call(["tar", "-xzf", layer, "-C", self.home.user])
        call([self.home.user + "/env/bin/python3", *self.imports()[1:]], self.home.env)

    def uv(self):
        target = self.home.user + "/venv"
        env = {**self.home.env, "UV_CACHE_DIR": self.home.user + "/uv", "UV_NO_PROGRESS": "1"}
        call([self.options.uv, "venv", "--quiet", "--python", sys.executable, target], env)
        call(self.link.client(self.options.uv, "pip", "sync", "--quiet", "--python", target + "/bin/python3", "--no-index", "--find-links",
                              f"http://{SERVER}:8080/wheels/", self.options.work + "/requirements.txt"), env)
        call([target + "/bin/python3", *self.imports()[1:]], env)

    def rcc(self):
        rcc = self.options.rcc
        env = {**self.home.env, "RCC_REMOTE_ORIGIN": f"http://{SERVER}:4653"}
        call([rcc, "--bundled", "configuration", "identity", "--do-not-track"], env)
        robot = self.home.user + "/robot.yaml"
        shutil.copy(self.options.work + "/first.yaml", self.home.user + "/conda.yaml")
        with open(robot, "w") as out:
            out.write("tasks: {x: {shell: python -V}}\ncondaConfigFile: conda.yaml\nartifactsDir: output\n")
        call(self.link.client(rcc, "--bundled", "holotree", "pull", "--robot", robot, "--origin", env["RCC_REMOTE_ORIGIN"]), env)
        said = call([rcc, "--bundled", "--no-build", "holotree", "variables", self.home.user + "/conda.yaml", "--space", "user"], env)
        space = re.search(r"RCC_HOLOTREE_SPACE_ROOT=(\S+)", said)[1]
        call([space + "/bin/python3", *self.imports()[1:]], env)

    def start_rccremote(self, servers):
        """Starts our server for official clients; false if this build has none: then their row is skipped."""
        if "--rccremote" not in subprocess.run([self.options.holofs, "serve", "--help"], capture_output=True, text=True, check=False).stdout:
            return False
        env = {**self.home.env, "ROBOCORP_HOME": self.options.work + "/serving"}
        servers.running.append(servers.start(self.link.server(self.options.holofs, "serve", "--rccremote", f"{SERVER}:4653"), env))
        servers.wait(self.link, 4653)
        return True

    def ways(self, has_rccremote):
        """The methods by name. Their order matters: the ideal needs the number of bytes that the lazy run over HTTP fetched."""
        imports = self.imports()
        found = {
            "run pass, no profile": self.lazy(self.oci + ":bare", PASS),
            "run pass, profile": self.lazy(self.oci + ":profiled", PASS),
            "run import, HTTP": self.lazy(self.http + "#profiled", imports),
            "run import, OCI": self.lazy(self.oci + ":profiled", imports),
            "mount answers": lambda: self.home.holofs("mount", self.oci + ":profiled", "user", link=self.link),
            "single GET + native import": self.get,
            "curl zip + import": self.zip,
            "skopeo + untar": self.skopeo,
        }
        if self.options.uv and not self.options.big:
            found["uv pip sync"] = self.uv
        if self.options.rcc and has_rccremote:
            found["rcc pull + restore"] = self.rcc
        return {name: way for name, way in found.items() if self.options.only in name}

    def measure(self, has_rccremote):
        ways = self.ways(has_rccremote)
        taken = {name: [] for name in ways}
        received = {name: [] for name in ways}
        for number in range(self.options.rounds):
            for name, way in ways.items():
                self.home.bare()
                before = self.quiet()
                start = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - start)
                received[name].append(self.link.received() - before)
                if name == "run import, HTTP":
                    self.fetched["http"] = received[name][-1]
                if name == "mount answers":
                    self.home.holofs("unmount", "user")
                self.home.wait_for_daemons()
            print(f"round {number + 1}: " + ", ".join(f"{name} {list_[-1]:.2f}" for name, list_ in taken.items()), file=sys.stderr)
        return {name: {"seconds": statistics.median(taken[name]), "runs": taken[name], "received": statistics.median(received[name])} for name in ways}

    def quiet(self):
        """Waits until what an interrupted transfer left in the link's queue has arrived, and returns the number of bytes so far."""
        before = None
        while before != (now := self.link.received()):
            before = now
            time.sleep(0.3)
        return now

    def cut(self):
        """The second run with the link down, and a run in a local mount in a home with all content; medians of five."""
        remote, imports = self.oci + ":profiled", self.imports()
        self.home.bare()
        self.lazy(remote, imports)()
        self.link.set_up(False)
        second = self.times(lambda: self.home.holofs("run", "--offline", remote, "user", "--", *imports, link=self.link))
        self.link.set_up(True)
        self.home.wait_for_daemons()
        self.home.bare()
        self.home.holofs("import", self.options.work + "/www/hololib.zip")
        run = lambda: self.home.holofs("run", self.catalog, "user", "--", *imports)
        run()
        return {"second": second, "local": self.times(run)}

    def times(self, work):
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    def memory(self):
        """The RSS in kB of daemon and fetcher after the imports, and that of the daemon of a local mount."""
        found = {}
        for kind in ("local", "remote"):
            self.home.bare()
            if kind == "local":
                self.home.holofs("import", self.options.work + "/www/hololib.zip")
            what = self.catalog if kind == "local" else self.oci + ":profiled"
            report = json.loads(self.home.holofs("mount", what, "user", "--json", link=self.link))
            report = report if isinstance(report, dict) else report[0]
            call([report["path"] + "/bin/python3", *self.imports()[1:]], self.home.env)
            for pid in descendants(report["pid"]):
                with open(f"/proc/{pid}/cmdline", "rb") as line:
                    is_fetcher = b"fetch" in line.read().split(b"\0")
                found["fetcher" if is_fetcher else kind] = max(found.get("fetcher" if is_fetcher else kind, 0), rss(pid))
            self.home.holofs("unmount", "user")
            self.home.wait_for_daemons()
        return found


def files(tree):
    for folder, _, names in os.walk(tree):
        yield from (path for path in (os.path.join(folder, name) for name in names) if not os.path.islink(path))


def descendants(pid):
    found, todo = [], [int(pid)]
    while todo:
        pid = todo.pop()
        found.append(pid)
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                todo += [int(child) for child in children.read().split()]
    return found


def rss(pid):
    with open(f"/proc/{pid}/status") as status:
        return next((int(line.split()[1]) for line in status if line.startswith("VmRSS")), 0)


def rows(options, link, found, push, cut, memory):
    """The rows of the table: name, figure, bar, and whether the bar was missed. The bars in seconds are for the first link."""
    seconds = {name: row["seconds"] for name, row in found.items()}
    table = []

    def add(name, value, form, bar=None, note=""):
        shown = form % value + (f" ({note})" if note else "")
        table.append((name, shown, "" if bar is None else form % bar, bar is not None and value > bar))

    for name in seconds:
        bars = {} if options.big else {"run pass, no profile": 1.5, "run pass, profile": 0.9, "run import, HTTP": 2.2, "run import, OCI": 2.2}
        if options.big:
            bars = {"mount answers": 1.0}
        if link != LINKS[0]:
            bars = {}
        add(name, seconds[name], "%.2f s", bars.get(name), f"{found[name]['received'] / 1e6:.1f} MB over the link")
    ideal = seconds.get("single GET + native import")
    for name in ("run import, HTTP", "run import, OCI"):
        if name in seconds and ideal:
            add(f"{name} / ideal", seconds[name] / ideal, "%.2f", 1.4 if options.big else 1.3)
    own = seconds.get("run import, OCI")
    for name in ("curl zip + import", "skopeo + untar", "uv pip sync", "rcc pull + restore"):
        if own and name in seconds:
            add(f"{name} / run import, OCI", seconds[name] / own, "%.2f")
            least = 6 if name.startswith("rcc") else 1
            table[-1] = (table[-1][0], table[-1][1], f"> {least}", seconds[name] / own < least)
    if "run import, HTTP" in found and not options.big:
        add("bytes fetched for the imports", found["run import, HTTP"]["received"] / 1e6, "%.1f MB", 23.0)
    if cut:
        add("second run, link down / run in a local mount", cut["second"] / cut["local"], "%.2f", 1.15, "%.2f s, %.2f s" % (cut["second"], cut["local"]))
    if push:
        allowed = 1.15 * push["changed_gzip"] + push["head"]
        add("push after a change of one package", push["sent"] / 1e3, "%.0f kB", allowed / 1e3,
            f"{push['changed_files']} files, {push['changed_bytes'] / 1e3:.0f} kB, gzip {push['changed_gzip'] / 1e3:.0f} kB, head {push['head'] / 1e3:.0f} kB; first push {push['first_push'] / 1e6:.1f} MB")
    if memory:
        add("daemon's RSS minus that of a local mount", (memory["remote"] - memory["local"]) / 1e3, "%.1f MB", 4.0, f"{memory['remote'] / 1e3:.1f} MB")
        add("fetcher's RSS", memory.get("fetcher", 0) / 1e3, "%.1f MB", 48.0)
    return table


def over(options, text):
    rtt, rate = re.fullmatch(r"(\d+)ms/(\d+)Mbit", text).groups()
    link = Link(int(rtt), int(rate))
    try:
        servers = Servers(link, options.work)
        try:
            bench = Bench(options, link)
            bench.prepare()
            found = bench.measure(bench.start_rccremote(servers))
            cut = None if options.only else bench.cut()
            memory = None if options.only else bench.memory()
        finally:
            Home(options).unmount()
            servers.close()
    finally:
        link.close()
    return found, bench.push_row, cut, memory


def main():
    parser = argparse.ArgumentParser()
    for name in ("work", "holofs", "rcc", "uv", "wheels", "json"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--link", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--big", action="store_true")
    options = parser.parse_args()
    with open(options.work + "/requirements.txt", "w") as out:
        listed = json.loads(call([options.work + "/first/bin/python3", "-m", "pip", "list", "--format=json"]))
        out.writelines(f"{row['name']}=={row['version']}\n" for row in listed)
    report = {}
    for text in options.link or LINKS[:1 if options.quick else None]:
        found, push, cut, memory = over(options, text)
        table = rows(options, text, found, push, cut, memory)
        print(f"\n{text}, {options.rounds} rounds, {'large' if options.big else 'small'} environment\n| from an empty home to the end | median | bar | |\n|---|---|---|---|")
        for name, value, bar, is_missed in table:
            print(f"| {name} | {value} | {bar} | {'MISSED' if is_missed else ''} |", flush=True)
        if not any("rcc" in name for name in found):
            print("Skipped: rcc holotree pull (this build has no `holofs serve --rccremote`, or the official RCC is not available)")
        report[text] = {"ways": found, "push": push, "cut": cut, "memory": memory, "table": table}
    os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
    with open(options.json, "w") as out:
        json.dump(report, out, indent=1)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
