"The report's page in a browser: it is opened, clicked, and looked at on a narrow screen"
import csv, io, json, random, re, shutil
from urllib.parse import unquote

import pytest

from attnattack.runs import report_page as report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

def lr_of(i):
    "The learning rate of a pretended run"
    return 10 ** random.Random(i).uniform(-3, 0)

def pretend(outputs, n):
    "n finished runs of an experiment that does not exist; two have logs, pictures and a notebook"
    for i in range(n):
        folder = outputs / f"{i:05d}"
        folder.mkdir(parents=True)
        params = dict(lr=lr_of(i), k=1 + i % 3, mode=("exact", "fast")[i % 2], n=64, seed=i)
        rate = dict(rate=1 - params["lr"] / 2, low=.1, high=.9, n=n)
        metrics = {f"m{j}": random.Random(i).random() for j in range(12)} | {f"success.{k}": v for k, v in rate.items()}
        about = dict(experiment="walk", id=f"{i:05d}", start=f"2026-01-01T{i:06d}", seconds=i)
        (folder / "manifest.json").write_text(json.dumps(about | dict(params=params, metrics=metrics)))
        if i < 2: beside(folder, i)

def beside(folder, i):
    "A log, pictures and a notebook"
    from PIL import Image
    rows = [dict(iteration=t, terms=dict(ce=t * (i + 1))) for t in range(50)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("attention", "gallery"): Image.new("RGB", (900, 180), (200, 80 * i, 0)).save(folder / f"{name}.png")
    nasty = dict(output_type="display_data", data={"text/html": "<b>bold</b><img src=x onerror=fetch('http://example.org')><script>document.title='no'</script>"})
    cells = [dict(cell_type="markdown", source="# A walk"), dict(cell_type="code", source="a = 1", outputs=[nasty])]
    (folder / "run.ipynb").write_text(json.dumps(dict(cells=cells)))

def pretend_failed(outputs):
    "A run that failed"
    folder = outputs / "failed01"
    folder.mkdir(parents=True)
    error = dict(output_type="error", ename="ValueError", evalue="lr: 5.0, too much", traceback=["ValueError: lr: 5.0"])
    (folder / "params.yaml").write_text("lr: 5.0\nk: 1\nmode: fast\nn: 64\nseed: 0\n")
    cells = [dict(cell_type="code", source="train(lr)", outputs=[error])]
    (folder / "failed.ipynb").write_text(json.dumps(dict(cells=cells, metadata={})))

@pytest.fixture(scope="module")
def browser():
    "Headless Chromium"
    if not BROWSER: pytest.skip("no Chromium on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as p, p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"]) as browser:
        yield browser

@pytest.fixture
def tab(browser):
    "A tab, its errors and the addresses outside of this machine that it asked for"
    tab = browser.new_page(viewport=dict(width=1300, height=1000))
    tab.set_default_timeout(20_000)
    tab.errors = []
    tab.on("pageerror", lambda e: tab.errors.append(str(e)))
    tab.on("console", lambda m: tab.errors.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else tab.errors.append(r.url))
    yield tab
    tab.close()

@pytest.fixture
def made(tab, tmp_path):
    "The page of 30 runs and one that failed, opened"
    pretend(tmp_path / "out", 30)
    pretend_failed(tmp_path / "out")
    report.page(tmp_path / "out", tmp_path / "report.html", "success.rate")
    show(tab, tmp_path / "report.html")
    yield tab
    assert tab.errors == []

def show(tab, file):
    "Open a page and wait until it is ready"
    tab.goto(f"file://{file}")
    tab.wait_for_selector("body[data-ready]")

def column(tab, name):
    "A column of the table, as it is shown"
    return tab.locator(f".tabulator-row .tabulator-cell[tabulator-field='{name}']").all_inner_texts()

def asks(tab, words, count):
    "Fill the filter, wait until the table follows: the number of runs that it leaves"
    tab.fill("#filter", words)
    tab.wait_for_function("words => document.getElementById('count').dataset.filter === words", arg=words)
    assert tab.locator("#count").inner_text().startswith(f"{count} of ")

def choose(tab, *ids):
    "Click the rows of these runs"
    for i in ids:
        row = tab.locator(f".tabulator-row:has(a:text-is('{i}'))")
        row.locator(".tabulator-cell").nth(1).click()
        row.and_(tab.locator(".tabulator-selected")).wait_for()

