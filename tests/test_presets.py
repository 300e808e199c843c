"""The presets for real models, each run to its end with random models of the same classes at small size: every key, every path.

Minutes of processor: `make presets` runs them; the checks only ask whether names and types fit."""
import signal
from pathlib import Path

import pytest

from attnattack import runs

PARAMS = Path(__file__).resolve().parent.parent / "nbs/experiments/params"
DTYPES = ("float32", "bfloat16")

@pytest.fixture(scope="session")
def models(tmp_path_factory):
    "Folders of random models in diffusers' and transformers' format"
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor
    from attnattack.models import dummy_diffusion
    from attnattack.flux import dummy_flux_fill
    root = tmp_path_factory.mktemp("models")
    dummy_diffusion().pipe.save_pretrained(root / "sd")
    dummy_flux_fill().save_pretrained(root / "flux")
    words = runs.read_yaml(PARAMS / "sd.yaml")["layout_guidance"]["objects"].split()
    small = dict(hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8)
    config = SegformerConfig(**small, id2label=dict(enumerate(["ground", *words])))
    SegformerForSemanticSegmentation(config).save_pretrained(root / "segmenter")
    SegformerImageProcessor(size=dict(height=64, width=64)).save_pretrained(root / "segmenter")
    return root

@pytest.fixture(scope="session")
def data(tmp_path_factory):
    "Scenes as RELLIS-3D, as pictures with labels, as triptychs"
    from PIL import Image
    from attnattack.data import OffRoad, write_offroad
    root = tmp_path_factory.mktemp("data")
    write_offroad(OffRoad(24, 0, 64), root) # of which 6 are in the list test
    pictures = sorted((root / "Rellis-3D").rglob("pylon_camera_node/*.png"))[:4]
    assert len(pictures) == 4
    (root / "images").mkdir()
    (root / "triptychs").mkdir()
    for i, p in enumerate(pictures):
        picture = Image.open(p).convert("RGB").resize((64, 64))
        picture.save(root / f"images/{i}.png")
        panels = Image.new("RGB", (96, 32))
        for k in range(3): panels.paste(picture.resize((32, 32)), (32 * k, 0))
        panels.save(root / f"triptychs/{i}.png")
        (root / f"triptychs/{i}.txt").write_text("a log")
    (root / "labels.txt").write_text("1\n2\n3\n4\n")
    return root

WALK = dict(iterations=2, n=2)
SMALL = { # what makes a preset small: entry → parameters, with {data} for the folder above
    ("sd", "patch_attack"): dict(data="{data}/Rellis-3D", height=64, width=64, n=2, n_val=1, n_test=1, seeds=2, iterations=2, accumulate=2, patch_size=16, steps=4, k=1, cross_cells=8),
    ("sd", "timestep_weights"): dict(WALK, data="{data}/images", label_path="{data}/labels.txt", size=64, arms=["uniform", "learnable"], null_iterations=1, null_growth=0, updates=20, starts=1),
    ("sd", "layout_guidance"): dict(segmenter="{models}/segmenter", size=64, steps=3, guided_steps=1, iterations=1, repeats=1, batch=45, rounds=1),
    ("sd", "latent_attack"): dict(WALK, size=64, screen=False, published_walk=False, transfer=["efficientnet-lite1"], baselines=["noise"], defences=["jpeg:75"], show=1),
    ("sd", "benchmark"): dict(small="dummy", res=64, iterations=1, pictures=1, repeats=1, inner=1, big_repeats=1, big_iterations=2, batches=[1], sizes=[64], steps=[3], guided=False),
    ("flux", "semantic_flow"): dict(data="{data}/triptychs", n=2, n_val=2, steps=2, accumulate=1, rank=4, paint_steps=1, jobs=1, full=False, ways=["none", "cross_attention"]),
}
NO_MODEL = {("sd", "report")} # reads runs of others

def test_every_preset_is_here():
    found = {(file, name) for file in ("sd", "flux") for name in runs.read_yaml(PARAMS / f"{file}.yaml")}
    assert found == {*SMALL} | NO_MODEL

def test_presets_fit_their_notebooks():
    for file, name in {*SMALL} | NO_MODEL:
        runs.check_parameters(runs.read_parameters(PARAMS / f"{file}.yaml", name), runs.parameters_of(runs.experiments()[name]))

def given(file, name, dtype, models, data):
    "The preset's small parameters with folders filled in; its own dtype, or the one that is asked for where it has one"
    places = {"{data}": str(data), "{models}": str(models)}
    values = {"benchmark": dict(big=str(models / "sd"))}.get(name, dict(model=str(models / file))) | SMALL[file, name]
    for k, v in values.items():
        for sign, place in places.items():
            if isinstance(v, str): values[k] = v = v.replace(sign, place)
    known = runs.parameters_of(runs.experiments()[name])
    if "dtype" in known: values["dtype"] = dtype
    if "precision" in known: values["precision"] = "bf16" if dtype == "bfloat16" else "no"
    return values

def cases():
    for file, name in SMALL:
        dtypes = DTYPES if "dtype" in runs.parameters_of(runs.experiments()[name]) else DTYPES[:1]
        for dtype in dtypes:
            yield pytest.param(file, name, dtype, id=f"{name}-{dtype}", marks=() if (name, dtype) in QUICK else pytest.mark.slow)

QUICK = [] # (name, dtype) of those that the checks run; empty: `make presets` runs them all

SECONDS = 900 # that one preset may take, on a busy machine too

@pytest.fixture
def bounded():
    "A `TimeoutError` where a preset does not come to its end"
    def over(*_): raise TimeoutError(f"still running after {SECONDS} s")
    handler = signal.signal(signal.SIGALRM, over)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)

@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("file, name, dtype", list(cases()))
def test_preset_runs_to_its_end(file, name, dtype, models, data, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTNATTACK_TESTED", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = runs.run(name, given(file, name, dtype, models, data), PARAMS / f"{file}.yaml", tmp_path / "out")
    made = runs.read_manifest(done.folder)
    assert made["metrics"] and made["params"]["model" if name != "benchmark" else "big"].startswith(str(models))
