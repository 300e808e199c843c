"""Every check of the project, as many at once as there are cores, each named, timed and counted.

    python tools/check.py                               all of them
    python tools/check.py --jobs 1                      one after the other
    python tools/check.py --list                        their names
    python tools/check.py --only links 'notebook:0*'    some of them

A check is a function from the tree to the list of its faults; an empty list is a pass. None of them writes into the tree."""
import argparse, ast, atexit, base64, fnmatch, functools, multiprocessing, os, re, shutil, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

import constraints, declared, pages, voice
from attnattack.runs import build_order, read_yaml
from pages import is_room, name_of, notebooks

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NOTEBOOK_BYTES, PICTURE_BYTES = 1_000_000, 100_000
UNWANTED = {"torchvision", "opencv-python", "opencv-python-headless", "opencv-contrib-python"}

# ---- the tree ----

def rooms(root):
    "The numbered notebooks of nbs/ and its folders, in build order"
    return [p for p in notebooks(root) if is_room(root, p)]

def experiments(root): return [p for p in notebooks(root) if p.parent == root / "nbs/experiments"]

@functools.lru_cache(maxsize=None)
def _read(path, mtime): return nbformat.read(path, 4)

def cells(path, kind="code"): return [c for c in _read(path, path.stat().st_mtime_ns).cells if c.cell_type == kind]

def module_of(path):
    "The module that a notebook exports, if any"
    found = (re.search(r"^#\|\s*default_exp\s+(\S+)", c.source, re.M) for c in cells(path))
    return next((m[1] for m in found if m), None)

@functools.lru_cache(maxsize=None)
def _trees(path, mtime):
    return [ast.parse(TransformerManager().transform_cell(c.source), path.name) for c in cells(path)]   # magics become calls

def code(path):
    "The notebook's cells as syntax trees"
    return _trees(path, path.stat().st_mtime_ns)

def imports(path):
    "Dotted names of all that a notebook imports; `from a import b` is a.b, which may be a module or a name in one"
    package = ["attnattack", *(module_of(path) or "").split(".")[:-1]]
    for node in (n for tree in code(path) for n in ast.walk(tree)):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[:len(package) + 1 - node.level] if node.level else []
            yield from (".".join(filter(None, [*base, node.module, a.name])) for a in node.names)

# ---- checks of the tree as it stands ----

def imported_room(name, home):
    "The room that a dotted name leads to; a folder's door leads to its last room; None if it leads to none"
    parts = name.split(".")[1:] if name.startswith("attnattack.") else []
    for n in range(len(parts), 0, -1):
        if (module := ".".join(parts[:n])) in home:
            return home[module]
    behind = [room for module, room in home.items() if module and parts and module.startswith(parts[0] + ".")]
    return max(behind, key=lambda room: room.name, default=None)

def may_import(low, high):
    "May the room `high` import from `low`? From lower floors, and from lower numbers of its own folder"
    (low_floor, low_folder, low_name), (high_floor, high_folder, high_name) = build_order(low), build_order(high)
    return low_name < high_name if low_folder == high_folder else low_floor < high_floor

def import_order(root):
    "Rooms import from lower floors and lower numbers only, and nothing imports an experiment"
    home, faults = {module_of(p): p for p in rooms(root)}, []
    for path in notebooks(root):
        here = name_of(root, path)
        for name in dict.fromkeys(imports(path)):
            room = imported_room(name, home)
            if room is None and "experiments" in name.split("."): faults.append(f"{path.name}: imports {name}, an experiment")
            if room is None or not is_room(root, path): continue
            if not may_import(name_of(root, room), here):
                rule = "must import from lower numbers only" if room.parent == path.parent else "must import from lower floors only"
                faults.append(f"{here}.ipynb: imports {name} of {name_of(root, room)}.ipynb, {rule}")
    return faults + [f"{p.name}: exports {module_of(p)}, an experiment must export nothing" for p in experiments(root) if module_of(p)]

def stale_modules(root):
    "Every module has its notebook, every room its module"
    package = root / "attnattack"
    made = ("__init__.py", "__main__.py", "_modidx.py")   # not by a room
    files = {p.relative_to(package).as_posix() for p in package.rglob("*.py") if p.name not in made}
    wanted, faults = {}, []
    for p in rooms(root):
        if module_of(p): wanted[module_of(p).replace(".", "/") + ".py"] = p.name
        else: faults.append(f"{p.name}: no `#| default_exp`")
    faults += [f"attnattack/{f}: no notebook exports it" for f in sorted(files - set(wanted))]
    return faults + [f"attnattack/{f}: missing, {wanted[f]} exports it" for f in sorted(set(wanted) - files)]

