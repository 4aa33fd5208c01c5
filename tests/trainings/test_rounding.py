"""`check --up-to-rounding`, `trace` and `diff` of real trainings."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from conftest import Completed, Reported, call_in, reported, run_in

import xorbench
from xorbench.api.check import CheckOptions
from xorbench.pytest_plugin import XorbenchFixture

LIMIT_S = 300.0
SCRIPT = """
import os, sys, torch
import torch.distributed as dist
from torch import nn
torch.set_num_threads(1)
torch.manual_seed(0)
world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
kind = "tanh" if "tanh" in sys.argv else "none"
gelu = nn.GELU(approximate=kind)
net = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), gelu, nn.Linear(64, 4))
rate = 2e-3 if "rate" in sys.argv else 1e-3
optimizer = torch.optim.AdamW(net.parameters(), lr=rate, fused="fused" in sys.argv)
run = net
if world > 1:
    dist.init_process_group("gloo")
    run = nn.parallel.DistributedDataParallel(net)
    if "alone" in sys.argv:
        run = net
data = torch.Generator().manual_seed(1)
for step in range(4):
    x, y = torch.randn(32, 16, generator=data), torch.randint(0, 4, (32,), generator=data)
    optimizer.zero_grad()
    x, y = x.chunk(world)[rank], y.chunk(world)[rank]
    out = (3e6 * run(x)).sin() if "wild" in sys.argv else run(x)
    nn.functional.cross_entropy(out, y).backward()
    optimizer.step()
"""


def words(*b: str, options: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The words that check B against A up to rounding."""
    return ("check", "--against", f"{sys.executable} train.py", "--up-to-rounding", *options, "--",
            *(b if b[:1] == ("torchrun",) else (sys.executable, "train.py", *b)))  # fmt: skip


def checked(folder: Path, *b: str) -> Completed:
    """Check B, which has these words, against A."""
    (folder / "train.py").write_text(SCRIPT)
    return call_in(folder, *words(*b))


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """B has a fused optimizer."""

    def run(work: Path) -> Completed:
        (work / "train.py").write_text(SCRIPT)
        options = ("--json", "--junit", "j.xml")
        return run_in(work, *words("fused", options=options), timeout=LIMIT_S)

    return reported(tmp_path_factory, "fused", run)


def test_a_fused_optimizer_is_the_same_up_to_rounding(fused: Reported) -> None:
    """Its bits differ, and every step is judged."""
    assert fused.done.returncode == 0, fused.result["sentence"]
    assert fused.result["sentence"].startswith("same up to rounding: 4 of 4 steps judged")
    assert fused.result["details"]["bits"].startswith("not identical")
    rounding = fused.result["rounding"]
    assert (rounding["answer"], rounding["judged"]) == ("same", [0, 1, 2, 3])
    assert 0 < rounding["largest"] < rounding["limit"]
    names = [run["run"] for run in fused.result["runs"]]
    assert names[:4] == ["A", "B", "B, from the states of A", "A with noise, run 1"]


def test_the_page_has_a_picture_and_junit_a_case(fused: Reported) -> None:
    """Ratio and noise by step."""
    page = (fused.made / "report.html").read_text()
    assert "<svg" in page
    assert "Difference and noise by step" in page
    (case,) = ET.parse(fused.folder / "j.xml").getroot().iter("testcase")
    assert "rounding" in case.attrib["classname"] + case.attrib["name"]


@pytest.mark.parametrize(
    ("b", "text"),
    [
        ("tanh", "first in step 0, in the output of 2: "),
        pytest.param("rate", "the hyperparameters of 0.weight", marks=pytest.mark.variant),
    ],
)
def test_another_formula_and_rate_are_beyond_rounding(tmp_path: Path, b: str, text: str) -> None:
    """In step and tensor where they begin."""
    done = checked(tmp_path, b)
    assert done.returncode == 1, done.stdout
    assert "Beyond rounding: " in done.stdout
    assert text in done.stdout


def test_explain_names_the_operator_in_which_a_larger_difference_begins(tmp_path: Path) -> None:
    """And the line that calls it."""
    (tmp_path / "train.py").write_text(SCRIPT)
    done = call_in(tmp_path, "explain", *words("tanh")[1:])
    assert done.returncode == 1, done.stdout
    (line,) = (i for i, text in enumerate(SCRIPT.splitlines(), 1) if "run(x)).sin()" in text)
    assert f"first operator  aten.gelu.default at train.py:{line}: " in done.stdout


def test_identical_bits_need_no_noise(tmp_path: Path) -> None:
    """Two runs are enough."""
    done = checked(tmp_path)
    assert done.returncode == 0
    assert "identical" in done.stdout
    assert "with noise, run 1" not in done.stderr


