"""The versions that attnattack is tested with, for every Python that it promises.

    python tools/constraints.py            constraints.txt anew: this environment's versions, others where a Python wants others
    python tools/constraints.py --check    does pyproject.toml resolve within constraints.txt, for each Python?"""
import argparse, re, subprocess, sys, tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

try: import tomllib
except ImportError: import tomli as tomllib   # Python 3.10

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every package that attnattack and its extras bring in, at the version it is tested with, for every Python that pyproject.toml names.
# To move on: `.venv/bin/pip install -U NAME`, `make constraints`, `make test`.
"""

HASHES = """\
# constraints.txt again, with the hashes of every file of every package:
#     pip install --require-hashes -r hashes.txt && pip install --no-deps .
# Made with constraints.txt by `make constraints`.
"""

def project(root): return tomllib.loads((root / "pyproject.toml").read_text())["project"]

def pythons(root):
    "The Pythons that pyproject.toml promises, the oldest first: `3.10`, …"
    found = (re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", c) for c in project(root).get("classifiers", []))
    return sorted((m[1] for m in found if m), key=Version)

def direct(root):
    "What pyproject.toml asks for, extras included"
    extras = project(root).get("optional-dependencies", {}).values()
    found = [Requirement(r) for rs in [project(root)["dependencies"], *extras] for r in rs]
    return [r for r in found if r.name != project(root).get("name")]   # an extra may name others

def applies(req, python=None):
    "Does this requirement hold on this machine, with this Python (None: the running one)?"
    other = {"python_version": python, "python_full_version": f"{python}.99"} if python else {}
    return req.marker is None or req.marker.evaluate({"extra": ""} | other)

def lines(root):
    "The lines of constraints.txt that pin something"
    file = root / "constraints.txt"
    return [l for l in file.read_text().splitlines() if l and l[0] != "#"] if file.exists() else []

def pins(root, python=None):
    "The packages pinned for a Python (None: the running one): name to version"
    found = (r for r in map(Requirement, lines(root)) if applies(r, python))
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in found}

def installed():
    "What this environment holds, `name==version` each; torch's `+cpu` is left out, it depends on the machine"
    found = {canonicalize_name(d.name): Version(d.version).public for d in metadata.distributions()}
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name != "attnattack"]

def conflicts(root, python):
    "What the installed packages say against the pins for a Python; needs no network"
    pinned, faults = pins(root, python), []
    for dist in metadata.distributions():
        if pinned.get(canonicalize_name(dist.name)) != Version(dist.version).public: continue
        for req in filter(lambda r: applies(r, python), map(Requirement, dist.requires or [])):
            version = pinned.get(canonicalize_name(req.name))
            if version and not req.specifier.contains(version, prereleases=True):
                faults.append(f"{dist.name} {dist.version} wants {req.name}{req.specifier}, {version} is pinned for Python {python}")
    return faults

# ---- uv, which resolves for a Python that is not here

class Unresolvable(RuntimeError): pass

def uv(root, *args):
    "Resolve pyproject.toml with all its extras; `Unresolvable` where no versions fit, OSError where the index cannot be asked"
    from uv import find_uv_bin
    command = [find_uv_bin(), "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--all-extras", *map(str, args), root / "pyproject.toml"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    said = " ".join(done.stderr.split())
    if done.returncode == 1: raise Unresolvable(said)   # uv: 1 no solution, 2 everything else
    if done.returncode: raise OSError(said)

def resolve(root, python):
    "Is there a version of everything within constraints.txt, for this Python?"
    with tempfile.TemporaryDirectory() as tmp:
        uv(root, "--python-version", python, "--constraint", root / "constraints.txt", "--output-file", f"{tmp}/resolved.txt")

def renewed(root):
    "constraints.txt made anew: one resolution for all Pythons and systems, as near to this environment as it can be"
    with tempfile.TemporaryDirectory() as tmp:
        (file := Path(tmp) / "resolved.txt").write_text("\n".join(installed()))   # uv keeps what it finds there, where it fits
        uv(root, "--universal", "--python-version", pythons(root)[0], "--output-file", file)
        return HEADER + file.read_text()

def hashed(root):
    "hashes.txt: what constraints.txt pins, with the hashes that the index gives"
    with tempfile.TemporaryDirectory() as tmp:
        uv(root, "--universal", "--python-version", pythons(root)[0], "--constraint", root / "constraints.txt",
           "--generate-hashes", "--output-file", file := Path(tmp) / "hashes.txt")
        return HASHES + file.read_text()

def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, resolve for each Python")
    if not parser.parse_args(argv).check:
        text = renewed(root)
        (root / "constraints.txt").write_text(text)
        (root / "hashes.txt").write_text(hashed(root))
        print(f"constraints.txt: {len(lines(root))} lines; hashes.txt")
    for python in pythons(root):
        resolve(root, python)
        print(f"Python {python}: resolves, {len(pins(root, python))} pins", flush=True)

if __name__ == "__main__": sys.exit(main())
