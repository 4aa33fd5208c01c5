"""The rules of a fleet on altered real records: each finding names only the altered rank."""

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
from xorbench.fleet.data import FleetData
from xorbench.fleet.fleet import LISTED, absent, other_worlds
from xorbench.fleet.pace import pace, ratio_of_medians
from xorbench.fleet.record_atlas import has_failed
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
from xorbench.fleet.validation import called_ranks, valid_records
from xorbench.records.schema.run import Run

replace = msgspec.structs.replace


@pytest.fixture(scope="session")
def healthy(quick_run: Run) -> Node:
    """The record of a real run's CPU."""
    return gather.nodes_of(quick_run)[0]


@pytest.fixture
def nodes(healthy: Node) -> list[Node]:
    """Eight ranks with the real record, each on its own node, 1% apart in speed."""
    return [
        faster(replace(healthy, rank=rank, world=8, node=f"n{rank}"), 1 + (rank % 3 - 1) / 100)
        for rank in range(8)
    ]


def faster(node: Node, factor: float) -> Node:
    """The node with its calibration times multiplied."""
    calibration = node.calibration
    assert calibration is not None
    times = {name: getattr(calibration, name) * factor for name in ("median_s", "q1_s", "q3_s")}
    return replace(node, calibration=replace(calibration, **times))


def flipped(node: Node, epoch: int) -> Node:
    """The node after a bit flip in this epoch of every training."""
    return replace(node, trainings=[_flipped(training, epoch) for training in node.trainings])


def _flipped(training: NodeTraining, epoch: int) -> NodeTraining:
    kept = training.epoch_digests[: 16 * epoch]
    epoch_digests = kept + "0" * (len(training.epoch_digests) - 16 * epoch)
    return replace(training, weights_sha256="0" * 64, epoch_digests=epoch_digests)


def codes(findings: Sequence[Finding]) -> list[tuple[str, int | None]]:
    """Code and rank of each finding."""
    return [(finding.code, finding.rank) for finding in findings]


def judged(nodes: Sequence[Node], **more: Any) -> list[Finding]:
    """The findings of the rules."""
    return rules.judge(FleetData(nodes, **more))


def test_an_even_fleet_has_no_finding(nodes: list[Node]) -> None:
    """Eight healthy ranks give no finding."""
    assert judged(nodes) == []


def test_a_real_run_gives_one_record_per_device(healthy: Node) -> None:
    """It has golden values, both trainings with epoch digests, and one time per round."""
    assert min(healthy.checked[check] for check in ("arithmetic", "universal", "probes")) > 0
    assert (healthy.universal, healthy.arithmetic, healthy.failed) == ([], [], [])
    assert [training.correct for training in healthy.trainings] == [500, 500]
    assert {len(training.epoch_digests) for training in healthy.trainings} == {1_600}
    assert healthy.calibration is not None
    assert healthy.calibration.rounds == 200


def test_a_check_without_data_does_not_pass(nodes: list[Node]) -> None:
    """Without probes, as in a run of an earlier version, no verdict covers them."""

    def passed(some: list[Node]) -> set[str]:
        return {verdict.check for verdict in rules.verdicts(FleetData(some), [])}

    unprobed = [replace(node, checked={**node.checked, "probes": 0}) for node in nodes]
    assert passed(nodes) - passed(unprobed) == {"probes"}


def test_the_record_of_a_rank_survives_json(healthy: Node) -> None:
    """Decoding the encoded record gives an equal record."""
    assert decode(msgspec.json.encode(healthy), Node) == healthy


def test_different_bits_are_reported_with_their_first_epoch(nodes: list[Node]) -> None:
    """A rank with a bit flip in epoch 17 is isolated, and the finding names the epoch."""
    nodes[5] = flipped(nodes[5], 17)
    findings = judged(nodes)
    assert codes(findings) == [("XB103", 5)]
    assert "from epoch 17 on" in findings[0].evidence
    assert cordon(findings) == ["n5"]


def test_two_ranks_that_differ_have_no_majority(nodes: list[Node]) -> None:
    """Both are named and neither is isolated."""
    findings = judged([nodes[0], flipped(nodes[1], 3)])
    assert codes(findings) == [("XB104", 0), ("XB104", 1)]
    assert cordon(findings) == []


