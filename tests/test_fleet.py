"""The fleet's rules: real records, doctored; each finding names its sender and no one else."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Xorbench, with_epochs

from xorbench.errors import BadOption
from xorbench.fleet import atlas, gather, rules
from xorbench.fleet.atlas import Atlas
from xorbench.fleet.belief import believed_records, called_ranks
from xorbench.fleet.data import FleetData
from xorbench.fleet.fleet import LISTED, absent, other_worlds
from xorbench.fleet.pace import between, pace
from xorbench.fleet.record_atlas import is_wrong
from xorbench.fleet.records import (
    LARGEST_MESSAGE,
    Bad,
    CheckIn,
    Finding,
    Fleet,
    Missing,
    Node,
    NodeTraining,
    Replica,
    Sensors,
    Wrong,
    decode,
    key_name,
    training_name,
)
from xorbench.fleet.report import draw_ratios, ratios
from xorbench.fleet.rules import CODES, cordon
from xorbench.records.schema.run import Run

replace = msgspec.structs.replace


@pytest.fixture(scope="session")
def sound(quick_run: Run) -> Node:
    """The record of a real run's CPU."""
    return gather.nodes_of(quick_run)[0]


@pytest.fixture
def nodes(sound: Node) -> list[Node]:
    """Eight ranks that saw what the real one saw, each on a node of its own, 1% apart in speed."""
    return [
        faster(replace(sound, rank=rank, world=8, node=f"n{rank}"), 1 + (rank % 3 - 1) / 100)
        for rank in range(8)
    ]


def faster(node: Node, factor: float) -> Node:
    """The node with its calibration workload's times multiplied."""
    one = node.calibration
    assert one is not None
    times = {name: getattr(one, name) * factor for name in ("median_s", "q1_s", "q3_s")}
    return replace(node, calibration=replace(one, **times))


def flipped(node: Node, epoch: int) -> Node:
    """The node as a bit flip in this epoch of every training would leave it."""
    return replace(node, trainings=[_flipped(one, epoch) for one in node.trainings])


def _flipped(one: NodeTraining, epoch: int) -> NodeTraining:
    epoch_digests = one.epoch_digests[: 16 * epoch] + "0" * (len(one.epoch_digests) - 16 * epoch)
    return replace(one, weights_sha256="0" * 64, epoch_digests=epoch_digests)


def said(found: Sequence[Finding]) -> list[tuple[str, int | None]]:
    """Code and rank of each finding."""
    return [(finding.code, finding.rank) for finding in found]


def judged(nodes: Sequence[Node], **more: Any) -> list[Finding]:
    """What the rules find."""
    return rules.judge(FleetData(nodes, **more))


def test_an_even_fleet_has_no_finding(nodes: list[Node]) -> None:
    """Eight sound ranks: nothing to say, nobody to cordon off."""
    assert judged(nodes) == []


def test_a_real_run_gives_one_record_a_device(sound: Node) -> None:
    """Golden values, both trainings with their epoch digests, one calibration time a round."""
    assert min(sound.checked[check] for check in ("arithmetic", "universal", "probes")) > 0
    assert (sound.universal, sound.arithmetic, sound.failed) == ([], [], [])
    assert [one.correct for one in sound.trainings] == [500, 500]
    assert {len(one.epoch_digests) for one in sound.trainings} == {1_600}
    assert sound.calibration is not None
    assert sound.calibration.rounds == 200


def test_a_check_that_checked_nothing_does_not_pass(nodes: list[Node]) -> None:
    """Without probes, as in a run of an earlier version, there is no verdict about them."""

    def passed(some: list[Node]) -> set[str]:
        return {verdict.check for verdict in rules.verdicts(FleetData(some), [])}

    unprobed = [replace(node, checked={**node.checked, "probes": 0}) for node in nodes]
    assert passed(nodes) - passed(unprobed) == {"probes"}


