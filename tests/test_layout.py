"""The explorers of the layout wing in JupyterLab, in a browser without a window: what a notebook cannot try on itself.

    EXPLORER_SHOT=nbs/results/layout_guidance/explorer.png pytest tests/test_layout.py

does it with tiny-sd in place of random weights, and keeps what the browser shows."""
import io, json, os, re, resource, shutil, subprocess, sys, time

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from conftest import _environment

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHOT = os.environ.get("EXPLORER_SHOT", "")
MODEL, PROMPT = "tiny-sd" if SHOT else "dummy", "a vehicle on a dirt trail under a clear sky"
PATIENCE = 240_000   # milliseconds, for a busy machine

CELLS = [new_code_cell(f"""import diffusers, transformers, warnings
warnings.filterwarnings("ignore")
for library in (diffusers, transformers): library.utils.logging.disable_progress_bar()
from attnattack.layout import explore_attention, explore_layout, layout_pipeline
from attnattack.models import load_diffusion
pipe = layout_pipeline(load_diffusion({MODEL!r}))
explorer = explore_layout(pipe, {PROMPT!r}, guidance_scale=4.)
explorer.steps.value = {20 if SHOT else 3}
explorer"""), new_code_cell("explore_attention(explorer.run, prompt=explorer.prompt.value)"),
    new_code_cell("explorer.steps.value = 50"), new_markdown_cell("&nbsp;")]

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

RUN_CELL = """i => { const app = window.jupyterapp; app.shell.currentWidget.content.activeCellIndex = i
    return app.commands.execute('notebook:run-cell') }"""

def execute(page, cell, having):
    "Run a cell; its output that has such an element"
    page.evaluate(RUN_CELL, cell)
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

def press(explorer, name): explorer.get_by_role("button", name=name, exact=True).click()

RED, CYAN, GREY = "255,0,0", "0,255,255", "216,216,216"
BOX = (.52, .6), (.94, .88)

def draw_and_paint(explorer, canvas):
    "A box, a phrase that is no word of the prompt, one that is, a picture"
    phrase = explorer.get_by_placeholder("words of the prompt")
    until(canvas, "at(.2, .2) == args[0]", GREY)                            # grey paper
    drag(explorer.page, canvas, *BOX)
    until(canvas, "at(...args[0]) == args[1] && at(.2, .2) == args[2]", BOX[0], RED, GREY)
    phrase.fill("horse"); phrase.press("Tab")
    press(explorer, "paint")
    explorer.get_by_text("phrase: 'horse' is not in the prompt").wait_for()
    phrase.fill("vehicle"); phrase.press("Tab")
    press(explorer, "paint")
    explorer.get_by_text(re.compile("^painted; [1-9]")).wait_for()          # with inner passes: the box did something
    until(canvas, "colours > 60 && at(...args[0]) == args[1]", BOX[0], RED) # a picture, the box on it
    maps, words = explorer.locator("img"), PROMPT.split()
    explorer.get_by_text(words[-1], exact=True).wait_for()
    assert maps.count() == len(words) and len({until(i) for i in maps.all()}) == len(words)

def move_resize_delete_undo(explorer, canvas):
    "What a mouse does to boxes, and the way back"
    moved, pulled = (.32, .5), (.9, .98)
    drag(explorer.page, canvas, (.6, .6), (.4, .5))                         # its upper edge: the box goes along
    until(canvas, "at(...args[0]) == args[2] && at(...args[1]) != args[2]", moved, BOX[1], RED)
    drag(explorer.page, canvas, (.74, .78), pulled)                         # its lower right corner
    until(canvas, "at(...args[0]) == args[2] && at(...args[1]) == args[2]", moved, pulled, RED)
    corner = (.1, .1)
    drag(explorer.page, canvas, corner, (1.4, .3))                          # released outside: it ends at the border
    until(canvas, "at(...args[0]) == args[1] && at(.98, .1) == args[1]", corner, CYAN)
    explorer.get_by_title("delete the red box").click()
    until(canvas, "at(...args[0]) != args[1] && at(...args[2]) == args[1]", moved, RED, corner) # the other is the first now
    press(explorer, "undo")
    until(canvas, "at(...args[0]) == args[1] && at(...args[2]) == args[3]", moved, RED, corner, CYAN)
    for _ in range(3): press(explorer, "undo")
    until(canvas, "at(...args[0]) == args[2] && at(...args[1]) != args[3]", BOX[0], corner, RED, CYAN)
    assert explorer.get_by_placeholder("words of the prompt").input_value() == "vehicle"

