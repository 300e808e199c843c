"""Trials that end a process before it is done: killed, or the disk is full. Started again, it must end as if
nothing had happened. Each process is a fork of this one, which has imported everything, and computes nothing."""
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from campaign import ROOT, SECTIONS, OnlyWords, Section

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


# ---- work that can be ended: folder → nothing; each writes into `out`

def latent_pictures(home):
    "Three pictures, and their folder"
    from attnattack.data import OffRoad
    from attnattack.utils import save_image
    for i, frame in enumerate(OffRoad(3, 0, 32)):
        save_image(frame.image, home / f"pictures/{i}.png")
    return home / "pictures"


def latent(home, out):
    "The latent attack on a folder"
    from attnattack.latent.config import LatentConfig
    from attnattack.latent.folder import run_folder
    config = LatentConfig(
        data=str(home / "pictures"), out=str(out), model="dummy",
        classifier="dummy", device="cpu", size=32, start_step=18, iterations=3, null_iterations=1,
        null_growth=0, weight_mode="learnable_detached", weight_lr=.01)
    if failed := run_folder(config, show=False):
        raise RuntimeError(failed)


def patch(home, out):
    "The training of a patch"
    from attnattack.attack import PatchConfig, train_patch
    config = PatchConfig(
        model="dummy", classifier="dummy", n=4, n_val=2, height=64, width=64, patch_size=16, k=2,
        accumulate=2, w_self=100., w_cross=100., label="dataset", device="cpu", iterations=12,
        checkpoint_every=1, val_every=2, log_with=None, out=str(out))
    for _ in train_patch(config):
        pass


def semantic(home, out):
    "The training of a LoRA and a semantic module"
    from attnattack.flux import SemanticConfig, train_semantic
    config = SemanticConfig(
        model="dummy-flux-fill", device="cpu", n=4, n_val=1, panel=32, steps=6, batch_size=2, rank=4,
        lr=1e-2, checkpoint_every=1, val_every=2, images_every=3, out=str(out))
    for _ in train_semantic(config):
        pass


