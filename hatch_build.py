"""Builds the reading room's page into the package, where it is not there yet and Node is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):  # type: ignore[type-arg]  # its configuration is of no use here
    """Without Node the package is complete but for the page: `sonoseek serve` then says how to get it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling. An editable install leaves the page to `make page`."""
        del build_data
        root = Path(self.root)
        if version == "editable" or (root / "src/sonoseek/apps/web/page/index.html").is_file():
            return
        npm = shutil.which("npm")
        if npm is None or not (root / "frontend/package-lock.json").is_file():
            self.app.display_warning("no Node: the package is built without the reading room's page")
            return
        for arguments in (
            ["ci", "--ignore-scripts", "--no-progress", "--loglevel=error"],
            ["run", "--silent", "build"],
        ):
            subprocess.run([npm, "--prefix", str(root / "frontend"), *arguments], check=True)
