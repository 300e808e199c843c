"Every check finds the fault that it is there for, and passes a tree without it"
import base64, functools, importlib, re, shutil, subprocess, sys, threading
from pathlib import Path
from types import SimpleNamespace

import nbformat, pytest, yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import check, constraints, pages
from attnattack.runs import store

check.forks.set_forkserver_preload(["__main__", "nbdev.test"]) # the notebooks below need no more

PNG = base64.b64encode(b"\x89PNG" + bytes(60)).decode()
SETTINGS = (check.ROOT / "settings.ini").read_text()

def picture(data=PNG): return new_output("display_data", {"image/png": data})

def write(path, *sources, outputs=None, tags=None):
    "A notebook at `path`: text that starts with `# ` is markdown, the last code cell carries `outputs`, the first `tags`"
    cells = [new_markdown_cell(s) if s.startswith("# ") else new_code_cell(s) for s in sources]
    for i, c in enumerate(cells): c["id"] = f"{path.stem}-{i}"
    code = [c for c in cells if c.cell_type == "code"]
    if code:
        code[-1].outputs = [picture()] if outputs is None else outputs
        if tags: code[0].metadata["tags"] = tags
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)

def room(root, name, module, *sources, **kw):
    write(root / f"nbs/{name}.ipynb", f"# {module}\n> A room", f"#| default_exp {module}", *sources, **kw)

@pytest.fixture
def tree(tmp_path):
    "Two rooms, an index, an experiment, a module each"
    root = tmp_path / "project"
    room(root, "00_low", "low", "#| export\ndef one(): return 1", "one()")
    room(root, "01_high", "high", "#| export\nfrom attnattack.low import one", "%time one()")
    write(root / "nbs/index.ipynb", "# project\n> What it is", "# [low](00_low.ipynb), [top](../LICENSE), [away](https://semver.org)")
    write(root / "nbs/experiments/try.ipynb", "# try", "steps = 5 # of them\nout = '.'",
          "open(f'{out}/made', 'w').write('x' * steps)", tags=["parameters"])
    (root / "nbs/experiments/params").mkdir()
    (root / "nbs/experiments/params/smoke.yaml").write_text("try: {steps: 2}\n")
    (root / "attnattack").mkdir()
    (root / "settings.ini").write_text(SETTINGS)
    (root / "LICENSE").write_text("free")
    for name in "__init__", "low", "high": (root / f"attnattack/{name}.py").write_text("")
    pages.write_readme(root)
    return root

def only(faults, *words):
    "There is one fault and it says `words`"
    assert len(faults) == 1 and all(w in faults[0] for w in words), faults

# ---- the tree as it stands ----

quick = [check.import_order, check.stale_modules, check.sizes_and_outputs, check.links, check.params, check.readme]

@pytest.mark.parametrize("f", quick, ids=lambda f: f.__name__)
def test_sound_tree_passes(tree, f): assert f(tree) == []

@pytest.mark.parametrize("line", ["from attnattack.high import x", "import attnattack.high as h", "from attnattack import high",
                                  "from .high import x", "def f():\n    from attnattack.high import (\n        x)"])
def test_import_upward(tree, line):
    room(tree, "00_low", "low", line)
    only(check.import_order(tree), "00_low", "attnattack.high", "01_high")

def test_import_of_itself(tree):
    room(tree, "01_high", "high", "import attnattack.high")
    only(check.import_order(tree), "01_high")

LATENT, LAYOUT, TRUNK, COMMAND = "latent/01_attack", "layout/00_boxes", "03_hijack", "90_cli"
FLOORS = [(LATENT, TRUNK, True), (TRUNK, LATENT, False), (LATENT, LAYOUT, False), (LAYOUT, LATENT, False), (LATENT, "latent/00_walk", True),
          ("latent/00_walk", LATENT, False), (LATENT, "base/09_files", True), (TRUNK, "base/09_files", True), ("base/09_files", TRUNK, False),
          ("evaluate/00_pairs", LATENT, True), (LATENT, "evaluate/00_pairs", False), ("runs/00_run", "evaluate/00_pairs", True),
          ("evaluate/00_pairs", "runs/00_run", False), (COMMAND, "runs/00_run", True), ("runs/00_run", COMMAND, False), ("dit/00_maps", "flux/00_fill", False)]

