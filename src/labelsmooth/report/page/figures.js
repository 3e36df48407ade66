// The figures of a study, one function each: it gets a chart of the width at hand, the rows of the chosen arms and
// seeds, the figure's constants, and the study. All numbers are in the rows; at most they are averaged over seeds here.

const COLOURS = 6; // of arms, --arm-0 to --arm-5; dashes tell apart those beyond
const CLASS_COLOURS = ["var(--arm-1)", "var(--arm-2)", "var(--arm-3)"];

const colourOf = (arm) => `var(--arm-${arm % COLOURS})`;
const dashOf = (arm) => [null, "7 3", "2 3", "9 3 2 3"][Math.floor(arm / COLOURS) % 4];
const percent = (value, digits = 2) => `${fixed(100 * value, digits)} %`;
const score = (value, metric) => (metric.percent ? percent(value) : fixed(value, 4));

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

function armLegend(chart, arms, study, y = 0) {
  return chart.legend(
    arms.map((arm) => ({
      words: study.arms[arm],
      draw: (x, middle) => chart.line(x, middle, x + 20, middle, { stroke: colourOf(arm), width: 2.5, dash: dashOf(arm) }),
    })),
    y,
  );
}

function beforeAndAfterLegend(chart, before, after, draw) {
  return chart.legend([
    { words: before, draw: (x, middle) => draw(x, middle, false) },
    { words: after, draw: (x, middle) => draw(x, middle, true) },
  ], 0);
}

const dotSample = (chart) => (x, middle, filled) =>
  chart.marker(x + 12, middle, 4.5, { fill: "var(--soft)", hollow: !filled });

