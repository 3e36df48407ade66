// The page: what is chosen, when it is drawn, and what the buttons do. Names from data enter as text only.

const REPORT = JSON.parse(document.getElementById("data").textContent);
const drawings = []; // everything that is drawn anew when its width changes: {frame, draw, chart}

const html = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

// Rows of a table that came as columns; a column of few different words came as these and their places.
function rowsOf(columns) {
  const names = Object.keys(columns);
  const values = names.map((name) => (Array.isArray(columns[name]) ? columns[name] : columns[name].at.map((at) => columns[name].words[at])));
  return Array.from(values[0] ?? [], (_, row) => Object.fromEntries(names.map((name, at) => [name, values[at][row]])));
}

const widthFor = (frame) => Math.floor(frame.getBoundingClientRect().width); // a part of a pixel would scale it

function redraw(drawing) {
  const { frame } = drawing;
  const width = widthFor(frame);
  if (!width) return;
  drawing.width = width;
  const chart = new Chart(width);
  const rows = drawing.rows();
  frame.querySelectorAll(".drawing, .nothing").forEach((old) => old.remove());
  if (!rows.length) {
    frame.prepend(html("p", { className: "nothing", textContent: drawing.nothing() }));
    return;
  }
  chart.finish(drawing.draw(chart, rows), drawing.alt);
  frame.prepend(chart.root);
  drawing.chart = chart;
  attachTip(frame, chart);
}

const watcher = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const drawing = drawings.find((one) => one.frame === target);
    if (widthFor(target) !== drawing.width) redraw(drawing);
  }
});

function addDrawing(figure, drawing) {
  const frame = figure.querySelector(".chart");
  const { title, alt } = figure.dataset;
  frame.replaceChildren(html("div", { className: "tip", hidden: true, role: "status" }));
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", `${alt}. Arrow keys go through the values.`);
  const made = { ...drawing, frame, alt };
  const actions = figure.querySelector(".actions");
  const button = (words, what, act) => {
    const one = html("button", { type: "button", textContent: words, onclick: act });
    one.setAttribute("aria-label", `${words} of the figure: ${what}`);
    return one;
  };
  actions.replaceChildren(
    button("SVG", title, () => save(`${drawing.file}.svg`, "image/svg+xml", standalone(made.chart))),
    button("CSV", title, () => save(`${drawing.file}.csv`, "text/csv", csv(drawing.table()))),
  );
  drawings.push(made);
  redraw(made);
  watcher.observe(frame);
  return made;
}

// The figure as a file that stands alone: in the light colours, whatever the page shows.
function standalone(chart) {
  const copy = chart.root.cloneNode(true);
  copy.querySelectorAll(".ring").forEach((ring) => ring.remove());
  const probe = html("span");
  document.body.append(probe);
  probe.style.colorScheme = "light";
  const light = (variable) => {
    probe.style.color = variable;
    const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    return `#${[red, green, blue].map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;
  };
  for (const one of [copy, ...copy.querySelectorAll("*")])
    for (const name of ["fill", "stroke"])
      if (one.getAttribute(name)?.startsWith("var(")) one.setAttribute(name, light(one.getAttribute(name)));
  copy.removeAttribute("class");
  copy.setAttribute("font-family", getComputedStyle(document.body).fontFamily);
  copy.prepend(svg("title", {}, copy.getAttribute("aria-label")), svg("rect", { width: "100%", height: "100%", fill: light("var(--paper)") }));
  probe.remove();
  return new XMLSerializer().serializeToString(copy);
}

function csv(rows) {
  const names = Object.keys(rows[0] ?? {});
  const cell = (value) => (/[",\r\n]/.test(value ?? "") ? `"${value.replaceAll('"', '""')}"` : (value ?? ""));
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}

function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  html("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// A button that copies what stands in an element, or selects it where the browser does not let it copy.
function copier(button) {
  const source = document.getElementById(button.dataset.copies);
  const words = button.textContent;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: copy it with the keyboard";
    }
    setTimeout(() => (button.textContent = words), 2000);
  };
  button.hidden = false;
}

// Boxes for arms or seeds; what is ticked is what the figures show.
function chooser(title, names, chosen, samples, onChange) {
  const boxes = names.map((name, at) => {
    const box = html("input", { type: "checkbox", checked: chosen.has(at) });
    box.onchange = () => {
      chosen[box.checked ? "add" : "delete"](at);
      onChange();
    };
    return { box, label: html("label", {}, box, ...samples(at), name) };
  });
  const set = (which) => () => {
    boxes.forEach(({ box }, at) => {
      box.checked = which(at);
      chosen[box.checked ? "add" : "delete"](at);
    });
    onChange();
  };
  const all = html("button", { type: "button", textContent: "all", onclick: set(() => true) });
  const none = html("button", { type: "button", textContent: "none", onclick: set(() => false) });
  all.setAttribute("aria-label", `all ${title}`);
  none.setAttribute("aria-label", `no ${title}`);
  return html("fieldset", {}, html("legend", { textContent: title }), html("div", { className: "boxes" }, ...boxes.map(({ label }) => label)), html("div", { className: "all" }, all, none));
}

