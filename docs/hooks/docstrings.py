"""Docstrings on the site: roles of Sphinx are code, and defaults are those of their text."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>(~?)([\w.]+)</code>")
DEFAULT = re.compile(r",\s*default:\s*<code>.*?</code>\s*(?=\))", re.DOTALL)
"""What the parser takes as a default: of a set of choices always the first, which is not ours."""


def plain(html: str) -> str:
    """Return a page's HTML without them; of a name after a tilde, the last part stays."""
    html = DEFAULT.sub("", html)
    return ROLE.sub(lambda m: f"<code>{m[2].rpartition('.')[2] if m[1] else m[2]}</code>", html)


def on_page_content(html: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return plain(html)
