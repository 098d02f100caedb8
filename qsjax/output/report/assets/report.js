"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const hidden = { variant: new Set(), convention: new Set() };

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function shape(name, attributes = {}, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
const isShown = (item) => !hidden.variant.has(item.variant) && !hidden.convention.has(item.convention);

// Numbers and ticks ----------------------------------------------------------------------------
function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  for (const [unit, scale] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (size >= scale * 0.9995) return String(Number((value / scale).toPrecision(3))) + unit;
  return String(Number(value.toPrecision(3)));
}
function tokens(value) {
  for (const [unit, scale] of [["M", 2 ** 20], ["k", 2 ** 10]])
    if (value >= scale && value % scale === 0) return value / scale + unit;
  return short(value);
}
function logTicks(low, high) {
  if (high / low < 1.6) return linearTicks(low, high);
  const steps = high / low > 300 ? [1] : high / low > 8 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const step of steps) found.push(step * 10 ** power);
  return found.filter((tick) => tick >= low && tick <= high);
}
function linearTicks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step)
    found.push(Number(tick.toPrecision(12)));
  return found;
}
function makeScale(kind, values, from, to) {
  const isLog = kind === "log" || kind === "tokens";
  let low = Math.min(...values), high = Math.max(...values);
  if (isLog) { const pad = kind === "tokens" ? 1.15 : 1.12; low /= pad; high *= pad; }
  else {
    const pad = 0.06 * (high - low || Math.abs(high) || 1);
    low = kind === "zero" ? 0 : low - pad; high += pad;
  }
  const f = isLog ? Math.log : (x) => x;
  const place = (x) => from + ((f(x) - f(low)) / (f(high) - f(low))) * (to - from);
  let ticks = isLog ? logTicks(low, high) : linearTicks(low, high);
  if (kind === "tokens") {
    ticks = [...new Set(values)].sort((a, b) => a - b);
    const every = Math.ceil(ticks.length / 9);
    ticks = ticks.filter((_, k) => k % every === 0);
  }
  return { place, ticks, text: kind === "tokens" ? tokens : short };
}

// Tooltip --------------------------------------------------------------------------------------
const tip = document.getElementById("tip");
function showTip(title, lines, x, y) {
  const list = element("dl");
  for (const [name, value] of lines) list.append(element("dt", {}, name), element("dd", {}, value));
  tip.replaceChildren(element("b", {}, title), list);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 12) : y + 18) + "px";
}
const hideTip = () => { tip.hidden = true; };
function explain(node, title, point) {
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", [title, ...point.tip.map((line) => line.join(" "))].join(", "));
  node.addEventListener("pointermove", (event) => showTip(title, point.tip, event.clientX, event.clientY));
  node.addEventListener("pointerleave", hideTip);
  node.addEventListener("focus", () => {
    const box = node.getBoundingClientRect();
    showTip(title, point.tip, box.right, box.bottom);
  });
  node.addEventListener("blur", hideTip);
}

// Figures --------------------------------------------------------------------------------------
const W = 640, H = 360, LEFT = 62, RIGHT = 16, TOP = 10, BOTTOM = 46;