def pictures(path):
    "The sizes in bytes of a notebook's pictures"
    data = [v for c in cells(path) for o in c.outputs for k, v in o.get("data", {}).items() if k.startswith("image/")]
    data += [v for k in ("code", "markdown") for c in cells(path, k) for a in c.get("attachments", {}).values() for v in a.values()]
    return [len(v) if v.lstrip().startswith("<") else len(base64.b64decode(v)) for v in ("".join(d) for d in data)]

def sizes_and_outputs(root):
    "Notebooks are executed, without errors, under 1 MB, their pictures at most 100 kB each"
    faults = []
    for p in notebooks(root):
        if p.stat().st_size >= NOTEBOOK_BYTES: faults.append(f"{p.name}: {p.stat().st_size:,} bytes, must be under {NOTEBOOK_BYTES:,}")
        faults += [f"{p.name}: a picture of {n:,} bytes, must be at most {PICTURE_BYTES:,}" for n in pictures(p) if n > PICTURE_BYTES]
        faults += [f"{p.name}: an output is the error {o.ename}: {o.evalue}" for c in cells(p) for o in c.outputs if o.output_type == "error"]
        if p.stem != "index" and not pictures(p): faults.append(f"{p.name}: no picture in its outputs, must be executed before it is committed")
    return faults

def links(root):
    "Relative links in notebooks and in *.md lead to files"
    texts = [(p, c.source) for p in notebooks(root) for c in cells(p, "markdown")]
    texts += [(p, p.read_text()) for d in (root, root / "data", root / "outputs") for p in sorted(d.glob("*.md"))]
    def targets(text): return pages.LINK.findall(re.sub(r"```.*?```|`[^`\n]*`|\$[^$]*\$", "", text, flags=re.S))
    found = [(p, to) for p, text in texts for to in targets(text)]
    return [f"{p.name}: links to {to}, which is not there" for p, to in found if not (p.parent / to.split("#")[0]).exists()]

def readme(root):
    "README.md is what `make readme` makes"
    new = pages.readme(root)
    stale = [n for n, data in new.items() if not (root / n).is_file() or (root / n).read_bytes() != data]
    extra = [f"{pages.PICTURES}/{p.name}" for p in (root / pages.PICTURES).glob("*") if f"{pages.PICTURES}/{p.name}" not in new]
    return [f"{n}: not what nbs/index.ipynb makes, run `make readme`" for n in stale + extra]

def dependencies(root):
    "The environment holds the pinned versions, all direct dependencies are pinned, no torchvision, no OpenCV"
    pinned, installed = constraints.pins(root), {constraints.canonicalize_name(d.name): d.version for d in metadata.distributions()}
    wanted = {constraints.canonicalize_name(r.name) for r in constraints.direct(root) if constraints.applies(r)}
    faults = [f"{n}: in pyproject.toml, not pinned in constraints.txt" for n in sorted(wanted - set(pinned))]
    faults += [f"{n}: not wanted, but pinned or installed" for n in sorted(UNWANTED & {*pinned, *installed})]
    return faults + [f"{n}: {installed[n]} is installed, {v} is pinned" for n, v in sorted(pinned.items())
                     if n in installed and installed[n].split("+")[0] != v]

def imports_declared(root):
    "Every import is declared in the core or the extra that needs it, every declared package is used"
    files = [p for d in ("tests", "tools", "docs") for p in sorted((root / d).glob("*.py"))]
    others = [(p.name, ast.parse(p.read_text("utf-8"))) for p in files]
    others += [(p.name, tree) for p in notebooks(root) for tree in code(p)]
    return declared.faults(root, others)

def constraints_resolve(root):
    "Within constraints.txt there is a version of everything, for each Python that pyproject.toml promises"
    faults = [f for python in constraints.pythons(root) for f in constraints.conflicts(root, python)]
    for python in constraints.pythons(root):
        try: constraints.resolve(root, python)
        except constraints.Unresolvable as e: faults.append(f"Python {python}: {e}")
        except (ImportError, OSError) as e: print(f"    Python {python}: the index was not asked ({e})"[:200], flush=True)
    return faults

