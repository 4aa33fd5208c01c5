"""Defects of PyTorch that `check --operators` has detected; docs/defects.md shows each by a script.

A test runs the scripts, so that it notices a defect that is fixed.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

LOW: Final = ("bfloat16", "float16")


class Defect(NamedTuple):
    """A defect of an operator.

    Attributes:
        operator: the operator that is wrong.
        types: the types of the arguments that it concerns; empty for all.
        issue: the issue of PyTorch; 0 if a search found none.
        strided: whether it concerns only arguments with gaps or another order in memory.
        fixed_in: the first tested release without the defect; empty if none is known.
    """

    operator: str
    types: tuple[str, ...] = ()
    issue: int = 0
    strided: bool = False
    fixed_in: str = ""

    @property
    def reference(self) -> str:
        """The issue, as text."""
        return f"pytorch#{self.issue}" if self.issue else "not reported"

    def matches(self, kind: Mapping[str, object]) -> bool:
        """Whether a kind of call is in the scope of this defect."""
        operator, signature = str(kind["operator"]), str(kind["signature"])
        return (
            operator.partition(".")[2].partition(".")[0].rstrip("_") == self.operator.rstrip("_")
            and (not self.types or any(name in signature.split() for name in self.types))
            and (not self.strided or "strides" in signature)
        )


DEFECTS: Final = (
    Defect("native_layer_norm_backward", LOW),
    Defect("embedding_dense_backward", LOW),
    Defect("index_put_", LOW),
    Defect("linalg_matrix_exp", LOW),
    Defect("_fused_sgd_", LOW, issue=191763, fixed_in="2.14"),
    Defect("_embedding_bag_backward", LOW),
    Defect("max_pool2d_with_indices_backward", LOW),
    Defect("max_pool3d_with_indices_backward", LOW),
    Defect("avg_pool2d_backward", LOW),
    Defect("_adaptive_avg_pool3d", LOW, issue=140696),
    Defect("index_add_", LOW),
    Defect("col2im", LOW),
    Defect("unfold_backward", LOW),
    Defect("convolution_backward", ("float16",)),
    Defect("convolution", ("float16",)),
    Defect("_embedding_bag", issue=190063, strided=True),
    Defect("adaptive_max_pool3d_backward", issue=197888, strided=True),
)


def known(kind: Mapping[str, object]) -> Defect | None:
    """The known defect whose scope a kind of call is in."""
    return next((defect for defect in DEFECTS if defect.matches(kind)), None)
