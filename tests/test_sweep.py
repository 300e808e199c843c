"Many runs: workers that are killed, sweeps that are interrupted, many writers, an object store"
import json, os, signal, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook

from attnattack import cli
from attnattack.runs import runner as runs, store, sweeps, verification as verify
from conftest import start

@pytest.fixture
def tiny(tmp_path):
    "An experiment that notes its start and its end, and takes its time"
    source = ("a = 1\nseconds = 0.0\nfail = False\nout = ''\nnotes = ''", "import json, os, time\ndef note(w):\n    if notes: f = os.open(notes, os.O_APPEND | os.O_CREAT | os.O_WRONLY); os.write(f, f'{w} {a}\\n'.encode()); os.close(f)\nnote('start')",
              "time.sleep(seconds); assert not fail, 'was told to'", "json.dump(dict(double=2 * a), open(f'{out}/metrics.json', 'w')); note('end')")
    nb = new_notebook(cells=[new_code_cell(s) for s in source])
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, path := tmp_path / "tiny.ipynb")
    return path

def finished(out): return sorted((r["params"]["a"], r["metrics"]["double"]) for r in store.records(out))

# ---- workers that die, sweeps that are interrupted

def test_every_run_is_finished_once_though_a_worker_is_killed(tiny, tmp_path):
    out, notes = tmp_path / "out", tmp_path / "notes"
    s = sweeps.Sweep(str(tiny), dict(seconds=2, notes=str(notes)), grid=dict(a=[1, 2, 3, 4, 5]))
    client = sweeps.connect(workers=2)
    try:
        outcomes = sweeps.sweep(s, out, client)
        got = [next(outcomes)]
        pids = client.run(os.getpid)
        while not (busy := [w for w, keys in client.processing().items() if keys]): time.sleep(.05)
        time.sleep(1)
        os.kill(pids[busy[0]], signal.SIGKILL)
        got += list(outcomes)
    finally: client.cluster.close(); client.close()
    assert [(o.state, o.why) for o in got] == [("finished", "")] * 5 and len({o.id for o in got}) == 5
    assert finished(out) == [(a, 2 * a) for a in (1, 2, 3, 4, 5)]
    lines = notes.read_text().splitlines()
    ends = [l for l in lines if l.startswith("end")]
    assert set(ends) == {f"end {a}" for a in (1, 2, 3, 4, 5)}
    assert len(lines) <= 12, "more than the killed worker's run was made again" # it may die between its end and its manifest
    assert not [p for p in out.rglob(".*")], "something half-written is left"

