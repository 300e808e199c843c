"""The latent attack on a folder, killed at random moments, interrupted, started twice: the results are those of a run that was left alone.
And its command: wrong settings are answered in a line before anything slow is loaded, and bind no folder; classes are counted as the user counts."""
import json, multiprocessing, os, random, resource, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
import pytest
from attnattack import cli
from attnattack.data import OBJECTS, OffRoad
from attnattack.evaluate import EvaluateConfig, evaluate
from attnattack.base.files import lock_folder, sha256
from attnattack.latent.config import LatentConfig
from attnattack.latent.folder import attack_folder
from attnattack.latent.pictures import files_of
from attnattack.latent.preparation import new_weights
from attnattack.latent.records import read_records
from attnattack.latent.reference import OURS
from attnattack.latent.weights import load_weights
from attnattack.utils import save_image

N = 4
SETTINGS = dict(model="dummy", classifier="dummy", device="cpu", size=32, start_step=18, iterations=3, null_iterations=2, null_growth=0,
                weight_mode="learnable", weight_lr=.01)
processes = multiprocessing.get_context("forkserver") # children are forked from a process that has imported everything
processes.set_forkserver_preload(["attnattack.latent.folder", "attnattack.cli"])

def attack(settings):
    for _ in attack_folder(LatentConfig(**settings)): pass

def shares(out):
    w = new_weights(LatentConfig(**SETTINGS))
    load_weights(w, out/"weights.safetensors")
    return w.shares()

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("latent")
    for i in range(N): save_image(OffRoad(N, 5, 32)[i].image, home/"images"/f"{i}.png")
    (home/"labels.txt").write_text("".join(f"{1 + i % 8}\n" for i in range(N)))
    return home

def settings(folder, out): return dict(SETTINGS, data=str(folder/"images"), label_path=str(folder/"labels.txt"), out=str(out))

@pytest.fixture(scope="module")
def whole(folder):
    "A run that was left alone, and its seconds"
    t0 = time.time()
    attack(settings(folder, folder/"whole"))
    return read_records(folder/"whole"), time.time() - t0

def waited(condition, seconds=60):
    end = time.time() + seconds
    while not condition() and time.time() < end: time.sleep(.01)
    assert condition()

def test_killed_at_five_random_moments(folder, whole, tmp_path):
    records, seconds = whole
    for _ in range(5):
        child = processes.Process(target=attack, args=(settings(folder, tmp_path),), daemon=True)
        child.start()
        waited(lambda: (tmp_path/"config.json").exists() or child.exitcode is not None)
        time.sleep(moment := random.uniform(0, .6 * seconds))
        child.kill(); child.join()
        done = read_records(tmp_path)
        print(f"killed after {moment:.2f} s with {len(done)} of {N} done, exit code {child.exitcode}")
        for s, r in done.items(): assert r["sha256"] == sha256(tmp_path/"adversarial"/f"{s}.png") == records[s]["sha256"]
    attack(settings(folder, tmp_path))
    done = read_records(tmp_path)
    assert sorted(done) == sorted(records) and shares(tmp_path) == shares(folder/"whole")
    for s, r in records.items():
        without = ("seconds", "source")   # a clock, and the way from this folder to the picture
        assert {k: v for k, v in done[s].items() if k not in without} == {k: v for k, v in r.items() if k not in without}
        for f in files_of(s): assert (tmp_path/f).read_bytes() == (folder/"whole"/f).read_bytes(), f
    assert not [p for p in tmp_path.rglob(".*") if p.is_file() and p.name != ".lock"]
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in (folder/"whole").iterdir()}

def test_second_process_is_refused_until_the_first_is_killed(folder, tmp_path):
    child = processes.Process(target=attack, args=(settings(folder, tmp_path),), daemon=True)
    child.start()
    waited(lambda: (tmp_path/"config.json").exists())
    with pytest.raises(OSError, match="another process is writing here"): attack(settings(folder, tmp_path))
    child.kill(); child.join()
    lock_folder(tmp_path).release()