def stop_and_save(page, explorer, folder):
    "Progress is said step by step; stop is heard; what was painted before is saved with all that repeats it"
    page.evaluate(RUN_CELL, 2)                                              # 50 steps
    explorer.get_by_text("50", exact=True).wait_for()
    press(explorer, "paint")
    explorer.get_by_text(re.compile("^painting: step [1-9][0-9]? of 50")).wait_for()
    press(explorer, "stop")
    explorer.get_by_text(re.compile("^stopped after ([1-9]|[1-4][0-9]) of 50 steps")).wait_for()
    press(explorer, "save")
    explorer.get_by_text(re.compile("^saved painted/picture.png")).wait_for()
    saved = json.loads((folder / "boxes.json").read_text())
    assert saved["phrases"] == ["vehicle"] and saved["bboxes"][0] == pytest.approx([*BOX[0], *BOX[1]], abs=.01)
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.json", "picture.png", "repeat.py"]
    assert repr(PROMPT) in (folder / "repeat.py").read_text()

def look_through(other):
    "Each slider and choice shows another picture"
    image, handles = other.locator("img").first, other.get_by_role("slider")      # step, token, strength
    image.wait_for()
    seen = [until(image)]
    changes = (lambda: handles.nth(0).press("ArrowRight"), lambda: handles.nth(1).press("ArrowLeft"),
               lambda: other.locator("select").nth(1).select_option(index=4), lambda: handles.nth(1).press("ArrowRight"))
    for change in changes:
        change()
        seen.append(until(image, "!args[0].includes(sum)", seen))
    assert re.match(r"largest share of a cell's attention: 0\.\d+", other.locator(".widget-label", has_text="largest").inner_text())

def on_a_telephone(page, explorer, canvas, other):
    "Nothing is wider than the screen, and the mouse is where it seems to be"
    page.set_viewport_size(dict(width=390, height=1600))
    page.evaluate("window.jupyterapp.shell.collapseRight()")
    for shown, picture in ((explorer, canvas), (other, other.locator("img").first)):
        picture.scroll_into_view_if_needed()
        area, box = shown.bounding_box(), picture.bounding_box()
        assert box["width"] > 100 and box["x"] + box["width"] <= area["x"] + area["width"] + 1
        assert box["height"] == pytest.approx(box["width"], abs=2)
        assert shown.evaluate("e => e.scrollWidth - e.clientWidth") <= 1
    for button in explorer.get_by_role("button").all():
        box, area = button.bounding_box(), explorer.bounding_box()
        assert box["x"] >= area["x"] and box["x"] + box["width"] <= area["x"] + area["width"] + 1, button.inner_text()
        assert button.evaluate("e => e.scrollWidth - e.clientWidth") <= 1, button.inner_text()   # its word is whole
    canvas.scroll_into_view_if_needed()
    corner = (.2, .3)
    drag(page, canvas, corner, (.4, .5))
    until(canvas, "[0, 1].some(i => at(args[0][0] - i / 384, args[0][1] - i / 384) == args[1])", corner, CYAN)

def test_explorers_in_a_browser(page, tmp_path):
    explorer = execute(page, 0, "canvas")
    canvas = explorer.locator("canvas").first
    canvas.wait_for(); canvas.scroll_into_view_if_needed()
    draw_and_paint(explorer, canvas)
    other = execute(page, 1, "select")
    look_through(other)
    if SHOT: keep(explorer, other)
    canvas.scroll_into_view_if_needed()
    move_resize_delete_undo(explorer, canvas)
    stop_and_save(page, explorer, tmp_path / "work/painted")
    on_a_telephone(page, explorer, canvas, other)
    if SHOT: page.screenshot(path=SHOT.replace(".png", "_390.png"))

def keep(*shown):
    "What the browser shows of the explorers, below each other, as a small picture"
    from PIL import Image
    parts = [Image.open(io.BytesIO(part.screenshot())).convert("RGB") for part in shown]
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts) + 12), "white")
    for part, top in zip(parts, (0, parts[0].height + 12)): whole.paste(part, (0, top))
    whole.quantize(200).save(SHOT, optimize=True)

def test_maps_of_a_transformer_are_looked_at(tmp_path):
    pytest.importorskip("ipycanvas", reason="pip install 'attnattack[lab]'")
    import torch
    from attnattack.dit import MapSet, joint_inputs, record, small_sd3
    from attnattack.layout import explore_attention
    net = small_sd3()
    tokens = {"log": [1], "mud": [2, 3]}
    with record(net, tmp_path, prompt="a log on mud", tokens=tokens, size=(2, 3), dtype=torch.float32), torch.no_grad():
        for time in (1., .5): net(**joint_inputs(net, (2, 3)) | dict(timestep=torch.tensor([time])))
    look = explore_attention(tmp_path, image=torch.zeros(1, 3, 32, 48))
    look.step.value, look.token.value = 1, 1
    expected = MapSet(tmp_path).find(step=1, name=look.layer.value).read(0)[-1].mean(0)[:, 2:4].sum(1)
    assert torch.equal(look.run.map(1, look.layer.value, 1).flatten(), expected)
    assert [label for label, _ in look.of.options] == ["0 a log on mud"] and look.run.words == ["log", "mud"]
    assert look.note.value == f"largest share of a cell's attention: {expected.max():.3f}"

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
