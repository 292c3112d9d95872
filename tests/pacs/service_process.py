"""The service with a fast engine, as a process: `service_process.py SETTINGS QUERY_SECONDS`. Ends with its input."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from pacs_parts import FakeEngine, fake_render

from sonoseek.io import frame_count, read_scan, read_source_header
from sonoseek.pacs.query import Tools
from sonoseek.pacs.rules import load_config
from sonoseek.pacs.service import Service


def main() -> None:
    engine = FakeEngine(delay_s=float(sys.argv[2]))
    tools = Tools(
        open_engine=lambda: engine,
        read_scan=read_scan,
        frame_count=frame_count,
        read_source_header=read_source_header,
        queried_frame=lambda **values: SimpleNamespace(**values),
        render=fake_render,
    )
    with Service(load_config(Path(sys.argv[1])), tools=tools) as service:
        print(service.listener.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
