"""The commands of `attnattack`; `attnattack.cli` reads what was typed and calls them."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "selftest": ["rooms", "first_line", "Selftest"],
        "experiments": ["AppendPairs", "Experiments", "Run", "SweepCommand", "Status", "Verify", "Report"],
        "attacks": ["command_for", "Patch", "Latent", "latent_command", "plain_booleans", "Evaluate"],
        "pictures": ["GUIDANCE", "Scenes", "Layout", "check_layout", "check_model_name"],
        "semantic": [
            "SemanticTrain", "train_command", "SemanticSample", "check_sample", "Semantic", "semantic_command",
        ],
    },
)