def parameters(path):
    "The names that an experiment's `parameters` cell sets"
    trees = [ast.parse(c.source) for c in cells(path) if "parameters" in c.metadata.get("tags", [])]
    return {n.id for t in trees for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}

def smoke(root):
    file = root / "nbs/experiments/params/smoke.yaml"
    return (read_yaml(file) or {}) if file.exists() else {}

def params(root):
    "Parameter files name experiments and parameters that exist, and every experiment has a smoke run"
    found = {p.stem: p for p in experiments(root)}
    faults = [f"smoke.yaml: no entry {name}" for name in found if name not in smoke(root)]
    for file in sorted((root / "nbs/experiments/params").glob("*.yaml")):
        for name, values in (read_yaml(file) or {}).items():
            if name not in found: faults.append(f"{file.name}: {name} is no experiment")
            else: faults += [f"{file.name}: {name} has no parameter {k}" for k in sorted(set(values or {}) - parameters(found[name]))]
    return faults

def house_voice(root):
    "Lines, statements, decisions, names and outputs as CONTRIBUTING says; figures: --voice"
    return voice.voice(root, notebooks(root))

# ---- checks that run something ----

def run(*cmd, cwd, minutes=20, **env):
    "A command's faults (none when it exits with 0, else the last lines it printed) and all that it printed"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"} | env
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try: done = subprocess.run(cmd, cwd=cwd, env=env, timeout=60 * minutes, **pipes)
    except subprocess.TimeoutExpired: return [f"still running after {minutes} minutes: {' '.join(map(str, cmd))}"], ""
    return (done.stdout.strip().splitlines()[-60:] or [f"exit code {done.returncode}"]) if done.returncode else [], done.stdout

def export_clean(root):
    "Exporting and cleaning a copy of the tree changes nothing"
    def files(d): return {p.relative_to(d).as_posix(): p.read_bytes() for p in [*d.glob("attnattack/**/*.py"), *notebooks(d)]}
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "copy"
        for name in files(root):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name)
        shutil.copy2(root / "settings.ini", copy)
        faults = [f for cmd in ("nbdev_export", "nbdev_clean") for f in run(BIN / cmd, cwd=copy)[0]]
        old, new = files(root), files(copy)
    changed = sorted(n for n in {*old, *new} if old.get(n) != new.get(n))
    return faults + [f"{n}: changed by {'nbdev_clean' if n.endswith('.ipynb') else 'nbdev_export'}, run it and commit" for n in changed]

# what most rooms import, loaded once (8 s of processor): every room runs in a fork of the process that has loaded it
LOADED = ["__main__", "nbdev.test", "kornia", "matplotlib.pyplot", "scipy.stats", "torch", "transformers.models.clip.modeling_clip",
          "diffusers.models.unets.unet_2d_condition", "diffusers.models.transformers.transformer_flux",
          "diffusers.models.autoencoders.autoencoder_kl", "diffusers.pipelines.pipeline_utils"]
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(LOADED)