def test_the_record_of_a_rank_survives_its_way_through_json(sound: Node) -> None:
    """Encoded and decoded it is the same."""
    assert decode(msgspec.json.encode(sound), Node) == sound


def test_other_bits_are_odd_with_their_first_epoch(nodes: list[Node]) -> None:
    """One of eight flips a bit in epoch 17: it is named, to be isolated, with the epoch."""
    nodes[5] = flipped(nodes[5], 17)
    found = judged(nodes)
    assert said(found) == [("XB103", 5)]
    assert "from epoch 17 on" in found[0].found
    assert cordon(found) == ["n5"]


def test_two_ranks_that_differ_have_no_majority(nodes: list[Node]) -> None:
    """Both are named, none is isolated."""
    found = judged([nodes[0], flipped(nodes[1], 3)])
    assert said(found) == [("XB104", 0), ("XB104", 1)]
    assert cordon(found) == []


def test_a_rank_without_a_peer_says_so(nodes: list[Node]) -> None:
    """Another environment is compared with nobody; that it is another is said too."""
    nodes[2] = replace(nodes[2], key={**nodes[2].key, "torch_version": "2.6.0"})
    found = judged(nodes)
    assert said(found) == [("XB106", 2), ("XB105", 2)]
    assert found[0].found.startswith("torch_version 2.6.0 where most have 2.")


def test_a_missed_golden_value_needs_no_vote(sound: Node) -> None:
    """A fleet of one is wrong by itself, and the first epoch is told."""
    wrong = [
        Wrong(what="digest of seed 0", expected="92d7", actual="0bad"),
        Wrong(what="epoch digests of seed 0, epoch 17", expected="aa", actual="bb"),
    ]
    found = judged([replace(sound, universal=wrong)])
    assert said(found)[0] == ("XB101", None)
    assert found[0].found == "epoch digests of seed 0, epoch 17: bb, golden is aa"


def test_a_wrong_edge_case_is_wrong_arithmetic(nodes: list[Node]) -> None:
    """The subnormal probe fails on one rank."""
    probe = Wrong(what="probe subnormal", expected="1", actual="0")
    nodes[1] = replace(nodes[1], arithmetic=[probe])
    assert said(judged(nodes)) == [("XB102", 1)]


def test_a_wrong_exact_probe_needs_no_vote(nodes: list[Node]) -> None:
    """One rank's matrix unit is wrong: to be isolated, with the element."""
    wrong = Wrong(what="float32 dense mm", expected="e1", actual="1 of 9 elements, element [0, 1]")
    nodes[2] = replace(nodes[2], probes=[wrong])
    found = judged(nodes)
    assert said(found) == [("XB115", 2)]
    assert found[0].found == "float32 dense mm: 1 of 9 elements, element [0, 1]"
    assert cordon(found) == ["n2"]


@pytest.mark.parametrize(
    ("wrong", "code", "cordoned"), [((1,), "XB116", ["n1"]), ((0, 1), "XB117", [])]
)
def test_who_alone_gets_wrong_collectives_is_at_fault(
    nodes: list[Node], wrong: tuple[int, ...], code: str, cordoned: list[str]
) -> None:
    """Where several do, it may be the network: nobody is isolated."""
    fact = Wrong(what="float32 all_reduce", expected="a", actual="b")
    replicas = [
        Replica(rank=r, node=f"n{r}", checked=20, wrong=[fact] if r in wrong else [])
        for r in range(3)
    ]
    found = rules.judge(FleetData(nodes[:3], replicas=replicas))
    assert said(found) == [(code, rank) for rank in wrong]
    assert cordon(found) == cordoned


def test_a_rank_that_does_not_repeat_itself_is_named(nodes: list[Node]) -> None:
    """Its own two processes diverge at epoch 4."""
    diverged = [replace(nodes[3].trainings[0], diverged=4)]
    nodes[3] = replace(nodes[3], trainings=[*diverged, nodes[3].trainings[1]])
    assert said(judged(nodes)) == [("XB107", 3)]