def test_a_rank_without_a_peer_is_reported(nodes: list[Node]) -> None:
    """A different environment has no peer, and the difference is reported."""
    nodes[2] = replace(nodes[2], key={**nodes[2].key, "torch_version": "2.6.0"})
    findings = judged(nodes)
    assert codes(findings) == [("XB106", 2), ("XB105", 2)]
    assert findings[0].evidence.startswith("torch_version 2.6.0, most have 2.")


def test_a_wrong_golden_value_needs_no_vote(healthy: Node) -> None:
    """A fleet of one fails, and the finding names the first wrong epoch."""
    wrong = [
        Wrong(what="digest of seed 0", expected="92d7", actual="0bad"),
        Wrong(what="epoch digests of seed 0, epoch 17", expected="aa", actual="bb"),
    ]
    findings = judged([replace(healthy, universal=wrong)])
    assert codes(findings)[0] == ("XB101", None)
    assert findings[0].evidence == "epoch digests of seed 0, epoch 17: bb, golden is aa"


def test_a_wrong_edge_case_is_reported(nodes: list[Node]) -> None:
    """The subnormal probe fails on one rank."""
    probe = Wrong(what="probe subnormal", expected="1", actual="0")
    nodes[1] = replace(nodes[1], arithmetic=[probe])
    assert codes(judged(nodes)) == [("XB102", 1)]


def test_a_wrong_exact_probe_needs_no_vote(nodes: list[Node]) -> None:
    """A rank with a wrong matrix unit is isolated, and the finding names the element."""
    wrong = Wrong(what="float32 dense mm", expected="e1", actual="1 of 9 elements, element [0, 1]")
    nodes[2] = replace(nodes[2], probes=[wrong])
    findings = judged(nodes)
    assert codes(findings) == [("XB115", 2)]
    assert findings[0].evidence == "float32 dense mm: 1 of 9 elements, element [0, 1]"
    assert cordon(findings) == ["n2"]


@pytest.mark.parametrize(
    ("wrong", "code", "cordoned"), [((1,), "XB116", ["n1"]), ((0, 1), "XB117", [])]
)
def test_a_single_rank_with_wrong_collectives_is_isolated(
    nodes: list[Node], wrong: tuple[int, ...], code: str, cordoned: list[str]
) -> None:
    """Several such ranks may have a faulty network, so none is isolated."""
    mismatch = Wrong(what="float32 all_reduce", expected="a", actual="b")
    replicas = [
        Replica(rank=r, node=f"n{r}", checked=20, wrong=[mismatch] if r in wrong else [])
        for r in range(3)
    ]
    findings = rules.judge(FleetData(nodes[:3], replicas=replicas))
    assert codes(findings) == [(code, rank) for rank in wrong]
    assert cordon(findings) == cordoned


def test_a_rank_that_is_not_reproducible_is_named(nodes: list[Node]) -> None:
    """Its own two processes diverge at epoch 4."""
    diverged = [replace(nodes[3].trainings[0], diverged=4)]
    nodes[3] = replace(nodes[3], trainings=[*diverged, nodes[3].trainings[1]])
    assert codes(judged(nodes)) == [("XB107", 3)]


def test_a_worse_score_is_named(nodes: list[Node]) -> None:
    """A rank with a lower score than most is named, in any environment."""
    worse = [replace(training, correct=499) for training in nodes[6].trainings]
    nodes[6] = replace(nodes[6], trainings=worse)
    assert codes(judged(nodes)) == [("XB108", 6)]


@pytest.mark.parametrize(("factor", "severity"), [(1.4, "investigate"), (3.0, "isolate")])
def test_a_slow_rank_is_named(nodes: list[Node], factor: float, severity: str) -> None:
    """The finding has its ratio; a far slower rank is isolated."""
    nodes[4] = faster(nodes[4], factor)
    findings = judged([quiet(node) for node in nodes])
    assert codes(findings) == [("XB201", 4)]
    assert findings[0].severity == severity
    assert findings[0].evidence.startswith(f"calibration time {factor:.1f}".rstrip("0").rstrip("."))


