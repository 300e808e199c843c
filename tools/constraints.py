"""The versions that attnattack is tested with: `python tools/constraints.py` writes those of this environment into constraints.txt."""
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

try: import tomllib
except ImportError: import tomli as tomllib   # Python 3.10

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ['python_version >= "3.11"', 'python_version < "3.11"']   # on 3.10 many packages stop at an older version
HEADER = """\
# Every package that attnattack[dev,photos] brings in, at the version it is tested with. `make constraints` rewrites the lines of .venv's Python.
# To move on: `.venv/bin/pip install -U NAME`, `make constraints`, `make test`.
"""

def direct(root):
    "What pyproject.toml asks for, extras included"
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    return [Requirement(r) for rs in [project["dependencies"], *extras] for r in rs]

def applies(req, extras=("",)):
    return req.marker is None or any(req.marker.evaluate({"extra": e}) for e in extras)

def closure(reqs):
    "`reqs` and all they require in this environment: the installed distributions by name"
    found, seen, todo = {}, set(), [r for r in reqs if applies(r)]
    while todo:
        req = todo.pop()
        name, extras = canonicalize_name(req.name), ("", *sorted(req.extras))
        if (name, extras) in seen: continue
        seen.add((name, extras))
        found[name] = metadata.distribution(name)
        todo += [r for r in map(Requirement, found[name].requires or []) if applies(r, extras)]
    return found

def pin(dist):
    "`name==version`; torch's `+cpu` is left out, it depends on the machine"
    return f"{canonicalize_name(dist.name)}=={Version(dist.version).public}"

def lines(root):
    "The lines of constraints.txt that pin something"
    file = root / "constraints.txt"
    return [l for l in file.read_text().splitlines() if l and l[0] != "#"] if file.exists() else []

def renewed(root):
    "constraints.txt with the lines for this Python made anew"
    here = next(p for p in PYTHONS if Marker(p).evaluate())
    new = [f"{pin(d)} ; {here}" for d in closure(direct(root)).values()]
    kept = [l for l in lines(root) if not l.endswith(here)]
    return HEADER + "".join(f"{l}\n" for l in sorted(new + kept, key=lambda l: (l.endswith(PYTHONS[1]), l)))

def pins(root):
    "The packages pinned for this Python: name to version"
    return {canonicalize_name(r.name): str(r.specifier).lstrip("=") for r in map(Requirement, lines(root)) if applies(r)}

if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(renewed(ROOT))
    print(f"constraints.txt: {len(pins(ROOT))} packages")
