"""Trials inside one process: exceptions and interrupts at a line of our code, threads, and the same work again
and again. Afterwards a model must be what it was: no layer replaced, no hook left, the same output bit by bit."""
import gc
import linecache
import random
import resource
import sys
import threading
from contextlib import contextmanager

from campaign import ROOT, SECTIONS, Section

PACKAGE = str(ROOT / "attnattack")
ERRORS = (KeyboardInterrupt, MemoryError, RuntimeError)


# ---- a model, and what it was

class Model:
    "The small U-Net, and everything that others may leave on it"
    def __init__(self):
        import torch
        from attnattack.models import dummy_diffusion, embed
        self.model, self.torch = dummy_diffusion(), torch
        self.pipe, self.unet = self.model.pipe, self.model.unet
        self.text = embed(self.model, ["a log"])
        self.z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        self.before, self.traces = self.predict(), self.left()

    def predict(self):
        with self.torch.no_grad():
            return self.unet(self.z, self.torch.tensor(51), **self.text.cond).sample

    def left(self):
        "Everything that hangs on the networks: (module, name) → object"
        found = {}
        nets = (self.unet, self.pipe.vae, self.pipe.text_encoder)
        for net in nets:
            for name, module in net.named_modules():
                own = vars(module)
                for key in ("forward", "_conv_forward", "_hijack"):
                    if key in own:
                        found[name, key] = id(own[key])
                hooks = len(module._forward_pre_hooks) + len(module._forward_hooks)
                found[name, "hooks"] = hooks
                found[name, "processor"] = id(own.get("processor"))
            found[id(net), "grad"] = sum(p.requires_grad for p in net.parameters())
        found["scheduler"] = sorted(k for k in vars(self.pipe.scheduler) if k in ("step", "scale_model_input"))
        found["checkpointing"] = self.unet.is_gradient_checkpointing
        return found

    def fault(self):
        "What is not as it was, or None"
        now = self.left()
        changed = [k for k in now.keys() | self.traces.keys() if now.get(k) != self.traces.get(k)]
        if changed:
            return f"{len(changed)} things are left behind, such as {changed[0]}"
        return None if self.torch.equal(self.predict(), self.before) else "the output has changed"


# ---- an error at a line

def can_stop(frame):
    "Does Python look for signals at this line? Not where it only opens a `try`"
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() != "try:"


class At:
    "Raises `error` at the `at`-th line of our code that runs; counts them"
    def __init__(self, at=None, error=KeyboardInterrupt, files=("",)):
        self.at, self.error, self.files, self.lines = at, error, files, 0

    def trace(self, frame, event, arg):
        code = frame.f_code
        ours = code.co_filename.startswith(PACKAGE) and code.co_filename.endswith(self.files)
        if not ours or code.co_name == "__del__":
            return None
        if event == "line" and can_stop(frame):
            self.lines += 1
            if self.lines == self.at:
                raise self.error
        return self.trace

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)


# ---- works that use a model

def hijack_as(how):
    "Replace the attention and put it back"
    def work(m):
        from attnattack.release import hijacked
        with hijacked(m.unet, how=how):
            pass
    return work


def hijack_alone(m):
    "Replace the attention; whoever is interrupted here never gets the handle"
    from attnattack.hijack import hijack
    from attnattack.release import release
    release(hijack(m.unet))


def one_step(m):
    "One denoise step and its maps"
    from attnattack.ddim import ddim_steps
    from attnattack.step import attended_step
    return attended_step(m.model, m.z, ddim_steps(m.model.scheduler, 20, 1)[1][0], m.text)[0]


def a_walk(m):
    "Up and down the schedule"
    from attnattack.ddim import ddim_denoise, ddim_reverse
    up = ddim_reverse(m.model, m.z, m.text, k=2, grad=False)
    return ddim_denoise(m.model, up, m.text, k=2, grad=False)


def latent_iteration(m):
    "The latent attack: one iteration"
    from attnattack.classifier import dummy_classifier
    from attnattack.latent.attack import attack, finish
    from attnattack.latent.config import LatentConfig
    from attnattack.latent.preparation import prepare
    config = LatentConfig(
        model="dummy", classifier="dummy", device="cpu", size=64, start_step=19, iterations=1,
        null_iterations=1, null_growth=0)
    x = m.torch.rand(1, 3, 64, 64, generator=m.torch.Generator().manual_seed(0)) * 2 - 1
    prepared = prepare(config, x, ["log"], ["log"], m.model, dummy_classifier())
    return finish(prepared, list(attack(prepared))[-1].latent).adversarial


def patch_iteration(m):
    "The patch attack: two iterations, one update"
    from attnattack.attack import PatchConfig, PatchRun, train_patch
    config = PatchConfig(
        model="dummy", classifier="dummy", n=2, n_val=1, height=64, width=64, patch_size=16, k=1,
        iterations=2, accumulate=2, w_self=100., w_cross=100., label="dataset", device="cpu")
    run = PatchRun(config, model=m.model)
    for _ in train_patch(run):
        pass
    return run.patch.detach()


