"""The documentation: `python tools/handbook.py` makes _docs/ from the notebooks and the code's comments, without network."""
import configparser, os, re, shutil, subprocess, sys, tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell

from pages import ROOT, is_room, name_of, notebooks, title, visible

LAB = "http://localhost:8888/lab/tree"   # where `make lab` serves nbs/
TEXTS = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "data/README.md")   # what notebooks link to
WINGS = ("base", "scenes", "latent", "layout", "flux", "dit", "evaluate", "runs")   # by their floors
FRONT = "nbs/index.html"
ANCHOR = re.compile(r"(\]\([^)\s:]*#)([^)\s]+)")   # of a relative link: what is before it, its name

# ---- a notebook as a page ----

def colab(root, place):
    "A notebook's address in Colab, which reads GitHub alone; None while the project is elsewhere"
    settings = configparser.ConfigParser()
    settings.read(root / "settings.ini")
    home = os.environ.get("ATTNATTACK_REPOSITORY") or settings["DEFAULT"]["git_url"]
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", home)
    return found and f"https://colab.research.google.com/github/{found[1]}/blob/main/nbs/{place}.ipynb"

def open_elsewhere(root, place):
    "The line below a page's title"
    links = [f'[Open in JupyterLab]({LAB}/{place}.ipynb "while `make lab` runs")']
    if address := colab(root, place):
        links.append(f"[Open in Colab]({address})")
    return new_markdown_cell(" · ".join(links))

def describe(cells):
    "Every picture gets an alternative text: its own, else the heading above it and the sentence before it"
    heading, sentence = "", ""
    for cell in cells:
        if cell.cell_type == "markdown":
            heading = ([heading] + re.findall(r"^#+ (.+)$", cell.source, re.M))[-1]
            prose = re.sub(r"^[#|>].*$|\]\([^)]*\)|\[", "", cell.source, flags=re.M)
            sentence = ([""] + re.findall(r"\S[^.\n]*\.", prose))[-1]
            continue
        own = [o.metadata.alt for o in cell.get("outputs", []) if "alt" in o.get("metadata", {})]
        text = own[0] if own else f"{heading}: {sentence}" if sentence else heading
        cell.metadata["mystnb"] = {"image": {"alt": re.sub(r"[`*$\\]", "", text)}}

def fold(cell, is_index):
    "Hide code that only draws an index's diagram, fold code that only makes a table"
    kinds = [set(output.get("data", ())) for output in cell.get("outputs", ())]
    if is_index or "echo: false" in cell.source:
        cell.metadata["tags"] = ["remove-input"]
    elif kinds and all(kind == {"text/markdown", "text/plain"} for kind in kinds):
        cell.metadata["tags"] = ["hide-input"]

def small_anchors(text):
    "Jupyter's anchors keep their capitals, Sphinx's do not"
    return ANCHOR.sub(lambda link: link[1] + link[2].lower(), text)

def page(root, path):
    "A notebook as Sphinx reads it"
    nb = nbformat.read(path, 4)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
            fold(cell, path.stem == "index" and path.parent.name != "nbs")   # the front page shows its code
    visible(nb)
    nb.cells = [c for c in nb.cells if c.source.strip() and not c.source.startswith("if __name__ ==")]
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = small_anchors(cell.source)
        for data in (o.data for o in cell.get("outputs", ()) if "data" in o and "text/markdown" in o.data):
            data["text/markdown"] = small_anchors("".join(data["text/markdown"]))
    describe(nb.cells)
    nb.cells.insert(1, open_elsewhere(root, name_of(root, path)))
    return nb

# ---- the sidebar ----

def toctree(entries, caption=""):
    "Pages below this one"
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *entries, "```"])

def sidebar(places):
    "What stands in the sidebar: heading → pages, seen from nbs/"
    def inside(folder): return [p for p in places if p.startswith(folder + "/")]
    flat = [p for p in places if "/" not in p and p != "index"]
    return {
        "Start": [p for p in flat if not p[:2].isdigit()],
        "The trunk": [p for p in flat if p[:2].isdigit() and p[:2] <= "10"],
        "The wings": [f"{wing}/index" for wing in WINGS],
        "The command": [p for p in flat if p[:2].isdigit() and p[:2] > "10"],
        "Experiments": inside("results") + inside("experiments"),
        "Reference": ["../api/index", "../CONTRIBUTING", "../CHANGELOG", "../data/README"],
    }

def below(place, places):
    "The toctrees at the foot of a page"
    if place == "index":
        return [toctree(entries, caption) for caption, entries in sidebar(places).items() if entries]
    wing, _, name = place.rpartition("/")
    rooms = [p.rpartition("/")[2] for p in places if p.startswith(wing + "/") and p != place]
    return [toctree(rooms)] if wing in WINGS and name == "index" else []

# ---- the API ----

def module_of(path):
    "The module that a room exports"
    sources = [cell.source for cell in nbformat.read(path, 4).cells]
    return re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(sources), re.M)[1]

def api_pages(root, paths):
    "Name → text: a page for the trunk and for each wing, with all that their rooms export"
    groups = {}
    for path in filter(lambda p: is_room(root, p), paths):
        folder, _, _ = name_of(root, path).rpartition("/")
        module = f"attnattack.{module_of(path)}"
        lines = [f"## {module}", f"{title(path)[1]} [{title(path)[0]}](../nbs/{name_of(root, path)}.ipynb)"]
        lines += ["```{eval-rst}", f".. automodule:: {module}", "```"]
        groups.setdefault(folder or "trunk", []).append("\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]))
    pages = {name: "\n\n".join([f"# {'The trunk' if name == 'trunk' else f'attnattack.{name}'}", *texts]) for name, texts in groups.items()}
    head = "# API\n\nEvery public name, with its parameters. *[source]* leads to the room that makes it.\n"
    return pages | {"index": head + "\n" + toctree(list(pages)).replace(":hidden:\n", ":maxdepth: 2\n")}

# ---- all of it ----

def sources(root, out):
    "What Sphinx reads, laid out as the project is, so that the links between files lead on"
    paths = notebooks(root)
    places = [name_of(root, path) for path in paths]
    shutil.copytree(root / "nbs", out / "nbs", ignore=shutil.ignore_patterns("*.ipynb", ".ipynb_checkpoints"))
    for path, place in zip(paths, places):
        nb = page(root, path)
        nb.cells += map(new_markdown_cell, below(place, places))
        nbformat.write(nb, out / f"nbs/{place}.ipynb")
    for text in TEXTS:
        (out / text).parent.mkdir(exist_ok=True)
        shutil.copy(root / text, out / text)
    (out / "api").mkdir()
    for name, text in api_pages(root, paths).items():
        (out / f"api/{name}.md").write_text(text)

def build(root, out):
    "The site under `out`; what Sphinx warns of, a line each"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as tmp:
        sources(root, Path(tmp) / "source")
        command = [sys.executable, "-m", "sphinx", "-q", "-c", root / "docs", "-d", f"{tmp}/doctrees"]
        done = subprocess.run([*command, f"{tmp}/source", out], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        lines = done.stderr.replace(f"{tmp}/source/", "").splitlines()
    if done.returncode:
        raise RuntimeError(f"Sphinx: {lines[-1] if lines else done.returncode}")
    (out / "index.html").write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={FRONT}"><a href="{FRONT}">attnattack</a>\n')
    return [line for line in lines if "WARNING" in line or "ERROR" in line]

if __name__ == "__main__":
    warnings = build(ROOT, ROOT / "_docs")
    print(*warnings, f"_docs/{FRONT}: {len(list((ROOT / '_docs').rglob('*.html')))} pages", sep="\n")
