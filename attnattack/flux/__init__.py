"""FLUX-Fill learns to paint one panel beside another, and to look at a map."""
import lazy_loader

from ..base.names import old_names

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": [
            "log", "SEMANTIC_MODES", "ENTRANCES", "VARIANTS", "MAX_SEED", "DEVICE",
            "check_entrance", "check_template", "check_names", "SemanticConfig", "semantic_config",
        ],
        "triptychs": [
            "Triptych", "right_mask", "right_half", "dusk",
            "OffRoadNight", "split_panels", "Triptychs", "triptychs_of",
        ],
        "fill": [
            "LORA_FOLDER", "FILLS", "t5_tokenizer", "small_t5", "small_flux",
            "flux_scheduler", "dummy_flux_fill", "finite_tensors", "load_lora_beside", "load_fill",
            "factor_of", "token_width", "check_fit", "pack", "unpack", "image_ids", "pack_mask",
            "encode_tokens", "decode_tokens", "encode_fill",
        ],
        "semantic_attention": [
            "position_waves", "places", "SemanticCrossAttention", "attention_map", "look",
            "SemanticFusion", "SemanticChannels", "SemanticBlock", "BlockProcessor",
        ],
        "semantic_module": [
            "SemanticLayers", "module_for", "add_semantics", "install", "FluxWithSemantics", "load_module",
        ],
        "files": [
            "LORA", "MODULE", "MODULE_CONFIG", "CHECKPOINT", "module_settings",
            "PANELS", "PANEL_SUFFIXES", "read_panel", "check_panels",
        ],
        "lora": [
            "LORA_TARGETS", "lora_names", "add_lora", "save_lora", "check_lora", "without_lora",
        ],
        "flow": [
            "flow_loss", "guided_velocity", "paint",
        ],
        "latents": [
            "shape_line", "encode_prompts", "encode_triptychs", "Latents", "remove_old_leftovers",
            "load_latents",
        ],
        "run": [
            "draw_batch", "lr_at", "make_optimizer", "new_module", "SemanticRun", "tell_start",
            "batch_of", "check_finite", "recomputing", "update", "averaged",
        ],
        "trainer": [
            "TIMES", "TRAINING_MAY_CHANGE",
            "validate", "validation_picture", "save_trained", "save_state", "load_state", "Step",
            "train_semantic", "follow_training", "train_to_end", "train_all",
        ],
        "pipeline": [
            "EMBEDDINGS", "OWN", "TAKEN", "as_pictures", "cut_right", "repeated", "with_semantics",
            "one_at_a_time", "SemanticFluxFillPipeline",
        ],
        "map_use": [
            "way_settings", "scene_losses", "empty_map", "swapped_maps", "paired_change", "headroom_share",
            "HiddenObjects", "write_triptychs", "read_objects", "object_hits", "MAP_LABELS", "with_errors",
            "encode_maps",
        ],
    },
)

# names of version 0.1, importable for one more release
__getattr__ = old_names(
    __name__, __getattr__, Net="FluxWithSemantics", FREE="TRAINING_MAY_CHANGE",
)
