"""Secrets and paths in records and reports, and environments that once caused a traceback."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import command, run_in

from xorbench.recorder.entry import Presence, written_outside
from xorbench.recorder.masking import MASK, encodable, masked, masked_words, secret_values
from xorbench.records import trace as traces
from xorbench.records.cleaning import clean
from xorbench.records.ended import Ended
from xorbench.records.redaction import Names, Sharing, shown_command
from xorbench.runtime import working_folder

SECRET_WORDS = [
    "--api-key=S3CRET", "--api_key S3CRET", "--apikey=S3CRET", "--openai-key S3CRET",
    "--token S3CRET", "--hf-token=S3CRET", "--use-auth-token S3CRET", "--access-token=S3CRET",
    "--password S3CRET", "--db-pass S3CRET", "--passwd=S3CRET", "--db.password=S3CRET",
    "--secret S3CRET", "--client-secret=S3CRET", "--credential S3CRET", "--auth bob:S3CRET",
    "--key S3CRET", "--private-key=S3CRET", "-password S3CRET", "--login bob:S3CRET",
    "-u bob:S3CRET", "--user=bob:S3CRET",
    "API_KEY=S3CRET", "HF_TOKEN=S3CRET", "PGPASSWORD=S3CRET", "AWS_SECRET_ACCESS_KEY=S3CRET",
    "AWS_ACCESS_KEY_ID=S3CRET", "GITHUB_PAT=S3CRET", "apiKey=S3CRET", "SECRET_KEY_BASE=S3CRET",
    "-e WANDB_API_KEY=S3CRET", "-eNPM_TOKEN=S3CRET", "--env=API_TOKEN=S3CRET",
    "model.api_key=S3CRET", "+trainer.token=S3CRET",
    "https://user:S3CRET@host/path", "https://S3CRET@github.com/a/b", "postgres://u:p@S3CRET@db:5/x",
    "redis://:S3CRET@cache", "https://host/x?lr=1&api_key=S3CRET&a=b", "https://host/x?sig=S3CRET",
]  # fmt: skip
SHAPES = [
    "sk-proj-abcDEF123456", "sk-ant-api03-abcdef", "ghp_abcdefghijklmnop", "github_pat_11ABCDEFG0",
    f"hf_{'a' * 34}", "AKIAIOSFODNN7EXAMPLE", "xoxb-123456789-abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "glpat-abcdefghij123", "Bearer abcdef123456",
]  # fmt: skip
VISIBLE = [
    "--max-tokens 128", "--num-tokens=5", "--tokens 5000", "--tokenizer gpt2", "--key-dim 64",
    "--author bob", "--authors bob", "--monkey x", "--turkey x", "--hotkey x", "--eos-token end",
    "--pad-token-id 0", "--sort-key loss", "--num-keys 4", "--keys a,b", "--key-padding-mask x",
    "--query-key-norm 1", "--num-key-value-heads 8", "--password-file p.txt", "--auth-type basic",
    "--no-password data.csv", "--use-auth true", "--token-type bpe", "--forward-pass x",
    "--passes 3", "--compass x", "--secretary x", "--tiktoken cl100k", "MAX_TOKENS=5", "PWD=folder",
    "TOKENIZERS_PARALLELISM=false", "--name sk-learn-contrib-0.3", "hf_transfer_enabled",
    "http://host:8080/a@b", "git@github.com:a/b", "ssh://git@github.com/a", "task-sk-abc",
    "-u 1000:1000", "-u train.py", "--user bob", "--task-key cola", "--train-key image",
    "--eval-key x", "--score-key s", "--attention-key k", "--eot-token end", "--clip-token 77",
    "--patience 3", "--lr 0.1", "--api-key=$API_KEY",
]  # fmt: skip


@pytest.mark.parametrize("text", SECRET_WORDS)
def test_a_secret_is_masked_as_words_and_within_a_text(text: str) -> None:
    """The rest of the text is unchanged, and masking again changes nothing."""
    words = ["python", "train.py", *text.split(), "--lr", "3"]
    for shown in (shlex.join(masked_words(words)), masked(f"ran: {shlex.join(words)}")):
        assert "S3CRET" not in shown
        assert MASK in shown
        assert shown.endswith("--lr 3")
        assert masked(shown) == shown


@pytest.mark.parametrize("text", SHAPES)
def test_a_secret_of_a_known_shape_is_masked_wherever_it_is(text: str) -> None:
    """As a word of a command, and in a sentence."""
    secret = text.removeprefix("Bearer ")
    assert secret not in " ".join(masked_words(["train.py", text]))
    assert secret not in masked(f"ValueError: wrong: {text}, try again")


@pytest.mark.parametrize("text", VISIBLE)
def test_harmless_options_are_not_masked(text: str) -> None:
    """Nothing is masked, neither in words nor in a text."""
    assert masked_words(text.split()) == text.split()
    assert masked(f"ran train.py {text} again") == f"ran train.py {text} again"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Namespace(api_key='a b', lr=3)", "Namespace(api_key='MASKED', lr=3)"),
        ('{"password": "x y", "key": "v"}', '{"password": "MASKED", "key": "v"}'),
        ("Authorization: Basic dXNlcjpw", "Authorization: MASKED"),
        ("sh -c \"t --password 'a b' --lr 3\"", "sh -c \"t --password 'MASKED' --lr 3\""),
        ("error: argument --token: expected one", "error: argument --token: expected one"),
        ("use --token to log in", "use --token to log in"),
        ("sorted(names, key=len)", "sorted(names, key=len)"),
        ("KeyError: 'api_key'", "KeyError: 'api_key'"),
    ],
)
def test_texts_of_programs_are_masked_by_the_same_rule(text: str, shown: str) -> None:
    """The texts of exceptions, argument parsers and source lines."""
    assert masked(text) == shown


def test_the_secret_values_of_a_command_and_its_variables_are_listed() -> None:
    """They are also removed from output without their names."""
    words = ("train.py", "--password", "hunter2", "https://u:pass-word@h", "--api-key", "abc")
    values = secret_values(words, {"HF_TOKEN": "hf-value", "HOME": "/home/bob"})
    assert sorted(values) == ["hf-value", "hunter2", "pass-word"]


def test_a_command_is_shown_without_secrets_and_bytes() -> None:
    """A byte that is not UTF-8 is shown as an escape sequence."""
    assert shown_command(["t.py", "--token", "a", "\udcff"]) == r"t.py --token MASKED '\xff'"
    assert encodable("plain") == "plain"


def test_shared_texts_have_relative_paths_and_no_home() -> None:
    """Paths are relative, begin with ~, or keep the last part; names are removed on request."""
    names = Names(("/home/bob",), ("bob",), ("node1",))
    text = "/home/bob/w/a.py, /home/bob/x, /srv/data/y, '/srv/my data/z', bob, node1, file:///srv/q"
    plain = Sharing(names, "/home/bob/w").text(text)
    assert plain == "a.py, ~/x, y, 'z', bob, node1, q"
    anonymous = Sharing(names, "/home/bob/w", anonymous=True).text(text)
    assert anonymous == "a.py, ~/x, y, 'z', <user>, <host>, q"


def test_a_run_is_cleaned_of_names(tmp_path: Path) -> None:
    """In outputs, arguments, source lines, and files written outside the folder."""
    records = tmp_path / "records"
    records.mkdir()
    (tmp_path / "stdout.txt").write_text("bob at node1 in /home/bob/w, token hunter2\n")
    kept = tmp_path / "kept.bin"
    kept.touch()
    events = [
        {"pid": 1, "event": "python", "argv": ["/home/bob/bin/python", "t.py"]},
        {"pid": 1, "event": "outside", "path": str(kept)},
        {"pid": 1, "event": "outside", "path": "/home/bob/gone.bin"},
    ]
    (records / "presence.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in events))
    head = {"schema_version": 3, "process": {"argv": ["t.py", "bob"]}, "machine": {}}
    step = {
        "step": 0,
        "events": [["operator", "0", "d", {"name": "bob", "where": "/home/bob/t:1"}]],
    }
    lines = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in (head, step))
    (records / "1-1.jsonl").write_text(lines)
    clean(tmp_path, ["--token", "hunter2"], {}, Names(("/home/bob",), ("bob",), ("node1",)))
    assert (tmp_path / "stdout.txt").read_text() == "<user> at <host> in ~/w, token MASKED\n"
    present = traces.presence(records)
    assert present[0].argv == ["~/bin/python", "t.py"]
    assert [line.path for line in present[1:]] == ["kept.bin"]
    assert traces.is_kept_outside(present[1])
    made = [json.loads(line) for line in (records / "1-1.jsonl").read_text().splitlines()]
    assert made[0]["process"]["argv"] == ["t.py", "<user>"]
    assert made[1]["events"][0][3] == {"name": "bob", "where": "~/t:1"}


def test_the_end_of_an_output_and_names_of_processes_are_masked(tmp_path: Path) -> None:
    """An answer quotes them."""
    (tmp_path / "stderr.txt").write_text("ValueError: no access: --api-key=S3CRET\n")
    left = ["serve --token S3CRET"]
    ended = Ended(number=1, folder=tmp_path, how="ended", code=1, wall_s=1.0, left=left)
    assert ended.last_lines() == ["ValueError: no access: --api-key=MASKED"]
    assert ended.left == ["serve --token MASKED"]


def test_a_file_outside_with_a_name_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    """Its line shows an escape sequence and still leads to the file."""
    folder, inside = tmp_path / "records", tmp_path / "work"
    folder.mkdir()
    inside.mkdir()
    name = os.fsencode(tmp_path) + b"/out\xff.bin"
    hook = written_outside(str(inside), str(folder), Presence(str(folder)))
    with open(name, "wb"):  # noqa: PTH123 - a path of bytes
        hook("open", (name, "wb", 0))
    (event,) = traces.presence(folder)
    assert event.path == f"{tmp_path}/out\\xff.bin"
    assert traces.is_kept_outside(event)
    os.unlink(name)  # noqa: PTH108
    assert not traces.is_kept_outside(event)


def test_records_that_were_deleted_are_reported(tmp_path: Path) -> None:
    """The message names the folder; without Python in the run, the folder is just empty."""
    ended = Ended(number=1, folder=tmp_path, how="ended", code=0, wall_s=1.0)
    assert ended.lost_records == f"the records were deleted during the run: {ended.records}"
    ended.records.mkdir()
    (ended.records / "presence.jsonl").touch()
    assert ended.lost_records == ""


# Environments

NO_USER = """
import pwd
def missing(*_):
    raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = missing
