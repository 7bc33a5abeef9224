//! Python packages for tests, which need no network.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A package with a console script, a `.pth` file and data, as a wheel.
pub fn wheel_of(dir: &Path, name: &str, version: &str) -> PathBuf {
    let script = r#"
import sys, zipfile
name, version = sys.argv[2:]
info = "%s-%s.dist-info/" % (name, version)
files = {
    name + "/__init__.py": "NAME = '%s'\nVERSION = '%s'\ndef main():\n    print(NAME, 'in', __import__('sys').prefix)\n" % (name, version),
    name + ".pth": name + "_extra\n",
    name + "_extra/%sextra.py" % name: "X = 1\n",
    info + "METADATA": "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version),
    info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    info + "entry_points.txt": "[console_scripts]\n%s = %s:main\n" % (name, name),
}
if name == "needy":
    files[info + "METADATA"] += "Requires-Dist: tinytool\n"
if version == "1.0":
    files[name + "/old.py"] = "only in the old version\n"
record = "".join("%s,,\n" % file for file in files) + info + "RECORD,,\n"
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    for file, text in files.items():
        wheel.writestr(file, text)
    wheel.writestr(info + "RECORD", record)
"#;
    let path = dir.join(format!("{name}-{version}-py3-none-any.whl"));
    super::run(Command::new("python3").args(["-c", script]).arg(&path).args([name, version]));
    path
}
