"""The plan: recipes, cases, settings, axes, and the matrix they expand to."""

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from xorbench.errors import BadOption
from xorbench.machine.probes.table import PROBES
from xorbench.options.parse import integers
from xorbench.registry import Registry, implementation
from xorbench.xor.checks.sameness import source
from xorbench.xor.matrix.axes import AXES, CASE_AXES, idle_note, read_env, read_pythons
from xorbench.xor.matrix.case import (
    Case,
    ProcessConfig,
    Variant,
    case_from,
    read_device,
    to_dict,
    with_index,
)
from xorbench.xor.matrix.engines import ENGINES
from xorbench.xor.matrix.estimate import Plan, ProcessPace, crowded, estimate_s
from xorbench.xor.matrix.faults import FAULTS, read_fault
from xorbench.xor.matrix.matrix import edges, expand, expand_configs, group_name
from xorbench.xor.matrix.recipe import RECIPE_OPTIONS, Recipe, read_recipe

BITS = {axis.name: axis.bits for axis in AXES}


def variant(**fields: object) -> Variant:
    """A variant of the default recipe with these case fields."""
    return Variant(Case(**fields), ProcessConfig(), Recipe())  # type: ignore[arg-type]


def test_the_id_of_a_case_names_its_seven_first_fields() -> None:
    """Ids are a stable interface."""
    case = Case("cuda:1", batch_size=64, pin_memory=True, drop_last=False, num_workers=2, seed=9)
    assert case.id == "cuda1-loader-b64-pin1-drop0-w2-s9"


def test_more_fields_are_in_the_id_only_with_non_default_values() -> None:
    """A new axis does not change existing ids."""
    assert Case().id == "cpu-loader-b128-pin0-drop1-w0-s0"
    assert Case(non_blocking=True).id == "cpu-loader-b128-pin0-drop1-w0-s0-non_blocking=1"


def test_a_config_is_named_for_its_non_default_values() -> None:
    """The default config is `base`."""
    assert ProcessConfig().id == "base"
    assert ProcessConfig(deterministic=False, threads=None).id == "deterministic=0+threads=auto"


def test_a_case_survives_the_protocol() -> None:
    """`case_from` reads the dict of `to_dict`."""
    case = Case("mps", batch_size=7, non_blocking=True)
    assert case_from(to_dict(case)) == case


def test_variants_name_their_config_unless_it_is_the_base() -> None:
    """The id has the case's id, and the config's id if it is not the base."""
    plain = variant()
    assert plain.id == plain.case.id
    assert replace(plain, config=ProcessConfig(threads=2)).id == plain.case.id + "@threads=2"


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:3"])
def test_devices_have_the_names_of_pytorch(name: str) -> None:
    """Every device name of torch.accelerator is accepted."""
    assert read_device("--devices", name) == name


def test_ranges_and_numbers_mix_in_a_list() -> None:
    """`0-3,7` is five values in order."""
    assert integers("--seeds", "0-3,7", 0, 99) == (0, 1, 2, 3, 7)


@pytest.mark.parametrize(
    ("scaling", "rate"), [("none", 0.1), ("linear", 0.4), ("sqrt", 0.2)], ids=str
)
def test_the_learning_rate_scales_from_batch_128(scaling: str, rate: float) -> None:
    """At batch 512: unchanged, four times, twice."""
    recipe = Recipe(lr_scaling=scaling)
    assert recipe.learning_rate(512) == pytest.approx(rate)
    assert recipe.learning_rate(128) == pytest.approx(0.1)


def test_steps_and_samples_count_the_short_batch() -> None:
    """2,500 points at batch 128: 19 whole batches and one of 68."""
    recipe = Recipe()
    assert (recipe.steps(128, True), recipe.samples(128, True)) == (19, 2432)
    assert (recipe.steps(128, False), recipe.samples(128, False)) == (20, 2500)
    assert recipe.steps(125, True) == recipe.steps(125, False) == 20


def test_a_recipe_refuses_invalid_values() -> None:
    """It validates itself in code and when read from a file."""
    with pytest.raises(BadOption, match="--std: must be"):
        Recipe(std=-1.0)
    with pytest.raises(BadOption, match="--lr-scaling: unknown"):
        read_recipe({"lr_scaling": "cubic"})


