"""Each rule of tools/voice.py finds the fault that is planted for it, and lets good code pass."""
import json

import pytest
import voice


@pytest.mark.parametrize("text, faults", [
    ("x = 1\n", 0),
    ("x = 1; y = 2\n", 1),
    ("import os; import re\n", 0),
    ("import os; x = 1\n", 1),
    ("if True:\n    a = 1; b = 2\n", 1),
    ("text = 'a; b'  # c; d\n", 0),
    ("def f():\n    return 1; \n", 1),
])
def test_semicolons(text, faults):
    assert len(voice.semicolons("m.py", text)) == faults


@pytest.mark.parametrize("text, faults", [
    ("try:\n    f()\nexcept OSError as e:\n    if 'full' in str(e): raise\n", 1),
    ("try:\n    f()\nexcept OSError as e:\n    if str(e).startswith('full'): raise\n", 1),
    ("try:\n    f()\nexcept OSError as e:\n    if e.errno == 28: raise\n", 0),
    ("if event.text.endswith('already'): pass\n", 1),
    ("if 'x' in error.args[0]: pass\n", 1),
    ("if name.startswith('attn'): pass\n", 0),
    ("if 'x' in names: pass\n", 0),
    ("print(str(e))\n", 0),
])
def test_message_decisions(text, faults):
    assert len(voice.message_decisions("m.py", text)) == faults


def test_long_lines():
    assert not voice.long_lines("m.py", "x" * 110)
    assert len(voice.long_lines("m.py", "x\n" + "x" * 111)) == 1
    assert not voice.long_lines("m.py", "# %% " + "x" * 200)


def test_path_changes():
    assert len(voice.path_changes("m.py", "import sys\nsys.path.insert(0, 'x')\n")) == 1
    assert not voice.path_changes("m.py", "import os\nos.path.join('a')\n")


def house(tmp_path, **texts):
    "A tree with some modules"
    (tmp_path / "attnattack").mkdir()
    for name, text in texts.items():
        (tmp_path / f"attnattack/{name}.py").write_text(text)
    return tmp_path


def test_shared_names(tmp_path):
    root = house(tmp_path, a="__all__ = ['f', 'g']", b="__all__ = ['h', 'f']")
    assert voice.shared_names(root) == ["attnattack/b.py: defines f, which attnattack/a.py defines too"]


def notebook(tmp_path, text, **metadata):
    "A notebook with one output"
    output = dict(output_type="stream", name="stdout", text=[text])
    cell = dict(cell_type="code", source=["f()"], outputs=[output], metadata={}, execution_count=1, id="a")
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(dict(cells=[cell], metadata=metadata, nbformat=4, nbformat_minor=5)))
    return path


@pytest.mark.parametrize("text", [
    "Loading weights: 100%", " 45%|████▌     | 9/20", "a.py:3: FutureWarning: old", "9/20 [00:01<00:02, 3.1it/s]",
])
def test_noise(tmp_path, text):
    assert len(voice.noise(tmp_path, [notebook(tmp_path, text)])) == 1


def test_no_noise(tmp_path):
    assert not voice.noise(tmp_path, [notebook(tmp_path, "accuracy 45% (n 20)")])
    assert voice.noise(tmp_path, [notebook(tmp_path, "", widgets={})]) == [
        "a.ipynb: holds the state of widgets, must be cleaned"]


def experiment(root, name, *sources):
    "A tree with one experiment"
    (root / "nbs/experiments").mkdir(parents=True, exist_ok=True)
    cells = [dict(cell_type="code", source=source.splitlines(keepends=True)) for source in sources]
    (root / f"nbs/experiments/{name}.ipynb").write_text(json.dumps(dict(cells=cells)))
    return root


@pytest.mark.parametrize("source, fault", [
    ("x = 1\n" + "y" * 111, ":2: 111 characters, must be at most 110"),
    ("x = 1; y = 2", ":1: a `;`, must be one statement a line"),
    ("import sys\nsys.path.append('.')", ":2: uses sys.path, must import from the package"),
    ("if 'full' in error.args[0]: pass",
     ":1: decides on the text of a message, must decide on a type or a field"),
])
def test_experiments(tmp_path, source, fault):
    root = experiment(tmp_path, "study", "a = 0", source)
    assert voice.experiments(root) == [f"nbs/experiments/study.ipynb: cell 1{fault}"]


def test_good_experiments(tmp_path):
    assert not voice.experiments(experiment(tmp_path, "study", "x = 1\ny = 2", "%matplotlib inline; x\n!ls"))


def facts(tmp_path, description="a house", python="3.10", license="Apache-2.0"):
    "settings.ini, and a pyproject.toml that may differ from it"
    (tmp_path / "settings.ini").write_text(
        "[DEFAULT]\nlib_name = attnattack\ndescription = a house\nmin_python = 3.10\nauthor = we\nlicense = apache2\n")
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "attnattack"\ndescription = "{description}"\nrequires-python = ">={python}"\n'
        f'license = "{license}"\nauthors = [{{name = "we"}}]\n')
    return tmp_path


def test_same_facts(tmp_path):
    assert not voice.same_facts(facts(tmp_path))
    for other in (dict(description="a hut"), dict(python="3.9"), dict(license="MIT")):
        assert len(voice.same_facts(facts(tmp_path, **other))) == 1


def test_figures(tmp_path):
    root = house(tmp_path, a="__all__ = []\ndef f(x):\n    y = x; longer = y\n    return longer\n")
    cells = [dict(cell_type="code", source="a\n" * n) for n in (3, 20)]
    (tmp_path / "n.ipynb").write_text(json.dumps(dict(cells=cells)))
    found = voice.figures(root, [tmp_path / "n.ipynb"])
    assert found["one_letter_names"] == 2 / 4     # x, y of __all__, x, y, longer
    assert found["semicolons_in_100_lines"] == 25
    assert found["cells_of_12_lines"] == .5
    assert found["long_cell_lines"] == 0
    cells.append(dict(cell_type="code", source="x" * 111))
    (tmp_path / "n.ipynb").write_text(json.dumps(dict(cells=cells)))
    assert voice.figures(root, [tmp_path / "n.ipynb"])["long_cell_lines"] == 1
    assert "aim: about 48" in voice.report(root, [tmp_path / "n.ipynb"])
