"""The notebooks as a reader sees them; `python tools/pages.py` makes README.md from nbs/index.ipynb."""
import logging, posixpath, re, shutil
from pathlib import Path

import nbformat
from attnattack.runs import build_order
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
PICTURES = "README_files"   # beside README.md
LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)[^)\s]+(?=\))")   # the target of a relative link
logging.getLogger("traitlets").setLevel(logging.ERROR)   # nbconvert's note that matplotlib's pictures carry no alternative text

NO_ROOMS = ("experiments", "results")   # folders of nbs/

def name_of(root, path):
    "A notebook by its place: `03_hijack`, `latent/01_attack`"
    return path.relative_to(root / "nbs").with_suffix("").as_posix()

def is_room(root, path):
    "Is this a numbered notebook in nbs/ or in a folder of rooms?"
    folder, _, name = name_of(root, path).rpartition("/")
    return folder.split("/")[0] not in NO_ROOMS and name[:2].isdigit()

def _reading_order(root, path):
    "The index, the rooms as they are built, the rest"
    place = name_of(root, path)
    if is_room(root, path): return 1, build_order(place)
    return (0 if place == "index" else 2), (0, *place.rpartition("/")[::2])

def notebooks(root):
    "Every notebook, in the order of reading"
    found = [p for p in (root / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts]
    return sorted(found, key=lambda p: _reading_order(root, p))

def visible(nb):
    "A notebook without its `#| hide` cells and `#|` lines"
    nb.cells = [c for c in nb.cells if not re.search(r"^#\|\s*hide\s*$", c.source, re.M)]
    for c in nb.cells:
        if re.search(r"^#\|\s*echo: false\s*$", c.source, re.M): c.metadata["transient"] = {"remove_source": True}
        c.source = re.sub(r"^#\|.*\n?", "", c.source, flags=re.M)
    return nb

def relink(nb, where):
    "The targets of the relative links in markdown, cells and outputs, each put through `where`"
    def moved(text): return LINK.sub(lambda m: where(m[0]), text)
    for c in nb.cells:
        if c.cell_type == "markdown": c.source = moved(c.source)
        for data in (o.data for o in c.get("outputs", []) if "text/markdown" in o.get("data", {})):
            data["text/markdown"] = moved(data["text/markdown"])
    return nb

def title(path):
    "A notebook's heading and the line below it"
    first = next((c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"), "")
    found = re.match(r"#\s+(.+)(?:\s+>\s*(.+))?", first)
    return (found[1].strip(), (found[2] or "").strip()) if found else (path.stem, "")

def descriptions(nb):
    "A picture's file → what it shows, where its cell says so"
    outputs = [(i, k, o) for i, c in enumerate(nb.cells) for k, o in enumerate(c.get("outputs", []))]
    return {f"{PICTURES}/README_{i}_{k}.png": o.metadata["alt"] for i, k, o in outputs if "alt" in o.get("metadata", {})}

def short(nb):
    "A notebook without its `#| readme: false` cells"
    nb.cells = [c for c in nb.cells if not re.search(r"^#\|\s*readme: false\s*$", c.source, re.M)]
    return nb

def readme(root):
    "README.md and its pictures: path to content"
    nb = visible(short(nbformat.read(root / "nbs/index.ipynb", 4)))
    nb = relink(nb, lambda to: posixpath.normpath("nbs/" + to))
    nb.metadata["language_info"] = {"name": "python"}   # which nbdev_clean takes out
    body, res = MarkdownExporter().from_notebook_node(nb, {"output_files_dir": PICTURES, "unique_key": "README"})
    body = re.sub(r"!\[png\]\((.+?)\)", lambda m: f"![{descriptions(nb).get(m[1], 'png')}]({m[1]})", body)
    body = re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"
    return {"README.md": body.encode(), **res.get("outputs", {})}

def write_readme(root):
    shutil.rmtree(root / PICTURES, ignore_errors=True)
    for name, data in readme(root).items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)

if __name__ == "__main__":
    write_readme(ROOT)
    print("README.md")
