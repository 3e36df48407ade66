// The figures of a page, one function each: it gets a chart of the width at hand, the rows of the chosen arms and
// seeds, the figure's constants, and the section of the page with the names of the arms. All numbers are in the rows; at most they are averaged over seeds here.

const COLOURS = 5; // --arm-1 to --arm-5, dashed for the arms beyond; --arm-0 is the first arm's, hard labels, alone
const CLASS_COLOURS = ["var(--arm-1)", "var(--arm-2)", "var(--arm-3)"];

const colourOf = (arm) => `var(--arm-${arm && 1 + ((arm - 1) % COLOURS)})`;
const dashOf = (arm) => [null, "7 3", "2 3", "9 3 2 3"][arm && Math.floor((arm - 1) / COLOURS) % 4];
const percent = (value, digits = 2) => `${fixed(100 * value, digits)} %`;
// How units of the catalogue are written that are shown times 100; titles name the others.
const HUNDREDTHS = { share: "%", points: "points" };
const factorOf = ({ unit }) => (unit in HUNDREDTHS ? 100 : 1);
// A value of a quantity, with its half-width where there is one.
const score = (value, quantity, halfWidth = null) => {
  const digits = quantity.unit in HUNDREDTHS ? 2 : 4;
  const numbers = [value, halfWidth].filter((one) => one !== null).map((one) => fixed(factorOf(quantity) * one, digits));
  return [numbers.join(" ± "), HUNDREDTHS[quantity.unit]].filter(Boolean).join(" ");
};
// The least and the largest value that a quantity can have.
const boundsOf = ({ bounds: [low, high] }) => [low ?? -Infinity, high ?? Infinity];
const seedOf = (row) => (row.seed === undefined ? "" : `, seed ${row.seed}`);
// A number before and after something, or alone where there is no other.
const change = (values, show) => values.filter(Number.isFinite).map(show).join(" → ");

