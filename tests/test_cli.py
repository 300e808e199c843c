"The command as a process: exit codes, one line for an error, runs that are killed"
import json, os, re, shutil, signal, subprocess, sys, time

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook

import check
from importlib.util import find_spec

from attnattack import cli
from attnattack.commands import selftest
from attnattack.runs import order, runner as runs
from conftest import start

def one_line(err):
    "What the command said, if that was one line without a traceback"
    assert re.fullmatch(r"attnattack: .+\n", err), err
    return err.removeprefix("attnattack: ").strip()

@pytest.fixture
def tiny(tmp_path):
    "An experiment that counts, and writes down the Python that runs it"
    source = ("steps = 2 # how many\nlr = 1e-3\nfail = False\nout = '.'", "import pathlib, sys, time, attnattack\nassert not fail, 'was told to'",
              "for i in range(steps): print('step', i, flush=True); time.sleep(.05)",
              "pathlib.Path(out, 'metrics.json').write_text(f'[{steps}, \"{sys.executable}\", \"{attnattack.__file__}\"]')")
    nb = new_notebook(cells=[new_code_cell(s) for s in source])
    nb.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nb, path := tmp_path / "tiny.ipynb")
    return path

def names(folder): return sorted(p.name for p in folder.iterdir())

# ---- in this process ----

def test_rooms_are_the_notebooks_in_their_order():
    assert cli.rooms() == [check.module_of(p) for p in check.rooms(check.ROOT)]

def test_every_module_has_its_minimal_test():
    for name in cli.rooms(): assert "\ndef _selftest()" in (check.ROOT / f"attnattack/{name.replace('.', '/')}.py").read_text(), name

WRONG = {
    "no command": ([], "command: none, must be one of selftest"),
    "unknown command": (["rnu"], "command: no rnu, did you mean run?; see attnattack --help"),
    "unknown flag": (["run", "tiny.ipynb", "--forse"], "--forse; did you mean --force?; see attnattack run --help"),
    "half a parameter": (["run", "tiny.ipynb", "-p", "steps"], "-p"),
    "unknown experiment": (["run", "patch_atack"], "patch_atack"),
    "unknown parameter": (["run", "tiny.ipynb", "-p", "stesp", "3"], "stesp: no such parameter, did you mean steps?"),
    "wrong type": (["run", "tiny.ipynb", "-p", "steps", "2.5"], "steps: '2.5' is of type float, must be int"),
    "wrong type in a file": (["run", "tiny.ipynb", "-f", "wrong.yaml"], "lr: [1] is of type list, must be float"),
    "parameters that are no YAML": (["run", "tiny.ipynb", "-f", "tiny.ipynb.bad"], "tiny.ipynb.bad: not YAML"),
    "not a notebook": (["run", "bad.ipynb"], "bad.ipynb: not a notebook"),
    "out as a parameter": (["run", "tiny.ipynb", "-p", "out", "x"], "out: is the run's own folder"),
    "no scenes": (["scenes", "--out", "x", "--n", "0"], "n"),
    "a number that is none": (["scenes", "--out", "x", "--n", "ten"], "ten"),
}

@pytest.mark.parametrize("args, words", WRONG.values(), ids=WRONG)
def test_wrong_usage(tiny, tmp_path, monkeypatch, capsys, args, words):
    (tmp_path / "wrong.yaml").write_text("tiny: {lr: [1]}")
    for name in ("bad.ipynb", "tiny.ipynb.bad"): (tmp_path / name).write_text("{a: [")
    before = names(tmp_path)
    monkeypatch.chdir(tmp_path)
    if "patch_atack" in args: monkeypatch.setattr(order, "EXPERIMENTS", tmp_path)
    assert cli.main(args) == 2
    assert words in one_line(capsys.readouterr().err)
    assert names(tmp_path) == before

FAILS = {
    "no such notebook": (["run", "no.ipynb"], "no.ipynb: no such notebook"),
    "no such file of parameters": (["run", "tiny.ipynb", "-f", "no.yaml"], "no.yaml: no such file"),
    "a folder for a file": (["run", "tiny.ipynb", "-f", "."], "is a folder, must be a file"),
    "a device for a file of parameters": (["run", "tiny.ipynb", "-f", "/dev/zero"], "/dev/zero: is a pipe or a device, must be a file"),
    "a device for a sweep": (["sweep", "/dev/zero"], "/dev/zero: is a pipe or a device, must be a file"),
    "a report of nothing": (["report", "nowhere"], "nowhere: no finished runs there"),
    "a file for a folder": (["run", "tiny.ipynb", "--out", "tiny.ipynb/x"], "tiny.ipynb"),
}

