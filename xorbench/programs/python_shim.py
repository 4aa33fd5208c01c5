"""`python` and `python3` first on PATH, for programs that replace PYTHONPATH.

A script that runs `PYTHONPATH=src python train.py` removes the recorder, which is loaded through
PYTHONPATH. The shim puts it back and starts the interpreter that is next on PATH. It does not see
an absolute path, nor the environment that a script activates.
"""

import os
import shlex
import shutil
from pathlib import Path
from typing import Final

NAMES: Final = ("python", "python3")
SCRIPT: Final = """#!/bin/sh
site={site}
here={here}
name=${{0##*/}}
case ":$PYTHONPATH:" in
  *":$site:"*) ;;
  *) PYTHONPATH=$site${{PYTHONPATH:+:$PYTHONPATH}}; export PYTHONPATH ;;
esac
rest=$PATH:
while [ -n "$rest" ]; do
  folder=${{rest%%:*}}
  rest=${{rest#*:}}
  found=${{folder:-.}}/$name
  if [ "$folder" != "$here" ] && [ -x "$found" ] && [ ! -d "$found" ]; then
    exec "$found" "$@"
  fi
done
echo "$name: not found" >&2
exit 127
"""


def with_shim(path: str, folder: Path, site: Path) -> str:
    """Write the shim into a folder; gives the PATH that begins with it.

    Only the names that are on PATH get one. `site` is the folder that leads PYTHONPATH.
    """
    names = [name for name in NAMES if shutil.which(name, path=path)]
    if not names:
        return path
    folder.mkdir(parents=True)
    text = SCRIPT.format(site=shlex.quote(str(site)), here=shlex.quote(str(folder)))
    for name in names:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return os.pathsep.join([str(folder), path])
