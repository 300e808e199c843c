"""Faults are planted in a copy of the package, one at a time, and each is to be found by a test.

A fault is a line of `MUTANTS`: module, function, a fragment of it that occurs once, and what takes its place.
It is tried against the module's minimal test, then the room's test cells, then a file of tests. What none of
them notices has survived. mutmut and cosmic-ray do not fit: they change operators blindly, start a process for
each fault (8 s of imports), and do not know tests that stand in notebooks."""
import argparse
import ast
import compileall
import gc
import importlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mutant_list import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120  # of the processor that one judge may take; a fault that makes it endless is found, too
TELLING = {"print", "plt", "ax", "fig", "show_images", "Table", "display"}  # calls that change nothing
PATIENCE = 2  # times as long on the clock, where others use the machine
TESTS = {  # the first part of a module's name → the file of tests that is asked last
    "hijack": "test_hijack", "release": "test_hijack", "attack": "test_resume", "patch_run": "test_resume",
    "latent": "test_latent", "layout": "test_layout", "flux": "test_semantic", "dit": "test_dit",
    "evaluate": "test_evaluate", "runs": "test_sweep", "cli": "test_cli", "commands": "test_cli",
}


@dataclass(frozen=True)
class Mutant:
    "One planted fault"
    module: str       # "latent.attack"
    function: str     # "attack", or "Class.method"
    fragment: str     # occurs once in the function
    replacement: str

    @property
    def file(self):
        "Its file in the package"
        return self.module.replace(".", "/") + ".py"

    def __str__(self):
        return f"{self.module}.{self.function}: {self.fragment!r} → {self.replacement!r}"


@dataclass(frozen=True)
class Verdict:
    "What became of a fault"
    mutant: Mutant
    killed: bool
    by: str        # selftest, cell N, a file of tests, or empty
    seconds: float


# ---- the list

def names_of(node):
    "What a statement defines"
    return [getattr(node, "name", None), *(getattr(t, "id", None) for t in getattr(node, "targets", ()))]


def function_span(text, name):
    "(start, end) of a function, class or constant in a module's text"
    node = ast.parse(text)
    for part in name.split("."):
        found = [n for n in ast.iter_child_nodes(node) if part in names_of(n)]
        if len(found) != 1:
            raise ValueError(f"{name}: {len(found)} definitions of {part}, must be one")
        node = found[0]
    ends = [0]
    for line in text.splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    return ends[node.lineno - 1], ends[node.end_lineno]


def mutated(
    text: str,  # of the module
    mutant: Mutant,
) -> str:
    "The module's text with the fault in it; an entry that does not fit is a `ValueError` of one line"
    try:
        start, end = function_span(text, mutant.function)
    except ValueError as error:
        raise ValueError(f"{mutant.module}: {error}") from None
    body = text[start:end]
    if body.count(mutant.fragment) != 1:
        raise ValueError(f"{mutant}: {body.count(mutant.fragment)} times in the function, must be once")
    changed = body.replace(mutant.fragment, mutant.replacement)
    try:
        ast.parse(text[:start] + changed + text[end:])
    except SyntaxError as error:
        raise ValueError(f"{mutant}: is no Python any more ({error.msg})") from None
    return text[:start] + changed + text[end:]


def fault_of(package, mutant):
    "What is wrong with an entry, or None"
    try:
        mutated((package / mutant.file).read_text("utf-8"), mutant)
    except OSError:
        return f"{mutant.module}: no such module"
    except ValueError as error:
        return str(error)
    return None


def found_again(package, mutant):
    "The entry with the module to which its function has moved; itself where there is no such module, or several"
    paths = [p for p in package.rglob("*.py") if p.name != "_modidx.py"]
    modules = [".".join(p.relative_to(package).with_suffix("").parts) for p in paths]
    moved = [m for name in modules if fault_of(package, m := replace(mutant, module=name)) is None]
    return moved[0] if len(moved) == 1 else mutant


def read_mutants(
    package=ROOT / "attnattack",
    entries=MUTANTS,
) -> list:
    "The list, each entry checked against the package; functions that have moved to another module are followed"
    found = []
    for mutant in (Mutant(*entry) for entry in entries):
        found.append(mutant if fault_of(package, mutant) is None else found_again(package, mutant))
    faults = [fault for mutant in found if (fault := fault_of(package, mutant))]
    if len(set(found)) != len(found):
        faults.append("an entry stands in the list twice")
    if faults:
        raise ValueError("\n".join(faults))
    return found


# ---- judges; each runs in a process of its own

def room_of(package, module):
    "The notebook that a module comes from"
    head = (package / (module.replace(".", "/") + ".py")).read_text("utf-8")
    return re.search(r"^# AUTOGENERATED! .*/nbs/(\S+\.ipynb)", head, re.M)[1]


