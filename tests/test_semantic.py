"""A training of LoRA and semantic module that is killed goes on from its checkpoint and ends bit-equal to one
that was not; two processes train; the command trains and samples."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from attnattack.flux import SemanticConfig, SemanticFluxFillPipeline, SemanticRun, dummy_flux_fill, train_all
from attnattack.flux import train_semantic

SETTINGS = dict(model="dummy-flux-fill", n=6, n_val=2, panel=32, batch_size=2, accumulate=2, rank=4, lr=1e-2, ema=.9,
                schedule="cosine", device="cpu", steps=20, val_every=5, checkpoint_every=1)
CHILD = ("import sys, json; from attnattack.flux import SemanticConfig, train_semantic\n"
         "for r in train_semantic(SemanticConfig(**json.loads(sys.argv[1]))): print(r.step, flush=True)")


def settings(out, **kw):
    return SETTINGS | dict(out=str(out), cache=str(out.parent)) | kw


def finish(out):
    run = SemanticRun(SemanticConfig(**settings(out)))
    for _ in train_semantic(run):
        pass
    return run


def environment():
    return os.environ | dict(HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(torch.get_num_threads()))


def command(folder, *words):
    "The command `attnattack semantic …` in a folder"
    call = [sys.executable, "-m", "attnattack.cli", "semantic", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, env=environment(), cwd=folder, timeout=120)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("semantic")/"whole"
    return finish(out), out


def test_kill_and_resume(whole):
    run, out = whole
    half = out.parent/"half"
    child = subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(settings(half))], stdout=subprocess.PIPE,
                             text=True, env=environment())
    for line in child.stdout:
        if int(line) >= 10:
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (half/"checkpoint.pt").exists() and len((half/"log.jsonl").read_text().splitlines()) < 20
    again = finish(half)
    for name, p in run.trained.items():
        assert torch.equal(p, again.trained[name]) and torch.equal(run.average[name], again.average[name]), name
    assert (out/"log.jsonl").read_text() == (half/"log.jsonl").read_text()
    for name in ("pytorch_lora_weights.safetensors", "semantic.safetensors"):
        a, b = load_file(out/name), load_file(half/name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert not [p.name for p in half.iterdir() if p.name.startswith(".")]


def trained_side_by_side(folder, jobs):
    configs = [SemanticConfig(**settings(folder/f"{jobs}-{seed}", steps=2, seed=seed)) for seed in range(2)]
    train_all(configs, jobs, show=False)
    return [load_file(Path(c.out)/"semantic.safetensors") for c in configs]


def test_side_by_side(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(1) # as in the processes
    try:
        first, apart = trained_side_by_side(tmp_path, 1), trained_side_by_side(tmp_path, 2)
        written = (tmp_path/"1-0"/"checkpoint.pt").stat().st_mtime_ns
        trained_side_by_side(tmp_path, 1)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(first, apart):
        assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(first[0]["layers.0.scale"], first[1]["layers.0.scale"])
    assert (tmp_path/"1-0"/"checkpoint.pt").stat().st_mtime_ns == written # finished: not trained again


def test_finished_run_is_not_trained_again(whole):
    assert list(train_semantic(SemanticConfig(**settings(whole[1])))) == []


def test_two_processes(whole):
    "Two processes run, one of them writes"
    out = whole[1].parent/"two"
    file = whole[1].parent/"train.py"
    file.write_text(CHILD + "\nprint('done', flush=True)")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", str(file)]
    given = json.dumps(settings(out, steps=3, val_every=0))
    done = subprocess.run([*launch, given], capture_output=True, text=True, timeout=120,
                          env=environment() | dict(ACCELERATE_USE_CPU="true"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("done") == 2 and len((out/"log.jsonl").read_text().splitlines()) == 3
    assert (out/"pytorch_lora_weights.safetensors").exists()


def test_command(whole, tmp_path):
    picture = tmp_path/"visible.png"
    Image.new("RGB", (32, 32), (20, 30, 40)).save(picture)
    given = ["sample", picture, "--semantic", picture, "--weights", whole[1]]
    done = command(tmp_path, *given, "--model", "dummy-flux-fill", "--steps", 2, "--out", "painted.png")
    assert done.returncode == 0, done.stderr[-2000:]
    assert Image.open(tmp_path/"painted.png").size == (32, 32)
    done = command(tmp_path, *given, "--model", "no-such-model", "--steps", 0, "--out", "x.png")
    assert done.returncode != 0 and done.stderr.strip().splitlines()[-1].startswith("attnattack: steps: 0, must be")


def test_flags_file_and_pairs(tmp_path):
    "What is typed as an option wins over -p, -p over the file, the file over the defaults"
    (tmp_path/"given.yaml").write_text("semantic:\n  n: 4\n  rank: 2\n  lr: 0.5\n  light: [0.1, 0.2]\n")
    small = ["--model", "dummy-flux-fill", "--device", "cpu", "--n-val", 1, "--panel", 32, "--steps", 1]
    flags = ["--lr", .01, "--positions", "--mode", "cross_attention", "--light", .3, .4]
    done = command(tmp_path, "train", "--out", "run", *small, *flags, "-f", "given.yaml", "-p", "lr", .25, "-p", "rank", 3)
    assert done.returncode == 0, done.stderr[-2000:]
    config = json.loads(torch.load(tmp_path/"run"/"checkpoint.pt", weights_only=True)["config"])
    found = {name: config[name] for name in ("n", "rank", "lr", "light", "positions", "batch_size", "out")}
    assert found == dict(n=4, rank=3, lr=.01, light=[.3, .4], positions=True, batch_size=4, out="run")


@pytest.mark.parametrize("words, message", [
    (["--lr", "-1"], "lr: -1.0, must be > 0"), (["--panel", "100"], "panel: 100, must be a multiple of 16"),
    (["--mode", "fusion", "--entrance", "tokens"], "entrance: 'tokens', must be noise with mode fusion"),
    (["-p", "ranks", "3"], "ranks"), ([], "out: must be given"),
])
def test_wrong_settings_cost_nothing(words, message, tmp_path):
    "One line, and neither torch nor diffusers was loaded"
    script = ("import sys; from attnattack.cli import main\n"
              "try: main(sys.argv[1:])\n"
              "except SystemExit: pass\n"
              "print('loaded', sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))")
    out = ["--out", "run"] if words else []
    done = subprocess.run([sys.executable, "-c", script, "semantic", "train", *out, *words], capture_output=True,
                          text=True, env=environment(), cwd=tmp_path, timeout=60)
    assert message in done.stderr.strip().splitlines()[-1] and "loaded []" in done.stdout, (done.stdout, done.stderr)
    assert not (tmp_path/"run").exists()


def test_training_that_fails_keeps_the_last_good_files(whole, tmp_path):
    "The command ends with one line at the first value that is not finite; what an earlier step wrote can be loaded"
    given = SETTINGS | dict(lr="1e30", schedule="constant", accumulate=1, val_every=0)
    flags = [x for name, value in given.items() for x in ("-p", name, value)]
    done = command(tmp_path, "train", "--out", "run", *flags)
    assert done.returncode != 0
    assert "is not finite (lr 1e+30)" in done.stderr.strip().splitlines()[-1]
    steps = len((tmp_path/"run"/"log.jsonl").read_text().splitlines())
    assert steps < 5
    for file in (tmp_path/"run").glob("*.safetensors"):
        assert all(x.isfinite().all() for x in load_file(file).values())
    if steps:
        pipe = SemanticFluxFillPipeline.from_pipe(dummy_flux_fill())
        assert pipe.load_semantic(tmp_path/"run").semantic_module is not None


def planted():
    "Module, name, what stands there instead: a fault that the module's self-test must find"
    from attnattack.flux import config, files, fill, flow, latents, lora, pipeline, run, semantic_attention, semantic_module, trainer, triptychs
    pack, draw, add_lora = fill.pack, run.draw_batch, lora.add_lora

    def trains_all(transformer, **kw):
        names = add_lora(transformer, **kw)
        transformer.requires_grad_(True)
        return names

    return {
        "rules between settings are forgotten": (config.SemanticConfig, "check_together", lambda self: None, config),
        "night is day": (triptychs, "dusk", lambda rgb, *rest: rgb, triptychs),
        "tokens are in another order": (fill, "pack", lambda z: pack(z).flip(1), fill),
        "the map does not enter": (semantic_module, "add_semantics", lambda m, call, *rest: call, semantic_module),
        "attention looks everywhere alike": (semantic_attention, "attention_map", lambda layer, x, s, rows: torch.full((1, 8, 8, 4), .25), semantic_attention),
        "a panel of any size is taken": (files, "open_image", lambda path: Image.new("RGB", (32, 32)), files),
        "the frozen model learns": (lora, "add_lora", trains_all, lora),
        "the map does not pull": (flow, "guided_velocity", lambda net, *a: net(*a[:-1]), flow),
        "nothing is masked": (latents, "right_mask", lambda x: torch.zeros_like(x[:, :1]), latents),
        "each backward pass sees the same": (run, "draw_batch", lambda c, n, step, *rest: draw(c, n, step), run),
        "a stopped training begins again": (trainer, "load_state", lambda *a: None, trainer),
        "the pipeline ignores the map": (pipeline, "add_semantics", lambda m, call, *rest: call, pipeline),
    }


def test_selftests_die(monkeypatch):
    for fault, (where, name, wrong, room) in planted().items():
        with monkeypatch.context() as patch:
            patch.setattr(where, name, wrong)
            try:
                room._selftest()
            except (AssertionError, ValueError):
                continue
        pytest.fail(f"no self-test dies where {fault}")
