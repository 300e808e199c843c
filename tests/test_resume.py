"""A patch training that is killed with SIGKILL goes on from its checkpoint and ends bit-equal to one that was not."""
import json, os, signal, subprocess, sys, time
from pathlib import Path
import pytest, torch
from attnattack.attack import PatchConfig, PatchRun, train_patch

SETTINGS = dict(model="dummy", classifier="dummy", n=4, n_val=2, height=64, width=64, patch_size=16, k=2, accumulate=2, w_self=100., w_cross=100.,
                label="dataset", device="cpu", iterations=24, checkpoint_every=1, val_every=2)
CHILD = "import sys, json; from attnattack.attack import *\nfor r in train_patch(PatchConfig(**json.loads(sys.argv[1]))): print(r.iteration, flush=True)"

def finish(out):
    run = PatchRun(PatchConfig(**SETTINGS, out=str(out)))
    for _ in train_patch(run): pass
    return run

def lines(out): return [json.loads(l) for l in (Path(out)/"log.jsonl").read_text().splitlines()]

@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return finish(out), lines(out)

def test_kill_and_resume(whole, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(dict(SETTINGS, out=str(tmp_path)))], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if int(line) >= 9: break
    child.send_signal(signal.SIGKILL); child.wait()
    assert (tmp_path/"checkpoint.pt").exists() and not (tmp_path/"patch.png").exists()
    run = finish(tmp_path)
    assert torch.equal(run.patch, whole[0].patch) and torch.equal(run.best, whole[0].best)
    assert [(r["iteration"], r["terms"], r["success"]) for r in lines(tmp_path)] == [(r["iteration"], r["terms"], r["success"]) for r in whole[1]]
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]

def test_half_a_log_line_is_dropped(whole, tmp_path):
    finish(tmp_path)
    log = tmp_path/"log.jsonl"
    log.write_text(log.read_text() + '{"iteration": 25, "upd')
    finish(tmp_path)
    assert [r["iteration"] for r in lines(tmp_path)] == list(range(1, 25))

def test_finished_run_is_not_trained_again(whole, tmp_path):
    finish(tmp_path)
    run = PatchRun(PatchConfig(**SETTINGS, out=str(tmp_path)))
    assert list(train_patch(run)) == [] and torch.equal(run.patch, whole[0].patch)
