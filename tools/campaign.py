"""One section of the campaign: many trials, each of which holds or says what did not.

`python tools/campaign.py kills_patch=60 threads=20 --to FOLDER` makes trials 0 … n-1 of each, writes what came of
them as it goes, and goes on from there when it is started again. A trial is a function (number, generator) → None, or
a line that says what did not hold."""
import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class OnlyWords(str):
    "What did not hold is a message; nothing was lost"


@dataclass
class Outcome:
    "What came of a section so far"
    section: str
    seed: int = 0
    tried: int = 0
    faults: list = field(default_factory=list) # of {trial, kind, said}
    groups: dict = field(default_factory=dict) # group → [tried, held]
    seconds: float = 0.                        # of the processor

    @property
    def held(self):
        return self.tried - len(self.faults)

    def note(self, trial, group, said):
        "A trial has ended; `said` is None where all held"
        self.tried += 1
        tried, held = self.groups.get(group, (0, 0))
        self.groups[group] = [tried + 1, held + (said is None)]
        if said is not None:
            lost = not isinstance(said, OnlyWords)
            self.faults.append(dict(trial=trial, group=group, said=str(said)[:400], lost=lost))


@dataclass(frozen=True)
class Section:
    "A kind of trial"
    begin: Callable      # scratch folder → trial: (number, generator) → (group, None or what did not hold)
    count: Callable | None = None # how many there are, where that is fixed by the code


SECTIONS = {} # name → Section


def read_outcome(file, name, seed):
    "What a file says that was tried; a new outcome where there is none, or one of another seed"
    if not file.exists():
        return Outcome(name, seed)
    found = json.loads(file.read_text("utf-8"))
    kept = {k: found[k] for k in ("section", "seed", "tried", "faults", "groups", "seconds")}
    return Outcome(**kept) if (kept["section"], kept["seed"]) == (name, seed) else Outcome(name, seed)


def write_outcome(file, outcome):
    "Whole, or not at all"
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    half.write_text(json.dumps(asdict(outcome) | dict(held=outcome.held), indent=1) + "\n", "utf-8")
    os.replace(half, file)


def processor_seconds():
    "Of this process and of those that it has waited for"
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(r.ru_utime + r.ru_stime for r in both)


def make(name, n, seed, file, scratch):
    "Trials of a section from where its file stands up to the nth"
    outcome = read_outcome(file, name, seed)
    limit = SECTIONS[name].count
    n = min(n, limit()) if limit else n
    if outcome.tried < n:
        before, written = outcome.seconds, 0.
        trial = SECTIONS[name].begin(scratch)
        while outcome.tried < n:
            number = outcome.tried
            outcome.note(number, *trial(number, random.Random(f"{seed} {name} {number}")))
            outcome.seconds = before + processor_seconds()
            if time.monotonic() - written > 5:
                write_outcome(file, outcome)
                written = time.monotonic()
    write_outcome(file, outcome)
    return outcome


def in_a_fork(name, n, args):
    "A section in a process of its own, which has what this one has imported; True if it came to its end"
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    code = 1
    try:
        start = time.time()
        with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
            outcome = make(name, n, args.seed, args.to.resolve() / f"{name}_measured.json", Path(scratch))
        for fault in outcome.faults:
            print(f"    {fault['said']}")
        print(f"{name:22}{outcome.tried:6} tried {outcome.held:6} held {outcome.seconds:6.0f} s of processor"
              f" {time.time() - start:6.0f} s", flush=True)
        code = 0
    except BaseException as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def wanted(text):
    "SECTION=N as (name, number)"
    name, _, number = text.partition("=")
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}, must be SECTION=N")
    return name, int(number)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="+", type=wanted, metavar="SECTION=N", help="and its number of trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="gets SECTION_measured.json")
    args = parser.parse_args(argv)
    import campaign_bad_inputs, campaign_ends, campaign_inside # noqa: they fill SECTIONS
    for name, _ in args.sections:
        if name not in SECTIONS:
            parser.error(f"section: {name!r} is not one of {', '.join(SECTIONS)}")
    light = [s for s in args.sections if s[0] == "bad_commands"] # counts what a command itself imports
    good = [in_a_fork(*section, args) for section in light]
    campaign_ends.warm()
    good += [in_a_fork(*section, args) for section in args.sections if section not in light]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.modules["campaign"] = sys.modules["__main__"] # the other files fill this very SECTIONS
    warnings.filterwarnings("ignore")
    sys.exit(main())
