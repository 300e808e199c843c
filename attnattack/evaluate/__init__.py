"""What an attack did, each figure with its n and interval."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": [
            "EvaluateConfig", "quality",
            "STYLE", "LEAST_FID", "UNIT", "read_pictures", "Pairs", "folder_pairs", "run_pairs",
            "is_diffattack", "diffattack_pairs", "run_config", "answers", "counted", "share", "outcome",
            "mean_of", "cell", "Features", "Inception", "load_features", "set_distances", "jpeg", "bits",
            "gauss", "resize_pad", "purify", "Defence", "read_defence", "noise_of", "noise_like",
            "signed_attack", "budget_of", "baseline", "amplified", "strip", "write_gallery",
            "gallery_figure", "completed", "load_all", "load_pairs", "transfer", "defended",
            "feature_distance", "differences", "rivals", "measure", "evaluate", "cost_columns",
            "success_table", "difference_table", "defence_table", "runs_table", "aligned", "report",
        ],
    },
)
