"""Fill the places of pages that are generated: `<!-- generated: NAME -->` on a line of its own."""

from __future__ import annotations

import re
from typing import Any

import commands
import gallery
import results

PARTS = {"commands": commands.markdown, "gallery": gallery.markdown, **results.TABLES}
"""What can be generated, by name: functions that return Markdown."""
PLACE = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)


def filled(text: str) -> str:
    """Return a page with its places filled; a name that is not known is a KeyError."""
    return PLACE.sub(lambda match: PARTS[match[1]](), text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return filled(markdown)