def quiet(node: Node) -> Node:
    """The node with an IQR of half a per cent between rounds, as on a dedicated machine."""
    calibration = node.calibration
    assert calibration is not None
    median_s = calibration.median_s
    even = replace(calibration, q1_s=median_s * 0.9975, q3_s=median_s * 1.0025)
    return replace(node, calibration=even)


def test_an_evenly_slow_fleet_differs_from_its_baseline(nodes: list[Node]) -> None:
    """No rank is slower than its peers, but all are slower than the earlier fleet."""
    nodes = [quiet(node) for node in nodes]
    findings = judged([faster(node, 1.3) for node in nodes], baseline=fleet_of(nodes))
    assert codes(findings) == [("XB203", None)]
    assert "1.3×" in findings[0].evidence
    assert judged(nodes, baseline=fleet_of(nodes)) == []


def test_a_baseline_of_a_different_calibration_is_not_compared(nodes: list[Node]) -> None:
    """It is reported as a note."""
    nodes = [quiet(node) for node in nodes]
    older = [replace(node, calibration_version=1) for node in nodes]
    (finding,) = judged([faster(node, 1.3) for node in nodes], baseline=fleet_of(older))
    assert (finding.code, finding.severity) == ("XB203", "note")
    assert "the baseline's is 1: not compared" in finding.evidence


def fleet_of(nodes: list[Node]) -> Fleet:
    """A fleet with these nodes and no findings."""
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


def test_a_slow_host_differs_from_a_slow_device(nodes: list[Node]) -> None:
    """Its calibration workload has the usual speed, its epochs are slower."""
    nodes = [replace(node, trainings=[even(t) for t in node.trainings]) for node in nodes]
    assert judged(nodes) == []
    slow = [replace(t, relative=2 * (t.relative or 1)) for t in nodes[0].trainings]
    nodes[0] = replace(nodes[0], trainings=slow)
    assert codes(judged(nodes)) == [("XB202", 0)]


def even(training: NodeTraining) -> NodeTraining:
    """The training with an IQR of half a per cent between epochs."""
    middle = training.epoch.median_s
    epoch = replace(training.epoch, q1_s=middle * 0.9975, q3_s=middle * 1.0025)
    return replace(training, epoch=epoch)


def test_noise_makes_no_rank_slow() -> None:
    """Three times that agree by chance do not make a fourth slow if all are noisy."""
    assert pace([1.0, 1.001, 1.002, 1.2], [0.2] * 4).slow(1.1) == []
    assert pace([1.0, 1.001, 1.002, 1.2], [0.01] * 4).slow(1.1) == [3]


def test_two_devices_have_no_slow_one() -> None:
    """A vote cannot find the outlier of two."""
    assert pace([1.0, 5.0]).slow(1.1) == []


def test_a_slow_minority_does_not_move_the_scale() -> None:
    """Three of ten ranks at twice the time are all reported."""
    assert pace([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 2.0, 2.1, 1.9]).slow(1.1) == [7, 8, 9]


def test_a_ratio_between_fleets_has_its_interval() -> None:
    """Ten ranks at 1.2 times the time of ten others: the interval contains 1.2."""
    before = pace([1 + n / 1_000 for n in range(10)])
    now = pace([1.2 + n / 1_000 for n in range(10)])
    ratio = ratio_of_medians(now, before)
    assert ratio.low is not None
    assert ratio.high is not None
    assert 1.18 < ratio.low < ratio.value < ratio.high < 1.21


def test_missing_ranks_are_named(nodes: list[Node]) -> None:
    """Only a rank that checked in has a node to isolate."""
    missing = [
        Missing(rank=8, why="never came", came=False),
        Missing(rank=9, node="n9", why="no result in time", came=True),
    ]
    findings = judged(nodes, missing=missing)
    assert codes(findings) == [("XB302", 9), ("XB301", 8)]
    assert cordon(findings) == ["n9"]


def test_a_failed_and_a_stopped_rank_have_different_codes(nodes: list[Node]) -> None:
    """A process that died is a fault of its device; a rank stopped by its launcher is not."""
    nodes[1] = replace(nodes[1], failed=["cpu-…: process p0 died: killed by SIGSEGV"])
    nodes[2] = replace(nodes[2], failed=["stopped after epoch 3"], stopped="SIGTERM")
    assert codes(judged(nodes)) == [("XB303", 1), ("XB305", 2)]


