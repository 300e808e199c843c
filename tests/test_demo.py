"The demonstration's page: whole or absent, needs no other machine, described in words, errors in one line"
import shlex, shutil
from html.parser import HTMLParser

import pytest

from attnattack import cli, demo

QUICK = dict(patch=dict(iterations=1, size=64), latent=dict(iterations=1, size=64, scenes=1), box=dict(steps=2, size=64))
SMALL = dict(models=("dummy", "dummy"), device="cpu", parts=QUICK)

class Page(HTMLParser):
    "What a page asks for, and what its pictures say"
    def __init__(self, text):
        super().__init__()
        self.addresses, self.alts, self.tags, self.meta = [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append(tag)
        self.addresses += [found[name] for name in ("src", "href", "srcset", "action", "data") if name in found]
        if tag == "img": self.alts.append(found.get("alt", ""))
        if tag == "meta" and "name" in found: self.meta[found["name"]] = found["content"]

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    said = []
    out = demo.make_demo(tmp_path_factory.mktemp("demo") / "new/page.html", say=said.append, **SMALL)
    return out, said

def test_the_page_needs_nothing_else(made):
    text = made[0].read_text("utf-8")
    page = Page(text)
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in text and "@import" not in text

def test_a_patch_a_latent_a_box_and_maps_of_each_described_in_words(made):
    page = Page(made[0].read_text("utf-8"))
    assert page.tags.count("h2") == 3 and len(page.alts) == 14 and all(page.alts)
    assert sum("looks here" in alt for alt in page.alts) == 6   # two maps of each
    assert page.meta["viewport"].startswith("width=device-width")

def test_a_line_for_each_step_and_no_other_file(made):
    out, said = made
    assert [line[:3] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    assert [file.name for file in out.parent.iterdir()] == [out.name]

def test_a_failure_leaves_the_old_page(tmp_path, monkeypatch):
    (tmp_path / "page.html").write_text("old")
    monkeypatch.setattr(demo, "demo_page", lambda *args: "\ud800")   # cannot be written
    with pytest.raises(UnicodeEncodeError): demo.make_demo(tmp_path / "page.html", say=lambda line: None, **SMALL)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"] and (tmp_path / "page.html").read_text() == "old"

WRONG = {
    "no page": (["--out", "page.txt"], "out: page.txt, must end in .html"),
    "a folder": (["--out", "folder.html"], "out: folder.html is a folder, must be a file"),
    "below a file": (["--out", "file/page.html"], "is a file, must be a folder"),
    "a seed that is none": (["--seed", "-1"], "seed: -1"),
    "no device": (["--device", "gpu"], "device: 'gpu'"),
}

@pytest.mark.parametrize("args, words", WRONG.values(), ids=WRONG)
def test_wrong_usage(tmp_path, monkeypatch, capsys, args, words):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "load_tools", lambda *args, **kw: pytest.fail("loaded a model"))
    assert cli.main(["demo", *args]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.html"]

def test_params_prints_defaults_and_help(capsys):
    assert cli.main(["params", "patch_attack"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["classifier", '"tiny-resnet"'] and "trained on" in line for line in lines)
    assert cli.main(["params", "patch_atack"]) == 2
    assert "did you mean patch_attack" in capsys.readouterr().err

@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_an_example_that_it_understands(name, capsys):
    example = cli.EXAMPLES[name]
    assert shlex.split(example)[:2] == ["attnattack", name]
    cli.parse(shlex.split(example)[1:])   # or a ValueError
    assert cli.main([name, "--help"]) == 0
    assert f"Example: {example}" in " ".join(capsys.readouterr().out.split())

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

def test_the_page_is_readable_on_a_telephone(made):
    if not BROWSER: pytest.skip("no Chromium on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    asked = []
    with sync_api.sync_playwright() as p, p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"]) as browser:
        page = browser.new_page(viewport=dict(width=390, height=800))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(made[0].as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        sizes = page.evaluate("[...document.querySelectorAll('figure img')].map(i => i.naturalWidth && i.clientWidth)")
    assert wide <= 390 and min(sizes) >= 140, (wide, sizes)
    assert [url for url in asked if not url.startswith(("data:", made[0].as_uri()))] == []