def test_a_different_recipe_has_a_different_sha256() -> None:
    """The hash identifies the recipe."""
    assert Recipe().sha256() != Recipe(epochs=101).sha256()
    assert Recipe().sha256() == Recipe(epochs=100).sha256()


def test_the_default_matrix_is_sixteen_cases_and_three_controls() -> None:
    """The controls vary the settings that the combinations do not."""
    cases = expand(Recipe(), {"device": ("cpu",)}, quick=False)
    assert len(cases) == 16 + 3
    controls = [case.id for case in cases[16:]]
    assert controls == [
        "cpu-loader-b125-pin0-drop1-w0-s0",
        "cpu-loader-b125-pin0-drop0-w0-s0",
        "cpu-loader-b128-pin0-drop1-w2-s0",
    ]


def test_each_device_has_its_own_controls() -> None:
    """Two devices have twice the matrix and twice the controls."""
    cases = expand(Recipe(), {"device": ("cpu", "cuda")}, quick=False)
    assert len(cases) == 2 * 19


def test_given_batch_sizes_or_workers_exclude_the_controls() -> None:
    """Explicit values are not extended."""
    assert len(expand(Recipe(), {"batch_size": (512,)}, quick=False)) == 4
    assert len(expand(Recipe(), {"num_workers": (0,)}, quick=False)) == 16


def test_quick_is_batch_128_with_and_without_drop_last() -> None:
    """There are two cases with all epochs of the recipe."""
    cases = expand(Recipe(), {}, quick=True)
    assert [(c.batch_size, c.drop_last, c.pin_memory) for c in cases] == [
        (128, True, False),
        (128, False, False),
    ]


def test_configs_multiply() -> None:
    """Process-level axes expand like case axes."""
    configs = expand_configs({"deterministic": (True, False), "threads": (1, 2)})
    assert len(set(configs)) == 4


def test_edges_join_variants_that_differ_in_only_one_axis() -> None:
    """In the default matrix each of four axes has groups whose pairs differ in that axis."""
    cases = expand(Recipe(), {}, quick=False)
    variants = [Variant(case, ProcessConfig(), Recipe()) for case in cases]
    groups = edges(variants)
    assert {axis.name for axis, _ in groups} == {
        "batch_size", "pin_memory", "drop_last", "num_workers",
    }  # fmt: skip
    for axis, members in groups:
        for a, b in pairwise(members):
            differing = [x.name for x in AXES if x.value(a) != x.value(b)]
            assert differing == [axis.name]


def test_interpreters_keep_their_given_order() -> None:
    """A ratio compares the second of `--pythons old=…,new=…` with the first."""
    configs = [ProcessConfig(python=python) for python in ("old=/a", "new=/b")]
    variants = [Variant(variant().case, config, Recipe()) for config in configs]
    ((axis, members),) = edges(variants)
    assert (axis.name, [s.config for s in members]) == ("python", configs)


def test_a_group_is_named_for_its_axis_and_values() -> None:
    """The name has the varied values and the first case."""
    axis, members = edges([variant(drop_last=True), variant(drop_last=False)])[0]
    assert group_name(axis, members) == "drop_last false,true: cpu-loader-b128-pin0-drop0-w0-s0"