def test_an_interrupted_sweep_is_resumed(tiny, tmp_path, capsys):
    (file := tmp_path / "sweep.yaml").write_text(f"experiment: {tiny}\nparams: {{seconds: 1.0, notes: {tmp_path}/notes}}\ngrid: {{a: [1, 2, 3]}}\n")
    process = start("sweep", file, "--workers", 1, "--out", tmp_path / "out", cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("finished"): break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "attnattack: interrupted")
    assert len(finished(tmp_path / "out")) in (1, 2)
    assert cli.main(["sweep", str(file), "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {l.split()[0] for l in lines} == {"found", "finished"} # and no dashboard, which others could read
    assert finished(tmp_path / "out") == [(a, 2 * a) for a in (1, 2, 3)]

def test_what_a_killed_run_leaves_is_cleaned(tiny, tmp_path, capsys):
    process = start("run", tiny, "-p", "seconds", 60, "-p", "notes", tmp_path / "notes", "--out", tmp_path / "out/x", cwd=tmp_path)
    while not (tmp_path / "notes").exists(): time.sleep(.1)
    assert store.state_of(tmp_path / "out/x").state == "running"
    process.kill(); process.wait()
    assert [p for p in (tmp_path / "out/x").glob(".run.*.ipynb")]
    assert cli.main(["status", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"stopped   {tmp_path}/out/x", "1 runs: 0 finished, 0 running, 0 failed, 1 stopped"]
    runs.run(tiny, out=tmp_path / "out/x")
    assert sorted(p.name for p in (tmp_path / "out/x").iterdir()) == ["manifest.json", "metrics.json", "params.yaml", "run.ipynb"]

# ---- whose orders a sweep takes

STRANGER = "import sys, distributed; c = distributed.Client(sys.argv[1], timeout=2); print(c.run_on_scheduler(lambda: 'ran'))"

def test_a_stranger_gives_no_orders():
    client = sweeps.connect(workers=1)
    try:
        port = client.scheduler.address.split(":")[-1]
        said = [subprocess.run([sys.executable, "-c", STRANGER, f"{p}://127.0.0.1:{port}"], capture_output=True, text=True) for p in ("tcp", "tls")]
        assert all(done.returncode and "ran" not in done.stdout for done in said)
        assert client.run_on_scheduler(lambda: "ran") == "ran"
    finally: client.cluster.close(); client.close()

# ---- what a sweep says when it cannot start

def test_workers_that_do_not_fit():
    def client(version): return SimpleNamespace(wait_for_workers=lambda *a, **kw: None, run=lambda f: {"tcp://w:1": version})
    with pytest.raises(ValueError, match="worker: tcp://w:1 has no attnattack; there: pip install attnattack==" + runs.__version__): sweeps.check_workers(client(None))
    with pytest.raises(ValueError, match="worker: tcp://w:1 has attnattack 0.0.1, here is " + runs.__version__): sweeps.check_workers(client("0.0.1"))
    sweeps.check_workers(client(runs.__version__))

def test_a_scheduler_that_does_not_answer(tiny, tmp_path, monkeypatch, capsys):
    (file := tmp_path / "sweep.yaml").write_text(f"experiment: {tiny}\n")
    monkeypatch.setattr(sweeps.connect, "__defaults__", (*sweeps.connect.__defaults__[:-2], .5, False))
    assert cli.main(["sweep", str(file), "--scheduler", "tcp://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err == "attnattack: scheduler: nothing answers at tcp://127.0.0.1:9 within 0.5 s; `dask scheduler` starts one\n"

# ---- many writers

WRITER = """import sys, time
from pathlib import Path
from attnattack.runs import runner as runs
me, out = int(sys.argv[1]), Path(sys.argv[2])
for i in range(50):
    folder = out/f"{me}-{i}"; folder.mkdir(parents=True)
    (folder/"metrics.json").write_text(f'{{"loss": {me * 50 + i}}}')
    runs._finish(folder, Path("walk.ipynb"), f"{me}-{i}", dict(me=me), {}, dict(start=runs._now()), time.time())"""

def test_eight_processes_write_four_hundred_records(tmp_path):
    env = os.environ | dict(PYTHONPATH=str(runs.PACKAGE.parent))
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(i), str(tmp_path / "out")], env=env) for i in range(8)]
    while any(w.poll() is None for w in writers):
        try: store.records(tmp_path / "out") # a reader between them never sees half a record
        except FileNotFoundError: pass
        time.sleep(.1)
    assert [w.returncode for w in writers] == [0] * 8
    assert sorted(r["metrics"]["loss"] for r in store.records(tmp_path / "out")) == list(range(400))

# ---- an object store

@pytest.fixture
def bucket(monkeypatch):
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0); server.start()
    host, port = server.get_host_and_port()
    for k, v in dict(AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1").items(): monkeypatch.setenv(k, v)
    boto3.client("s3").create_bucket(Bucket="runs")
    from cloudpathlib import S3Client
    S3Client().set_as_default_client()
    yield "s3://runs"
    server.stop()

def test_runs_in_an_object_store(tiny, tmp_path, bucket):
    done = runs.run(tiny, dict(a=4), out=f"{bucket}/one")
    assert done.fresh and sorted(p.name for p in done.folder.iterdir()) == ["manifest.json", "metrics.json", "params.yaml", "run.ipynb"]
    assert not runs.run(tiny, dict(a=4), out=f"{bucket}/one").fresh
    with pytest.raises(RuntimeError, match="was told to"): runs.run(tiny, dict(fail=True), out=f"{bucket}/bad")
    assert sorted(p.name for p in runs.cloud(f"{bucket}/bad").iterdir()) == ["failed.ipynb", "params.yaml"]
    assert str(verify.verify(f"{bucket}/one", tiny)) == "bit-equal in 1 files"
    o, = sweeps.sweep(sweeps.Sweep(str(tiny), dict(a=5)), f"{bucket}/sweep")
    assert (o.state, o.why) == ("finished", "") and o.folder.startswith("s3://runs/sweep/tiny/")
    assert [o.state for o in sweeps.sweep(sweeps.Sweep(str(tiny), dict(a=5)), f"{bucket}/sweep")] == ["found"]
    assert finished(bucket) == [(4, 8), (5, 10)]
