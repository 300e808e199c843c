"""Attack a picture in a diffusion model's latent space."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attack": [
            "OURS", "IMAGENET", "FREE", "LATER", "KINDS", "METRICS", "OWN_FILES", "term_weights",
            "Padding", "sample_latents", "inverting", "invert", "arrive", "fit_null", "fitting_null",
            "null_updates", "null_text", "attack_step", "lean_step", "Reference", "OnDisk", "is_running",
            "sweep_maps", "reference_walk", "pseudo_mask", "cells_of", "target_of", "check_device",
            "load_attacked", "load_model", "Phase", "LatentRun", "new_weights", "preparing", "prepare",
            "laid_over", "cross_entropies", "Forward", "weighted", "walk_terms", "LatentRecord", "fooled",
            "latent_attack", "LatentResult", "eight_bits", "label_map", "finish", "config_hash",
            "check_folder", "bind_folder", "lock_folder", "sha256", "read_records", "append_records",
            "outdated", "Item", "prompt_names", "check_class_numbers", "find_items", "to_square",
            "read_item", "files_of", "save_pictures", "save_losses", "quality", "distances", "source_of",
            "make_record", "summary", "mean_distances", "write_summary", "summary_text", "results_folder",
            "Event", "PicturesFailed", "Folder", "check_model", "tidy", "resume_weights", "commit",
            "attack_folder", "Bars", "Lines", "Silent", "follow", "run_folder",
        ],
        "settings": [
            "WALKS", "WEIGHT_MODES", "SCHEDULES", "FITS", "CHOICES", "AT_LEAST", "ABOVE", "AT_MOST",
            "NO_NAMES", "PARITY", "DEFENCES", "BASELINES", "BUDGETS", "EVALUATE_AT_LEAST",
            "EVALUATE_ABOVE", "EVALUATE_AT_MOST", "check_types", "check_ranges", "check_choices",
            "check_prompt", "class_index", "LatentConfig", "check_latent", "parity", "check_paths",
            "defence_value", "EvaluateConfig", "check_evaluate",
        ],
        "weights": [
            "FIVE", "WARNINGS", "REPORTED", "schedule", "WeightNet", "TimestepWeights", "plot_weights",
            "loss_shares", "plot_shares", "plot_before_after", "save_weights", "load_weights",
        ],
    },
)
