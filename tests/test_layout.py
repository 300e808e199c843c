"""The explorers of the layout wing in JupyterLab, in a browser without a window: what a notebook cannot try on itself.

    EXPLORER_SHOT=nbs/results/layout_guidance/explorer.png pytest tests/test_layout.py

does it with tiny-sd in place of random weights, and keeps what the browser shows."""
import json, os, re, resource, shutil, subprocess, sys, time

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from conftest import _environment

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHOT = os.environ.get("EXPLORER_SHOT", "")
MODEL, PROMPT = "tiny-sd" if SHOT else "dummy", "a vehicle on a dirt trail under a clear sky"
PATIENCE = 120_000   # milliseconds, for a busy machine

CELLS = [new_code_cell(f"""import diffusers, transformers, warnings
warnings.filterwarnings("ignore")
for library in (diffusers, transformers): library.utils.logging.disable_progress_bar()
from attnattack.layout import explore_attention, explore_layout, layout_pipeline
from attnattack.models import load_diffusion
pipe = layout_pipeline(load_diffusion({MODEL!r}))
explorer = explore_layout(pipe, {PROMPT!r}, guidance_scale=4.)
explorer.steps.value = {20 if SHOT else 3}
explorer"""), new_code_cell("explore_attention(explorer.run, prompt=explorer.prompt.value)"), new_markdown_cell("&nbsp;")]

def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))

@pytest.fixture
def lab(tmp_path):
    "Address of a JupyterLab that serves a notebook with the two explorers"
    if not BROWSER: pytest.skip("no Chromium on this machine (apt-get install chromium)")
    pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    kernel = dict(kernelspec=dict(display_name="python3", language="python", name="python3"))
    (tmp_path / "work").mkdir()
    nbformat.write(new_notebook(cells=CELLS, metadata=kernel), tmp_path / "work/explore.ipynb")
    write(tmp_path / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings", dict(fetchNews="false", checkForUpdates=False))
    env = _environment(JUPYTER_CONFIG_DIR=str(tmp_path / "config"), JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime"), TRANSFORMERS_VERBOSITY="error")
    flags = "--no-browser --allow-root --IdentityProvider.token= --ServerApp.port=0 --LabApp.expose_app_in_browser=True --LabApp.extension_manager=readonly".split()
    with open(tmp_path / "log", "w") as log:   # a pipe that nobody reads would fill up
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *flags], cwd=tmp_path / "work", env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try: yield address(server, tmp_path)
    finally: stop(server)

def address(server, folder):
    "Where the server listens, on a port that the system chose: it writes that down itself"
    until = time.monotonic() + PATIENCE / 1000
    while server.poll() is None and time.monotonic() < until:
        for file in (folder / "runtime").glob("jpserver-*.json"):
            try: return json.loads(file.read_text())["url"] + "lab/tree/explore.ipynb"
            except ValueError: pass   # half written
        time.sleep(.1)
    pytest.fail("JupyterLab did not start:\n" + "\n".join((folder / "log").read_text().splitlines()[-8:]))

def stop(server):
    "The server ends its kernels when it is asked to; a kernel whose server is gone ends by itself"
    server.terminate()
    try: server.wait(20)
    except subprocess.TimeoutExpired: server.kill(); server.wait()

@pytest.fixture
def page(lab):
    "The notebook in Chromium, its kernel ready"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p, p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]) as browser:
        page = browser.new_page(viewport=dict(width=1000, height=1200))
        page.set_default_timeout(PATIENCE)
        page.goto(lab)
        page.wait_for_function("window.jupyterapp != null")
        page.evaluate("window.jupyterapp.restored.then(() => window.jupyterapp.commands.execute('application:toggle-left-area'))")
        page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'")
        yield page

def execute(page, cell, having):
    "Run a cell; its output that has such an element"
    page.evaluate("i => { const app = window.jupyterapp; app.shell.currentWidget.content.activeCellIndex = i; return app.commands.execute('notebook:run-cell') }", cell)
    return page.locator(".jp-Notebook-cell").nth(cell).locator(f".jp-OutputArea-output:has({having})")