def test_a_bad_record_is_a_finding_about_its_sender(nodes: list[Node]) -> None:
    """It is to be investigated, and the other records are judged."""
    bad = [Bad(sender="rank 8", rank=8, node="n8", reason="not JSON")]
    assert codes(judged(nodes, bad=bad)) == [("XB304", 8)]


def test_sensor_values_are_reported(nodes: list[Node]) -> None:
    """Memory errors isolate, throttling is investigated, heat is a note."""
    nodes[0] = replace(nodes[0], sensors=Sensors(ecc_uncorrected=2, temperature_c=40))
    nodes[1] = replace(nodes[1], sensors=Sensors(throttled=["power"], temperature_c=41))
    nodes[2] = replace(nodes[2], sensors=Sensors(temperature_c=70))
    assert codes(judged(nodes)) == [("XB111", 0), ("XB204", 1), ("XB205", 2)]


def test_every_rank_is_compared_with_the_atlas(nodes: list[Node], healthy: Node) -> None:
    """Recorded bits pass, different ones fail, a new environment is a note."""
    known = {training_name(training): training.weights_sha256 for training in healthy.trainings}
    key = key_name(healthy.key)
    assert judged(nodes, atlas={key: known}) == []
    different = {key: dict.fromkeys(known, "f" * 64)}
    assert {finding.code for finding in judged(nodes, atlas=different)} == {"XB109"}
    new = judged(nodes, atlas={})
    assert {(finding.code, finding.severity) for finding in new} == {("XB110", "note")}


@pytest.mark.parametrize("check", ["atlas", "baseline"])
def test_a_reference_without_these_devices_is_inconclusive(nodes: list[Node], check: str) -> None:
    """Neither the atlas nor the baseline has a device of this fleet."""
    foreign = [replace(node, model="another") for node in nodes]
    more: dict[str, dict[str, Any]] = {
        "atlas": {"atlas": {"another": {}}},
        "baseline": {"baseline": fleet_of(foreign)},
    }
    fleet_data = FleetData(nodes, **more[check])
    verdicts = rules.verdicts(fleet_data, rules.judge(fleet_data))
    assert [v.outcome for v in verdicts if v.check == check and v.subject == "fleet"] == [
        "inconclusive"
    ]


def test_two_scores_have_no_majority(nodes: list[Node]) -> None:
    """If one of two ranks has a lower score, neither is named."""
    fewer = [replace(t, correct=t.correct - 1) for t in nodes[1].trainings]
    two = [nodes[0], replace(nodes[1], trainings=fewer)]
    for order in (two, two[::-1]):
        assert "XB108" not in {finding.code for finding in judged(order)}


def test_a_failed_run_is_not_recorded(healthy: Node) -> None:
    """Failed probes and diverging processes make its digests untrusted."""
    wrong = [Wrong(what="sum", expected="1", actual="2")]
    diverged = [replace(training, diverged=3) for training in healthy.trainings]
    assert not has_failed(healthy)
    assert has_failed(replace(healthy, probes=wrong))
    assert has_failed(replace(healthy, trainings=diverged))


@pytest.mark.parametrize("model", ["$\\x$", "_model"])
def test_any_name_of_a_device_can_be_drawn(nodes: list[Node], model: str) -> None:
    """A name that looks like a formula or a hidden label does not break the report."""
    fleet_data = FleetData([replace(node, model=model) for node in nodes])
    assert "<svg" in draw_ratios(ratios(fleet_data))


def replica(rank: int, epoch_digests: Sequence[str], **more: Any) -> Replica:
    """A rank's replica in a collective training; a letter stands for a digest."""
    return Replica(
        rank=rank, node=f"n{rank}", epoch_digests=[digit * 64 for digit in epoch_digests], **more
    )


def test_the_diverging_replica_is_named_with_its_epoch(nodes: list[Node]) -> None:
    """One of four replicas has different bits from epoch 1 on."""
    replicas = [replica(rank, "abc" if rank != 2 else "aff") for rank in range(4)]
    findings = judged(nodes, replicas=replicas)
    assert codes(findings) == [("XB112", 2)]
    assert findings[0].evidence == "diverges in epoch 1 of 3, 3 replicas agree"


