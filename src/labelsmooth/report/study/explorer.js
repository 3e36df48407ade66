// What an ε asks of the logits, for (1−ε)·onehot + ε/K. One row whose label's logit stands a gap g above the K−1
// others, which are equal; losses and slopes are in nats. tests/report/test_page.py holds these against
// labelsmooth.theory and labelsmooth.cross_entropy.

const THEORY = {
  onClass: (eps, K) => 1 - eps + eps / K,
  onOther: (eps, K) => eps / K,
  optimalGap: (eps, K) => Math.log1p((K * (1 - eps)) / eps), // ∞ at ε = 0
  confidence: (g, K) => 1 / (1 + (K - 1) * Math.exp(-g)),
  // log Σ exp z − Σ q z, from the side where nothing cancels
  loss(g, eps, K) {
    const others = (K - 1) * THEORY.onOther(eps, K);
    if (g >= 0) return Math.log1p((K - 1) * Math.exp(-g)) + others * g;
    return Math.log(K - 1) + Math.log1p(Math.exp(g) / (K - 1)) - THEORY.onClass(eps, K) * g;
  },
  // of the loss in the label's logit: p − q of the label, by what both leave to the others
  slope(g, eps, K) {
    const odds = (K - 1) * Math.exp(-g);
    const left = odds === Infinity ? 1 : odds / (1 + odds);
    return (K - 1) * THEORY.onOther(eps, K) - left;
  },
  floor: (eps, K) => (eps === 0 ? 0 : THEORY.loss(THEORY.optimalGap(eps, K), eps, K)),
};

// The rows of the two curves: gaps from −5 on in steps, and the optimum where it is finite.
function explored(eps, K) {
  const best = THEORY.optimalGap(eps, K);
  const last = Math.ceil(Math.max(12, Number.isFinite(best) ? best + 4 : Math.log(K) + 8));
  const gaps = Array.from({ length: 201 }, (_, at) => -5 + ((last + 5) * at) / 200);
  if (Number.isFinite(best)) gaps.push(best);
  gaps.sort((one, other) => one - other);
  return gaps.map((g) => ({
    gap: g,
    optimum: g === best ? 1 : 0,
    confidence: THEORY.confidence(g, K),
    loss: THEORY.loss(g, eps, K),
    gradient: THEORY.slope(g, eps, K),
    hard_loss: THEORY.loss(g, 0, K),
    hard_gradient: THEORY.slope(g, 0, K),
  }));
}

const EXPLORER = {
  target(chart, [{ on_class, on_other, num_others }]) {
    const width = Math.min(chart.width, 420);
    const panel = new Panel(chart, {
      x: 0, y: 0, width, height: 250, title: "target", yLabel: "q", xDomain: [0, 2], yDomain: [0, 1],
      xTicks: { ticks: [0.5, 1.5], words: ["the label", num_others === 1 ? "the other class" : `each of ${num_others.toLocaleString("en")} others`] },
    });
    [on_class, on_other].forEach((value, at) => {
      const [left, top] = [panel.x(at + 0.2), panel.y(value)];
      chart.add("rect", { x: left, y: top, width: panel.x(at + 0.8) - left, height: Math.max(panel.bottom - top, 1), fill: at ? "var(--soft)" : "var(--arm-1)" });
      chart.text(panel.x(at + 0.5), top - 6 < panel.top + 8 ? top + 16 : top - 6, shown(value), { anchor: "middle", bold: true, fill: top - 6 < panel.top + 8 ? "var(--paper)" : "var(--ink)" });
      chart.say(panel.x(at + 0.5), top, [`${at ? "each other class" : "the label"}: ${shown(value)}`], "target");
    });
    return 250;
  },
  loss: (chart, rows, constants) => exploredCurve(chart, rows, constants, "loss", "loss against the gap", "loss (nats)"),
  gradient: (chart, rows, constants) => exploredCurve(chart, rows, constants, "gradient", "gradient against the gap", "p − q of the label"),
};

function exploredCurve(chart, rows, { eps }, column, title, yLabel) {
  const hard = `hard_${column}`;
  const ends = [rows[0].gap, rows.at(-1).gap];
  const top = chart.legend([
    { words: `ε = ${shown(eps)}`, draw: (x, middle) => chart.line(x, middle, x + 20, middle, { stroke: "var(--arm-1)", width: 2.5 }) },
    { words: "hard labels", draw: (x, middle) => chart.line(x, middle, x + 20, middle, { stroke: "var(--arm-0)", width: 1.5, dash: "4 3" }) },
  ], 0);
  const bounds = column === "loss" ? [0, Infinity] : [-Infinity, Infinity];
  const panel = new Panel(chart, { x: 0, y: top, width: chart.width, height: 270, title, xDomain: ends, yDomain: around([0, ...rows.flatMap((row) => [row[column], row[hard]])], bounds), xLabel: "gap of the label's logit to the others (nats)", yLabel });
  if (column === "gradient") chart.line(panel.left, panel.y(0), panel.right, panel.y(0));
  panel.path(rows.map((row) => [row.gap, row[hard]]), { stroke: "var(--arm-0)", width: 1.5, dash: "4 3" });
  panel.path(rows.map((row) => [row.gap, row[column]]), { stroke: "var(--arm-1)", width: 2.2 });
  const best = rows.find((row) => row.optimum);
  if (best) {
    const [x, y] = [panel.x(best.gap), panel.y(best[column])];
    chart.line(x, panel.top, x, panel.bottom, { stroke: "var(--arm-1)", dash: "2 3" });
    chart.marker(x, y, 5, { fill: "var(--arm-1)" });
    const words = `optimum ${shown(best.gap)}`;
    const leftwards = x + widthOf(words, true) + 10 > panel.right;
    chart.text(x + (leftwards ? -8 : 8), column === "loss" ? panel.top + 12 : panel.bottom - 10, words, { anchor: leftwards ? "end" : "start", bold: true });
  }
  rows.forEach((row, at) => {
    if (at % 4 && !row.optimum) return;
    chart.say(panel.x(row.gap), panel.y(row[column]), [`gap ${shown(row.gap)}${row.optimum ? ", the optimum" : ""}, confidence ${shown(row.confidence)}`, `${column} ${shown(row[column])}, of hard labels ${shown(row[hard])}`], column);
  });
  return top + 270;
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

setUpExplorer(document.getElementById("explorer"));
