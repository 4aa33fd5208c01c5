"""`check --operators` and `canary --operators` of real trainings."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from accelerators import TRAIN, require, xorbench
from conftest import Completed, run_in

import xorbench as package
from xorbench.programs.questions.operators import of_models
from xorbench.pytest_plugin import XorbenchFixture

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = """
import torch
from torch import nn
from torch.nn import functional
torch.manual_seed(0)
def train(model, loss):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    print(sum(p.detach().double().sum().item() for p in model.parameters()))
"""
LOW = (
    HEAD
    + """
layers = nn.Embedding(8, 16), nn.LayerNorm(16), nn.Linear(16, 8)
model = nn.Sequential(*layers).bfloat16()
train(model, lambda: model(torch.zeros(4, 256, dtype=torch.long)).sum())
"""
)
# Ordinary trainings with a defect of PyTorch, by its operator in `programs/defects.py`.
DEFECTIVE = {
    "native_layer_norm_backward": """
model = nn.Sequential(nn.Linear(8, 64), nn.LayerNorm(64), nn.Linear(64, 1)).bfloat16()
train(model, lambda: model(torch.randn(1024, 8).bfloat16()).sum())
""",
    "embedding_dense_backward": """
model = nn.Sequential(nn.Embedding(4, 64), nn.Linear(64, 1)).bfloat16()
train(model, lambda: model(torch.randint(4, (1024,))).sum())
""",
    "index_put_": """
model = nn.ParameterList([torch.randn(4, 64).bfloat16(), torch.randn(64, 1).bfloat16()])
train(model, lambda: (model[0][torch.randint(4, (1024,))] @ model[1]).sum())
""",
    "linalg_matrix_exp": """
model = nn.Linear(8, 8, bias=False)
nn.utils.parametrizations.orthogonal(model, orthogonal_map="matrix_exp")
model = model.bfloat16()
train(model, lambda: model(torch.randn(4, 8).bfloat16()).sum())
""",
    "_embedding_bag": """
class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.randn(50, 8))
    def forward(self, words):
        return torch.ops.aten._embedding_bag(self.table, words, torch.tensor([0, 5, 9]))[0]
model = nn.Sequential(Frozen(), nn.Linear(8, 1))
def loss():
    tagged = torch.randint(50, (12, 2))  # words and their tags
    return model(tagged[:, 0]).square().mean()
train(model, loss)
""",
    "adaptive_max_pool3d_backward": """
layers = nn.Conv3d(1, 4, 3), nn.AdaptiveMaxPool3d(2), nn.Flatten(), nn.Linear(32, 1)
model = nn.Sequential(*layers).to(memory_format=torch.channels_last_3d)
compiled = torch.compile(model)
def loss():
    x = torch.randn(2, 1, 8, 8, 8).to(memory_format=torch.channels_last_3d)
    return compiled(x).square().mean()
train(model, loss)
""",
}
HARMLESS = {
    "compiled": """
layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 2)
model = nn.Sequential(*layers)
compiled = torch.compile(model)
train(model, lambda: compiled(torch.randn(4, 1, 8, 8)).square().mean())
""",
    "transforms": """
from torch.func import functional_call, grad, vmap
model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
def loss():
    x, weights = torch.randn(4, 8), dict(model.named_parameters())
    frozen = {name: weight.detach() for name, weight in weights.items()}
    own = grad(lambda w, x: functional_call(model, w, (x,)).square().mean())
    each = vmap(own, in_dims=(None, 0))(frozen, x)
    return sum((weights[name] * each[name].mean(0)).sum() for name in weights)
train(model, loss)
""",
    "checkpoint": """
from torch.utils.checkpoint import checkpoint
model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 1))
train(model, lambda: checkpoint(model, torch.randn(4, 8), use_reentrant=False).square().mean())
""",
    "complex": """
class Filter(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, dtype=torch.complex64))
    def forward(self, x):
        return torch.fft.ifft(torch.fft.fft(x) @ self.weight.conj().T).real
model = Filter()
train(model, lambda: model(torch.randn(4, 8)).square().mean())
""",
    "views": """
model = nn.Linear(8, 8)
def loss():
    x = torch.randn(4, 8)
    x[:, ::2] += 1
    x.t()[1:3].mul_(2)
    x[x > 1] = 0
    y = model(x.clone())
    z = y.clone()
    z[:, 1:4].add_(y[:, 4:7])
    z.transpose(0, 1)[0].copy_(y[:, 0])
    return z.square().mean()
train(model, loss)
""",
    "function": """
class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3
    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2
