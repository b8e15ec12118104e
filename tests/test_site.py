"""The documentation site: its pages, generated parts and pictures, and that it needs no network."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml

from titans_ts.pipelines.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
HOOKS = sorted((DOCS / "hooks").glob("*.py"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def hook(monkeypatch):
    """Return a function that imports a hook by name, as MkDocs does; all leave again at the end."""
    for path in HOOKS:
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    for folder in ("hooks", "pictures"):
        monkeypatch.syspath_prepend(DOCS / folder)
    yield import_module
    for name in [path.stem for path in HOOKS] + ["draw"]:
        sys.modules.pop(name, None)


def settings():
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def pages(nav):
    for item in nav:
        for value in item.values():
            yield from [value] if isinstance(value, str) else pages(value)


def test_every_page_is_in_the_navigation_once(hook):
    listed = list(pages(settings()["nav"]))
    on_disk = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(on_disk | set(hook("links").PAGES.values()))
    for source in hook("links").PAGES:
        assert (ROOT / source).is_file(), source


def test_nothing_is_fetched_by_the_settings():
    site = settings()
    assert site["theme"]["font"] is False
    assert set(site["plugins"][1]["mkdocstrings"]["handlers"]["python"]) == {"paths", "options"}
    assert not {"repo_url", "extra_javascript"} & site.keys()  # the theme asks GitHub about stars
    for path in (*DOCS.rglob("*.css"), *DOCS.rglob("*.svg")):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text, path


def test_every_extra_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (DOCS / "install.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(project["optional-dependencies"])


def documented():
    """Names in the reference: of directives, of their members, and of whole modules."""
    for path in (DOCS / "api").glob("*.md"):
        for target, options in re.findall(
            r"^::: ([\w.]+)\n((?:    .*\n)*)", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            yield target.rpartition(".")[2]
            members = re.findall(r"^        - (\w+)$", options, re.MULTILINE)
            yield from members
            if not members and is_module(target):
                yield from import_module(target).__all__


def is_module(target):
    """Whether a dotted name is a module (a class has no specification)."""
    try:
        return find_spec(target) is not None
    except ModuleNotFoundError:
        return False


def test_the_reference_has_every_public_name():
    names = set(documented())
    for package in ("titans_ts", "titans_ts.nn", "titans_ts.kernels", "titans_ts.datasets"):
        public = set(import_module(package).__all__) - {"__version__", "gather_rows"}
        assert public <= names, (package, public - names)


def test_pages_import_public_names():
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(code)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("titans_ts"):
                    public = set(import_module(node.module).__all__)
                    assert {alias.name for alias in node.names} <= public, ast.unparse(node)


def test_generated_places_are_known_and_all_are_used(hook):
    generated = hook("generated")
    used = [
        name
        for path in DOCS.rglob("*.md")
        for name in generated.PLACE.findall(path.read_text(encoding="utf-8"))
    ]
    assert sorted(used) == sorted(generated.PARTS)
    assert (
        generated.filled("a\n<!-- generated: recall -->\nb").splitlines()[1].startswith("| model")
    )
    with pytest.raises(KeyError, match="nothing"):
        generated.filled("<!-- generated: nothing -->")


def test_the_reference_has_every_command_and_option(hook):
    text = hook("commands").markdown()
    parts = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    commands = typer.main.get_command(app).commands
    shown = {name: command for name, command in commands.items() if not command.hidden}
    assert parts.keys() == shown.keys()
    for name, command in shown.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert parameter.opts[0] in parts[name], (name, parameter.opts)
    assert "| `--quantiles` | " in parts["forecast"]
    assert "Default: `0.1,0.5,0.9`." in parts["forecast"]


def test_the_gallery_has_every_example(hook, tmp_path):
    gallery = hook("gallery")
    text = gallery.markdown()
    for path in (ROOT / "examples").glob("*.py"):
        title = ast.get_docstring(ast.parse(path.read_text())).splitlines()[0].rstrip(".")
        assert f"\n## {title}\n" in f"\n{text}"
        assert f"examples/{path.name}" in text
    path = tmp_path / "05_x.py"
    path.write_text('"""Do it.\n\nFor a reason.\n"""\n\nimport os\n\nif os:\n    print(1)\n')
    assert gallery.example(path) == (
        '## Do it\n\nFor a reason.\n\n??? example "examples/05_x.py"\n\n    ```python\n'
        "    import os\n\n    if os:\n        print(1)\n    ```\n"
    )
    cells = [
        {"cell_type": "markdown", "source": ["# See\n", "\n", "Why."]},
        {"cell_type": "markdown", "source": ["## A picture\n", "\n", "of it"]},
        {"cell_type": "code", "source": ["x"], "outputs": [{"data": {"image/png": "aGk=\n"}}]},
    ]
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert gallery.notebook(path) == (
        "## Notebook: See\n\nWhy.\n\nThe file is `examples/x.ipynb`.\n\nA picture\n\n"
        "![A picture](data:image/png;base64,aGk=)\n"
    )


def test_names_in_the_text_of_pages_exist():
    """Extras, commands and options that a page names outside of a block of code."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = typer.main.get_command(app).commands
    options = {o for c in commands.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for names in re.findall(r"pip install .*\.\[([\w,]+)\]", text):
            assert set(names.split(",")) <= extras["optional-dependencies"].keys(), (path, names)
        for name in re.findall(r"`titans-ts (\w+)", text):
            assert name in commands, (path, name)
        for name in re.findall(r"`(--[\w-]+)", text):
            assert name in options, (path, name)


def test_tables_are_the_committed_results(hook):
    results = hook("results")
    mase, wql, seconds = results.scores()["default"]
    # From the page whose table benchmarks/leaderboard.py --markdown wrote.
    assert (round(mase, 3), round(wql, 3), round(seconds)) == (0.725, 0.612, 60)
    assert results.scores()["seasonal_naive"][:2] == pytest.approx((1, 1))
    published = results.published()
    assert len(published) == 22
    assert published["auto_ets"] == (0.826, 0.761)
    table = results.leaderboard().splitlines()
    column = [float(line.split("|")[2]) for line in table[2:]]
    assert column == sorted(column)
    assert len(table) == 2 + len(results.OURS) + len(published)
    assert "| stallion | **titans** | 0.1294 | 1.464 | 32 |" in results.panels()
    assert "| ETTh1 | 24 | 0.844 | 0.730 | -13.5% |" in results.adapt()
    assert "| attention alone | 0.29 | 0.22 | 0.24 | 0.19 | 0.27 | 0.25 |" in results.recall()
    for name, make in results.TABLES.items():
        assert len({line.count("|") for line in make().splitlines()}) == 1, name


def test_the_readme_has_the_figures_of_the_results(hook):
    results = hook("results")
    ours, published = results.scores(), results.published()
    rows = {
        "`TitansForecaster`, defaults, one fit for each set": ours["default"],
        'the same with two memory blocks (`variant="mac"`)': ours["blocks"],
        "the simple forecasters of its blend alone": ours["simple alone"],
        "the pretrained model alone, without a fit": ours["zero-shot"],
        "the same, trained with attention instead of a memory": ours["zero-shot, attention alone"],
        "AutoTheta, published": published["auto_theta"],
        "TiRex (35 M weights, without a fit), published": published["tirex"],
        "AutoETS, published": published["auto_ets"],
    }
    for name, (mase, wql, *seconds) in rows.items():
        figures = [f"{value:.3f}".lstrip("0") for value in (mase, wql)]
        cells = [name, *figures, *(f"{value:.0f}" for value in seconds)]
        assert f"| {' | '.join(cells)} |" in README, name


def test_commands_of_the_readme_are_those_of_ci():
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    named = set(re.findall(r"`make ([\w-]+)`", README))
    assert named == {"demo", "docs", "test"}
    assert named <= set(re.findall(r"^make ([\w-]+)", run, re.MULTILINE))


def test_pictures_are_what_the_script_draws(hook):
    draw = hook("draw")
    drawn = [make() for make in draw.CONCEPTS]
    files = {path.stem for path in (DOCS / "pictures").glob("*.svg")}
    assert files == {picture.name for picture in drawn} | {"forecast"}
    for picture in drawn:
        file = DOCS / "pictures" / f"{picture.name}.svg"
        assert file.read_text(encoding="utf-8") == picture.svg(), "run docs/pictures/draw.py"
        assert picture.title
        assert picture.description
    used = {
        name
        for path in DOCS.rglob("*.md")
        for name in re.findall(r"pictures/(\w+)\.svg", path.read_text(encoding="utf-8"))
    }
    assert used == files


def test_a_drawing_follows_the_colours_of_its_page(hook):
    pictures = hook("pictures")
    html = '<p><img alt="x" src="../pictures/lmm.svg" /></p>'
    inlined = pictures.inlined(html, "concepts/architectures.md")
    assert "<img" not in inlined
    assert '<figure class="drawing"><svg ' in inlined
    assert ".drawing .memory { fill: #d8f0ec" in inlined
    assert "[data-md-color-scheme=slate] .drawing .memory { fill: #0f3a35" in inlined
    assert ".drawing .line, .drawing .arrow {" in inlined
    assert "prefers-color-scheme" not in inlined
    assert pictures.inlined("<p>no picture</p>", "index.md") == "<p>no picture</p>"


def test_docstrings_have_neither_roles_nor_defaults_of_the_parser(hook):
    plain = hook("docstrings").plain
    assert plain("see :meth:<code>fit</code>") == "see <code>fit</code>"
    assert plain("a :class:<code>~a.b.C</code>.") == "a <code>C</code>."
    html = "(<code>('a', 'b')</code>, default:\n  <code><span>'a'</span></code>\n)"
    assert plain(html) == "(<code>('a', 'b')</code>)"


@pytest.mark.parametrize(
    ("text", "source", "place", "expected"),
    [
        (
            "[a](../kernels/README.md#b)", "docs/index.md", "index.md",
            "[a](repository/kernels.md#b)",
        ),
        ("[a](../api/layers.md)", "docs/howto/x.md", "howto/x.md", "[a](../api/layers.md)"),
        (
            "[titans_ts/config.py](titans_ts/config.py)", "ARCHITECTURE.md",
            "repository/architecture.md", "`titans_ts/config.py`",
        ),
        (
            "[op.py](chunked/op.py)", "kernels/README.md", "repository/kernels.md", "op.py",
        ),
        (
            "[x](../examples/a.py) [y](https://b.c/d) [z](#e)", "docs/index.md", "index.md",
            "[x](gallery.md) [y](https://b.c/d) [z](#e)",
        ),
        (
            "[docs/](docs), [docs/hooks/](docs/hooks)", "CONTRIBUTING.md",
            "repository/contributing.md", "[docs/](../index.md), `docs/hooks/`",
        ),
        ("```\n[a](b.md)\n```", "docs/index.md", "index.md", "```\n[a](b.md)\n```"),
        ("![p](pictures/a.svg)", "docs/index.md", "index.md", "![p](pictures/a.svg)"),
    ],
)  # fmt: skip
def test_links_between_the_repository_and_the_site(hook, text, source, place, expected):
    assert hook("links").rewritten(text, source, place) == expected


def test_llms_txt_lists_pages_with_a_line_each(hook):
    llms = hook("llms")
    markdown = "# Title\n\n![p](q.svg)\n\nIt has [links](a.md)\nand **more**. Not this.\n"
    assert llms.first_sentence(markdown) == "It has links and more."
    page = SimpleNamespace(is_page=True, is_section=False, title="A", url="a.html")
    inner = SimpleNamespace(is_page=True, is_section=False, title="B", url="b.html")
    section = SimpleNamespace(is_page=False, is_section=True, title="More", children=[inner])
    text = llms.listing("name", "what", [page, section], {"a.html": "First."})
    assert text == (
        "# name\n\n> what\n\n## Pages\n\n- [A](a.html): First.\n\n## More\n\n- [B](b.html)\n"
    )


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path):
    if find_spec("mkdocs") is None or find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed; make docs builds the site")
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    llms = (tmp_path / "llms.txt").read_text(encoding="utf-8")
    for page in pages(settings()["nav"]):
        place = page.removesuffix(".md") + ".html"
        html = (tmp_path / place).read_text(encoding="utf-8")
        fetched = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(.*?)"', html
        )
        assert not [t for t in fetched if "//" in t and not t.startswith("data:")], page
        assert f"]({place})" in llms
        assert "generated: " not in html
        assert not re.search(r":(class|meth|mod):<", html), page
    assert not list(tmp_path.rglob("*.py"))
