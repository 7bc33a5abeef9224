"""Copies the interpreter that runs this script into a separate prefix: `python3 -I interpreter.py [--tests] PREFIX`.

`PREFIX/bin/python3 -B -c "$(cat interpreter.py)" --check PREFIX` then checks that the copy works and only uses the prefix.

The copy is self-contained:
- sys.prefix is derived from the location of the binary (the landmark <prefix>/lib/pythonX.Y/os.py), so no setting names the prefix;
- libpython, if there is one, is copied and found through the run path $ORIGIN/../lib instead of the old absolute one;
- Debian's Python searches dist-packages in /usr/local for packages, the copy searches site-packages below its prefix;
- texts that contained the old prefix (_sysconfigdata) contain the new one, so that they can be relocated.

It only writes below PREFIX, which must exist and be empty. `holofs build` runs it; scripts/python_env.py imports it.
"""

import importlib.util
import mmap
import os
import re
import shutil
import stat
import struct
import subprocess
import sys

VERSION = "%d.%d" % sys.version_info[:2]
LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "EXTERNALLY-MANAGED", "sitecustomize.py", "turtledemo"}
# What uv imports in addition to this script when it examines an interpreter.
EXAMINED = ["json/__init__.py", "json/decoder.py", "json/encoder.py", "json/scanner.py", "platform.py", "sysconfig.py",
            "sysconfig/__init__.py", "typing.py"]
TESTS = {"test", "tests", "idle_test"}
UMASK = os.umask(0)
os.umask(UMASK)


def say(text):
    print("interpreter: " + text, file=sys.stderr)


def fail(text):
    say(text)
    sys.exit(1)


def copy_tree(source, target, left_out):
    """Copies a tree with its relative links; `settle_links` replaces those that lead out of it."""

    def ignore(_, names):
        return [n for n in names if n in left_out or n.endswith((".pyc", ".a")) or n.startswith("config-" + VERSION)]

    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=copy_file)


def copy_file(source, target):
    """As shutil.copy, with a fourth of its calls. Times and attributes are not recorded: only permissions are copied."""
    try:
        read = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(read)
            if not stat.S_ISREG(found.st_mode):
                raise OSError("shutil.copy has a message for it")
            mode, left = found.st_mode & 0o7777, found.st_size
            write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
            try:
                while left:
                    sent = os.sendfile(write, read, None, left)
                    left = left - sent if sent else 0
                if mode & UMASK or mode & ~0o777:
                    os.fchmod(write, mode)
            finally:
                os.close(write)
        finally:
            os.close(read)
    except (AttributeError, OSError):  # for example on macOS, where files are no targets of sendfile
        shutil.copy(source, target)
    return target


def copy_interpreter(prefix, left_out):
    base = sys.base_prefix
    stdlib = os.path.dirname(os.path.realpath(os.__file__))
    binary = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    lib = os.path.join(prefix, sys.platlibdir, "python" + VERSION)
    copy_tree(stdlib, lib, left_out)
    dynload = next((p for p in sys.path if os.path.basename(p) == "lib-dynload"), None)
    if dynload and not os.path.isdir(os.path.join(lib, "lib-dynload")):
        copy_tree(dynload, os.path.join(lib, "lib-dynload"), left_out)
    headers = os.path.join(base, "include", "python" + VERSION)
    if os.path.isdir(headers):
        copy_tree(headers, os.path.join(prefix, "include", "python" + VERSION), left_out)
    os.makedirs(os.path.join(lib, "site-packages"))
    os.makedirs(os.path.join(prefix, "bin"))
    copy = os.path.join(prefix, "bin", "python" + VERSION)
    shutil.copy(binary, copy)
    os.chmod(copy, 0o755)
    for name in ("python", "python3"):
        os.symlink("python" + VERSION, os.path.join(prefix, "bin", name))
    copy_libpython(prefix, binary)
    undo_debian(lib)
    settle_links(prefix, stdlib, lib)
    rename_in_texts(prefix, base)
    copy_bytecode(stdlib, lib)


