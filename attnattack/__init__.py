"""Attack, guide and look into diffusion models through their attention."""
import logging, sys

import lazy_loader

__version__ = "0.2.0"

# transformers notes at import that torchvision is missing; nothing here uses it
logging.getLogger("transformers.utils.import_utils").setLevel(logging.ERROR)

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "models": ["load_diffusion", "register_model"],
        "classifier": ["load_classifier", "register_classifier"],
        "ddim": ["ddim_reverse", "ddim_denoise"],
        "hijack": ["Capture"],
        "release": ["hijacked"],
        "attention": ["average", "overlay", "select", "token_maps", "trace_maps"],
        "attack": ["PatchConfig", "train_patch"],
        "latent": ["LatentConfig", "attack_folder", "latent_attack"],
        "layout": ["LayoutGuidancePipeline", "attend", "layout_pipeline"],
        "flux": ["SemanticConfig", "SemanticFluxFillPipeline", "train_semantic"],
    },
)

if sys.argv[:1] == ["-m"]:  # `python -m attnattack.x`: letters that the terminal lacks become question marks
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