def drag(page, canvas, start, stop):
    "The mouse from one point of the canvas to another, fractions of its sides"
    b = canvas.bounding_box()
    at = lambda x, y: (b["x"] + x * b["width"], b["y"] + y * b["height"])
    page.mouse.move(*at(*start)); page.mouse.down()
    page.mouse.move(*at((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)); page.mouse.move(*at(*stop)); page.mouse.up()

LOOK = """async (el, [test, patience, ...args]) => {
    const ok = new Function("at", "colours", "sum", "args", "return " + test)
    for (const end = Date.now() + patience; Date.now() < end; await new Promise(f => setTimeout(f, 50))) {
        try { if (el.decode) await el.decode() } catch { continue }   // it was just being changed
        const c = new OffscreenCanvas(el.naturalWidth || el.width, el.naturalHeight || el.height), g = c.getContext("2d")
        g.drawImage(el, 0, 0)
        const d = g.getImageData(0, 0, c.width, c.height).data, all = new Uint32Array(d.buffer)
        const at = (x, y) => { const i = 4 * (Math.floor(y * c.height) * c.width + Math.floor(x * c.width)); return [...d.slice(i, i + 3)].join() }
        const sum = all.reduce((s, v) => (Math.imul(s, 31) + v) | 0, 0)
        if (ok(at, new Set(all).size, sum, args)) return sum
    }
    throw new Error("in vain: " + test) }"""

def until(element, test="true", *args):
    "Wait until a test of an element's pixels holds, in JavaScript: `at(x, y)` is a colour, `colours` their number, `sum` differs from that of another picture; gives the sum"
    return element.evaluate(LOOK, [test, PATIENCE, *args])

def test_explorers_in_a_browser(page):
    explorer = execute(page, 0, "canvas")
    canvas, phrase = explorer.locator("canvas").first, explorer.get_by_placeholder("words of the prompt")
    canvas.wait_for(); canvas.scroll_into_view_if_needed()
    until(canvas, "at(.2, .2) == '216,216,216'")                            # grey paper
    box = (.52, .6), (.94, .88)
    drag(page, canvas, *box)
    until(canvas, "at(...args[0]) == '255,0,0' && at(.2, .2) == '216,216,216'", box[0])
    phrase.fill("horse"); phrase.press("Tab")
    explorer.get_by_role("button", name="paint").click()
    explorer.get_by_text("phrase: 'horse' is not in the prompt").wait_for()
    phrase.fill("vehicle"); phrase.press("Tab")
    explorer.get_by_role("button", name="paint").click()
    explorer.get_by_text(re.compile("^painted; [1-9]")).wait_for()                # with inner passes: the box did something
    until(canvas, "colours > 60 && at(...args[0]) == '255,0,0'", box[0])    # a picture, the box on it
    maps, words = explorer.locator("img"), PROMPT.split()
    explorer.get_by_text(words[-1], exact=True).wait_for()
    assert maps.count() == len(words) and len({until(i) for i in maps.all()}) == len(words)

    corner = (.1, .1)
    drag(page, canvas, corner, (1.4, .3))                                   # released outside: it ends at the border
    until(canvas, "at(...args[0]) == '0,255,255' && at(.98, .1) == '0,255,255'", corner)
    explorer.get_by_role("button", name="undo").click()
    until(canvas, "at(...args[0]) != '0,255,255' && at(...args[1]) == '255,0,0'", corner, box[0])
    explorer.get_by_role("button", name="×").click()                       # its only box goes
    until(canvas, "at(...args[0]) != '255,0,0'", box[0])
    explorer.get_by_role("button", name="save").click()
    explorer.get_by_text(re.compile("^saved painted/picture.png")).wait_for()

    other = execute(page, 1, "select")
    image, handles = other.locator("img").first, other.get_by_role("slider")      # step, token, strength
    image.wait_for()
    seen = [until(image)]
    for change in (lambda: handles.nth(0).press("ArrowRight"), lambda: handles.nth(1).press("ArrowLeft"), lambda: other.locator("select").nth(1).select_option(index=4)):
        change()
        seen.append(until(image, "!args[0].includes(sum)", seen))
    assert re.match(r"largest share of a cell's attention: 0\.\d+", other.locator(".widget-label", has_text="largest").inner_text())
    if SHOT: handles.nth(1).press("ArrowRight"); until(image, "!args[0].includes(sum)", seen); keep(page)

def keep(page):
    "What the browser shows, as a small picture"
    from PIL import Image
    page.screenshot(path=SHOT)
    Image.open(SHOT).convert("RGB").quantize(160).save(SHOT, optimize=True)

def processor_seconds():
    "What the processes that have ended took together"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

MISTAKES = {"phrase: 'horse' is not in the prompt 'a log'": ("-b", "horse", "0", "0", "1", "1"),
            "box of 'log': (0.5, 0.0, 0.4, 1.0), must have x0 < x1": ("-b", "log", ".5", "0", ".4", "1"),
            "steps: 0, must be from 1 to 1000": ("--steps", "0"),
            "cfg: nan, must be": ("--cfg", "nan"),
            "iterations: 1001, must be at least 0 and at most 1000": ("--iterations", "1001"),
            "model: 'tiny' is not one of dummy": ("--model", "tiny"),
            "is not a folder": ("--out", "taken/new")}

@pytest.mark.parametrize("says", MISTAKES)
def test_mistakes_of_layout_cost_no_waiting(command, tmp_path, says):
    (tmp_path / "taken").write_text("")
    before = processor_seconds()
    code, out, err = command("layout", "--out", "new", "--prompt", "a log", *MISTAKES[says])
    assert processor_seconds() - before < 1.5    # 0.3 on a quiet machine; PyTorch alone takes longer than this
    assert code in (1, 2) and not out and says in err and len(err.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
