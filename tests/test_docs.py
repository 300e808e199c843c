"""The documentation as a reader sees it: built, read as files, then opened in a browser.

    SITE=_docs pytest tests/test_docs.py

looks at a site that is there already."""
import ast, functools, html, http.server, os, re, shutil, threading
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest

import handbook, pages
from attnattack.base.config import settings_of
from attnattack.latent.config import LatentConfig

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPENED = ("nbs/index", "nbs/03_hijack", "nbs/06_loss", "nbs/90_cli", "nbs/latent/index", "nbs/experiments/patch_attack", "api/trunk", "api/latent")
WIDTHS = (1280, 390)

@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The folder of the site, and what Sphinx warned of"
    if ready := os.environ.get("SITE"):
        return Path(ready).resolve(), []
    out = tmp_path_factory.mktemp("docs") / "site"
    warnings = handbook.build(pages.ROOT, out)
    return out, warnings

@pytest.fixture(scope="module")
def texts(site):
    "Each page and its HTML"
    return {path: path.read_text("utf-8") for path in site[0].rglob("*.html") if "_static" not in path.parts}

def test_sphinx_has_nothing_to_say(site):
    assert site[1] == []

def test_every_notebook_is_a_page_in_the_sidebar(site, texts):
    places = [pages.name_of(pages.ROOT, path) for path in pages.notebooks(pages.ROOT)]
    front = texts[site[0] / handbook.FRONT]
    listed = set(re.findall(r'class="reference internal" href="([^"#]+)\.html"', front)) | {"index"}
    assert [p for p in places if not (site[0] / f"nbs/{p}.html").is_file()] == []
    assert [p for p in places if p not in listed] == []

def test_no_link_is_dead(texts):
    ids = {path: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for path, text in texts.items()}
    dead = []
    for path, text in texts.items():
        for link in map(html.unescape, re.findall(r'<[a-z]+\b[^<>]*?\b(?:href|src)="([^"]+)"', text)):
            if re.match(r"\w+:|//", link):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            known = not anchor or anchor.startswith(":~:") or target not in ids or unquote(anchor) in ids[target]
            if not (target.exists() and known):
                dead.append(f"{path.name}: {link}")
    assert dead == []

def test_pictures_are_described(texts):
    pictures = [tag for text in texts.values() for tag in re.findall(r"<img [^>]*>", text)]
    assert len(pictures) > 100
    assert [tag[:120] for tag in pictures if not re.search(r'\balt="[^"]{3,}"', tag)] == []

def test_no_notebook_commands_and_no_empty_boxes(texts):
    code = [box for text in texts.values() for box in re.findall(r'<div class="highlight[^"]*">.*?</pre></div>', text, re.S)]
    plain = [html.unescape(re.sub(r"<[^>]+>", "", box)) for box in code]
    assert len(plain) > 500
    assert [box for box in plain if not box.strip()] == []
    assert [box for box in plain if re.search(r"^#\| *(export|hide|echo|eval|default_exp)", box, re.M)] == []

def api_names():
    "Every public function and class with a docstring; read, not imported"
    for path in filter(lambda p: pages.is_room(pages.ROOT, p), pages.notebooks(pages.ROOT)):
        module = handbook.module_of(path)
        tree = ast.parse((pages.ROOT / "attnattack" / (module.replace(".", "/") + ".py")).read_text("utf-8"))
        listed = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
        public = {name for value in listed for name in ast.literal_eval(value)}
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in public and ast.get_docstring(node):
                yield f"attnattack.{module}.{node.name}"

def test_the_api_is_whole(texts):
    ids = {i for path, text in texts.items() if path.parent.name == "api" for i in re.findall(r'\bid="(attnattack\.[^"]+)"', text)}
    names = set(api_names())
    assert len(names) > 300 and sorted(names - ids) == []