"""


@pytest.mark.parametrize("words", [("list",), ("env", "--anonymous"), ("check", "--help")])
def test_a_user_without_home_and_entry_starts_every_command(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """As in a container with a numeric user id; no folder `~` is made."""
    (tmp_path / "sitecustomize.py").write_text(NO_USER)
    gone = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "MPLCONFIGDIR")
    kept = {name: value for name, value in os.environ.items() if name not in gone}
    done = run_in(tmp_path, *words, env={**kept, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "~").exists()


def test_a_check_starts_without_a_home(tmp_path: Path) -> None:
    """A check that cannot record its command answers in one line."""
    (tmp_path / "sitecustomize.py").write_text(NO_USER)
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER")}
    environment = {**kept, "PYTHONPATH": str(tmp_path)}
    done = run_in(tmp_path, "check", "--", "true", env=environment)
    assert done.returncode == 3
    assert "no Python interpreter loaded the recorder" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words", [("--help",), ("check", "--help"), ("fleet", "atlas", "add", "--help")]
)
def test_help_has_its_text_without_docstrings(words: tuple[str, ...], tmp_path: Path) -> None:
    """It is the same with PYTHONOPTIMIZE=2."""
    plain, optimized = (
        run_in(tmp_path, *words, env={**os.environ, "PYTHONOPTIMIZE": level}) for level in "02"
    )
    assert plain.stdout == optimized.stdout
    assert len(plain.stdout.split("Options:")[0]) > 60


@pytest.mark.parametrize(
    "words",
    [
        (b"check", b"--out", b"\xff", b"--", b"true"),
        (b"check", b"--name", b"\xff", b"--", b"true"),
        (b"check", b"--steps", b"\xff", b"--", b"true"),
        (b"check", b"--", b"\xff"),
        (b"\xff",),
        (b"report", b"\xff"),
    ],
)
def test_an_argument_that_is_not_utf8_is_refused_in_one_line(
    words: tuple[bytes, ...], tmp_path: Path
) -> None:
    """Exit code 2, no traceback."""
    line = [*map(os.fsencode, command()), *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"xorbench: ")
    assert b"Traceback" not in done.stderr


def test_a_command_with_such_an_argument_is_checked(tmp_path: Path) -> None:
    """The command gets the bytes; the reports show an escape sequence."""
    script = "import os, sys; assert os.fsencode(sys.argv[1]) == b'a\\xff'"
    python = os.fsencode(sys.executable)
    words = [b"check", b"--markdown", b"m.md", b"--", python, b"-c", script.encode(), b"a\xff"]
    line = [*map(os.fsencode, command()), *words]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, b"no process imported PyTorch" in done.stdout) == (3, True)
    assert r"a\\xff" in (tmp_path / "m.md").read_text()


DEPTH = 1_200


def _nested(folder: Path, name: str, depth: int) -> None:
    script = f"import os\nfor _ in range({depth}):\n    os.mkdir({name!r}); os.chdir({name!r})\n"
    script += "open('deepest', 'w').close()"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


def test_a_folder_nested_deeply_is_copied_and_removed(tmp_path: Path) -> None:
    """At any depth, without recursion."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    _nested(source, "d", DEPTH)
    plan = working_folder.planned(source, (), (), tmp_path / "own", 10**9)
    assert (len(plan.folders), len(plan.files)) == (DEPTH, 1)
    working_folder.copy(plan, target)
    assert [path for path, _ in working_folder.files_in(target)] == [f"{'d/' * DEPTH}deepest"]
    for folder in (source, target):
        working_folder.remove(folder)
        assert not folder.exists()


def test_a_path_that_is_too_long_is_one_line_and_can_be_removed(tmp_path: Path) -> None:
    """Planning a copy names the folder; the same path made in a copy is removed with it."""
    work = tmp_path / "work"
    work.mkdir()
    _nested(work, "long" * 50, 40)
    done = run_in(work, "check", "--", "true")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    assert "cannot read: file name too long" in done.stderr
    working_folder.remove(work)
    assert not work.exists()
