"""FLUX-Fill learns to paint one panel beside another, and to look at a map."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "semantic": [
            "log", "PANELS", "SUFFIXES", "FILLS", "LORA_FOLDER", "LORA", "VARIANTS", "MODES", "ENTRANCES",
            "LORA_TARGETS", "LEAST", "CHOICES", "MAX_SEED", "LEFTOVER", "TIMES", "FREE", "MODULE",
            "MODULE_CONFIG", "CHECKPOINT", "OWN", "TAKEN", "Triptych", "dusk", "OffRoadNight",
            "split_panels", "Triptychs", "right_mask", "t5_tokenizer", "small_t5", "small_flux",
            "flux_scheduler", "dummy_flux_fill", "load_fill", "load_lora_beside", "finite_tensors",
            "factor_of", "check_fit", "token_width", "pack", "unpack", "image_ids", "pack_mask",
            "encode_tokens", "encode_fill", "decode_tokens", "waves", "places", "SemanticCrossAttention",
            "attention_map", "look", "SemanticFusion", "check_entrance", "SemanticLayers",
            "SemanticChannels", "SemanticBlock", "BlockProcessor", "install", "add_semantics", "Net",
            "module_for", "lora_names", "add_lora", "flow_loss", "SemanticConfig", "semantic_config",
            "shape_line", "triptychs_of", "encode_triptychs", "encode_prompts", "Latents",
            "remove_leftovers", "load_latents", "draw", "lr_at", "make_optimizer", "SemanticRun",
            "new_module", "tell_start", "recomputing", "update", "averaged", "validate", "paint",
            "guided_velocity", "right_half", "validation_picture", "save_trained", "save_lora",
            "save_state", "load_state", "Step", "train_semantic", "with_progress", "train_to_end",
            "train_all", "as_pictures", "SemanticFluxFillPipeline", "cut_right", "with_semantics",
            "repeated", "one_at_a_time", "check_lora", "without_lora", "load_module", "module_settings",
        ],
    },
)
