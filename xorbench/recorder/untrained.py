"""Models that a training calls and does not train: a codebook, an average, a target network.

What such a model holds is part of the training if the training changes it, so it is compared as it
is in the end. One that stays as it was is not: a program may call it for any other purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.utils.weak import WeakIdKeyDictionary

from .weights import Members, Tracked, members_of, weights_in

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .fingerprint import Digester
    from .weights import Weight

MOST_MODELS = 16  # whose state is followed

Digests = dict[str, str]


class Followed:
    """A model that is called and not trained, and the digests of its state at its first call."""

    def __init__(self, tracked: Tracked, index: int, digests: Digests) -> None:
        self.tracked = tracked
        self.index = index
        self.at_first = digests


class UntrainedModels:
    """The models that a training has called and not trained.

    Attributes:
        dead: those that are gone, and whose state has not been read since.
    """

    def __init__(self, digester: Digester, died: Callable[[], None]) -> None:
        self.dead: list[Tracked] = []
        self._digester = digester
        self._died = died
        self._models: list[Followed] = []
        self._seen = WeakIdKeyDictionary()

    def follow(self, module: nn.Module, knows: Callable[[], Callable[[Tensor], bool]]) -> bool:
        """A model is called; whether its state is followed from now on.

        `knows` gives the test whether the record has a weight already.
        """
        if module in self._seen or len(self._models) >= MOST_MODELS:
            return False
        self._seen[module] = True
        members = members_of(module)
        known = knows()
        state = [weight for weight in weights_in(members) if not known(weight[2])]
        if not state:
            return False
        tracked = Tracked(module, 0, self._note_death)
        tracked.members = members
        self._models.append(Followed(tracked, len(self._models), self._digests(state)))
        return True

    def changed(self, *, dead: bool) -> list[Weight]:
        """The state of the models that are gone, or alive, which differs from the first call."""
        changed: list[Weight] = []
        for model in self._models:
            tracked = model.tracked
            if tracked.members is not None and (tracked in self.dead) == dead:
                changed += self._changed_of(model, tracked.members)
                if dead:
                    tracked.members = None
        if dead:
            self.dead = []
        return changed

    def _changed_of(self, model: Followed, members: Members) -> list[Weight]:
        state = weights_in(members)
        now = self._digests(state)
        return [
            (kind, f"x{model.index}.{name}", tensor)
            for kind, name, tensor in state
            if name in model.at_first and now.get(name) != model.at_first[name]
        ]

    def _note_death(self, tracked: Tracked) -> None:
        self.dead.append(tracked)
        self._died()

    def _digests(self, state: list[Weight]) -> Digests:
        digests = self._digester.digest_all([tensor for _, _, tensor in state])
        named = zip(state, digests)  # noqa: B905 - Python 3.9
        return {name: digest for (_, name, _), digest in named if digest}