def test_a_worse_score_is_named(nodes: list[Node]) -> None:
    """Fewer right answers than most, whatever its environment."""
    worse = [replace(one, correct=499) for one in nodes[6].trainings]
    nodes[6] = replace(nodes[6], trainings=worse)
    assert said(judged(nodes)) == [("XB108", 6)]


@pytest.mark.parametrize(("factor", "severity"), [(1.4, "investigate"), (3.0, "isolate")])
def test_a_slow_rank_is_named(nodes: list[Node], factor: float, severity: str) -> None:
    """With its ratio, interval and score; far slower, it is to be isolated."""
    nodes[4] = faster(nodes[4], factor)
    found = judged([quiet(node) for node in nodes])
    assert said(found) == [("XB201", 4)]
    assert found[0].severity == severity
    assert found[0].found.startswith(f"calibration time {factor:.1f}".rstrip("0").rstrip("."))


def quiet(node: Node) -> Node:
    """The node with rounds that scatter by half a per cent: what a machine of its own has."""
    one = node.calibration
    assert one is not None
    even = replace(one, q1_s=one.median_s * 0.9975, q3_s=one.median_s * 1.0025)
    return replace(node, calibration=even)


def test_an_evenly_slow_fleet_is_told_from_its_baseline(nodes: list[Node]) -> None:
    """Nobody is slow among its peers; against the earlier fleet all are."""
    nodes = [quiet(node) for node in nodes]
    found = judged([faster(node, 1.3) for node in nodes], baseline=fleet_of(nodes))
    assert said(found) == [("XB203", None)]
    assert "1.3×" in found[0].found
    assert judged(nodes, baseline=fleet_of(nodes)) == []


def test_a_baseline_of_another_calibration_is_said_not_to_compare(nodes: list[Node]) -> None:
    """A note, which fails nothing."""
    nodes = [quiet(node) for node in nodes]
    older = [replace(node, calibration_version=1) for node in nodes]
    (found,) = judged([faster(node, 1.3) for node in nodes], baseline=fleet_of(older))
    assert (found.code, found.severity) == ("XB203", "note")
    assert "the baseline's is 1: not compared" in found.found


def fleet_of(nodes: list[Node]) -> Fleet:
    """A fleet's file with these nodes and nothing found."""
    return Fleet(
        xorbench_version="0",
        id="before",
        command="",
        judged="",
        exit_code=0,
        findings=[],
        missing=[],
        bad=[],
        replicas=[],
        nodes=nodes,
    )


def test_a_rank_that_is_fed_slowly_is_told_from_a_slow_device(nodes: list[Node]) -> None:
    """Its calibration workload is as quick as the others', its epochs are not."""
    nodes = [replace(node, trainings=[even(one) for one in node.trainings]) for node in nodes]
    assert judged(nodes) == []
    slow = [replace(one, relative=2 * (one.relative or 1)) for one in nodes[0].trainings]
    nodes[0] = replace(nodes[0], trainings=slow)
    assert said(judged(nodes)) == [("XB202", 0)]


def even(one: NodeTraining) -> NodeTraining:
    """The training with epochs that scatter by half a per cent."""
    middle = one.epoch.median_s
    epoch = replace(one.epoch, q1_s=middle * 0.9975, q3_s=middle * 1.0025)
    return replace(one, epoch=epoch)


def test_noise_alone_makes_nobody_slow() -> None:
    """Three times that happen to agree do not condemn a fourth that scatters as widely."""
    assert pace([1.0, 1.001, 1.002, 1.2], [0.2] * 4).slow(1.1) == []
    assert pace([1.0, 1.001, 1.002, 1.2], [0.01] * 4).slow(1.1) == [3]


def test_two_devices_have_no_slow_one() -> None:
    """Which of two is the odd one, no vote can tell."""
    assert pace([1.0, 5.0]).slow(1.1) == []


