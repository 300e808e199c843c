"Joint attention: what a notebook cannot do, and inputs of the kind that the rooms do not show"
import _thread
import contextlib
import gc
import importlib
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import _get_current_function_mode_stack
from transformers import T5Tokenizer

from attnattack.base import boxes, calls
from attnattack.base.boxes import Target
from attnattack.dit import blocks, concepts, flow, folder, layout, losses, maps, pipeline, records, steering, trace, words
from attnattack.dit.blocks import map_part, read_call
from attnattack.dit.families import SMALL, joint_inputs, small_pipeline
from attnattack.dit.maps import JointCapture, assert_unwatched, watched
from attnattack.hijack import Capture
from attnattack.models import WORDS, word_tokenizer
from attnattack.release import hijacked
from attnattack.utils import generator


def t5_tokenizer(length):
    pieces = [("<pad>", 0.), ("</s>", 0.), ("<unk>", 0.), ("▁", -2.), *(("▁" + w, -3.) for w in WORDS)]
    return T5Tokenizer(vocab=[*pieces, *((chr(i), -9.) for i in range(33, 127))], extra_ids=0, model_max_length=length)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_the_trunk_does_not_import_the_wing():
    code = ("import sys, attnattack.release, attnattack.attention, attnattack.loss\n"
            "assert not [m for m in sys.modules if m.startswith('attnattack.dit')]")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("name", SMALL)
def test_saved_loaded_watched(name, tmp_path):
    "A model saved and loaded in diffusers' format is watched like one made in memory, and left as it was"
    net = SMALL[name]()
    net.save_pretrained(tmp_path)
    net = type(net).from_pretrained(tmp_path)
    inputs = joint_inputs(net, (2, 5), tokens=3, batch=2)
    with torch.no_grad():
        plain = net(**inputs)[0]
        with hijacked(net, Capture()) as h:
            assert torch.equal(net(**inputs)[0], plain)
            kept = {n: tuple(a.shape) for n, a in h.store.items()}
        assert torch.equal(net(**inputs)[0], plain)
    traced = {str(r.key): (2, r.heads, r.queries, r.keys) for r in trace.trace_joint(net, (2, 5), 3)}
    assert kept == {n: s for n, s in traced.items() if not n.split(".")[-1].startswith("text")}
    assert_unwatched(net)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    "Maps of half-precision queries are those of the same numbers in float64"
    q, k = (random(1, 2, 9, 16, seed=i).to(dtype) for i in (0, 1))
    a = map_part(read_call((q, k, k), {}), slice(2, 9), [0, 4])
    want = (q.double() @ k.double().mT / 4).softmax(-1)[:, :, 2:, [0, 4]]
    assert a.dtype == torch.float32 and torch.allclose(a.double(), want, atol=1e-6)


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_parts_of_any_size(part, monkeypatch):
    "However few rows are formed at once, map and gradient are the same"
    monkeypatch.setattr(blocks, "PART", part)
    q, k = (random(2, 2, 5, 4, seed=i).requires_grad_() for i in (0, 1))
    ours = map_part(read_call((q, k, k), dict(is_causal=True)), slice(None), [0, 2])
    triangle = torch.ones(5, 5, dtype=torch.bool).tril()
    theirs = (q @ k.mT / 2).masked_fill(~triangle, -torch.inf).softmax(-1)[..., [0, 2]]
    assert torch.allclose(ours, theirs)
    for x in (q, k):
        g, h = (torch.autograd.grad(a.square().sum(), x, retain_graph=True)[0] for a in (ours, theirs))
        assert torch.allclose(g, h)


def test_a_scale_and_a_mask_given_by_position():
    q, k, v = (random(1, 1, 3, 4, seed=i) for i in range(3))
    args = (q, k, v, random(3, 3, seed=5), 0., False)
    a = map_part(read_call(args, dict(scale=.3)), slice(None), slice(None))
    assert torch.allclose(a @ v, F.scaled_dot_product_attention(*args, scale=.3))


