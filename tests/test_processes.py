"Two processes of `accelerate launch` train the patch that one does with twice the batch"
import json, os, socket, subprocess, sys
from pathlib import Path

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook
from safetensors.torch import load_file

from attnattack.attack import PatchConfig, PatchRun, train_patch
from attnattack import runs

SETTINGS = dict(model="dummy", classifier="dummy", n=6, n_val=2, height=64, width=64, patch_size=16, k=2, accumulate=2, w_self=100., w_cross=100.,
                label="dataset", device="cpu", iterations=6, val_every=2, checkpoint_every=1, batch_size=2, attend=1)

def launch(*args, cwd):
    "`accelerate launch` with two CPU processes"
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    options = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)]
    env = os.environ | dict(PYTHONPATH=str(runs.PACKAGE.parent), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", ACCELERATE_USE_CPU="true")
    return subprocess.run([sys.executable, "-m", "accelerate.commands.launch", *options, *args], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)

def test_two_processes_are_one_with_twice_the_batch(tmp_path):
    cell = "\n".join(f"{k} = {v!r}" for k, v in SETTINGS.items()) + "\nout = ''"
    work = f"from attnattack.attack import PatchConfig, PatchRun, train_patch\nr = PatchRun(PatchConfig(**{{k: globals()[k] for k in {[*SETTINGS]}}}, out=out))\nrows = list(train_patch(r))\n" \
           "import json; json.dump(dict(processes=r.accelerator.num_processes, loss=rows[-1].loss), open(f'{out}/metrics.json', 'w'))"
    nb = new_notebook(cells=[new_code_cell(cell, metadata=dict(tags=["parameters"])), new_code_cell(work)])
    nbformat.write(nb, tmp_path / "patch.ipynb")
    done = launch("-m", "attnattack", "run", tmp_path / "patch.ipynb", "--out", tmp_path / "two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    one = PatchRun(PatchConfig(**SETTINGS | dict(batch_size=4, attend=2), out=str(tmp_path / "one")))
    rows = list(train_patch(one))
    a, b = (load_file(tmp_path / n / "patch.safetensors")["last"] for n in ("one", "two"))
    assert (a - one.start).abs().max() > .01 and (a - b).abs().max() <= 1e-5
    metrics = json.loads((tmp_path / "two/metrics.json").read_text())
    assert metrics["processes"] == 2 and metrics["loss"] == pytest.approx(rows[-1].loss, rel=1e-5)
    logs = [[json.loads(l)["terms"] for l in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in ("one", "two")]
    assert len(logs[1]) == 6 and all(y == pytest.approx(x, rel=1e-4, abs=1e-7) for x, y in zip(*logs))
