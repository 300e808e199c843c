"""Experiments as runs: checked, recorded, repeated, compared."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "report_page": [
            "thin", "curves", "pictures", "ranked", "page",
        ],
        "runner": [
            "PACKAGE", "EXPERIMENTS", "FLOORS", "FLAT", "TYPES", "NUMBERS", "OLD", "RUNNERS", "UNHASHED",
            "PACKAGES", "CHANGING", "experiments", "build_order", "notebook_of", "Parameter",
            "parameters_of", "from_yaml", "to_yaml", "regular_file", "read_yaml", "check_parameters",
            "read_parameters", "code_hash", "run_id", "code_state", "versions", "kernel_facts", "hardware",
            "file_hash", "tree_hash", "inputs", "steady", "digest", "digests", "flat", "Finished",
            "read_manifest", "write_whole", "is_url", "cloud", "leash", "run",
        ],
        "store": [
            "COLUMNS", "KINDS", "table", "records", "State", "state_of", "status",
        ],
        "sweeps": [
            "MOST_RUNS", "DRAWS", "Sweep", "read_sweep", "draws", "Job", "jobs", "Outcome", "attempt",
            "on_worker", "job_cluster", "connect", "check_workers", "sweep",
        ],
        "verification": [
            "ENVIRONMENT", "FIELDS", "first_difference", "environment_difference", "result_difference",
            "Verdict", "verify",
        ],
    },
)