def test_an_error_inside_the_model_leaves_nothing():
    net = SMALL["sd35"]()
    inputs = joint_inputs(net, (2, 2))
    with torch.no_grad():
        plain = net(**inputs)[0]
    with pytest.raises(RuntimeError), watched(net):
        net(**inputs | dict(encoder_hidden_states=torch.randn(1, 5, 3)))
    assert_unwatched(net)
    assert _get_current_function_mode_stack() == [] and not net._forward_pre_hooks and "_hijack" not in vars(net)
    with torch.no_grad():
        assert torch.equal(net(**inputs)[0], plain)


def test_after_an_error_the_watch_goes_on():
    "A call that failed in the middle of a layer does not spoil the next one inside the same block"
    net = SMALL["flux"]()
    inputs = joint_inputs(net, (2, 2))

    def fail(*_):
        raise ValueError("stop")

    with watched(net) as h, torch.no_grad():
        hook = net.transformer_blocks[1].attn.to_out[0].register_forward_hook(fail)
        with pytest.raises(ValueError, match="stop"):
            net(**inputs)
        hook.remove()
        F.scaled_dot_product_attention(*torch.randn(3, 1, 1, 2, 4))  # nobody's
        net(**inputs)
        assert len(h.store) == 8


def test_a_block_that_nobody_leaves_is_released_with_its_owner():
    net = SMALL["sd3"]()
    block = watched(net)
    block.__enter__()
    del block
    gc.collect()
    assert_unwatched(net)
    assert "_hijack" not in vars(net)


def test_threads_do_not_write():
    net, errors = SMALL["flux"](), []
    inputs, other = joint_inputs(net, (2, 2)), joint_inputs(net, (2, 2), seed=1)

    def use():
        with torch.no_grad():
            for _ in range(5):
                net(**other)

    def watch():
        try:
            with hijacked(net, JointCapture()):
                pass
        except RuntimeError as e:
            errors.append(e)

    with watched(net) as h, torch.no_grad():
        net(**inputs)
        before = {n: a.clone() for n, a in h.store.items()}
        threads = [threading.Thread(target=f) for f in (use, watch, use)]
        for t in threads:
            t.start()
        for _ in range(5):
            net(**inputs)
        for t in threads:
            t.join()
        assert h.store.keys() == before.keys() and all(torch.equal(a, before[n]) for n, a in h.store.items())
    assert len(errors) == 1
    assert_unwatched(net)


@pytest.mark.parametrize("kind", ["of Python", "of nobody"])
def test_a_backward_pass_in_another_thread(kind):
    "Under checkpointing it computes the blocks again: as on a GPU, whose backward pass has a thread of its own"
    net = SMALL["flux"]().train()
    net.enable_gradient_checkpointing()
    inputs, other = joint_inputs(net, (2, 2)), joint_inputs(net, (2, 2), seed=1)
    x, y = (inputs["hidden_states"].clone().requires_grad_() for _ in range(2))
    done = threading.Event()
    net(**other | dict(hidden_states=y))[0].sum().backward()
    strangers = net(**other | dict(hidden_states=y))[0].sum()  # made before the watch, computed again within it

    def run(loss):
        try:
            loss.backward()
        finally:
            done.set()

    with watched(net) as h:
        net(**inputs | dict(hidden_states=x))
        before = dict(h.store)
        loss = sum(a.square().sum() for a in before.values())
        for each in (loss, strangers):
            done.clear()
            thread = threading.Thread(target=run, args=(each,))
            thread.start() if kind == "of Python" else _thread.start_new_thread(run, (each,))
            assert done.wait(60)
        assert h.store.keys() == before.keys() and all(h.store[n] is a for n, a in before.items())
    ours, strange = x.grad, y.grad / 2
    net.disable_gradient_checkpointing()
    x.grad = y.grad = None
    with watched(net) as h:
        net(**inputs | dict(hidden_states=x))
        sum(a.square().sum() for a in h.store.values()).backward()
    net(**other | dict(hidden_states=y))[0].sum().backward()
    assert torch.allclose(ours, x.grad, atol=1e-6) and torch.allclose(strange, y.grad, atol=1e-5)
    assert_unwatched(net)


