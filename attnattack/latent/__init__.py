"""Attack a picture in a diffusion model's latent space."""
import lazy_loader

from ..base.names import old_names

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": [
            "WALKS", "WEIGHT_MODES", "SCHEDULES", "FITS", "DTYPES", "DATASETS", "NO_NAMES", "PARITY",
            "check_prompt", "LatentConfig", "DIFFATTACK_NAMES", "parity", "check_paths",
        ],
        "weights": [
            "FIVE", "WARNINGS", "REPORTED", "schedule", "WeightNet", "TimestepWeights", "plot_weights",
            "loss_shares", "plot_shares", "plot_before_after", "save_weights", "load_weights",
        ],
        "naive": ["NaiveAttack", "naive_attack"],
        "inversion": [
            "Padding", "sample_latents", "inverting", "invert", "end_of_step", "fit_null", "fitting_null",
            "null_updates", "null_text",
        ],
        "reference": [
            "OURS", "attack_step", "lean_step", "OnDisk", "sweep_maps", "Reference",
            "reference_walk", "cells_of", "pseudo_mask", "label_map",
        ],
        "preparation": [
            "load_attacked", "load_model", "target_of", "new_weights", "term_weights",
            "check_model", "Prepared", "Phase", "preparing", "prepare",
        ],
        "attack": [
            "blend_with_mask", "cross_entropies", "weighted", "Pass", "walk_terms", "LatentState", "begin",
            "LatentRecord", "fooled", "latent_attack", "LatentResult", "quantised", "finish",
        ],
        "pictures": [
            "IMAGENET", "prompt_names", "check_class_numbers", "Item", "find_items", "to_square", "read_item",
            "distances", "PICTURE_KINDS", "files_of", "save_pictures", "save_losses", "source_of",
        ],
        "records": [
            "ATTACK_MAY_CHANGE", "config_hash", "check_folder", "bind_folder", "read_records",
            "append_records", "outdated", "make_record", "summary", "mean_distances", "write_summary",
            "summary_text", "results_folder",
        ],
        "folder": [
            "OWN_FILES", "Folder", "resume_weights", "commit", "attack_folder", "run_folder", "lock_folder", "sha256",
        ],
        "events": ["Event", "PicturesFailed", "Bars", "Lines", "Silent", "show_events"],
    },
)

# names of version 0.1, importable for one more release
__getattr__ = old_names(
    __name__, __getattr__, eight_bits="quantised", follow="show_events",
)
