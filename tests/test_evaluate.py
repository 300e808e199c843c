"The evaluation's door, its self-tests with a planted fault each, and what a wrong setting costs"
import importlib
import resource
import subprocess
import sys

import pytest
import torch

from attnattack import evaluate as door
from attnattack.base import names, quality
from attnattack.evaluate import baselines, config, defences, distances, evaluation, gallery, pairs, success, tables

OLD = dict(answers="predict_classes", counted="correctly_classified", outcome="score", cell="format_figure",
           strip="gallery_row")


@pytest.mark.parametrize("old, new", OLD.items())
def test_old_names_are_the_new_functions(old, new):
    assert getattr(door, old) is getattr(door, new)


def test_every_name_of_the_door_is_there():
    for name in door.__all__:
        assert getattr(door, name) is not None, name


def test_the_door_leads_to_functions_also_when_all_rooms_are_loaded():
    for room in "config pairs success distances defences baselines gallery evaluation tables".split():
        importlib.import_module(f"attnattack.evaluate.{room}")
    for name in ("evaluate", "report", "quality", "measure", "load_inputs"):
        assert callable(getattr(door, name)), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        door.no_such_name


def all_of(f):
    "`f` with every picture counted"
    return lambda hits, among: f(hits, torch.ones_like(among))


PLANTED = {
    "names are not read": (names, "class_index", lambda *a, **kw: 0),
    "every picture is equal": (quality, "quality", lambda a, b, f=quality.quality: f(b, b)),
    "every strength is right": (config, "defence_value", lambda text: (text, 1.)),
    "names are sorted as letters": (pairs, "find_images", lambda folder: sorted(folder.iterdir())),
    "everybody counts": (success, "share", all_of(success.share)),
    "sets are equal": (distances, "set_distances", lambda a, b, f=distances.set_distances: f(a, a)),
    "nothing is smoothed": (defences, "gauss", lambda x, sigma: x),
    "the noise is too small": (baselines, "noise_of", lambda x, size, g, f=baselines.noise_of: f(x, size / 2, g)),
    "the difference is grey": (gallery, "amplified", lambda a, x: torch.full_like(a, .5)),
    "nobody was attacked": (evaluation, "transfer", lambda classifiers, sets, *a, f=evaluation.transfer:
                            f(classifiers, {k: sets["attack"] for k in sets}, *a)),
    "figures have no n": (tables, "format_figure", lambda figure: f"{figure.get('rate', figure.get('mean')):.0%}"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_selftests_die(fault, monkeypatch):
    room, name, wrong = PLANTED[fault]
    room._selftest()
    monkeypatch.setattr(room, name, wrong)
    with pytest.raises(AssertionError):
        room._selftest()


WRONG = [
    [], ["--clean", "."], [".", "--clean", "."], ["no/such/folder"], [".", "--steps", "0"], [".", "--eps", "nan"],
    [".", "--defences", "jpeg:0"], [".", "--baselines", "fgsm"], [".", "--budgets", "half"], [".", "--size", "9000"],
]


@pytest.mark.parametrize("argv", WRONG, ids=" ".join)
def test_wrong_settings_cost_less_than_a_second(argv):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "attnattack", "evaluate", *argv], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = 1 if argv == ["no/such/folder"] else 2
    assert done.returncode == code and done.stderr.startswith("attnattack: "), done.stderr
    assert done.stderr.count("\n") == 1 and after.ru_utime - before.ru_utime < 1