def test_a_slow_minority_does_not_move_the_scale() -> None:
    """Three of ten ranks at twice the time are all found."""
    assert pace([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 2.0, 2.1, 1.9]).slow(1.1) == [7, 8, 9]


def test_a_ratio_between_fleets_has_its_interval() -> None:
    """Ten against ten at 1.2 times: the interval lies around it."""
    before = pace([1 + n / 1_000 for n in range(10)])
    now = pace([1.2 + n / 1_000 for n in range(10)])
    ratio = between(now, before)
    assert ratio.low is not None
    assert ratio.high is not None
    assert 1.18 < ratio.low < ratio.value < ratio.high < 1.21


def test_missing_ranks_are_named(nodes: list[Node]) -> None:
    """One that never came has no node to isolate; one that came and fell silent has."""
    missing = [
        Missing(rank=8, why="never came", came=False),
        Missing(rank=9, node="n9", why="no result in time", came=True),
    ]
    found = judged(nodes, missing=missing)
    assert said(found) == [("XB302", 9), ("XB301", 8)]
    assert cordon(found) == ["n9"]


def test_a_failed_and_a_stopped_rank_are_two_things(nodes: list[Node]) -> None:
    """A process that died is its device's fault; a launcher that stopped the rank is not."""
    nodes[1] = replace(nodes[1], failed=["cpu-…: process p0 died: killed by SIGSEGV"])
    nodes[2] = replace(nodes[2], failed=["stopped after epoch 3"], stopped="SIGTERM")
    assert said(judged(nodes)) == [("XB303", 1), ("XB305", 2)]


def test_a_bad_record_is_a_finding_about_its_sender(nodes: list[Node]) -> None:
    """It is investigated, the rest is judged."""
    bad = [Bad(sender="rank 8", rank=8, node="n8", reason="not JSON")]
    assert said(judged(nodes, bad=bad)) == [("XB304", 8)]


def test_what_the_driver_says_is_found(nodes: list[Node]) -> None:
    """Memory errors isolate, throttling is investigated, warmth is noted."""
    nodes[0] = replace(nodes[0], sensors=Sensors(ecc_uncorrected=2, temperature_c=40))
    nodes[1] = replace(nodes[1], sensors=Sensors(throttled=["power"], temperature_c=41))
    nodes[2] = replace(nodes[2], sensors=Sensors(temperature_c=70))
    assert said(judged(nodes)) == [("XB111", 0), ("XB204", 1), ("XB205", 2)]


def test_the_atlas_holds_every_rank_to_the_bits_on_record(nodes: list[Node], sound: Node) -> None:
    """Known bits pass, other ones fail, an environment never seen is a note."""
    known = {training_name(one): one.weights_sha256 for one in sound.trainings}
    key = key_name(sound.key)
    assert judged(nodes, atlas={key: known}) == []
    other = {key: dict.fromkeys(known, "f" * 64)}
    assert {finding.code for finding in judged(nodes, atlas=other)} == {"XB109"}
    new = judged(nodes, atlas={})
    assert {(finding.code, finding.severity) for finding in new} == {("XB110", "note")}


@pytest.mark.parametrize("asked", ["atlas", "baseline"])
def test_what_could_not_be_compared_is_no_pass(nodes: list[Node], asked: str) -> None:
    """Nothing of this fleet is in the atlas, or in the fleet it is to be compared with."""
    other = [replace(node, model="another") for node in nodes]
    more: dict[str, dict[str, Any]] = {
        "atlas": {"atlas": {"another": {}}},
        "baseline": {"baseline": fleet_of(other)},
    }
    fleet_data = FleetData(nodes, **more[asked])
    found = rules.verdicts(fleet_data, rules.judge(fleet_data))
    assert [v.outcome for v in found if v.check == asked and v.subject == "fleet"] == [
        "inconclusive"
    ]


