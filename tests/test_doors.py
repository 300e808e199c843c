"What a notebook cannot show well: self-tests die of a planted fault, doors do not hang, all of them agree"
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attnattack import classifier, data, ddim, diffusion, models, utils
from attnattack.base import checks, labels, loading, networks, pictures, preprocess
from attnattack.scenes import canvas, files, landscape, objects, scene


def shifted(f):
    "`f` with one added to every number of its list"
    return lambda *a, **kw: [v + 1 for v in f(*a, **kw)]


class NoMean(preprocess.Preprocess):
    "A preprocessing that forgets the mean"
    def __call__(self, x):
        return self.resize(x) / x.new_tensor(self.std)[:, None, None]


def unscaled(model, x, generator=None, multiple=None):
    "`encode` without the model's scale"
    return model.vae.encode(x).latent_dist.mode()


def first_class(classifier, y, n):
    "`labels` that sees nothing but the first class"
    return torch.zeros(n, dtype=torch.long)


# what is wrong: (room whose self-test must die, where it is planted, name, what takes its place)
PLANTED = {
    "every number passes": (checks, checks, "check_number", lambda name, value, **rule: value),
    "labels count from 1 in every table": (labels, labels, "read_labels", shifted(labels.read_labels)),
    "labels of a table are not in order": (labels, labels, "natural", lambda name: name),
    "weights are not checked": (loading, loading, "_check_weights", lambda *args: None),
    "loaded models are not frozen": (loading, loading, "freeze", lambda model: model.requires_grad_()),
    "transparency stays": (pictures, pictures, "on_black", lambda picture: picture),
    "turned pictures stay turned": (pictures, pictures.ImageOps, "exif_transpose", lambda picture: picture),
    "no word is one token": (networks, networks, "_merges_of", lambda words: []),
    "the mean is not subtracted": (preprocess, preprocess, "Preprocess", NoMean),
    "nothing is cut": (preprocess, preprocess, "_middle", lambda x, size: x[..., :size[0], :size[1]]),
    "edges have a third label": (canvas, canvas, "_fills", lambda rgb, name, celsius: ((0, 0, 0), 3, 0)),
    "there is no trail": (landscape, landscape, "draw_trail", lambda *args: None),
    "objects leave their boxes": (objects, objects.Area, "at", lambda self, u, v: (u, v)),
    "boxes are too small": (scene, scene, "box_of", lambda label, label_id: (0., 0., .1, .1)),
    "half of a set is not listed": (files, files, "_splits", lambda rows, split=None: {split: rows[:1]}),
    "transparency stays in tensors": (utils, pictures, "on_black", lambda picture: picture),
    "the range is not changed": (utils, utils, "to_unit", lambda x: x),
    "latents are not scaled": (models, models, "encode", unscaled),
    "the label stands one further": (models, models, "label_positions", shifted(models.label_positions)),
    "nothing is frozen": (diffusion, diffusion, "freeze", lambda model: model),
    "a step does nothing": (ddim, ddim, "ddim_step", lambda model, z, *rest: z),
    "clean and noise are swapped": (ddim, ddim, "clean_and_noise", lambda out, z, a, kind: (out, z)),
    "the first class is 1": (data, data, "read_labels", shifted(data.read_labels)),
    "label maps are empty": (data, data, "_open_label", lambda path, size: Image.new("L", size)),
    "the mean is forgotten": (classifier, classifier, "Preprocess", NoMean),
    "every class is the first": (classifier, classifier, "labels", first_class),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_selftests_die(fault, monkeypatch):
    room, where, name, wrong = PLANTED[fault]
    room._selftest()
    monkeypatch.setattr(where, name, wrong)
    with pytest.raises((AssertionError, ValueError)):
        room._selftest()


# names that once stood in one large room, and where code from outside looks for them
OLD_NAMES = {
    data: """RELLIS_LABELS LABEL_ID OBJECTS TRAILS SKIES COLOURS CELSIUS ROUGH SKY_COLOURS TRAIL_COLOURS EXTENT SHIRTS CARS
        GLASS WALLS ROOFS PAINTERS LIGHT WARMTH TABLES SUFFIXES IMAGENET_CLASSIFIERS check_ids colour Canvas shade jitter
        draw_sky draw_landscape draw_object texture_tiles texture box_of Scene caption_of draw_scene Frame collate
        frame_name OffRoad write_offroad read_list find_list read_frame read_notes check_files sift Rellis3D
        dominant_class under natural label_form read_labels read_names find_images check_labels LabelledImages""",
    utils: """OUTDOORS MAX_PIXELS FORMATS to_unit from_unit one_of refuse_unknown check_number fill_prompt read_text
        check_image looks_unit channel_order hint_at_fault generator atomic_path give_back cover from_pil open_image
        load_image to_pil save_image show_images""",
    models: """WORDS ASSETS MODELS quiet word_tokenizer small_text_encoder small_vae small_unet sd_scheduler cross_levels
        middle_cross_level Diffusion freeze dummy_diffusion register_model checked_load default_device is_hub_name
        load_diffusion encode decode Embeddings embed token_positions label_positions with_embeddings""",
    ddim: "MODES ddim_timesteps split predict_noise Move ddim_moves move walk ddim_reverse ddim_denoise",
    classifier: """CLASSIFIERS Preprocess read_processor Classifier labels dummy_classifier imagenet_names what_instead
        classifier_names label_note register_classifier load_classifier Prediction top predict Ensemble cross_entropy""",
}


@pytest.mark.parametrize("room", OLD_NAMES, ids=lambda room: room.__name__)
def test_old_names_stay(room):
    assert not [name for name in OLD_NAMES[room].split() if not hasattr(room, name)]
    assert not hasattr(room, "no_such_name")


@pytest.mark.parametrize("read", [utils.read_text, utils.open_image, data.read_list, data.read_labels, data.read_names,
                                  data.read_notes])
def test_no_door_waits_for_a_pipe(read, tmp_path):
    pipe = tmp_path/"pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="pipe.png: is a pipe or a device, must be a file"):
        read(pipe)
    with pytest.raises(OSError, match=": is a folder, must be a file"):
        read(tmp_path)


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
    from diffusers import StableDiffusionPipeline
    models.dummy_diffusion().pipe.save_pretrained(tmp_path/"full", variant="fp16")
    (tmp_path/"bare").mkdir()
    asked = []
    def download(name, variant=None):
        asked.append(variant)
        return str(tmp_path/("full" if variant else "bare"))
    monkeypatch.setattr(StableDiffusionPipeline, "download", download)
    pipe = models.checked_load(StableDiffusionPipeline, "owner/model", safety_checker=None)
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
    with pytest.raises(ValueError, match="^prompt: "):
        utils.fill_prompt(template, label="log")
    with pytest.raises(ValueError, match="^prompt: "):
        models.label_positions(models.dummy_diffusion(), "{label} " + template, "log")

def test_libraries_are_quiet_when_they_are_imported():
    "Who writes Python meets no note of transformers about torchvision"
    code = "from attnattack import load_diffusion, layout_pipeline; layout_pipeline(load_diffusion('tiny-sd'))"
    env = {name: value for name, value in os.environ.items() if not name.endswith("_VERBOSITY")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
