"""What benchmark measures, each task in a process of its own: `alone("memory", size="tiny-sd", variant="fast")`.

A memory figure needs a process that has done nothing else; the large model needs one that gives all back. Linux, CPU."""
import gc, hashlib, json, multiprocessing, re, time
from contextlib import contextmanager, nullcontext
from pathlib import Path
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from naive_diffattack import NaiveAttack, both_branches, diffusion_step, null_text_update, plain_attention, register, sampled_latent, text_of
from attnattack.attack import load_classifiers
from attnattack.data import OffRoad
from attnattack.ddim import ddim_moves, move
from attnattack.hijack import Capture
from attnattack.latent import LatentConfig, LatentRun, OnDisk, fit_null, invert, latent_attack, prepare, reference_walk, sample_latents
from attnattack.models import Diffusion, decode, embed, load_diffusion, register_model, sd_scheduler, small_text_encoder, word_tokenizer
from attnattack.utils import atomic_path, give_back, to_unit

# ---- clocks and memory ----

def timed(f):
    "(result, seconds of this process on the CPU, seconds on the wall)"
    cpu, wall = time.process_time(), time.perf_counter()
    out = f()
    return out, dict(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)

def resident(key="VmRSS"):
    "MiB of this process that are in memory; VmHWM: at most so far (Linux)"
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def forget_peak():
    "Give free memory back, begin the count of the peak anew; MiB in memory now"
    gc.collect()
    give_back()
    Path("/proc/self/clear_refs").write_text("5")
    return resident()

def available_gb():
    "Memory that a new process can have, GB"
    return int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 1e6

def bfloat16_flags():
    "The CPU's flags for bfloat16 arithmetic; none: the processor emulates it, far slower than float32"
    return sorted(set(Path("/proc/cpuinfo").read_text().split()) & {"avx512_bf16", "amx_bf16", "bf16"})

def cpu_name():
    "What /proc/cpuinfo calls the processor"
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else "unknown"

# ---- models ----

def sd2_random(device="cpu", dtype=torch.float32, seed=0):
    "Stable Diffusion 2-base's architecture with random weights: U-Net 866 M, its VAE; one layer of text encoder, 1024 wide"
    torch.manual_seed(seed)
    cross = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True,
        block_out_channels=(320, 640, 1280, 1280), down_block_types=(cross[0],) * 3 + ("DownBlock2D",), up_block_types=("UpBlock2D",) + (cross[1],) * 3)
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4, sample_size=512)
    tok = word_tokenizer(length=77)
    pipe = StableDiffusionPipeline(vae, small_text_encoder(tok, width=1024), tok, unet, sd_scheduler(), None, None, None, False).to(device, dtype)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder): part.eval().requires_grad_(False)
    return Diffusion(pipe, pipe.scheduler, "sd2-random")

register_model("sd2-random", sd2_random)

def scene(classifier, res, seed=3, i=0):
    "A picture [1, 3, res, res], the class that the classifier sees in it, that class's name"
    x = OffRoad(i + 1, seed, res)[i].image[None]
    with torch.no_grad(): y = int(classifier(to_unit(x)).argmax(1))
    return x, y, classifier.classes[y].split(",")[0]

# ---- the attacks, ready for an iteration ----

def config(size, variant="fast", **changes):
    "DiffAttack's numbers, every self map in the loss as published; of the variant `small maps` only those of at most (res / 16)² queries"
    self_cells = 16 if variant == "small maps" else None
    return LatentConfig(pretrained_diffusion_path=size, dtype="float32", device="cpu", self_cells=self_cells, checkpoint_steps=variant == "checkpointed", **changes)

def load(size): return load_diffusion(size, "cpu", torch.float32), load_classifiers("tiny-resnet", "cpu")

