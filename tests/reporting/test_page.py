"""Pages of reports: what they load, how they escape texts, and how a browser shows them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from titans_ts.reporting.charts import Chart, Mark
from titans_ts.reporting.html import ROWS, Page, Section, Table, render
from titans_ts.reporting.logos import Logo, letters_of

EVIL = "</script><script>alert(1)</script><img src=x onerror=\"a('b')\">&amp; <a href='//x.org'>y"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)

DRIVER = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => errors.push(event.blockedURI));
const wait = (done) => new Promise((go) => {
  const timer = setInterval(() => done() && (clearInterval(timer), go()), 20);
});
const texts = (cells) => [...cells].map((cell) => cell.textContent);
const paths = (place) => read(place).querySelectorAll("path.js-line, .bars path, path.js-fill").length;
(async () => {
  await wait(() => root.dataset.drawn || errors.length);
  const figure = read("figure-0-0"), plot = figure.querySelector(".plot");
  const found = { drawn: root.dataset.drawn, first: paths("figure-0-0"), bars: paths("figure-1-0") };
  found.title = figure.querySelector("figcaption").textContent;
  const select = figure.querySelector("select");
  select.value = "1";
  select.dispatchEvent(new Event("change"));
  await wait(() => figure.querySelector("figcaption").textContent !== found.title);
  found.second = figure.querySelector("figcaption").textContent;
  found.label = plot.getAttribute("aria-label");
  found.ys = plot.data[0].y;
  plot.dispatchEvent(new KeyboardEvent("keydown", { key: "+" }));
  found.zoomed = plot.layout.xaxis.range;
  const names = [...figure.querySelectorAll(".legend button")];
  found.legend = names.map((button) => button.textContent);
  names[0].click();
  found.hidden = plot.data[0].visible;
  figure.querySelector("details").open = true;
  await wait(() => figure.querySelector(".values table"));
  found.table = [...figure.querySelectorAll(".values tr")].map((row) => texts(row.cells));
  const light = plot._fullLayout.font.color;
  read("theme").click();
  await wait(() => plot._fullLayout.font.color !== light);
  found.theme = root.dataset.theme;
  const head = document.querySelector("table.sortable thead button");
  head.click(); head.click();
  found.sorted = texts(document.querySelectorAll("table.sortable tbody th"));
  found.wide = document.documentElement.scrollWidth - innerWidth;
  found.loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  found.errors = errors;
  document.body.append(make("pre", JSON.stringify(found), { id: "found" }));
})();
</script></body>"""


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def page(name=EVIL):
    days = pd.date_range("2024-01-01", periods=4, tz="Asia/Tokyo")
    line = Mark("line", name, days, np.array([1.0, np.nan, 3.0, 4.0]))
    band = Mark("band", "10 % to 90 % quantile", days, np.full(4, 5.0), np.zeros(4), "forecast")
    other = Mark("line", "b", days, np.array([7.0, 8.0, 9.0, 10.0]), role="past")
    bars = Mark("bars", name, pd.Index([name, "z"], dtype=object), np.array([1.0, 2.0]))
    table = pd.DataFrame({name: [name, "10", "9"], "n": [1.5, np.nan, 2.0]})
    sections = (
        Section(
            name,
            (name,),
            (Chart(name, (line, band), name), Chart("second", (other, band), words=name)),
            picker=name,
            tables=(Table(name, table),),
            logos=(Logo(name, letters_of(np.ones(3), "AC<")),),
            code=name,
        ),
        Section("bars", charts=(Chart("bars", (bars,)), Chart("points", (bars,)))),
    )
    return render(Page(name, name, ((name, "good"),), sections))


def test_a_page_loads_nothing_and_no_text_becomes_an_element():
    text, harmless = page(), page("a name")
    elements = Elements(text).found
    assert [tag for tag, _ in elements] == [tag for tag, _ in Elements(harmless).found]
    for tag, attributes in elements:
        assert not any(key.startswith("on") for key in attributes)
        assert "src" not in attributes
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:,")), tag
    policy = next(a["content"] for t, a in elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'unsafe-inline'; ")
    assert "@import" not in text
    assert "url(" not in text


def test_the_data_of_charts_are_in_the_page():
    text = page()
    start = text.index('id="figures">') + len('id="figures">')
    figures = json.loads(text[start : text.index("</script>", start)])
    assert list(figures) == ["figure-0-0", "figure-1-0", "figure-1-1"]
    first, second = figures["figure-0-0"]
    assert (first["title"], second["title"]) == (EVIL, "second")
    trace = first["data"][0]
    assert trace["x"] == [f"2024-01-0{i}T00:00:00" for i in (1, 2, 3, 4)]  # local times
    assert trace["y"] == [1.0, None, 3.0, 4.0]
    assert "<" not in trace["name"]  # plotly.js reads tags
    assert unescape(trace["name"]) == EVIL
    assert "between 1 and 4" not in first["description"]
    assert "4 values from 2024-01-01" in first["description"]
    assert "between 1 to 4, the last 4" in first["description"]


def test_long_tables_say_how_much_they_leave_out():
    table = Table("t", pd.DataFrame({"a": range(ROWS + 5)}), rest="they are in x.csv")
    text = render(Page("p", "", (), (Section("s", tables=(table,)),)))
    assert "5 more rows: they are in x.csv." in text
    assert text.count('<th scope="row" class="number">') == ROWS
    assert 'id="plotly"' not in text  # without a chart, no script of it


@pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [400, pytest.param(1280, marks=pytest.mark.slow)])
def test_a_browser_draws_the_charts_without_an_error(tmp_path, width):
    file = tmp_path / "page.html"
    file.write_text(page().removesuffix("</html>").rpartition("</body>")[0] + DRIVER + "</html>")
    flags = ["--headless=new", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    if os.getuid() == 0:
        flags.append("--no-sandbox")
    command = [BROWSER, *flags, f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--window-size={width},900", "--virtual-time-budget=30000", file.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert ":CONSOLE" not in result.stderr, result.stderr
    dom = result.stdout
    assert 'id="found">' in dom, result.stderr
    found = json.loads(unescape(dom.rpartition('id="found">')[2].partition("</pre>")[0]))
    assert found["errors"] == []
    assert found["loaded"] == []
    assert found["drawn"] == "3"
    assert found["first"] >= 2  # a line and a band
    assert found["bars"] == 2
    assert (found["title"], found["second"]) == (EVIL, "second")
    assert found["ys"] == [7.0, 8.0, 9.0, 10.0]
    assert found["label"].startswith("second. ")
    assert found["zoomed"][0] > "2024-01-01"
    assert found["legend"] == ["b", "10 % to 90 % quantile"]
    assert found["hidden"] is False
    assert found["table"][0][1:] == [
        "b",
        *(f"10 % to 90 % quantile, {end} end" for end in ("lower", "upper")),
    ]
    assert found["table"][1][1:] == ["7", "0", "5"]
    assert found["theme"] == "dark"
    assert found["sorted"][:2] == ["10", "9"]
    assert found["wide"] <= 0
