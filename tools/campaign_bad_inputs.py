"""Wrong values for every setting, every option of every command, and arguments of public functions.

Each must be answered by one line that names the argument, its value and the rule, before anything slow is loaded,
and by an exit code that is not 0. The wrong values are made from the settings' own types and rules."""
import contextlib
import io
import itertools
import os
import random
import re
import resource
import signal
import time
from pathlib import Path
from types import NoneType

from campaign import SECTIONS, Section

NAN, INF = float("nan"), float("inf")
RULE = re.compile(r"must|is not one of|not one of|invalid choice|no such|need|cannot be|did you mean|not a |unknown|"
                  r"there is|no finished|expected|larger than|is a folder|do(es)? not|is not |no runs|[uU]nrecognized|given|not YAML|"
                  r"invalid literal for int|could not convert string to float|into tuple type")
SECONDS = 2. # of the processor


# ---- judging a line

def mentions(text, value):
    "Does a message show a value, in one of the ways in which it may be written?"
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, dict)):
        return any(mentions(text, v) for v in value) or repr(value)[:20] in text
    shown = {str(value), repr(value), str(value)[:30], repr(value)[:30]}
    if isinstance(value, float):
        shown |= {f"{value:g}", f"{value:.3g}"}
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        shown |= {repr(float(value)), f"{float(value):g}"}
    kinds = {type(value).__name__, "None" if value is None else type(value).__name__}
    is_empty = value in ("", [], (), {}) if isinstance(value, (str, list, tuple, dict)) else False
    return any(s and s in text for s in shown | kinds) or is_empty


def misses(text, name, value):
    "What a line does not say, or None"
    if not text or "\n" in text.strip():
        return "not one line"
    words = {name, name.rstrip("s"), name.replace("_", "-")}
    if not any(word in text for word in words):
        return f"does not name {name}"
    if not mentions(text, value):
        return "does not show the value"
    return None if RULE.search(text) else "states no rule"


# ---- settings

def breaks(value, hint, rule):
    "Is a value certainly wrong for a setting of this type and rule?"
    from attnattack.base.config import kinds_of
    kinds = kinds_of(hint)
    if value is None:
        return NoneType not in kinds and None not in rule.choices
    if rule.choices:
        return value not in rule.choices
    if isinstance(value, bool):
        return bool not in kinds
    if isinstance(value, (int, float)):
        if not {int, float} & set(kinds):
            return tuple not in kinds
        if value != value or abs(value) == INF or float not in kinds and value % 1:
            return True
        return not rule.holds(value)
    if isinstance(value, str):
        return str not in kinds
    if isinstance(value, list) and not value:
        return tuple not in kinds # an empty tuple is one
    return not isinstance(value, kinds)


VALUES = (NAN, INF, -INF, -1, -1., 0, 1e30, 1.5, True, None, "x", "", [], {}, b"x", [NAN], [[]], 10**30)


def settings_cases():
    "(configuration, fields that it needs, field, wrong value)"
    from typing import get_type_hints
    from dataclasses import fields
    from attnattack.evaluate.config import EvaluateConfig
    from attnattack.flux.config import SemanticConfig
    from attnattack.latent.config import LatentConfig
    from attnattack.patch_config import PatchConfig
    needed = {EvaluateConfig: dict(clean=".", adversarial=".")}
    found = []
    for config in (PatchConfig, LatentConfig, SemanticConfig, EvaluateConfig):
        hints = get_type_hints(config)
        for f, value in itertools.product(fields(config), VALUES):
            rule = f.metadata["rule"]
            if breaks(value, hints[f.name], rule):
                found.append((config, needed.get(config, {}), f.name, value))
        found += [(config, needed.get(config, {}), None, name) for name in ("lrr", "seeed", "", "bacth_size")]
    return found


def settings_trial(scratch):
    "Make a configuration with one wrong value"
    cases = settings_cases()
    def trial(number, generator):
        config, needed, name, value = cases[number % len(cases)]
        group = config.__name__
        try:
            if name is None:
                config.from_mapping({value: 1})
            else:
                config(**needed | {name: value})
        except (ValueError, OSError) as error:
            said = misses(str(error), value if name is None else name, 1 if name is None else value) \
                if name is not None or value else None
            if name is None:
                said = None if value in str(error) or not value else "does not name it"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        else:
            said = "accepted"
        return group, said and f"{name}={value!r:.60}: {said}"
    return trial


