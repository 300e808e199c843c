"""Experiments as runs: checked, recorded, repeated, compared."""
import lazy_loader

from ..base.names import old_names

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "order": [
            "PACKAGE", "EXPERIMENTS", "FLOORS", "FLAT", "experiments", "nearest_names", "notebook_of",
            "build_order",
        ],
        "parameters": [
            "TYPES", "NUMBERS", "OLD", "Parameter", "code_cells", "parameters_of", "from_yaml", "to_yaml",
            "read_yaml", "check_parameters", "read_parameters", "parameters_text",
        ],
        "provenance": [
            "RUNNERS", "UNHASHED", "PACKAGES", "CHANGING", "code_hash", "run_id", "code_state", "versions",
            "kernel_facts", "note_facts_after_cells", "hardware", "file_hash", "tree_hash", "inputs",
            "without_timings", "digest", "digests", "dotted",
        ],
        "runner": [
            "SOCKETS", "private_kernel", "Finished", "read_manifest", "write_whole", "is_url", "cloud",
            "stop_with_parent", "run",
        ],
        "store": [
            "COLUMNS", "records", "State", "state_of", "status",
        ],
        "plan": [
            "MOST_RUNS", "DRAWS", "check_rule", "is_whole", "Sweep", "read_sweep", "draws", "Job", "jobs",
        ],
        "sweeps": [
            "Outcome", "attempt", "on_worker", "job_cluster", "connect", "check_workers", "sweep",
        ],
        "verification": [
            "ENVIRONMENT", "FIELDS", "first_difference", "environment_difference", "result_difference",
            "Verdict", "verify",
        ],
        "notebook_page": ["notebook_html", "write_notebook_page"],
        "report_page": [
            "subsample", "curves", "pictures", "ranked", "failed_runs", "template", "page",
        ],
    },
)

# names of version 0.1, importable for one more release
__getattr__ = old_names(
    __name__, __getattr__,
    steady="without_timings", flat="dotted", leash="stop_with_parent", thin="subsample",
)
