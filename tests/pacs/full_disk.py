"""A state folder on a disk of 6 MiB, which runs full: `unshare -rm python full_disk.py FOLDER`. Prints JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from pacs_parts import association, fake_tools, picture, stored_files, wait_for, write_settings

from sonoseek.core import SonoseekError
from sonoseek.pacs.rules import load_config
from sonoseek.pacs.service import Service


def main() -> None:
    folder = Path(sys.argv[1])
    state = folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", state], check=True)
    settings = write_settings(folder, rule="quiet_seconds = 600")
    settings.write_text(settings.read_text().replace("min_free_mb = 1", "min_free_mb = 0"))
    config = load_config(settings)
    statuses, acknowledged = [], set()
    with Service(config, tools=fake_tools()) as service:
        with association(service.listener.port) as assoc:
            for _ in range(8):
                sent = picture(side=1000)
                statuses.append(int(assoc.send_c_store(sent).Status))
                if statuses[-1] == 0:
                    acknowledged.add(sent.SOPInstanceUID)
        wait_for(lambda: not stored_files(state / "incoming"))
        rows = {row[0] for row in service.journal.database.all("SELECT sop_uid FROM received")}
        stored_files(state / "received")[0].unlink()
        with association(service.listener.port) as assoc:
            again = int(assoc.send_c_store(picture(side=200)).Status)
    for part in state.glob("journal*"):
        part.unlink()
    with contextlib.suppress(OSError), (state / "filler").open("wb", buffering=0) as out:
        while True:
            out.write(b"x" * 4096)
    try:
        Service(config, tools=fake_tools()).stop()
        start = "started"
    except (OSError, SonoseekError) as error:
        start = f"{type(error).__name__}: {error}"
    print(json.dumps({"statuses": statuses, "lost": sorted(acknowledged - rows), "again": again, "start": start}))


if __name__ == "__main__":
    main()
