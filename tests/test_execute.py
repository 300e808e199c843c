"""tools/execute.py keeps what a reader sees of a notebook, and nothing else."""
import base64
import io
import subprocess
import sys
from pathlib import Path

import nbformat
from PIL import Image

TOOL = Path(__file__).parent.parent / "tools/execute.py"
NOISE = """import matplotlib.pyplot as plt
import numpy
figure, axes = plt.subplots(figsize=(5, 5))
axes.imshow(numpy.random.default_rng(0).random((60, 60, 3)), interpolation="bicubic")
plt.close(figure)
figure"""


def write(path, *sources):
    "A notebook of code cells; each holds the output `before`"
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    for cell in cells:
        cell.outputs = [nbformat.v4.new_output("stream", text="before\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def execute(*arguments):
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True)


def test_outputs_are_renewed_and_small(tmp_path):
    path = tmp_path / "a.ipynb"
    printing = "import sys\nprint(1, flush=True)\nsys.stderr.write('noise')\nprint(2)"
    write(path, printing, NOISE, "#| slow\nprint('not run')", "#| eval: false\nprint('nor this')")
    done = execute(path)
    assert done.returncode == 0, done.stderr
    first, picture, slow, left_out = nbformat.read(path, 4).cells
    assert [output.text for output in first.outputs] == ["1\n2\n"]
    assert slow.outputs[0].text == left_out.outputs[0].text == "before\n"
    raw = base64.b64decode(picture.outputs[0].data["image/jpeg"])
    assert len(raw) <= 100_000
    assert Image.open(io.BytesIO(raw)).width > 4 * 160  # the figure is 5 inches wide, its frame less


def test_slow_cells_run_when_asked(tmp_path):
    path = tmp_path / "a.ipynb"
    write(path, "#| slow\nprint('run')", "#| gpu\nprint('not run')")
    assert execute("--slow", path).returncode == 0
    assert [cell.outputs[0].text for cell in nbformat.read(path, 4).cells] == ["run\n", "before\n"]


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path, other = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    write(path, "print(1)", "1 / 0")
    write(other, "print(1)")
    before = path.read_bytes()
    done = execute(path, other)
    assert done.returncode == 1
    assert f"{path}: not written" in done.stderr and "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before
    assert nbformat.read(other, 4).cells[0].outputs[0].text == "1\n"


def test_what_cannot_be_executed_is_named(tmp_path):
    dies, text, missing = tmp_path / "dies.ipynb", tmp_path / "text.ipynb", tmp_path / "missing.ipynb"
    write(dies, "import os\nos._exit(1)")
    text.write_text("no notebook")
    before = dies.read_bytes()
    done = execute(dies, text, missing, tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [f"{path}: not written" in done.stderr for path in (dies, text, missing, tmp_path)] == [True] * 4
    assert dies.read_bytes() == before