@pytest.mark.parametrize("high, low, fits", FLOORS)
def test_floors(high, low, fits): assert check.may_import(low, high) == fits

@pytest.mark.parametrize("line", ["import attnattack.layout.boxes", "from attnattack.layout.boxes import x", "from ..layout.boxes import (x,\n    y)",
                                  "def f():\n    from attnattack.layout import boxes", "from attnattack.layout import draw_box"])
def test_wings_do_not_know_each_other(tree, line):
    room(tree, LAYOUT, "layout.boxes", "x = 1")
    room(tree, LATENT, "latent.attack", "import attnattack.high", line)
    only(check.import_order(tree)[:1], LATENT, LAYOUT, "lower floors")

@pytest.mark.parametrize("line", ["from . import attack", "from .attack import x", "from attnattack.latent import attack"])
def test_import_upward_in_a_folder(tree, line):
    room(tree, "latent/01_attack", "latent.attack", "x = 1")
    room(tree, "latent/00_walk", "latent.walk", line)
    only(check.import_order(tree), "latent/00_walk.ipynb", "latent/01_attack.ipynb", "lower numbers")

def test_rooms_in_folders(tree):
    room(tree, "latent/00_walk", "latent.walk")
    write(tree / "nbs/results/00_numbers.ipynb", "1")
    assert [p.name for p in check.rooms(tree)] == ["00_low.ipynb", "01_high.ipynb", "00_walk.ipynb"]
    assert "notebook:latent/00_walk" in check.steps(tree)
    only(check.stale_modules(tree), "attnattack/latent/walk.py: missing", "00_walk.ipynb exports it")
    (tree / "attnattack/latent").mkdir()
    for name in "__init__", "walk": (tree / f"attnattack/latent/{name}.py").write_text("")
    assert check.stale_modules(tree) == []

def test_index_and_experiments_import_anything(tree):
    write(tree / "nbs/index.ipynb", "import attnattack.high")
    write(tree / "nbs/experiments/try.ipynb", "from attnattack.high import x")
    assert check.import_order(tree) == []

def test_import_of_an_experiment(tree):
    room(tree, "00_low", "low", "import experiments.try_it")
    only(check.import_order(tree), "00_low", "experiment")

def test_experiment_exports(tree):
    write(tree / "nbs/experiments/try.ipynb", "#| default_exp tried", "#| export\nx = 1")
    only(check.import_order(tree), "try.ipynb", "tried")

def test_module_without_notebook(tree):
    (tree / "attnattack/old.py").write_text("")
    only(check.stale_modules(tree), "attnattack/old.py", "no notebook")

def test_notebook_without_module(tree):
    (tree / "attnattack/low.py").unlink()
    only(check.stale_modules(tree), "attnattack/low.py", "missing", "00_low")

def test_room_without_default_exp(tree):
    write(tree / "nbs/02_lost.ipynb", "1 + 1")
    only(check.stale_modules(tree), "02_lost", "default_exp")

def test_heavy_notebook(tree):
    room(tree, "00_low", "low", "#" * check.NOTEBOOK_BYTES)
    only(check.sizes_and_outputs(tree), "00_low", "1,000,000")

def test_heavy_picture(tree):
    room(tree, "00_low", "low", "1", outputs=[picture(base64.b64encode(bytes(check.PICTURE_BYTES + 1)).decode())])
    only(check.sizes_and_outputs(tree), "00_low", "100,001", "100,000")

def test_error_output(tree):
    room(tree, "00_low", "low", "1/0", outputs=[picture(), new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])])
    only(check.sizes_and_outputs(tree), "00_low", "ZeroDivisionError")

def test_not_executed(tree):
    room(tree, "00_low", "low", "1", outputs=[])
    only(check.sizes_and_outputs(tree), "00_low", "executed")