SECTIONS["bad_settings"] = Section(settings_trial, lambda: len(settings_cases()))


# ---- commands

def save_picture(path):
    "A small picture"
    from PIL import Image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)


def wrong_files(home):
    "Things that are no good file: name → path"
    home.mkdir(parents=True, exist_ok=True)
    (home / "empty").write_bytes(b"")
    (home / "noise").write_bytes(bytes(range(256)) * 9)
    (home / "latin").write_bytes(b"a: caf\xe9\n")
    (home / "half.json").write_text('{"a": [1,')
    (home / "list.yaml").write_text("- 1\n- 2\n")
    (home / "folder").mkdir(exist_ok=True)
    if not (home / "pipe").exists():
        os.mkfifo(home / "pipe")
    return [str(home / n) for n in ("empty", "noise", "latin", "half.json", "list.yaml", "folder", "pipe", "missing")] \
        + ["/dev/zero"]


NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e30", "1.5", "x", "")


def option_cases(command, config, given, skip=()):
    "(arguments, option, value) for each option of a command that reads a configuration"
    from typing import get_type_hints
    from dataclasses import fields
    from attnattack.base.config import kinds_of
    hints = get_type_hints(config)
    for f, text in itertools.product(fields(config), NUMBERS):
        rule, kinds = f.metadata["rule"], kinds_of(hints[f.name])
        if f.name in skip or bool in kinds or str in kinds and not rule.choices or tuple in kinds:
            continue
        try:
            value = float(text) if {int, float} & set(kinds) else text
        except ValueError:
            value = text
        if breaks(value, hints[f.name], rule):
            yield [*command, *given, f"--{f.name}", text], f.name, text


def command_cases(home):
    "(arguments, name, value) of every command"
    from attnattack.evaluate.config import EvaluateConfig
    from attnattack.flux.config import SemanticConfig
    from attnattack.latent.config import LatentConfig
    from attnattack.patch_config import PatchConfig
    files, out = wrong_files(home / "files"), str(home / "out")
    pictures = home / "files/pictures"
    save_picture(pictures/"1.png")
    small = ["--model", "dummy", "--device", "cpu"]
    yield from option_cases(["patch"], PatchConfig, ["--out", out], ("out",))
    yield from option_cases(["latent"], LatentConfig, ["--data", str(pictures), "--out", out])
    yield from option_cases(["evaluate"], EvaluateConfig, ["--clean", str(pictures), "--adversarial", str(pictures)])
    yield from option_cases(["semantic", "train"], SemanticConfig, ["--out", out])
    words = ["layout", "--out", out, "--prompt", "a log", "--box", "log", "0", "0", "1", "1", *small]
    for name, text in itertools.product(("steps", "seed", "n", "cfg", "scale", "iterations", "guided_steps",
                                         "threshold", "forward", "refine"), ("nan", "inf", "-inf", "1e30", "x", "1.5")):
        if not (text == "1e30" and name in ("cfg", "scale", "forward", "threshold")) \
                and not (text == "1.5" and name in ("cfg", "scale", "threshold", "forward")):
            yield [*words, f"--{name}", text], name, text
    for name, text in itertools.product(("steps", "n", "iterations", "guided_steps", "refine", "scale"), ("-1", "-7")):
        yield [*words, f"--{name}", text], name, text
    for corner in ("nan", "inf", "-1", "2", "x", "1e30"):
        for place in range(4):
            box = ["0", "0", "1", "1"]
            box[place] = corner
            yield ["layout", "--out", out, "--prompt", "a log", *small, "--box", "log", *box], "box", corner
    for name in ("model", "out"):
        for bad in [*files[:5], files[-1], files[-3]] if name == "model" else [*files[:5], files[-1]]:
            yield ["layout", "--prompt", "a log", *(["--out", out] if name == "model" else []), f"--{name}", bad], name, bad
    yield ["layout", "--out", out, "--prompt", "a log", "--box", "fence", "0", "0", "1", "1", *small], "phrase", "fence"
    for name, texts in dict(n=("0", "-1", "nan", "1.5", "x", "1e30"), size=("0", "-1", "31", "1e9", "x", "nan"),
                            seed=("-1", "x", "nan", "1.5")).items():
        for text in texts:
            yield ["scenes", "--out", out, f"--{name}", text], name, text
    for bad in files:
        yield ["run", "patch_attack", "-f", bad, "--out", out], "file", bad
        yield ["run", bad + ".ipynb", "--out", out], "experiment", bad
        yield ["sweep", bad, "--out", out], "file", bad
        yield ["verify", bad], "run", bad
        yield ["status", bad], "outputs", bad
        yield ["report", bad], "outputs", bad
        yield ["evaluate", bad], "run", bad
        yield ["semantic", "sample", bad, "--out", f"{out}.png"], "visible", bad
        yield ["semantic", "sample", bad, "--out", bad], "out", bad
        yield ["latent", "--data", bad, "--out", out], "data", bad
        yield ["latent", "--data", str(pictures), "--out", out, "--label_path", bad], "label_path", bad
        yield ["latent", "--data", str(pictures), "--out", out, "--class_names", bad], "class_names", bad
        yield ["evaluate", "--clean", bad, "--adversarial", str(pictures)], "clean", bad
        yield ["evaluate", "--clean", str(pictures), "--adversarial", bad], "adversarial", bad
        yield ["semantic", "train", "--out", out, "-f", bad], "file", bad
        if bad != files[5] and Path(bad).exists(): # a folder that is not there yet is none of the wrong ones
            yield ["patch", "--out", bad, "--model", "dummy"], "out", bad
    yield from broken_pictures(home / "broken", pictures, out)
    yield from experiment_cases(out)
    yield from sweep_cases(home / "sweeps", out)
    for name in ("selftest", "experiments", "run", "sweep", "status", "verify", "report", "scenes", "patch", "latent",
                 "layout", "evaluate", "semantic"):
        positional = dict(verify=[str(home)], sweep=[str(home)], run=["patch_attack"]).get(name, [])
        yield [name, *positional, "--bogus", "1"], "bogus", "--bogus"
        yield [name[:-1] + "xx"], "command", name[:-1] + "xx"
    for option, bad in itertools.product(("steps", "guidance", "seed", "map_guidance"), ("nan", "-1", "inf", "x", "1e99")):
        if (option, bad) not in (("guidance", "1e99"), ("map_guidance", "1e99")):
            yield ["semantic", "sample", str(files[0]), "--out", f"{out}.png", f"--{option}", bad], option, bad
    for part in ("", "nothing", "latents", "cli.x", "-1"):
        yield ["selftest", "--upto", part], "upto", part


