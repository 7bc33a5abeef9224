"""Imports every top-level module of this interpreter's packages; prints those that fail, one JSON object of name to reason."""

import contextlib
import importlib
import importlib.metadata
import io
import json

failed = {}
names = {
    name
    for distribution in importlib.metadata.distributions()
    for name in (distribution.read_text("top_level.txt") or "").split()
    or {str(path).split("/")[0].removesuffix(".py") for path in distribution.files or () if str(path).endswith("__init__.py") or "/" not in str(path)}
}
for name in sorted(name for name in names if name.isidentifier()):
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(name)
    except BaseException as error:  # a module may also exit
        failed[name] = "%s: %s" % (type(error).__name__, error)
print(json.dumps(failed))