def test_dead_link(tree):
    room(tree, "00_low", "low", "# [gone](99_gone.ipynb#here), `[code](no_link)` and $a[b](c)$")
    only(check.links(tree), "00_low", "99_gone.ipynb")
    (tree / "NOTES.md").write_text("![](lost.png)")
    assert "NOTES.md: links to lost.png, which is not there" in check.links(tree)

def test_unknown_parameter_experiment_and_missing_smoke(tree):
    folder = tree / "nbs/experiments/params"
    (folder / "default.yaml").write_text("try: {stepz: 3}\n")
    only(check.params(tree), "default.yaml", "try", "stepz")
    (folder / "default.yaml").write_text("tri: {steps: 3}\n")
    only(check.params(tree), "default.yaml", "tri")
    (folder / "default.yaml").unlink()
    (folder / "smoke.yaml").write_text("")
    only(check.params(tree), "smoke.yaml", "try")

def test_stale_readme(tree):
    (tree / "README.md").write_text("old")
    only(check.readme(tree), "README.md", "make readme")

def test_readme_pictures(tree):
    write(tree / "nbs/index.ipynb", "# project", "draw()")
    assert len(check.readme(tree)) == 2   # the text and the picture
    pages.write_readme(tree)
    assert check.readme(tree) == [] and check.links(tree) == []
    (tree / pages.PICTURES / "left_over.png").write_bytes(b"")
    only(check.readme(tree), "left_over.png")

def test_readme_shows_links_outputs_and_code_that_is_not_hidden(tree):
    write(tree / "nbs/index.ipynb", "# project\n[a](00_low.ipynb) [b](../LICENSE) [c](https://semver.org) ![d](d.png)",
          "#| hide\nsecret()", "#| echo: false\ndrawn()", "#| readme: false\ntoo_long()", "shown()")
    text = pages.readme(tree)["README.md"].decode()
    assert all(s in text for s in ("(nbs/00_low.ipynb)", "(LICENSE)", "(https://semver.org)", "(nbs/d.png)", "![png](README_files/"))
    assert "```python\nshown()\n```" in text and not any(s in text for s in ("secret", "drawn", "too_long", "#|"))

def test_readme_describes_pictures(tree):
    write(path := tree / "nbs/index.ipynb", "# project", "drawn()")
    nb = nbformat.read(path, 4)
    nb.cells[-1].outputs[0].metadata["alt"] = "a log"
    nbformat.write(nb, path)
    assert "![a log](README_files/README_1_0.png)" in pages.readme(tree)["README.md"].decode()

def words_of(text):
    "Words that a reader reads: without code, link addresses and the bars of tables"
    text = re.sub(r"```.*?```|\]\([^)]*\)|!\[[^]]*", "", text, flags=re.S)
    return re.findall(r"[^\s|]*\w[^\s|]*", text)