const FIGURES = {
  scores(chart, rows, { metrics, estimates }, study) {
    const arms = armsOf(rows);
    const names = Math.max(...arms.map((arm) => widthOf(study.arms[arm]))) + 14;
    const above = names > 0.4 * chart.width; // names stand above their rows where there is no room beside them
    const aside = above ? 0 : names;
    const grid = places(chart.width - aside, metrics.length, above ? chart.width : 200);
    const each = above ? 52 : 38;
    const height = 24 + arms.length * each + 24;
    const top = beforeAndAfterLegend(chart, "without temperature", "with temperature", dotSample(chart));
    metrics.forEach((metric, place) => {
      const { x, row } = grid.at(place);
      const first = top + row * (height + 22);
      const ofMetric = estimates.filter((estimate) => estimate.metric === metric.name && arms.includes(estimate.arm));
      const values = rows.map((point) => point[metric.name]);
      const sizes = around([...values, ...ofMetric.map((estimate) => estimate.mean)], undefined, 0);
      // an interval of few seeds can be many times as long as what it is about: it may take up to half the panel
      const reach = (sizes[1] - sizes[0]) / 2 || 0.01;
      const ends = ofMetric.flatMap(({ mean, half_width }) => [mean - half_width, mean + half_width]);
      const bounds = metric.name === "over_confidence" ? [-1, 1] : [0, metric.percent ? 1 : Infinity];
      const domain = around([...values, ...ends.map((end) => Math.min(Math.max(end, sizes[0] - reach), sizes[1] + reach))], bounds);
      const factor = metric.percent ? 100 : 1;
      const panel = new Panel(chart, {
        x: x + aside,
        y: first,
        width: grid.width,
        height,
        title: metric.title,
        xDomain: domain.map((end) => end * factor),
        yDomain: [arms.length, 0],
        yTicks: { ticks: [], words: [] },
        xTicks: ticksBetween(domain[0] * factor, domain[1] * factor, grid.width / 70),
      });
      arms.forEach((arm, line) => {
        const middle = panel.top + ((panel.bottom - panel.top) / arms.length) * (line + (above ? 0.66 : 0.5));
        if (line) chart.line(above ? 0 : panel.left, panel.top + ((panel.bottom - panel.top) / arms.length) * line, panel.right, panel.top + ((panel.bottom - panel.top) / arms.length) * line, { stroke: "var(--grid)" });
        if (above) chart.text(0, middle - 20, study.arms[arm]);
        else if (place % grid.across === 0) chart.text(0, middle + 4, study.arms[arm]);
        for (const scaled of metric.scaled ? [0, 1] : [0]) {
          const y = middle + (metric.scaled ? (scaled ? 8 : -8) : 0);
          const estimate = ofMetric.find((one) => one.arm === arm && one.with_temperature === scaled);
          panel.clipped(() => {
            const [low, high] = estimate.half_width === null ? [] : [-1, 1].map((side) => panel.x(factor * (estimate.mean + side * estimate.half_width)));
            if (low !== undefined) chart.line(low, y, high, y, { stroke: colourOf(arm), width: 1.5 });
            const at = panel.x(factor * estimate.mean);
            chart.line(at, y - 6, at, y + 6, { stroke: colourOf(arm), width: 2.5 });
          });
          const what = `${study.arms[arm]}${metric.scaled ? (scaled ? ", with temperature" : ", without temperature") : ""}`;
          const spread = estimate.half_width === null ? "" : ` ± ${score(estimate.half_width, metric)}`;
          chart.say(panel.x(factor * estimate.mean), y, [what, `${metric.title}: mean ${score(estimate.mean, metric)}${spread}`], metric.name);
          for (const point of rows.filter((one) => one.arm === arm && one.with_temperature === scaled)) {
            const at = panel.x(factor * point[metric.name]);
            chart.marker(at, y, 4, { fill: colourOf(arm), hollow: metric.scaled && !scaled });
            chart.say(at, y, [what, `${metric.title}: ${score(point[metric.name], metric)}, seed ${point.seed}`], metric.name);
          }
        }
      });
    });
    return top + Math.ceil(metrics.length / grid.across) * (height + 22) - 22;
  },

  reliability(chart, rows, { ece }, study) {
    const arms = armsOf(rows);
    const grid = places(chart.width, arms.length, 200, 4);
    const height = Math.min(grid.width, 360) + 60;
    const top = beforeAndAfterLegend(chart, "before temperature", "after", dotSample(chart));
    arms.forEach((arm, place) => {
      const { x, row } = grid.at(place);
      const seeds = new Set(rows.map((bin) => bin.seed));
      const errors = [0, 1].map((scaled) =>
        mean(ece.filter((one) => one.arm === arm && one.with_temperature === scaled && seeds.has(one.seed)).map((one) => one.ece)));
      const panel = new Panel(chart, {
        x,
        y: top + row * (height + 20),
        width: Math.min(grid.width, 360),
        height,
        title: study.arms[arm],
        note: `ECE ${percent(errors[0])} → ${percent(errors[1])}`,
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
            `${study.arms[arm]}, ${scaled ? "after" : "before"} temperature`,
            `confidence ${percent(bin.confidence)}, accuracy ${percent(bin.accuracy)}`,
            `${bin.count.toLocaleString("en")} of ${all.toLocaleString("en")} rows, bin ${shown(bin.from)} to ${shown(bin.to)}`,
          ], `${arm} ${scaled}`);
        }
      }
    });
    return top + Math.ceil(arms.length / grid.across) * (height + 20) - 20;
  },

  risk_coverage(chart, rows, { areas }, study) {
    const arms = armsOf(rows);
    const grid = places(chart.width, arms.length, 200, 4);
    const height = 260;
    const seeds = new Set(rows.map((point) => point.seed));
    const top = beforeAndAfterLegend(chart, "by the largest probability", "by the p-norm", (x, middle, after) =>
      chart.line(x, middle, x + 20, middle, { stroke: "var(--soft)", width: 2, dash: after ? null : "4 3" }));
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
        title: study.arms[arm],
        note: `AURC ${area(0).toPrecision(3)} → ${area(1).toPrecision(3)}`,
        xDomain: [0, 100],
        yDomain: [0, 108 * most],
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
            `${study.arms[arm]}, ${point.with_p_norm ? "p-norm" : "largest probability"}, seed ${point.seed}`,
            `${percent(point.coverage)} of rows answered, ${percent(point.risk)} of these wrong`,
          ], `${arm} ${point.with_p_norm} ${point.seed}`);
    });
    return top + Math.ceil(arms.length / grid.across) * (height + 20) - 20;
  },

  projection(chart, rows, { classes }, study) {
    const seed = Math.min(...rows.map((point) => point.seed));
    const points = rows.filter((point) => point.seed === seed);
    const arms = armsOf(points);
    const gap = chart.width < 800 ? 12 : 24;
    const pairs = chart.width >= 640 && arms.length > 1 ? 2 : 1;
    const side = Math.min(320, (chart.width - gap * (2 * pairs - 1)) / (2 * pairs));
    const top = chart.legend(
      [
        ...classes.map((name, at) => ({ words: name, draw: (x, middle) => chart.marker(x + 12, middle, 4.5, { fill: CLASS_COLOURS[at], shape: MARKERS[at] }) })),
        { words: "template", draw: (x, middle) => chart.marker(x + 12, middle, 7, { fill: "var(--soft)", shape: "star" }) },
      ],
      0,
    );
    arms.forEach((arm, place) => {
      const x = (place % pairs) * 2 * (side + gap);
      const y = top + Math.floor(place / pairs) * (side + 64);
      chart.text(x, y + 12, study.arms[arm], { bold: true });
      // one window for both sets of rows, a square around everything in it
      const inside = points.filter((point) => point.arm === arm && point.kind !== "border");
      const [xs, ys] = ["x", "y"].map((axis) => around([0, ...inside.map((point) => point[axis])], undefined, 0));
      const half = 0.54 * Math.max(xs[1] - xs[0], ys[1] - ys[0]);
      const [cx, cy] = [(xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2];
      ["train", "validation"].forEach((part, column) => {
        const left = x + column * (side + gap);
        chart.text(left, y + 30, part === "train" ? "training rows" : "validation rows", { fill: "var(--soft)" });
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
            `${study.arms[arm]}, ${part === "train" ? "training" : "validation"}, seed ${seed}`,
            `${point.kind === "row" ? "a row of" : "template of"} ${classes[point.class]}: (${shown(point.x)}, ${shown(point.y)})`,
          ], `${arm} ${part} ${point.kind} ${point.class}`);
      });
    });
    return top + Math.ceil(arms.length / pairs) * (side + 64) - 6;
  },

  gap(chart, rows, { curve, curve_name }, study) {
    const width = Math.min(chart.width, 720);
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, study);
    const parts = chart.legend([
      { words: "training rows", draw: (x, middle) => dotSample(chart)(x, middle, true) },
      { words: "validation rows", draw: (x, middle) => dotSample(chart)(x, middle, false) },
    ], top);
    const eps = rows.map((point) => point.eps);
    const gaps = rows.map((point) => point.gap);
    const last = Math.max(0.1, ...eps);
    const seen = curve.filter(([at]) => at <= last * 1.15);
    const panel = new Panel(chart, {
      x: 0,
      y: top + parts,
      width,
      height: 330,
      xDomain: [-0.04 * last, 1.15 * last],
      yDomain: around([0, ...gaps, seen.at(-1)[1]], [0, Infinity]),
      xLabel: "smoothing ε",
      yLabel: "logit gap (nats)",
    });
    panel.clipped(() => panel.path(seen, { stroke: "var(--soft)", width: 1.5 }));
    const [x, y] = seen[Math.floor(seen.length * 0.62)];
    chart.text(panel.x(x), panel.y(y) - 10, curve_name, { fill: "var(--soft)" });
    for (const point of rows) {
      const [px, py] = [panel.x(point.eps) + (point.rows === "train" ? -3 : 3), panel.y(point.gap)];
      chart.marker(px, py, 4.2, { fill: colourOf(point.arm), hollow: point.rows !== "train" });
      chart.say(px, py, [`${study.arms[point.arm]}, seed ${point.seed}`, `${point.rows === "train" ? "training" : "validation"} rows: ${shown(point.gap)} nats`], `${point.arm} ${point.rows}`);
    }
    return top + parts + 330;
  },

  curves(chart, rows, { series }, study) {
    const arms = armsOf(rows);
    const top = armLegend(chart, arms, study);
    const grid = places(chart.width, series.length, 200);
    const height = 230;
    const epochs = Math.max(...rows.map((row) => row.epoch));
    series.forEach(({ name, title, percent: share }, place) => {
      const { x, row } = grid.at(place);
      const factor = share ? 100 : 1;
      const panel = new Panel(chart, {
        x,
        y: top + row * (height + 20),
        width: grid.width,
        height,
        title,
        xDomain: [Math.min(1, epochs - 1), epochs],
        yDomain: around(rows.map((one) => factor * one[name]), [0, share ? 100 : Infinity]),
        xLabel: "epoch",
      });
      for (const arm of arms) {
        const ofArm = rows.filter((one) => one.arm === arm);
        const seeds = grouped(ofArm, "seed");
        if (seeds.length > 1)
          for (const one of seeds) panel.path(one.map((at) => [at.epoch, factor * at[name]]), { stroke: colourOf(arm), width: 0.8, opacity: 0.5 });
        const means = grouped(ofArm, "epoch").map((same) => [same[0].epoch, factor * mean(same.map((one) => one[name]))]);
        panel.path(means, { stroke: colourOf(arm), width: 2.2, dash: dashOf(arm) });
        for (const [epoch, value] of means) {
          if (epochs === 1) chart.marker(panel.x(epoch), panel.y(value), 4, { fill: colourOf(arm) });
          chart.say(panel.x(epoch), panel.y(value), [study.arms[arm], `${title}: ${shown(value)} after epoch ${epoch}`], `${name} ${arm}`);
        }
      }
    });
    return top + Math.ceil(series.length / grid.across) * (height + 20) - 20;
  },
};
