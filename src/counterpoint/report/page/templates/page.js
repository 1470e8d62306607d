"use strict";
// Everything on the page that can be picked, sorted or enlarged. Names from the results reach the page as text only, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const { contenders, evaluations, metrics } = data;
  const several = (name) => new Set(contenders.map((c) => c[name])).size > 1;
  const layered = several("layer");
  let model = 0;
  const redraws = []; // of every section, when another model is picked

  // ---- elements

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "text") element.textContent = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function draw(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // Numbers as the command prints them: four digits, a real minus sign, a dash where there is none.
  function number(value, digits = 4) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    let text = size >= 10 ** digits && size < 1e6 ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
    if (size > 0 && (size < 1e-4 || size >= 1e6)) text = value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
    return text.replaceAll("-", "−");
  }
  // One number of decimals for a column, so that its numbers can be compared by eye.
  function even(numbers, digits = 3) {
    const largest = Math.max(...numbers.map((each) => Math.abs(each || 0)));
    if (!(largest > 0) || largest < 1e-3 || largest >= 1e5) return (each) => number(each, digits);
    const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(largest)));
    return (each) => (each === null || each === undefined ? "–" : each.toFixed(decimals).replace(/^-(0\.?0*)$/, "$1").replace("-", "−"));
  }
  const hundredth = (each) => (each === null || each === undefined ? "–" : each.toFixed(2).replace("-", "−"));
  // A name that may be broken after its underscores and marks, and nowhere else.
  const name = (text) => make("span", {}, ...text.split(/(?<=[_:,])/).flatMap((part, k) => (k ? [make("wbr"), part] : [part])));
  const soft = (text) => make("span", { class: "soft", text });
  const percent = (share) => (share === null || share === undefined ? "–" : share > 0 && share < 5e-5 ? "<0.01 %" : `${number(100 * share, share < 1 ? 2 : 6)} %`);
  const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
  const way = (metric) => (metric.higher === null ? "" : metric.higher ? "higher is better" : "lower is better");
  const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

  function picker(place, label, options, chosen, changed) {
    const select = make("select", { "data-picks": label.toLowerCase() });
    for (const [value, text] of options) select.append(make("option", { value: String(value), text }));
    select.value = String(chosen);
    select.addEventListener("change", () => changed(select.value));
    place.append(make("label", {}, label, select));
    return select;
  }

  function tick(place, label, on, changed) {
    const box = make("input", { type: "checkbox", "data-picks": label.toLowerCase() });
    box.checked = on;
    box.addEventListener("change", () => changed(box.checked));
    place.append(make("label", { class: "tick" }, box, label));
    return box;
  }

  const any = (what) => [["", `all ${what}`]];
  const named = (names) => [...new Set(names)].map((name) => [name, name]);
  const judged = () => metrics.map((metric, k) => [k, metric]).filter(([k]) => Object.keys(data.rankings).some((place) => place.startsWith(`${model}/${k}/`)));
  const favourite = (places) => {
    for (const name of ["relevance_gain", "insertion", "deletion"]) {
      const found = places.find((k) => metrics[k].name === name);
      if (found !== undefined) return found;
    }
    return places[0];
  };

  // ---- tables

  const value = (cell) => (cell.dataset.value !== undefined ? (cell.dataset.value === "" ? NaN : Number(cell.dataset.value)) : cell.textContent.trim());

  function sortBy(table, column, direction) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, k) => (k === column ? head.setAttribute("aria-sort", direction) : head.removeAttribute("aria-sort")));
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, place) => ({ row, place, key: value(row.cells[column]) }));
    const turn = direction === "ascending" ? 1 : -1;
    rows.sort((one, other) => {
      const [a, b] = [one.key, other.key];
      const lacking = Number(Number.isNaN(a)) - Number(Number.isNaN(b)); // what has no number stands last, whichever way
      if (lacking) return lacking;
      const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
      return order ? turn * order : one.place - other.place;
    });
    body.append(...rows.map((each) => each.row));
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const text = head.textContent;
      const button = make("button", { type: "button", text });
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = head.dataset.first || "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        sortBy(table, column, now === first ? other : first);
      });
      head.replaceChildren(button);
    });
  }

  // Columns: {title, n: right-aligned, head: row header, cell: row -> text or element, key: row -> number to sort by, first: direction}.
  function fill(table, caption, columns, rows, { sorted = null, sorting = true } = {}) {
    const kept = table.tHead && table.dataset.columns === JSON.stringify(columns.map((c) => c.title)) ? [...table.tHead.rows[0].cells].findIndex((head) => head.hasAttribute("aria-sort")) : -1;
    const direction = kept >= 0 ? table.tHead.rows[0].cells[kept].getAttribute("aria-sort") : null;
    table.dataset.columns = JSON.stringify(columns.map((c) => c.title));
    const head = make("tr", {}, ...columns.map((c) => make("th", { scope: "col", class: c.n ? "n" : undefined, "data-first": c.first, text: c.title })));
    const body = rows.map((row) =>
      make("tr", { class: row.mark }, ...columns.map((c) => {
        const content = c.cell(row);
        const cell = make(c.head ? "th" : "td", { scope: c.head ? "row" : undefined, class: [c.n && "n", c.look].filter(Boolean).join(" ") || undefined });
        cell.append(content);
        if (c.key) {
          const key = c.key(row);
          cell.dataset.value = key === null || key === undefined ? "" : key;
        }
        return cell;
      })),
    );
    table.replaceChildren(make("caption", {}, make("span", { text: caption })), make("thead", {}, head), make("tbody", {}, ...body));
    if (!sorting) return;
    sortable(table);
    if (kept >= 0) sortBy(table, kept, direction);
    else if (sorted) sortBy(table, sorted[0], sorted[1]);
  }

  const naming = (of) => [
    { title: "method", head: true, look: "name", cell: (row) => name(contenders[of(row)].method) },
    { title: "against", look: "name", cell: (row) => name(contenders[of(row)].against) },
    ...(layered ? [{ title: "layer", cell: (row) => contenders[of(row)].layer }] : []),
  ];

  // ---- colours

  const ANCHORS = [[8, 56, 110], [36, 112, 179], [131, 181, 220], [255, 255, 255], [246, 178, 107], [217, 105, 12], [125, 46, 0]];
  function colour(level) { // from -1, blue, over 0, white, to 1, orange
    const place = (Math.max(-1, Math.min(1, level)) + 1) * 3;
    const k = Math.min(5, Math.floor(place));
    return ANCHORS[k].map((channel, c) => Math.round(channel + (place - k) * (ANCHORS[k + 1][c] - channel)));
  }
  const TABLE = new Uint8ClampedArray(256 * 3);
  for (let k = 0; k < 256; k++) TABLE.set(colour((k - 128) / 127), 3 * k);

  function luminance(rgb) {
    const [r, g, b] = rgb.map((channel) => (channel / 255 <= 0.04045 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  function paint(cell, level) { // the text takes whichever of black and white stands out more
    const rgb = colour(level), light = luminance(rgb);
    cell.style.setProperty("--cell", `rgb(${rgb})`);
    cell.style.setProperty("--on", (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff");
  }

  function heatTable(table, { caption, corner, columns, rows, values, level, text }) {
    const head = make("tr", {}, make("th", { scope: "col", text: corner }), ...columns.map((name) => make("th", { scope: "col", text: name })));
    const body = rows.map((name, r) =>
      make("tr", {}, make("th", { scope: "row", text: name, title: name }), ...values[r].map((number_) => {
        const cell = make("td", { text: text(number_) });
        if (number_ !== null) paint(cell, level(number_));
        return cell;
      })),
    );
    table.replaceChildren(make("caption", {}, make("span", { text: caption })), make("thead", {}, head), make("tbody", {}, ...body));
  }

  // ---- figures: drawn at the width that there is, so that their text has its size on any screen

  const LINES = 6;
  const DASHES = ["", "8 5", "2 5", "12 4 2 4"];
  const stroke = (k) => ({ stroke: `var(--c${k % LINES})`, "stroke-dasharray": DASHES[Math.floor(k / LINES) % DASHES.length] });

  function figure(place, painter) {
    let width = 0;
    const paintNow = () => {
      width = place.clientWidth;
      if (width) place.replaceChildren(painter(width));
    };
    new ResizeObserver(() => { if (place.clientWidth !== width) paintNow(); }).observe(place);
    return paintNow;
  }

  function ticks(low, high, about) {
    const rough = (high - low) / about || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }

  // Axes with a grid; returns the picture and what turns numbers into places.
  function axes(width, height, xs, ys, labels, described) {
    const edge = { left: 56, right: 14, top: 26, bottom: 48 };
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": described });
    const widen = ([low, high], by) => (low === high ? [low - 0.5, high + 0.5] : [low - by * (high - low), high + by * (high - low)]);
    const [x0, x1] = widen(xs, labels.pad || 0), [y0, y1] = widen(ys, 0.05);
    const x = (at) => edge.left + ((at - x0) / (x1 - x0)) * (width - edge.left - edge.right);
    const y = (at) => height - edge.bottom - ((at - y0) / (y1 - y0)) * (height - edge.top - edge.bottom);
    for (const at of ticks(y0, y1, 6)) {
      svg.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: y(at), y2: y(at), class: "rule" }));
      svg.append(draw("text", { x: edge.left - 8, y: y(at) + 4, "text-anchor": "end" }, number(at, 3)));
    }
    for (const at of ticks(x0, x1, Math.max(2, Math.min(10, Math.floor(width / 80)))))
      svg.append(draw("text", { x: x(at), y: height - edge.bottom + 18, "text-anchor": "middle" }, labels.share ? `${Math.round(100 * at)} %` : number(at, 3)));
    svg.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: height - edge.bottom, y2: height - edge.bottom, class: "axis" }));
    svg.append(draw("text", { x: width - edge.right, y: height - 8, "text-anchor": "end" }, labels.x));
    svg.append(draw("text", { x: edge.left - 8, y: 12, "text-anchor": "start" }, labels.y));
    return { svg, x, y, edge };
  }

  const bounds = (numbers) => {
    const known = numbers.filter((each) => each !== null && Number.isFinite(each));
    return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  };
  // A line, in as many pieces as missing points leave.
  function path(xs, ys, x, y) {
    let text = "", drawing = false;
    xs.forEach((at, k) => {
      if (ys[k] === null) { drawing = false; return; }
      text += `${drawing ? "L" : "M"}${x(at).toFixed(1)} ${y(ys[k]).toFixed(1)}`;
      drawing = true;
    });
    return text;
  }

  // ---- ranking

  function ranking() {
    const controls = $("ranking-controls");
    const chosen = { metric: null, evaluation: "-1", method: "", against: "" };
    const build = () => {
      const known = judged();
      if (!known.some(([k]) => k === chosen.metric)) chosen.metric = favourite(known.map(([k]) => k));
      controls.replaceChildren();
      const again = (name, number_) => (picked) => {
        chosen[name] = number_ ? Number(picked) : picked;
        if (name === "metric") build();
        else show();
      };
      picker(controls, "Metric", known.map(([k, metric]) => [k, metric.title]), chosen.metric, again("metric", true));
      const under = evaluations.map((name, k) => [k, name]).filter(([k]) => `${model}/${chosen.metric}/${k}` in data.rankings);
      if (!under.some(([k]) => String(k) === chosen.evaluation)) chosen.evaluation = "-1";
      if (under.length) picker(controls, "Evaluation baseline", [[-1, "mean over all"], ...under], chosen.evaluation, again("evaluation"));
      picker(controls, "Method", [...any("methods"), ...named(contenders.map((c) => c.method))], chosen.method, again("method"));
      picker(controls, "Against", [...any("attribution baselines"), ...named(contenders.map((c) => c.against))], chosen.against, again("against"));
      show();
    };
    const show = () => {
      const all = data.rankings[`${model}/${chosen.metric}/${chosen.evaluation}`] || [];
      const rows = all.filter(([c]) => (!chosen.method || contenders[c].method === chosen.method) && (!chosen.against || contenders[c].against === chosen.against));
      const metric = metrics[chosen.metric];
      const [low, high] = bounds(all.flatMap((row) => [row[1], row[2], row[3]]));
      const at = (number_) => `${(96 * (number_ - low)) / (high - low || 1) + 2}%`;
      const text = even(all.flatMap((row) => [row[1], row[2], row[3]]));
      const whisker = (row) => {
        const span = make("i"), dot = make("b");
        if (row[2] === null || row[3] === null || row[1] === null) return make("span", { text: "–" });
        span.style.left = at(row[2]);
        span.style.width = `calc(${at(row[3])} - ${at(row[2])})`;
        dot.style.left = at(row[1]);
        return make("div", { class: "whisker", role: "img", "aria-label": `${number(row[2], 3)} to ${number(row[3], 3)}` }, span, dot);
      };
      const under = chosen.evaluation === "-1" ? "" : ` under ${evaluations[chosen.evaluation]}`;
      fill($("ranking-table"), `${capital(metric.title)}${under}: ${way(metric)}`, [
        { title: "rank (95\u00a0%)", cell: (row) => make("span", {}, make("b", { text: String(row[4]) }), soft(row[5] === row[6] ? "" : ` (${row[5]} to ${row[6]})`)), key: (row) => row[4] },
        ...naming((row) => row[0]),
        { title: "mean (95\u00a0%)", n: true, cell: (row) => make("span", {}, text(row[1]), soft(` (${text(row[2])} to ${text(row[3])})`)), key: (row) => row[1], first: metric.higher ? "descending" : "ascending" },
        { title: "on one scale", look: "interval", cell: whisker, key: (row) => row[1], first: metric.higher ? "descending" : "ascending" },
        { title: "first in resamples", n: true, cell: (row) => percent(row[7]), key: (row) => row[7], first: "descending" },
        { title: "images", n: true, cell: (row) => String(row[8]), key: (row) => row[8] },
      ], rows, { sorted: [0, "ascending"] });
      $("ranking-note").textContent = `${metric.summary ? `${capital(metric.summary)}. ` : ""}${rows.length === all.length ? plural(all.length, "contender") : `${rows.length} of ${plural(all.length, "contender")}; ranks are among all of them`}.`;
    };
    redraws.push(build);
    build();
  }

  // ---- rank stability

  function stability() {
    const controls = $("stability-controls");
    let chosen = null;
    const places = () => metrics.map((_, k) => k).filter((k) => `${model}/${k}` in data.stabilities);
    const build = () => {
      controls.replaceChildren();
      const known = places();
      if (!known.includes(chosen)) chosen = favourite(known);
      if (!known.length) { $("stability-table").replaceChildren(); $("stability-note").textContent = "Not measured on this model."; return; }
      picker(controls, "Metric", known.map((k) => [k, metrics[k].title]), chosen, (picked) => { chosen = Number(picked); show(); });
      const row = (k) => ({ k, ...data.stabilities[`${model}/${k}`] });
      fill($("stability-means"), "Agreement between the rankings under different evaluation baselines", [
        { title: "metric", head: true, cell: (each) => metrics[each.k].title },
        { title: "mean tau", n: true, cell: (each) => hundredth(each.mean_tau), key: (each) => each.mean_tau, first: "descending" },
        { title: "95 % interval", n: true, cell: (each) => `${hundredth(each.low)} to ${hundredth(each.high)}`, key: (each) => each.low },
        { title: "Kendall's W", n: true, cell: (each) => hundredth(each.concordance), key: (each) => each.concordance, first: "descending" },
        { title: "p", n: true, cell: (each) => number(each.p_value, 2), key: (each) => each.p_value },
      ], known.map(row));
      show();
    };
    const show = () => {
      const found = data.stabilities[`${model}/${chosen}`];
      const names = found.evaluations.map((k) => evaluations[k]);
      heatTable($("stability-table"), {
        caption: `Kendall's tau of the rankings by ${metrics[chosen].title}`,
        corner: "ranking under",
        columns: names,
        rows: names,
        values: found.taus,
        level: (tau) => tau,
        text: hundredth,
      });
      $("stability-note").textContent = `Mean tau ${hundredth(found.mean_tau)} (${hundredth(found.low)} to ${hundredth(found.high)}), Kendall's W ${hundredth(found.concordance)}.`;
    };
    redraws.push(build);
    build();
  }

  // ---- pairs

  function pairs() {
    const controls = $("pairs-controls"), below = $("pair-controls");
    const chosen = { metric: null, contender: "", sure: false, all: false };
    const SHOWN = 30;
    const build = () => {
      controls.replaceChildren();
      const known = metrics.map((_, k) => k).filter((k) => `${model}/${k}` in data.pairs);
      if (!known.includes(chosen.metric)) chosen.metric = favourite(known);
      if (!known.length) { for (const id of ["wins-table", "pair-table"]) $(id).replaceChildren(); $("wins-note").textContent = "Not measured on this model."; return; }
      picker(controls, "Metric", known.map((k) => [k, metrics[k].title]), chosen.metric, (picked) => { chosen.metric = Number(picked); chosen.contender = ""; build(); });
      const found = data.pairs[`${model}/${chosen.metric}`];
      const rivals = found.of - 1;
      fill($("wins-table"), `Rivals that each contender surely beats and loses to, by ${metrics[chosen.metric].title}`, [
        ...naming((row) => row[0]),
        { title: "beats", n: true, cell: (row) => String(row[1]), key: (row) => row[1], first: "descending" },
        { title: "loses to", n: true, cell: (row) => String(row[2]), key: (row) => row[2] },
        { title: "undecided", n: true, cell: (row) => String(row[3]), key: (row) => row[3] },
        { title: "beats and loses to", cell: (row) => balance(row, rivals), key: (row) => row[1] - row[2], first: "descending" },
      ], found.wins, { sorted: [layered ? 3 : 2, "descending"] });
      const decided = found.wins.reduce((sum, row) => sum + row[1], 0);
      $("wins-note").textContent = `${decided} of ${plural((found.of * rivals) / 2, "pair")} decided. ${capital(way(metrics[chosen.metric]))}.`;
      below.replaceChildren();
      const inside = [...new Set(found.pairs.flatMap((row) => [row[0], row[1]]))].sort((a, b) => a - b);
      picker(below, "Contender", [...any("contenders"), ...inside.map((c) => [c, contenders[c].name])], chosen.contender, (picked) => { chosen.contender = picked; show(); });
      tick(below, "Only decided pairs", chosen.sure, (on) => { chosen.sure = on; show(); });
      show();
    };
    const balance = (row, rivals) => {
      const won = make("i", { class: "won" }), open = make("i"), lost = make("i", { class: "lost" });
      won.style.flex = row[1]; open.style.flex = row[3]; lost.style.flex = row[2];
      return make("div", { class: "bar", role: "img", "aria-label": `${row[1]} won, ${row[2]} lost of ${rivals}` }, won, open, lost);
    };
    const show = () => {
      const found = data.pairs[`${model}/${chosen.metric}`];
      const fitting = found.pairs.filter((row) => (!chosen.contender || row[0] === Number(chosen.contender) || row[1] === Number(chosen.contender)) && (!chosen.sure || row[7]));
      const text = even(found.pairs.flatMap((row) => row.slice(2, 5)));
      const rows = (chosen.all ? fitting : fitting.slice(0, SHOWN)).map((row) => Object.assign([...row], { mark: row[7] ? "sure" : undefined }));
      fill($("pair-table"), "Differences of means on the same images, the surest first; a green edge marks decided pairs", [
        { title: "better", head: true, look: "name", cell: (row) => name(contenders[row[0]].name) },
        { title: "worse", look: "name", cell: (row) => name(contenders[row[1]].name) },
        { title: "better by (95\u00a0%)", n: true, cell: (row) => make("span", {}, text(row[2]), soft(` (${text(row[3])} to ${text(row[4])})`)), key: (row) => row[2], first: "descending" },
        { title: "p (Holm)", n: true, cell: (row) => number(row[5], 2), key: (row) => row[5] },
        { title: "images won", n: true, cell: (row) => percent(row[6]), key: (row) => row[6], first: "descending" },
        { title: "decided", cell: (row) => (row[7] ? "yes" : "no"), key: (row) => Number(row[7]), first: "descending" },
      ], rows);
      const cut = found.best < found.of ? ` Of the best ${found.best} of ${found.of} contenders.` : "";
      $("pair-note").textContent = `${rows.length} of ${plural(fitting.length, "pair")}.${cut}`;
      $("pair-more").hidden = rows.length === fitting.length;
    };
    $("pair-more").addEventListener("click", () => { chosen.all = true; show(); });
    redraws.push(build);
    build();
  }

  // ---- trade-off

  function tradeOff() {
    const points = () => data.trade_off[model] || [];
    const paintNow = figure($("trade-off-figure"), (width) => {
      const found = points(), wide = width >= 560;
      const height = Math.min(460, Math.max(300, width * 0.62));
      const margin = wide ? 150 : 0;
      const { svg, x, y } = axes(width - margin, height, bounds(found.flatMap((p) => p.x)), bounds(found.flatMap((p) => p.y)), { x: "further from real images →", y: "↑ more information removed", pad: 0.05 }, "Information removed against distance from real images, one point for each evaluation baseline; the numbers are in the table below");
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      const labels = found.map((p, k) => ({ k, at: y(p.y[0]) })).sort((a, b) => a.at - b.at);
      labels.forEach((each, k) => { each.at = k ? Math.max(each.at, labels[k - 1].at + 18) : each.at; });
      const over = labels.length ? labels[labels.length - 1].at - (height - 30) : 0;
      if (over > 0) labels.forEach((each) => { each.at -= over; });
      for (const { k, at } of labels) {
        const p = found[k];
        if (p.x[1] !== null) svg.append(draw("line", { x1: x(p.x[1]), x2: x(p.x[2]), y1: y(p.y[0]), y2: y(p.y[0]), class: "cross" }));
        if (p.y[1] !== null) svg.append(draw("line", { x1: x(p.x[0]), x2: x(p.x[0]), y1: y(p.y[1]), y2: y(p.y[2]), class: "cross" }));
        if (wide) {
          svg.append(draw("line", { x1: x(p.x[0]) + 8, y1: y(p.y[0]), x2: width - margin, y2: at, class: "rule" }));
          svg.append(draw("text", { x: width - margin + 6, y: at + 4, class: "strong" }, evaluations[p.evaluation].length > 19 ? `${evaluations[p.evaluation].slice(0, 18)}…` : evaluations[p.evaluation]));
        } else svg.append(draw("text", { x: x(p.x[0]) + 9, y: y(p.y[0]) - 7, class: "strong" }, String(k + 1)));
        svg.append(draw("circle", { cx: x(p.x[0]), cy: y(p.y[0]), r: 5, fill: "var(--c0)" }));
      }
      if (wide) return svg;
      return make("div", {}, svg, make("p", { class: "hint", text: found.map((p, k) => `${k + 1} ${evaluations[p.evaluation]}`).join(" · ") }));
    });
    const show = () => {
      paintNow();
      fill($("trade-off-table"), "Means over images with 95 % bootstrap intervals", [
        { title: "evaluation baseline", head: true, cell: (p) => evaluations[p.evaluation] },
        { title: "information removed", n: true, cell: (p) => `${number(p.y[0], 3)} (${number(p.y[1], 3)} to ${number(p.y[2], 3)})`, key: (p) => p.y[0], first: "descending" },
        { title: "out of distribution", n: true, cell: (p) => `${number(p.x[0], 3)} (${number(p.x[1], 3)} to ${number(p.x[2], 3)})`, key: (p) => p.x[0] },
        { title: "images", n: true, cell: (p) => String(p.images), key: (p) => p.images },
      ], points());
    };
    redraws.push(show);
    show();
  }

  // ---- curves

  function curves() {
    const controls = $("curves-controls"), chips = $("curves-chips"), place = $("curves-figure");
    const chosen = { evaluation: null, kind: "deletion", against: null, off: new Set() };
    const place_ = () => `${model}/${chosen.evaluation}/${chosen.kind}`;
    const key = (c) => `${contenders[c].method}|${contenders[c].layer}`;
    const kinds = [...new Set(contenders.map((_, c) => key(c)))]; // one colour for a method at a layer, whatever it is compared with
    kinds.slice(6).forEach((each) => chosen.off.add(each)); // more than six lines at once cannot be told apart at first sight
    const label = (c) => contenders[c].method + (layered ? ` at ${contenders[c].layer}` : "");
    const lines = () => Object.keys(data.curves[place_()] || {}).map(Number).filter((c) => contenders[c].against === chosen.against);
    const shown = () => lines().filter((c) => !chosen.off.has(key(c)));
    const build = () => {
      controls.replaceChildren();
      const under = evaluations.map((name, k) => [k, name]).filter(([k]) => ["deletion", "insertion"].some((kind) => `${model}/${k}/${kind}` in data.curves));
      if (!under.length) { place.replaceChildren(); chips.replaceChildren(); $("curves-note").textContent = "Not measured on this model."; return; }
      if (!under.some(([k]) => k === chosen.evaluation)) chosen.evaluation = under[0][0];
      const against = named(contenders.filter((_, c) => c in (data.curves[place_()] || {})).map((c) => c.against));
      if (!against.some(([name]) => name === chosen.against) && against.length) chosen.against = against[0][0];
      picker(controls, "Curve", [["deletion", "deletion"], ["insertion", "insertion"]], chosen.kind, (picked) => { chosen.kind = picked; show(); });
      picker(controls, "Evaluation baseline", under, chosen.evaluation, (picked) => { chosen.evaluation = Number(picked); show(); });
      picker(controls, "Against", against, chosen.against, (picked) => { chosen.against = picked; show(); });
      show();
    };
    const paintNow = figure(place, (width) => {
      const found = data.curves[place_()] || {}, drawn = shown();
      const ends = bounds(drawn.flatMap((c) => found[c].y.flatMap((mean, k) => (mean === null ? [] : [mean - (found[c].half[k] || 0), mean + (found[c].half[k] || 0)]))));
      const removing = chosen.kind === "deletion";
      const { svg, x, y } = axes(width, Math.min(440, Math.max(280, width * 0.55)), bounds(drawn.flatMap((c) => found[c].x)), ends,
        { x: removing ? "pixels removed, most relevant first →" : "pixels brought back, most relevant first →", y: "↑ score", share: true },
        `${capital(chosen.kind)} curves of ${plural(drawn.length, "contender")}; the numbers are in the table below`);
      for (const c of drawn) {
        const { x: xs, y: ys, half } = found[c];
        const known = xs.map((_, k) => k).filter((k) => ys[k] !== null && half[k] !== null);
        if (known.length > 1) {
          const top = known.map((k) => `${x(xs[k]).toFixed(1)} ${y(ys[k] + half[k]).toFixed(1)}`);
          const bottom = known.reverse().map((k) => `${x(xs[k]).toFixed(1)} ${y(ys[k] - half[k]).toFixed(1)}`);
          svg.append(draw("path", { d: `M${[...top, ...bottom].join("L")}Z`, class: "area", "data-contender": c, fill: stroke(kinds.indexOf(key(c))).stroke }));
        }
      }
      for (const c of drawn) svg.append(draw("path", { d: path(found[c].x, found[c].y, x, y), class: "line", "data-contender": c, ...stroke(kinds.indexOf(key(c))) }));
      return svg;
    });
    const show = () => {
      const drawable = lines();
      chips.replaceChildren(...drawable.map((c) => {
        const sample = draw("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" });
        sample.append(draw("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 3, ...stroke(kinds.indexOf(key(c))) }));
        const box = make("input", { type: "checkbox", value: c });
        box.checked = !chosen.off.has(key(c));
        box.addEventListener("change", () => { if (box.checked) chosen.off.delete(key(c)); else chosen.off.add(key(c)); redraw(); });
        const lit = (on) => () => place.querySelectorAll("[data-contender]").forEach((line) => line.classList.toggle("dim", on && line.dataset.contender !== String(c)));
        return make("label", { onmouseenter: lit(true), onmouseleave: lit(false), onfocusin: lit(true), onfocusout: lit(false) }, box, sample, make("span", { text: label(c) }));
      }));
      redraw();
    };
    const redraw = () => {
      paintNow();
      const found = data.curves[place_()] || {}, drawn = shown();
      $("curves-note").textContent = drawn.length ? `${capital(chosen.kind)} under ${evaluations[chosen.evaluation]}, maps against ${chosen.against}; ${plural(Math.max(...drawn.map((c) => found[c].images)), "image")}.` : lines().length ? "Pick a contender to draw." : "No curve was kept for this choice.";
      const rows = drawn.flatMap((c) => found[c].x.map((at, k) => ({ c, at, mean: found[c].y[k], half: found[c].half[k] })));
      fill($("curves-table"), "Means over images with 95 % intervals", [
        { title: "contender", head: true, look: "name", cell: (row) => label(row.c) },
        { title: "share of pixels", n: true, cell: (row) => percent(row.at), key: (row) => row.at },
        { title: "mean score", n: true, cell: (row) => number(row.mean), key: (row) => row.mean },
        { title: "±", n: true, cell: (row) => number(row.half, 2), key: (row) => row.half },
      ], rows);
    };
    redraws.push(build);
    build();
  }

  // ---- activation deviation

  function deviation() {
    const controls = $("deviation-controls");
    const chosen = { evaluation: null, path: null, measure: null, contender: null, what: "difference" };
    const words = { difference: "difference to random masks", found: "the map", floor: "random masks" };
    const place = () => [model, chosen.evaluation, chosen.path, chosen.measure].join("/");
    const mean = (numbers) => { const known = numbers.filter((each) => each !== null); return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null; };
    const number_ = (row, k) => (chosen.what !== "difference" ? row[chosen.what][k] : row.found[k] === null || row.floor[k] === null ? null : row.found[k] - row.floor[k]);
    const build = () => {
      controls.replaceChildren();
      const known = Object.keys(data.deviations).map((each) => each.split("/")).filter(([m]) => Number(m) === model);
      if (!known.length) { $("deviation-figure").replaceChildren(); $("deviation-table").replaceChildren(); $("deviation-note").textContent = "Not measured on this model."; return; }
      const narrowed = [["evaluation", "Evaluation baseline", 1], ["path", "Path", 2], ["measure", "Measure", 3]];
      let left = known;
      for (const [name, title, k] of narrowed) {
        const options = [...new Set(left.map((each) => each[k]))];
        if (!options.includes(chosen[name])) chosen[name] = name === "measure" && options.includes("excess") ? "excess" : options[0];
        left = left.filter((each) => each[k] === chosen[name]);
        picker(controls, title, options.map((each) => [each, name !== "evaluation" ? each.replaceAll("_", " ") : each === "-1" ? "mean over all" : evaluations[each]]), chosen[name], (picked) => { chosen[name] = picked; build(); });
      }
      const options = Object.keys(data.deviations[place()]);
      if (!options.includes(chosen.contender)) chosen.contender = options[0];
      picker(controls, "Contender", options.map((c) => [c, contenders[c].name]), chosen.contender, (picked) => { chosen.contender = picked; show(); });
      picker(controls, "Shown", Object.entries(words), chosen.what, (picked) => { chosen.what = picked; show(); });
      show();
    };
    const paintNow = figure($("deviation-figure"), (width) => {
      const found = data.deviations[place()], own = contenders[chosen.contender];
      const rivals = Object.keys(found).filter((c) => contenders[c].against === own.against);
      const drawn = rivals.slice(0, LINES);
      if (!drawn.includes(chosen.contender)) drawn[LINES - 1] = chosen.contender;
      const series = drawn.map((c) => found[c].map((row) => mean(row.x.map((_, k) => number_(row, k)))));
      const floor = found[chosen.contender].map((row) => mean(row.floor));
      const count = Math.max(...drawn.map((c) => found[c].length));
      const xs = [...Array(count).keys()];
      const base = chosen.what === "difference" ? [0] : floor;
      const { svg, x, y } = axes(width, Math.min(320, Math.max(240, width * 0.4)), [0, Math.max(1, count - 1)], bounds([...series.flat(), ...base]), { x: "activation, first to last →", y: `↑ ${chosen.measure.replaceAll("_", " ")}, ${words[chosen.what]}` }, "Mean over the fractions for each activation");
      svg.append(draw("path", { d: path(xs, chosen.what === "difference" ? xs.map(() => 0) : floor, x, y), class: "floor" }));
      series.forEach((numbers, k) => svg.append(draw("path", { d: path(xs, numbers, x, y), class: drawn[k] === chosen.contender ? "line picked" : "line", ...stroke(k) })));
      const legend = make("div", { class: "chips legend" }, ...drawn.map((c, k) => {
        const sample = draw("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" });
        sample.append(draw("line", { x1: 1, x2: 25, y1: 5, y2: 5, "stroke-width": 3, ...stroke(k) }));
        return make("span", {}, sample, contenders[c].method + (layered ? ` at ${contenders[c].layer}` : ""));
      }));
      return make("div", {}, svg, legend);
    });
    const show = () => {
      const rows = data.deviations[place()][chosen.contender];
      const values = rows.map((row) => row.x.map((_, k) => number_(row, k)));
      const text = even(values.flat(), 2);
      const limit = Math.max(...values.flat().map((each) => Math.abs(each || 0))) || 1;
      paintNow();
      $("deviation-note").textContent = `Lines are means over the fractions, of contenders against ${contenders[chosen.contender].against}; dotted: random masks. The thick line and the table are ${contenders[chosen.contender].name}, on ${plural(rows[0].images, "image")}.`;
      heatTable($("deviation-table"), {
        caption: `${capital(chosen.measure.replaceAll("_", " "))}, ${chosen.path} path: ${words[chosen.what]}`,
        corner: "activation",
        columns: rows[0].x.map((share) => percent(share)),
        rows: rows.map((row) => row.name),
        values,
        level: (each) => each / limit,
        text: (each) => (chosen.what === "difference" && each > 0 ? "+" : "") + text(each),
      });
    };
    redraws.push(build);
    build();
  }

  // ---- gallery

  const cells = data.gallery.side ** 2;
  const unpacked = new Map(), loaded = new Map();

  function unpack(image) { // the maps of one photograph, one after the other, as signed bytes
    if (!unpacked.has(image)) {
      const bytes = Uint8Array.from(atob(image.maps), (mark) => mark.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      unpacked.set(image, new Response(stream).arrayBuffer().then((buffer) => new Int8Array(buffer)));
    }
    return unpacked.get(image);
  }

  function photograph(image) {
    const address = data.gallery.photographs[image.photograph];
    if (!address) return Promise.resolve(null);
    if (!loaded.has(address)) {
      const picture = new Image();
      loaded.set(address, new Promise((done) => { picture.onload = () => done(picture); picture.onerror = () => done(null); picture.src = address; }));
    }
    return loaded.get(address);
  }

  const FAINT = 0.3;
  async function drawMap(canvas, image, row, { below, limit }) {
    const [maps, picture] = await Promise.all([unpack(image), photograph(image)]);
    const { side } = data.gallery, gain = row.scale && limit ? row.scale / limit : 1;
    const small = make("canvas", { width: side, height: side }), ink = small.getContext("2d");
    const pixels = ink.createImageData(side, side);
    const start = image.rows.indexOf(row) * cells;
    for (let k = 0; k < cells; k++) {
      const level = Math.max(-128, Math.min(127, Math.round(maps[start + k] * gain))) + 128;
      pixels.data.set([TABLE[3 * level], TABLE[3 * level + 1], TABLE[3 * level + 2], 255], 4 * k);
    }
    ink.putImageData(pixels, 0, 0);
    if (picture) canvas.style.aspectRatio = `${picture.naturalWidth} / ${picture.naturalHeight}`;
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "source-over";
    context.globalAlpha = 1;
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    canvas.dataset.drawn = "yes";
    if (!picture || !below) return;
    const grey = make("canvas", { width: canvas.width, height: canvas.height }), shade = grey.getContext("2d");
    shade.drawImage(picture, 0, 0, grey.width, grey.height);
    shade.globalCompositeOperation = "saturation"; // in grey, so that no colour of the photograph is taken for one of the map
    shade.fillStyle = "#808080";
    shade.fillRect(0, 0, grey.width, grey.height);
    context.globalCompositeOperation = "multiply";
    context.globalAlpha = FAINT;
    context.drawImage(grey, 0, 0);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
  }

  function gallery() {
    const controls = $("gallery-controls"), list = $("gallery-list"), more = $("gallery-more");
    const packed = typeof DecompressionStream !== "undefined";
    const STEP = 6;
    const chosen = { against: "", layer: "", metric: "", of: "", order: "worst", shared: true, below: true, count: STEP };
    let order = [];
    const fits = (row) => {
      const c = contenders[row.contender];
      return (!chosen.against || c.against === chosen.against) && (!chosen.layer || c.layer === chosen.layer);
    };
    const visible = (image) => image.rows.filter(fits);
    // Values with different claims have different units, so that only those with the same claim can share a scale.
    const limit = (image, row) => (chosen.shared ? Math.max(...visible(image).filter((each) => each.claim === row.claim).map((each) => each.scale || 0)) : row.scale);
    const score = (image) => {
      const known = image.rows.filter((row) => fits(row) && (!chosen.of || row.contender === Number(chosen.of))).map((row) => row.values[chosen.metric]).filter((each) => each !== null);
      return known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
    };
    const own = () => data.gallery.images.filter((image) => image.model === model);
    const build = () => {
      controls.replaceChildren();
      const here = [...new Set(own().flatMap((image) => image.rows.map((row) => row.contender)))].sort((a, b) => a - b);
      const set = (name, rebuild) => (picked) => { chosen[name] = picked; chosen.count = STEP; if (rebuild) build(); else show(); };
      const against = named(here.map((c) => contenders[c].against));
      if (!against.some(([name]) => name === chosen.against) && chosen.against !== "*") chosen.against = against.length ? against[0][0] : "";
      picker(controls, "Against", [...against, ...(against.length > 1 ? [["*", "all attribution baselines"]] : [])], chosen.against, set("against", true));
      if (chosen.against === "*") chosen.against = "";
      const layers = named(here.map((c) => contenders[c].layer));
      if (layers.length > 1) picker(controls, "Layer", [...any("layers"), ...layers], chosen.layer, set("layer", true));
      const measured = metrics.map((metric, k) => [k, metric.title]).filter(([k]) => own().some((image) => image.rows.some((row) => row.values[k] !== null)));
      picker(controls, "Order by", [["", "place in the data set"], ...measured], chosen.metric, set("metric", true));
      if (chosen.metric !== "") {
        const judging = metrics[chosen.metric].higher !== null;
        picker(controls, "First", [["worst", judging ? "worst cases" : "smallest"], ["best", judging ? "best cases" : "largest"]], chosen.order, set("order"));
        picker(controls, "Of", [["", "mean of the maps shown"], ...here.filter((c) => fits({ contender: c })).map((c) => [c, contenders[c].name])], chosen.of, set("of"));
      }
      tick(controls, "One scale for all maps of a photograph", chosen.shared, set("shared"));
      tick(controls, "Photograph below the map", chosen.below, set("below"));
      show();
    };
    const show = () => {
      order = own().map((image) => ({ image, score: chosen.metric === "" ? 0 : score(image) }));
      if (chosen.metric !== "") {
        const rising = metrics[chosen.metric].higher === false ? chosen.order === "best" : chosen.order === "worst";
        order.sort((a, b) => Number(Number.isNaN(a.score)) - Number(Number.isNaN(b.score)) || (rising ? a.score - b.score : b.score - a.score) || 0);
      }
      const shown = order.slice(0, chosen.count);
      list.replaceChildren(...shown.map(({ image, score: found }) => card(image, found)));
      more.hidden = shown.length === order.length;
      const left = data.gallery.total > new Set(data.gallery.images.map((image) => image.name)).size ? `, of ${data.gallery.total} in the benchmark` : "";
      const cut = data.gallery.left_out ? ` ${data.gallery.left_out} were left out to keep this file small.` : "";
      $("gallery-note").textContent = packed ? `${shown.length} of ${plural(order.length, "photograph")} with thumbnails${left}.${cut} Numbers are means over evaluation baselines.` : "This browser is too old to unpack the maps (it lacks DecompressionStream).";
    };
    const remark = (row) => {
      if (chosen.metric !== "") return `${metrics[chosen.metric].title} ${number(row.values[chosen.metric], 3)}`;
      return row.relative_error !== null ? `error ${percent(row.relative_error)}` : "no sum to check";
    };
    const card = (image, found) => {
      const address = data.gallery.photographs[image.photograph];
      const about = make("figcaption", {}, make("b", { text: image.name }));
      if (image.label) about.append(make("span", { text: image.label }));
      if (image.class && image.class !== image.label) about.append(make("span", { class: "hint", text: ` explained: ${image.class}` }));
      if (chosen.metric !== "") about.append(make("div", { class: "hint", text: `${metrics[chosen.metric].title} ${number(found, 3)}` }));
      const picture = make("figure", {}, address ? make("img", { src: address, alt: `photograph ${image.name}`, loading: "lazy" }) : make("div", { class: "blank", role: "img", "aria-label": "no photograph was kept" }), about);
      const maps = make("div", { class: "maps" }, ...visible(image).map((row) => {
        const c = contenders[row.contender];
        const canvas = make("canvas", { width: 176, height: 176, "aria-hidden": "true" });
        if (packed) drawMap(canvas, image, row, { below: chosen.below, limit: limit(image, row) });
        return make("button", { type: "button", "aria-label": `${c.name}, ${image.name}, ${remark(row)}: enlarge`, "aria-haspopup": "dialog", onclick: () => open(image, row) },
          canvas, name(c.method + (layered ? ` at ${c.layer}` : "")),
          chosen.against ? null : make("span", { class: "hint", text: `against ${c.against}` }), make("span", { class: "hint", text: remark(row) }));
      }));
      return make("article", { class: "picture" }, picture, maps);
    };
    more.addEventListener("click", () => {
      const before = chosen.count;
      chosen.count += 2 * STEP;
      show();
      list.children[before]?.querySelector("button")?.focus();
    });

    // The dialog: one map in large, with its numbers.
    const dialog = $("zoom");
    let now = null;
    const open = (image, row) => {
      now = { image, row };
      zoom();
      dialog.showModal();
    };
    const step = (by) => {
      const rows = visible(now.image);
      now.row = rows[(rows.indexOf(now.row) + by + rows.length) % rows.length];
      zoom();
    };
    const turn = (by) => { // the same contender on another photograph
      const images = order.map((each) => each.image);
      const next = images[(images.indexOf(now.image) + by + images.length) % images.length];
      const rows = visible(next);
      if (!rows.length) return;
      now = { image: next, row: rows.find((row) => row.contender === now.row.contender) || rows[0] };
      zoom();
    };
    const zoom = () => {
      const { image, row } = now, c = contenders[row.contender], top = limit(image, row);
      $("zoom-title").textContent = c.name;
      const address = data.gallery.photographs[image.photograph], picture = $("zoom-photograph");
      picture.hidden = !address;
      if (address) picture.src = address;
      picture.alt = `photograph ${image.name}`;
      $("zoom-map").setAttribute("aria-label", `map of ${c.name} on ${image.name}`);
      $("zoom-caption").textContent = chosen.shared ? "map, on the scale of all maps of this photograph shown" : "map, on its own scale";
      const [low, high] = data.ends[row.claim] || ["below zero", "above zero"];
      $("zoom-low").textContent = `${low} ${number(top === null ? null : -top, 2)}`;
      $("zoom-high").textContent = `${number(top, 2)} ${high}`;
      const facts = [
        ["photograph", image.name], ["class explained", image.class], ["label", image.label], ["probability", percent(row.probability)],
        ["f(x)", number(row.score)], ["f(x′), the baseline's", number(row.baseline_score)], ["to be explained", number(row.attribution_target)],
        ["explained, the sum", number(row.result)], ["attribution error", percent(row.relative_error)], ["converged", row.converged === null ? "–" : row.converged ? "yes" : "no"],
        ["gradients", number(row.gradients)], ...metrics.map((metric, k) => [metric.title, number(row.values[k], 3)]),
      ].filter(([, text]) => text !== null && text !== undefined && text !== "" && text !== "–");
      $("zoom-facts").replaceChildren(...facts.map(([name, text]) => make("div", {}, make("dt", { text: name }), make("dd", { text }))));
      if (packed) drawMap($("zoom-map"), image, row, { below: $("zoom-below").checked, limit: top });
    };
    $("zoom-close").addEventListener("click", () => dialog.close());
    $("zoom-previous").addEventListener("click", () => step(-1));
    $("zoom-next").addEventListener("click", () => step(1));
    $("zoom-below").addEventListener("change", zoom);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
    dialog.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [step, -1], ArrowRight: [step, 1], ArrowUp: [turn, -1], ArrowDown: [turn, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      move[0](move[1]);
    });
    redraws.push(build);
    build();
  }

  // ---- the page

  document.documentElement.classList.add("scripted");
  document.querySelectorAll("table.sortable").forEach(sortable);
  const sections = [["ranking", ranking], ["stability", stability], ["pairs", pairs], ["trade-off", tradeOff], ["curves", curves], ["deviation", deviation], ["gallery", gallery]];
  for (const [id, fillIn] of sections) if ($(id)) fillIn();
  if ($("model")) {
    data.models.forEach((name, k) => $("model").append(make("option", { value: k, text: name })));
    $("model").addEventListener("change", () => { model = Number($("model").value); redraws.forEach((redraw) => redraw()); });
  }
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    const seen = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target.id);
    if (!seen.length) return;
    links.forEach((link, id) => (id === seen[0] ? link.setAttribute("aria-current", "location") : link.removeAttribute("aria-current")));
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
})();