def test_two_diverging_replicas_have_no_majority(nodes: list[Node]) -> None:
    """Both are named, to be investigated."""
    findings = judged(nodes, replicas=[replica(0, "ab"), replica(1, "ac")])
    assert codes(findings) == [("XB113", 0), ("XB113", 1)]


def test_a_collective_far_from_one_process_is_reported(nodes: list[Node]) -> None:
    """Identical replicas may all be wrong: a distance above the limit is a finding."""
    far = [replica(0, "ab", ulps=2 * rules.collective.ULPS), replica(1, "ab")]
    assert codes(judged(nodes, replicas=far)) == [("XB114", None)]
    lost = [replica(0, "ab", ulps=0.5), replica(1, "", failed="no answer within 9 s")]
    assert codes(judged(nodes, replicas=lost)) == [("XB306", 1)]


def test_every_code_occurs_in_a_test() -> None:
    """Each code is seen at least once in this file."""
    tested = Path(__file__).read_text()
    assert [code for code in CODES if f'"{code}"' not in tested] == []


# Validation


def test_records_of_a_node_that_did_not_check_in_are_invalid(nodes: list[Node]) -> None:
    """The finding is about the sender, so a healthy node is not cordoned."""
    forged = replace(flipped(nodes[3], 2), node="n5")
    check_in = CheckIn(rank=3, world=8, node="n3")
    content = msgspec.json.encode([forged])
    assert valid_records(3, msgspec.json.encode([nodes[3]]), check_in) == [nodes[3]]
    bad = valid_records(3, content, check_in)
    assert isinstance(bad, Bad)
    assert (bad.node, bad.reason) == ("n3", "checked in as n3, but sent records of node n5")
    findings = judged([*nodes[:3], *nodes[4:]], bad=[bad])
    assert codes(findings) == [("XB304", 3)]
    assert cordon(findings) == []
    assert isinstance(valid_records(3, content, None), Bad)


@pytest.mark.parametrize("members", [b"garbage", b"\xff", b'["a"]', b"[" * 100_000, b"{}"])
def test_an_invalid_list_of_members_calls_no_rank(members: bytes) -> None:
    """The rank finishes on its own."""
    assert called_ranks(members) == []
    assert called_ranks(b"[0, 3]") == [0, 3]


def test_a_record_cannot_add_a_million_ranks(nodes: list[Node]) -> None:
    """Its number of ranks is one finding; without a majority, the missing ranks are limited."""
    liar = replace(nodes[3], world=1_000_000)
    some = [*nodes[:3], liar, *nodes[4:]]
    assert absent(some, []) == []
    (bad,) = other_worlds(some)
    assert (bad.rank, bad.node) == (3, "n3")
    assert bad.reason == "reports 1,000,000 ranks, most records report 8"
    missing = absent([liar], [])
    assert len(missing) == LISTED
    assert missing[-1].why.endswith("; 999,899 more ranks have none")


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
def test_a_record_outside_the_schema_is_refused(
    healthy: Node, change: dict[str, Any], why: str
) -> None:
    """Invalid names, numbers out of range and unknown fields are refused with a reason."""
    record = {**msgspec.to_builtins(healthy), **change}
    reason = decode(json.dumps(record).encode(), Node)
    assert isinstance(reason, str)
    assert why in reason


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04\x95", b"[" * 100_000, b"{}", b"null", b" " * (LARGEST_MESSAGE + 1)]
)
def test_content_that_is_not_a_record_is_refused_and_never_executed(content: bytes) -> None:
    """Empty content, a pickle, endless brackets and too many bytes each have a reason."""
    assert isinstance(decode(content, Node), str)


# Merging run folders


