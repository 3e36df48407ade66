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

function setUpStudy(section, study, file) {
  const arms = new Set(study.shown);
  const seeds = new Set(study.seeds.map((_, at) => at));
  const own = [];
  const summary = section.querySelector(".chooser summary span");
  const change = () => {
    summary.textContent = `${arms.size} of ${study.arms.length} arms, ${seeds.size} of ${study.seeds.length} seeds`;
    own.forEach(redraw);
  };
  section.querySelector(".chooser .sets").append(
    chooser("arms", study.arms, arms, (arm) => {
      const sample = svg("svg", { width: 22, height: 10, "aria-hidden": "true" });
      sample.append(svg("line", { x1: 1, x2: 21, y1: 5, y2: 5, stroke: colourOf(arm), "stroke-width": 3, "stroke-dasharray": dashOf(arm) }));
      return [sample];
    }, change),
    chooser("seeds", study.seeds.map(String), seeds, () => [], change),
  );
  for (const [name, figure] of Object.entries(study.figures)) {
    const table = rowsOf(figure.columns);
    const rows = () => {
      const chosen = new Set([...seeds].map((at) => study.seeds[at]));
      return table.filter((row) => arms.has(row.arm) && chosen.has(row.seed));
    };
    own.push(addDrawing(section.querySelector(`[data-figure="${name}"]`), {
      file: `${file}-${name.replaceAll("_", "-")}`,
      rows,
      table: () => rows().map((row) => ({ ...row, arm: study.arms[row.arm] })),
      nothing: () => (arms.size && seeds.size ? "No uniform ε is among the chosen arms." : "Choose at least one arm and one seed."),
      draw: (chart, shownRows) => FIGURES[name](chart, shownRows, figure.constants, study),
    }));
  }
  change();
  section.querySelector(".chooser").hidden = false;
}

function setUpExplorer(section) {
  const find = (name) => section.querySelector(`[name="${name}"]`);
  const LOWEST = 2;
  const HIGHEST = 200000;
  const toClasses = (part) => Math.round(LOWEST * (HIGHEST / LOWEST) ** part);
  const toPart = (classes) => Math.log(classes / LOWEST) / Math.log(HIGHEST / LOWEST);
  let [eps, classes] = [Number(find("eps").value), Number(find("classes").value)];
  const curves = () => explored(eps, classes);
  const target = () => [{ on_class: THEORY.onClass(eps, classes), on_other: THEORY.onOther(eps, classes), num_others: classes - 1 }];
  const own = Object.entries(EXPLORER).map(([name, draw]) => {
    const figure = section.querySelector(`[data-figure="${name}"]`);
    return addDrawing(figure, {
      file: `label-smoothing-${name}`,
      rows: name === "target" ? target : curves,
      table: name === "target" ? target : curves,
      draw: (chart, rows) => draw(chart, rows, { eps, classes }),
    });
  });
  const update = () => {
    find("eps-slider").value = eps;
    find("classes-slider").value = toPart(classes);
    find("classes-slider").setAttribute("aria-valuetext", `${classes} classes`);
    const best = THEORY.optimalGap(eps, classes);
    const floor = THEORY.floor(eps, classes);
    const say = { gap: best === Infinity ? "∞" : `${shown(best)} nats`, confidence: shown(THEORY.onClass(eps, classes)), floor: `${shown(floor)} nats`, perplexity: shown(Math.exp(floor)) };
    for (const [name, words] of Object.entries(say)) section.querySelector(`[data-says="${name}"]`).textContent = words;
    own.forEach(redraw);
  };
  const listen = (name, read, write, echo) => {
    find(name).oninput = (event) => {
      const value = read(event.target.value);
      if (!Number.isFinite(value)) return;
      write(value);
      if (echo) find(echo).value = value;
      update();
    };
  };
  const within = (low, high) => (text) => (text.trim() === "" ? NaN : Math.min(Math.max(Number(text), low), high));
  const setEps = (value) => (eps = value);
  const setClasses = (value) => (classes = Math.round(value));
  listen("eps-slider", Number, setEps, "eps");
  listen("eps", within(0, 1), setEps, null);
  listen("classes-slider", (part) => toClasses(Number(part)), setClasses, "classes");
  listen("classes", within(LOWEST, HIGHEST), setClasses, null);
  update();
  section.querySelector(".controls").hidden = false;
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

// On paper the figures take the width of the paper.
addEventListener("beforeprint", () => {
  document.documentElement.classList.add("on-paper");
  drawings.forEach(redraw);
});
addEventListener("afterprint", () => {
  document.documentElement.classList.remove("on-paper");
  drawings.forEach(redraw);
});

// The boxes stand open where there is room beside the figures.
const wide = matchMedia("(min-width: 62rem)");
const openChoosers = () => document.querySelectorAll(".chooser details").forEach((details) => (details.open = wide.matches));
wide.addEventListener("change", openChoosers);
openChoosers();

document.querySelectorAll("[data-copies]").forEach(copier);
document.querySelectorAll("[data-study]").forEach((section) => {
  const study = REPORT.studies[Number(section.dataset.study)];
  setUpStudy(section, study, study.file);
});
setUpExplorer(document.getElementById("explorer"));
setUpScheme(document.getElementById("scheme"));
document.documentElement.classList.add("drawn");