def broken_pictures(home, good, out):
    "Folders with a file that only looks like a picture, for every command that takes pictures"
    home.mkdir(exist_ok=True)
    (home / "1.png").write_bytes(b"no picture")
    small = ["--model", "dummy", "--device", "cpu"]
    yield ["latent", "--data", str(home), "--out", out, *small], "1.png", str(home)
    yield ["patch", "--data", str(home), "--out", out, *small], "data", str(home)
    yield ["patch", "--data", str(home / "1.png"), "--out", out, *small], "data", str(home)
    yield ["semantic", "train", "--data", str(home), "--out", out], "1.png", str(home)
    yield ["semantic", "sample", str(home / "1.png"), "--out", f"{out}.png"], "1.png", str(home)
    yield ["evaluate", "--clean", str(home), "--adversarial", str(good), "--classifiers", "dummy"], "1.png", str(home)
    yield ["evaluate", "--clean", str(good), "--adversarial", str(home), "--classifiers", "dummy"], "1.png", str(home)


def experiment_cases(out):
    "Wrong values for each parameter of each experiment"
    from attnattack.runs import experiments, parameters_of
    for name, notebook in experiments().items():
        for parameter in parameters_of(notebook).values():
            if parameter.name == "out":
                continue
            if not isinstance(parameter.default, (int, float, bool)):
                continue # any text is a text
            for text in ("x", "[1]"):
                yield ["run", name, "-p", parameter.name, text, "--out", out], parameter.name, text
        yield ["run", name, "-p", "nosuch", "1", "--out", out], "nosuch", "nosuch"