def test_guidance_halves():
    "The second half's maps are those of the prompt alone"
    net = SMALL["pixart"]()
    inputs = joint_inputs(net, (2, 3), batch=2)
    alone = {k: v[1:] if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    with watched(net, Capture(half="cond")) as h, torch.no_grad():
        net(**inputs)
        half = dict(h.store)
    with watched(net) as h, torch.no_grad():
        net(**alone)
        for n, a in h.store.items():
            assert a.shape == half[n].shape and torch.allclose(a, half[n], atol=1e-6)


def test_a_mask_hides_its_tokens():
    net = SMALL["qwen"]()
    inputs = joint_inputs(net, (2, 3), tokens=6)
    hidden = ~inputs["encoder_hidden_states_mask"][0]
    with watched(net, JointCapture(("picture_to_text",))) as h, torch.no_grad():
        net(**inputs)
        for a in h.store.values():
            assert hidden.any() and (a[..., hidden] == 0).all() and (a[..., ~hidden] > 0).all()


@pytest.mark.parametrize("prompt, phrase, nth", [
    ("a log, a pole and a log", "log", 1), ("A Person under (clear) sky", "person", 0), ("zebra-crossing on asphalt", "zebra", 0),
    ("mud   trail under sky", "trail", 0)])
def test_phrases_in_both_tokenizers(prompt, phrase, nth):
    "The tokens found spell the phrase, in its place"
    for tokenizer in (word_tokenizer(), t5_tokenizer(length=40)):
        found = words.phrase_tokens(tokenizer, prompt, phrase, nth)
        spans = tokenizer(prompt, return_offsets_mapping=True).offset_mapping
        start, end = words.phrase_span(prompt, phrase, nth)
        covered = prompt[min(spans[i][0] for i in found):max(spans[i][1] for i in found)]
        assert covered.strip().lower() == phrase and found == list(range(found[0], found[-1] + 1))
        assert all(spans[i][0] < end and spans[i][1] > start for i in found)


def test_a_killed_recording_goes_on(tmp_path):
    net = SMALL["sd3"]()
    inputs = joint_inputs(net, (2, 2))
    code = ("import os, torch; from attnattack.dit.families import SMALL, joint_inputs\n"
            "from attnattack.dit.records import record\n"
            "net = SMALL['sd3'](); given = joint_inputs(net, (2, 2))\n"
            f"with record(net, {str(tmp_path)!r}, seed=1):\n"
            "    for _ in range(3): net(**given)\n"
            "    os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 9
    index = tmp_path / records.INDEX
    index.write_bytes(index.read_bytes()[:-20])
    with records.record(net, tmp_path, seed=2):
        net(**inputs)
    found = records.MapSet(tmp_path)
    assert len(found) == 3 * 2 - 1 + 2 and len(found.find(seed=2)) == 2
    assert all(found.read(row).isfinite().all() for row in found)


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_round_trips_of_a_velocity_that_turns(solver):
    "A rotation: x' = R x, t from 0 to 1 is the angle 1"
    turn = torch.tensor([[0., -1.], [1., 0.]], dtype=torch.float64)
    x, times = random(5, 2), flow.flow_times(50)
    up = flow.flow_invert(lambda x, t: x @ turn.T, x, times, solver)
    want = x @ torch.matrix_exp(turn).T
    assert (up[-1] - want).abs().max() < (.05 if solver == "euler" else 5e-4)
    down = flow.flow_walk(lambda x, t: x @ turn.T, up[-1], times, solver)
    assert (down[-1] - x).abs().max() < (.1 if solver == "euler" else 5e-4)


def test_the_loss_is_the_unets():
    "Two wings, one formula: several objects, tokens and boxes, a box thinner than a cell, a picture without any"
    from attnattack.layout.loss import layout_loss
    maps_ = {n: random(3, 2, 24, 7, seed=i).softmax(-1).float() for i, n in enumerate("ab")}
    log, pole = Target((1, 3), ((.1, .2, .6, .9),)), Target((5,), ((0, 0, .01, 1), (.5, .5, 1, 1)))
    layouts = [(log, pole), (pole,), (log,)]
    ours = layout.joint_layout_loss(maps_, layouts, (4, 6))
    assert torch.allclose(ours, layout_loss(maps_, layouts, (4, 6)), atol=1e-6) and ours.std() > 0
    columns = layout.text_columns(layouts)
    few = {n: a[..., columns] for n, a in maps_.items()}
    assert columns == [1, 3, 5] and torch.equal(layout.joint_layout_loss(few, layouts, (4, 6), columns), ours)
    assert layout.joint_layout_loss(maps_, [(log,), (), (log,)], (4, 6))[1] == 0


@pytest.mark.parametrize("name", ["flux", "flux_fill", "sd3"])
def test_guided_pictures_that_are_not_square(name):
    "Rows are rows and columns are columns, whatever the family; half of the batch is another prompt's"
    pipe = pipeline.joint_layout_pipeline(small_pipeline(name))
    kw = dict(image=torch.zeros(1, 3, 64, 96), mask_image=torch.ones(1, 1, 64, 96)) if name == "flux_fill" else {}
    if name == "sd3":
        kw |= dict(skip_guidance_layers=[0], skip_layer_guidance_start=0., skip_layer_guidance_stop=1.)
    sizes, begin = [], steering.JointSteering.begin_step

    def noted(self, given):
        begin(self, given)
        sizes.append((self.size, tuple(self.latents_of(given["hidden_states"]).shape[1:])))

    with pytest.MonkeyPatch.context() as m:
        m.setattr(steering.JointSteering, "begin_step", noted)
        x = pipe("a log on mud", height=64, width=96, num_inference_steps=2, generator=generator(0), bboxes=[(.8, 0, 1, .4)],
                 phrases=["log"], scale=3000., iterations=2, threshold=0, guided_steps=1, output_type="pt", **kw).images
    assert x.shape == (1, 3, 64, 96) and len(pipe.records) == 2
    assert sizes == [((4, 6), (16, 8, 12) if name == "sd3" else (24, 64))] * 2
    assert pipe.records[1].losses[0] < pipe.records[0].losses[0]


def test_a_killed_folder_goes_on(tmp_path):
    "A process is killed in the middle of a flow attack; the next one makes what is missing, and no more"
    from attnattack import latent
    from attnattack.utils import save_image
    for i in range(2):
        save_image(torch.rand(3, 64, 64, generator=generator(i)) * 2 - 1, tmp_path / f"images/{i}.png")
    small_pipeline("flux").save_pretrained(tmp_path / "model")
    config = latent.LatentConfig(
        data=str(tmp_path / "images"), out=str(tmp_path / "out"), model=str(tmp_path / "model"),
        classifier="dummy", device="cpu", size=64, start_step=19, iterations=1)
    code = ("import os, sys; from attnattack import latent; from attnattack.dit import attack_flow_folder\n"
            f"for event in attack_flow_folder(latent.{config!r}, latent):\n"
            "    if event.kind == 'done': os._exit(9)")
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 9
    (tmp_path / "out/records.jsonl").open("a").write('{"stem": "1", "na')
    events = list(folder.attack_flow_folder(config, latent))
    assert [e.names for e in events if e.kind == "done"] == [("1.png",)]
    assert latent.summary(config.out)[0]["n"] == 2


def test_the_command_chooses_by_itself(tmp_path, capsys):
    "`attnattack latent` with a folder of FLUX: the flow attack; the second start finds it done"
    from attnattack.cli import main
    from attnattack.utils import save_image
    save_image(torch.rand(3, 64, 64, generator=generator(0)) * 2 - 1, tmp_path / "images/a.png")
    small_pipeline("flux").save_pretrained(tmp_path / "model")
    given = dict(data=tmp_path / "images", out=tmp_path / "out", model=tmp_path / "model", classifier="dummy", device="cpu",
                 size=64, start_step=19, iterations=1)
    words_ = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    for said in ("attack 1 of 1", "1 of 1 pictures are done already"):
        assert main(["latent", *words_]) in (0, None)
        assert said in capsys.readouterr().out
    assert folder.is_flow_model(tmp_path / "model") and len((tmp_path / "out/records.jsonl").read_text().splitlines()) == 1


FAULTS = {
    "a family's order turned": (blocks, blocks, "_joined", lambda order, text, picture: dict(
        picture=slice(0, picture), text=slice(picture, picture + text)) if order == "text first" else dict(
        text=slice(0, text), picture=slice(text, text + picture))),
    "maps that do not sum over all keys": (blocks, blocks, "_columns", lambda call, keys, sums: blocks._scores(
        call.q, blocks._take(call.k, keys, -2), blocks._take(call.mask, keys, -1)).softmax(-1)),
    "a hook that stays": (maps, maps.Watch, "put_back", lambda self: maps._pop_mode()),
    "a trace that knows no text": (trace, trace, "parts_of", lambda family, n, queries, keys, call: (
        dict(picture=slice(0, queries)),) * 2),
    "tokens of the second encoder without their offset": (words, words, "phrase_tokens", lambda *a: [1]),
    "a loss of nothing": (losses, losses, "_difference", lambda call, *a: call.q.sum() * 0),
    "concepts that see no picture": (concepts, concepts.Concepts, "maps", lambda self: torch.full((1, 2, 6), .5)),
    "maps of another head": (records, records.MapSet, "read", lambda self, row, head=None, token=None: torch.zeros(1, 4)),
    "boxes that hold the whole picture": (layout, layout, "cells_inside", lambda boxes, size: torch.ones(size, dtype=torch.bool).flatten()),
    "thin boxes without a cell": (boxes, boxes, "cells_between", lambda lo, hi, n: (round(lo * n), round(hi * n))),
    "parameters that ask for a gradient": (calls, calls, "frozen", contextlib.nullcontext),
    "forward guidance of nothing": (steering, steering, "text_bias", lambda layouts, size, text, strength: torch.zeros(1, 16, text)),
    "a step that forgets the move": (steering, steering.JointSteering, "guide", lambda self, kw: None),
    "pictures whose latents are nothing": (folder, folder, "fill_tokens", lambda pipe, x: torch.zeros(1, 16, 64)),
    "a call that nobody guides": (pipeline, pipeline, "steered_flow", lambda *args: contextlib.nullcontext(SimpleNamespace(records=[]))),
    "a midpoint at the wrong place": (flow, flow, "SOLVERS", ("euler", "euler", "euler")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_selftest_dies_of_a_planted_fault(fault, monkeypatch):
    module, owner, name, wrong = FAULTS[fault]
    module._selftest()
    if fault == "a midpoint at the wrong place":
        walk = flow.flow_walk
        monkeypatch.setattr(flow, "flow_walk", lambda v, x, times, solver="euler": walk(v, x, times, "euler"))
    else:
        monkeypatch.setattr(owner, name, wrong)
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        module._selftest()
    monkeypatch.undo()
    while _get_current_function_mode_stack():
        maps._pop_mode()


def test_families_selftest():
    assert "8 small models" in importlib.import_module("attnattack.dit.families")._selftest()