def test_the_metric_is_pinned_and_sorts(made):
    best = sorted(range(30), key=lr_of)[:5]
    assert column(made, "id")[:5] == [f"{i:05d}" for i in best]
    rate = 100 * (1 - lr_of(best[0]) / 2)
    assert column(made, "m:success")[0] == f"{float(f'{rate:.3g}'):g} % [10 – 90] n 30"
    titles = made.locator(".tabulator-col-title").all_inner_texts()
    assert titles[:2] == ["run", "success"] and "success.low" not in titles
    def left(field): return made.locator(f".tabulator-col[tabulator-field='{field}']").bounding_box()["x"]
    before = left("m:success"), left("start")
    made.evaluate("document.querySelector('.tabulator-tableholder').scrollLeft = 200")
    made.wait_for_timeout(100)
    assert left("m:success") == before[0] and left("start") < before[1]
    for order in (1, -1):
        made.locator(".tabulator-col[tabulator-field='p:lr'] .tabulator-col-title").click()
        shown = [float(value) for value in column(made, "p:lr")]
        assert shown == sorted(shown, reverse=order < 0) and len(set(shown)) > 5

def test_filters(made):
    fits = [i for i in range(30) if i % 2 == 0 and lr_of(i) > .05]
    for words in ("mode=exact lr>0.05", "MODE = Exact   lr > 0.05", 'lr > 5% "mode" = "exact"'): asks(made, words, len(fits))
    asks(made, "failed01", 1)
    asks(made, "success.low = 0.1", 30)
    asks(made, "nothing like it", 0)
    assert made.locator("#runs").inner_text().endswith("no run fits the filter")
    for words, says in {"lrr > 1": "“lrr” is no name here; there is ", "lr > much": "lr > “much”, must be a number",
                        "lr >": "“>” needs a name and a value"}.items():
        asks(made, words, 31)                        # a filter that is not understood hides nothing
        assert says in made.locator("#says").inner_text()
    asks(made, "", 31)
    assert made.locator("#says").inner_text() == ""

def test_curves_effects_pictures_differences(made):
    asks(made, "seed < 2", 3)
    choose(made, "00000", "00001")
    asks(made, "", 31)
    assert made.locator("#curves .u-label").all_inner_texts()[1:] == [f"{i:05d} · lr {lr_of(i):.5g} · k {1 + i} · mode {m} · seed {i}" for i, m in enumerate(("exact", "fast"))]
    over = made.locator("#curves .u-over").bounding_box()
    made.mouse.move(over["x"] + over["width"] - 2, over["y"] + 20)
    assert made.locator("#curves .u-value").all_inner_texts() == ["49", "49", "98"]
    assert made.evaluate("plots.curves.series.length") == 3 and made.evaluate("plots.curves.scales.y.distr") == 1
    made.check("#curve-log")
    assert made.evaluate("plots.curves.scales.y.distr") == 3 and made.evaluate("plots.curves.data[0][0]") == 1   # no 0
    for name, n in (("k", 3), ("mode", 2), ("lr", 0)):
        made.select_option("#effect", name)
        assert made.evaluate("[plots.effects.means.length, plots.effects.data[0].length]") == [n, 30]
    rows = [line.split("\t") for line in made.locator("#differences tr").all_inner_texts()]
    assert ["mode", "exact", "fast"] in rows and not [row for row in rows if row[0] == "n"]
    names = made.locator("#pictures tbody tr").all_inner_texts()
    assert [name.strip() for name in names] == ["attention.png", "gallery.png"] and made.locator("#pictures td img").count() == 4
    made.locator("#pictures td img").nth(1).click()
    made.wait_for_function("() => document.querySelector('#large img').naturalWidth == 900")   # the run's own file
    made.locator("#large").click()
    assert not made.locator("#large").is_visible()

def test_the_address_holds_the_state(made):
    asks(made, "mode = fast", 16)
    choose(made, "00001")
    made.select_option("#metric", "m3")
    made.check("#curve-log")
    made.locator("#chooser summary").click()
    made.locator("#columns label", has_text="seconds").locator("input").uncheck()
    made.reload()
    made.wait_for_selector("body[data-ready]")
    assert made.locator("#count").inner_text() == "16 of 31" and made.input_value("#filter") == "mode = fast"
    assert made.locator(".tabulator-selected a").all_inner_texts() == ["00001"] and made.is_checked("#curve-log")
    titles = made.locator(".tabulator-col-title").all_inner_texts()
    assert titles[:2] == ["run", "m3"] and "seconds" not in titles
    values = [float(value) for value in column(made, "m:m3") if value]
    assert values == sorted(values, reverse=True)