model = nn.Linear(8, 8)
train(model, lambda: Cube.apply(model(torch.randn(4, 8))).mean())
""",
}
THIRD = """
@torch.library.custom_op("mine::half", mutates_args=())
def half(x: torch.Tensor) -> torch.Tensor:
    return x / 2
half.register_autograd(lambda ctx, grad: half(grad))
model = nn.Linear(8, 8)
train(model, lambda: half(model(torch.randn(4, 8))).square().mean())
"""
THREADS = """
import threading, torch
model = torch.nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def work():
    torch.ones(3).erfinv()
for _ in range(2):
    loss = model(torch.ones(2, 4)).sum()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    loss.backward()
    optimizer.step()
"""
POOL = """
import torch
from torch import nn
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(18, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    optimizer.step()
"""
SHARDED = """
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
torch.manual_seed(0)
distributed.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
LAYOUT
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(6, 8)).square().mean().backward()
    optimizer.step()
distributed.destroy_process_group()
"""
LAYOUTS = {
    "fsdp": "fully_shard(model, mesh=mesh)",
    "tensor parallel": "parallelize_module(model, mesh, "
    "{'0': ColwiseParallel(), '2': RowwiseParallel()})",
}
Run = Callable[..., Completed]


@pytest.fixture
def checked(tmp_path: Path) -> Run:
    """Run `check --operators` on a script in a folder of its own."""

    def check(script: str, *options: str) -> Completed:
        (tmp_path / "train.py").write_text(script)
        words = ("check", "--operators", *options, "--json", "--", sys.executable, "train.py")
        return run_in(tmp_path, *words)

    return check


def test_a_correct_training_passes(tmp_path: Path) -> None:
    """The example GPT in float32: no alarm, and nearly all calls are judged."""
    (tmp_path / "gpt.py").write_text((EXAMPLES / "gpt.py").read_text())
    words = ("check", "--operators", "--json", "--", sys.executable, "gpt.py", "--steps", "3")
    done = run_in(tmp_path, *words)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"]) == (0, "pass")
    assert answer["judged"] > 0.99
    assert len(answer["kinds"]) > 100


def test_defects_of_pytorch_are_found_in_a_bfloat16_training(checked: Run) -> None:
    """LayerNorm's bias gradient and the embedding's gradient; known defects may pass."""
    done = checked(LOW)
    answer = json.loads(done.stdout)
    wrong = {kind["operator"] for kind in answer["kinds"] if kind["result"] == "wrong"}
    assert done.returncode == 1
    assert wrong == {"aten.native_layer_norm_backward", "aten.embedding_dense_backward"}
    assert checked(LOW, "0", "--known-defects", "ok").returncode == 0


def few(names: Iterable[str], *run: str) -> list[Any]:
    """The names; all but some are variants."""
    return [n if n in run else pytest.param(n, marks=pytest.mark.variant) for n in names]


@pytest.mark.parametrize("operator", few(DEFECTIVE, "index_put_", "adaptive_max_pool3d_backward"))
def test_a_defect_of_pytorch_is_found_in_an_ordinary_training(checked: Run, operator: str) -> None:
    """Each of the six defects of the specification; the answer refers to the issue."""
    done = checked(HEAD + DEFECTIVE[operator])
    wrong = {k["operator"]: k for k in json.loads(done.stdout)["kinds"] if k["result"] == "wrong"}
    kind = next(k for name, k in wrong.items() if operator.rstrip("_") in name)
    assert done.returncode == 1
    assert "known: " in kind["details"]


@pytest.mark.parametrize("name", few(HARMLESS, "compiled", "transforms"))
def test_a_judged_training_has_the_weights_of_an_unjudged_one(
    checked: Run, tmp_path: Path, name: str
) -> None:
    """No alarm, and the same sum of the weights with and without the judge."""
    done = checked(HEAD + HARMLESS[name], "0,1,9")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"]) == (0, "pass"), answer
    assert ("inductor.graph" in {k["operator"] for k in answer["kinds"]}) == (name == "compiled")
    words = [sys.executable, "train.py"]
    plain = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    (output,) = (tmp_path / "results").glob("checks/*/run-1/stdout.txt")
    assert output.read_text() == plain.stdout


def test_an_operator_of_another_package_is_counted_and_named(checked: Run) -> None:
    """It has no reference, so it does not pass silently."""
    kinds = json.loads(checked(HEAD + THIRD).stdout)["kinds"]
    assert [(k["result"], k["details"]) for k in kinds if k["operator"] == "mine.half"] == [
        ("not judged", "no reference")
    ]


def test_an_entry_point_adds_the_reference_of_an_operator(checked: Run, tmp_path: Path) -> None:
    """The package is found in the process of the training."""
    folder = tmp_path / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[xorbench.references]\nmine.half = rows:HALF\n")
    (tmp_path / "rows.py").write_text("HALF = {'formula': lambda x: x * 0.5}\n")
    kinds = json.loads(checked(HEAD + THIRD).stdout)["kinds"]
    assert {k["result"] for k in kinds if k["operator"] == "mine.half"} == {"correct"}


def test_operators_of_other_threads_are_judged(checked: Run) -> None:
    """A thread that starts within a step is part of it."""
    kinds = json.loads(checked(THREADS).stdout)["kinds"]
    assert "aten.erfinv" in {kind["operator"] for kind in kinds}


@pytest.mark.parametrize("layout", few(LAYOUTS, "fsdp"))
def test_local_operators_of_sharded_tensors_are_judged(tmp_path: Path, layout: str) -> None:
    """Operators of DTensor are judged on each rank; collectives are excluded and named."""
    (tmp_path / "train.py").write_text(SHARDED.replace("LAYOUT", LAYOUTS[layout]))
    words = ("torchrun", "--standalone", "--nproc-per-node", "2", "train.py")
    answer = json.loads(run_in(tmp_path, "check", "--operators", "--json", "--", *words).stdout)
    assert (answer["outcome"], answer["judged"]) == ("pass", 1.0), answer
    results = {k["operator"]: (k["result"], k["details"]) for k in answer["kinds"]}
    assert results["aten.lerp_.Scalar"][0] == "correct"
    assert ("not judged", "communication") in results.values()


def test_the_recorder_does_not_see_the_gradients_of_references(checked: Run) -> None:
    """A reference that uses autograd is no second thread that trains."""
    answer = json.loads(checked(POOL).stdout)
    assert (answer["outcome"], answer["judged"], answer["notes"]) == ("pass", 1.0, [])


def test_a_faulty_kernel_of_an_accelerator_is_detected_and_named(tmp_path: Path) -> None:
    """The references are on the CPU; the simulated accelerator rounds `addmm` wrongly."""
    require()
    words = ("check", "--operators", "--json", "--", sys.executable, "-c", TRAIN)
    correct, faulty = tmp_path / "correct", tmp_path / "faulty"
    correct.mkdir()
    faulty.mkdir()
    done = xorbench(correct, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["judged"] == 1.0
    done = xorbench(faulty, *words, fault="round:addmm:64")
    kinds = json.loads(done.stdout)["kinds"]
    assert done.returncode == 1
    assert {k["operator"] for k in kinds if k["result"] == "wrong"} == {"aten.addmm"}


def test_the_canary_reports_known_defects_and_fails_only_if_strict(tmp_path: Path) -> None:
    """Its models have known defects in bfloat16."""
    done = run_in(tmp_path, "canary", "--operators", "--junit", "canary.xml")
    assert done.returncode == 0, done.stdout
    assert "known: pytorch#191763" in done.stdout
    assert "<testcase" in (tmp_path / "canary.xml").read_text()
    assert of_models("cpu", tmp_path, strict=True).known_defects == "fail"


OUTCOMES = {
    "pass": HARMLESS["function"],
    "fail": LOW.removeprefix(HEAD),
    "inconclusive": """