def sweep_cases(home, out):
    "Files of sweeps with one wrong entry"
    home.mkdir(parents=True, exist_ok=True)
    wrong = dict(experiment=(3, "nosuch", ""), grid=("[1]", "{seed: 3}", "{seed: []}", "x"), list=("[1]", "x", "{a: 1}"),
                 random=("[1]", "{n: 0}", "{n: x}", "{n: 2, seed: -1}", "{n: 2, lr: {log: [0, 1]}}", "{n: 2, lr: {uni: [0, 1]}}",
                         "{n: 2, lr: {uniform: [1, 0]}}", "{n: 2, lr: []}", "{n: 2, lr: {log: [.nan, 1]}}"),
                 time_limit=("10m", -1, 0, ".inf", "[1]"), gpus=(-1, 1.5, "x"), retries=(-1, 1.5, "x"), params=(3, "[1]"),
                 nosuch=(1,))
    for name, values in wrong.items():
        for i, value in enumerate(values):
            file = home / f"{name}{i}.yaml"
            file.write_text(("" if name == "experiment" else "experiment: patch_attack\n") + f"{name}: {value}\n")
            part = [p.strip(" .") for p in re.split(r"[{}:]", str(value)) if p.strip()]
            shown = str(part[-1] if part else value).replace(".nan", "nan") # YAML's way to write it
            yield ["sweep", str(file), "--out", out], name, shown


def run_command(argv, folder):
    "(exit code, standard error, seconds of processor) of a command in a fork of this process"
    said = folder / "said"
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (12, 13))
        os.chdir(folder)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = 70
        try:
            from attnattack import cli
            code = cli.main(argv)
        finally:
            os._exit(code or 0)
    end = time.monotonic() + 200
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            end += 10
        time.sleep(.005)
    code = os.waitstatus_to_exitcode(status)
    return code, said.read_text(errors="replace"), usage.ru_utime + usage.ru_stime


def is_right(argv, name, value):
    "An empty file of parameters is one that sets none"
    return name == "file" and "-f" in argv and Path(value).name == "empty"


def commands_trial(scratch):
    "One command with one wrong value"
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    from attnattack import cli # noqa: all that a command imports before it has read its arguments
    own = resource.getrusage(resource.RUSAGE_SELF).ru_utime - start
    cases, folder = list(command_cases(scratch / "cases")), scratch / "here"
    random.Random(0).shuffle(cases) # the first n are of all commands
    cases = [case for case in cases if not is_right(*case)]
    folder.mkdir()
    def trial(number, generator):
        argv, name, value = cases[number % len(cases)]
        shown = " ".join(w for w in argv if str(scratch) not in w)[:110]
        code, text, seconds = run_command(argv, folder)
        return argv[0], judged(code, text, seconds + own, name, value, shown)
    return trial


def judged(code, text, seconds, name, value, shown):
    "What is wrong with a command's answer, or None"
    if code == 0:
        return f"{shown}: accepted"
    if code < 0 or code == 70:
        return f"{shown}: ended by signal {-code}" if code < 0 else f"{shown}: {text[-200:]}"
    if "Traceback" in text:
        return f"{shown}: traceback"
    line = text.strip().removeprefix("attnattack: ")
    said = misses(line, name, value)
    if said and said.startswith("does not name") and str(value) in line and RULE.search(line):
        said = None # a positional argument is named by what was typed
    if said is None and seconds > SECONDS:
        said = f"took {seconds:.1f} s"
    return said and f"{shown}: {said}: {line[:150]}"


def how_many_commands():
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        return sum(not is_right(*case) for case in command_cases(Path(folder)))


SECTIONS["bad_commands"] = Section(commands_trial, how_many_commands)


# ---- functions

KINDS = dict( # kind of argument → wrong values
    count=(0, -1, 1.5, NAN, INF, "x", None), whole=(1.5, NAN, INF, "x", None),
    positive=(0, -1, NAN, INF, "x", None), least0=(-1, NAN, INF, "x", None), share=(-.1, 1.1, NAN, "x", None),
    name=("", "zebra", 99, None, 1.5), choice=("nosuch", "", 3, None), file=("missing", "folder", "pipe", "empty", "noise", "/dev/zero"),
    folder=("missing", "noise", "pipe"), phrase=("", "zebra", 3), empty=([],),
    image=("none", "ndim", "channels", "integer", "nan", "range", "empty", "list"), text=(3, None))


def wrong_pictures(torch):
    "Names of wrong pictures → what they are"
    good = torch.zeros(1, 3, 16, 16)
    nan = good.clone()
    nan[0, 0, 0, 0] = NAN
    return dict(none=None, ndim=good[0], channels=good[:, :2], integer=good.int(), nan=nan, range=good + 3,
                empty=good[:0], list=[1, 2])


