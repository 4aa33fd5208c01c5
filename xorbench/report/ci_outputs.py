"""CI output files: opened before the work starts, written at its end."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xorbench.errors import BadOption, why
from xorbench.records.files import write_whole
from xorbench.verdicts import Verdict

if TYPE_CHECKING:  # slow: it imports pandas and SciPy, which are needed only at the end
    from xorbench.report.content import Content

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
LARGEST_SUMMARY = 1024 * 1024  # bytes; GitHub's limit per step


@dataclass(frozen=True, slots=True)
class Exports:
    """The requested output files for verdicts and tables; None if not requested."""

    junit: Path | None = None
    markdown: Path | None = None
    summary: Path | None = None

    def write(
        self,
        verdicts: Sequence[Verdict],
        name: str,
        whole: Callable[[], str],
        brief: Callable[[], str],
    ) -> str:
        """Write the requested files; the result is why the step summary could not be written."""
        if self.junit:
            from xorbench.report.junit import junit

            _write(self.junit, "--junit", junit(verdicts, name))
        if self.markdown:
            _write(self.markdown, "--markdown", whole())
        if self.summary:
            try:
                with self.summary.open("ab") as file:
                    file.write(_cut(brief()).encode())
            except OSError as error:
                return f"{SUMMARY_VARIABLE}: cannot write: {why(error)}"
        return ""


def _cut(text: str) -> str:
    if len(text.encode()) < LARGEST_SUMMARY:
        return text
    return text.encode()[: LARGEST_SUMMARY // 2].decode(errors="ignore") + "\n\n(cut short)\n"


def opened(junit: str | None, markdown: str | None) -> Exports:
    """The requested exports; raises `BadOption` for a file that cannot be written."""
    summary = os.environ.get(SUMMARY_VARIABLE)
    return Exports(
        junit=_writable("--junit", junit),
        markdown=_writable("--markdown", markdown),
        summary=Path(summary) if summary else None,
    )


def write_page(text: str, content: "Content") -> None:
    """The content as a page in a file; raises `BadOption` if it cannot be written."""
    from xorbench.report import page  # slow: it imports the drawing code

    path = _writable("--html", text)
    if path:
        _write(path, "--html", page.html(content))


def _writable(option: str, text: str | None) -> Path | None:
    """The file, if it can be written; a file created by the attempt is removed."""
    if text is None:
        return None
    path = Path(text)
    try:
        is_new = not os.path.lexists(path)
        path.open("ab").close()
        if is_new:
            path.unlink()
        return path
    except (OSError, ValueError) as error:
        raise _cannot(option, text, error) from None


def _write(path: Path, option: str, text: str) -> None:
    if not _is_in_place(path):
        write_whole(path, text.encode())
        return
    try:
        path.write_bytes(text.encode())
    except OSError as error:
        raise _cannot(option, str(path), error) from None


def _is_in_place(path: Path) -> bool:
    """Whether it must be written in place, as a pipe or a link such as /dev/stdout must."""
    is_special = path.is_symlink() or (path.exists() and not path.is_file())
    return is_special or not os.access(path.parent, os.W_OK)


def _cannot(option: str, text: str, error: Exception) -> BadOption:
    return BadOption(f"{option}: cannot write to {ascii(text)[:80]}: {why(error)}")
