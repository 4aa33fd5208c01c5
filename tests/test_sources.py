"""The places of a program that may give different values in two runs."""

from textwrap import dedent

import pytest

from xorbench.recorder.sources import sources_of


def kinds(text: str) -> list[tuple[str, int]]:
    """The kind and the line of each source that is no seed."""
    return [(s.kind, s.line) for s in sources_of(dedent(text)) if s.kind != "seed"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import random\nrandom.Random()", "unseeded"),
        ("import random\nrandom.Random(None)", "unseeded"),
        ("import numpy as np\nnp.random.default_rng()", "unseeded"),
        ("from numpy.random import default_rng\ndefault_rng(seed=None)", "unseeded"),
        ("import os\nos.urandom(4)", "unseeded"),
        ("import uuid\nuuid.uuid4()", "unseeded"),
        ("import torch\ntorch.Generator().seed()", "unseeded"),
        ("import numpy as np\nnp.random.seed()", "unseeded"),
        ("import torch\ntorch.rand(3)", "draw"),
        ("import random\nrandom.shuffle([])", "draw"),
        ("from random import sample\nsample([], 0)", "draw"),
        ("import time\ntime.time()", "time"),
        ("from time import time\ntime()", "time"),
        ("x = 'a'\nhash(x)", "hash"),
        ("rows = r\nsorted(rows, key=id)", "hash"),
        ("rows = r\nrows.sort(key=hash)", "hash"),
        ("import os\nos.listdir('.')", "listing"),
        ("path = p\npath.iterdir()", "listing"),
        ("import os\nos.getpid()", "process id"),
        ("import tempfile\ntempfile.mkdtemp()", "file name"),
        ("from tempfile import NamedTemporaryFile\nNamedTemporaryFile()", "file name"),
        ("import queue; q = queue.Queue()\nq.get()", "completion"),
        ("pool = p\npool.imap_unordered(f, x)", "completion"),
        ("from concurrent.futures import as_completed\nas_completed(x)", "completion"),
        ("from torch.utils.data import DataLoader\nDataLoader(d, in_order=False)", "completion"),
        ("import torch\ntorch.empty(3)", "empty"),
        ("import torch\ntorch.Tensor(3, 4)", "empty"),
        ("model = m\nmodel.to_empty(device='cpu')", "empty"),
        ("names = set(words)\nlist(names)", "set"),
        ("names = {w for w in words}\nfor name in names: pass", "set"),
        ("import torch\nsum(x[n] for n in set(words))", "set"),
        ("names = set(a) - set(b)\n[n for n in names]", "set"),
        ("names = {1, 2}\nnames.pop()", "set"),
        ("names = frozenset(words)\ndict.fromkeys(names)", "set"),
        ("names = set(words)\nprint(*names)", "set"),
    ],
)
def test_a_source_is_recognized(text: str, kind: str) -> None:
    """Its kind and its line."""
    assert (kind, 2) in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "import random\nrandom.Random(0)",
        "import numpy as np\nnp.random.default_rng(seed)",
        "import torch\ntorch.Generator().manual_seed(0)",
        "import torch\ntorch.rand(3, generator=g)",
        "import os\nsorted(os.listdir('.'))",
        "names = set(words)\nfor name in sorted(names): pass",
        "names = set(words)\nlen(names), 'a' in names",
        "names = set(words)\n{name.lower() for name in names}",
        "import torch\ntorch.Tensor([1.0])",
        "names = [1, 2]\nnames.pop()",
        "self.hash(x)",
    ],
)
def test_a_reproducible_expression_is_no_source(text: str) -> None:
    """Its value and its order are the same in every run."""
    assert kinds(text) == []


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("import time, torch\ntorch.manual_seed(int(time.time()))", "seed"),
        ("import time\nseed = int(time.time()) % 100", "seed"),
        ("import time\nwhile time.time() - start < 5: pass", "condition"),
        ("import time\nstart = time.time()", ""),
    ],
)
def test_the_use_of_a_value_is_recognized(text: str, within: str) -> None:
    """A seed and a condition matter more than a measured time."""
    assert [s.within for s in sources_of(text) if s.kind == "time"] == [within]