// The rows by the values of some columns, in the order in which they come.
function grouped(rows, ...columns) {
  const groups = new Map();
  for (const row of rows) {
    const key = columns.map((column) => row[column]).join("|");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return [...groups.values()];
}

const armsOf = (rows) => [...new Set(rows.map((row) => row.arm))];

function armLegend(chart, arms, section, y = 0) {
  return chart.legend(
    arms.map((arm) => ({
      words: section.arms[arm],
      draw: (x, middle) => chart.line(x, middle, x + 20, middle, { stroke: colourOf(arm), width: 2.5, dash: dashOf(arm) }),
    })),
    y,
  );
}

function pairLegend(chart, first, second, draw, y = 0) {
  return chart.legend([
    { words: first, draw: (x, middle) => draw(x, middle, false) },
    { words: second, draw: (x, middle) => draw(x, middle, true) },
  ], y);
}

const dotSample = (chart) => (x, middle, filled) =>
  chart.marker(x + 12, middle, 4.5, { fill: "var(--soft)", hollow: !filled });

// what was fitted after the training, and how it is drawn
const REPAIRS = {
  "": { words: "as trained", hollow: true },
  temperature: { words: "with temperature" },
  "p-norm": { words: "with p-norm", shape: "square" },
};

// A thin line for each seed and a thick one for their mean, of one arm.
function seedsAndMean(panel, rows, x, y, factor, section, title, points = false) {
  const { chart } = panel;
  const [arm] = armsOf(rows);
  const seeds = grouped(rows, "seed");
  if (seeds.length > 1)
    for (const one of seeds) panel.path(one.map((row) => [row[x], factor * row[y]]), { stroke: colourOf(arm), width: 0.8, opacity: 0.5 });
  const means = grouped(rows, x).map((same) => [same[0][x], factor * mean(same.map((row) => row[y]))]);
  panel.path(means, { stroke: colourOf(arm), width: 2.2, dash: dashOf(arm) });
  for (const [at, value] of means) {
    if (points || means.length === 1) chart.marker(panel.x(at), panel.y(value), 3.5, { fill: colourOf(arm) });
    chart.say(panel.x(at), panel.y(value), [section.arms[arm], `${title}: ${shown(value)} after ${x} ${at}`], `${y} ${arm}`);
  }
}

// An interval at a height, with an arrow at each end that lies outside the panel.
function interval(panel, low, high, y, stroke) {
  const { chart, left, right } = panel;
  chart.line(Math.max(panel.x(low), left), y, Math.min(panel.x(high), right), y, { stroke, width: 1.5 });
  const arrow = (x, way) => chart.add("path", { d: `M${x - 6 * way},${y - 4}L${x},${y}L${x - 6 * way},${y + 4}`, fill: "none", stroke, "stroke-width": 1.5 });
  if (panel.x(low) < left) arrow(left, -1);
  if (panel.x(high) > right) arrow(right, 1);
}

// A domain that holds the values. An interval of few seeds can be many times as long as what it is about: each end may
// take up to half as much again.
function spanning(values, ends, within) {
  const [low, high] = around(values, undefined, 0);
  const reach = (high - low) / 2 || 0.01;
  return around([...values, ...ends.map((end) => Math.min(Math.max(end, low - reach), high + reach))], within);
}

const endsOf = ({ mean, half_width }) => (half_width === null ? [] : [mean - half_width, mean + half_width]);

const repairLegend = (chart, repairs) =>
  chart.legend(repairs.map(({ words, ...look }) => ({
    words,
    draw: (x, middle) => chart.marker(x + 12, middle, 4.5, { fill: "var(--soft)", ...look }),
  })), 0);

// Ticks at 0, 1, 2 … with words: every one, or every second, and so on, as there is room.
function fittingWords(words, width) {
  const widest = Math.max(...words.map((word) => widthOf(word))) + 6;
  const step = Math.ceil((widest * words.length) / width);
  const kept = words.map((_, at) => at).filter((at) => at % step === 0);
  return { ticks: kept, words: kept.map((at) => words[at]) };
}

// Panels of numbers along what they depend on: a thin line for each seed, a thick one for their mean, and at each place the
// interval of the mean over all seeds, cut at the edge of the panel.
function along(chart, rows, { axis, within, ticks, panels, estimates }, section) {
  const arms = armsOf(rows);
  const top = armLegend(chart, arms, section);
  const grid = places(chart.width, panels.length, 220, 3);
  const lines = Math.max(...panels.map(({ title }) => wrapped(title, grid.width, true).length));
  const height = 240 + 17 * lines;
  const order = ticks.map(([at]) => at); // places side by side, where they are no numbers on a line
  const placeOf = (at) => (order.length ? order.indexOf(at) : at);
  const words = new Map(ticks);
  panels.forEach((quantity, place) => {
    const { x, row } = grid.at(place);
    const { title, label } = quantity;
    const factor = factorOf(quantity);
    const points = rows.filter((point) => point.series === title);
    const ofPanel = estimates.filter((one) => one.series === title && arms.includes(one.arm));
    const xs = points.map((point) => placeOf(point.at));
    const domain = spanning([...points.map((point) => point.value), ...ofPanel.map((one) => one.mean)], ofPanel.flatMap(endsOf), boundsOf(quantity));
    const panel = new Panel(chart, {
      x,
      y: top + row * (height + 24),
      width: grid.width,
      height,
      title,
      yLabel: label === title ? "" : label,
      xDomain: around(xs, within ?? undefined, 0.05),
      yDomain: domain.map((end) => end * factor),
      xTicks: order.length ? fittingWords(ticks.map(([, word]) => word), grid.width - 40) : undefined,
      xLabel: axis,
    });
    arms.forEach((arm, at) => {
      const aside = 3 * (at - (arms.length - 1) / 2); // intervals of the arms stand beside each other
      const own = points.filter((point) => point.arm === arm);
      const seeds = grouped(own, "seed");
      const corners = (group) => group.map((point) => [placeOf(point.at), factor * point.value]);
      if (seeds.length > 1) for (const one of seeds) panel.path(corners(one), { stroke: colourOf(arm), width: 0.8, opacity: 0.5 });
      const means = grouped(own, "at").map((same) => ({ at: same[0].at, value: mean(same.map((point) => point.value)) }));
      panel.path(corners(means), { stroke: colourOf(arm), width: 2.2, dash: dashOf(arm) });
      panel.clipped(() => {
        for (const one of ofPanel.filter((each) => each.arm === arm)) {
          const [low, high] = endsOf(one);
          const px = panel.x(placeOf(one.at)) + aside;
          if (high !== undefined) chart.line(px, panel.y(factor * low), px, panel.y(factor * high), { stroke: colourOf(arm), width: 1.5 });
        }
      });
      for (const point of means) {
        const estimate = ofPanel.find((one) => one.arm === arm && one.at === point.at);
        const [px, py] = [panel.x(placeOf(point.at)), panel.y(factor * point.value)];
        chart.marker(px, py, 3, { fill: colourOf(arm) });
        chart.say(px, py, [section.arms[arm], `${title}: ${score(estimate.mean, quantity, estimate.half_width)}`, `${axis}: ${words.get(point.at) ?? shown(point.at)}`], `${title} ${arm}`);
      }
    });
  });
  return top + Math.ceil(panels.length / grid.across) * (height + 24) - 24;
}

const FIGURES = {
  temperatures: along,
  beams: along,
  coverage: along,
  positions: along,
  frequencies: along,

  scores(chart, rows, { metrics, estimates }, section) {
    const arms = armsOf(rows);
    const names = Math.max(...arms.map((arm) => widthOf(section.arms[arm]))) + 14;
    const above = names > 0.4 * chart.width; // names stand above their rows where there is no room beside them
    const aside = above ? 0 : names;
    const grid = places(chart.width - aside, metrics.length, above ? chart.width : 165);
    const each = above ? 58 : 44;
    const height = 24 + arms.length * each + 24;
    const made = Object.entries(REPAIRS).filter(([repair]) => rows.some((point) => point.repair === repair));
    const top = repairLegend(chart, made.length > 1 ? made.map(([, look]) => look) : []);
    metrics.forEach((metric, place) => {
      const { x, row } = grid.at(place);
      const factor = factorOf(metric);
      const points = rows.filter((point) => metric.repairs.includes(point.repair));
      const ofMetric = estimates.filter((one) => one.metric === metric.name && arms.includes(one.arm) && metric.repairs.includes(one.repair));
      const values = points.map((point) => point[metric.name]);
      const domain = spanning([...values, ...ofMetric.map((one) => one.mean)], ofMetric.flatMap(endsOf), boundsOf(metric));
      const panel = new Panel(chart, {
        x: x + aside,
        y: top + row * (height + 22),
        width: grid.width,
        height,
        title: metric.title,
        xDomain: domain.map((end) => end * factor),
        yDomain: [arms.length, 0],
        yTicks: { ticks: [], words: [] },
      });
      arms.forEach((arm, line) => {
        const border = panel.y(line);
        const middle = border + each * (above ? 0.64 : 0.5);
        if (line) chart.line(above ? 0 : panel.left, border, panel.right, border, { stroke: "var(--grid)" });
        if (above) chart.text(0, border + 15, section.arms[arm]);
        else if (place % grid.across === 0) chart.text(0, middle + 4, section.arms[arm]);
        metric.repairs.forEach((repair, at) => {
          const { words, ...look } = REPAIRS[repair];
          const y = middle + 13 * (at - (metric.repairs.length - 1) / 2);
          const what = `${section.arms[arm]}, ${words}`;
          const estimate = ofMetric.find((one) => one.arm === arm && one.repair === repair);
          const centre = panel.x(factor * estimate.mean);
          const [low, high] = endsOf(estimate);
          if (high !== undefined) interval(panel, factor * low, factor * high, y, colourOf(arm));
          for (const point of points.filter((one) => one.arm === arm && one.repair === repair)) {
            const px = panel.x(factor * point[metric.name]);
            // where there is nothing to tell apart, all are filled
            chart.marker(px, y, 4, { fill: colourOf(arm), ...(metric.repairs.length > 1 ? look : {}) });
            chart.say(px, y, [what, `${metric.title}: ${score(point[metric.name], metric)}, seed ${point.seed}`], metric.name);
          }
          chart.line(centre, y - 6, centre, y + 6, { stroke: colourOf(arm), width: 2.5 });
          chart.say(centre, y, [what, `${metric.title}: mean ${score(estimate.mean, metric, estimate.half_width)}`], metric.name);
        });
      });
    });
    return top + Math.ceil(metrics.length / grid.across) * (height + 22) - 22;
  },

  reliability(chart, rows, { ece, before }, section) {
    const arms = armsOf(rows);
    const grid = places(chart.width, arms.length, 200, 4);
    const lines = Math.max(...arms.map((arm) => wrapped(section.arms[arm], grid.width, true).length));
    const height = Math.min(grid.width, 360) + 43 + 17 * lines;
    const top = pairLegend(chart, before, "with temperature", dotSample(chart));
    arms.forEach((arm, place) => {
      const { x, row } = grid.at(place);
      const seeds = new Set(rows.map((bin) => bin.seed));
      const errors = [0, 1].map((scaled) =>
        mean(ece.filter((one) => one.arm === arm && one.with_temperature === scaled && seeds.has(one.seed)).map((one) => one.ece)));
      const panel = new Panel(chart, {
        x,
        y: top + row * (height + 20),
        width: Math.min(grid.width, 360) - 4, // a point at confidence 1 has room
        height,
        title: section.arms[arm],
        note: `ECE ${change(errors, (value) => percent(value))}`,
        xDomain: [0, 1],
        yDomain: [0, 1],
        xLabel: "confidence",
        yLabel: "accuracy",
        square: true,
      });
      panel.path([[0, 0], [1, 1]], { stroke: "var(--axis)", width: 1, dash: "4 3" });
      for (const scaled of [0, 1]) {
        const bins = grouped(rows.filter((bin) => bin.arm === arm && bin.with_temperature === scaled), "from").map((same) => {
          const count = same.reduce((sum, bin) => sum + bin.rows, 0);
          const pooled = (column) => same.reduce((sum, bin) => sum + bin.rows * bin[column], 0) / count;
          return { count, confidence: pooled("confidence"), accuracy: pooled("accuracy"), from: same[0].from, to: same[0].to };
        });
        bins.sort((one, other) => one.from - other.from);
        const all = bins.reduce((sum, bin) => sum + bin.count, 0);
        panel.path(bins.map((bin) => [bin.confidence, bin.accuracy]), { stroke: colourOf(arm), width: 1.2, opacity: 0.55, dash: scaled ? null : "3 3" });
        for (const bin of bins) {
          const [px, py] = [panel.x(bin.confidence), panel.y(bin.accuracy)];
          chart.marker(px, py, 2.5 + 9 * Math.sqrt(bin.count / all), { fill: colourOf(arm), hollow: !scaled, opacity: scaled ? 0.9 : null });
          chart.say(px, py, [
            `${section.arms[arm]}, ${scaled ? "with temperature" : before}`,
            `confidence ${percent(bin.confidence)}, accuracy ${percent(bin.accuracy)}`,
            `${bin.count.toLocaleString("en")} of ${all.toLocaleString("en")} rows, bin ${shown(bin.from)} to ${shown(bin.to)}`,
          ], `${arm} ${scaled}`);
        }
      }
    });
    return top + Math.ceil(arms.length / grid.across) * (height + 20) - 20;
  },

  risk_coverage(chart, rows, { areas }, section) {
    const arms = armsOf(rows);
    const grid = places(chart.width, arms.length, 200, 4);
    const height = 260;
    const seeds = new Set(rows.map((point) => point.seed));
    const orders = ["by the largest probability", "by the p-norm"].filter((_, at) => rows.some((point) => point.with_p_norm === at));
    const top = chart.legend(orders.map((words, after) => ({
      words,
      draw: (x, middle) => chart.line(x, middle, x + 20, middle, { stroke: "var(--soft)", width: 2, dash: after ? null : "4 3" }),
    })), 0);
    // the few most confident rows may have any risk
    const most = Math.max(...rows.filter((point) => point.coverage > 0.05).map((point) => point.risk), 0.001);
    arms.forEach((arm, place) => {
      const { x, row } = grid.at(place);
      const area = (repaired) => mean(areas.filter((one) => one.arm === arm && one.with_p_norm === repaired && seeds.has(one.seed)).map((one) => one.aurc));
      const panel = new Panel(chart, {
        x,
        y: top + row * (height + 20),
        width: Math.min(grid.width, 480),
        height,
        title: section.arms[arm],
        note: `AURC ${change([area(0), area(1)], (value) => value.toPrecision(3))}`,
        xDomain: [0, 100],
        yDomain: [0, Math.min(100, 108 * most)],
        xLabel: "coverage (%)",
        yLabel: "risk (%)",
      });
      panel.clipped(() => {
        for (const curve of grouped(rows.filter((point) => point.arm === arm), "with_p_norm", "seed"))
          panel.path(curve.map((point) => [100 * point.coverage, 100 * point.risk]), { stroke: colourOf(arm), width: 1.3, dash: curve[0].with_p_norm ? null : "4 3" });
      });
      for (const curve of grouped(rows.filter((point) => point.arm === arm), "with_p_norm", "seed"))
        for (const point of curve.filter((_, at) => at % 8 === 7 || at === curve.length - 1))
          chart.say(panel.x(100 * point.coverage), Math.max(panel.top, panel.y(100 * point.risk)), [
            `${section.arms[arm]}, ${point.with_p_norm ? "p-norm" : "largest probability"}${seedOf(point)}`,
            `${percent(point.coverage)} of rows answered, ${percent(point.risk)} of these wrong`,
          ], `${arm} ${point.with_p_norm} ${point.seed}`);
    });
    return top + Math.ceil(arms.length / grid.across) * (height + 20) - 20;
  },

  projection(chart, rows, { classes }, section) {
    const points = rows.filter((point) => point.seed === rows[0].seed);
    const parts = [...new Set(points.map((point) => point.rows))];
    const words = { train: "training rows", validation: "validation rows", measured: "" };
    const arms = armsOf(points);
    const gap = chart.width < 800 ? 12 : 24;
    const across = chart.width >= 640 && arms.length > 1 ? 2 : 1; // arms side by side, each with all its parts
    const panels = parts.length * across;
    const side = Math.min(320, (chart.width - gap * (panels - 1)) / panels);
    const top = chart.legend(
      [
        ...classes.map((name, at) => ({ words: name, draw: (x, middle) => chart.marker(x + 12, middle, 4.5, { fill: CLASS_COLOURS[at], shape: MARKERS[at] }) })),
        { words: "template", draw: (x, middle) => chart.marker(x + 12, middle, 7, { fill: "var(--soft)", shape: "star" }) },
      ],
      0,
    );
    arms.forEach((arm, place) => {
      const x = (place % across) * parts.length * (side + gap);
      const y = top + Math.floor(place / across) * (side + 64);
      chart.text(x, y + 12, cut(section.arms[arm], parts.length * (side + gap) - gap, true), { bold: true });
      // one window for both sets of rows, a square around everything in it
      const inside = points.filter((point) => point.arm === arm && point.kind !== "border");
      const [xs, ys] = ["x", "y"].map((axis) => around([0, ...inside.map((point) => point[axis])], undefined, 0));
      const half = 0.54 * Math.max(xs[1] - xs[0], ys[1] - ys[0]);
      const [cx, cy] = [(xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2];
      parts.forEach((part, column) => {
        const left = x + column * (side + gap);
        chart.text(left, y + 30, words[part], { fill: "var(--soft)" });
        const panel = new Panel(chart, {
          x: left,
          y: y + 32,
          width: side + 8,
          height: side + 26,
          xDomain: [cx - half, cx + half],
          yDomain: [cy - half, cy + half],
          xTicks: { ticks: [], words: [] },
          yTicks: { ticks: [], words: [] },
        });
        chart.add("rect", { x: panel.left, y: panel.top, width: panel.right - panel.left, height: panel.bottom - panel.top, fill: "none", stroke: "var(--grid)" });
        const here = points.filter((point) => point.arm === arm && point.rows === part);
        panel.clipped(() => {
          for (const border of here.filter((point) => point.kind === "border"))
            panel.path([[0, 0], [border.x * 9 * half, border.y * 9 * half]], { stroke: "var(--axis)", width: 1 });
          for (const point of here.filter((one) => one.kind === "row"))
            chart.marker(panel.x(point.x), panel.y(point.y), 2.4, { fill: CLASS_COLOURS[point.class], shape: MARKERS[point.class], opacity: 0.6 });
          for (const point of here.filter((one) => one.kind === "template"))
            chart.marker(panel.x(point.x), panel.y(point.y), 9, { fill: CLASS_COLOURS[point.class], shape: "star" });
        });
        for (const point of here.filter((one) => one.kind !== "border"))
          chart.say(panel.x(point.x), panel.y(point.y), [
            [section.arms[arm], words[part]].filter(Boolean).join(", ") + seedOf(point),
            `${point.kind === "row" ? "a row of" : "template of"} ${classes[point.class]}: (${shown(point.x)}, ${shown(point.y)})`,
          ], `${arm} ${part} ${point.kind} ${point.class}`);
      });
    });
    return top + Math.ceil(arms.length / across) * (side + 64) - 6;
  },

  classes(chart, rows, { shown: names, series }, section) {
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, section);
    const grid = places(chart.width, series.length, 300);
    const each = 14 + 8 * arms.length;
    const height = names.length * each + 45;
    const means = grouped(rows.filter((row) => names.includes(row.class)), "class", "arm").map((seeds) => ({
      ...seeds[0],
      ...Object.fromEntries(series.map(({ name }) => [name, 100 * mean(seeds.map((row) => row[name]))])),
    }));
    // one scale for both, as they are to be compared
    const xDomain = around(means.flatMap((one) => series.map(({ name }) => one[name])), [0, 100]);
    const words = names.map((name) => cut(name, 0.3 * grid.width));
    series.forEach(({ name, title }, place) => {
      const { x, row } = grid.at(place);
      const panel = new Panel(chart, {
        x,
        y: top + row * (height + 22),
        width: grid.width,
        height,
        title,
        xDomain,
        yDomain: [names.length - 0.5, -0.5],
        yTicks: { ticks: names.map((_, at) => at), words },
      });
      for (const one of means) {
        const aside = (arms.indexOf(one.arm) - (arms.length - 1) / 2) * (8 / each);
        const [px, py] = [panel.x(one[name]), panel.y(names.indexOf(one.class) + aside)];
        chart.marker(px, py, 4, { fill: colourOf(one.arm) });
        chart.say(px, py, [section.arms[one.arm], `${one.class}, ${one.rows.toLocaleString("en")} rows`, `${title}: ${fixed(one[name], 2)} %`], `${name} ${one.arm}`);
      }
    });
    return top + Math.ceil(series.length / grid.across) * (height + 22) - 22;
  },

  differences(chart, rows, { metrics }, section) {
    const arms = armsOf(rows);
    const names = Math.max(...arms.map((arm) => widthOf(section.arms[arm], true))) + 24;
    const above = names > 0.4 * chart.width; // names stand above their rows where there is no room beside them
    const aside = above ? 0 : names;
    const grid = places(chart.width - aside, metrics.length, above ? chart.width : 200);
    const [heading, each] = [26, above ? 48 : 34];
    const studies = grouped(rows, "study").map((own) => grouped(own, "arm"));
    const lines = studies.reduce((sum, own) => sum + heading + own.length * each, 0);
    const height = lines + 45;
    const top = repairLegend(chart, [REPAIRS[""], REPAIRS.temperature]);
    metrics.forEach((metric, place) => {
      const { x, row } = grid.at(place);
      const factor = factorOf(metric);
      const known = rows.filter((one) => one.metric === metric.name && one.difference !== null).map((one) => ({ ...one, mean: one.difference }));
      const domain = spanning([0, ...known.map((one) => one.mean)], known.flatMap(endsOf));
      const panel = new Panel(chart, {
        x: x + aside,
        y: top + row * (height + 22),
        width: grid.width,
        height,
        title: metric.title,
        xDomain: domain.map((end) => end * factor),
        yDomain: [lines, 0],
        yTicks: { ticks: [], words: [] },
      });
      const named = place % grid.across === 0;
      chart.line(panel.x(0), panel.top, panel.x(0), panel.bottom, { dash: "4 3" });
      let line = 0;
      for (const own of studies) {
        const [[{ study }]] = own;
        if (line) chart.line(above || named ? 0 : panel.left, panel.y(line), panel.right, panel.y(line), { stroke: "var(--grid)" });
        if (named) chart.text(0, panel.y(line) + 18, cut(study, aside + grid.width, true), { bold: true });
        line += heading;
        for (const all of own) {
          const [{ arm }] = all;
          const border = panel.y(line);
          const middle = border + each * (above ? 0.68 : 0.5);
          const bold = all.some((one) => one.recommended);
          if (named) chart.text(12, above ? border + 15 : middle + 4, section.arms[arm], { bold });
          for (const one of known.filter((each) => each.study === study && each.arm === arm)) {
            const y = middle + (one.repair ? 6 : -6);
            const { words, ...look } = REPAIRS[one.repair];
            const [low, high] = endsOf(one);
            if (high !== undefined) interval(panel, factor * low, factor * high, y, colourOf(arm));
            chart.marker(panel.x(factor * one.mean), y, 4, { fill: colourOf(arm), ...look });
            chart.say(panel.x(factor * one.mean), y, [
              `${study}: ${section.arms[arm]}, ${words}${one.recommended ? ", recommended" : ""}`,
              `${metric.title}: ${score(one.mean, metric, one.half_width)}`,
            ], `${metric.name} ${study}`);
          }
          line += each;
        }
      }
    });
    return top + Math.ceil(metrics.length / grid.across) * (height + 22) - 22;
  },

  logit_gaps(chart, rows, _, section) {
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, section);
    const histograms = grouped(rows, "arm").map((bins) => {
      const all = bins.reduce((sum, bin) => sum + bin.rows, 0);
      return bins.map((bin) => ({ ...bin, all, density: (100 * bin.rows) / all / (bin.to - bin.from) }));
    });
    const bins = histograms.flat();
    const panel = new Panel(chart, {
      x: 0,
      y: top,
      width: Math.min(chart.width, 720),
      height: 320,
      xDomain: [Math.min(...bins.map((bin) => bin.from)), Math.max(...bins.map((bin) => bin.to))],
      yDomain: [0, 1.08 * Math.max(...bins.map((bin) => bin.density))],
      xLabel: "logit gap (nats)",
      yLabel: "rows (% per nat)",
    });
    for (const own of histograms) {
      const { arm } = own[0];
      const steps = own.flatMap((bin) => [[bin.from, bin.density], [bin.to, bin.density]]);
      panel.path([[own[0].from, 0], ...steps, [own.at(-1).to, 0]], { stroke: colourOf(arm), width: 1.8, dash: dashOf(arm) });
      for (const bin of own)
        chart.say(panel.x((bin.from + bin.to) / 2), panel.y(bin.density), [
          section.arms[arm],
          `${bin.rows.toLocaleString("en")} of ${bin.all.toLocaleString("en")} rows, gap ${shown(bin.from)} to ${shown(bin.to)} nats`,
        ], arm);
    }
    return top + 320;
  },

  gap(chart, rows, { curve, num_classes }, section) {
    const width = Math.min(chart.width, 720);
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, section);
    const parts = pairLegend(chart, "validation rows", "training rows", dotSample(chart), top);
    const eps = rows.map((point) => point.eps);
    const gaps = rows.map((point) => point.gap);
    const last = Math.max(0.1, ...eps);
    const seen = curve.filter(([at]) => at <= last * 1.15);
    const [x, y] = seen.find(([at]) => at >= 0.55 * last); // where the curve is named
    const panel = new Panel(chart, {
      x: 0,
      y: top + parts,
      width,
      height: 330,
      xDomain: [-0.04 * last, 1.15 * last],
      yDomain: around([0, ...gaps, y * 1.1], [Math.min(0, ...gaps), Infinity]),
      xLabel: "smoothing ε",
      yLabel: "logit gap (nats)",
    });
    panel.clipped(() => panel.path(seen, { stroke: "var(--soft)", width: 1.5 }));
    chart.text(panel.x(x), panel.y(y) - 10, `optimum, K = ${num_classes}`, { fill: "var(--soft)" });
    for (const point of rows) {
      const [px, py] = [panel.x(point.eps) + (point.rows === "train" ? -3 : 3), panel.y(point.gap)];
      chart.marker(px, py, 4.2, { fill: colourOf(point.arm), hollow: point.rows !== "train" });
      chart.say(px, py, [`${section.arms[point.arm]}, seed ${point.seed}`, `${point.rows === "train" ? "training" : "validation"} rows: ${shown(point.gap)} nats`], `${point.arm} ${point.rows}`);
    }
    return top + parts + 330;
  },

  curves(chart, rows, { series }, section) {
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, section);
    const grid = places(chart.width, series.length, 200);
    const height = 230;
    const epochs = Math.max(...rows.map((row) => row.epoch));
    series.forEach(({ name, title, percent: share }, place) => {
      const { x, row } = grid.at(place);
      const factor = share ? 100 : 1;
      const values = rows.map((one) => factor * one[name]);
      const panel = new Panel(chart, {
        x,
        y: top + row * (height + 20),
        width: grid.width,
        height,
        title,
        xDomain: [Math.min(1, epochs - 1), epochs],
        yDomain: around(values, [Math.min(...values) < 0 ? -Infinity : 0, share ? 100 : Infinity]), // negative smoothing has no floor
        xLabel: "epoch",
        whole: true,
      });
      arms.forEach((arm) => seedsAndMean(panel, rows.filter((one) => one.arm === arm), "epoch", name, factor, section, title));
    });
    return top + Math.ceil(series.length / grid.across) * (height + 20) - 20;
  },

  information(chart, rows, { lines }, section) {
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, section);
    const epochs = rows.map((row) => row.epoch);
    const room = Math.max(...lines.map((line) => widthOf(line.name))) + 20;
    const highest = Math.max(...lines.map((line) => line.value), ...rows.map((row) => row.information));
    const panel = new Panel(chart, {
      x: 0,
      y: top,
      width: Math.min(chart.width, 720) - room,
      height: 320,
      xDomain: [Math.min(...epochs) - 0.02 * Math.max(...epochs), Math.max(...epochs) * 1.02],
      yDomain: [0, highest * 1.08],
      xLabel: "epoch",
      yLabel: "mutual information (nats)",
      whole: true,
    });
    for (const { value } of lines) chart.line(panel.left, panel.y(value), panel.right, panel.y(value), { stroke: "var(--soft)", dash: "4 3" });
    panel.labelsAtRight(lines.map(({ name, value }) => ({ value, words: name, stroke: "var(--soft)" })));
    arms.forEach((arm) => seedsAndMean(panel, rows.filter((one) => one.arm === arm), "epoch", "information", 1, section, "information (nats)", true));
    return top + 320;
  },

  distillation(chart, rows, { networks }, section) {
    const looks = networks.map((name, at) => ({
      stroke: name === "teacher" || name === "student alone" ? "var(--arm-0)" : `var(--arm-${1 + ((at - networks.findIndex((one) => one.startsWith("student, "))) % COLOURS)})`,
      dash: name === "student alone" ? "6 3" : null,
      width: name === "teacher" ? 3 : 2,
    }));
    const eps = rows.map((row) => row.eps);
    const room = Math.max(...networks.map((name) => widthOf(name))) + 20;
    const beside = (Math.max(...eps) - Math.min(...eps) || 0.1) * 0.06;
    const ticks = [...new Set(eps)].sort((one, other) => one - other);
    const panel = new Panel(chart, {
      x: 0,
      y: 0,
      width: Math.min(chart.width, 800) - room,
      height: 360,
      xDomain: [Math.min(...eps) - beside, Math.max(...eps) + beside],
      yDomain: around(rows.map((row) => 100 * row.accuracy), [0, 100]),
      xTicks: { ticks, words: ticks.map(shown) },
      xLabel: "smoothing ε of the teacher",
      yLabel: "test accuracy (%)",
    });
    const ends = [];
    networks.forEach((name, at) => {
      const own = rows.filter((row) => row.network === name);
      const means = grouped(own, "eps").map((same) => [same[0].eps, mean(same.map((row) => 100 * row.accuracy))]);
      panel.path(means, looks[at]);
      if (means.length) ends.push({ value: means.at(-1)[1], words: name, stroke: looks[at].stroke });
      const aside = 4 * (at - (networks.length - 1) / 2); // points of one ε stand beside each other
      for (const row of own) {
        const [px, py] = [panel.x(row.eps) + aside, panel.y(100 * row.accuracy)];
        chart.marker(px, py, 3, { fill: looks[at].stroke, hollow: name === "student alone" });
        chart.say(px, py, [`${name}, ${section.arms[row.arm]}, seed ${row.seed}`, `test accuracy ${percent(row.accuracy)}`], name);
      }
      for (const [x, y] of means) chart.say(panel.x(x), panel.y(y), [`${name}, ε = ${shown(x)}`, `test accuracy ${fixed(y, 2)} %, mean of the chosen seeds`], name);
    });
    panel.labelsAtRight(ends);
    return 360;
  },
};
