"The build card in CONTRIBUTING.md says nothing that is not so"
import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CARD = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The build card")[2].partition("\n## ")[0]


def rows_of(card):
    "(step, room, functions, where it is tested) of each row"
    cells = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")]
    for step, room, functions, tested in cells[1:]:
        yield step, re.search(r"\((.*)\)", room)[1], re.findall(r"`(\w+)`", functions), tested


ROWS = list(rows_of(CARD))


def code_of(room):
    "(module, source of all exported cells, source of all others) of a notebook"
    book = json.loads((ROOT / room).read_text("utf-8"))
    cells = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    module = re.search(r"#\| default_exp (\S+)", "\n".join(cells))[1]
    exported = [source for source in cells if "#| export" in source]
    return module, "\n".join(exported), "\n".join(source for source in cells if source not in exported)


def faults_of(room, functions, tested):
    "What is not true of a row"
    module, exported, others = code_of(room)
    found = importlib.import_module(f"attnattack.{module}")
    for name in functions:
        if not callable(getattr(found, name, None)):
            yield f"{name} is not in attnattack.{module}"
        if not re.search(rf"^(def|class) {name}\b", exported, re.M):
            yield f"{name} is not defined in {room}"
        if not re.search(rf"\b{name}\b", others):
            yield f"{name} is not tested in {room}"
    for file in re.findall(r"`(tests/\S+)`", tested):
        if not (ROOT / file).is_file():
            yield f"{file} is not there"
        elif not any(re.search(rf"\b{name}\b", (ROOT / file).read_text("utf-8")) for name in functions):
            yield f"{file} knows none of {', '.join(functions)}"


@pytest.mark.parametrize("step, room, functions, tested", ROWS, ids=[room for _, room, *_ in ROWS])
def test_each_row_is_true(step, room, functions, tested):
    assert not list(faults_of(room, functions, tested))


def test_the_card_is_whole():
    rooms = [Path(room).name for _, room, *_ in ROWS]
    trunk = {path.name for path in (ROOT / "nbs").glob("0[0-9]_*.ipynb")}
    assert trunk <= set(rooms) and len(rooms) == len(set(rooms))


@pytest.mark.parametrize("functions, tested, fault", [
    (["hijacks"], "the room", "hijacks is not in attnattack.hijack"),
    (["one_of"], "the room", "one_of is not defined in nbs/03_hijack.ipynb"),
    (["hijack"], "`tests/test_none.py`", "tests/test_none.py is not there"),
    (["place_of"], "`tests/test_resume.py`", "tests/test_resume.py knows none of place_of"),
])
def test_a_wrong_row_is_found(functions, tested, fault):
    assert fault in list(faults_of("nbs/03_hijack.ipynb", functions, tested))


def test_the_index_shows_the_card():
    book = json.loads((ROOT / "nbs/index.ipynb").read_text("utf-8"))
    shown = "".join("".join(o.get("data", {}).get("text/markdown", "")) for c in book["cells"] for o in c.get("outputs", []))
    rows = [line.replace("](nbs/", "](") for line in CARD.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row not in shown] == []
