"""Boxes steer where the objects of a picture stand."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pipeline": [
            "COLOURS", "MOST_CELLS", "MOST_PICTURES", "ASK", "DEPRECATED", "WHERE", "FILES", "Guidance",
            "draw_box", "cells_between", "box_mask", "cell_of", "used_maps", "Target", "map_loss",
            "layout_loss", "sigma_squared", "step_size", "take_rows", "frozen", "checkpointing", "refined",
            "box_bias", "Steering", "Update", "steered", "layouts_of", "call_keywords",
            "LayoutGuidanceXLPipeline", "LayoutGuidancePipeline", "layout_pipeline", "kept_bytes",
            "guidance_cost", "recorded", "AttentionRun", "words_of", "attend", "attention_of",
            "make_pictures", "LayoutExplorer", "explore_layout", "pictures_in", "AttentionExplorer",
            "explore_attention",
        ],
    },
)
