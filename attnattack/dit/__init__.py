"""Attention of transformer models (FLUX, SD3, …): maps with gradients, and what stands on them."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attended": [
            "attended_call", "prompt_words", "recorded_flow",
        ],
        "blocks": [
            "BLOCKS", "BLOCK_OF", "FAMILIES", "JOINT_PLACES", "PART", "Family", "family_of", "MapKey",
            "map_key", "read_key", "Call", "call_arguments", "read_call", "row_sums", "map_part",
            "rows_of", "few_rows", "Lengths", "parts_of",
        ],
        "concepts": [
            "Concepts", "concepts_along",
        ],
        "families": [
            "SMALL", "small_flux1", "small_flux_fill", "small_sd3", "small_sd35", "small_flux2",
            "small_qwen", "small_pixart", "small_sana", "small_pipeline", "joint_inputs",
        ],
        "flow": [
            "SOLVERS", "flow_walk", "flow_times", "flow_invert", "Flow", "flow_of", "fill_tokens",
            "fill_decode", "fill_flow", "FlowConfig", "FlowRecord", "attended_flow_step", "flow_attack",
            "told_guidance",
        ],
        "folder": [
            "FLOW_PIPELINES", "FlowIteration", "FlowResult", "attack_flow_folder", "attack_picture",
            "check_flow", "flow_config", "is_flow_model", "load_flow", "picture_flow", "refuse_unused",
            "refuse_guidance", "run_flow_folder", "schedule_shift",
        ],
        "layout": [
            "PLACES_WITH_TEXT", "JointGuidance", "GuidedStep", "cells_inside", "guided_walk",
            "blocks_for", "joint_layout_loss", "moved", "refined_maps", "text_columns", "walk_losses",
        ],
        "losses": [
            "Unformed", "unformed", "map_distance", "blockwise_self_loss",
        ],
        "maps": [
            "VISIBLE", "JointCapture", "joint_capture", "watched_modules", "find_joint", "check_visible",
            "Watch", "assert_unwatched", "watched", "select_blocks",
        ],
        "pipeline": [
            "JOINT_PIPELINES", "LayoutGuidanceFluxPipeline", "LayoutGuidanceFluxFillPipeline",
            "LayoutGuidanceSD3Pipeline", "joint_keywords", "joint_layout_pipeline", "joint_layouts",
            "pipeline_class", "saved_class",
        ],
        "records": [
            "INDEX", "record", "MapSet",
        ],
        "steering": [
            "GuidedWatch", "JointSteering", "guided_watch", "recording_watch", "steered_flow", "text_bias",
            "token_grid",
        ],
        "trace": [
            "PUBLISHED", "Published", "published", "JointInfo", "trace_joint", "joint_table",
        ],
        "words": [
            "phrase_span", "phrase_tokens", "TextPart", "text_parts", "joint_positions",
        ],
    },
)
