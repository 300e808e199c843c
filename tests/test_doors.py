"What a notebook cannot show well: self-tests die of a planted fault, doors do not hang, all of them agree"
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnattack import classifier, data, models, utils


def shifted(f):
    "`f` with one added to every number of its list"
    return lambda *a, **kw: [v + 1 for v in f(*a, **kw)]


class NoMean(classifier.Preprocess):
    "A preprocessing that forgets the mean"
    def __call__(self, x): return self.resize(x) / x.new_tensor(self.std)[:, None, None]


PLANTED = {
    "transparency stays": (utils, utils, "_on_black", lambda im: im),
    "the range is not changed": (utils, utils, "to_unit", lambda x: x),
    "latents are not scaled": (models, models, "encode", lambda model, x, g=None: model.vae.encode(x).latent_dist.mode()),
    "the label stands one further": (models, models, "label_positions", shifted(models.label_positions)),
    "nothing is frozen": (models, models, "freeze", lambda model: model),
    "labels count from 1 in every table": (data, data, "read_labels", shifted(data.read_labels)),
    "label maps are empty": (data, data, "_open_label", lambda path, size: Image.new("L", size)),
    "the mean is forgotten": (classifier, classifier, "Preprocess", NoMean),
    "every class is the first": (classifier, classifier, "labels", lambda c, y, n: torch.zeros(n, dtype=torch.long)),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_selftests_die(fault, monkeypatch):
    room, where, name, wrong = PLANTED[fault]
    room._selftest()
    monkeypatch.setattr(where, name, wrong)
    with pytest.raises((AssertionError, ValueError)): room._selftest()


@pytest.mark.parametrize("read", [utils.read_text, utils.open_image, data.read_list, data.read_labels, data.read_names,
                                  data.read_notes])
def test_no_door_waits_for_a_pipe(read, tmp_path):
    pipe = tmp_path/"pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="pipe.png: is a pipe or a device, must be a file"): read(pipe)
    with pytest.raises(OSError, match=": is a folder, must be a file"): read(tmp_path)


@pytest.mark.parametrize("read, text", [(utils.read_text, "é"), (data.read_list, "é.png"), (data.read_names, "é\nlog"),
                                        (data.read_notes, '{"é": {}}')])
def test_every_text_is_read_in_one_way(read, text, tmp_path):
    plain, marked, other = (tmp_path/n for n in ("plain", "marked", "other"))
    plain.write_bytes(text.encode())
    marked.write_bytes(text.encode("utf-8-sig").replace(b"\n", b"\r\n"))
    other.write_bytes(text.encode("latin-1"))
    assert read(plain) == read(marked)
    with pytest.raises(ValueError, match=r"other: byte \d+ \(line 1\) is 0xe9, must be UTF-8"): read(other)


def turned(path, **kw):
    "A picture whose camera was held on its side, with a transparent corner where the format has such"
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).convert("RGB" if path.suffix == ".jpg" else "RGBA").save(path, exif=exif, **kw)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_all_doors_give_the_same_picture(suffix, tmp_path):
    path = turned(tmp_path/f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    x = utils.load_image(path)
    assert x.shape == (1, 3, 64, 48)
    if suffix != ".jpg": assert torch.equal(x, utils.load_image(turned(tmp_path/"c"/"c.png")))
    assert torch.equal(x[0], data.LabelledImages(tmp_path)[0].image)
    assert torch.equal(x[0], data.read_frame(path).image)
    assert torch.equal(x, utils.from_pil(utils.open_image(path)))
    again = utils.load_image(utils.save_image(x, tmp_path/"b.png"))
    assert (again - x).abs().max() < 1e-6


def test_a_hub_pipeline_in_half_precision_only(tmp_path, monkeypatch):
    "Where a download brings no weights, the half-precision ones are asked for"
    models.dummy_diffusion().pipe.save_pretrained(tmp_path/"full", variant="fp16")
    (tmp_path/"bare").mkdir()
    asked = []
    def download(name, variant=None):
        asked.append(variant)
        return str(tmp_path/("full" if variant else "bare"))
    monkeypatch.setattr(models.StableDiffusionPipeline, "download", download)
    pipe = models.checked_load(models.StableDiffusionPipeline, "owner/model", safety_checker=None)
    assert asked == [None, "fp16"] and pipe.unet.conv_in.weight.isfinite().all()


def test_tied_weights_are_not_missing(tmp_path):
    from transformers import BertConfig, BertForMaskedLM
    net = BertForMaskedLM(BertConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8))
    net.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = models.checked_load(BertForMaskedLM, tmp_path)
    assert torch.equal(back.cls.predictions.decoder.weight, net.bert.embeddings.word_embeddings.weight)


def test_a_lora_loaded_later_is_frozen():
    pytest.importorskip("peft")
    from peft import LoraConfig
    model = models.dummy_diffusion()
    model.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    assert any(p.requires_grad for p in model.unet.parameters())
    assert models.freeze(model) is model
    assert not any(p.requires_grad for part in (model.unet, model.vae, model.pipe.text_encoder) for p in part.parameters())


@pytest.mark.parametrize("template", ["{label:>999999999}", "{label:0>{label}}", "{label.__init__.__globals__}", "{0}", "{", "{label!s}"])
def test_prompts_are_refused_at_once(template):
    with pytest.raises(ValueError, match="^prompt: "): utils.fill_prompt(template, label="log")
    with pytest.raises(ValueError, match="^prompt: "): models.label_positions(models.dummy_diffusion(), "{label} " + template, "log")
