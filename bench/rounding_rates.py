"""How often `check --up-to-rounding` is right: false alarms, detection and place, by class.

python bench/rounding_rates.py OUT             run what OUT does not have yet, print the tables
python bench/rounding_rates.py OUT --second    only the scripts that did not set the limits
python bench/rounding_rates.py OUT --third     further scripts, also on two ranks; 20 steps
python bench/rounding_rates.py OUT --report    print the tables of what OUT has
python bench/rounding_rates.py child MODEL SEED OUT JOB…    the jobs of one model, in one process

The unit is the script: a model and a seed (`rounding_scripts.py`). The scripts of `FIRST` set the
limits. `limits.json` is written before another script runs; the tables have no script of `FIRST`.
A job is LABEL|SWITCHES|NOISE. Each job is a whole training under the recorder; jobs of a script
share a process, except those with variables, which need their own. The variable STEPS sets the
number of steps, SAMPLE the least size of the samples of large tensors. A script of `SECOND` has
half of the faults. A change without effect on any bit, such as clipping of small gradients, does
not count as a fault.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rounding_scripts import train

from xorbench.programs import rounding
from xorbench.programs.rounding import Step, read_steps
from xorbench.recorder import sketch
from xorbench.recorder.detail import Detail
from xorbench.recorder.entry import Presence
from xorbench.recorder.head import head
from xorbench.recorder.install import install
from xorbench.recorder.options import Options
from xorbench.recorder.rounding import Rounding
from xorbench.recorder.sink import Sink
from xorbench.recorder.start_states import StartStates
from xorbench.records.trace import opened, rank_of
from xorbench.stats.intervals import wilson

FIRST = (
    *(("cnn", 0), ("lstm", 0), ("autoencoder", 0), ("gpt", 0), ("mlp", 0)),
    *(("vit", 2), ("resnet", 2), ("unet", 2)),  # they showed that the noise was too small
    ("unet", 5),  # it showed that a state may be as rough as its gradient
)
OTHERS = ("vit", "resnet", "llama", "recommender", "unet")
SECOND = (
    *((m, 3) for m in OTHERS),
    *((m, 7) for m in ("cnn", "lstm", "autoencoder", "gpt", "mlp")),
    *((m, s) for s in (4, 5, 6) for m in OTHERS if (m, s) not in FIRST),
    *(("unet", 9), ("unet", 10), ("cnn", 9), ("resnet", 9)),  # batch norms after biases
)
HALF = tuple((f"{m}-bf16", s) for s in (2, 3) for m in ("vit", "llama", "gpt", "mlp"))
# Scripts with all correct changes, and on two ranks; one with max-pools, the others without.
THIRD = tuple(
    (m, 8) for m in ("gpt", "cnn", "mlp", "vit", "llama", "resnet", "lstm", "recommender")
)
RANKS = 2
NOISE = 4
# Correct changes; the second entry names the models that have them, empty for all.
ADDED = "mlp gpt lstm autoencoder vit resnet llama recommender"  # models without batch norm
ADAM = "gpt lstm vit resnet llama recommender"
CORRECT = {
    "fused": "", "foreach": "", "nomkldnn": "", "double": "", "threads": "", "einsum": "",
    "halves": "", "lse": "", "accumulate=2": ADDED, "accumulate=4": ADDED,
    "gelu=erf": "mlp gpt vit", "silu=sigmoid": "resnet llama", "norm=moments": "mlp gpt vit",
    "attention=manual": "gpt vit llama", "channels_last": "cnn resnet unet autoencoder",
    "unfold": "cnn resnet unet", "tanh=sigmoid": "lstm autoencoder", "compile": "",
}  # fmt: skip
FEWER = {"threads": (0, 2, 7), "compile": (3,)}  # the seeds that have a slow change
RANKED = {"ranks": "correct", "ranks,bucket": "correct", "ranks,alone": "fault",
          "ranks,same": "fault"}  # fmt: skip
APART = {"isa": {"ATEN_CPU_CAPABILITY": "default"}, "cbwr": {"MKL_CBWR": "COMPATIBLE"}}
# Faults: the kinds of the tensor in which each begins, and its step.
FAULTS = {
    "lr=1.001": ("hyperparameters", 0), "beta=0.99": ("hyperparameters", 0),
    "eps=1e-7": ("hyperparameters", 0), "decay": ("hyperparameters", 0),
    "rate=1.001": ("gradient", 0), "rate=1.0001": ("gradient", 0),
    "clip=none": ("gradient", None),  # in the first step with a large gradient
    "trip": ("gradient", 0), "wtrip=3": ("gradient parameter output", 3),
    "label=2": ("label batch loss", 2), "init=1.001": ("initial output", 0),
    "zeroed": ("gradient", 0), "division": ("loss", 0), "scale=1.001": ("output", 0),
    "gelu=tanh": ("output", 0), "lneps=1e-4": ("output", 0), "mask=1": ("output", 0),
    "bnmom=0.09": ("buffer", 0), "half": ("output", 0),
    "ranks,alone": ("gradient parameter", 0), "ranks,same": ("gradient", 0),
}  # fmt: skip
ONLY = {
    "gelu=tanh": "mlp gpt vit", "scale=1.001": "gpt vit llama", "lneps=1e-4": "mlp gpt vit",
    "mask=1": "gpt llama", "bnmom=0.09": "cnn unet", "beta=0.99": ADAM, "eps=1e-7": ADAM,
}  # fmt: skip
SUBTLE = {"rate=1.00001": ("gradient", 0), "lr=1.00001": ("hyperparameters", 0)}
IN_HALF = ("fused", "foreach", "lse", "einsum", "accumulate=2", "attention=manual", "threads")
FAULTS_IN_HALF = (
    "lr=1.001",
    "beta=0.99",
    "decay",
    "label=2",
    "gelu=tanh",
    "scale=1.001",
    "init=1.001",
)


PLACES = FAULTS | SUBTLE


# A script


def child(name: str, seed: int, out: Path, jobs: list[str]) -> None:
    """Run jobs in this process, each with a record of its own."""
    os.environ["XORBENCH_RECORD_OPTIONS"] = json.dumps({"sketches": True})
    sketch.LEAST_SAMPLED = int(os.environ.get("SAMPLE", sketch.LEAST_SAMPLED))
    listener = install(Presence(str(out)))
    for job in jobs:
        label, switches, noise = job.split("|")
        v = dict(s.split("=") if "=" in s else (s, "1") for s in switches.split(",") if s)
        ranks = "RANK" in os.environ
        folder = out / label if ranks else out / f".{label}"
        if not ranks:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        states = str(out / "states")
        place = {"keep_states": states} if label == "a" else {"start_from": states}
        options = Options(
            sketches=True, noise=int(noise) if noise else None, **({} if "free" in v else place)
        )
        listener.options = options
        listener._open_record = functools.partial(_opened, folder, options)
        listener.reset()
        listener.detail, listener.rounding = Detail(listener), Rounding(listener)
        listener.start_states = StartStates(listener)
        began = time.perf_counter()
        train(name, seed, v)
        listener.rounding.pop()
        listener.shielded(listener.finish)
        (folder / "took").write_text(f"{time.perf_counter() - began:.3f}")
        if not ranks:
            shutil.rmtree(out / label, ignore_errors=True)
            folder.rename(out / label)


def _opened(folder: Path, options: Options) -> Sink:
    record = Sink(str(folder), options.max_bytes)
    record.write(head(options, {}), always=True)
    return record


# The runs and the tables


def has(name: str, models: str) -> bool:
    """Whether a model is among these; all are if there are none."""
    return not models or name.removesuffix("-bf16") in models.split()


def jobs_of(name: str, seed: int) -> dict[str, str]:
    """The class of each job of a script, by its switches."""
    if name.endswith("-bf16"):
        correct = {s: "correct bf16" for s in IN_HALF if has(name, CORRECT.get(s, ""))}
        return correct | {s: "fault bf16" for s in FAULTS_IN_HALF if has(name, ONLY.get(s, ""))}
    correct = {
        s: "correct"
        for s, models in CORRECT.items()
        if has(name, models) and seed in FEWER.get(s, (seed,))
    }
    own = [s for s in (*FAULTS, *SUBTLE) if has(name, ONLY.get(s, "")) and s not in RANKED]
    for scripts in (SECOND, THIRD):  # half of the faults, the other half in the next script
        if (name, seed) in scripts:
            own = own[scripts.index((name, seed)) % 2 :: 2]
    faults = {s: "fault" if s in FAULTS else "subtle" for s in own}
    ranked = RANKED if (name, seed) in THIRD and has(name, ADDED) else {}
    return correct | faults | dict.fromkeys(APART, "correct") | ranked


def run_script(out: Path, name: str, seed: int) -> None:
    """Run the jobs that are missing, and judge each pair."""
    folder = out / f"{name}-{seed}"
    result = folder / "results.json"
    if result.exists():
        return
    shared = ["a||", *(f"n{k}||{k}" for k in range(1, NOISE + 1))]
    jobs = jobs_of(name, seed)
    shared += [f"{s}|{s}|" for s in jobs if s not in APART and s not in RANKED]
    _child(name, seed, folder, shared, {})
    for label in (s for s in RANKED if s in jobs):
        _ranks(name, seed, folder, f"{label}|{label}|")
    for label, variables in APART.items():
        if label in jobs:
            _child(name, seed, folder, [f"{label}||"], variables)
    result.write_text(json.dumps(judged(folder, name, seed), indent=1))
    for label in (*jobs_of(name, seed), "states") if os.environ.get("KEEP") is None else ():
        shutil.rmtree(folder / label, ignore_errors=True)


def _child(name: str, seed: int, folder: Path, jobs: list[str], variables: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(_words(name, seed, folder, jobs), check=True, env={**os.environ, **variables})


def _words(name: str, seed: int, folder: Path, jobs: list[str]) -> list[str]:
    return [sys.executable, __file__, "child", name, str(seed), str(folder), *jobs]


def _ranks(name: str, seed: int, folder: Path, job: str) -> None:
    """Run a job on several ranks, which write to one folder."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--no-python", f"--nproc-per-node={RANKS}", *_words(name, seed, folder, [job])]
    subprocess.run(launch, check=True)


