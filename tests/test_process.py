"""The process: its protocol, its operations, and its death with the orchestrator."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from filelock import FileLock

from xorbench.process import machine, protocol, sweep_ops
from xorbench.process.operations import OPERATIONS, Session
from xorbench.process.serve import respond
from xorbench.recorder.environment import FIELDS, VARIABLES
from xorbench.recorder.head import head
from xorbench.recorder.options import Options
from xorbench.runtime.process import OperationFailed, Process, ProcessDied, environment, interpreter
from xorbench.runtime.staging import PACKAGES, staged
from xorbench.xor.matrix.case import Case, ProcessConfig, to_dict
from xorbench.xor.matrix.recipe import Recipe


def ask(session: Session, op: str, **args: object) -> dict[str, object]:
    """The answer to one request, served in this process with the real protocol."""
    answer: dict[str, object] = protocol.read(
        respond(OPERATIONS, session, protocol.request(1, op, args))
    )
    return answer


def start(tmp_path: Path, config: ProcessConfig | None = None, timeout_s: float = 60.0) -> Process:
    """A real process."""
    return Process(
        "p0",
        config or ProcessConfig(),
        packages=staged(),
        log=tmp_path / "p0.log",
        timeout_s=timeout_s,
    )


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private folder for staged packages, which the test may damage."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


# Unsupported cases


def test_a_case_with_an_unsupported_setting_is_never_trained() -> None:
    """A process answers with an error, so `run` skips the case and `explain` cannot try it."""
    case, recipe = to_dict(Case(engine="tensor", num_workers=2)), to_dict(Recipe())
    answer = ask(Session(), "open", case=case, recipe=recipe, faults=[])
    error = {"type": "UnsupportedCase", "message": "the tensor engine has no loader workers"}
    assert answer["error"] == error


# The protocol


def test_a_message_is_one_line_of_json() -> None:
    """A request is one line with version, id, op and args, even if a string has line breaks."""
    line = protocol.request(7, "step", {"text": "two\nlines"})
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"v": 1, "id": 7, "op": "step", "args": {"text": "two\nlines"}}


def test_numbers_without_a_json_form_are_sent_as_null() -> None:
    """NaN and infinities become null at any depth; every other float keeps its bits."""
    sent = {"loss": float("nan"), "list": [float("inf"), 0.1 + 0.2]}
    assert protocol.read(protocol.answer(1, sent))["ok"] == {
        "loss": None,
        "list": [None, 0.1 + 0.2],
    }


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"nonsense"])
def test_an_invalid_message_is_an_error(line: bytes) -> None:
    """A line that is not an object with an id raises `ValueError`."""
    with pytest.raises(ValueError, match=r".*"):
        protocol.read(line)


def test_an_unknown_operation_is_an_error() -> None:
    """The answer has the id, the type and the message."""
    answer = ask(Session(), "dance")
    assert answer == {
        "id": 1,
        "error": {"type": "ValueError", "message": "unknown operation 'dance'"},
    }


def test_a_different_protocol_version_is_an_error() -> None:
    """The error names the version of the process."""
    line = json.dumps({"v": 99, "id": 3, "op": "usage", "args": {}}).encode()
    assert b"this process has 1" in respond(OPERATIONS, Session(), line)


def test_a_training_is_opened_stepped_finished_and_closed() -> None:
    """Each operation finds the training by its handle."""
    session = Session()
    opened = ask(session, "open", case=to_dict(Case()), recipe=to_dict(Recipe()), faults=[])["ok"]
    assert isinstance(opened, dict)
    step = ask(session, "step", training=opened["training"])["ok"]
    assert isinstance(step, dict)
    assert set(step) == {"epoch_s", "loss", "digest", "weights", "clock_s"}
    finished = ask(session, "finish", training=opened["training"], with_state=False)["ok"]
    assert isinstance(finished, dict)
    assert finished["weights_sha256"] == step["digest"]
    assert ask(session, "close", training=opened["training"])["ok"] == {}
    assert "error" in ask(session, "step", training=opened["training"])


# The machine


def test_the_machine_is_described_under_collect_envs_names() -> None:
    """The description has versions, threads, instruction set and the variables of kernels."""
    described = machine.describe()
    assert described["torch_version"] == torch.__version__
    assert described["threads"] == torch.get_num_threads()
    assert {"ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"} <= described[
        "environment"
    ].keys()
    assert described.keys() == FIELDS.keys()
    json.dumps(described, allow_nan=False)


def test_runs_sweeps_and_traces_record_the_same_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each records every set variable; a run and a sweep have null for unset ones."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    given = {"PYTHONHASHSEED": "0", "PYTORCH_CUDA_ALLOC_CONF": "a", "NUMBA_CPU_NAME": "generic"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert head(Options(), {})["environment"] == given
    every = dict.fromkeys(VARIABLES) | given
    assert machine.describe()["environment"] == sweep_ops.describe()["environment"] == every


def test_a_trace_describes_its_machine_as_a_run_does() -> None:
    """The same properties have the same names and values."""
    described = head(Options(), {})["machine"]
    assert described == {name: machine.describe()[name] for name in described}
    expected = {"torch_version", "python_version", "numpy_version", "os", "machine"}
    assert expected <= described.keys()


def test_an_unavailable_device_has_a_reason() -> None:
    """The CPU is always available; a missing device is named in its reason."""
    assert machine.unavailable_reason("cpu") is None
    reason = machine.unavailable_reason("xpu:77")
    assert reason is not None
    assert "xpu" in reason


@pytest.mark.gpu
def test_an_accelerator_trains() -> None:
    """One epoch on the accelerator gives a small loss and a full score."""
    if not torch.accelerator.is_available():
        pytest.skip("this machine has no accelerator")
    from xorbench.xor.training.training import Training

    device = torch.accelerator.current_accelerator()
    assert device is not None
    training = Training(Case(device.type), Recipe(epochs=1))
    assert training.step().loss < 1.0
    assert training.finish().test.total == 500


# Real processes


def test_a_process_runs_with_its_config(tmp_path: Path) -> None:
    """The number of threads and the deterministic flag are those of the config."""
    process = start(tmp_path, ProcessConfig(threads=2, deterministic=False))
    try:
        described = process.ask("configure", deterministic=False, threads=2, faults=[])["machine"]
    finally:
        process.stop()
    assert described["threads"] == 2
    assert described["deterministic"] is False
    assert process.popen.returncode == 0


def test_the_users_cublas_workspace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is set only for deterministic processes, and never overridden."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert environment(ProcessConfig(), Path())["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in environment(ProcessConfig(deterministic=False), Path())
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert environment(ProcessConfig(), Path())["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("name", "given", "reaches"),
    [
        ("PYTHONPATH", "hooks", "{packages}:{here}/hooks"),
        ("PYTHONPATH", "/opt/a::b/../c:", "{packages}:/opt/a:{here}:{here}/b/../c:{here}"),
        ("PYTHONPATH", "", "{packages}"),
        ("PATH", "bin:/usr/bin", "{here}/bin:/usr/bin"),
        ("LD_LIBRARY_PATH", "lib", "{here}/lib"),
        ("LD_LIBRARY_PATH", "", ""),
        ("LD_PRELOAD", "./a.so libc.so.6:/b.so", "{here}/a.so libc.so.6:/b.so"),
        ("TMPDIR", "tmp", "{here}/tmp"),
    ],
)
def test_relative_paths_are_made_absolute_for_the_process(
    name: str, given: str, reaches: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process runs in a different folder; an empty entry is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, given)
    expected = reaches.format(here=tmp_path, packages="/packages")
    assert environment(ProcessConfig(), Path("/packages"))[name] == expected


def test_without_a_pythonpath_it_has_only_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is not added, and a relative path of the packages is made absolute."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert environment(ProcessConfig(), Path("packages"))["PYTHONPATH"] == str(
        Path("packages").absolute()
    )


def test_a_variable_of_a_config_is_made_absolute_too() -> None:
    """`--env` sets such a variable."""
    values = environment(ProcessConfig(env=("LD_LIBRARY_PATH=lib",)), Path("/packages"))
    assert values["LD_LIBRARY_PATH"] == str(Path("lib").absolute())


def test_a_process_needs_only_its_own_packages(tmp_path: Path) -> None:
    """It imports xorbench from the staged folder, which contains no other package."""
    folder = staged() / "xorbench"
    places = [folder / place for place in PACKAGES]
    files = {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {f for f in files if not any(f.is_relative_to(place) for place in places)} == set()
    script = "import xorbench, xorbench.process.operations; print(xorbench.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(ProcessConfig(), staged()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(staged())


def test_a_damaged_staged_folder_is_made_again(own_cache: Path) -> None:
    """A change of a staged file is detected and undone."""
    assert staged().is_relative_to(own_cache)
    victim = staged() / "xorbench" / "xor" / "matrix" / "recipe.py"
    whole = victim.read_bytes()
    victim.write_bytes(b"raise SystemExit")
    assert staged() / "xorbench" / "xor" / "matrix" / "recipe.py" == victim
    assert victim.read_bytes() == whole


def test_an_unknown_file_in_the_staged_folder_is_removed(own_cache: Path) -> None:
    """Otherwise it could be imported in place of PyTorch."""
    unknown = staged() / "torch.py"
    assert unknown.is_relative_to(own_cache)
    unknown.write_text("raise SystemExit")
    assert staged() == unknown.parent
    assert not unknown.exists()


def test_a_copy_just_made_by_another_run_is_kept(own_cache: Path) -> None:
    """If two runs start together, the second waits and uses the copy of the first."""
    folder = staged()
    assert folder.is_relative_to(own_cache)
    aside = folder.rename(folder.with_name("aside"))
    with ThreadPoolExecutor() as second:
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            waiting = second.submit(staged)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
            aside.rename(folder)
            made = folder.stat().st_ino
        assert waiting.result(timeout=60) == folder
    assert folder.stat().st_ino == made


def test_a_request_to_a_dead_process_is_an_error(tmp_path: Path) -> None:
    """It raises `ProcessDied` and touches no descriptor."""
    process = start(tmp_path)
    process.kill()
    with pytest.raises(ProcessDied, match="already died"):
        process.ask("usage")


def test_a_process_dies_with_the_orchestrator(tmp_path: Path) -> None:
    """When the lifeline closes, the process is killed."""
    process = start(tmp_path)
    process.ask("usage")
    running = psutil.Process(process.popen.pid)
    os.close(process._lifeline)
    process._lifeline = -1
    assert running.wait(timeout=10) == -signal.SIGKILL
    process.kill()


def test_a_late_answer_kills_the_process(tmp_path: Path) -> None:
    """Without an answer within the time-out, the error names the time-out."""
    process = start(tmp_path, timeout_s=0.01)
    process.ask("usage")  # the first answer has time to import PyTorch
    with pytest.raises(ProcessDied, match=r"no answer within 0\.01 s"):
        process.ask("universal", device="cpu")  # half a second of work
    assert not process.alive()


def test_a_failed_operation_leaves_the_process_alive(tmp_path: Path) -> None:
    """The error is reported, and logged with its traceback."""
    process = start(tmp_path)
    try:
        with pytest.raises(OperationFailed, match="KeyError: 5"):
            process.ask("step", training=5)
        assert process.ask("usage")["peak_rss_bytes"] > 0
    finally:
        process.stop()
    assert "Traceback" in (tmp_path / "p0.log").read_text()


def test_a_long_error_is_truncated_and_whole_in_the_log(tmp_path: Path) -> None:
    """A compiler's 9,000 lines are one line in a verdict, which names the log."""
    process = start(tmp_path)
    long = "no kernel for this\n" * 9_000
    try:
        with pytest.raises(OperationFailed) as raised:
            process.ask(long)
    finally:
        process.stop()
    message = str(raised.value)
    assert len(message) < 400
    assert message.startswith("ValueError: unknown operation 'no kernel for this")
    assert message.endswith("characters in p0.log)")
    assert "for this" * 2 not in message
    log = (tmp_path / "p0.log").read_text()
    assert log.count("no kernel for this") >= 9_000


def test_the_output_of_a_process_is_in_its_log(tmp_path: Path) -> None:
    """Its standard output and error are not those of the orchestrator."""
    process = start(tmp_path)
    with pytest.raises(OperationFailed):
        process.ask("dance")
    process.kill()
    assert "unknown operation" in (tmp_path / "p0.log").read_text()


def test_stopping_frees_every_descriptor(tmp_path: Path) -> None:
    """After three processes, no pipe is left open."""
    before = psutil.Process().num_fds()
    for _ in range(3):
        start(tmp_path).kill()
    assert before == psutil.Process().num_fds()


def test_a_config_chooses_interpreter_and_variables() -> None:
    """A process runs in the config's Python, with its variables set or removed."""
    config = ProcessConfig(python="other=/opt/other/bin/python", env=("NEW=1", "HOME="))
    values = environment(config, Path())
    assert interpreter(config) == "/opt/other/bin/python"
    assert (values["NEW"], "HOME" in values) == ("1", False)