@pytest.mark.variant
@pytest.mark.parametrize(("word", "code"), [("", 0), ("alone", 1)])
def test_two_ranks_are_the_same_as_one_if_they_reduce(tmp_path: Path, word: str, code: int) -> None:
    """Gradients and parameters decide; the loss of a rank is a share."""
    done = checked(tmp_path, *("torchrun --standalone --nproc-per-node 2 train.py " + word).split())
    assert done.returncode == code, done.stdout
    assert ("in the gradient of" in done.stdout) is bool(code)


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        pytest.param("", "fused", "pass", marks=pytest.mark.variant),
        pytest.param("", "tanh", "fail", marks=pytest.mark.variant),
        ("wild", "wild fused", "inconclusive"),  # rounding changes half of the gradients
    ],
)
def test_the_keyword_of_python_and_the_fixture_has_three_answers(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, a: str, b: str, outcome: str
) -> None:
    """The fixture passes the keyword to `xorbench.check`; a test fails if B does not pass."""
    (tmp_path / "train.py").write_text(SCRIPT)
    command = f"{sys.executable} train.py"
    options: CheckOptions = {"against": f"{command} {a}", "up_to_rounding": True}
    check = XorbenchFixture(tmp_path, tmp_path_factory, None).check
    if outcome == "pass":
        assert check(f"{command} {b}", **options).sentence.startswith("same up to rounding: 4 of 4")
        return
    with pytest.raises(pytest.fail.Exception) as error:
        check(f"{command} {b}", **options)
    words = {"fail": "beyond rounding: first in step 0", "inconclusive": "cannot tell: 0 of 4"}
    assert words[outcome] in str(error.value).lower()


@pytest.mark.variant
def test_in_python(tmp_path: Path) -> None:
    """The result names the step."""
    (tmp_path / "train.py").write_text(SCRIPT)
    command = f"{sys.executable} train.py"
    result = xorbench.check(
        f"{command} tanh", against=command, up_to_rounding=True, folder=tmp_path, out=tmp_path / "r"
    )
    assert result.outcome == "fail"
    assert result.first_divergence is not None
    assert (result.first_divergence.step, result.first_divergence.component) == (0, "rounding")


def test_traces_are_compared_up_to_rounding(tmp_path: Path) -> None:
    """By the noisy runs next to A; without them, or other sketches, the error names the command."""
    (tmp_path / "train.py").write_text(SCRIPT)
    for name, word in (("a", ""), ("b", "fused"), ("c", "tanh")):
        program = (sys.executable, "train.py", *word.split())
        noise = ("--up-to-rounding",) if name == "a" else ("--up-to-rounding", "--steps", "4")
        call_in(tmp_path, "trace", *noise, "-o", f"{name}.jsonl", "--", *program)
    same = call_in(tmp_path, "diff", "--up-to-rounding", "a.jsonl", "b.jsonl")
    beyond = call_in(tmp_path, "diff", "--up-to-rounding", "a.jsonl", "c.jsonl")
    assert (same.returncode, beyond.returncode) == (0, 1), same.stdout + beyond.stdout
    (tmp_path / "a.jsonl.noise3").unlink()
    refused = call_in(tmp_path, "diff", "--up-to-rounding", "a.jsonl", "b.jsonl")
    assert refused.returncode == 2
    assert "no file a.jsonl.noise3 next to A" in refused.stderr
    trace = (
        (tmp_path / "b.jsonl").read_text().replace('"sketch":"signed251-', '"sketch":"other-', 1)
    )
    (tmp_path / "b.jsonl").write_text(trace)
    refused = call_in(tmp_path, "diff", "--up-to-rounding", "a.jsonl", "b.jsonl")
    assert refused.returncode == 2
    assert "B: kinds of sketches differ: signed251-sampled65536 (A), other-" in refused.stderr


WORKERS = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
torch.manual_seed(0)
class Data(Dataset):
    def __len__(self): return 8
    def __getitem__(self, i):
        return torch.full((8,), i / 7).exp().softmax(0), i % 3
net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 3))
optimizer = torch.optim.Adam(net.parameters())
net(torch.ones(1, 8)).sum().backward()  # begins the step in which the loader processes start
for x, y in DataLoader(Data(), batch_size=4, num_workers=1):
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
"""


def test_loader_processes_have_no_noise(tmp_path: Path) -> None:
    """Also if they are forked within a step; dropout draws the same."""
    (tmp_path / "train.py").write_text(WORKERS)
    call_in(tmp_path, "trace", "--up-to-rounding", "-o", "t", "--", sys.executable, "train.py")
    digests: dict[str, list[list[str]]] = {"batch": [], "draw": [], "output": []}
    for name in ("t", "t.noise1"):
        lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        events = [event for line in lines for event in line.get("events", ())]
        for kind, both in digests.items():
            both.append([event[2] for event in events if event[0] == kind])
    assert len(digests["batch"][0]) == 3
    same = {kind: both[0] == both[1] for kind, both in digests.items()}
    assert same == {"batch": True, "draw": True, "output": False}


@pytest.mark.parametrize(
    ("word", "options", "text"),
    [
        ("equal", (), "Cannot tell: A with noise: the command failed"),
        pytest.param(
            "slow", ("--timeout", "40"), "Cannot tell: B did not end", marks=pytest.mark.variant
        ),
    ],
)
def test_a_run_that_ends_early_decides_nothing(
    tmp_path: Path, word: str, options: tuple[str, ...], text: str
) -> None:
    """A program may check its own bits, which noise changes; or it may be too slow."""
    own = {
        "equal": "assert torch.equal(out, run(x))",
        "slow": "__import__('time').sleep(step * 40)",
    }
    at = "    nn.functional.cross_entropy"
    (tmp_path / "train.py").write_text(SCRIPT)
    script = SCRIPT.replace(at, f"    {own[word]}\n{at}")
    (tmp_path / ("train.py" if word == "equal" else "slow.py")).write_text(script)
    b = "train.py fused" if word == "equal" else "slow.py"
    against = ("check", "--against", f"{sys.executable} train.py", "--up-to-rounding", *options)
    done = call_in(tmp_path, *against, "--", sys.executable, *b.split())
    assert done.returncode == 3, done.stdout
    assert text in done.stdout
