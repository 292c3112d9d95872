"""Print the OpenAPI document of the server.

python -m sonoseek.apps.web.openapi            # all of it
python -m sonoseek.apps.web.openapi --schemas  # without the operations: for the types of the page
"""

from __future__ import annotations

import json
import sys
from typing import Any

from sonoseek.apps.web.app import create_api


def schemas_only(full: dict[str, Any]) -> dict[str, Any]:
    """The document without operations, version and titles; arrays of two are written as tuples."""

    def plain(part: Any) -> Any:
        if not isinstance(part, dict):
            return [plain(each) for each in part] if isinstance(part, list) else part
        part = {key: plain(value) for key, value in part.items() if key != "title" or isinstance(value, dict)}
        if part.get("minItems") == part.get("maxItems") == 2:
            item = part.pop("items", None)
            return {"type": "array", "prefixItems": part.get("prefixItems") or [item, item]}
        return part

    components = {"schemas": plain(full["components"]["schemas"])}
    info = {"title": full["info"]["title"], "version": "0"}
    return {"openapi": full["openapi"], "info": info, "paths": {}, "components": components}


def main() -> None:
    """Print the document; with `--schemas` its schemas alone."""
    made = create_api().openapi()
    if "--schemas" in sys.argv[1:]:
        made = schemas_only(made)
    sys.stdout.write(f"{json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True)}\n")


if __name__ == "__main__":
    main()