function markPath(kind, x, y, r) {
  switch (kind) {
    case "square": return `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`;
    case "triangle": return `M${x},${y - 1.2 * r}l${1.15 * r},${2 * r}h${-2.3 * r}z`;
    case "down": return `M${x},${y + 1.2 * r}l${1.15 * r},${-2 * r}h${-2.3 * r}z`;
    case "diamond": return `M${x},${y - 1.35 * r}l${1.2 * r},${1.35 * r}l${-1.2 * r},${1.35 * r}l${-1.2 * r},${-1.35 * r}z`;
    default: return `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
  }
}
function axes(svg, chart, x, y) {
  const bottom = H - BOTTOM;
  for (const tick of y.ticks) {
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y.place(tick), y2: y.place(tick) }));
    svg.append(shape("text", { x: LEFT - 7, y: y.place(tick) + 4, "text-anchor": "end" }, y.text(tick)));
  }
  for (const tick of x.ticks)
    svg.append(shape("text", { x: x.place(tick), y: bottom + 18, "text-anchor": "middle" }, x.text(tick)));
  svg.append(shape("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: bottom, y2: bottom }));
  svg.append(shape("text", { x: (LEFT + W - RIGHT) / 2, y: H - 8, "text-anchor": "middle" }, chart.x.label));
  const name = shape("text", { transform: `translate(14 ${(TOP + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, chart.y.label);
  svg.append(name);
}
function drawLines(svg, chart, shown) {
  const points = shown.flatMap((series) => series.points);
  const drawn = points.filter((point) => point.y !== null);
  let xs = points.map((point) => point.x), ys = drawn.map((point) => point.y);
  if (chart.parity) { xs = ys = [...xs, ...ys]; }
  if (chart.reference !== undefined) ys = [...ys, chart.reference];
  const x = makeScale(chart.x.scale, xs, LEFT, W - RIGHT);
  // Marks of infeasible places have a row of their own under the lowest value.
  const lost = shown.filter((series) => series.points.some((point) => point.y === null));
  const y = makeScale(chart.y.scale, ys, H - BOTTOM - (lost.length ? 20 : 0), TOP);
  axes(svg, chart, x, y);
  if (chart.reference !== undefined)
    svg.append(shape("line", { class: "reference", x1: LEFT, x2: W - RIGHT, y1: y.place(chart.reference), y2: y.place(chart.reference) }));
  if (chart.parity)
    svg.append(shape("line", { class: "reference", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: TOP }));
  for (const series of shown) {
    if (chart.kind !== "points") {
      let path = "", isOpen = false;
      for (const point of series.points) {
        if (point.y === null) { isOpen = false; continue; }
        const px = x.place(point.x), py = y.place(point.y);
        path += !isOpen ? `M${px},${py}` : chart.kind === "step" ? `V${py}H${px}` : `L${px},${py}`;
        isOpen = true;
      }
      svg.append(shape("path", { d: path, fill: "none", stroke: series.colour, "stroke-width": 2, "stroke-dasharray": series.dash }));
    }
    series.points.forEach((point) => {
      const isMissing = point.y === null;
      const step = Math.min(11, (W - LEFT - RIGHT) / new Set(xs).size / (lost.length + 0.5));
      const aside = isMissing ? step * (lost.indexOf(series) - (lost.length - 1) / 2) : 0;
      const px = x.place(point.x) + aside, py = isMissing ? H - BOTTOM - 8 : y.place(point.y);
      const node = isMissing
        ? shape("path", { class: "mark missing", d: `M${px - 5},${py - 5}l10,10m0,-10l-10,10`, fill: "none", style: `stroke:${series.colour};stroke-width:2.5` })
        : shape("path", { class: "mark", d: markPath(series.mark, px, py, 4.5), fill: series.colour });
      explain(node, series.name, point);
      svg.append(node);
    });
  }
}
function drawStack(svg, chart, shown) {
  const places = [...new Set(shown.flatMap((series) => series.points.map((point) => point.place)))];
  const width = (W - LEFT - RIGHT) / places.length;
  const slot = (0.86 * width) / shown.length;
  const totals = shown.flatMap((series) => places.map((place) =>
    series.points.filter((point) => point.place === place).reduce((sum, point) => sum + point.y, 0)));
  const y = makeScale("zero", totals, H - BOTTOM, TOP);
  const every = Math.ceil(places.length / 10);
  axes(svg, chart, {
    place: (k) => LEFT + (k + 0.5) * width, text: (k) => places[k],
    ticks: places.map((_, k) => k).filter((k) => k % every === 0),
  }, y);
  shown.forEach((series, at) => places.forEach((place, k) => {
    let sum = 0;
    const left = LEFT + k * width + 0.07 * width + at * slot;
    for (const point of series.points.filter((p) => p.place === place)) {
      const top = y.place(sum + point.y);
      const node = shape("rect", { class: "bar mark", x: left, y: top, width: Math.max(1, 0.92 * slot), height: Math.max(0.3, y.place(sum) - top), fill: chart.parts[point.part] });
      explain(node, `${series.name}, ${place}`, point);
      svg.append(node);
      const lines = chart.hatches[point.part];
      if (lines) svg.append(hatched(node, lines));
      sum += point.y;
    }
  }));
}
// Lines over an area, so that areas differ without colours too; by the letter of matplotlib.
const HATCHES = { "/": "M0 6L6 0", "\\": "M0 0L6 6", x: "M0 6L6 0M0 0L6 6", "-": "M0 3H6", "|": "M3 0V6", "+": "M0 3H6M3 0V6", ".": "M2.2 3H3.8" };
function hatchDefs() {
  const defs = shape("defs", {});
  for (const [letter, path] of Object.entries(HATCHES)) {
    const pattern = shape("pattern", { id: `hatch-${letter.codePointAt(0)}`, width: 6, height: 6, patternUnits: "userSpaceOnUse" });
    pattern.append(shape("path", { d: path, stroke: "#20242a", "stroke-width": letter === "." ? 1.6 : 0.7, "stroke-opacity": 0.7, fill: "none" }));
    defs.append(pattern);
  }
  return defs;
}
function hatched(area, letter) {
  const size = Object.fromEntries(["x", "y", "width", "height"].map((name) => [name, area.getAttribute(name)]));
  return shape("rect", { ...size, class: "hatch", fill: `url(#hatch-${letter.codePointAt(0)})`, "pointer-events": "none" });
}
function legend(chart, shown) {
  const list = element("div", { class: "legend" });
  if (chart.kind === "stack") {
    const used = new Set(shown.flatMap((series) => series.points.map((point) => point.part)));
    for (const part of Object.keys(chart.parts).filter((name) => used.has(name))) {
      const key = shape("svg", { viewBox: "0 0 26 12" });
      const area = shape("rect", { x: 0, y: 0, width: 26, height: 12, fill: chart.parts[part] });
      key.append(area);
      if (chart.hatches[part]) key.append(hatched(area, chart.hatches[part]));
      list.append(element("span", {}, key, part));
    }
    if (shown.length > 1)
      list.append(element("span", {}, "bars, left to right: " + shown.map((series) => series.name).join(", ")));
    return list;
  }
  for (const series of shown.slice(0, 24)) {
    const key = shape("svg", { viewBox: "0 0 26 12" });
    if (chart.kind !== "points")
      key.append(shape("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: series.colour, "stroke-width": 2, "stroke-dasharray": series.dash }));
    key.append(shape("path", { d: markPath(series.mark, 13, 6, 4), fill: series.colour }));
    list.append(element("span", {}, key, series.name));
  }
  return list;
}
function drawChart(chart, panel) {
  const shown = chart.series.filter(isShown);
  panel.replaceChildren(element("h2", {}, chart.title));
  if (!shown.some((series) => series.points.length)) {
    panel.append(element("p", { class: "empty" }, "Nothing to show: switch a variant or a convention on above."));
    return;
  }
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": chart.title });
  if (chart.kind === "stack") svg.append(hatchDefs());
  (chart.kind === "stack" ? drawStack : drawLines)(svg, chart, shown);
  panel.append(legend(chart, shown), svg);
}

// Tables ---------------------------------------------------------------------------------------
function cellText(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(cellText).join(", ");
  if (typeof value !== "number") return String(value);
  if (Math.abs(value) >= 1e6) return short(value);
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(5)));
}
function compare(a, b) {
  const isEmpty = (v) => v === null || v === undefined || v === "";
  if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}
function tablePanel(table) {
  const state = { column: null, sign: 1, filter: "", fine: false };
  const body = element("tbody"), head = element("tr"), count = element("span");
  const isText = table.columns.map((_, k) => table.rows.some((row) => typeof row[k] === "string"));
  const find = element("input", { type: "search", placeholder: "filter rows", "aria-label": `filter ${table.name}` });
  find.addEventListener("input", () => { state.filter = find.value.toLowerCase(); fill(); });
  const tools = element("div", { class: "tools" }, find);
  const shared = new Set([...table.fine, ...table.same]);
  if (shared.size) {
    const more = element("button", { type: "button" }, `all ${table.columns.length} columns`);
    more.addEventListener("click", () => { state.fine = !state.fine; more.textContent = state.fine ? "fewer columns" : `all ${table.columns.length} columns`; fill(); });
    tools.append(more);
  }
  tools.append(count);
  function fill() {
    const columns = table.columns.map((_, k) => k).filter((k) => state.fine || !shared.has(table.columns[k]));
    head.replaceChildren(...columns.map((k) => {
      const button = element("button", { type: "button" }, table.columns[k]);
      button.addEventListener("click", () => { state.sign = state.column === k ? -state.sign : 1; state.column = k; fill(); });
      const unit = table.units[k] ? [element("small", {}, `[${table.units[k]}]`)] : [];
      const sort = state.column === k ? (state.sign > 0 ? "ascending" : "descending") : "none";
      return element("th", { scope: "col", "aria-sort": sort, class: isText[k] ? "text" : "" }, button, ...unit);
    }));
    let order = table.rows.map((_, k) => k).filter((k) =>
      isShown({ variant: table.variants[k], convention: table.convention }) &&
      (!state.filter || table.rows[k].some((value) => `${cellText(value)} ${value}`.toLowerCase().includes(state.filter))));
    if (state.column !== null) {
      const isEmpty = (k) => { const v = table.rows[k][state.column]; return v === null || v === ""; };
      order.sort((a, b) => isEmpty(a) - isEmpty(b) || state.sign * compare(table.rows[a][state.column], table.rows[b][state.column]) || a - b);
    }
    body.replaceChildren(...order.map((k) => element("tr", {}, ...columns.map((c) =>
      element("td", isText[c] ? { class: "text" } : {}, cellText(table.rows[k][c]))))));
    const left = table.left_out ? `; ${table.left_out.toLocaleString("en")} more in the folder's files` : "";
    count.textContent = `${order.length} of ${table.rows.length} rows${left}`;
  }
  const title = [table.folder, table.name].filter(Boolean).join(": ");
  const alike = table.same.map((name) => [name, cellText(table.rows[0][table.columns.indexOf(name)])]).filter((pair) => pair[1] !== "");
  const told = alike.map(([name, text]) => `${name} ${text}`).join(", ");
  const common = told ? [element("p", { class: "note" }, `In every row: ${told}.`)] : [];
  const panel = element("div", { class: "panel" }, element("h2", {}, title), tools, ...common,
    element("div", { class: "scroll", tabindex: "0" }, element("table", {}, element("thead", {}, head), body)));
  return { panel, fill };
}

const MOST_OPEN = 16;  // numbers of a list that stands open
// Inputs and controls --------------------------------------------------------------------------
function definitions(value, prefix = "") {
  return Object.entries(value).flatMap(([name, inner]) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? definitions(inner, prefix + name + ".")
      : [[prefix + name, cellText(inner)]]);
}
function listPanel(title, value, isOpen) {
  const list = element("dl", { class: "inputs" });
  for (const [name, text] of definitions(value)) list.append(element("dt", {}, name), element("dd", {}, text));
  const fold = element("details", isOpen ? { open: "" } : {}, element("summary", {}, title), list);
  return element("div", { class: "panel" }, fold);
}
const redraws = [];
function toggles(kind, title, names, colours) {
  if (names.length < 2) return;
  const set = element("fieldset", {}, element("legend", {}, title));
  for (const name of names) {
    const box = element("input", { type: "checkbox", name: kind, value: name, checked: "" });
    box.addEventListener("change", () => {
      box.checked ? hidden[kind].delete(name) : hidden[kind].add(name);
      hideTip();
      redraws.forEach((redraw) => redraw());
    });
    const chip = colours[name] ? [element("span", { class: "chip", style: `background:${colours[name]}` })] : [];
    set.append(element("label", {}, box, ...chip, name));
  }
  document.getElementById("controls").append(set);
}

function start() {
  const from = data.folders.map((folder) => folder.command || folder.name).join("; ");
  document.getElementById("lead").append("From ", element("code", {}, from), `. Written by qsjax ${data.version}. Hover over a point for the design behind it.`);
  for (const folder of data.folders.filter((one) => one.answer)) {
    const lines = folder.answer.split("\n").map((line) => element("p", {}, line));
    const head = data.folders.length > 1 ? [element("h2", {}, folder.name)] : [];
    document.getElementById("answer").append(...head, ...lines);
  }
  const all = data.charts.flatMap((chart) => chart.series);
  const variants = [...new Set([...all.map((series) => series.variant), ...data.tables.flatMap((table) => table.variants)])].filter((name) => name);
  const colours = Object.fromEntries(all.filter((series) => series.mark).map((series) => [series.variant, series.colour]));
  toggles("variant", "Show", variants.slice(0, 16), colours);
  toggles("convention", "Accounting", [...new Set(all.map((series) => series.convention))], {});
  for (const chart of data.charts) {
    const panel = element("figure", { class: "panel chart", style: "margin:0" });
    document.getElementById("charts").append(panel);
    redraws.push(() => drawChart(chart, panel));
  }
  for (const table of data.tables) {
    const { panel, fill } = tablePanel(table);
    document.getElementById("tables").append(panel);
    redraws.push(fill);
  }
  for (const folder of data.folders) {
    const prefix = data.folders.length > 1 ? folder.name + ": " : "";
    for (const [name, address] of Object.entries(folder.pictures))
      document.getElementById("pictures").append(element("details", { class: "panel" },
        element("summary", {}, `Picture: ${prefix}${name}`), element("img", { src: address, alt: name })));
    if (Object.keys(folder.summary).length) document.getElementById("inputs").append(listPanel(prefix + "More numbers", folder.summary, Object.keys(folder.summary).length <= MOST_OPEN));
    if (Object.keys(folder.inputs).length) document.getElementById("inputs").append(listPanel(prefix + "Inputs", folder.inputs, false));
  }
  redraws.forEach((redraw) => redraw());
}
start();
