"""`report`: make the tables of a run again, from its files alone."""

from pathlib import Path

from xorbench.errors import BadFile
from xorbench.judge.checks import exit_code, judge
from xorbench.observe import store as files
from xorbench.observe.store import RunStore
from xorbench.report import runs
from xorbench.verbs.files import Outcome, write_reports


def report(root: Path, text: str) -> tuple[Outcome, str]:
    """Judge a run anew and rewrite its reports; the text says why where they cannot be written."""
    folder = files.find(root, text)
    run = files.load(folder)
    verdicts = judge(run)
    content = runs.content(run, verdicts)
    trouble = ""
    try:
        write_reports(RunStore(folder, anonymous=run.info.anonymous, lock=False), content)
    except BadFile as error:
        trouble = error.message
    return Outcome(folder, content, exit_code(verdicts)), trouble