def read(folder: Path, *, whole: bool) -> list[Step]:
    """The steps of a job; with `whole` those of all ranks."""
    traces = sorted(map(opened, folder.glob("[0-9]*.jsonl")), key=rank_of)
    return rounding.merged([read_steps(trace.lines()) for trace in traces], whole=whole)


def judged(folder: Path, name: str, seed: int) -> list[dict[str, Any]]:
    """Each pair of a script: its class, the answer, the largest ratio, and the place."""
    rows = []
    for label, kind in jobs_of(name, seed).items():
        labels = "a", label, *(f"n{k}" for k in range(1, NOISE + 1))
        a, b, *noisy = (read(folder / each, whole=label in RANKED) for each in labels)
        reset = all(step.reset for steps in (b, *noisy) for step in steps[1:])
        answer = rounding.judge(rounding.Comparison(a, a, b, noisy))
        first, worst = answer.first, answer.worst
        times = max((row.times for row in (first, worst) if row and not row.text), default=0.0)
        rows.append({
            "pair": label, "class": kind, "answer": answer.word, "judged": len(answer.judged),
            "total": answer.total, "times": times, "forks": len(answer.forks), "reset": reset,
            "first": first and [first.step, first.kind, first.name, first.times, first.text],
            "worst": worst and [worst.step, worst.kind, worst.name, worst.times],
        })  # fmt: skip
    return rows


