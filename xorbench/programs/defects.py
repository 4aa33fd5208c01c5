"""Defects of PyTorch that `check --operators` has detected, each with a script that shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from xorbench.verdicts import some

LOW: Final = ("bfloat16", "float16")
REPORTED: Final = "https://github.com/pytorch/pytorch/issues"


@dataclass(frozen=True, slots=True)
class Defect:
    """A defect of an operator.

    Attributes:
        operator: the operator that is wrong.
        about: the defect in one sentence.
        types: the types of the arguments that it concerns; empty for all.
        strided: whether it concerns only arguments with gaps or another order in memory.
        issue: the issue of PyTorch; 0 if a search found none.
        script: lines that need only PyTorch and print True if the result is correct.
        releases: the releases in which the script was seen to print False.
    """

    operator: str
    about: str
    script: str
    releases: tuple[str, ...]
    types: tuple[str, ...] = ()
    strided: bool = False
    issue: int = 0

    @property
    def reference(self) -> str:
        """The issue, as text."""
        return f"pytorch#{self.issue}" if self.issue else "not reported"

    def matches(self, kind: Mapping[str, object]) -> bool:
        """Whether a kind of call is in the scope of this defect."""
        signature = str(kind["signature"])
        return (
            str(kind["operator"]).startswith(f"{self.operator}.")
            and (not self.types or any(name in signature for name in self.types))
            and (not self.strided or "strides" in signature)
        )


DEFECTS: Final = (
    Defect(
        "aten.native_layer_norm_backward",
        "The gradients of weight and bias are summed in bfloat16.",
        """import torch
norm = torch.nn.LayerNorm(64, dtype=torch.bfloat16)
norm(torch.ones(1024, 64, dtype=torch.bfloat16)).sum().backward()
print(bool((norm.bias.grad == 1024).all()))""",
        ("2.13",), LOW,
    ),
    Defect(
        "aten.embedding_dense_backward",
        "The gradient of a row that is used often is summed in bfloat16.",
        """import torch
table = torch.nn.Embedding(4, 64, dtype=torch.bfloat16)
table(torch.zeros(1024, dtype=torch.long)).sum().backward()
print(bool((table.weight.grad[0] == 1024).all()))""",
        ("2.13",), LOW,
    ),
    Defect(
        "aten.index_put_",
        "`accumulate=True` sums in bfloat16.",
        """import torch
x = torch.zeros(4, dtype=torch.bfloat16)
x.index_put_((torch.zeros(1024, dtype=torch.long),), torch.ones(1024, dtype=x.dtype), True)
print(x[0].item() == 1024)""",
        ("2.13",), LOW,
    ),
    Defect(
        "aten.linalg_matrix_exp",
        "The result in bfloat16 is NaN.",
        """import torch
x = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
print(bool(torch.linalg.matrix_exp(x).isfinite().all()))""",
        ("2.13",), LOW,
    ),
    Defect(
        "aten._embedding_bag",
        "Indices with gaps in memory are read as if they had none.",
        """import torch
weight, index = torch.arange(8.0).reshape(8, 1), torch.arange(8)[::2]
bags = torch.nn.functional.embedding_bag(index, weight, torch.tensor([0, 2]), mode="sum")
print(bags.flatten().tolist() == [2.0, 10.0])""",
        ("2.13",), strided=True, issue=190063,
    ),
    Defect(
        "aten.adaptive_max_pool3d_backward",
        "Indices in another order in memory are read as if they were contiguous.",
        """import torch
x = torch.randn(1, 4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
y, index = torch.nn.functional.adaptive_max_pool3d(x, 2, return_indices=True)
moved = index.to(memory_format=torch.channels_last_3d)
backward = torch.ops.aten.adaptive_max_pool3d_backward
print(torch.equal(backward(y, x, moved), backward(y, x, index)))""",
        ("2.13",), strided=True, issue=197888,
    ),
)  # fmt: skip


def known(kind: Mapping[str, object]) -> Defect | None:
    """The known defect whose scope a kind of call is in."""
    return next((defect for defect in DEFECTS if defect.matches(kind)), None)


def markdown() -> str:
    """The page `docs/defects.md` without its introduction."""
    parts = []
    for defect in DEFECTS:
        scope = [some(defect.types), "arguments with strides" if defect.strided else ""]
        issue = f"[pytorch#{defect.issue}]({REPORTED}/{defect.issue})" if defect.issue else ""
        lines = [
            f"## `{defect.operator}`",
            defect.about,
            f"Scope: {'; '.join(filter(None, scope))}. Releases: {', '.join(defect.releases)}."
            f" Report: {issue or 'none was found'}.",
            f"```python\n{defect.script}\n```",
        ]
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts) + "\n"
