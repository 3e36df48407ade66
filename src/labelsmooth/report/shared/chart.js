// Drawing: panels with scales and axes on one SVG, and a tip that mouse and arrow keys move over its values.
// Lengths are pixels of the page. Colours are CSS variables, so that a change of scheme needs no redrawing.

const TEXT = 12; // pixels of all words in a figure
const MARKERS = ["circle", "square", "triangle"];

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const ruler = document.createElement("canvas").getContext("2d");

function widthOf(text, bold = false) {
  ruler.font = `${bold ? 600 : 400} ${TEXT}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

// The words in lines of at most this width; a word that is wider is cut.
function wrapped(words, width, bold = false) {
  const lines = [];
  for (const word of String(words).split(" ")) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && widthOf(longer, bold) <= width) lines[lines.length - 1] = longer;
    else {
      let rest = word;
      while (widthOf(rest, bold) > width && rest.length > 1) {
        let end = rest.length - 1;
        while (end > 1 && widthOf(rest.slice(0, end), bold) > width) end -= 1;
        lines.push(rest.slice(0, end));
        rest = rest.slice(end);
      }
      lines.push(rest);
    }
  }
  return lines;
}

// The words on one line of at most this width, with … for what does not fit.
function cut(words, width, bold = false) {
  const [line, ...rest] = wrapped(words, width, bold);
  return rest.length ? `${wrapped(line, width - widthOf("…", bold), bold)[0]}…` : line;
}

// Round numbers from low to high, about `count` of them.
function ticksBetween(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].reduce((best, factor) => (Math.abs(Math.log((factor * power) / rough)) < Math.abs(Math.log((best * power) / rough)) ? factor : best));
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) ticks.push(at * step);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// As many of them as have room for their words side by side; of a count, whole numbers only.
function fittingTicks(low, high, pixels, whole = false) {
  for (let count = Math.ceil(pixels / 50); count > 1; count -= 1) {
    const made = ticksBetween(low, high, count);
    if (whole && made.digits) continue;
    const widest = Math.max(...made.ticks.map((tick) => widthOf(fixed(tick, made.digits))));
    if ((widest + 22) * (made.ticks.length - 1) <= pixels) return made;
  }
  return whole ? { ticks: [Math.ceil(low), Math.floor(high)].filter((tick, at, both) => at === 0 || tick > both[0]), digits: 0 } : ticksBetween(low, high, 1);
}

// A domain that holds the values, with a margin, and ends nowhere outside `within`.
function around(values, within = [-Infinity, Infinity], margin = 0.06) {
  const known = values.filter(Number.isFinite);
  let [low, high] = [Math.min(...known), Math.max(...known)];
  if (!known.length) [low, high] = [0, 1];
  const room = (high - low || Math.abs(high) || 1) * margin;
  return [Math.max(within[0], low - room), Math.min(within[1], high + room)];
}

const minus = (text) => text.replace(/^-/, "−").replace(/^−(0(\.0*)?)$/, "$1");
const fixed = (value, digits) => minus(value.toFixed(digits));
// Four digits, and no more than that many after the point.
const shown = (value) => minus(String(Number(value.toPrecision(4))));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

class Chart {
  constructor(width) {
    this.width = width;
    this.height = 0;
    this.values = []; // what the tip can say: {x, y, lines, series}
    this.root = svg("svg", { class: "drawing", role: "img", "font-size": TEXT, "font-family": "inherit" });
    this.into = this.root; // where marks go
  }

  add(name, attributes, ...children) {
    const made = svg(name, attributes, ...children);
    this.into.append(made);
    return made;
  }

  text(x, y, words, { anchor = "start", bold = false, fill = "var(--ink)" } = {}) {
    return this.add("text", { x, y, "text-anchor": anchor, "font-weight": bold ? 600 : null, fill }, words);
  }

  line(x1, y1, x2, y2, { stroke = "var(--axis)", width = 1, dash = null } = {}) {
    return this.add("line", { x1, y1, x2, y2, stroke, "stroke-width": width, "stroke-dasharray": dash });
  }

  marker(x, y, radius, { fill = "var(--ink)", hollow = false, shape = "circle", opacity = null } = {}) {
    const paint = hollow
      ? { fill: "var(--paper)", stroke: fill, "stroke-width": 1.6 }
      : { fill, stroke: "var(--paper)", "stroke-width": 0.6 };
    const r = hollow ? radius - 0.4 : radius;
    if (shape === "square")
      return this.add("rect", { x: x - r * 0.9, y: y - r * 0.9, width: 1.8 * r, height: 1.8 * r, opacity, ...paint });
    if (shape === "triangle" || shape === "star") {
      const corners = shape === "star" ? starOf(x, y, r) : [[x, y - 1.2 * r], [x + 1.1 * r, y + 0.8 * r], [x - 1.1 * r, y + 0.8 * r]];
      return this.add("path", { d: `M${corners.map((corner) => corner.map((at) => at.toFixed(2)).join(",")).join("L")}Z`, opacity, ...paint });
    }
    return this.add("circle", { cx: x.toFixed(2), cy: y.toFixed(2), r, opacity, ...paint });
  }

  // Words with a sample before each, in as many lines as they need; returns the height.
  legend(items, y) {
    let [x, line] = [0, 0];
    for (const { words, draw } of items) {
      const fitting = cut(words, this.width - 28);
      const needed = 28 + widthOf(fitting);
      if (x > 0 && x + needed > this.width) [x, line] = [0, line + 1];
      const middle = y + 8 + line * 20;
      draw(x, middle);
      this.text(x + 26, middle + 4, fitting);
      x += needed + 18;
    }
    return items.length ? line * 20 + 24 : 0;
  }

  // What the tip says of a value.
  say(x, y, lines, series) {
    this.values.push({ x, y, lines, series });
  }

  finish(height, label) {
    this.height = Math.ceil(height);
    for (const [key, value] of Object.entries({ width: this.width, height: this.height, viewBox: `0 0 ${this.width} ${this.height}`, "aria-label": label }))
      this.root.setAttribute(key, value);
    return this;
  }
}

function starOf(x, y, radius) {
  return Array.from({ length: 10 }, (_, at) => {
    const [length, angle] = [at % 2 ? radius * 0.45 : radius, (at * Math.PI) / 5];
    return [x + length * Math.sin(angle), y - length * Math.cos(angle)];
  });
}

// A rectangle of a chart with two linear scales. Ticks stand at the left and below; a title, a note and the words of
// the vertical axis above.
class Panel {
  constructor(chart, { x, y, width, height, title = "", note = "", xDomain, yDomain, xLabel = "", yLabel = "", xTicks, yTicks, whole = false, square = false }) {
    Object.assign(this, { chart, xDomain, yDomain });
    const titles = title ? wrapped(title, width, true) : [];
    const notes = note ? wrapped(note, width) : [];
    const top = y + (titles.length + notes.length) * 17 + (yLabel ? 22 : 8);
    const bottom = y + height - 20 - (xLabel ? 17 : 0);
    const vertical = yTicks ?? ticksBetween(...yDomain, Math.max(2, (bottom - top) / 55));
    const yWords = vertical.words ?? vertical.ticks.map((tick) => fixed(tick, vertical.digits));
    const left = x + (yWords.length ? Math.max(...yWords.map((words) => widthOf(words))) + 8 : 0);
    const right = x + width - 8;
    const horizontal = xTicks ?? fittingTicks(...xDomain, right - left, whole);
    const xWords = horizontal.words ?? horizontal.ticks.map((tick) => fixed(tick, horizontal.digits));
    Object.assign(this, { left, right, top, bottom: square ? Math.min(bottom, top + right - left) : bottom });
    titles.forEach((line, at) => chart.text(x, y + 12 + at * 17, line, { bold: true }));
    notes.forEach((line, at) => chart.text(x, y + 12 + (titles.length + at) * 17, line));
    if (yLabel) chart.text(x, top - 10, yLabel, { fill: "var(--soft)" });
    vertical.ticks.forEach((tick, at) => {
      chart.line(this.left, this.y(tick), this.right, this.y(tick), { stroke: "var(--grid)" });
      chart.text(this.left - 6, this.y(tick) + 4, yWords[at], { anchor: "end", fill: "var(--soft)" });
    });
    horizontal.ticks.forEach((tick, at) => {
      chart.line(this.x(tick), this.bottom, this.x(tick), this.bottom + 4);
      const half = widthOf(xWords[at]) / 2;
      const middle = Math.min(Math.max(this.x(tick), x + half), x + width - half);
      chart.text(middle, this.bottom + 17, xWords[at], { anchor: "middle", fill: "var(--soft)" });
    });
    if (horizontal.ticks.length) chart.line(this.left, this.bottom, this.right, this.bottom);
    if (xLabel) chart.text(this.right, this.bottom + 34, xLabel, { anchor: "end", fill: "var(--soft)" });
  }

  x(value) {
    return this.left + ((value - this.xDomain[0]) / (this.xDomain[1] - this.xDomain[0])) * (this.right - this.left);
  }

  y(value) {
    return this.bottom - ((value - this.yDomain[0]) / (this.yDomain[1] - this.yDomain[0])) * (this.bottom - this.top);
  }

  // Everything drawn by `draw` is cut at the edges of the panel.
  clipped(draw) {
    const id = `clip-${(Panel.clips = (Panel.clips ?? 0) + 1)}`;
    const { left, right, top, bottom } = this;
    this.chart.add("clipPath", { id }, svg("rect", { x: left, y: top, width: right - left, height: bottom - top }));
    const outside = this.chart.into;
    this.chart.into = this.chart.add("g", { "clip-path": `url(#${id})` });
    draw();
    this.chart.into = outside;
  }

  // Words at the right of the panel, each at a height of its own, with a line to where that height would be.
  labelsAtRight(labels) {
    const placed = labels.map(({ value, words, stroke }) => ({ from: this.y(value), y: this.y(value), words, stroke })).sort((one, other) => one.y - other.y);
    placed.forEach((label, at) => (label.y = Math.max(label.y, this.top, at ? placed[at - 1].y + 15 : -Infinity)));
    const below = Math.max(0, (placed.at(-1)?.y ?? 0) - this.bottom);
    for (const { from, y, words, stroke } of placed) {
      this.chart.line(this.right, from, this.right + 12, y - below, { stroke, width: 1.5 });
      this.chart.text(this.right + 16, y - below + 4, words);
    }
  }

  path(points, { stroke = "var(--ink)", width = 2, dash = null, opacity = null } = {}) {
    const corners = points.map(([x, y]) => `${this.x(x).toFixed(2)},${this.y(y).toFixed(2)}`);
    if (corners.length)
      this.chart.add("path", { d: `M${corners.join("L")}`, fill: "none", stroke, "stroke-width": width, "stroke-dasharray": dash, opacity, "stroke-linejoin": "round", "stroke-linecap": dash ? null : "round" });
  }
}

