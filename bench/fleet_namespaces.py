"""Four network namespaces as four hosts, one of which is disconnected. Needs root and Linux.

Each host runs one rank like srun, with its own host name and address on a bridge. The link of the
last host is taken down during its training. Prints the result of the fleet; the exit code is 1
unless the disconnected host is named as missing, and the others are judged.

    sudo python bench/fleet_namespaces.py
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

HOSTS: Final = 4
BRIDGE: Final = "xorbench0"
NETWORK: Final = "10.213.77"
PORT: Final = "29577"
SMALL: Final = ("--epochs", "20", "--batch-sizes", "128", "--deadline", "45", "--timeout", "60")


def ip(*arguments: str) -> None:
    """Run an `ip` command. Raises `CalledProcessError`."""
    subprocess.run(["ip", *arguments], check=True)


def name(rank: int) -> str:
    """The name of the namespace and of its host."""
    return f"xbhost{rank}"


def build() -> None:
    """Create a bridge, and a linked namespace for every host."""
    ip("link", "add", BRIDGE, "type", "bridge")
    ip("link", "set", BRIDGE, "up")
    for rank in range(HOSTS):
        host, outer = name(rank), f"xbveth{rank}"
        ip("netns", "add", host)
        ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", host)
        ip("link", "set", outer, "master", BRIDGE, "up")
        ip("-n", host, "address", "add", f"{NETWORK}.{rank + 1}/24", "dev", "eth0")
        ip("-n", host, "link", "set", "eth0", "up")
        ip("-n", host, "link", "set", "lo", "up")


def tear_down() -> None:
    """Remove bridge and namespaces if they exist."""
    for rank in range(HOSTS):
        subprocess.run(["ip", "netns", "del", name(rank)], check=False, capture_output=True)
    subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)


def start(rank: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start one rank in its host, with its host name in a separate UTS namespace."""
    place = {"RANK": str(rank), "WORLD_SIZE": str(HOSTS), "LOCAL_RANK": "0"}
    address = {"MASTER_ADDR": f"{NETWORK}.1", "MASTER_PORT": PORT, "GLOO_SOCKET_IFNAME": "eth0"}
    words = [sys.executable, "-m", "xorbench", "fleet", "--out", str(folder / "fleet"), *SMALL]
    script = f'hostname {name(rank)} && exec "$@"'
    inside = ["ip", "netns", "exec", name(rank), "unshare", "--uts", "sh", "-c", script, "sh"]
    with (folder / f"log{rank}").open("wb") as log:
        return subprocess.Popen(
            [*inside, *words], env={**os.environ, **place, **address}, stdout=log, stderr=log
        )


def training(folder: Path, rank: int) -> bool:
    """Whether the rank has trained an epoch."""
    files = list(folder.glob(f"fleet/rank{rank}/runs/*/epochs.jsonl"))
    return bool(files) and files[0].stat().st_size > 0


def main() -> int:
    """Start the ranks, disconnect the last, and print the result."""
    last = HOSTS - 1
    tear_down()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            build()
            ranks = [start(rank, folder) for rank in range(HOSTS)]
            while not training(folder, last) and ranks[0].poll() is None:
                time.sleep(0.05)
            ip("link", "set", f"xbveth{last}", "down")
            print(f"{name(last)} is disconnected during its training")
            code = ranks[0].wait()
        finally:
            for process in ranks:
                process.kill()
                process.wait()
            tear_down()
        print((folder / "log0").read_text())
        report = json.loads((folder / "fleet" / "fleet.json").read_text())
    missing = [(rank["rank"], rank["node"]) for rank in report["missing"]]
    judged = sorted(node["node"] for node in report["nodes"])
    print(f"exit {code}; missing {missing}; judged {', '.join(judged)}")
    expected = [name(rank) for rank in range(last)]
    return int((missing, judged) != ([(last, name(last))], expected))


if __name__ == "__main__":
    sys.exit(main())
