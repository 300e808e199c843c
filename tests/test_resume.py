"A patch training that is killed with SIGKILL goes on from its checkpoint and ends bit-equal to one that was not"
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attnattack.attack import PatchConfig, PatchRun, train_patch
from attnattack.base.training import RunLog

SETTINGS = dict(
    model="dummy", classifier="dummy", n=4, n_val=2, height=64, width=64, patch_size=16, k=2, accumulate=2,
    w_self=100., w_cross=100., label="dataset", device="cpu", iterations=24, checkpoint_every=1, val_every=2)
CHILD = """
import sys, json
from attnattack.attack import PatchConfig, train_patch
for record in train_patch(PatchConfig(**json.loads(sys.argv[1]))):
    print(record.iteration, flush=True)
"""


def finish(out, **settings):
    "Train to the end, from wherever the folder stands"
    run = PatchRun(PatchConfig(**SETTINGS | settings, out=str(out)))
    for _ in train_patch(run):
        pass
    return run


def log_of(out):
    return RunLog(out / "log.jsonl", "iteration").read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    return finish(out), log_of(out)


def test_kill_and_resume(whole, tmp_path):
    settings = json.dumps(SETTINGS | dict(out=str(tmp_path)))
    child = subprocess.Popen([sys.executable, "-c", CHILD, settings], stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if int(line) >= 9:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (tmp_path / "checkpoint.pt").exists() and not (tmp_path / "patch.png").exists()
    run = finish(tmp_path)
    assert torch.equal(run.patch, whole[0].patch) and torch.equal(run.best, whole[0].best)
    mine, theirs = ([(r["iteration"], r["terms"], r["success"]) for r in rows] for rows in (log_of(tmp_path), whole[1]))
    assert mine == theirs
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_best_and_last_patch_are_written_at_the_end(whole):
    run, _ = whole
    saved = load_file(Path(run.config.out, "patch.safetensors"))
    assert torch.equal(saved["patch"], run.best.cpu()) and torch.equal(saved["last"], run.patch.detach().cpu())
    assert Path(run.config.out, "patch.png").is_file()


def test_half_a_log_line_is_dropped(whole, tmp_path):
    cheap = dict(w_self=0., w_cross=0.)
    finish(tmp_path, **cheap)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text() + '{"iteration": 25, "upd')
    finish(tmp_path, **cheap)
    assert [r["iteration"] for r in log_of(tmp_path)] == list(range(1, 25))


def test_finished_run_is_not_trained_again(whole, tmp_path):
    first = finish(tmp_path, w_self=0., w_cross=0.)
    run = PatchRun(PatchConfig(**SETTINGS | dict(w_self=0., w_cross=0.), out=str(tmp_path)))
    assert list(train_patch(run)) == [] and torch.equal(run.patch, first.patch)


def test_a_checkpoint_of_before_the_rooms_were_split_is_read(tmp_path):
    "Its configuration lacks younger settings; its tensors and its random state are those of now"
    cheap = dict(w_self=0., w_cross=0., iterations=12)
    straight = finish(tmp_path / "straight", **cheap)
    finish(tmp_path / "old", **cheap | dict(iterations=6))
    file = tmp_path / "old/checkpoint.pt"
    state = torch.load(file, weights_only=True)
    config = json.loads(state["config"])
    for younger in ("log_with", "n_test"):
        del config[younger]
    names = {"patch", "start", "best", "best_success", "rng", "optimizer", "iteration", "updates", "config"}
    assert set(state) == names
    torch.save(state | dict(config=json.dumps(config)), file)
    assert torch.equal(finish(tmp_path / "old", **cheap).patch, straight.patch)


@pytest.mark.parametrize("setting", [dict(seed=1), dict(data_seed=101), dict(n_test=1), dict(scale=(.3, .4))])
def test_a_seed_or_a_setting_that_changed_is_refused(tmp_path, setting):
    cheap = dict(w_self=0., w_cross=0., iterations=2)
    finish(tmp_path, **cheap)
    with pytest.raises(ValueError, match=f"^{next(iter(setting))}: .* was made with"):
        finish(tmp_path, **cheap | setting)
