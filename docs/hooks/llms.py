"""Write llms.txt, the list of pages with a line about each, for programs that read the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

SKIPPED = ("#", "!", "<", "|", "-", ":::", "```", ">")
_nav: list[Any] = []
_lines: dict[str, str] = {}


def first_sentence(markdown: str) -> str:
    """Return the first sentence of a page's first paragraph of text, without links."""
    text = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    for block in re.split(r"\n\s*\n", text):
        if block.strip() and not block.lstrip().startswith(SKIPPED):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
            return re.split(r"(?<=\.)\s", text.replace("**", ""))[0]
    return ""


def listing(name: str, description: str, items: list[Any], lines: dict[str, str]) -> str:
    """Return the content of llms.txt, from the pages of a navigation."""
    text = [f"# {name}", "", f"> {description}", ""]
    pages = [item for item in items if item.is_page]
    sections = [("Pages", pages), *((s.title, _pages(s)) for s in items if s.is_section)]
    for title, some in sections:
        text += [f"## {title}", ""]
        text += [f"- [{p.title}]({p.url}): {lines.get(p.url, '')}".rstrip(": ") for p in some]
        text.append("")
    return "\n".join(text)


def _pages(section: Any) -> list[Any]:
    found: list[Any] = []
    for item in section.children:
        found += [item] if item.is_page else _pages(item)
    return found


def on_nav(nav: Any, **_: Any) -> None:
    """Keep the navigation for the end."""
    _nav[:] = nav.items


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> None:
    """Keep the first sentence of a page."""
    _lines[page.url] = first_sentence(markdown)


def on_post_build(config: Any) -> None:
    """Write the file beside the pages."""
    text = listing(config.site_name, config.site_description, _nav, _lines)
    Path(config.site_dir, "llms.txt").write_text(text, encoding="utf-8")
