"""DiffAttack's algorithm (Chen et al., 2023, "Diffusion Models for Imperceptible and Transferable Adversarial Attack") written down plainly, without any saving:
the baseline of 12_latent_attack and of benchmark. Not the way to do it, and not part of the package. One picture, float32.

What it does that is not needed: the whole inversion, both guidance branches everywhere, the reference in every iteration, attention written out in every layer,
both pictures decoded, maps appended to lists under a counter."""
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor

def sampled_latent(model, x, seed=8888):
    "The VAE's latent, drawn with a fixed generator"
    return model.vae.encode(x).latent_dist.sample(torch.Generator().manual_seed(seed)) * model.vae.config.scaling_factor

def text_of(model, prompt):
    "The text encoder's output, [1, L, D]"
    tok = model.tokenizer
    ids = tok([prompt], padding="max_length", max_length=tok.model_max_length, truncation=True, return_tensors="pt").input_ids
    return model.pipe.text_encoder(ids.to(model.device))[0].detach()

def both_branches(model, z, t, context, guidance):
    "Prediction under guidance; both branches, whatever the guidance"
    uncond, text = model.unet(torch.cat([z] * 2), t, encoder_hidden_states=context).sample.chunk(2)
    return uncond + guidance * (text - uncond)

def diffusion_step(model, z, context, t, guidance): return model.scheduler.step(both_branches(model, z, t, context, guidance), t, z).prev_sample

# ---- inversion: all steps but the last ----

@torch.no_grad()
def inversion(model, x, prompt, steps=20, guidance=0., seed=8888):
    "All latents of the inversion, the noisiest first"
    model.scheduler.set_timesteps(steps)
    context, a = torch.cat([text_of(model, ""), text_of(model, prompt)]), model.scheduler.alphas_cumprod
    latents = [sampled_latent(model, x, seed)]
    for t in model.scheduler.timesteps.flip(0)[:-1]:
        z, noise, up = latents[-1], both_branches(model, latents[-1], t, context, guidance), t + model.scheduler.config.num_train_timesteps // steps
        x0 = (z - noise * (1 - a[t]).sqrt()) / a[t].sqrt()
        latents.append(x0 * a[up].sqrt() + (1 - a[up]).sqrt() * noise)
    return latents[::-1]

# ---- null-text: one embedding, one AdamW over all steps ----

def null_text_update(model, z, t, null, text, optimizer, target, guidance):
    "One inner iteration"
    optimizer.zero_grad()
    loss = F.mse_loss(diffusion_step(model, z, torch.cat([null, text]), t, guidance), target)
    loss.backward()
    optimizer.step()
    return loss.item()

def null_text(model, latents, prompt, start_step=15, guidance=2.5, lr=.1):
    "A null embedding for each used step"
    null, text = text_of(model, "").clone().requires_grad_(), text_of(model, prompt)
    optimizer, z, nulls = torch.optim.AdamW([null], lr=lr), latents[start_step - 1], []
    for i, t in enumerate(model.scheduler.timesteps[start_step:]):
        for _ in range(10 + 2 * i): null_text_update(model, z, t, null, text, optimizer, latents[start_step + i], guidance)
        with torch.no_grad(): z = diffusion_step(model, z, torch.cat([null, text]), t, guidance)
        nulls.append(null.detach().clone())
    return nulls

# ---- the controller: maps appended in the order in which they arise, the loss a side effect ----

class Controller:
    "Keeps the small cross maps of the prompt's half, compares the attacked picture's self-attention with the reference's: every self map"
    def __init__(self, cells, self_queries=None):
        self.cells, self.self_queries, self.layers = cells, self_queries, 0 # self_queries: the most of a self map; None: all, as published
    def reset(self): self.loss, self.steps, self.layer, self.sums, self.now = 0., 0, 0, {}, {}
    def __call__(self, probs, cross, place):
        a = probs[len(probs) // 2:]
        if cross and a.shape[1] <= self.cells: self.now.setdefault((place, cross), []).append(a)
        if not cross and (self.self_queries is None or a.shape[1] <= self.self_queries): self.loss = self.loss + F.mse_loss(*a.chunk(2))
        self.layer += 1
        if self.layer == self.layers: self.between_steps()
    def between_steps(self):
        for key, maps in self.now.items(): self.sums[key] = [s + m for s, m in zip(self.sums[key], maps)] if key in self.sums else maps
        self.now, self.layer, self.steps = {}, 0, self.steps + 1

class ControlledAttention:
    "Attention written out, every map shown to the controller"
    def __init__(self, controller, place): self.controller, self.place = controller, place
    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **kwargs):
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(y) for y in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)))
        probs = torch.softmax(torch.einsum("bid,bjd->bij", q, k) * attn.scale, -1)
        self.controller(probs, encoder_hidden_states is not None, self.place)
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(probs @ v)))