def function_cases(scratch):
    "(name, function, good arguments, argument, wrong value, how it may be called in the message)"
    import torch
    from attnattack import classifier, data, ddim, loss, models, patch, utils
    from attnattack.base import checks, config, files, pictures, stats # noqa
    from attnattack.dit import flow
    from attnattack.evaluate import baselines, config as evaluate_config, pairs
    from attnattack.flux import run as flux_run # noqa
    from attnattack.latent import config as latent_config, weights
    from attnattack.layout import boxes, settings
    from attnattack.layout import loss as layout_loss
    from attnattack.runs import order, parameters, plan, runner, store
    files_ = dict(zip(("empty", "noise", "latin", "half.json", "list.yaml", "folder", "pipe", "missing"),
                      wrong_files(scratch / "files"))) | {"/dev/zero": "/dev/zero"}
    model, x = models.dummy_diffusion(), torch.zeros(1, 3, 64, 64)
    net, text = classifier.dummy_classifier(), models.embed(model, "a log")
    z, unit = torch.zeros(1, 4, 8, 8), torch.full((1, 3, 32, 32), .5)
    box = ((0, 0, .5, 1),)
    table = [ # function, good arguments, argument → kind
        (utils.check_image, dict(x=x), dict(x="image")), (utils.load_image, dict(path=""), dict(path="file")),
        (utils.to_pil, dict(x=x), {}), (pictures.open_image, dict(path=""), dict(path="file")),
        (pictures.cover, dict(picture=utils.to_pil(x), size=8), dict(size="count")),
        (pictures.picture_grid, dict(pictures=[utils.to_pil(x)], cols=1, width=1.),
         dict(cols="count", width="positive", pictures="empty")),
        (files.read_text, dict(path=""), dict(path="file")), (stats.rate, dict(hits=1, n=0), {}),
        (models.dummy_diffusion, dict(prediction_type="sample"), dict(prediction_type="choice")),
        (models.load_diffusion, dict(name="dummy"), dict(name="choice")),
        (models.encode, dict(model=model, x=x), dict(x="image")), (models.embed, dict(model=model, prompts="a"), dict(prompts="empty")),
        (models.token_positions, dict(model=model, prompt="a log", phrase="log"), dict(phrase="phrase")),
        (models.label_positions, dict(model=model, template="a {label}", label="log"), {}),
        (ddim.ddim_timesteps, dict(scheduler=model.scheduler, steps=20), dict(steps="count")),
        (ddim.ddim_steps, dict(scheduler=model.scheduler, steps=20, k=2, mode="exact"), dict(steps="count", k="count", mode="choice")),
        (ddim.ddim_reverse, dict(model=model, z=z, emb=text, steps=4, k=1, mode="exact"), dict(steps="count", k="count", mode="choice")),
        (ddim.ddim_denoise, dict(model=model, z=z, emb=text, steps=4, k=1, mode="exact"), dict(steps="count", k="count", mode="choice")),
        (classifier.load_classifier, dict(name="dummy", fit="whole"), dict(name="choice", fit="choice")),
        (classifier.top, dict(classifier=net, x=unit, k=2), dict(k="count", x="image")),
        (classifier.predict, dict(classifier=net, x=unit), dict(x="image")),
        (classifier.labels, dict(classifier=net, y=1, n=1), dict(y="name")),
        (loss.Weights, dict(ce=1., self_=1., cross=1., l2=1.), dict(ce="least0", self_="least0", cross="least0", l2="least0")),
        (patch.EOT, dict(scale=.5, rotation=1., perspective=.1, brightness=.1, contrast=.1, noise=.1, location="center"),
         dict(scale="share", rotation="least0", perspective="share", brightness="least0", contrast="share", noise="share", location="choice")),
        (patch.shape_mask, dict(shape="round", h=8, w=8), dict(shape="choice")),
        (patch.apply_patch, dict(frames=x, patch=torch.zeros(3, 16, 16), eot=False, shape="round", n_patches=1),
         dict(frames="image", shape="choice", n_patches="count")),
        (data.OffRoad, dict(n=2, seed=0, size=64), dict(n="count", seed="least0", size="count")),
        (data.Rellis3D, dict(root="", split="test"), dict(root="folder")),
        (data.find_images, dict(folder=""), dict(folder="folder")), (data.read_labels, dict(path=""), dict(path="file")),
        (weights.schedule, dict(name="learned", n=5), dict(name="choice", n="count")),
        (weights.TimestepWeights, dict(mode="fixed", n=5, name="learned", lr=.1), dict(mode="choice", n="count", name="choice", lr="positive")),
        (latent_config.check_prompt, dict(prompt="{label}"), dict(prompt="text")),
        (settings.Guidance, dict(scale=1., iterations=1, guided_steps=1, threshold=.1, forward=0., refine=0),
         dict(scale="least0", iterations="whole", guided_steps="whole", threshold="least0", refine="whole")),
        (boxes.cells_between, dict(lo=0., hi=1., n=8), dict(lo="share", hi="share", n="count")),
        (boxes.box_mask, dict(boxes=box, grid=(4, 4)), dict(boxes="phrase", grid="count")),
        (boxes.Target, dict(tokens=(1,), boxes=box), dict(tokens="empty", boxes="phrase")),
        (boxes.draw_box, dict(image=x, bboxes=box, width=1), dict(width="count", bboxes="phrase")),
        (layout_loss.sigma_squared, dict(scheduler=model.scheduler, i=0, t=1, c=1.), dict(c="positive")),
        (flow.flow_times, dict(steps=4, last=2, shift=1.), dict(steps="count", shift="positive")),
        (flow.FlowConfig, dict(steps=4, last=2, shift=1., solver="euler", iterations=1, lr=.1),
         dict(steps="count", shift="positive", solver="choice", iterations="whole", lr="positive")),
        (evaluate_config.defence_value, dict(text="jpeg"), dict(text="phrase")),
        (baselines.budget_of, dict(sets=dict(none=x, attack=x), budget="clean"), dict(budget="choice")),
        (pairs.read_pictures, dict(folder=""), dict(folder="folder")),
        (order.notebook_of, dict(experiment="patch_attack"), dict(experiment="phrase")),
        (parameters.read_yaml, dict(file=""), dict(file="file")), (plan.read_sweep, dict(file=""), dict(file="file")),
        (store.records, dict(outputs=""), dict(outputs="folder")), (store.status, dict(outputs=""), dict(outputs="folder")),
        (checks.check_number, dict(name="lr", value=1., at_least=0), dict(value="least0")),
        (checks.fill_prompt, dict(template="a {label}", label="b"), dict(template="text")),
    ]
    wrong = wrong_pictures(torch)
    for function, good, kinds in table:
        for name, kind in kinds.items():
            for value in KINDS[kind]:
                if kind == "image":
                    given = wrong[value]
                else:
                    given = files_.get(value, value) if kind in ("file", "folder") else value
                if value == "empty" and function in (files.read_text, data.read_labels, parameters.read_yaml):
                    continue # an empty text is a text
                yield function.__qualname__, function, good, name, given, value