def test_of_two_scores_neither_is_that_of_most(nodes: list[Node]) -> None:
    """One of two ranks has a point less: no majority says which is odd."""
    fewer = [replace(one, correct=one.correct - 1) for one in nodes[1].trainings]
    two = [nodes[0], replace(nodes[1], trainings=fewer)]
    for order in (two, two[::-1]):
        assert "XB108" not in {finding.code for finding in judged(order)}


def test_a_run_whose_probes_failed_is_not_put_on_record(sound: Node) -> None:
    """Nor one whose own processes diverge: the bits of either are not believed."""
    wrong = [Wrong(what="sum", expected="1", actual="2")]
    diverged = [replace(one, diverged=3) for one in sound.trainings]
    assert not is_wrong(sound)
    assert is_wrong(replace(sound, probes=wrong))
    assert is_wrong(replace(sound, trainings=diverged))


@pytest.mark.parametrize("model", ["$\\x$", "_model"])
def test_any_name_of_a_device_can_be_drawn(nodes: list[Node], model: str) -> None:
    """Another machine has written it: neither a formula nor a hidden line ends the report."""
    fleet_data = FleetData([replace(node, model=model) for node in nodes])
    assert "<svg" in draw_ratios(ratios(fleet_data))


def replica(rank: int, epoch_digests: Sequence[str], **more: Any) -> Replica:
    """A rank's part in a collective; a digest is given by its letter."""
    return Replica(
        rank=rank, node=f"n{rank}", epoch_digests=[digit * 64 for digit in epoch_digests], **more
    )


def test_the_replica_that_parts_is_named_with_its_epoch(nodes: list[Node]) -> None:
    """Four replicas, one of other bits from epoch 1 on."""
    parts = [replica(rank, "abc" if rank != 2 else "aff") for rank in range(4)]
    found = judged(nodes, replicas=parts)
    assert said(found) == [("XB112", 2)]
    assert found[0].found == "diverges in epoch 1 of 3, 3 replicas agree"


def test_two_replicas_that_part_have_no_majority(nodes: list[Node]) -> None:
    """Both are named, to be investigated."""
    found = judged(nodes, replicas=[replica(0, "ab"), replica(1, "ac")])
    assert said(found) == [("XB113", 0), ("XB113", 1)]


def test_a_collective_far_from_one_process_is_told(nodes: list[Node]) -> None:
    """Equal replicas may all be wrong: more ulps than the limit is a finding."""
    far = [replica(0, "ab", ulps=2 * rules.collective.ULPS), replica(1, "ab")]
    assert said(judged(nodes, replicas=far)) == [("XB114", None)]
    lost = [replica(0, "ab", ulps=0.5), replica(1, "", failed="no answer within 9 s")]
    assert said(judged(nodes, replicas=lost)) == [("XB306", 1)]


def test_every_code_has_been_found_by_a_test() -> None:
    """A code that no test has seen is not to be trusted."""
    tested = Path(__file__).read_text()
    assert [code for code in CODES if f'"{code}"' not in tested] == []


# Distrust


def test_records_of_another_node_than_came_in_are_not_believed(nodes: list[Node]) -> None:
    """Nobody has an innocent node cordoned: the finding is about who sent it."""
    forged = replace(flipped(nodes[3], 2), node="n5")
    here = CheckIn(rank=3, world=8, node="n3")
    content = msgspec.json.encode([forged])
    assert believed_records(3, msgspec.json.encode([nodes[3]]), here) == [nodes[3]]
    bad = believed_records(3, content, here)
    assert isinstance(bad, Bad)
    assert (bad.node, bad.reason) == ("n3", "records of node n5, and it came in as n3")
    found = judged([*nodes[:3], *nodes[4:]], bad=[bad])
    assert said(found) == [("XB304", 3)]
    assert cordon(found) == []
    assert isinstance(believed_records(3, content, None), Bad)


@pytest.mark.parametrize("members", [b"garbage", b"\xff", b'["a"]', b"[" * 100_000, b"{}"])
def test_garbage_in_place_of_the_members_calls_nobody(members: bytes) -> None:
    """A rank goes on to its end."""
    assert called_ranks(members) == []
    assert called_ranks(b"[0, 3]") == [0, 3]