def command(argv): sys.exit(cli.main(argv))

@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)], ids=["ctrl-c", "terminated"])
def test_interrupted_command_keeps_what_is_done(folder, whole, tmp_path, sent, code):
    argv = ["latent", *(a for k, v in settings(folder, tmp_path).items() for a in (f"--{k}", str(v)))]
    child = processes.Process(target=command, args=(argv,), daemon=True)
    child.start()
    waited(lambda: read_records(tmp_path) or child.exitcode is not None)
    os.kill(child.pid, sent)
    child.join(60)
    done = read_records(tmp_path)
    assert child.exitcode == code and 1 <= len(done) < N
    assert all(r["sha256"] == whole[0][s]["sha256"] for s, r in done.items())

def flags(settings): return [a for k, v in settings.items() for a in (f"--{k}", str(v))]

def maps_of(pid): return [*Path(tempfile.gettempdir()).glob(f"{OURS}{pid}-*")]

def test_maps_of_a_killed_process_are_swept_at_the_next_start(folder, tmp_path):
    kept = dict(settings(folder, tmp_path), checkpoint_steps=True)
    child = processes.Process(target=attack, args=(kept | dict(iterations=500),), daemon=True)
    child.start()
    waited(lambda: maps_of(child.pid) or child.exitcode is not None)
    child.kill(); child.join()
    assert maps_of(child.pid)
    shutil.rmtree(tmp_path)
    attack(kept | dict(iterations=1))
    assert not maps_of(child.pid) and not maps_of(os.getpid())

def test_a_class_counts_alike_in_latent_and_evaluate(folder, tmp_path):
    given = settings(folder, tmp_path) | dict(weight_mode="uniform", iterations=1, target="3")
    assert cli.main(["latent", *flags(given)]) == 0
    assert {(r["target"], r["target_name"]) for r in read_records(tmp_path).values()} == {(2, OBJECTS[2])}
    told = [evaluate(EvaluateConfig(run=str(tmp_path), target=t, features=(), gallery=False, device="cpu"), show=False)["classifiers"]
            for t in (None, "3", 3, OBJECTS[2])]
    assert told[0] == told[1] == told[2] == told[3] and "targeted" in told[0]["attack"]["dummy"]
    other = evaluate(EvaluateConfig(run=str(tmp_path), target="3", label_offset=0, features=(), gallery=False, device="cpu", out=str(tmp_path/"o")), show=False)
    assert other["config"]["label_offset"] == 0
    assert json.loads((tmp_path/"summary.json").read_text())["rates"][2]["n"] == N

def test_a_wrong_setting_binds_no_folder(folder, tmp_path, capsys):
    given = settings(folder, tmp_path) | dict(weight_mode="uniform", iterations=1)
    for name, value, said in (("target", "zebra", "target: 'zebra', must be a class's name or its number, 1 … 8"), ("size", "40", "size: 40, must be a multiple of 32"),
                              ("target", "9", "target: '9', must be"), ("steps", "1000", "steps: 1000, must be less than 1000")):
        assert cli.main(["latent", *flags(given | {name: value})]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path/"config.json").exists()
    assert cli.main(["latent", *flags(given)]) == 0

WRONG = [["--lr", "-1"], ["--lr", "nan"], ["--mode", "foo"], ["--size"], [], ["--prompt", "{label} {foo}"], ["--prompt", "{label:>1000000000}"],
         ["--iterations", "-1"], ["--size", "1000000000"], ["--names_of", "cub_200_2011"]]

@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_wrong_settings_cost_less_than_a_second(argv, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    images = ["--data", str(tmp_path), "--out", str(tmp_path/"out")] if argv else []
    done = subprocess.run([sys.executable, "-m", "attnattack", "latent", *argv, *images], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and done.stderr.startswith("attnattack: ") and done.stderr.count("\n") == 1, done.stderr
    assert not argv or argv[0].strip("-") in done.stderr
    assert after.ru_utime - before.ru_utime < 1 and not (tmp_path/"out").exists()
