"""Pages of the repository become pages of the site, and links to files find them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = {
    "ARCHITECTURE.md": "repository/architecture.md",
    "CHANGELOG.md": "repository/changelog.md",
    "CONTRIBUTING.md": "repository/contributing.md",
    "benchmarks/README.md": "repository/benchmarks.md",
    "benchmarks/reliability.md": "repository/reliability.md",
    "datasets/README.md": "repository/datasets.md",
    "kernels/README.md": "repository/kernels.md",
    "titans_ts/forecasting/weights/README.md": "repository/weights.md",
    "titans_ts/genomics/weights/README.md": "repository/weights-dna.md",
}
"""Pages of the repository, and where the site has them."""
PLACES = PAGES | {"README.md": "index.md", "docs": "index.md", "examples": "gallery.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)


def rewritten(text: str, source: str, place: str) -> str:
    """Return a page with the links of file `source` as links of the site's page `place`.

    A link to a file that is no page of the site becomes its text.
    """

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        file = file.removeprefix("titans_ts/") if file not in PLACES else file
        if file.startswith("docs/") and file.endswith((".md", ".svg", ".png")):
            goal = file.removeprefix("docs/")
        elif file in PLACES or file.split("/")[0] == "examples":
            goal = PLACES.get(file, PLACES["examples"])
        else:
            return words if words.startswith("`") else f"`{words}`" if "/" in words else words
        goal = posixpath.relpath(goal, posixpath.dirname(place) or ".")
        return f"[{words}]({goal}{'#' * bool(anchor)}{anchor})"

    parts = CODE.split(text)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the repository."""
    from mkdocs.structure.files import File

    for source, place in PAGES.items():
        content = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """MkDocs calls this for every page."""
    place = page.file.src_uri
    sources = {there: here for here, there in PAGES.items()}
    return rewritten(markdown, sources.get(place, f"docs/{place}"), place)