def share(hits: int, n: int) -> str:
    """A share with Wilson's interval at 95%."""
    if not n:
        return "-"
    low, high = wilson(hits, n)
    return f"{hits} of {n} ({100 * low:.1f} to {100 * high:.1f}%)"


def report(out: Path, scripts: Sequence[tuple[str, int]]) -> None:
    """Print the tables of these scripts."""
    rows = [
        {**row, "script": f"{name}-{seed}"}
        for name, seed in scripts
        if (out / f"{name}-{seed}" / "results.json").exists()
        for row in json.loads((out / f"{name}-{seed}" / "results.json").read_text())
        if row["class"].startswith("correct") or row["answer"] != "same" or row["times"]
    ]
    print("| correct change | beyond | cannot tell | largest ratio |\n| --- | --- | --- | ---: |")
    for label, few in grouped(rows, ("correct", "correct bf16")):
        counts = [sum(r["answer"] == word for r in few) for word in ("beyond", "cannot tell")]
        cells = [share(count, len(few)) for count in counts]
        print(line(label, *cells, f"{max(row['times'] for row in few):.1f}"))
    print("\n| fault | found | right step | right tensor |\n| --- | --- | --- | --- |")
    for label, few in grouped(rows, ("fault", "subtle", "fault bf16")):
        found = [row for row in few if row["answer"] == "beyond"]
        steps = sum(PLACES[row["pair"]][1] in (row["first"][0], None) for row in found)
        right = sum(row["first"][1] in PLACES[row["pair"]][0] for row in found)
        print(line(label, *(share(count, len(few)) for count in (len(found), steps, right))))

    print("\n| script | correct pairs | least steps judged | of |\n| --- | ---: | ---: | ---: |")
    for script in dict.fromkeys(row["script"] for row in rows):
        own = [r for r in rows if r["script"] == script and r["class"].startswith("correct")]
        least = min(own, key=lambda row: row["judged"])
        print(line(script, *map(str, (len(own), least["judged"], least["total"]))))