def copy_bytecode(stdlib, lib):
    """Copies the bytecode of what this script and uv import: uv runs the copy to examine it. No catalog contains bytecode.

    Python compares its time and size with those of the source, so the copy of the source gets the time of the original.
    """
    loaded = [getattr(m, "__file__", None) or "" for m in list(sys.modules.values())]
    known = {os.path.realpath(path) for path in loaded if path.endswith(".py")}
    known.update(os.path.join(stdlib, name) for name in EXAMINED)
    for source in known:
        copy = os.path.join(lib, os.path.relpath(source, stdlib))
        bytecode = importlib.util.cache_from_source(source)
        if not inside(source, stdlib) or not os.access(bytecode, os.R_OK) or not os.path.isfile(copy):
            continue
        if os.path.getsize(copy) == os.path.getsize(source):
            os.utime(copy, ns=(os.stat(source).st_atime_ns, os.stat(source).st_mtime_ns))
            target = importlib.util.cache_from_source(copy)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(bytecode, target)


def libpythons(binary):
    """The name and path of each libpython that the loader finds for the binary. `ldd` starts six processes, so it is only run if needed."""
    try:
        with open("/proc/self/maps") as f:
            loaded = sorted(set(re.findall(r"\s(/.*/libpython[^/\n]*)$", f.read(), re.M)))
        with open(binary, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # This process must be the binary's, not that of a program in which Python is embedded.
            if os.path.realpath("/proc/self/exe") == binary and data[:5] == b"\x7fELF\x02":
                if not loaded:
                    return []
                name, text = os.path.basename(loaded[0]), run_path(data)
                path = os.path.join((text or b"").decode(), name)
                is_needed = data.find(b"\0" + name.encode() + b"\0") >= 0
                if loaded == [os.path.realpath(path)] and os.path.isabs(path) and is_needed:
                    return [(name, path)]
    except (OSError, ValueError, struct.error):
        pass  # for example without /proc
    listed = subprocess.run(["ldd", binary], stdout=subprocess.PIPE, universal_newlines=True).stdout
    return re.findall(r"(libpython\S+)\s+=>\s+(/\S+)", listed)


def copy_libpython(prefix, binary):
    for name, path in libpythons(binary):
        os.makedirs(os.path.join(prefix, "lib"), exist_ok=True)
        shutil.copy(os.path.realpath(path), os.path.join(prefix, "lib", name))
        old = os.path.dirname(path)
        pointed = sum(set_run_path(f, old, prefix) for f in list(files_below(prefix)) if not f.endswith((".py", ".h")))
        if not pointed:
            say("%s has no run path to replace: the copy goes on using %s" % (binary, path))


def set_run_path(path, old, prefix):
    """Replaces the run path `old` of an ELF file by one relative to the file, in place: the string may only get shorter."""
    with open(path, "rb") as f:
        if f.read(5) != b"\x7fELF\x02":
            return 0
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            place, text = run_path_offset(data), run_path(data)
    if text != old.encode():
        return 0
    new = ("$ORIGIN/" + os.path.relpath(os.path.join(prefix, "lib"), os.path.dirname(path))).encode()
    if len(new) > len(text):
        fail("Cannot make %s relocatable: its run path '%s' is shorter than '%s'" % (path, old, new.decode()))
    with open(path, "r+b") as f:
        f.seek(place)
        f.write(new.ljust(len(text), b"\0"))
    return 1


def run_path(data):
    """The text of DT_RUNPATH or DT_RPATH, or None."""
    place = run_path_offset(data)
    return None if place is None else data[place:data.find(b"\0", place)]


def run_path_offset(data):
    """The position of the text of DT_RUNPATH or DT_RPATH in a 64-bit little-endian ELF file, or None."""
    (phoff,) = struct.unpack_from("<Q", data, 32)
    phentsize, phnum = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, phoff + i * phentsize) for i in range(phnum)]
    loads = [(vaddr, offset, size) for kind, _, offset, vaddr, _, size in segments if kind == 1]

    def offset_of(address):
        return next((o + address - v for v, o, s in loads if v <= address < v + s), None)

    tags = {}
    for kind, _, offset, _, _, size in segments:
        if kind == 2:
            for at in range(offset, offset + size, 16):
                tag, value = struct.unpack_from("<QQ", data, at)
                tags.setdefault(tag, value)
    text = tags.get(29, tags.get(15))
    if text is None or 5 not in tags:
        return None
    return offset_of(tags[5]) + text