function setUpSection(element, section) {
  const { noun, seeds } = section;
  const arms = new Set(section.shown);
  const chosen = new Set(seeds.map((_, at) => at));
  const own = [];
  const summary = element.querySelector(".chooser summary span");
  const change = () => {
    const words = [`${arms.size} of ${section.arms.length} ${noun}s`];
    if (seeds.length) words.push(`${chosen.size} of ${seeds.length} seeds`);
    summary.textContent = words.join(", ");
    own.forEach(redraw);
  };
  const sample = (arm) => {
    const line = svg("svg", { width: 22, height: 10, "aria-hidden": "true" });
    line.append(svg("line", { x1: 1, x2: 21, y1: 5, y2: 5, stroke: colourOf(arm), "stroke-width": 3, "stroke-dasharray": dashOf(arm) }));
    return [line];
  };
  const sets = element.querySelector(".chooser .sets");
  sets.append(chooser(`${noun}s`, section.arms, arms, sample, change));
  if (seeds.length) sets.append(chooser("seeds", seeds.map(String), chosen, () => [], change));
  for (const [name, figure] of Object.entries(section.figures)) {
    const table = rowsOf(figure.columns);
    const rows = () => {
      const shownSeeds = new Set([...chosen].map((at) => seeds[at]));
      return table.filter((row) => arms.has(row.arm) && (row.seed === undefined || shownSeeds.has(row.seed)));
    };
    const named = ({ arm, ...rest }) => ({ [noun]: section.arms[arm], ...rest });
    own.push(addDrawing(element.querySelector(`[data-figure="${name}"]`), {
      file: `${section.file}-${name.replaceAll("_", "-")}`,
      rows,
      table: () => rows().map(named),
      nothing: () => {
        if (arms.size && (chosen.size || !seeds.length)) return section.nothing;
        return `Choose at least one ${noun}${seeds.length ? " and one seed" : ""}.`;
      },
      draw: (chart, shownRows) => FIGURES[name](chart, shownRows, figure.constants, section),
    }));
  }
  change();
  element.querySelector(".chooser").hidden = section.arms.length * Math.max(1, seeds.length) === 1;
}

// The scheme is the system's until the button is used, and is forgotten with the page.
function setUpScheme(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const now = document.documentElement.style.colorScheme || (dark.matches ? "dark" : "light");
    button.textContent = now === "dark" ? "Light colours" : "Dark colours";
    return now;
  };
  button.onclick = () => {
    document.documentElement.style.colorScheme = show() === "dark" ? "light" : "dark";
    show();
  };
  dark.addEventListener("change", show);
  show();
  button.hidden = false;
}

// The headings of a section as links, where they are many.
function setUpContents(nav) {
  const headings = [...nav.parentElement.querySelectorAll("h2")].filter((heading) => nav.compareDocumentPosition(heading) & Node.DOCUMENT_POSITION_FOLLOWING);
  const list = html("ul");
  headings.forEach((heading, at) => {
    heading.id ||= `${nav.parentElement.id}-${at}`;
    list.append(html("li", {}, html("a", { href: `#${heading.id}`, textContent: heading.textContent })));
  });
  nav.append(list);
  nav.hidden = false;
}

// On paper the figures take the width of the paper.
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("on-paper");
  drawings.forEach(redraw);
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("on-paper");
  drawings.forEach(redraw);
});

// A table that is wider than the page says so.
const tables = new ResizeObserver((entries) => {
  for (const { target } of entries) target.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1);
});
document.querySelectorAll(".scroll").forEach((box) => tables.observe(box));

// The boxes stand open where there is room beside the figures.
const wide = matchMedia("(min-width: 62rem)");
const openChoosers = () => document.querySelectorAll(".chooser details").forEach((details) => (details.open = wide.matches));
wide.addEventListener("change", openChoosers);
openChoosers();

document.querySelectorAll("[data-copies]").forEach(copier);
document.querySelectorAll("[data-section]").forEach((element) => setUpSection(element, REPORT.sections[Number(element.dataset.section)]));
document.querySelectorAll("nav.contents").forEach(setUpContents);
setUpScheme(document.getElementById("scheme"));
document.documentElement.classList.add("drawn");