def latent_of_noise(model, shape):
    "A latent to start from where only time and memory count"
    return torch.randn(len(shape), model.unet.config.in_channels, *(n // model.factor for n in shape[0].shape[2:]), generator=torch.Generator().manual_seed(0))

def fast_run(model, classifier, c, pictures):
    "An attack ready for its first iteration, from noise and with the empty prompt's own embedding"
    x, y, words = zip(*pictures)
    run = LatentRun(c, torch.cat(x), list(y), list(words), model, classifier)
    n, z = c.diffusion_steps - c.start_step, latent_of_noise(model, x)
    _, run.down = ddim_moves(model.scheduler, c.diffusion_steps, n, c.mode)
    run.embs = [embed(model, run.prompts, size=tuple(run.x.shape[2:]))] * n
    run.ref = reference_walk(model, z, run.embs, run.down, c.guidance, run.limit, run.cells, OnDisk if c.checkpoint_steps else dict)
    run.capture, run.mask, run.null_error = Capture(names=run.ref.names, half="cond"), None, torch.zeros(len(z))
    run.start, run.z, run.best, run.score = z, z.clone().requires_grad_(), z.clone(), [(False, -float("inf"))] * len(z)
    return run

def naive_new(model, classifier, picture, c):
    "The naive attack with the same numbers"
    return NaiveAttack(model, classifier, *picture, c.diffusion_steps, c.start_step, c.guidance, cross_cells=model.cross_cells)

def naive_run(model, classifier, picture, c):
    "The naive attack, ready like `fast_run`"
    a = naive_new(model, classifier, picture, c)
    model.scheduler.set_timesteps(c.diffusion_steps)
    a.processors, a.latents = dict(model.unet.attn_processors), {c.start_step - 1: latent_of_noise(model, picture[:1])}
    a.nulls = [text_of(model, "")] * (c.diffusion_steps - c.start_step)
    a.begin(); a.end()
    return a

@contextmanager
def naively(model, controller=None):
    "With attention written out; with a controller, shown to it"
    before = dict(model.unet.attn_processors)
    plain_attention(model) if controller is None else register(model, controller)
    try: yield
    finally: model.unet.set_attn_processor(before)

def floor(run):
    "What an iteration cannot do without: the passes of the U-Net, the decoder and the classifier; no capture"
    start = z = run.start.clone().requires_grad_()
    for m, emb in zip(run.down, run.embs): z = move(run.model, z, m, emb, run.c.guidance)
    F.cross_entropy(run.classifier(to_unit(decode(run.model, z)).clamp(0, 1)), run.y).backward()
    return start.grad

def reduced(variant):
    "Automatic mixed precision for the variant bfloat16"
    return torch.autocast("cpu", torch.bfloat16) if variant == "bfloat16" else nullcontext()

# ---- memory ----

def memory(size, variant, res=224, batch=1, start_step=15, iterations=2, seed=3):
    "Peak of an attack beyond what is in memory once the models are loaded, MiB; seconds of its last iteration"
    model, classifier = load(size)
    pictures = [scene(classifier, res, seed, i) for i in range(batch)]
    c, before = config(size, variant, start_step=start_step, iterations=iterations + 1), forget_peak()
    if variant == "naive":
        a = naive_run(model, classifier, pictures[0], c)
        with naively(model, a.controller): times = [timed(a.iteration)[1] for _ in range(iterations)]
    else:
        with reduced(variant):
            run = fast_run(model, classifier, c, pictures)
            steps = latent_attack(run)
            times = [timed(lambda: floor(run) if variant == "floor" else next(steps))[1] for _ in range(iterations)]
    return dict(mib=resident("VmHWM") - before, loaded=before, **times[-1])

# ---- parts ----

class Parts:
    "The parts of both attacks, each a method without arguments"
    def __init__(self, size, res, seed=3, inner=2):
        self.model, self.classifier = load(size)
        self.picture, self.c, self.inner = scene(self.classifier, res, seed), config(size, iterations=10**6), inner
        self.naive = naive_run(self.model, self.classifier, self.picture, self.c)
        self.run = fast_run(self.model, self.classifier, self.c, [self.picture])
        self.iterations, self.z, self.emb = latent_attack(self.run), self.run.start, self.run.embs[0]
        self.up, self.down = (m[:1] for m in ddim_moves(self.model.scheduler, 20, 5, self.c.mode))
        self.null, self.text = text_of(self.model, ""), text_of(self.model, self.picture[2])

    @torch.no_grad()
    def naive_encode(self): sampled_latent(self.model, self.picture[0])
    def fast_encode(self): sample_latents(self.model, self.picture[0])
    @torch.no_grad()
    def naive_up(self):
        with naively(self.model): both_branches(self.model, self.z, self.up[0].t, torch.cat([self.null, self.text]), 0.)
    def fast_up(self): invert(self.model, self.z, self.emb, self.up)
    def naive_inner(self):
        null = self.null.clone().requires_grad_()
        args = self.model, self.z, torch.tensor(self.down[0].t), null, self.text, torch.optim.AdamW([null], lr=.1), self.z, self.c.guidance
        with naively(self.model):
            for _ in range(self.inner): null_text_update(*args)
    def fast_inner(self, inner=None):
        null = self.null.clone().requires_grad_()
        fit_null(self.model, self.z, self.down[0], self.emb, null, torch.optim.AdamW([null], lr=.1), self.z, self.c.guidance, self.inner if inner is None else inner)
    @torch.no_grad()
    def naive_close(self):
        with naively(self.model): diffusion_step(self.model, self.z, torch.cat([self.null, self.text]), torch.tensor(self.down[0].t), self.c.guidance)
    def fast_close(self): self.fast_inner(0)
    def fast_reference(self): reference_walk(self.model, self.z, self.run.embs[:1], self.down, self.c.guidance, self.run.limit, self.run.cells)
    def naive_iteration(self):
        with naively(self.model, self.naive.controller): self.naive.iteration()
    def fast_iteration(self): next(self.iterations)
    def floor_iteration(self): floor(self.run)
    @torch.no_grad()
    def naive_down(self):
        self.naive.controller.reset()
        with naively(self.model, self.naive.controller):
            diffusion_step(self.model, torch.cat([self.z] * 2), torch.cat([self.null] * 2 + [self.text] * 2), torch.tensor(self.down[0].t), self.c.guidance)
    def fast_down(self): self.fast_reference()
    @torch.no_grad()
    def naive_decode(self): self.naive.pictures(torch.cat([self.z] * 2))
    @torch.no_grad()
    def fast_decode(self): decode(self.model, torch.cat([self.z] * 2)) # attacked picture and reconstruction

PARTS = "encode up inner close reference iteration down decode".split()

def parts(size, res=224, repeats=1, variants=("naive", "fast", "floor"), names=PARTS, seed=3, inner=2):
    "Seconds of every part: name → variant → one {cpu, wall} a repeat; variants take turns. `inner` is so many updates, on the fast path with a `close`"
    p, found = Parts(size, res, seed, inner), {}
    p.fast_up() # the kernels' first use is not counted
    for i in range(repeats + (repeats > 1)):
        for name in names:
            for v in variants:
                code = getattr(p, f"{'fast' if v == 'bfloat16' else v}_{name}", None)
                if code is None: continue
                with reduced(v): seconds = timed(code)[1]
                if i or repeats == 1: found.setdefault(name, {}).setdefault(v, []).append(seconds) # a first round of several is not counted
    return found

# ---- whole attacks ----

class Whole:
    "One attack, piece by piece: first the preparation, then iterations, then the picture"
    def __init__(self, variant, model, classifier, c, picture):
        self.variant, self.model, self.picture, self.times = variant, model, picture, []
        if variant == "naive": self.attack = naive_new(model, classifier, picture, c); return
        x, y, word = picture
        self.attack = LatentRun(c, x, [y], [word], model, classifier)
        self.steps = latent_attack(self.attack)
    def pieces(self, n):
        if self.variant == "naive":
            a = self.attack
            yield lambda: (a.prepare(), a.begin(), a.end())
            for _ in range(n):
                def iteration():
                    with naively(self.model, a.controller): return a.iteration()
                yield iteration
            def picture():
                with naively(self.model, a.controller): return a.picture()
            yield picture
        else:
            yield lambda: prepare(self.attack)
            for _ in range(n): yield lambda: next(self.steps).terms[0]
            yield lambda: (next(self.steps, None), self.attack.result.adversarial)[1]

def attack(size, res=224, iterations=30, variants=("naive", "fast", "checkpointed"), seed=3, i=0, save=""):
    "Whole attacks of one picture, iteration by iteration in turns: variant → seconds of every piece, terms; the pictures go to the file `save`"
    model, classifier = load(size)
    picture, made, terms = scene(classifier, res, seed, i), {}, {}
    all = {v: Whole(v, model, classifier, config(size, v, iterations=iterations), picture) for v in variants}
    for turn in zip(*(w.pieces(iterations) for w in all.values())):
        for (v, w), piece in zip(all.items(), turn):
            with reduced(v): out, seconds = timed(piece)
            w.times.append(seconds)
            if isinstance(out, dict): terms.setdefault(v, []).append({k: out[k] for k in ("ce", "self", "cross")})
            if torch.is_tensor(out): made[v] = out.clamp(-1, 1)
    rebuilt = [w.attack for v, w in all.items() if v != "naive"]
    if rebuilt: made["no attack"] = rebuilt[0].result.reconstruction
    torch.save(dict(clean=picture[0], y=picture[1], word=picture[2], made=made), save)
    return dict(times={v: w.times for v, w in all.items()}, terms=terms)

# ---- the operators of one iteration ----

KINDS = dict(convolution="conv", **{"attention, fused": "scaled_dot_product"}, **{"matrix products": "addmm|bmm|::mm|matmul|einsum"}, softmax="softmax", normalisation="norm")

def operators(size, res=224, variants=("naive", "fast"), seed=3):
    "Seconds of the CPU by kind of operator, in one iteration: variant → kind → seconds"
    p, found = Parts(size, res, seed), {}
    for v in variants:
        code = getattr(p, f"{v}_iteration")
        code()
        with torch.profiler.profile() as prof: code()
        kinds = found.setdefault(v, dict.fromkeys([*KINDS, "other"], 0.))
        for e in prof.key_averages():
            kinds[next((k for k, words in KINDS.items() if re.search(words, e.key)), "other")] += e.self_cpu_time_total / 1e6
    return found

# ---- layout guidance ----

def guidance(size, iterations=5, rounds=5, seed=3):
    "A guided step of room 13 over the plain passes that it needs: ratios of rounds taken in turns"
    from attnattack.layout import guidance_cost, layout_pipeline
    pipe = layout_pipeline(load_diffusion(size, "cpu", torch.float32))
    box = [[.5, .4, .9, .9]]
    return [guidance_cost(pipe, "a person on a mud trail", [box], ["person"], iterations, rounds=1) for _ in range(rounds)]

# ---- a process for each ----

TASKS = dict(memory=memory, parts=parts, attack=attack, operators=operators, guidance=guidance)

def _answer(pipe, what, threads, task):
    "In the new process: do the task, send what it found or why it failed"
    torch.set_num_threads(threads)
    try: pipe.send((TASKS[what](**task), None))
    except Exception as e: pipe.send((None, f"{type(e).__name__}: {e}"))

def alone(what, threads=1, **task):
    "A task's answer, from a new process in which nothing has run but the imports"
    new = multiprocessing.get_context("forkserver")
    new.set_forkserver_preload(["attnattack.data", "attnattack.latent.attack", "attnattack.layout.pipeline"]) # what takes its time
    ours, theirs = new.Pipe(duplex=False)
    process = new.Process(target=_answer, args=(theirs, what, threads, task))
    process.start(); theirs.close()
    try: found, fault = ours.recv()
    except EOFError: found, fault = None, "the process was killed (out of memory?)"
    process.join()
    if fault: raise RuntimeError(f"{what} {task}: {fault}")
    return found

def measured(folder, need_gb=0, **task):
    "What a task measures; `MemoryError` with less than `need_gb` free. Kept in `folder`: a run that was interrupted goes on"
    text = json.dumps(task, sort_keys=True)
    kept = Path(folder)/f"measured-{task['what']}-{hashlib.md5(text.encode()).hexdigest()[:8]}.json"
    if kept.exists(): return json.loads(kept.read_text())["found"]
    if (free := available_gb()) < need_gb: raise MemoryError(f"{free:.1f} GB of memory were free, {need_gb:.0f} are needed")
    found = alone(**task | (dict(save=str(Path(folder)/task["save"])) if "save" in task else {}))
    with atomic_path(kept) as tmp: tmp.write_text(json.dumps(dict(task=task, found=found)))
    return found