def rank_folder(quick_folder: Path, fleet: Path, rank: int, world: int) -> Path:
    """A copy of the real run as a rank's folder of a fleet."""
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
    """An altered, a damaged and a missing rank are each named; exit code 1."""
    fleet = tmp_path / "night"
    folders = [rank_folder(quick_folder, fleet, rank, 5) for rank in range(4)]
    with_epochs(folders[1], lambda line: {"digest": "0" * 64} if line["epoch"] >= 7 else {})
    (folders[2] / "run.json").write_text('{"schema_version": 2, "kind": "run"}')
    done = xorbench("fleet", "--merge", "night", "--out", "report", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report" / "fleet.json").read_text())
    findings = {(f["code"], f["node"], f["rank"]) for f in report["findings"]}
    assert {("XB103", "host1", 1), ("XB304", "host2", 2), ("XB301", "", 4)} <= findings
    assert (tmp_path / "report" / "cordon.txt").read_text() == "host1\n"
    assert "from epoch 7 on" in (tmp_path / "report" / "fleet.md").read_text()
    page = (tmp_path / "report" / "fleet.html").read_text()
    assert "XB103" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_one_ordinary_run_is_a_fleet_of_one(
    quick_folder: Path, tmp_path: Path, inside: Xorbench
) -> None:
    """It is compared with golden values, has no peer, and passes."""
    done = inside("fleet", "--merge", str(quick_folder), "--out", "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "XB105" in done.stdout
    assert (tmp_path / "report" / "cordon.txt").read_text() == ""
    again = inside("fleet", "--merge", str(quick_folder), "--out", "report")
    assert (again.returncode, "--out: report already holds a fleet" in again.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fleet", "--merge"], "--merge: needs the run folders"),
        (["fleet", "--merge", "nowhere"], "--merge: no folder 'nowhere'"),
        (["fleet", "--merge", "."], "no run in ."),
        (["fleet", "--merge", ".", "--slow-threshold", "0.5"], "--slow-threshold"),
        (["fleet", "--merge", ".", "--atlas", "none.json"], "--atlas: no file"),
        (["fleet", "--merge", ".", "--baseline", "none.json"], "none.json: cannot read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, inside: Xorbench, tmp_path: Path
) -> None:
    """Nothing is written."""
    done = inside(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_the_interval_of_a_ratio_contains_it() -> None:
    """The ratio of a slow rank among ten lies within its bounds."""
    ratio = pace([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.01, 1.0, 0.99, 2.0]).ratio(9)
    assert math.isclose(ratio.value, 2.0, rel_tol=0.01)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low < 2.0 < ratio.high


# The atlas


def test_the_atlas_recognizes_a_run_and_refuses_different_bits(
    copied: Path, tmp_path: Path, inside: Xorbench
) -> None:
    """A run is new, then known; different bits in its environment are exit 1 and not stored."""
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
    different = inside("fleet", "atlas", "add", copied.name)
    assert different.returncode == 1
    assert f"0000000000000000, recorded {digest[:16]}" in different.stdout
    assert path.read_bytes() == before
    shown = inside("fleet", "atlas", "show")
    assert (shown.returncode, shown.stdout.count(digest[:16])) == (0, 1)


def test_a_different_environment_is_new_to_the_atlas(healthy: Node) -> None:
    """A different version of PyTorch is a separate entry with any bits."""
    first, _ = atlas.add(Atlas(entries={}), [healthy])
    older = replace(healthy, key={**healthy.key, "torch_version": "2.6.0"})
    both, changes = atlas.add(first, [flipped(older, 3)])
    assert {change.outcome for change in changes} == {"new"}
    assert len(both.entries) == 2


def test_an_empty_atlas_is_inconclusive(inside: Xorbench, tmp_path: Path) -> None:
    """It gives exit code 3; a damaged atlas gives exit code 2."""
    assert inside("fleet", "atlas", "show").returncode == 3
    (tmp_path / "bad.json").write_text("{")
    assert inside("fleet", "atlas", "show", "--atlas", "bad.json").returncode == 2


def test_an_unreadable_folder_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs next to it are read; without them the folder is refused."""
    for name in ("shut", "open"):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run" / "run.json").touch()
    scandir = os.scandir

    def refusing(folder: Path) -> Any:
        if Path(folder).name == "shut":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    folders = gather.run_folders([tmp_path])
    assert folders == ([tmp_path / "open" / "run"], [str(tmp_path / "shut")])
    with pytest.raises(BadOption, match="no run in"):
        gather.run_folders([tmp_path / "shut"])
