"""Boxes steer where the objects of a picture stand."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "settings": [
            "Guidance", "boxes_of_phrases", "has_words", "check_output_folder",
        ],
        "boxes": [
            "draw_box", "box_mask", "cell_of", "used_maps", "Target", "token_ids", "layouts_of",
        ],
        "loss": ["map_loss", "layout_loss", "sigma_squared", "step_size", "refined", "box_bias"],
        "steering": ["known_maps", "Steering", "steered"],
        "pipeline": [
            "DEPRECATED", "WHERE", "FILES", "call_keywords", "LayoutGuidanceXLPipeline",
            "LayoutGuidancePipeline", "as_layout", "layout_pipeline",
        ],
        "recorder": [
            "recorded", "AttentionRun", "words_of", "attend", "attention_of", "kept_bytes", "guidance_cost",
        ],
        "pictures": ["make_pictures"],
        "editor": ["NamedBox", "BoxEditor"],
        "layout_explorer": ["LayoutExplorer", "explore_layout", "Painted", "save_painted"],
        "attention_explorer": [
            "AttentionExplorer", "explore_attention", "pictures_in", "RecordedMaps", "recorded_maps",
            "run_of_maps",
        ],
    },
)