model = nn.Linear(4, 4)
def loss():
    y, x = model(torch.ones(4, 4)), torch.eye(4).to_sparse()
    for _ in range(40):
        x = x * 1.5
    return (y * x.to_dense()).mean()
train(model, loss)
""",
}


@pytest.mark.parametrize(("outcome", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 3)])
def test_python_and_the_fixture_have_the_three_answers(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, outcome: str, code: int
) -> None:
    """Correct; wrong, which fails the test; and too few calls judged, which also fails it."""
    (tmp_path / "train.py").write_text(HEAD + OUTCOMES[outcome])
    words: Any = [sys.executable, "train.py"]
    result = package.check(words, operators=0, folder=tmp_path, out=tmp_path / "out")
    assert (result.outcome, result.exit_code) == (outcome, code)
    fixture = XorbenchFixture(tmp_path, tmp_path_factory, None)
    if code == 0:
        assert fixture.check(words, operators=[0]).exit_code == 0
        return
    with pytest.raises(pytest.fail.Exception, match="of call, in step 0"):
        fixture.check(words, operators=[0])


def test_python_has_the_same_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`xorbench.check` with `operators`; the page has a row for each kind."""
    (tmp_path / "train.py").write_text(LOW)
    monkeypatch.chdir(tmp_path)
    result = package.check([sys.executable, "train.py"], operators=True)
    assert (result.outcome, bool(result)) == ("fail", False)
    assert "error / bound" in result.report.read_text()
