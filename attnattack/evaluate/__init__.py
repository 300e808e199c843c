"""What an attack did, each figure with its n and interval."""
import lazy_loader

from ..base.names import old_names

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["DEFENCES", "BASELINES", "BUDGETS", "Strength", "defence_value", "EvaluateConfig"],
        "pairs": [
            "Pairs", "read_pictures", "folder_pairs", "run_pairs", "run_config", "is_diffattack",
            "diffattack_pairs", "load_pairs",
        ],
        "success": ["predict_classes", "correctly_classified", "share", "score", "transfer"],
        "distances": [
            "LEAST_FID", "Features", "Inception", "load_features", "feature_distance", "set_distances",
            "kernel_distance", "differences", "quality", "mean_of",
        ],
        "defences": [
            "jpeg", "bits", "gauss", "resize_pad", "purify", "Defence", "read_defence", "defended",
        ],
        "baselines": ["budget_of", "noise_of", "noise_like", "signed_attack", "baseline", "rivals"],
        "gallery": ["STYLE", "amplified", "gallery_row", "gallery_figure", "write_gallery"],
        "evaluation": [
            "UNIT", "EvaluationInputs", "completed", "load_all", "load_inputs", "measure", "evaluate",
        ],
        "tables": [
            "cost_columns", "success_table", "difference_table", "defence_table", "runs_table", "report",
            "aligned", "format_figure",
        ],
    },
)

# names of version 0.1, importable for one more release
__getattr__ = old_names(
    __name__, __getattr__,
    answers="predict_classes", counted="correctly_classified", outcome="score",
    cell="format_figure", strip="gallery_row",
)
