"The report's page in a browser: it is opened, and clicked"
import json, os, random, shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from attnattack.runs import report_page as report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

def pretend(outputs, n):
    "n finished runs of an experiment that does not exist; two have logs and pictures"
    from PIL import Image
    for i in range(n):
        r, folder = random.Random(i), outputs / f"{i:05d}"; folder.mkdir(parents=True)
        p = dict(lr=10 ** r.uniform(-3, 0), k=1 + i % 3, mode=("exact", "fast")[i % 2], n=64, seed=i)
        metrics = {f"m{j}": r.random() for j in range(12)} | dict(success=1 - p["lr"] / 2, n=n)
        (folder / "manifest.json").write_text(json.dumps(dict(experiment="walk", id=f"{i:05d}", start=f"2026-01-01T{i:06d}", seconds=i, params=p, metrics=metrics)))
        if i >= 2: continue
        (folder / "log.jsonl").write_text("".join(json.dumps(dict(iteration=t, terms=dict(ce=t * (i + 1)))) + "\n" for t in range(50)))
        for name in ("attention", "gallery"): Image.new("RGB", (300, 60), (200, 80 * i, 0)).save(folder / f"{name}.png")

@pytest.fixture(scope="module")
def tab():
    "A tab of headless Chromium, its errors"
    if not BROWSER: pytest.skip("no Chromium on this machine (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as p, p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"]) as browser:
        tab = browser.new_page(viewport=dict(width=1300, height=1000))
        tab.errors = []
        tab.on("pageerror", lambda e: tab.errors.append(str(e))); tab.on("requestfailed", lambda r: tab.errors.append(r.url))
        yield tab

def column(tab, name):
    "A column of the table, as it is shown"
    i = [h.strip() for h in tab.locator("#runs th").all_inner_texts()].index(name)
    return tab.eval_on_selector_all("#runs tbody tr", f"rows => rows.map(r => r.cells[{i}].innerText)")

def test_sort_filter_choose_compare(tab, tmp_path):
    pretend(tmp_path / "out", 30)
    report.page(tmp_path / "out", tmp_path / "report.html", "success")
    tab.goto(f"file://{tmp_path}/report.html")
    assert tab.locator("#count").inner_text() == "30 of 30" and "n" not in [h for h in tab.locator("#runs th").all_inner_texts()][:8]
    tab.locator("#runs th", has_text="lr").click()
    lrs = [float(v) for v in column(tab, "lr")]
    assert lrs == sorted(lrs) and lrs[0] < lrs[-1]
    tab.locator("#runs th", has_text="lr").click()
    assert [float(v) for v in column(tab, "lr")] == lrs[::-1]
    tab.fill("#filter", "mode=exact lr>0.05")
    want = [v for i in range(0, 30, 2) if (v := 10 ** random.Random(i).uniform(-3, 0)) > .05]
    assert tab.locator("#count").inner_text() == f"{len(want)} of 30" and set(column(tab, "mode")) == {"exact"}
    tab.fill("#filter", "")
    best = tab.locator("#best tr").nth(1).inner_text().split("\t")[0]
    assert best == f"{min(range(30), key=lambda i: random.Random(i).uniform(-3, 0)):05d}"
    for i in ("00000", "00001"): tab.locator(f"#runs tr:has(a:text-is('{i}')) td").first.click()
    assert tab.locator("#runs tr.chosen").count() == 2 and tab.locator("#curves path").count() == 2
    assert tab.locator("#pictures img").count() == 4 and "attention.png" in tab.locator("#pictures figcaption").first.inner_text()
    rows = [r.split("\t") for r in tab.locator("#differences tr").all_inner_texts()]
    assert ["parameter", "mode", "exact", "fast"] in rows and not [r for r in rows if r[1] == "n"]
    for p, n in (("k", 3), ("mode", 2), ("lr", 0)):
        tab.select_option("#effect", p)
        assert tab.locator("#effects circle[fill='#000']").count() == n and tab.locator("#effects circle").count() == 30 + n
    href = tab.locator("#runs tbody a").first.get_attribute("href")
    assert (tmp_path / href).parent.is_dir() and tab.errors == []

def test_text_that_would_end_the_script(tab, tmp_path):
    nasty = "<!--<script></script> & \u2028 '\""
    for i in range(2):
        (folder := tmp_path / "out" / f"{i} #?<b>").mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(dict(experiment="walk", id=str(i), params=dict(word=f"{nasty}{i}", nasty=i), metrics=dict(loss=i))))
    (tmp_path / "out/cut").mkdir()
    (tmp_path / "out/cut/manifest.json").write_text("{")
    report.page(tmp_path / "out", tmp_path / "report.html", "loss")
    tab.goto(f"file://{tmp_path}/report.html")
    assert tab.locator("#count").inner_text() == "3 of 3" and tab.errors == []
    assert {t.split(chr(0x2028))[0] for t in column(tab, "word")} >= {"<!--<script></script> & "}
    assert "manifest.json cannot be read" in column(tab, "fault")
    hrefs = [a.get_attribute("href") for a in tab.locator("#runs tbody a").all()]
    assert all((tmp_path / unquote(h)).parent.is_dir() for h in hrefs)

def test_five_thousand_runs_in_three_seconds(tab, tmp_path):
    pretend(tmp_path / "out", 5000)
    report.page(tmp_path / "out", tmp_path / "report.html")
    tab.goto(f"file://{tmp_path}/report.html")
    ready = int(tab.get_attribute("body", "data-ready"))
    assert tab.locator("#count").inner_text() == "5000 of 5000" and ready < 3000, f"{ready} ms"
    tab.fill("#filter", "04321")
    assert column(tab, "id") == ["04321"] and tab.errors == []