def test_a_record_cannot_make_up_a_million_ranks(nodes: list[Node]) -> None:
    """One finding about who says so; alone, the missing are listed to a bound."""
    liar = replace(nodes[3], world=1_000_000)
    some = [*nodes[:3], liar, *nodes[4:]]
    assert absent(some, []) == []
    (bad,) = other_worlds(some)
    assert (bad.rank, bad.node) == (3, "n3")
    assert bad.reason == "says that there are 1,000,000 ranks, most say 8"
    missing = absent([liar], [])
    assert len(missing) == LISTED
    assert missing[-1].why.endswith("; nor of 999,899 ranks more")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"node": "n0; rm -rf"}, "regex"),
        ({"node": "n0\nn1"}, "regex"),
        ({"rank": -1}, ">= 0"),
        ({"model": "x" * 501}, "length <= 500"),
        ({"checked": {"probes": "many"}}, "Expected `int`"),
        ({"surprise": 1}, "unknown field"),
        ({"schema_version": 4}, "enum value 4"),
        ({"calibration": {"median_s": -1.0, "q1_s": 1, "q3_s": 1, "rounds": 1}}, "> 0"),
        ({"failed": ["x"] * 65}, "length <= 64"),
    ],
)
def test_a_record_that_is_not_of_the_schema_is_refused(
    sound: Node, change: dict[str, Any], why: str
) -> None:
    """Names stay names, numbers stay in range, no field more: the reason is a line."""
    record = {**msgspec.to_builtins(sound), **change}
    reason = decode(json.dumps(record).encode(), Node)
    assert isinstance(reason, str)
    assert why in reason


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04\x95", b"[" * 100_000, b"{}", b"null", b" " * (LARGEST_MESSAGE + 1)]
)
def test_what_is_no_record_is_refused_and_never_executed(content: bytes) -> None:
    """Nothing, a pickle, brackets without end, too many bytes: a reason each."""
    assert isinstance(decode(content, Node), str)


# Merging run folders


def rank_folder(quick_folder: Path, fleet: Path, rank: int, world: int) -> Path:
    """A copy of the real run as rank's folder of a fleet."""
    import shutil

    source = (quick_folder / "latest").resolve()
    target = fleet / f"rank{rank}" / "runs" / source.name
    shutil.copytree(source, target)
    (fleet / f"rank{rank}" / "rank.json").write_text(
        json.dumps({"rank": rank, "world": world, "node": f"host{rank}"})
    )
    return target


