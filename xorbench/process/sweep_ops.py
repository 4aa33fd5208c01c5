"""The operations of a process for a sweep. Imports torch only for the torch backend."""

import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from xorbench.machine.universal import golden, numpy_backend, spec
from xorbench.machine.universal.backends import BACKENDS, available_cores
from xorbench.machine.universal.spec import Floats, UniversalRecipe
from xorbench.machine.universal.sweep_plan import CPU_ONLY, FOR_CPU, FOR_DEVICES
from xorbench.machine.universal.trained import Train, Trained
from xorbench.process.protocol import Reply
from xorbench.recorder.environment import environment, interpreter
from xorbench.xor.matrix.recipe import GRID, SHOWN_POINTS

LIBRARIES: Final = ("numpy", "numba", "llvmlite", "torch", "triton")


class SweepSession:
    """The backend that trains in this process, after `open`."""

    train: Train


def open_backend(
    session: SweepSession,
    *,
    backend: str | None,
    device: str,
    threads: int | None,
    recipes: list[Reply],
) -> Reply:
    """Load a backend, by default the best available one, and compile it for the recipes.

    Answers `missing` with the reason if it cannot be used here.
    """
    start = time.perf_counter()
    name, note = (backend, "") if backend else _best(device)
    if reason := _missing(name, device):
        return {"missing": reason}
    used = threads or available_cores()
    if "torch" in BACKENDS[name].needs:
        import torch

        torch.set_num_threads(used)
    session.train = BACKENDS[name].load(device, used).train
    loaded = time.perf_counter()
    for recipe in recipes:
        session.train(UniversalRecipe(**{**recipe, "epochs": 1}), [0], score_epochs=True)
    return {
        "backend": name,
        "note": note,
        "threads": used if name != "numpy" else 1,
        "import_s": loaded - start,
        "compile_s": time.perf_counter() - loaded,
        "machine": {**describe(), **_accelerator(device)},
    }


def _accelerator(device: str) -> Reply:
    """The accelerator that trains; empty for the CPU."""
    if device == "cpu":
        return {}
    from xorbench.process import machine

    return {"devices": [machine.described_device(device)]}


def _best(device: str) -> tuple[str, str]:
    """The backend for a device, and why it is not the fastest one."""
    first, second = FOR_CPU if device == "cpu" else FOR_DEVICES
    reason = BACKENDS[first].missing()
    return (second, reason) if reason else (first, "")


def _missing(name: str, device: str) -> str | None:
    reason = BACKENDS[name].missing()
    if reason or name in CPU_ONLY:
        return reason
    from xorbench.process import machine

    return machine.unavailable_reason(device)


def describe() -> Reply:
    """Versions, cores and environment of this process, without imports."""
    return {
        **interpreter(),
        "cores": available_cores(),
        **{f"{name}_version": _version(name) for name in LIBRARIES},
        "environment": environment(),
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def known(_session: SweepSession, *, recipe: Reply) -> Reply:
    """The golden results of one recipe: of single seeds, and of many together."""
    universal, file = UniversalRecipe(**recipe), golden.load()
    answers = file.answers.get(universal, ())
    combined = file.combined if universal == UniversalRecipe() else None
    return {
        "answers": [{"seed": a.seed, "sha256": a.sha256, "correct": a.correct} for a in answers],
        "combined": combined
        and {
            "seeds": combined.seeds,
            "sha256": combined.sha256,
            "all_right": combined.all_correct,
        },
    }


def sweep(session: SweepSession, *, recipe: Reply, first_seed: int, count: int) -> Reply:
    """Train consecutive seeds; answers scores, epochs and digests, in the order of the seeds."""
    start = time.perf_counter()
    seeds = range(first_seed, first_seed + count)
    trained = session.train(UniversalRecipe(**recipe), seeds, score_epochs=True)
    sha256s = trained.digests()
    seconds = time.perf_counter() - start
    return {"chunk_s": seconds, "sha256s": sha256s, **_history(trained)}


def _history(trained: Trained) -> Reply:
    """The epochs after which the models were correct on every test point."""
    right = trained.epoch_correct == trained.total
    firsts = zip(right.any(axis=0).tolist(), right.argmax(axis=0).tolist(), strict=True)
    lapses = np.count_nonzero(right[:-1] & ~right[1:], axis=0)
    return {
        "scores": trained.correct.tolist(),
        "first_epochs": [epoch if reached else None for reached, epoch in firsts],
        "lapses": lapses.tolist(),
        "right_after": np.count_nonzero(right, axis=1).tolist(),
    }


def example(session: SweepSession, *, recipe: Reply, seed: int) -> Reply:
    """Train one seed; answers its test points, and its output over their plane."""
    universal = UniversalRecipe(**recipe)
    trained = session.train(universal, [seed])
    points = spec.points("test", seed, universal.test_size, universal.std)
    x0, x1, label = (part[:SHOWN_POINTS] for part in points)
    w = trained.weights[0][:, None]
    low, high = _extent(x0, x1)
    line = np.linspace(low, high, GRID, dtype=np.float32)
    across, up = (part.reshape(-1) for part in np.meshgrid(line, line))
    return {
        "correct": int(trained.correct[0]),
        "total": trained.total,
        "sha256": trained.digests()[0],
        "x0": _rounded(x0),
        "x1": _rounded(x1),
        "labels": label.astype(int).tolist(),
        "right": ((_logit(w, x0, x1) >= 0) == (label == 1)).tolist(),
        "low": low,
        "high": high,
        "logits": [_rounded(row) for row in _logit(w, across, up).reshape(GRID, GRID)],
    }


def _rounded(values: Floats) -> list[float]:
    """Round to four decimal places, for a picture."""
    return [round(value, 4) for value in values.tolist()]


def _extent(x0: Floats, x1: Floats) -> tuple[float, float]:
    """The bounds of a square that contains all points, to a tenth."""
    low, high = min(np.min(x0), np.min(x1)), max(np.max(x0), np.max(x1))
    return float(np.floor(low * 10 - 1)) / 10, float(np.ceil(high * 10 + 1)) / 10


def _logit(w: Floats, x0: Floats, x1: Floats) -> Floats:
    return numpy_backend.logit(w, numpy_backend.hidden(w, x0, x1))


SESSION: Final = SweepSession
OPERATIONS: Final[dict[str, Callable[..., Reply]]] = {
    "open": open_backend,
    "known": known,
    "sweep": sweep,
    "example": example,
}
