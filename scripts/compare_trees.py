"""Compares two spaces: type, size, mode, content and link target of every entry, ignoring each space's own label and `__pycache__`.

`compare_trees.py A B` prints the number of entries and exits with 0 if the trees are equal; otherwise it prints up to ten differences
and exits with 1. Directory modes, and all times except those of files, are ignored: RCC does not define them.
"""

import os
import stat
import sys


def tree(root):
    label = os.path.basename(root).encode()
    entries = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [n for n in folders if n != "__pycache__"]
        for name in folders + names:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            mode = stat.S_IMODE(info.st_mode)
            if stat.S_ISLNK(info.st_mode):
                what = ("link", os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                what = ("directory",)
            else:
                with open(path, "rb") as f:
                    what = ("file", oct(mode), int(info.st_mtime), info.st_size, f.read().replace(label, b"<label>"))
            entries[os.path.relpath(path, root)] = what
    return entries


def main():
    a, b = tree(sys.argv[1]), tree(sys.argv[2])
    different = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    for name in different[:10]:
        print("differs: %s: %s | %s" % (name, brief(a.get(name)), brief(b.get(name))))
    if different:
        print("%d of %d entries differ" % (len(different), len(a.keys() | b.keys())))
        sys.exit(1)
    print("%d entries are the same" % len(a))


def brief(entry):
    return "absent" if entry is None else " ".join(str(part)[:60] for part in entry)


main()