def run_room(path, root, log):
    "nbdev's test of one notebook; what it prints goes to the file `log`"
    with open(log, "wb", buffering=0) as file:
        for stream in 1, 2: os.dup2(file.fileno(), stream)
    os.chdir(root)
    os.environ.pop("PYTHONPATH", None)
    os.environ |= {"PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    from nbdev.test import nbdev_test
    try: nbdev_test(path=str(path), n_workers=0, do_print=True)
    finally: atexit._run_exitfuncs()   # a fork ends without them; the notebook's temporary folders go

def notebook(path, root, minutes=20):
    "nbdev runs the notebook, but for its `slow` and `gpu` cells"
    with tempfile.TemporaryDirectory() as tmp:
        log = Path(tmp) / "log"
        process = forks.Process(target=run_room, args=(path, root, log))
        process.start()
        process.join(60 * minutes)
        if late := process.is_alive(): process.kill()
        process.join()
        out = log.read_text("utf-8", "replace") if log.exists() else ""
    if late: return [f"{path.name}: still running after {minutes} minutes", *out.splitlines()[-60:]]
    if process.exitcode: return [*out.strip().splitlines()[-60:], f"exit code {process.exitcode}"]
    done = f"Starting {path}" in out and "Success." in out   # a path that matches nothing exits with 0
    return [] if done else [f"{path.name}: nbdev_test did not run it", *out.splitlines()]

ONCE = {"benchmark", "campaign"} # they keep times and memory, and interrupts at random moments

def experiment(path, root):
    "The experiment runs with its parameters of smoke.yaml, and once more from its manifest: bit-equal"
    with tempfile.TemporaryDirectory() as tmp:
        made = run(BIN / "attnattack", "run", path, "-f", root / "nbs/experiments/params/smoke.yaml", "--out", f"{tmp}/run", cwd=tmp, ATTNATTACK_TESTED="1")[0]
        return made if made or path.stem in ONCE else run(BIN / "attnattack", "verify", f"{tmp}/run", "--notebook", path, cwd=tmp)[0]

def selftest(root):
    "Every module's minimal test, in build order"
    return run(BIN / "attnattack", "selftest", cwd=root)[0]

APART = dict(docs=["tests/test_docs.py"], package=["tests/test_package.py", "tests/test_home.py"])   # checks of their own

def pytest(root, *args):
    "Tests; what they skip, and why, is printed"
    faults, out = run(sys.executable, "-m", "pytest", "-q", "-rsfE", *args, cwd=root)
    print(*(f"    {line}\n" for line in out.splitlines() if line.startswith("SKIPPED")), sep="", end="", flush=True)
    return faults

def tests(root):
    "All tests that are no check of their own"
    return pytest(root, "tests", *(f"--ignore={file}" for files in APART.values() for file in files))

def docs(root):
    "The documentation is built, whole, and opened in a browser"
    return pytest(root, *APART["docs"])

def package(root):
    "Wheel and sdist are built, installed and used; the files for the repository's home are right"
    return pytest(root, *APART["package"])

def types(root):
    "mypy over the package, as pyproject.toml says"
    with tempfile.TemporaryDirectory() as tmp:
        return run(sys.executable, "-m", "mypy", "--cache-dir", tmp, cwd=root)[0]

# ---- the runner ----

def steps(root):
    "All checks by name, the quick ones first"
    checks = [import_order, stale_modules, house_voice, sizes_and_outputs, links, params, dependencies, imports_declared,
              constraints_resolve, readme, types, export_clean, tests, docs, package, selftest]
    found = {f.__name__.replace("_", "-"): f for f in checks}
    found |= {f"notebook:{name_of(root, p)}": functools.partial(notebook, p) for p in notebooks(root) if p not in experiments(root)}
    return found | {f"experiment:{p.stem}": functools.partial(experiment, p) for p in experiments(root)}

def attempt(check, root):
    "A check's faults; one that breaks down has found one too"
    try: return check(root)
    except Exception as e: return [f"{type(e).__name__}: {e}"]

def timed(check, root):
    start = time.time()
    return attempt(check, root), time.time() - start

def run_all(chosen, root, jobs=1):
    "Run the checks, `jobs` at once, print a line each as it ends, and the count; how many failed"
    failed, begin = 0, time.time()
    with ThreadPoolExecutor(jobs) as pool:
        names = {pool.submit(timed, check, root): name for name, check in chosen.items()}
        for done in as_completed(names):
            faults, seconds = done.result()
            failed += bool(faults)
            print(f"{names[done]:32}{seconds:7.1f} s  {'failed' if faults else 'passed'}", *faults, sep="\n    ", flush=True)
    print(f"{'total':32}{time.time() - begin:7.1f} s\n{len(chosen) - failed} passed, {failed} failed", flush=True)
    return failed

def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the names of the checks")
    parser.add_argument("--voice", action="store_true", help="print how the code reads, in figures beside their aims")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these alone; a name may hold * and ?")
    cores = os.cpu_count() or 1
    parser.add_argument("--jobs", type=int, default=cores, metavar="N", help="checks at once, the cores shared among them (default: %(default)s)")
    args, chosen = parser.parse_args(argv), steps(root)
    if args.jobs < 1: parser.error(f"--jobs {args.jobs}: must be at least 1")
    for name in args.only or []:
        if not fnmatch.filter(chosen, name): parser.error(f"--only {name}: no such check, --list names them")
    if args.only: chosen = {n: c for n, c in chosen.items() if any(fnmatch.fnmatch(n, o) for o in args.only)}
    if args.voice: return print(voice.report(root, notebooks(root)))
    if args.list: return print(*chosen, sep="\n")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // args.jobs)))   # one thread a core, whatever runs beside
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return int(run_all(chosen, root, args.jobs) > 0)

if __name__ == "__main__": sys.exit(main())