def undo_debian(lib):
    """Debian's Python installs into, and looks at, dist-packages: packages of this prefix belong in site-packages.

    site.py is frozen into the binary since 3.11, so an edit of it would do nothing: sitecustomize adds the directory.
    """
    with open(os.path.join(lib, "site.py"), encoding="utf-8") as f:
        if "dist-packages" not in f.read():
            return
    with open(os.path.join(lib, "sitecustomize.py"), "w", encoding="utf-8") as f:
        f.write(
            "import os, site\n"
            "site.addsitedir(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'site-packages'))\n")
    sysconfig = os.path.join(lib, "sysconfig.py")
    if not os.path.exists(sysconfig):
        sysconfig = os.path.join(lib, "sysconfig", "__init__.py")
    # Before its first use: the functions after it use the scheme as a default argument.
    override = """def _get_preferred_schemes():  # by HoloFS: a prefix of its own, not Debian's
    return {'prefix': 'posix_prefix', 'home': 'posix_home', 'user': 'posix_user'}


"""
    edit(sysconfig, lambda text: re.sub(r"^(?=def get_preferred_scheme\()", override, text, count=1, flags=re.M))


def edit(path, change):
    if os.path.islink(path):  # never through a link that may lead out of the prefix
        content = open(path, encoding="utf-8").read()
        os.unlink(path)
        with open(path, "w", encoding="utf-8") as f:
            f.write(content)
    with open(path, encoding="utf-8") as f:
        old = f.read()
    new = change(old)
    if new != old:
        with open(path, "w", encoding="utf-8") as f:
            f.write(new)


def settle_links(prefix, stdlib, lib):
    """Replaces links that lead out of the prefix by their targets, and removes dangling ones."""
    for path in list(links_below(prefix)):
        target = os.path.realpath(path)
        if inside(target, prefix) and os.path.exists(target):
            continue
        source = os.path.join(stdlib, os.path.relpath(path, lib)) if inside(path, lib) else target
        os.unlink(path)
        if os.path.isfile(source):
            shutil.copy(os.path.realpath(source), path)
        elif os.path.isdir(source):
            shutil.copytree(source, path, symlinks=False, ignore_dangling_symlinks=True)


def rename_in_texts(prefix, base):
    """Replaces the old prefix by the new one in the interpreter's record of how it was built."""
    pattern = re.compile(r"(?<![\w./-])%s(?=$|/(?:bin|lib|include|share)\b|['\" ])" % re.escape(base), re.M)
    for path in list(files_below(prefix)):
        if os.path.basename(path).startswith("_sysconfigdata"):
            edit(path, lambda text: pattern.sub(lambda _: prefix, text))


def walk(prefix):
    folders = [prefix]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def links_below(prefix):
    return (entry.path for entry in walk(prefix) if entry.is_symlink())


def files_below(prefix):
    return (entry.path for entry in walk(prefix) if entry.is_file(follow_symlinks=False))


def inside(path, prefix):
    return path == prefix or path.startswith(prefix + os.sep)


def check_links(prefix):
    for path in links_below(prefix):
        target = os.path.realpath(path)
        if not inside(target, prefix) or not os.path.exists(target):
            fail("The link %s leads out of %s or nowhere: %s" % (path, prefix, target))


def check_self(prefix):
    """Run by the copy. Only extension modules can fail to find libraries; importing modules in Python would only compile them."""
    import _ssl, _sqlite3, _ctypes, site  # noqa: E401, F401
    outside = [p for p in [sys.prefix, sys.exec_prefix, sys.base_prefix, *sys.path] if p and not inside(p, prefix)]
    if outside:
        fail("The copied interpreter still looks at %s" % " ".join(outside))


def main():
    arguments = sys.argv[1:]
    prefix = arguments[-1]
    if "--check" in arguments:
        check_self(prefix)
        return
    copy_interpreter(prefix, LEFT_OUT if "--tests" in arguments else LEFT_OUT | TESTS)
    check_links(prefix)


if __name__ == "__main__":
    main()