def test_merged_folders_are_judged_without_torch(
    quick_folder: Path, tmp_path: Path, xorbench: Xorbench
) -> None:
    """Of four ranks one is doctored, one damaged, one has no folder: each is named; exit 1."""
    fleet = tmp_path / "night"
    folders = [rank_folder(quick_folder, fleet, rank, 5) for rank in range(4)]
    with_epochs(folders[1], lambda line: {"digest": "0" * 64} if line["epoch"] >= 7 else {})
    (folders[2] / "run.json").write_text('{"schema_version": 2, "kind": "run"}')
    done = xorbench("fleet", "--merge", "night", "--out", "report", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report" / "fleet.json").read_text())
    found = {(f["code"], f["node"], f["rank"]) for f in report["findings"]}
    assert {("XB103", "host1", 1), ("XB304", "host2", 2), ("XB301", "", 4)} <= found
    assert (tmp_path / "report" / "cordon.txt").read_text() == "host1\n"
    assert "from epoch 7 on" in (tmp_path / "report" / "fleet.md").read_text()
    page = (tmp_path / "report" / "fleet.html").read_text()
    assert "XB103" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_one_ordinary_run_is_a_fleet_of_one(
    quick_folder: Path, tmp_path: Path, inside: Xorbench
) -> None:
    """It is checked against the golden values, has no peer, and passes."""
    done = inside("fleet", "--merge", str(quick_folder), "--out", "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "XB105" in done.stdout
    assert (tmp_path / "report" / "cordon.txt").read_text() == ""
    again = inside("fleet", "--merge", str(quick_folder), "--out", "report")
    assert (again.returncode, "--out: report already holds a fleet" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fleet", "--merge"], "--merge: needs the run folders"),
        (["fleet", "--merge", "nowhere"], "--merge: no folder 'nowhere'"),
        (["fleet", "--merge", "."], "holds no run"),
        (["fleet", "--merge", ".", "--slow-threshold", "0.5"], "--slow-threshold"),
        (["fleet", "--merge", ".", "--atlas", "none.json"], "--atlas: no file"),
        (["fleet", "--merge", ".", "--baseline", "none.json"], "none.json: cannot read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], says: str, inside: Xorbench, tmp_path: Path
) -> None:
    """Nothing is written."""
    done = inside(*arguments)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_the_interval_of_a_ratio_is_around_it() -> None:
    """Of ten ranks the slow one's ratio lies within its bounds."""
    found = pace([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 1.0, 0.99, 2.0])
    ratio = found.ratio(9)
    assert math.isclose(ratio.value, 2.0, rel_tol=0.01)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 2.0 < ratio.high


# The atlas


def test_the_atlas_knows_a_run_again_and_refuses_other_bits(
    copied: Path, tmp_path: Path, inside: Xorbench
) -> None:
    """New at first, then known; the same environment with other bits is exit 1 and not taken up."""
    first = inside("fleet", "atlas", "add", copied.name)
    assert (first.returncode, first.stdout.count("new: ")) == (0, 2), first.stderr
    path = tmp_path / "results" / "baselines" / "atlas.json"
    before = path.read_bytes()
    again = inside("fleet", "atlas", "add", copied.name)
    assert (again.returncode, again.stdout.count("known: ")) == (0, 2)
    trainings = copied / "results.jsonl"
    lines = [json.loads(line) for line in trainings.read_text().splitlines()]
    digest = lines[0]["weights_sha256"]
    trainings.write_text(trainings.read_text().replace(digest, "0" * 64))
    with_epochs(copied, lambda _: {})
    other = inside("fleet", "atlas", "add", copied.name)
    assert other.returncode == 1
    assert f"0000000000000000, on record is {digest[:16]}" in other.stdout
    assert path.read_bytes() == before
    shown = inside("fleet", "atlas", "show")
    assert (shown.returncode, shown.stdout.count(digest[:16])) == (0, 1)


def test_another_environment_is_new_to_the_atlas(sound: Node) -> None:
    """Another version of PyTorch is another entry, whatever its bits."""
    first, _ = atlas.add(Atlas(entries={}), [sound])
    other = replace(sound, key={**sound.key, "torch_version": "2.6.0"})
    both, changes = atlas.add(first, [flipped(other, 3)])
    assert {change.outcome for change in changes} == {"new"}
    assert len(both.entries) == 2


def test_an_empty_atlas_is_nothing_to_judge(inside: Xorbench, tmp_path: Path) -> None:
    """Exit 3; a damaged one is refused with exit 2."""
    assert inside("fleet", "atlas", "show").returncode == 3
    (tmp_path / "bad.json").write_text("{")
    assert inside("fleet", "atlas", "show", "--atlas", "bad.json").returncode == 2


def test_a_folder_that_may_not_be_looked_into_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs beside it are found; alone, there is none."""
    for name in ("shut", "open"):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run" / "run.json").touch()
    scandir = os.scandir

    def refusing(folder: Path) -> Any:
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    found = gather.run_folders([tmp_path])
    assert found == ([tmp_path / "open" / "run"], [str(tmp_path / "shut")])
    with pytest.raises(BadOption, match="holds no run"):
        gather.run_folders([tmp_path / "shut"])
