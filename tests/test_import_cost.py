"The doors that work on tensors load what they need when it is needed: importing them costs what torch costs"
import subprocess, sys

import pytest

NAMES = {
    "attnattack.latent": ("attack_folder", "latent_attack"),
    "attnattack": ("train_patch", "load_diffusion", "load_classifier", "ddim_reverse", "hijacked", "overlay"),
}
HEAVY = ("accelerate", "diffusers", "kornia", "matplotlib", "scipy", "torchmetrics", "transformers")


@pytest.mark.parametrize("door", NAMES)
def test_no_heavy_library_is_loaded(door):
    code = f"import sys\nfrom {door} import {', '.join(NAMES[door])}\nprint(*sorted({set(HEAVY)} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