SAME = { # argument → how a message may call it
    "x": ("image", "picture", "x"), "phrase": ("phrase",), "y": ("class", "y"), "self_": ("weights.self",),
    "n": ("n", "steps"), "grid": ("grid",), "boxes": ("boxes", "box"), "bboxes": ("boxes", "box"), "name": ("name", "model", "classifier", "schedule"),
    "mode": ("mode", "weight_mode"), "lr": ("lr", "weight_lr"), "template": ("prompt",), "value": ("lr",), "text": ("defence",),
    "tokens": ("tokens",), "prompts": ("prompts", "prompt")}


def answer(error, name, given, value):
    "What an exception does not say, or None"
    text = str(error)
    if "\n" in text.strip() or not text:
        return "not one line"
    names = SAME.get(name, (name,))
    on_file = isinstance(given, str) and given and given in text
    if not on_file and not any(n in text for n in names):
        return f"does not name {name}"
    if value not in ("none", "ndim", "channels", "integer", "nan", "range", "empty", "list") and not mentions(text, given):
        return "does not show the value"
    return None if RULE.search(text) or "not readable" in text or "holds" in text or "is empty" in text \
        or "has " in text else "states no rule"


def functions_trial(scratch):
    "Call a function with one wrong argument"
    cases = list(function_cases(scratch))
    def trial(number, generator):
        label, function, good, name, given, value = cases[number % len(cases)]
        start = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                function(**good | {name: given})
        except (ValueError, OSError) as error:
            said = answer(error, name, given, value)
            said = said and f"{said}: {error}"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        else:
            said = "accepted"
        if said is None and time.process_time() - start > SECONDS:
            said = "slow"
        return label, said and f"{label} {name}={value!r:.40}: {said:.200}"
    return trial


def how_many_functions():
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        return len(list(function_cases(Path(folder))))


SECTIONS["bad_arguments"] = Section(functions_trial, how_many_functions)