TINY = """{"cells": [
 {"cell_type": "code", "execution_count": null, "id": "a", "metadata": {"tags": ["parameters"]}, "outputs": [],
  "source": "a = 1\\nout = '.'"},
 {"cell_type": "code", "execution_count": null, "id": "b", "metadata": {}, "outputs": [],
  "source": "import pathlib\\npathlib.Path(out, 'metrics.json').write_text(f'{{\\"square\\": {a * a}}}');"}],
 "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""


def given(path, text):
    "A file that a work reads: made by the run that nothing disturbs, and there ever after"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(path)


def sweep(home, out):
    "Three runs of a small notebook, one worker"
    from attnattack import cli
    notebook = given(home / "tiny.ipynb", TINY)
    file = given(home / "sweep.yaml", f"experiment: {notebook}\ngrid: {{a: [2, 3, 4]}}\n")
    code = cli.main(["sweep", file, "--out", str(out), "--workers", "1"])
    if code:
        raise RuntimeError(f"exit code {code}")


def run(home, out):
    "One run of a small notebook"
    from attnattack.runs import run as run_experiment
    run_experiment(given(home / "tiny.ipynb", TINY), dict(a=2), out=str(out))


def report(home, out):
    "The page of two runs"
    from attnattack.runs.report_page import page
    for i in range(2):
        manifest = dict(id=str(i), start=str(i), params=dict(a=i), metrics=dict(loss=i))
        given(home / f"runs/{i}/manifest.json", json.dumps(manifest))
    page(str(home / "runs"), out / "report.html", "loss")


def evaluate(home, out):
    "The evaluation of three pictures"
    from attnattack.evaluate import EvaluateConfig, evaluate as evaluation
    folder = str(latent_pictures(home))
    with open(os.devnull, "w") as sink, contextlib.redirect_stderr(sink):
        evaluation(EvaluateConfig(
            clean=folder, adversarial=folder, classifiers=("dummy",), features=(), device="cpu", out=str(out)))


def scenes(home, out):
    "Four painted scenes"
    from attnattack.data import OffRoad, write_offroad
    if not (out / "Rellis-3D").exists(): # or it is refused
        write_offroad(OffRoad(4, 0, 32), out)


WORK = dict(latent=latent, patch=patch, semantic=semantic, sweep=sweep)
WRITERS = dict(latent=latent, patch=patch, semantic=semantic, run=run, report=report, evaluate=evaluate, scenes=scenes)
RESULTS = dict(  # the files that two runs share
    latent=("*.png", "*.safetensors", "losses/*.json", "summary.json", "records.jsonl"),
    patch=("*.png", "*.safetensors", "log.jsonl"), semantic=("*.png", "*.safetensors", "log.jsonl"),
    sweep=("metrics.json",), run=("metrics.json",), report=("*.html",), evaluate=("*.json", "*.html"),
    scenes=("*.png", "*.jpg", "*.json", "*.lst"))


def forked(work, *args, before=None):
    "Start a work in a process of its own; its number"
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull if stream == 1 else args[1].parent / "said", os.O_WRONLY | os.O_CREAT), stream)
        if before:
            before()
        work(*args)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        kind = type(error).__name__
        (args[1].parent / "why").write_text(json.dumps([kind, str(error)]))
    finally:
        os._exit(code)


def ended(child, seconds=1200):
    "The exit status of a process; 124 where it had to be killed"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


# ---- what a folder holds

def without_clocks(path):
    "What two runs share of a file: no seconds, no path of its own"
    from attnattack.runs.provenance import without_timings
    if path.suffix not in (".jsonl", ".json"):
        return path.read_bytes()
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" \
        else json.loads(path.read_text())
    for row in rows if isinstance(rows, list) else []:
        row.pop("source", None)
    return json.dumps(without_timings(rows)).encode()


def contents(out, name):
    "File → fingerprint, of a work's results"
    from attnattack.runs.provenance import digest
    found = {}
    for pattern in RESULTS[name]:
        for path in out.rglob(pattern):
            exact = digest(path, out) if path.suffix == ".safetensors" else None
            shared = without_clocks(path).replace(str(out).encode(), b"out")
            found[path.relative_to(out).as_posix()] = exact or hashlib.sha256(shared).hexdigest()
    return found


def progress(out, name):
    "What must not be lost: finished pictures and runs with their files' times, or the checkpoint's step"
    if name == "latent":
        file = out / "records.jsonl"
        rows = [line for line in file.read_text().splitlines(keepends=True)] if file.exists() else []
        stems = [json.loads(row)["stem"] for row in rows if row.endswith("\n")]
        return {s: (out / f"adversarial/{s}.png").stat().st_mtime_ns for s in stems}
    if name == "sweep":
        return {p.parent.name: p.stat().st_mtime_ns for p in out.rglob("manifest.json")}
    if not (out / "checkpoint.pt").exists():
        return {}
    import torch
    state = torch.load(out / "checkpoint.pt", weights_only=True)
    return dict(step=state.get("iteration", state.get("step")))


def lost(before, after):
    "The first thing that was there and is gone, or was made again"
    for name, value in before.items():
        if name not in after:
            return f"{name} is lost"
        if name == "step" and after[name] < value or name != "step" and after[name] != value:
            return f"{name} was made again"
    return None


def difference(wanted, found):
    "The first file that is missing, too much or different"
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            return f"{name} is " + ("missing" if name not in found else "too much" if name not in wanted else "different")
    return None


def leftovers(out):
    "Temporary files"
    return [p.name for p in out.rglob(".*") if p.is_file() and p.name != ".lock"]


def processes_of(out):
    "Processes that name a folder in their arguments"
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True).stdout
    return [line.split()[0] for line in found.splitlines() if str(out) in line and "ps -eo" not in line]


class Whole:
    "A work that was left alone: how long it takes, and what it makes"
    def __init__(self, name, home):
        self.name, self.home = name, home
        home.mkdir(parents=True, exist_ok=True)
        if name == "latent":
            latent_pictures(home)
        start = time.monotonic()
        code = ended(forked(WRITERS.get(name) or WORK[name], home, home / "whole"))
        self.seconds = time.monotonic() - start
        if code:
            why = (home / "why").read_text() if (home / "why").exists() else (home / "said").read_text()[-300:]
            raise RuntimeError(f"{name}: an undisturbed run ended with {code}: {why}")
        self.files = contents(home / "whole", name)


# ---- kills

CHAIN = 4 # kills of one folder before it is finished and compared

class Kills:
    "A work is killed at a random moment, started again, …; every fourth time it is left to its end"
    def __init__(self, name, scratch):
        self.whole, self.out = Whole(name, scratch / name), scratch / name / "out"
        self.kills = 0

    def strike(self, generator):
        "One kill; None if the work was faster"
        sign = generator.choice(SIGNALS)
        child = forked(WORK[self.whole.name], self.whole.home, self.out)
        time.sleep(generator.uniform(0, self.whole.seconds))
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return None
        os.kill(child, sign)
        return sign.name if ended(child) != 0 else None

    def __call__(self, number, generator):
        name = self.whole.name
        for _ in range(40):
            before = progress(self.out, name)
            sign = self.strike(generator)
            said = lost(before, progress(self.out, name))
            if said or sign:
                break
            shutil.rmtree(self.out, ignore_errors=True) # it was faster: from the beginning
        self.kills += 1
        if said is None and self.kills % CHAIN == 0:
            said = self.finish()
        if said or self.kills % CHAIN == 0:
            shutil.rmtree(self.out, ignore_errors=True)
        return f"{name} {sign}", said and f"{sign}: {said}"

    def finish(self):
        "Start it for the last time and compare"
        name, before = self.whole.name, progress(self.out, self.whole.name)
        code = ended(forked(WORK[name], self.whole.home, self.out))
        if code:
            why = self.whole.home / "why"
            return f"the last start ended with {code}: {why.read_text() if why.exists() else ''}"
        said = lost(before, progress(self.out, name)) or difference(self.whole.files, contents(self.out, name))
        if said is None and (left := leftovers(self.out)):
            said = f"{left[0]} is left behind"
        if said is None and name == "sweep":
            time.sleep(2)
            said = f"{len(left)} processes are left" if (left := processes_of(self.out)) else None
        return said


def kills_of(name):
    "A section of kills"
    return Section(lambda scratch: warm() or Kills(name, scratch))


def warm():
    "Import what the works need; compute nothing, so that forks are sound"
    import attnattack.attack, attnattack.cli, attnattack.flux.trainer, attnattack.latent.folder # noqa
    import attnattack.flux, accelerate, safetensors.torch, peft # noqa
    import attnattack.evaluate, attnattack.runs.report_page, attnattack.runs.runner # noqa
    [getattr(attnattack.flux, name) for name in ("SemanticConfig", "train_semantic")]
    [getattr(attnattack.evaluate, name) for name in ("EvaluateConfig", "evaluate")]


for _name in WORK:
    SECTIONS[f"kills_{_name}"] = kills_of(_name)


# ---- the disk is full

def no_longer_than(size):
    "A file may have so many bytes; what is longer cannot be written, as on a full disk"
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return limit


class FullDisk:
    "A work that cannot write files beyond a random size, and is then started again with room"
    def __init__(self, scratch):
        self.works = [Whole(name, scratch / name) for name in WRITERS]

    def __call__(self, number, generator):
        whole = self.works[number % len(self.works)]
        out = whole.home / "out"
        size = int(2 ** generator.uniform(4, 16))
        (whole.home / "why").unlink(missing_ok=True)
        code = ended(forked(WRITERS[whole.name], whole.home, out, before=no_longer_than(size)))
        said = self.ending(whole, out, code)
        if said is None:
            code = ended(forked(WRITERS[whole.name], whole.home, out))
            said = f"the second start ended with {code}" if code else difference(whole.files, contents(out, whole.name))
        shutil.rmtree(out, ignore_errors=True)
        if said is not None:
            return whole.name, f"at most {size} bytes a file: {said}"
        return whole.name, self.unnamed(whole, size)

    def unnamed(self, whole, size):
        "What the error does not say, or None"
        why = whole.home / "why"
        kind, text = json.loads(why.read_text()) if why.exists() else ("", str(whole.home))
        if str(whole.home) in text:
            return None
        return OnlyWords(f"{whole.name}, at most {size} bytes a file: names no file: {kind}: {text}")

    def ending(self, whole, out, code):
        "Was there a line, and is no half file there?"
        if code == 0:
            return None
        kind, text = json.loads((whole.home / "why").read_text())
        if not text or kind in ("AssertionError", "KeyError", "TypeError", "AttributeError", "UnboundLocalError"):
            return f"{kind}: {text}"
        partial = {n: f for n, f in contents_of_whole_files(out).items() if whole.files.get(n, f) != f}
        if partial:
            return f"{next(iter(partial))} is half written"
        left = leftovers(out) if out.exists() else []
        return f"{left[0]} is left behind" if left else None


def contents_of_whole_files(out):
    "Pictures only: logs and weights of an earlier step differ from the last ones"
    if not out.exists():
        return {}
    return {p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in out.rglob("*.png") if p.name != "patch.png"}


SECTIONS["full_disk"] = Section(lambda scratch: warm() or FullDisk(scratch))