@pytest.mark.parametrize("args, words", FAILS.values(), ids=FAILS)
def test_failures(tiny, tmp_path, monkeypatch, capsys, args, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(args) == 1
    assert words in one_line(capsys.readouterr().err)
    assert names(tmp_path) == ["tiny.ipynb"]

def test_a_full_disk_leaves_no_half_file(tiny, tmp_path, monkeypatch, capsys):
    def full(*args): raise OSError(28, "No space left on device")
    monkeypatch.setattr(runs, "_papermill_run", lambda notebook, values, to: (to.write_text("{"), full()))
    assert cli.main(["run", str(tiny), "--out", str(tmp_path / "out")]) == 1
    assert "No space left on device" in one_line(capsys.readouterr().err)
    assert names(tmp_path / "out") == ["params.yaml"]

def test_selftest_stops_at_the_first_that_fails(monkeypatch, capsys):
    from attnattack import loss, release
    def broken(): raise AssertionError("not released")
    monkeypatch.setattr(selftest, "rooms", lambda: ["release", "loss"])
    monkeypatch.setattr(release, "_selftest", broken)
    monkeypatch.setattr(loss, "_selftest", lambda: pytest.fail("went on"))
    assert cli.main(["selftest"]) == 1
    out, err = capsys.readouterr()
    assert one_line(err) == "selftest stopped at release: AssertionError: not released"
    assert "✗" in out and "loss" not in out

def test_selftest_passes(capsys):
    "Its first parts; the check `selftest` makes it whole"
    upto = cli.rooms()[:3]
    assert cli.main(["selftest", "--upto", upto[-1]]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert re.findall(r"^  ([\w.]+) +✓", out, re.M) == upto and out.endswith("3 parts passed\n")

# ---- in processes ----

def test_help_is_quick_to_import(command):
    code, out, err = command("--help", PYTHONPROFILEIMPORTTIME="1")
    assert code == 0 and all(name in out for name in cli.COMMANDS)
    loaded = {line.split("|")[-1].strip() for line in err.splitlines()}
    assert "tyro" in loaded and not loaded & {"torch", "diffusers", "transformers", "papermill", "matplotlib"}

HEAVY = {"torch", "diffusers", "transformers", "accelerate", "kornia", "scipy", "papermill", "matplotlib", "distributed"}
QUICK = [[], ["rnu"], ["--version"], ["run"], ["run", "patch_attack", "-p", "lrr", "1"], ["run", "patch_attack", "-p", "k", "no"], ["sweep", "no.yaml"],
         ["verify", "nowhere"], ["report", "nowhere"], ["status", "nowhere"], ["scenes", "--out", "x", "--n", "0"], ["layout"], ["semantic", "sample"]]
if find_spec("attnattack.latent.config"): QUICK += [["latent", "--foo", "1"], ["latent"], ["evaluate"]]

@pytest.mark.parametrize("args", QUICK, ids=" ".join)
def test_wrong_usage_is_said_before_anything_heavy_is_loaded(command, args):
    _, out, err = command(*args, PYTHONPROFILEIMPORTTIME="1")
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    loaded = {line.split("|")[-1].strip() for line in err.splitlines() if line.startswith("import time:")}
    assert len(said + out.splitlines()) == 1 and "tyro" in loaded and not loaded & HEAVY

@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "gbk"])
@pytest.mark.parametrize("args", [["-c", "from attnattack import cli; cli._any_terminal(); print('\u2713 \u2212 \u2192 \U0001f600')"], ["-m", "attnattack.runs.report_page"]])
def test_terminals_that_lack_letters(encoding, args):
    env = os.environ | dict(PYTHONIOENCODING=encoding, PYTHONPATH=str(check.ROOT))
    done = subprocess.run([sys.executable, *args], env=env, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout

def test_a_self_test_on_a_terminal_that_lacks_letters(tmp_path):
    (tmp_path / "attnattack").mkdir()
    shutil.copy(check.ROOT / "attnattack/__init__.py", tmp_path / "attnattack")
    (tmp_path / "attnattack/part.py").write_text("print('2 \u2212 1 \u2192 1')", "utf-8")
    done = subprocess.run([sys.executable, "-m", "attnattack.part"], cwd=tmp_path, env=os.environ | dict(PYTHONIOENCODING="ascii", PYTHONPATH=""), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2 ? 1 ? 1\n", b"")

def test_nothing_on_the_terminal_but_ours(command):
    args = ["--prompt", "a log", "--box", "log", "0", "0", ".6", ".6", "--model", "dummy", "--steps", "2"]
    assert command("layout", "--out", "made", *args) == (0, "made/0.png\n", "")

def test_a_run_in_a_pipe_is_plain_lines(command, tiny):
    code, out, err = command("run", tiny, "-p", "steps", "3")
    assert code == 0 and [l for l in out.splitlines() if l.startswith("step")] == ["step 0", "step 1", "step 2"]
    assert "\r" not in out + err and err == ""

@pytest.mark.parametrize("args", ["--help", "experiments"])
def test_nobody_reads_to_the_end(args):
    "`| head -1`, with a pipe that is closed before anything is written"
    read, write = os.pipe()
    os.close(read)
    env = os.environ | dict(PYTHONPATH=str(check.ROOT))
    done = subprocess.run([sys.executable, "-m", "attnattack.cli", args], env=env, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.stderr == b"" and done.returncode == 141

def test_a_report_is_a_page_and_no_run(command, tmp_path):
    for i in range(3):
        (folder := tmp_path / f"outputs/walk/{i}").mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(dict(experiment="walk", id=str(i), metrics=dict(loss=i))))
        (folder / "params.yaml").write_text("a: 1\n")
    for _ in range(2):
        code, out, err = command("report", "outputs", PYTHONPROFILEIMPORTTIME="1")
        loaded = {line.split("|")[-1].strip() for line in err.splitlines()}
        assert (code, out) == (0, "outputs/report/report.html\n") and not loaded & (HEAVY - {"distributed"})
        assert '"runs":[' in (page := (tmp_path / "outputs/report/report.html").read_text()) and page.count('"experiment":"walk"') == 3
    assert names(tmp_path / "outputs/report") == ["report.html"]
    assert command("status", "outputs")[1] == "3 runs: 3 finished, 0 running, 0 failed, 0 stopped\n"
    assert command("report", "outputs", "--metric", "los")[0] == 2

def test_usage_error_and_debug(command):
    code, out, err = command("run", "no.ipynb", "--bogus")
    assert (code, out) == (2, "") and "--bogus" in one_line(err)
    code, _, err = command("run", "no.ipynb", ATTNATTACK_DEBUG="1")
    assert code == 1 and "Traceback" in err and err.endswith("attnattack: no.ipynb: no such notebook\n")

def test_run_is_done_once(command, tiny, tmp_path):
    code, out, err = command("run", tiny, "-p", "steps", "3", "-p", "lr", "1e-4")
    folder, = (tmp_path / "outputs/tiny").iterdir()
    assert code == 0 and "step 2" in out and out.endswith(f"done: {folder}\n"), err
    assert names(folder) == ["manifest.json", "metrics.json", "params.yaml", "run.ipynb"]
    steps, python, module = json.loads((folder / "metrics.json").read_text())
    assert (steps, os.path.dirname(module)) == (3, str(runs.PACKAGE)) and os.path.samefile(python, sys.executable)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"id", "start", "end", "seconds", "commit", "dirty", "code", "versions", "device", "dtype", "threads", "seeds", "inputs", "files", "peak_memory"} <= {*manifest}
    code, out, _ = command("run", tiny, "-f", folder / "params.yaml")
    assert (code, out) == (0, f"done already: {folder}\n")

def test_failed_cell(tiny, tmp_path, capsys):
    assert cli.main(["run", str(tiny), "-p", "fail", "yes", "--out", str(tmp_path / "out")]) == 1
    assert one_line(capsys.readouterr().err).startswith("tiny: cell [3] failed with AssertionError: was told to; see ")
    assert names(tmp_path / "out") == ["failed.ipynb", "params.yaml"]
    assert "was told to" in (tmp_path / "out/failed.ipynb").read_text()

def children(pid):
    "Processes that `pid` has started"
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(p) for p in found.split()]

def alive(pid):
    try: return os.kill(pid, 0) is None
    except ProcessLookupError: return False

def test_interrupted_run_is_no_run(tiny, tmp_path):
    process = start("run", tiny, "-p", "steps", 100_000, "--out", tmp_path / "out", cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("step"): break
    kernels = children(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "attnattack: interrupted" in err.splitlines()   # a busy machine may let the dying kernel speak after it
    assert names(tmp_path / "out") == ["params.yaml"]
    time.sleep(.5)
    assert kernels and not any(map(alive, kernels))