def test_the_api_shows_comments_and_shapes(site, texts):
    page = html.unescape(re.sub(r"<[^>]+>", "", texts[site[0] / "api/trunk.html"]))
    assert "picture, [B, 3, H, W], float, RGB, [-1, 1]" in page   # check_image
    latent = html.unescape(re.sub(r"<[^>]+>", "", texts[site[0] / "api/latent.html"])).replace("’", "'")
    rows = [row for row in settings_of(LatentConfig) if row.rule and "`" not in row.help]
    assert len(rows) > 5 and [row.name for row in rows if f"{row.help} ({row.rule})" not in latent] == []
    assert 'href="../nbs/00_utils.html#:~:text=check_image"' in texts[site[0] / "api/trunk.html"]

def test_colab_is_offered_where_the_project_is_on_github(monkeypatch):
    monkeypatch.setenv("ATTNATTACK_REPOSITORY", "https://github.com/someone/attnattack")
    wanted = "https://colab.research.google.com/github/someone/attnattack/blob/main/nbs/03_hijack.ipynb"
    assert handbook.colab(pages.ROOT, "03_hijack") == wanted
    monkeypatch.setenv("ATTNATTACK_REPOSITORY", "https://example.org/attnattack")
    assert handbook.colab(pages.ROOT, "03_hijack") is None

# ---- in a browser ----

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass

@pytest.fixture(scope="module")
def address(site):
    "Where the site is served on this machine"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site[0])) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()

@pytest.fixture(scope="module")
def browser():
    if not BROWSER:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as p, p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"]) as browser:
        yield browser

@pytest.fixture
def tab(browser, address):
    "Opens a tab; what it asked of other machines, did not get, or threw stands in `tab.faults`"
    opened = []
    def new(width, scheme="light"):
        tab = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
        tab.set_default_timeout(120_000)
        tab.faults = []
        ours = (address, "data:", "blob:")
        tab.on("request", lambda r: r.url.startswith(ours) or tab.faults.append(f"asks for {r.url}"))
        tab.on("response", lambda r: r.status < 400 or tab.faults.append(f"{r.status}: {r.url}"))
        tab.on("pageerror", lambda e: tab.faults.append(str(e)))
        opened.append(tab)
        return tab
    yield new
    for tab in opened:
        tab.close()

@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_and_nothing_is_asked_of_others(tab, address, width):
    page = tab(width)
    for name in OPENED:
        page.goto(urljoin(address, f"{name}.html"))
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.faults == [], name

@pytest.mark.parametrize("width", WIDTHS)
def test_formulae_are_rendered(tab, address, width):
    page = tab(width)
    page.goto(urljoin(address, "nbs/06_loss.html"))
    page.wait_for_selector("mjx-container mjx-math")
    sizes = page.eval_on_selector_all("mjx-container", "all => all.map(m => m.getBoundingClientRect().width)")
    assert len(sizes) > 5 and min(sizes) > 1
    assert "\\[" not in page.inner_text("article") and "$$" not in page.inner_text("article")
    assert page.faults == []

def test_search_finds_hijack(tab, address):
    page = tab(1280)
    page.goto(urljoin(address, "nbs/index.html"))
    page.fill("input.sidebar-search", "hijack")
    page.press("input.sidebar-search", "Enter")
    page.wait_for_selector("#search-results ul.search li a[href*='nbs/03_hijack.html']") # results come one by one
    assert page.faults == []

def test_dark_mode(tab, address):
    def brightness(scheme):
        page = tab(1280, scheme)
        page.goto(urljoin(address, "nbs/03_hijack.html"))
        boxes = ("getComputedStyle(document.body).backgroundColor",
                 "getComputedStyle(document.querySelector('div.cell_input div.highlight')).backgroundColor")
        return [sum(map(int, re.findall(r"\d+", page.evaluate(box))[:3])) for box in boxes]
    assert min(brightness("light")) > 600 and max(brightness("dark")) < 250

def test_the_front_door_leads_in(tab, address):
    page = tab(1280)
    page.goto(address)
    page.wait_for_url("**/nbs/index.html")
    assert "attnattack" in page.inner_text("h1")
