"""Drawings are put into the page itself, so that they follow its dark or light colours."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
IMAGE = re.compile(r'<p><img alt="([^"]*)" src="([^"]+\.svg)" ?/?></p>')
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
DARK = re.compile(r"@media \(prefers-color-scheme: dark\) \{((?:[^{}]*\{[^{}]*\})*)\s*\}")
RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")


def inlined(html: str, url: str) -> str:
    """Return a page's HTML with its drawings in place of their images."""
    style = ""

    def drawing(match: re.Match[str]) -> str:
        nonlocal style
        path = posixpath.normpath(posixpath.join(posixpath.dirname(url), match[2]))
        svg = (DOCS / path).read_text(encoding="utf-8")
        found = STYLE.search(svg)
        if found is None or "prefers-color-scheme" not in found[1]:
            return match[0]
        style = f"<style>{scoped(found[1])}</style>"
        return f'<figure class="drawing">{STYLE.sub("", svg)}</figure>'

    html = IMAGE.sub(drawing, html)
    return style + html


def scoped(style: str) -> str:
    """Return a drawing's style as one of drawings in a page, with the page's switch of colours."""
    dark = DARK.search(style)
    light = _prefixed(DARK.sub("", style), ".drawing")
    night = _prefixed(dark[1] if dark else "", "[data-md-color-scheme=slate] .drawing")
    return light + night


def _prefixed(rules: str, prefix: str) -> str:
    return "".join(
        ", ".join(f"{prefix} {name.strip()}" for name in names.split(",")) + f" {{{body}}}\n"
        for names, body in RULE.findall(rules)
    )


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return inlined(html, page.file.src_uri)
