"""The layout explorer with pipelines of FLUX, FLUX-Fill and Stable Diffusion 3: the wings meet only here."""
import numpy as np, pytest
from PIL import Image

from attnattack.base.loading import quiet
from attnattack.dit import joint_layout_pipeline
from attnattack.dit.families import small_pipeline
from attnattack.dit.maps import assert_unwatched
from attnattack.layout import attend, explore_layout

SIZE = dict(height=64, width=128)
GIVEN = dict(image=Image.new("RGB", (128, 64), "grey"), mask_image=Image.new("L", (128, 64), 255))

@pytest.fixture
def explorer(request, tmp_path, monkeypatch):
    "The explorer of a saved and loaded pipeline, with a box that a mouse has drawn"
    monkeypatch.chdir(tmp_path)
    name = getattr(request, "param", "flux")
    made = joint_layout_pipeline(small_pipeline(name))
    with quiet():
        made.save_pretrained("model")
    pipe = type(made).from_pretrained("model")
    pipe.set_progress_bar_config(disable=True)
    more = GIVEN if name == "flux_fill" else {}
    explorer = explore_layout(pipe, "a log on mud", side=128, iterations=1, guided_steps=1, **SIZE, **more)
    explorer.down(10, 10)
    explorer.up(60, 60)
    explorer.phrases.children[0].children[0].value = "log"
    explorer.steps.value = 2
    return explorer

@pytest.mark.parametrize("explorer", ["flux", "sd3", "flux_fill"], indirect=True)
def test_a_box_is_drawn_painted_saved_and_painted_again(explorer):
    assert explorer.boxes == [(10 / 128, 10 / 64, 60 / 128, 60 / 64)]   # the canvas has the picture's shape
    explorer.paint()
    assert explorer.note.value.startswith("painted; 1 inner passes"), explorer.note.value
    assert explorer.run.words[:4] == ["a", "log", "on", "mud"]
    assert len(explorer.maps.children) == len(explorer.run.words)
    assert_unwatched(explorer.pipe.transformer)
    explorer.folder.value = "kept"
    explorer.save()
    assert explorer.note.value.startswith("saved "), explorer.note.value
    exec(open("kept/repeat.py").read(), {})
    again, kept = (np.asarray(Image.open(file)) for file in ("again.png", "kept/picture.png"))
    assert (again == kept).all()

def test_without_boxes_it_is_the_stock_picture(explorer):
    explorer.clear()
    explorer.paint()
    assert explorer.note.value.startswith("painted; 0 inner passes"), explorer.note.value

def test_stop_leaves_nothing_behind(explorer):
    explorer.paint_button.observe(lambda change: explorer.stop_button.click(), "disabled")
    explorer.paint()
    assert explorer.note.value == "stopped after 1 of 2 steps" and explorer.run is None
    assert_unwatched(explorer.pipe.transformer)

def test_a_stock_pipeline_is_refused_by_name():
    said = "pipe: is a FluxPipeline, must be"
    for call in (lambda pipe: attend(pipe, "a log"), explore_layout):
        with pytest.raises(ValueError, match=said):
            call(small_pipeline("flux"))