def test_the_front_page_is_short_and_shows_python():
    assert words_of("# a b\n```python\nc()\n```\n[d](e) | f |---| ![g](h)") == ["a", "b", "[d", "f"]
    text = (check.ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)\n```", text, re.S)
    assert len(words_of(text)) <= 1000
    assert len(blocks) >= 5 and max(len(block.splitlines()) for block in blocks) <= 10
    assert "![png]" not in text, "a picture without a description"

def test_dependencies(tree):
    (tree / "pyproject.toml").write_text('[project]\ndependencies = ["nbformat", "yaml-of-mars; python_version < \'3\'"]')
    pin = f"nbformat=={nbformat.__version__}"
    (tree / "constraints.txt").write_text(f"# pins\n{pin}\n")
    assert check.dependencies(tree) == []
    (tree / "constraints.txt").write_text(f"{pin}9\n")
    only(check.dependencies(tree), "nbformat", f"{nbformat.__version__} is installed", f"{nbformat.__version__}9 is pinned")
    (tree / "constraints.txt").write_text("")
    only(check.dependencies(tree), "nbformat", "not pinned")
    (tree / "constraints.txt").write_text(f"{pin}\ntorchvision==1.0\n")
    only(check.dependencies(tree), "torchvision", "not wanted")

def test_imports_and_declarations(tree):
    wanted = """[project]
name = "attnattack"
dependencies = ["numpy"]
[project.optional-dependencies]
lab = ["ipywidgets"]
dev = ["attnattack[lab]", "nbformat"]
"""
    (tree / "pyproject.toml").write_text(wanted)
    (tree / "attnattack/low.py").write_text("import json\nimport numpy.linalg\n")
    (tree / "attnattack/layout").mkdir()
    (tree / "attnattack/layout/show.py").write_text("def f(): import ipywidgets\n")
    room(tree, "00_low", "low", "import nbformat")
    assert check.imports_declared(tree) == []
    (tree / "attnattack/layout/show.py").write_text("import ipywidgets\n")
    only(check.imports_declared(tree), "layout/show.py", "ipywidgets", "dependencies")
    (tree / "attnattack/layout/show.py").rename(tree / "attnattack/show.py")
    (tree / "attnattack/show.py").write_text("def f(): import ipywidgets\n")
    only(check.imports_declared(tree), "show.py", "ipywidgets", "the extra")
    (tree / "attnattack/show.py").write_text("")
    only(check.imports_declared(tree), "ipywidgets: in pyproject.toml, but nothing")
    (tree / "attnattack/layout/show.py").write_text("def f(): import ipywidgets\n")
    room(tree, "00_low", "low", "import nbformat, scipy")
    only(check.imports_declared(tree), "00_low", "scipy")

def test_types(tree):
    (tree / "pyproject.toml").write_text("[tool.mypy]\npackages = ['attnattack']\n")
    assert check.types(tree) == []
    (tree / "attnattack/low.py").write_text("def f() -> int:\n    return 'one'\n")
    assert "attnattack/low.py:2" in "\n".join(check.types(tree))

def promise(tree, *dependencies, pythons=("3.10", "3.13")):
    classifiers = [f"Programming Language :: Python :: {p}" for p in pythons]
    lines = ["[project]", 'name = "project"', 'version = "1"', f"dependencies = {list(dependencies)}", f"classifiers = {classifiers}"]
    (tree / "pyproject.toml").write_text("\n".join(lines))

def test_pins_of_each_python(tree):
    promise(tree, "numpy")
    (tree / "constraints.txt").write_text("numpy==2.2.6 ; python_full_version < '3.11'\nnumpy==2.4.6 ; python_full_version >= '3.11'\n")
    assert constraints.pythons(tree) == ["3.10", "3.13"]
    assert [constraints.pins(tree, p) for p in constraints.pythons(tree)] == [{"numpy": "2.2.6"}, {"numpy": "2.4.6"}]

def test_pins_that_do_not_go_together_on_another_python(tree):
    promise(tree, "nbclient")
    version, = (d.version for d in constraints.metadata.distributions() if d.name == "nbclient")
    pins = f"nbclient=={version}\nnbformat==1.0 ; python_version < '3.11'\nnbformat=={nbformat.__version__} ; python_version >= '3.11'\n"
    (tree / "constraints.txt").write_text(pins)
    assert constraints.conflicts(tree, "3.13") == []
    only(constraints.conflicts(tree, "3.10"), f"nbclient {version} wants nbformat>=", "1.0 is pinned for Python 3.10")

def pretend_uv(monkeypatch, code, said):
    "uv that ends with `code`"
    monkeypatch.setitem(sys.modules, "uv", SimpleNamespace(find_uv_bin=lambda: "uv"))
    real = subprocess.run
    done = SimpleNamespace(returncode=code, stderr=said)
    monkeypatch.setattr(constraints.subprocess, "run", lambda cmd, **kw: done if cmd[0] == "uv" else real(cmd, **kw))

def test_constraints_that_do_not_resolve(tree, monkeypatch, capsys):
    promise(tree, "nbformat", pythons=["3.12"])
    (tree / "constraints.txt").write_text(f"nbformat=={nbformat.__version__}\n")
    pretend_uv(monkeypatch, 0, "")
    assert check.constraints_resolve(tree) == [] and capsys.readouterr().out == ""
    pretend_uv(monkeypatch, 1, "No solution found")
    only(check.constraints_resolve(tree), "Python 3.12: No solution found")
    pretend_uv(monkeypatch, 2, "no network")
    assert check.constraints_resolve(tree) == [] and "not asked (no network)" in capsys.readouterr().out

def test_constraints_hold_the_running_versions():
    pinned, here = constraints.pins(check.ROOT), dict(l.split("==") for l in constraints.installed())
    assert len({*pinned} & {*here}) > 100 and "torch" in pinned and "+" not in here["torch"]

# ---- what runs something ----

def test_export_and_clean(tree):
    faults = check.export_clean(tree)
    assert any("attnattack/low.py" in f for f in faults) and any("attnattack/_modidx.py" in f for f in faults)
    assert (tree / "attnattack/low.py").read_text() == ""   # the tree itself is as it was
    for cmd in "nbdev_export", "nbdev_clean": assert check.run(check.BIN / cmd, cwd=tree)[0] == []
    assert check.export_clean(tree) == []
    (tree / "attnattack/low.py").open("a").write("by_hand = 1\n")
    only(check.export_clean(tree), "attnattack/low.py", "nbdev_export")

def test_unclean_notebook(tree):
    for cmd in "nbdev_export", "nbdev_clean": check.run(check.BIN / cmd, cwd=tree)
    path = tree / "nbs/00_low.ipynb"
    path.write_text(path.read_text().replace('"execution_count": null', '"execution_count": 7'))
    only(check.export_clean(tree), "nbs/00_low.ipynb", "nbdev_clean")

def test_notebook_runs(tree):
    run = functools.partial(check.notebook, root=tree)
    room(tree, "00_low", "low", "assert 1 == 1", "#| slow\nassert False", "#| gpu\nassert False")
    assert run(tree / "nbs/00_low.ipynb") == []
    room(tree, "00_low", "low", "assert 1 == 2, 'one is not two'")
    assert "one is not two" in "\n".join(run(tree / "nbs/00_low.ipynb"))
    only(run(tree / "nbs/02_gone.ipynb")[:1], "02_gone", "did not run it")
    room(tree, "00_low", "low", "import os; os._exit(3)")
    assert "exit code 3" in "\n".join(run(tree / "nbs/00_low.ipynb"))

def test_notebook_that_hangs(tree):
    room(tree, "00_low", "low", "import time; time.sleep(99)")
    assert "still running" in check.notebook(tree / "nbs/00_low.ipynb", tree, minutes=.05)[0]

def test_every_notebook_begins_afresh(tree):
    room(tree, "00_low", "low", "import json; json.seen = True")
    room(tree, "01_high", "high", "import json; assert not hasattr(json, 'seen')")
    assert [check.notebook(tree / f"nbs/{name}.ipynb", tree) for name in ("00_low", "01_high")] == [[], []]

def test_what_notebooks_load_beforehand_exists():
    for name in check.LOADED[1:]: importlib.import_module(name)   # the fork server would pass over a name that is not there

def test_notebook_leaves_no_temporary_folder(tree):
    room(tree, "00_low", "low", "import tempfile\nfolder = tempfile.TemporaryDirectory()\nopen('made', 'w').write(folder.name)")
    assert check.notebook(tree / "nbs/00_low.ipynb", tree) == []
    made = next(tree.rglob("made")).read_text()
    assert made and not Path(made).exists()

def test_experiment_runs_with_its_smoke_parameters(tree):
    path = tree / "nbs/experiments/try.ipynb"
    before = sorted(tree.rglob("*"))
    assert check.experiment(path, tree) == []
    assert sorted(tree.rglob("*")) == before
    write(path, "steps = 5", "assert steps == 3, f'steps is {steps}'", tags=["parameters"])
    assert "steps is 2" in "\n".join(check.experiment(path, tree))

def test_experiment_that_differs_from_run_to_run(tree):
    path = tree / "nbs/experiments/try.ipynb"
    write(path, "steps = 5\nout = ''", "import os, pathlib; pathlib.Path(out, 'metrics.json').write_text(f'{{\"loss\": {os.getpid()}}}');", tags=["parameters"])
    assert "metrics.json: loss: " in "\n".join(check.experiment(path, tree))

def test_command_that_hangs(tree): only(check.run("sleep", "9", cwd=tree, minutes=.01)[0], "still running", "sleep 9")

def test_a_failing_test_fails_the_step(tree):
    (tree / "tests").mkdir()
    (tree / "tests/test_it.py").write_text("def test_it(): assert 'black' == 'white'")
    assert "'white'" in "\n".join(check.tests(tree))

def test_what_is_skipped_is_said(capsys, tree):
    (tree / "tests").mkdir()
    (tree / "tests/test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('no browser')")
    assert check.tests(tree) == [] and "no browser" in capsys.readouterr().out

# ---- the runner ----

def broken(root): raise OSError("disk on fire")

def test_closing_line(capsys, tree):
    assert check.run_all({"good": lambda root: [], "bad": lambda root: ["a fault"], "broken": broken}, tree) == 2
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "1 passed, 2 failed"
    assert "a fault" in out and "OSError: disk on fire" in out

def test_checks_run_side_by_side(tree):
    both = threading.Barrier(2, timeout=9)
    def meets(root): both.wait(); return []
    assert check.run_all({"one": meets, "other": meets}, tree, jobs=2) == 0

def test_exit_codes_and_choice(capsys, tree):
    assert check.main(["--only", "import-order", "stale-*"], tree) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 passed, 0 failed"
    (tree / "attnattack/old.py").write_text("")
    assert check.main(["--only", "stale-modules"], tree) == 1
    with pytest.raises(SystemExit) as e: check.main(["--only", "no-such"], tree)
    assert e.value.code == 2 and "no-such" in capsys.readouterr().err
    with pytest.raises(SystemExit) as e: check.main(["--jobs", "0"], tree)
    assert e.value.code == 2 and "--jobs 0: must be at least 1" in capsys.readouterr().err

def test_list_names_every_notebook(capsys, tree):
    check.main(["--list"], tree)
    names = capsys.readouterr().out.split()
    assert {"notebook:00_low", "notebook:index", "experiment:try", "selftest"} <= set(names) and "notebook:try" not in names

# ---- self-tests die of a planted fault ----

PLANTED = { # module → what is replaced, by what
    "runs.order": ("FLOORS", {}),                                                          # all folders on one floor
    "runs.parameters": ("from_yaml", yaml.safe_load),                                      # 010 is 8
    "runs.provenance": ("without_timings", lambda value: value),                           # clocks are results
    "runs.runner": ("_is_finished", lambda folder, id: False),                             # made a second time
    "runs.store": ("state_of", lambda folder: store.State(folder, "finished")),            # whatever the folder holds
    "runs.plan": ("_draw", lambda name, spec, generator: .5),                              # every draw is the same
    "runs.sweeps": ("_command", lambda *a: [sys.executable, "-c", "pass"]),                # nothing is run
    "runs.verification": ("_notebook", lambda manifest, given: Path(manifest["notebook"])), # the manifest chooses what is run
    "runs.notebook_page": ("escape", lambda text: text),                                   # text is read as HTML
    "runs.report_page": ("ranked", lambda runs, metric, least: runs),                      # the best run is any
    "cli": ("exit_code", lambda e: 1),                                                # wrong usage is a failure
}

@pytest.mark.parametrize("name", PLANTED)
def test_a_self_test_dies_of_a_planted_fault(name, monkeypatch):
    module = importlib.import_module(f"attnattack.{name}")
    monkeypatch.setattr(module, *PLANTED[name])
    with pytest.raises(AssertionError): module._selftest()

# ---- the Makefile ----

def test_make_without_a_fitting_python(tmp_path):
    for name in "Makefile", "pyproject.toml", "constraints.txt": shutil.copy(check.ROOT / name, tmp_path)
    done = subprocess.run(["make", "test", "PYTHON=no-such-python"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode and "PYTHON=no-such-python: not a Python of 3.10 or newer" in done.stderr and not (tmp_path / ".venv").exists()

def test_make_prints_its_targets():
    out = subprocess.run(["make"], cwd=check.ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"make {t}" in out for t in ("run", "test", "lab", "docs", "readme", "constraints", "clean"))
