"""Faults injected in the universal training are caught, and a healthy machine passes."""

import numpy as np
import pytest
import universal_faults as injected
from universal_faults import FAULTS, CannotInject, Fault, Flips

from xorbench.machine.universal import numpy_backend
from xorbench.machine.universal.probe import probe
from xorbench.machine.universal.spec import UniversalRecipe


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_caught(fault: Fault) -> None:
    """It is caught by the first epoch digest or by a case of the probe."""
    try:
        caught = fault.catch()
    except CannotInject as reason:
        pytest.skip(str(reason))
    assert caught is not None
    assert caught.startswith(("epoch digests of seed 0, epoch 0", "probe: "))


def test_correct_training_passes() -> None:
    """Without a fault the epoch digests are golden and the probe passes."""
    assert injected.in_oracle() is None
    assert injected.in_probe(numpy_backend.evaluate) is None


def test_fault_restores_the_oracle() -> None:
    """Replaced functions are restored, also if the fault raises."""
    before = numpy_backend.tanh
    with pytest.raises(ZeroDivisionError), injected.replaced(numpy_backend, tanh=lambda _: 1 / 0):
        numpy_backend.train(injected.SHORT, [0])
    assert before is numpy_backend.tanh


def test_flushed_subnormals_fail_only_their_group() -> None:
    """The remaining groups have no subnormals."""
    probed = probe(injected.flushing(numpy_backend.evaluate))
    assert [group.group for group in probed if not group.passed] == ["subnormal"]


def test_fused_rounds_once() -> None:
    """(1 + 2**-12)**2 - (1 + 2**-11) is 2**-24 in one rounding and 0 in two."""
    a, c = np.array([1 + 2**-12], dtype=np.float32), np.array([-1 - 2**-11], dtype=np.float32)
    assert injected.fused(a, a, c).tolist() == [2**-24]
    assert (a * a + c).tolist() == [0.0]


def test_every_flipped_bit_is_detected_by_the_digests_of_steps() -> None:
    """All of 200 bits are detected, even if later rounding removes them."""
    recipe = UniversalRecipe(train_size=512, test_size=1, epochs=5)
    flips = injected.flip_bits(200, recipe)
    assert Flips(200, 200, flips.absorbed_at_once, flips.absorbed) == flips
    assert flips.absorbed <= 20


def test_flips_cover_steps_weights_and_bits() -> None:
    """A thousand flips cover every step of a short training, every weight and every bit."""
    steps, columns, places = injected.random_flips(1000, 20, 0)
    assert (set(range(20)), set(range(17))) == (set(steps.tolist()), set(columns.tolist()))
    assert {1 << bit for bit in range(32)} == set(places.tolist())