def register(model, controller):
    "Put the controller into every attention layer"
    names = model.unet.attn_processors
    controller.layers = len(names)
    model.unet.set_attn_processor({n: ControlledAttention(controller, n.split("_")[0]) for n in names})

def plain_attention(model): model.unet.set_attn_processor(AttnProcessor()) # written out too, as in the diffusers of that time

def cross_map(controller, cells, which):
    "Mean over steps, layers and heads of the cross maps of one size, [queries, tokens]"
    found = [m.chunk(2)[which] for place in ("up", "down") for m in controller.sums.get((place, True), []) if m.shape[1] == cells]
    return torch.cat(found).sum(0) / sum(map(len, found)) / controller.steps

# ---- the attack ----

def walk_pair(model, controller, original, z, nulls, text, start_step, guidance):
    "Reference and attacked latent through the used steps, together"
    controller.reset()
    pair = torch.cat([original, z])
    for null, t in zip(nulls, model.scheduler.timesteps[start_step:]):
        pair = diffusion_step(model, pair, torch.cat([null, null, text, text]), t, guidance)
    return pair

def soft_mask(a, tokens, size, hard):
    "The pseudo mask from the reference's map of the label's words"
    m = a[:, tokens].detach().mean(-1)
    side = int(len(m) ** .5)
    m = F.interpolate((m / m.max()).view(1, 1, side, side), size, mode="bilinear").clamp(0, 1)
    return m.gt(.5).float() if hard else m

class NaiveAttack:
    "The parts of one attack, each callable alone so that it can be timed"
    def __init__(self, model, classifier, x, y, prompt, steps=20, start_step=15, guidance=2.5, lr=.01, weights=(10., 100., 10_000.), cross_cells=32,
                 mask=False, hard=False, seed=8888, self_cells=None):
        self.__dict__.update(model=model, classifier=classifier, x=x, y=torch.tensor([y]), prompt=prompt, steps=steps, start_step=start_step,
                             guidance=guidance, lr=lr, weights=weights, use_mask=mask, hard=hard, seed=seed)
        self.tokens = list(range(1, len(model.tokenizer(prompt).input_ids) - 1))
        self.cells, self.small = (x.shape[-1] // cross_cells)**2, (x.shape[-1] // 16)**2
        self.self_queries = self_cells and (x.shape[-1] // self_cells)**2 # None: every self map is compared, as published
    def prepare(self):
        "Inversion and null-text"
        self.processors = dict(self.model.unet.attn_processors)
        plain_attention(self.model)
        self.latents = inversion(self.model, self.x, self.prompt, self.steps, seed=self.seed)
        self.nulls = null_text(self.model, self.latents, self.prompt, self.start_step, self.guidance)
    def begin(self):
        "The latent, its optimiser, the controller"
        self.original, self.mask = self.latents[self.start_step - 1], None if self.use_mask else torch.ones(1, 1, *self.x.shape[2:])
        self.z = self.original.clone().requires_grad_()
        self.optimizer, self.text = torch.optim.AdamW([self.z], lr=self.lr), text_of(self.model, self.prompt)
        register(self.model, controller := Controller(self.small, self.self_queries))
        self.controller = controller
    def pictures(self, pair):
        "Both decoded, the attacked one laid over the clean one by the mask"
        return self.model.vae.decode(pair / self.model.vae.config.scaling_factor).sample[1:] * self.mask + (1 - self.mask) * self.x
    def iteration(self):
        "One update of the latent; the terms, unweighted"
        pair = walk_pair(self.model, self.controller, self.original, self.z, self.nulls, self.text, self.start_step, self.guidance)
        if self.mask is None: self.mask = soft_mask(cross_map(self.controller, self.cells, 0), self.tokens, self.x.shape[2:], self.hard)
        logits = self.classifier((self.pictures(pair) / 2 + .5).clamp(0, 1))
        ce, cross = F.cross_entropy(logits, self.y), cross_map(self.controller, self.cells, 1)[:, self.tokens].var()
        loss = -self.weights[0] * ce + self.weights[1] * self.controller.loss + self.weights[2] * cross
        self.optimizer.zero_grad(); loss.backward(); self.optimizer.step()
        return dict(ce=ce.item(), self=self.controller.loss.item(), cross=cross.item(), loss=loss.item())
    @torch.no_grad()
    def picture(self):
        "The attacked picture, [1, 3, H, W]"
        return self.pictures(walk_pair(self.model, self.controller, self.original, self.z, self.nulls, self.text, self.start_step, self.guidance)).clamp(-1, 1)
    def end(self): self.model.unet.set_attn_processor(dict(self.processors))

def naive_attack(model, classifier, x, y, prompt, iterations=30, **settings):
    "The whole attack: (terms of each iteration, attacked picture)"
    a = NaiveAttack(model, classifier, x, y, prompt, **settings)
    try:
        a.prepare(); a.begin()
        return [a.iteration() for _ in range(iterations)], a.picture()
    finally: a.end()