def grouped(rows: list[dict[str, Any]], classes: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """The pairs of each change, then of the class."""
    for kind in classes:
        own = [row for row in rows if row["class"] == kind]
        for pair in dict.fromkeys(row["pair"] for row in own):
            yield pair, [row for row in own if row["pair"] == pair]
        if own:
            yield f"**{kind}**", own


def line(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run the scripts that are missing; the limits are written down between the halves."""
    if sys.argv[1:2] == ["child"]:
        name, seed, out, *jobs = sys.argv[2:]
        child(name, int(seed), Path(out), jobs)
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--first", action="store_true", help="only the scripts that set the limits")
    parser.add_argument("--second", action="store_true", help="only the other scripts")
    parser.add_argument("--third", action="store_true", help="only those that also have ranks")
    args = parser.parse_args()
    others = (*SECOND[:10], *HALF[:4], *SECOND[10:], *HALF[4:])
    groups = {"first": FIRST, "second": others, "third": THIRD}
    chosen = [group for key, group in groups.items() if getattr(args, key)] or groups.values()
    scripts = [script for group in chosen for script in group]
    limits = {"limit": rounding.LIMIT, "scale_limit": rounding.SCALE_LIMIT}
    for name, seed in () if args.report else scripts:
        if (name, seed) not in FIRST:
            written = args.out / "limits.json"
            args.out.mkdir(parents=True, exist_ok=True)
            if not written.exists():
                written.write_text(json.dumps(limits))
            if json.loads(written.read_text()) != limits:
                sys.exit(f"{written}: the second half has other limits: {written.read_text()}")
        run_script(args.out, name, seed)
    report(args.out, scripts if args.first or args.third else (*SECOND, *HALF))


if __name__ == "__main__":
    main()