def plain_cells(notebook):
    "Position → source of the cells that are not exported and that every machine can run"
    skipped = re.compile(r"^#\|\s*(export|exporti|slow|gpu|eval:\s*false)\b", re.M)
    cells = [c for c in json.loads(notebook.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    sources = enumerate("".join(c["source"]) for c in cells)
    return {i: source for i, source in sources if not skipped.search(source)}


def names_in(source):
    "(names that a cell binds, names that it reads)"
    nodes = list(ast.walk(ast.parse(source)))
    named = [n for n in nodes if isinstance(n, ast.Name)]
    bound = {n.id for n in named if isinstance(n.ctx, ast.Store)} | {getattr(n, "name", None) for n in nodes}
    aliases = [a for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names]
    bound |= {(a.asname or a.name).split(".")[0] for a in aliases}
    calls = [n.value.func for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    bound |= {n.id for call in calls for n in ast.walk(call) if isinstance(n, ast.Name)} - TELLING # it may be changed
    return bound, {n.id for n in named if isinstance(n.ctx, ast.Load)}


TESTING = re.compile(r"\btest_|\bassert\b|\braises\b|\bimport \*")


def testing_functions(cells):
    "The names of functions that a notebook defines for its tests"
    nodes = (node for source in cells.values() for node in ast.walk(ast.parse(source)))
    return {n.name for n in nodes if isinstance(n, ast.FunctionDef) and TESTING.search(ast.unparse(n))}


def test_cells(notebook):
    "Position → source of the cells that test something, and of those that they need"
    cells, wanted, kept = plain_cells(notebook), set(), {}
    testers = testing_functions(cells)
    for i in sorted(cells, reverse=True):
        bound, read = names_in(cells[i])
        if TESTING.search(cells[i]) or read & testers or bound & wanted:
            wanted |= read
            kept[i] = cells[i]
    return dict(sorted(kept.items()))


def fresh_module(copy, module):
    "The module, imported from the copy and nowhere else"
    for name in [n for n in sys.modules if n.split(".")[0] == "attnattack"]:
        del sys.modules[name]
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    found = importlib.import_module(f"attnattack.{module}")
    assert Path(found.__file__).is_relative_to(copy), f"{found.__file__} is not the copy's"
    return found


def ask_selftest(copy, module, say):
    "The module's minimal test"
    say("selftest")
    fresh_module(copy, module)._selftest()


def ask_room(copy, module, say):
    "The test cells of the module's room, in the module's own namespace"
    notebook = copy / "nbs" / room_of(copy / "attnattack", module)
    say("import")
    found = fresh_module(copy, module)
    sys.modules["__main__"], space = found, vars(found) # a notebook's names are those of __main__
    os.chdir(notebook.parent)
    for i, source in test_cells(notebook).items():
        say(f"cell {i}")
        exec(compile(source, f"{notebook.name}[{i}]", "exec"), space)


def ask_tests(copy, module, say):
    "The file of tests that belongs to the module"
    name = TESTS.get(module.split(".")[0], "test_doors")
    say(f"tests/{name}.py")
    fresh_module(copy, module)
    os.chdir(ROOT)
    import pytest
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    assert pytest.main([*options, str(ROOT / f"tests/{name}.py")]) == 0


def quiet_child(scratch):
    "Nothing on the terminal, no windows, a folder of its own for temporary files"
    sink = os.open(scratch / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(sink, number)
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    os.environ.update(TMPDIR=str(scratch), HF_HUB_OFFLINE="1", ATTNATTACK_TESTED="1")
    tempfile.tempdir = None
    import builtins
    builtins.display = lambda *args, **more: None


def judged(judge, copy, module, seconds=SECONDS * PATIENCE):
    "None if the judge finds nothing wrong, else what it was doing when something was"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                quiet_child(scratch)
                judge(copy, module, (scratch / "at").write_text)
                code = 0
            except BaseException as error:
                (scratch / "why").write_text(f"{type(error).__name__}: {error}"[:300])
            finally:
                os._exit(code)
        ended = wait_for(child, seconds)
        at = (scratch / "at").read_text() if (scratch / "at").exists() else "start"
        why = (scratch / "why").read_text() if (scratch / "why").exists() else "it did not end"
        return None if ended == 0 else (at, why)


def wait_for(child, seconds):
    "The exit status of a child, which is killed with all that it started when its time is over"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(.01)
    else:
        status = 1
    try:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError, PermissionError):
        pass
    return status


# ---- the copy

def warm_copy(folder):
    "A copy of the package, compiled; all that it needs is imported here, once"
    copy = Path(folder)
    for path in (ROOT / "attnattack").rglob("*.py"):
        to = copy / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    (copy / "attnattack/assets").symlink_to(ROOT / "attnattack/assets")
    shutil.copytree(ROOT / "nbs", copy / "nbs") # a fault may write beside a room
    for name in ("tests", "tools", "data", "pyproject.toml", "settings.ini"):
        (copy / name).symlink_to(ROOT / name)
    compileall.compile_dir(copy / "attnattack", quiet=2)
    import fastcore.test
    import matplotlib
    matplotlib.use("agg")
    sys.path.insert(0, str(copy))
    for path in sorted((copy / "attnattack").rglob("*.py")):
        if path.stem not in ("__main__", "_modidx"):
            importlib.import_module(".".join(path.relative_to(copy).with_suffix("").parts))
    gc.collect()
    gc.freeze()
    return copy


def processor_seconds():
    "Of this process and of those that it has waited for"
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in both)


def try_mutant(copy, mutant, judges):
    "Plant a fault, ask the judges in turn, and take it out again"
    file = copy / "attnattack" / mutant.file
    whole, start = file.read_text("utf-8"), processor_seconds()
    file.write_text(mutated(whole, mutant), "utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
        compiled.unlink()
    try:
        for judge in judges:
            found = judged(judge, copy, mutant.module)
            if found is not None:
                return Verdict(mutant, True, found[0], processor_seconds() - start)
        return Verdict(mutant, False, "", processor_seconds() - start)
    finally:
        file.write_text(whole, "utf-8")


def sane(copy, modules, judges):
    "Judges that find a fault where there is none: module → what they said"
    wrong = {}
    for module in modules:
        for judge in judges:
            start = processor_seconds()
            found = judged(judge, copy, module)
            took = processor_seconds() - start
            print(f"as it is  {module:28} {judge.__name__:13} {took:6.1f} s  {found or ''}", flush=True)
            if found is not None:
                wrong.setdefault(module, []).append((judge.__name__, *found))
    return wrong


def table(verdicts):
    "What is kept: the counts, and each fault by name"
    alive = [str(v.mutant) for v in verdicts if not v.killed]
    seconds = round(sum(v.seconds for v in verdicts))
    return dict(tried=len(verdicts), killed=len(verdicts) - len(alive), survived=alive, seconds=seconds,
                verdicts=[asdict(v) for v in verdicts])


def kept_verdicts(file, chosen):
    "What an earlier start has written, of those that are asked for again"
    if not (file and file.exists()):
        return []
    rows = json.loads(file.read_text("utf-8"))["verdicts"]
    found = [Verdict(**row | dict(mutant=Mutant(**row["mutant"]))) for row in rows]
    return [verdict for verdict in found if verdict.mutant in chosen]


def told(verdicts):
    "The counts"
    found = table(verdicts)
    print(f"{found['tried']} faults: {found['killed']} killed, {len(found['survived'])} survived, "
          f"{found['seconds']} s of processor")
    return 0


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose line holds this")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth of them (default: all)")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="first", help="after the first N")
    parser.add_argument("--most", type=int, metavar="N", help="at most N verdicts, those that --to holds included")
    parser.add_argument("--list", action="store_true", help="check the list, and print it")
    parser.add_argument("--sane", action="store_true", help="ask the judges about the package as it is, first")
    parser.add_argument("--no-tests", action="store_true", help="do not ask the files of tests")
    parser.add_argument("--to", type=Path, metavar="FILE.json", help="where the verdicts go")
    args = parser.parse_args(argv)
    chosen = [m for m in read_mutants() if args.only in str(m)][args.first::args.every]
    if args.list:
        print(*chosen, f"{len(chosen)} faults", sep="\n")
        return 0
    judges = [ask_selftest, ask_room, ask_tests][:2 if args.no_tests else 3]
    verdicts = kept_verdicts(args.to, chosen)
    chosen = [m for m in chosen if m not in {v.mutant for v in verdicts}]
    if args.most is not None:
        chosen = chosen[:max(0, args.most - len(verdicts))]
    if not chosen:
        return told(verdicts)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = warm_copy(Path(folder).resolve())
        if args.sane:
            wrong = sane(copy, dict.fromkeys(m.module for m in chosen), judges[:2])
            chosen = [m for m in chosen if m.module not in wrong]
        for mutant in chosen:
            verdicts.append(verdict := try_mutant(copy, mutant, judges))
            word = f"killed by {verdict.by}" if verdict.killed else "SURVIVED"
            print(f"{word:28} {verdict.seconds:6.1f} s  {mutant}", flush=True)
            if args.to:
                args.to.write_text(json.dumps(table(verdicts), indent=1) + "\n", "utf-8")
    return told(verdicts)


if __name__ == "__main__":
    sys.exit(main())