@pytest.mark.parametrize(
    ("axis", "a", "b", "bits"),
    [
        ("pin_memory", {}, {"pin_memory": True}, "keep"),
        ("num_workers", {}, {"num_workers": 2}, "keep"),
        ("non_blocking", {}, {"non_blocking": True}, "keep"),
        ("drop_last", {}, {"drop_last": False}, "change"),
        ("drop_last", {"batch_size": 125}, {"batch_size": 125, "drop_last": False}, "keep"),
        ("batch_size", {}, {"batch_size": 64}, "change"),
        (
            "batch_size",
            {"batch_size": 2500, "drop_last": False},
            {"batch_size": 4000, "drop_last": False},
            "keep",
        ),
        ("seed", {}, {"seed": 1}, "change"),
        ("device", {}, {"device": "cuda"}, "may change"),
        ("deterministic", {}, {}, "keep"),
        ("deterministic", {"device": "cuda"}, {"device": "cuda"}, "may change"),
        ("threads", {}, {}, "may change"),
        ("threads", {"engine": "universal"}, {"engine": "universal"}, "keep"),
        ("engine", {}, {"engine": "replay"}, "keep"),
        ("engine", {}, {"engine": "compile"}, "may change"),
        ("engine", {}, {"engine": "universal"}, "may change"),
        ("device", {"engine": "universal"}, {"engine": "universal", "device": "cuda"}, "keep"),
        ("optimizer", {}, {"optimizer": "fused"}, "keep"),
        ("optimizer", {"device": "cuda"}, {"device": "cuda", "optimizer": "fused"}, "may change"),
        ("dtype", {}, {"dtype": "float64"}, "change"),
        ("tf32", {}, {"tf32": True}, "keep"),
        ("tf32", {"device": "cuda"}, {"device": "cuda", "tf32": True}, "may change"),
        ("data_on_device", {"device": "cuda"}, {"device": "cuda", "data_on_device": True}, "keep"),
        ("persistent_workers", {}, {"persistent_workers": True}, "keep"),
        (
            "persistent_workers",
            {"num_workers": 2},
            {"num_workers": 2, "persistent_workers": True},
            "change",
        ),
        ("prefetch_factor", {"num_workers": 2}, {"num_workers": 2, "prefetch_factor": 4}, "keep"),
        ("multiprocessing_context", {}, {"multiprocessing_context": "spawn"}, "keep"),
        ("in_order", {}, {"in_order": False}, "keep"),
        ("in_order", {"num_workers": 1}, {"num_workers": 1, "in_order": False}, "keep"),
        ("in_order", {"num_workers": 2}, {"num_workers": 2, "in_order": False}, "may change"),
        (
            "num_workers",
            {"persistent_workers": True},
            {"persistent_workers": True, "num_workers": 2},
            "change",
        ),
    ],
)
def test_the_axes_table_gives_the_effect_of_a_change_on_the_bits(
    axis: str, a: dict[str, object], b: dict[str, object], bits: str
) -> None:
    """The effect is keep, change or may change, with a reason."""
    expectation = BITS[axis](variant(**a), variant(**b))
    assert bits == expectation.bits
    assert expectation.reason


def test_idle_configs_are_labelled() -> None:
    """Pinning has no effect without an accelerator, non-blocking copies none on the CPU."""
    assert idle_note(Case(), False) == ""
    assert "no effect" in idle_note(Case(pin_memory=True), False)
    assert idle_note(Case(pin_memory=True), True) == ""
    assert "no effect" in idle_note(Case(non_blocking=True), True)
    assert idle_note(Case("cuda", non_blocking=True), True) == ""
    for name in ("persistent_workers", "tf32", "data_on_device"):
        assert "no effect" in idle_note(Case(**{name: True}), False)
        assert idle_note(Case("cuda", num_workers=2, **{name: True}), True) == ""


def test_every_case_axis_is_a_field_of_the_case() -> None:
    """Each row of the table is a field of the case."""
    assert {axis.name for axis in CASE_AXES} == set(to_dict(Case())) - {"id"}
    assert {a.name for a in AXES if a.scope == "process"} == set(to_dict(ProcessConfig())) - {"id"}


def guess(**plan: Any) -> float:
    """The estimate of a plan on two processors as fast as the reference machine's."""
    paces = {"base": ProcessPace(3.0, 5.9e-3)}
    return estimate_s(Plan(**{"recipe": Recipe(), "cases": (Case(),)} | plan), paces, 2)


def test_an_estimate_grows_with_the_work() -> None:
    """Epochs, processes, loader workers, compilation and a slower config increase it."""
    assert guess() < guess(recipe=Recipe(epochs=200)) < guess(recipe=Recipe(epochs=2_000))
    assert guess() < guess(processes_per_config=4)
    for case in (Case(num_workers=2), Case(engine="compile"), Case(batch_size=32)):
        assert guess(cases=(case,)) > guess()
    assert guess(cases=(Case(engine="universal"),)) < guess()
    configs = (ProcessConfig(), ProcessConfig(threads=2))
    both = Plan(Recipe(), (Case(),), configs)
    slow = {"base": ProcessPace(3.0, 5.9e-3), configs[1].id: ProcessPace(3.0, 59e-3)}
    equal = {config.id: ProcessPace(3.0, 5.9e-3) for config in configs}
    assert estimate_s(both, slow, 2) > 3 * estimate_s(both, equal, 2)


