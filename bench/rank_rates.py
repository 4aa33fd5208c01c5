"""How often `check --ranks` and `check` of several ranks are right, on correct and wrong trainings.

python bench/rank_rates.py OUT [SEED…]    run what OUT does not have yet, for these seeds (0 to 4)
python bench/rank_rates.py OUT --report   print the table of what OUT has

A case is one command with its expected answer. The training is `tests/ranks/training.py`.
"""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

TRAINING = Path(__file__).resolve().parents[1] / "tests" / "ranks" / "training.py"
PROCESSES = "python training.py --processes {ranks}"
TORCHRUN = "torchrun --standalone --nproc-per-node {ranks} training.py"


class Case(NamedTuple):
    """A training: its options, the options of `check`, and a part of the expected answer."""

    name: str
    words: str
    options: str = "--ranks 1,2"
    answer: str = ""  # empty for a correct training
    launch: str = PROCESSES


RESUME = "--kill-after 3 --resume"
SAVED = "--layout {} --save 1 --steps 6"
CASES = (
    Case("DDP", "--layout ddp --steps 4"),
    Case("DDP, torchrun", "--layout ddp --steps 4", launch=TORCHRUN),
    Case("DDP, mp.spawn", "--layout ddp --steps 4 --start spawn"),
    Case("DDP, accumulation with no_sync", "--layout ddp --steps 4 --accumulate 2"),
    Case("DDP, 4 passes of all ranks", "--layout ddp --steps 4 --passes 4"),
    Case("DDP, 49 rows, padded", "--layout ddp --steps 7 --rows 49"),
    Case("DDP, 49 rows, drop_last", "--layout ddp --steps 7 --rows 49 --drop-last"),
    Case("FSDP2", "--layout fsdp2 --steps 4 --clip 0.5"),
    Case("FSDP2, accumulation without reduction", "--layout fsdp2 --steps 4 --accumulate 2"),
    Case("FSDP2, uneven shards", "--layout fsdp2 --steps 4 --width 15"),
    Case("tensor parallel", "--layout tp --steps 4"),
    Case("FSDP2 × tensor parallel, 2 × 2", "--layout mesh --steps 4", "--ranks 1,4"),
    Case("no reduction", "--layout plain --fault 'no reduction' --steps 4",
         answer="step 0, in the gradient of ffn.w1.weight: rank 0 and rank 1 have a share each"),
    Case("one gradient not reduced", "--layout plain --fault 'one not reduced' --steps 4",
         answer="step 0, in the gradient of ffn.w2.weight: rank 0 and rank 1 have a share each"),
    Case("sum for mean", "--layout plain --fault 'sum for mean' --steps 4",
         answer="step 0, in the gradient of ffn.w1.weight: 2 times the right one"),
    Case("mean divided again", "--layout plain --fault 'mean divided' --steps 4",
         answer="step 0, in the gradient of ffn.w1.weight: 1/2 of the right one"),
    Case("no_sync one pass too long", "--layout ddp --fault no_sync --accumulate 2 --steps 5",
         answer="step 3, in the gradient of ffn.w1.weight: rank 0 and rank 1 have"),
    Case("the module called, not DDP", "--layout ddp --fault 'bare module' --steps 4",
         answer="step 0, in the gradient of ffn.w1.weight: rank 0 and rank 1 have a share each"),
    Case("bare to_local()", "--layout tp --fault to_local --steps 4", answer="first in step 0"),
    Case("another seed for initial weights", "--layout fsdp2 --fault 'initial seed' --steps 4",
         answer="step 0, in the initial value of ffn."),
    Case("another learning rate on rank 1", "--layout ddp --fault 'learning rate' --steps 4",
         answer="rank 1 differs from rank 0 first in step 0, in the hyperparameters"),
    Case("clipping by the local norm", "--layout fsdp2 --fault 'local clip' --clip 0.1 --steps 4",
         answer="first in step 0, in the gradient of ffn.w1"),
    Case("clipping before the reduction",
         "--layout plain --fault 'clip first' --clip 0.1 --steps 4",
         answer="first in step 0, in the gradient of ffn.w1"),
    Case("an optimizer that steps only on rank 0", "--layout ddp --fault 'no step' --steps 4",
         answer="different numbers of steps: rank 0 after 4 steps, rank 1 after 0 steps"),
    Case("BatchNorm without synchronization", "--layout ddp --batchnorm --steps 4",
         answer="BatchNorm ffn.norm normalizes by the rows of each rank"),
    Case("no sampler", "--layout ddp --fault 'no sampler' --rows 32 --steps 4",
         answer="16 seen twice, 16 never"),
    Case("another sampler on rank 1", "--layout ddp --fault 'sampler by rank' --rows 32 --steps 4",
         answer="seen twice"),
    Case("a division by the passes missing",
         "--layout ddp --fault 'no division' --steps 4 --passes 4",
         answer="step 0, in the gradient of ffn.w1.weight: 0.5 times the right one, with 2 passes"),
    Case("set_epoch left out on rank 1",
         "--layout ddp --fault 'epoch of a rank' --steps 8 --rows 32",
         answer="seen too often"),
    Case("set_epoch left out on all ranks", "--layout ddp --fault 'no epoch' --steps 8 --rows 32"),
    Case("weights of rank 1 changed after the last step",
         "--layout ddp --fault 'changed at the end' --steps 4",
         answer="rank 1 differs from rank 0 after the last step, in parameter ffn.w2.bias"),
    Case("DCP, 2 to 1, DDP", SAVED.format("ddp"), f"{RESUME} 1"),
    Case("DCP, 1 to 2, DDP", SAVED.format("ddp"), f"{RESUME} 2"),
    Case("DCP, 2 to 1, FSDP2", SAVED.format("fsdp2"), f"{RESUME} 1"),
    Case("DCP, 1 to 2, FSDP2, uneven", SAVED.format("fsdp2 --width 15"), f"{RESUME} 2"),
    Case("DCP, a shard lost", SAVED.format("fsdp2 --fault 'shard lost'"), f"{RESUME} 2",
         answer="in the initial value of ffn.w2.weight"),
    Case("DCP, shards swapped", SAVED.format("fsdp2 --fault 'shard swapped'"), f"{RESUME} 2",
         answer="in the initial value of ffn.w1.weight"),
    Case("DCP, optimizer state of a rank lost", SAVED.format("fsdp2 --fault 'state lost'"),
         f"{RESUME} 2", answer="in the optimizer state ffn."),
    Case("DCP, sampler reset", SAVED.format("ddp --fault 'sampler reset'"), f"{RESUME} 1",
         answer="samples"),
)  # fmt: skip


