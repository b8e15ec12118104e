"use strict";
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const read = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const figures = read("figures") ? JSON.parse(read("figures").textContent) : {};
const shown = {}; // the number of the chart that every figure shows
let printing = false;

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function faint(hex, share) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return `rgba(${r}, ${g}, ${b}, ${share})`;
}

// The names of marks and of axes are escaped for plotly.js, which reads tags; texts of the page are not.
const unescaped = (text) => String(text).replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

function coloured(trace) {
  const full = colour(trace.meta.role);
  const range = trace.meta.band && trace.line.width > 0;
  const line = { ...trace.line, color: range ? faint(full, 0.45) : full };
  return { ...trace, line, marker: { ...trace.marker, color: full }, fillcolor: faint(full, 0.22) };
}

function layout(chart) {
  const [ink, line, page] = [colour("observed"), colour("line"), colour("page")];
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  const own = chart.layout;
  const rule = { color: colour("quiet"), width: 1, dash: "dot" };
  return {
    ...own,
    xaxis: { ...own.xaxis, ...axis, showgrid: false, hoverformat: own.xaxis.type === "log" ? ".4g" : undefined },
    yaxis: { ...own.yaxis, ...axis },
    shapes: own.shapes.map((shape) => ({ ...shape, line: rule })),
    font: { family: "system-ui, sans-serif", size: 13, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: page, bordercolor: line, font: { color: ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: ink },
    margin: { l: 45, r: 12, t: 30, b: 40 },
    showlegend: false,
    width: printing ? 660 : undefined, // of a page with margins
    height: printing ? 320 : undefined,
  };
}

async function draw(id) {
  const chart = figures[id][shown[id] ?? 0];
  const figure = read(id);
  const plot = figure.querySelector(".plot");
  figure.querySelector("figcaption").textContent = chart.title;
  figure.querySelector(".words").textContent = chart.words;
  plot.setAttribute("aria-label", chart.description);
  const buttons = ["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"];
  const config = { responsive: true, displaylogo: false, doubleClick: "autosize", modeBarButtons: [buttons] };
  await Plotly.react(plot, chart.data.map(coloured), layout(chart), config);
  legend(figure, plot, chart);
  const details = figure.querySelector("details");
  if (details.open) values(figure, chart);
}

function legend(figure, plot, chart) {
  const names = new Map(); // the traces of every name
  chart.data.forEach((trace, i) => {
    const name = unescaped(trace.name).replace(/, (lower|upper) end$/, "");
    names.set(name, [...(names.get(name) ?? []), i]);
  });
  const box = figure.querySelector(".legend");
  box.replaceChildren();
  if (names.size < 2) return;
  for (const [name, traces] of names) {
    const first = chart.data[traces[0]];
    const button = make("button", name, { type: "button", "aria-pressed": "true" });
    const swatch = make("span", "", { class: first.meta.band || first.type === "bar" ? "swatch area" : "swatch" });
    const ink = `var(--${first.meta.role})`;
    if (swatch.className.includes("area")) swatch.style.background = ink;
    swatch.style.borderColor = ink;
    const dashes = { dash: "dashed", dot: "dotted", dashdot: "dashed" };
    if (first.mode === "markers") Object.assign(swatch.style, { width: ".6em", height: ".6em", border: 0, borderRadius: "50%", background: ink });
    else swatch.style.borderTopStyle = dashes[first.line?.dash] ?? "solid";
    button.prepend(swatch);
    button.addEventListener("click", () => {
      const visible = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", visible);
      Plotly.restyle(plot, { visible }, traces);
    });
    box.append(button);
  }
}

function columns(chart) {
  const places = new Map();
  const names = [chart.x_title];
  chart.data.forEach((trace) => {
    const name = unescaped(trace.name);
    if (!names.includes(name)) names.push(name);
    const column = names.indexOf(name);
    trace.x.forEach((x, i) => {
      if (x === null) return;
      const key = unescaped(x);
      if (!places.has(key)) places.set(key, []);
      const row = places.get(key);
      row[column] = row[column] === undefined ? trace.y[i] : `${row[column]}; ${trace.y[i]}`;
    });
  });
  return [names, [...places].map(([x, row]) => names.map((_, i) => (i ? row[i] ?? "" : x)))];
}

function values(figure, chart) {
  const [names, rows] = columns(chart);
  const most = 500;
  const save = make("button", "Download as CSV", { type: "button" });
  save.addEventListener("click", () => {
    const cell = (value) => `"${String(value).replace(/"/g, '""')}"`;
    const text = [names, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
    const link = make("a", "", { download: "chart.csv" });
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.click();
    URL.revokeObjectURL(link.href);
  });
  const table = make("table", "");
  table.append(make("caption", chart.title));
  const line = (row, tag) => {
    const element = make("tr", "");
    element.append(...row.map((value, i) => make(i && tag === "td" ? "td" : "th", value, { scope: tag === "th" ? "col" : "row" })));
    return element;
  };
  const head = make("thead", "");
  head.append(line(names, "th"));
  const body = make("tbody", "");
  body.append(...rows.slice(0, most).map((row) => line(row, "td")));
  table.append(head, body);
  const note = rows.length > most ? `${most} of ${rows.length} rows are shown; the CSV has all. ` : "";
  figure.querySelector(".values").replaceChildren(make("p", note, { class: "note" }), save, table);
}

// Other pickers that have the same choice change, too.
function pick(changed) {
  const name = changed.selectedOptions[0].textContent;
  for (const id of Object.keys(figures)) {
    const select = read(id).querySelector("select");
    const same = [...(select?.options ?? [])].find((option) => option.textContent === name);
    const choice = select === changed ? select.selectedOptions[0] : same;
    if (!choice || (shown[id] ?? 0) === Number(choice.value)) continue;
    select.value = choice.value;
    shown[id] = Number(choice.value);
    draw(id);
  }
}

function move(event, plot) {
  const axis = plot._fullLayout?.xaxis;
  const steps = { "+": [0.25, -0.25], "=": [0.25, -0.25], "-": [-0.5, 0.5], ArrowLeft: [-0.25, -0.25], ArrowRight: [0.25, 0.25] };
  if (!axis || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "0") Plotly.relayout(plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  else if (steps[event.key]) {
    const [low, high] = axis.range.map((place) => axis.r2l(place));
    const ends = steps[event.key].map((share, i) => axis.l2r([low, high][i] + share * (high - low)));
    Plotly.relayout(plot, { "xaxis.range": ends });
  } else return;
  event.preventDefault();
}

function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", head.textContent, { type: "button" });
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = new Intl.Collator("en", { numeric: true }).compare;
      const number = (text) => (/^[+-]?[\d.,]+(e[+-]?\d+)?\s?%?$/i.test(text) ? parseFloat(text.replace(/,/g, "")) : NaN);
      const order = [...body.rows].sort((a, b) => {
        const [x, y] = [a, b].map((row) => row.cells[column].textContent);
        const difference = number(x) - number(y);
        return (down ? -1 : 1) * (Number.isNaN(difference) ? compare(x, y) : difference);
      });
      body.append(...order);
    });
  });
}

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function start() {
  document.querySelectorAll("table.sortable").forEach(sortable);
  const names = Object.keys(figures);
  const again = () => Promise.all(names.map(draw));
  read("theme").addEventListener("click", () => {
    const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    again();
  });
  if (!names.length) return;
  document.head.append(make("script", await unpacked(read("plotly").textContent)));
  dark.addEventListener("change", again);
  let theme;
  addEventListener("beforeprint", () => {
    [printing, theme, root.dataset.theme] = [true, root.dataset.theme, "light"];
    again();
  });
  addEventListener("afterprint", () => {
    printing = false;
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    again();
  });
  for (const id of names) {
    const figure = read(id);
    figure.querySelector("select")?.addEventListener("change", (event) => pick(event.target));
    figure.querySelector("details").addEventListener("toggle", (event) => {
      if (event.target.open) values(figure, figures[id][shown[id] ?? 0]);
    });
    figure.querySelector(".plot").addEventListener("keydown", (event) => move(event, event.currentTarget));
    await draw(id);
  }
  root.dataset.drawn = names.length;
}

start();