def test_csv_has_what_is_shown(made):
    asks(made, "k = 2", 10)
    with made.expect_download() as download: made.click("#csv")
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    by_rate = sorted(range(1, 30, 3), key=lr_of)
    assert [row["id"] for row in rows] == [f"{i:05d}" for i in by_rate]
    assert float(rows[0]["params.lr"]) == lr_of(by_rate[0]) and rows[0]["metrics.success.low"] == "0.1"

def test_a_run_has_a_page(made):
    href = made.locator(".tabulator-row a:text-is('00001')").get_attribute("href")
    where = made.url
    made.locator(".tabulator-row a:text-is('00001')").click()
    made.locator("h1", has_text="A walk").wait_for()
    assert re.fullmatch(r"runs/[0-9a-f]{16}\.html", href) and made.title() == "walk 00001"
    assert made.locator(".output b").inner_text() == "bold"
    blocked = [error for error in made.errors if "Content Security Policy" in error or "example.org" in error]
    assert blocked == made.errors and not [error for error in made.errors if error.startswith("http")]
    made.errors.clear()
    made.goto(where)
    asks(made, "failed01", 1)
    assert column(made, "fault") == ["failed: ValueError: lr: 5.0, too much"]
    assert made.locator("#faults").inner_text() == "failed01: failed: ValueError: lr: 5.0, too much"
    made.locator(".tabulator-row a").click()
    made.locator("pre.error").wait_for()

def test_a_narrow_screen(made):
    made.set_viewport_size(dict(width=390, height=800))
    made.reload()
    made.wait_for_selector("body[data-ready]")
    asks(made, "seed < 2", 3)
    choose(made, "00000", "00001")
    made.locator("#chooser summary").click()
    assert made.evaluate("document.documentElement.scrollWidth") <= 390
    box = made.locator("#columns").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    holder = made.evaluate("document.querySelector('.tabulator-tableholder').clientWidth")
    pinned = sum(made.locator(f".tabulator-col[tabulator-field='{name}']").bounding_box()["width"] for name in ("id", "m:success"))
    assert pinned < .7 * holder                       # the other columns can be seen

def test_text_that_would_end_the_script(tab, tmp_path):
    nasty = "<!--<script></script> & \u2028 '\"<img src=x onerror=document.title=1>"
    for i in range(2):
        (folder := tmp_path / "out" / f"{i} #?<b>").mkdir(parents=True)
        params = {"word": f"{nasty}{i}", nasty: i}
        about = dict(experiment=nasty, id=f"{i}<i>", params=params, metrics={"loss": i, nasty: i})
        (folder / "manifest.json").write_text(json.dumps(about))
    (tmp_path / "out/cut").mkdir()
    (tmp_path / "out/cut/manifest.json").write_text("{")
    report.page(tmp_path / "out", tmp_path / "report.html", "loss")
    show(tab, tmp_path / "report.html")
    choose(tab, "0<i>", "1<i>")
    tab.select_option("#metric", nasty)
    assert tab.locator("#count").inner_text() == "3 of 3" and tab.errors == [] and tab.title() == "attnattack: runs"
    assert {t.split(chr(0x2028))[0] for t in column(tab, "p:word")} >= {"<!--<script></script> & "}
    assert "manifest.json cannot be read" in column(tab, "fault")
    hrefs = [a.get_attribute("href") for a in tab.locator(".tabulator-row a").all()]
    assert all((tmp_path / unquote(href)).is_dir() for href in hrefs)

def test_five_thousand_runs_open_at_once(tab, tmp_path):
    pretend(tmp_path / "out", 5000)
    report.page(tmp_path / "out", tmp_path / "report.html")
    show(tab, tmp_path / "report.html")
    ready = int(tab.get_attribute("body", "data-ready"))
    assert tab.locator("#count").inner_text() == "5000 of 5000" and ready < 60_000, f"{ready} ms" # about 1,200 where little else runs
    asks(tab, "04321", 1)
    assert column(tab, "id") == ["04321"] and tab.errors == []
