"A training of LoRA and semantic module that is killed goes on from its checkpoint and ends bit-equal to one that was not; two processes train; the command trains and samples."
import json, os, signal, subprocess, sys
from pathlib import Path

import pytest, torch
from PIL import Image
from safetensors.torch import load_file
from attnattack.flux.semantic import SemanticConfig, SemanticFluxFillPipeline, SemanticRun, dummy_flux_fill, train_all
from attnattack.flux.semantic import train_semantic

SETTINGS = dict(model="dummy-flux-fill", n=6, n_val=2, panel=32, batch_size=2, accumulate=2, rank=4, lr=1e-2, ema=.9, schedule="cosine", device="cpu", steps=20,
                val_every=5, checkpoint_every=1)
CHILD = "import sys, json; from attnattack.flux.semantic import *\nfor r in train_semantic(SemanticConfig(**json.loads(sys.argv[1]))): print(r.step, flush=True)"

def settings(out, **kw): return SETTINGS | dict(out=str(out), cache=str(out.parent)) | kw
def finish(out):
    run = SemanticRun(SemanticConfig(**settings(out)))
    for _ in train_semantic(run): pass
    return run
def environment(): return os.environ | dict(HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(torch.get_num_threads()))

@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("semantic")/"whole"
    return finish(out), out

def test_kill_and_resume(whole):
    run, out = whole
    half = out.parent/"half"
    child = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(settings(half))], stdout=subprocess.PIPE, text=True, env=environment())
    for line in child.stdout:
        if int(line) >= 10: break
    child.send_signal(signal.SIGKILL); child.wait()
    assert (half/"checkpoint.pt").exists() and len((half/"log.jsonl").read_text().splitlines()) < 20
    again = finish(half)
    for n, p in run.trained.items(): assert torch.equal(p, again.trained[n]) and torch.equal(run.average[n], again.average[n]), n
    assert (out/"log.jsonl").read_text() == (half/"log.jsonl").read_text()
    for name in ("pytorch_lora_weights.safetensors", "semantic.safetensors"):
        a, b = load_file(out/name), load_file(half/name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert not [p.name for p in half.iterdir() if p.name.startswith(".")]

def test_side_by_side(tmp_path):
    def trained(jobs):
        configs = [SemanticConfig(**settings(tmp_path/f"{jobs}-{seed}", steps=2, seed=seed)) for seed in range(2)]
        return train_all(configs, jobs, show=False), [load_file(Path(c.out)/"semantic.safetensors") for c in configs]
    before = torch.get_num_threads(); torch.set_num_threads(1) # as in the processes
    try:
        (_, first), (_, apart) = trained(1), trained(2)
        written = (tmp_path/"1-0"/"checkpoint.pt").stat().st_mtime_ns
        trained(1)
    finally: torch.set_num_threads(before)
    for a, b in zip(first, apart): assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(first[0]["layers.0.scale"], first[1]["layers.0.scale"])
    assert (tmp_path/"1-0"/"checkpoint.pt").stat().st_mtime_ns == written # finished: not trained again

def test_finished_run_is_not_trained_again(whole):
    assert list(train_semantic(SemanticConfig(**settings(whole[1])))) == []

def test_two_processes(whole):
    "Two processes run, one of them writes"
    out = whole[1].parent/"two"
    script = CHILD + "\nprint('done', flush=True)"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    file = whole[1].parent/"train.py"
    file.write_text(script)
    done = subprocess.run([*launch, str(file), json.dumps(settings(out, steps=3, val_every=0))], capture_output=True, text=True, env=environment() | dict(ACCELERATE_USE_CPU="true"), timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("done") == 2 and len((out/"log.jsonl").read_text().splitlines()) == 3 and (out/"pytorch_lora_weights.safetensors").exists()

def test_command(whole, tmp_path):
    picture = tmp_path/"visible.png"
    Image.new("RGB", (32, 32), (20, 30, 40)).save(picture)
    def command(*args): return subprocess.run([sys.executable, "-m", "attnattack.cli", "semantic", *map(str, args)], capture_output=True, text=True, env=environment(), cwd=tmp_path, timeout=120)
    done = command("sample", picture, "--semantic", picture, "--weights", whole[1], "--model", "dummy-flux-fill", "--steps", 2, "--out", "painted.png")
    assert done.returncode == 0, done.stderr[-2000:]
    assert Image.open(tmp_path/"painted.png").size == (32, 32)
    done = command("sample", picture, "--semantic", picture, "--weights", whole[1], "--model", "no-such-model", "--steps", 0, "--out", "x.png")
    assert done.returncode != 0 and done.stderr.strip().splitlines()[-1].startswith("attnattack: steps: 0, must be")

def test_training_that_fails_keeps_the_last_good_files(whole, tmp_path):
    "The command ends with one line at the first value that is not finite; what an earlier step wrote can be loaded"
    given = SETTINGS | dict(lr="1e30", schedule="constant", accumulate=1, val_every=0)
    flags = [x for name, value in given.items() for x in ("-p", name, value)]
    done = subprocess.run([sys.executable, "-m", "attnattack.cli", "semantic", "train", "--out", "run", *map(str, flags)], capture_output=True,
                          text=True, env=environment(), cwd=tmp_path, timeout=120)
    assert done.returncode != 0
    assert "is not finite (lr 1e+30)" in done.stderr.strip().splitlines()[-1]
    steps = len((tmp_path/"run"/"log.jsonl").read_text().splitlines())
    assert steps < 5
    for file in (tmp_path/"run").glob("*.safetensors"): assert all(x.isfinite().all() for x in load_file(file).values())
    if steps: assert SemanticFluxFillPipeline.from_pipe(dummy_flux_fill()).load_semantic(tmp_path/"run").semantic_module is not None