def test_the_default_run_is_estimated_within_a_factor_of_two() -> None:
    """On the reference machine it took 96 s."""
    assert 48 < guess(cases=expand(Recipe(), {"device": ("cpu",)}, quick=False)) < 192


def test_an_option_that_needs_more_processors_is_reported() -> None:
    """Threads of a config and loader workers of a case are checked."""
    assert crowded([Case(num_workers=2)], [ProcessConfig()], 2) == ""
    assert "--threads 8: this machine has only 2" in crowded(
        [Case()], [ProcessConfig(threads=8)], 2
    )
    assert "--num-workers 9" in crowded([Case(num_workers=9)], [ProcessConfig()], 2)


def test_faults_are_read_with_their_parameters() -> None:
    """Name, numbers, cases, process and phase are read."""
    fault = read_fault("flip-weight:epoch=3,bit=20,cases=*drop0*,process=1,phase=both")
    assert fault.number("epoch") == 3
    assert fault.number("element") == 0
    config = ProcessConfig()
    assert fault.hits(Case(drop_last=False), config, 1, "warm-up")
    assert not fault.hits(Case(drop_last=True), config, 1, "timed")
    assert not fault.hits(Case(drop_last=False), config, 0, "timed")


@pytest.mark.parametrize("cases", ["cpu-*", "*@threads=2", f"{Case().id}@threads=2"])
def test_cases_of_a_fault_can_have_a_config(cases: str) -> None:
    """A pattern with a config matches only that config, and without one all of them."""
    fault, every = read_fault(f"skip-batch:cases={cases}"), "@" not in cases
    assert fault.hits(Case(), ProcessConfig(threads=2), 0, "timed")
    assert fault.hits(Case(), ProcessConfig(), 0, "timed") == every


@pytest.mark.parametrize("registry", [ENGINES, FAULTS, PROBES], ids=lambda registry: registry.kind)
def test_the_functions_of_rows_can_be_imported(registry: Registry[Any]) -> None:
    """Every registered name has an implementation."""
    fields = ("epoch", "unavailable", "inject", "cases", "check")
    named = [getattr(row, field, "") for row in registry.values() for field in fields]
    assert all(callable(implementation(path)) for path in named if path)


def test_a_row_without_an_implementation_is_detected() -> None:
    """The test above can fail."""
    with pytest.raises(AttributeError):
        implementation("xorbench.xor.training.faults:no_such_fault")


def test_defaults_are_shown_as_typed() -> None:
    """The defaults in help and `list` are valid values."""
    for axis in AXES:
        assert axis.read(axis.option, axis.default_text) == axis.default
    for row in RECIPE_OPTIONS:
        assert row.parse(row.option, row.default_text) == getattr(Recipe(), row.field)


def test_interpreters_are_named_by_their_environment(tmp_path: Path) -> None:
    """The label is the environment's folder or the given one; ids show only the label."""
    for name in ("old", "new"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python").symlink_to(sys.executable)
    old, new = (str(tmp_path / name / "bin" / "python") for name in ("old", "new"))
    values = read_pythons("--pythons", f"{old},my={new}")
    assert [ProcessConfig(python=value).id for value in values] == ["python=old", "python=my"]
    assert values[0] == f"old={old}"


def test_variables_combine() -> None:
    """Two variables give every combination of their values; an empty value unsets."""
    cells = read_env("--env", "B=1,2\nA=x,")
    assert cells == (("A=x", "B=1"), ("A=", "B=1"), ("A=x", "B=2"), ("A=", "B=2"))
    assert ProcessConfig(env=cells[0]).id == "env=A=x B=1"


def test_an_instruction_set_may_change_the_points() -> None:
    """Trainings with different variables need not start from identical points."""
    case = Case()
    base, changed = (
        Variant(case, s, Recipe()) for s in (ProcessConfig(), ProcessConfig(env=("A=x",)))
    )
    assert (source(base), source(changed)) == ("seed 0", "seed 0 @env=A=x")
    assert source(replace(base, config=ProcessConfig(threads=2))) == "seed 0"


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_has_one_canonical_name(device: str) -> None:
    """Without an index it is the first of its type; the CPU has none."""
    assert with_index(device) == "cuda:0"
    assert with_index("cpu") == "cpu"
