"""The latent attack on a folder, killed at random moments, interrupted, started twice: the results are those of a run that was left alone."""
import multiprocessing, os, random, signal, sys, time
import pytest
from attnattack import cli
from attnattack.data import OffRoad
from attnattack.latent import LatentConfig, attack_folder, files_of, lock_folder, new_weights, read_records, sha256
from attnattack.utils import save_image
from attnattack.weights import load_weights

N = 4
SETTINGS = dict(pretrained_diffusion_path="dummy", model_name="dummy", device="cpu", res=32, start_step=18, iterations=3, null_iterations=2, null_growth=0,
                weight_mode="learnable", weight_lr=.01)
processes = multiprocessing.get_context("forkserver") # children are forked from a process that has imported everything
processes.set_forkserver_preload(["attnattack.latent", "attnattack.cli"])

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

def settings(folder, out): return dict(SETTINGS, images_root=str(folder/"images"), label_path=str(folder/"labels.txt"), save_dir=str(out))

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
        assert {k: v for k, v in done[s].items() if k != "seconds"} == {k: v for k, v in r.items() if k != "seconds"}
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
