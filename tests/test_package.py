"The package as a user installs it: built from the sources, in an environment of its own, away from the clone"
import json, os, shutil, subprocess, sys, sysconfig, tarfile, venv, zipfile
from pathlib import Path

import pytest
from PIL import Image

from attnattack.latent.pictures import files_of

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("attnattack", "nbs/experiments", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE",
           "CHANGELOG.md", "CITATION.cff", "constraints.txt")
EXPERIMENTS = {path.stem for path in (ROOT / "nbs/experiments").glob("*.ipynb")}
PARAMS = {path.name for path in (ROOT / "nbs/experiments/params").glob("*.yaml")}

def copy_sources(to):
    "What is built: building writes beside it"
    leave = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in SOURCES:
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=leave) if source.is_dir() else shutil.copy(source, target)

def without(*names):
    "This process's environment, less some variables"
    return {name: value for name, value in os.environ.items() if name not in names}

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The wheel and the sdist; the wheel is made from the sdist"
    tmp = tmp_path_factory.mktemp("package")
    copy_sources(tmp / "sources")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp / "dist", tmp / "sources"]
    done = subprocess.run(command, capture_output=True, text=True, env=without("PYTHONPATH"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    wheel, = (tmp / "dist").glob("*.whl")
    sdist, = (tmp / "dist").glob("*.tar.gz")
    return wheel, sdist

@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    "A fresh environment with the wheel; its libraries are those of this one"
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home / "venv", with_pip=False)
    python = home / "venv/bin/python"
    site, = (home / "venv/lib").glob("python*/site-packages")
    libraries = dict.fromkeys([sysconfig.get_path("purelib"), *(p for p in sys.path if p.endswith("site-packages"))])
    (site / "libraries.pth").write_text("\n".join(libraries))   # plain folders: an editable install there stays behind
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", "--ignore-installed"]
    done = subprocess.run([*pip, built[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return home

@pytest.fixture
def command(installed, tmp_path):
    "`attnattack` of the fresh environment, in an empty folder"
    def run(*args):
        env = without("PYTHONPATH") | dict(HF_HUB_OFFLINE="1", ATTNATTACK_TESTED="1", PYTHONIOENCODING="utf-8")
        whole = [installed / "venv/bin/attnattack", *map(str, args)]
        done = subprocess.run(whole, cwd=tmp_path, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout
    return run

def package_of(home):
    "Where the fresh environment imports attnattack from"
    code = "import attnattack, sys; sys.stdout.write(attnattack.__path__[0])"
    python = home / "venv/bin/python"
    return Path(subprocess.run([python, "-c", code], cwd=home, env=without("PYTHONPATH"), capture_output=True, text=True).stdout)

def test_wheel_holds_experiments_without_outputs(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        notebooks = {Path(n).stem: json.loads(wheel.read(n)) for n in names if n.startswith("attnattack/experiments/") and n.endswith(".ipynb")}
    assert set(notebooks) == EXPERIMENTS
    assert {Path(n).name for n in names if n.startswith("attnattack/experiments/params/")} == PARAMS
    code = [c for nb in notebooks.values() for c in nb["cells"] if c["cell_type"] == "code"]
    assert code and all(c["outputs"] == [] and c["execution_count"] is None for c in code)
    assert "attnattack/py.typed" in names and "attnattack/assets/tiny-sd/model_index.json" in names
    trained = ("semantic.json", "semantic.safetensors", "pytorch_lora_weights.safetensors")
    assert {f"attnattack/assets/tiny-flux-fill-map/{name}" for name in trained} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "tools/", "nbs/", "docs/"))]

def test_sdist_holds_what_the_wheel_is_made_of(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {f"nbs/experiments/{name}.ipynb" for name in EXPERIMENTS} <= names
    assert {"setup.py", "LICENSE", "README.md", "attnattack/py.typed"} <= names

def test_experiment_and_report_away_from_the_clone(command, installed, tmp_path):
    package = package_of(installed)
    assert package.is_relative_to(installed) and not package.is_relative_to(ROOT)
    assert EXPERIMENTS <= set(command("experiments").split())
    command("run", "patch_attack", "-f", package / "experiments/params/smoke.yaml", "--out", "runs/patch")
    manifest = json.loads((tmp_path / "runs/patch/manifest.json").read_text())
    assert manifest["experiment"] == "patch_attack" and manifest["metrics"]
    assert "runs/report/report.html" in command("report", "runs")
    assert "patch_attack" in (tmp_path / "runs/report/report.html").read_text()

def test_latent_attack_of_two_pictures(command, tmp_path):
    (tmp_path / "images").mkdir()
    for name, colour in (("a", (90, 120, 60)), ("b", (140, 110, 80))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"images/{name}.png")
    (tmp_path / "labels.txt").write_text("1\n2\n")
    small = "--res 64 --start-step 18 --iterations 1 --null-iterations 1".split()
    command("latent", "--images-root", "images", "--label-path", "labels.txt", "--save-dir", "out", *small)
    made = [tmp_path / "out" / file for stem in "ab" for file in files_of(stem)]
    assert [str(file) for file in made if not file.is_file()] == []

def test_a_type_checker_sees_through_the_doors(installed, tmp_path):
    settings = "[mypy]\nignore_missing_imports = True\nfollow_imports = skip\n[mypy-attnattack.*]\nfollow_imports = silent\n"
    (tmp_path / "mypy.ini").write_text(settings)
    (tmp_path / "user.py").write_text("from attnattack import load_diffusion\nload_diffusion(model=1, shape=2)\nreveal_type(load_diffusion)\n")
    python = ["--python-executable", installed / "venv/bin/python", "--cache-dir", tmp_path / "cache"]
    command = [sys.executable, "-m", "mypy", *python, "--config-file", "mypy.ini", "user.py"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=without("PYTHONPATH")).stdout
    assert 'Unexpected keyword argument "shape" for "load_diffusion"' in said
    assert "attnattack.diffusion.Diffusion" in said

def test_a_part_of_the_demonstration(installed, tmp_path):
    python = installed / "venv/bin/python"
    done = subprocess.run([python, "-m", "attnattack.demo"], cwd=tmp_path, env=without("PYTHONPATH"), capture_output=True, text=True)
    assert done.returncode == 0 and "demo: a page of" in done.stdout, done.stderr

@pytest.mark.slow
def test_the_whole_demonstration(command, tmp_path):
    command("demo", "--out", "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000