def command(case: Case, seed: int) -> list[str]:
    """The words after `xorbench check`."""
    words = f"{case.words} --seed {seed}"
    if not case.options.startswith(RESUME):
        return [*case.options.split(), "--", *shlex.split(f"{case.launch} {words}")]
    resumed = case.options.removeprefix(RESUME).strip()
    start = "1" if resumed == "2" else "2"
    before, after = (f"{TORCHRUN} {words}".replace("{ranks}", n) for n in (start, resumed))
    return [*RESUME.split(), f"{after} --resume", "--", *shlex.split(before)]


def run(case: Case, seed: int) -> dict[str, object]:
    """The answer of one check."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "training.py").write_bytes(TRAINING.read_bytes())
        words = [sys.executable, "-m", "xorbench", "check", "--json", "--timeout", "180"]
        done = subprocess.run(
            [*words, *command(case, seed)], cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    result = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    sentence = str(result.get("sentence", done.stderr.strip()[-300:]))
    return {"case": case.name, "seed": seed, "code": done.returncode, "sentence": sentence}


def is_right(case: Case, row: dict[str, object]) -> bool:
    """Whether the answer is the expected one."""
    return row["code"] == (1 if case.answer else 0) and case.answer in str(row["sentence"])


def report(out: Path) -> None:
    """Print the table."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    print("| training | command | expected answers | last answer |\n| --- | --- | ---: | --- |")
    for case in CASES:
        own = list({row["seed"]: row for row in rows if row["case"] == case.name}.values())
        if own:
            right = sum(is_right(case, row) for row in own)
            words = shlex.join(["check", *command(case, own[-1]["seed"])])
            print(f"| {case.name} | `{words}` | {right} of {len(own)} | {own[-1]['sentence']} |")


def main() -> None:
    """Run the cases that the file does not have, seed by seed."""
    out, seeds = Path(sys.argv[1]), sys.argv[2:]
    if seeds == ["--report"]:
        report(out)
        return
    lines = out.read_text().splitlines() if out.exists() else []
    have = {(row["case"], row["seed"]) for row in map(json.loads, lines)}
    for seed in map(int, seeds or "01234"):
        for case in CASES:
            if (case.name, seed) not in have:
                row = run(case, seed)
                mark = "expected" if is_right(case, row) else "NOT EXPECTED"
                print(f"{mark}: {case.name}, seed {seed}: {row['code']}, {row['sentence']}")
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
