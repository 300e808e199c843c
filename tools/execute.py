"""Execute notebooks in place and keep what a reader sees of them: text, tables, pictures of twice the usual size.

    python tools/execute.py nbs/09_patch.ipynb nbs/latent/*.ipynb
    python tools/execute.py --slow nbs/tour.ipynb     also its `slow` cells

Cells that the checks do not run (`slow`, `gpu`, `eval: false`) keep the outputs that they have.
"""
import argparse
import base64
import io
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from check import PICTURE_BYTES
from attnattack.base.files import atomic_path
from attnattack.runs.runner import private_kernel

DOTS = 160  # per inch, of figures that do not say otherwise
WIDGET = "application/vnd.jupyter.widget-view+json"
BEGIN = f"%matplotlib inline\nimport matplotlib\nmatplotlib.rcParams['figure.dpi'] = {DOTS}\ndel matplotlib"


def directives(source):
    "The words after `#|`, a list for each such line"
    lines = [line.strip() for line in source.splitlines()]
    return [line[2:].replace(":", " ").split() for line in lines if line.startswith("#|")]


def is_skipped(cell, slow):
    "Do the checks leave this cell out?"
    if cell.cell_type != "code":
        return True
    left_out = [["gpu"], ["eval", "false"]] + ([] if slow else [["slow"]])
    return any(words in left_out for words in directives(cell.source))


def smaller(raw):
    "A picture that is too large, as the best JPEG that is not"
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    for quality in (90, 85, 80, 75, 70, 60, 50):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= PICTURE_BYTES:
            return file.getvalue()
    raise ValueError(f"a picture of {picture.width} x {picture.height} pixels does not fit into {PICTURE_BYTES:,} bytes")


def fit_pictures(output):
    "Pictures of one output, none too large"
    for kind in ("image/png", "image/jpeg"):
        raw = base64.b64decode(output.get("data", {}).get(kind, ""))
        if len(raw) <= PICTURE_BYTES:
            continue
        del output.data[kind]
        output.data["image/jpeg"] = base64.b64encode(smaller(raw)).decode()
        if kind in output.metadata:
            output.metadata["image/jpeg"] = output.metadata.pop(kind)


def tidy(outputs):
    "Outputs without warnings and widgets; what was printed in pieces is one text"
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        if WIDGET in output.get("data", {}):
            continue
        if output.output_type == "execute_result":
            output.execution_count = None
        fit_pictures(output)
        kept.append(output)
    return kept


def run_cells(client, slow):
    "Run the cells of the client's notebook, one after the other"
    with client.setup_kernel():
        for index, cell in enumerate(client.nb.cells):
            if is_skipped(cell, slow):
                continue
            client.execute_cell(cell, index)
            cell.outputs = tidy(cell.outputs)
            cell.execution_count = None
            cell.metadata.pop("execution", None)


def execute(path, slow=False):
    "Run one notebook in its own folder and write it, if no cell fails"
    notebook = nbformat.read(path, 4)
    place = {"metadata": {"path": str(path.parent)}}
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEGIN))
    with private_kernel() as config:
        client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=place, config=config)
        run_cells(client, slow)
    del notebook.cells[0]
    with atomic_path(path) as temporary:
        nbformat.write(notebook, temporary)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--slow", action="store_true", help="run the cells marked `slow` too")
    options = parser.parse_args()
    failed = 0
    for path in options.notebooks:
        begun = time.time()
        try:
            execute(path, options.slow)
        except (CellExecutionError, DeadKernelError, OSError, ValueError) as error:
            failed += 1
            print(f"{path}: not written: {str(error).strip()}", file=sys.stderr, flush=True)
        else:
            print(f"{path}: {time.time() - begun:.0f} s", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