// Places of `count` panels of at least `least` pixels: as few rows as the width allows, and these equally full.
function places(width, count, least, most = Infinity, gap = 28) {
  const fit = Math.max(1, Math.min(count, most, Math.floor((width + gap) / (least + gap))));
  const across = Math.ceil(count / Math.ceil(count / fit));
  const each = (width - gap * (across - 1)) / across;
  return { across, width: each, at: (place) => ({ x: (place % across) * (each + gap), row: Math.floor(place / across) }) };
}

// The tip of a drawn chart: it follows the pointer, and the arrow keys where the chart has the focus.
function attachTip(frame, chart) {
  const tip = frame.querySelector(".tip");
  const ring = chart.add("circle", { r: 7, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5, visibility: "hidden", class: "ring" });
  let current = -1;
  const show = (at) => {
    current = at;
    ring.setAttribute("visibility", at < 0 ? "hidden" : "visible");
    tip.hidden = at < 0;
    if (at < 0) return;
    const { x, y, lines } = chart.values[at];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    tip.style.left = `${Math.max(0, Math.min(x - tip.offsetWidth / 2, chart.width - tip.offsetWidth))}px`;
    tip.style.top = `${y - tip.offsetHeight - 12 < 0 ? y + 14 : y - tip.offsetHeight - 12}px`;
  };
  const nearest = (x, y, among, reach) => {
    let [best, distance] = [-1, reach];
    chart.values.forEach((value, at) => {
      const here = Math.hypot(value.x - x, value.y - y);
      if (among(value) && here < distance) [best, distance] = [at, here];
    });
    return best;
  };
  // of the series before or after this one, the value that is closest
  const beside = (direction) => {
    const series = [...new Set(chart.values.map((value) => value.series))];
    const next = series[series.indexOf(chart.values[current].series) + direction];
    const { x, y } = chart.values[current];
    return next === undefined ? current : nearest(x, y, (value) => value.series === next, Infinity);
  };
  const step = (direction) => Math.min(Math.max(current + direction, 0), chart.values.length - 1);
  frame.onpointermove = (event) => {
    const box = chart.root.getBoundingClientRect();
    show(nearest(event.clientX - box.left, event.clientY - box.top, () => true, 30));
  };
  frame.onpointerleave = () => show(-1);
  frame.onblur = () => show(-1);
  frame.onkeydown = (event) => {
    const moves = {
      ArrowRight: () => step(1),
      ArrowLeft: () => step(-1),
      ArrowDown: () => (current < 0 ? 0 : beside(1)),
      ArrowUp: () => (current < 0 ? 0 : beside(-1)),
      Home: () => 0,
      End: () => chart.values.length - 1,
      Escape: () => -1,
    };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey || !chart.values.length) return;
    event.preventDefault();
    show(moves[event.key]());
  };
  show(-1);
}