def guided_picture(m):
    "Layout guidance around the stock pipeline"
    from attnattack.layout import Guidance, Target, steered
    with steered(m.pipe, [(Target((2,), ((0, 0, .5, 1),)),)], Guidance(iterations=1, forward=1.)):
        return m.pipe("a log", latents=m.z, num_inference_steps=2, output_type="latent").images


def matrix_products(m):
    "Convolutions as matrix products, and back"
    from attnattack.base.cpu import small_map_convolutions
    with m.torch.no_grad(), small_map_convolutions(m.unet, min_kernel=1):
        return m.unet(m.z, m.torch.tensor(51), **m.text.cond).sample


INSTALLERS = ("hijack.py", "release.py")
WORKS = dict(one_step=one_step, walk=a_walk, latent=latent_iteration, patch=patch_iteration,
             layout=guided_picture, products=matrix_products)
DOORS = dict(forward=hijack_as("forward"), processor=hijack_as("processor"), hijack=hijack_alone)


def lines_of(work, model, files=("",)):
    "How many lines of our code a work runs"
    with At(files=files) as counted:
        work(model)
    return counted.lines


def stopped_at(work, model, at, error, files=("",)):
    "What does not hold after an error at a line, or None"
    try:
        with At(at, error, files) as counted:
            work(model)
    except error:
        pass
    except BaseException as other:
        if not isinstance(other, (ValueError, RuntimeError, OSError, FloatingPointError)):
            return f"line {at}: {error.__name__} became {type(other).__name__}: {other}"
    return (said := model.fault()) and f"line {at}, {error.__name__}: {said}"


class EveryLine:
    "Each line of installing and putting back, one after the other"
    def __init__(self, scratch):
        self.model = Model()
        self.places = []
        for name, work in DOORS.items():
            count = lines_of(work, self.model, INSTALLERS)
            self.places += [(name, work, at) for at in range(1, count + 1)]
        order = random.Random(0)
        order.shuffle(self.places)

    def __call__(self, number, generator):
        name, work, at = self.places[number % len(self.places)]
        error = generator.choice(ERRORS)
        return f"hijack ({name})", stopped_at(work, self.model, at, error, INSTALLERS)


class AnyLine:
    "A random line of a random work"
    def __init__(self, scratch):
        self.model = Model()
        self.counts = {name: lines_of(work, self.model) for name, work in WORKS.items()}
        if said := self.model.fault():
            raise RuntimeError(f"the works, left alone: {said}")

    def __call__(self, number, generator):
        name = [*WORKS][number % len(WORKS)]
        at, error = generator.randint(1, self.counts[name]), generator.choice(ERRORS)
        said = stopped_at(WORKS[name], self.model, at, error)
        if said:
            self.model = Model() # what is left behind here must not be found again
        return name, said and f"{name}: {said}"


SECTIONS["interrupts_hijack"] = Section(EveryLine)
SECTIONS["interrupts_anywhere"] = Section(AnyLine)


# ---- threads

class Threads:
    "Three threads use one model at once: each gets what it gets alone, or is refused by name"
    def __init__(self, scratch):
        self.model = Model()
        self.alone = {name: WORKS[name](self.model) for name in ("one_step", "walk", "layout", "products")}

    def __call__(self, number, generator):
        names = [generator.choice([*self.alone]) for _ in range(3)]
        start, found = threading.Barrier(3), [None] * 3
        def work(i, name):
            start.wait()
            try:
                found[i] = WORKS[name](self.model)
            except BaseException as error:
                found[i] = error
        threads = [threading.Thread(target=work, args=pair) for pair in enumerate(names)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        said = [self.judge(*pair) for pair in zip(names, found)]
        group = "threads: " + (" ".join(sorted(set(names))))
        return "threads", next((s for s in said if s), None) or self.model.fault() and f"{group}: {self.model.fault()}"

    def judge(self, name, found):
        "None if a thread's result is right or a refusal by name"
        if isinstance(found, RuntimeError) and "one" in str(found) and "\n" not in str(found):
            return None
        if isinstance(found, BaseException):
            return f"{name}: {type(found).__name__}: {found}"
        if found is None:
            return f"{name}: has not ended"
        same = self.model.torch.allclose(found, self.alone[name], atol=1e-5) if name == "products" \
            else self.model.torch.equal(found, self.alone[name])
        return None if same else f"{name}: another result than alone"


SECTIONS["threads"] = Section(Threads)


# ---- again and again

def resident():
    "Memory of this process now, MB"
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


WARM = 100   # repetitions until everything that is kept once has been kept
GROWTH = 8.  # MB that a process may grow after them

class Again:
    "One of six works in turn: the same result each time, and no more memory"
    def __init__(self, scratch):
        self.model, self.first, self.start = Model(), {}, None

    def __call__(self, number, generator):
        name = [*WORKS][number % len(WORKS)]
        found = WORKS[name](self.model)
        first = self.first.setdefault(name, found.clone())
        said = None if self.model.torch.equal(found, first) else f"repetition {number}: another result"
        if number % 20 == 0:
            gc.collect()
        if number == WARM:
            self.start = resident()
        if said is None and self.start and (grown := resident() - self.start) > GROWTH:
            said = f"repetition {number}: {grown:.1f} MB more than after {WARM}"
        if said is None and number % 50 == 0:
            said = self.model.fault()
        return name, said


SECTIONS["again"] = Section(Again)
