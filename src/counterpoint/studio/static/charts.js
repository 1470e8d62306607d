"use strict";
// Curves, the slider over the pixels removed, the slider over rows of the grid, and the table of agreement.
(() => {
  const { ready, number, signed, agreement, paint, plan, maps, view } = window.studioMaps;

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "text") element.textContent = value;
      else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }
  function draw(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }
  const plain = (text) => text.replaceAll("_", " ");
  const fetched = new Map();
  function answerAt(address) {
    if (!fetched.has(address)) {
      if (fetched.size > 8) fetched.delete(fetched.keys().next().value);
      fetched.set(address, fetch(address).then((response) => { if (!response.ok) throw new Error(response.status); return response.json(); }));
    }
    return fetched.get(address);
  }

  // ---- line charts, drawn at the width that there is

  function ticks(low, high, about) {
    const rough = (high - low) / about || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
    return found;
  }
  const bounds = (numbers) => {
    const known = numbers.filter((each) => each !== null && Number.isFinite(each));
    return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
  };

  // Lines: {x, y, slot, dash, wide}; marker: the place on the x axis that is looked at, and which lines bear a dot.
  function paintChart(place, { lines, x, y, described, marker = null, share = true, height = 240, range = null, limits = [] }) {
    const width = place.clientWidth;
    if (!width) return;
    const em = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const edge = { left: 48 * em, right: 10 * em, top: 24 * em, bottom: 40 * em };
    const tall = Math.round(Math.max(height * em, Math.min(1.25 * height * em, width * 0.5)));
    const svg = draw("svg", { viewBox: `0 0 ${width} ${tall}`, role: "img", "aria-label": described });
    const [low, high] = range || bounds([...lines.flatMap((line) => line.y), ...limits]);
    const [y0, y1] = low === high ? [low - 0.5, high + 0.5] : [low - 0.06 * (high - low), high + 0.06 * (high - low)];
    const right = Math.max(...lines.flatMap((line) => line.x), 1e-9);
    const atX = (value) => edge.left + (value / right) * (width - edge.left - edge.right);
    const atY = (value) => tall - edge.bottom - ((value - y0) / (y1 - y0)) * (tall - edge.top - edge.bottom);
    const size = `${13 * em}px`;
    const label = (attributes, text) => { const element = draw("text", attributes, text); element.style.fontSize = size; svg.append(element); };
    for (const at of ticks(y0, y1, 5)) {
      svg.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: atY(at), y2: atY(at), class: "rule" }));
      label({ x: edge.left - 8 * em, y: atY(at) + 4 * em, "text-anchor": "end" }, number(at));
    }
    for (const at of ticks(0, right, Math.max(2, Math.min(6, Math.floor(width / (90 * em))))))
      label({ x: atX(at), y: tall - edge.bottom + 18 * em, "text-anchor": "middle" }, share ? `${Math.round(100 * at)} %` : number(at));
    svg.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: tall - edge.bottom, y2: tall - edge.bottom, class: "axis" }));
    label({ x: width - edge.right, y: tall - 4 * em, "text-anchor": "end" }, x);
    label({ x: 0, y: 11 * em, "text-anchor": "start" }, y);
    for (const at of limits) svg.append(draw("line", { x1: edge.left, x2: width - edge.right, y1: atY(at), y2: atY(at), class: "line slimit", "stroke-dasharray": "6 4" }));
    for (const line of lines) {
      let text = "", drawing = false;
      line.x.forEach((at, k) => {
        if (line.y[k] === null) { drawing = false; return; }
        text += `${drawing ? "L" : "M"}${atX(at).toFixed(1)} ${atY(line.y[k]).toFixed(1)}`;
        drawing = true;
      });
      svg.append(draw("path", { d: text, class: `line s${line.slot}`, "stroke-dasharray": line.dash || "" }));
    }
    if (marker) {
      for (const at of new Set(marker.map((each) => each.x))) svg.append(draw("line", { x1: atX(at), x2: atX(at), y1: edge.top, y2: tall - edge.bottom, class: "marker" }));
      for (const each of marker) if (each.y !== null) svg.append(draw("circle", { cx: atX(each.x), cy: atY(each.y), r: 6 * em, class: `dot d${each.slot}` }));
    }
    place.replaceChildren(svg);
  }
  const charts = new Map(); // place -> what draws it
  const watcher = new ResizeObserver((seen) => {
    for (const { target } of seen) {
      if (!target.isConnected) { watcher.unobserve(target); charts.delete(target); continue; }
      if (target.clientWidth !== Number(target.dataset.width)) { target.dataset.width = target.clientWidth; charts.get(target)?.(); }
    }
  });
  function chart(place, painter) {
    charts.set(place, painter);
    place.dataset.width = place.clientWidth;
    painter();
    watcher.observe(place);
  }
  const key = (place, entries) => place.replaceChildren(...entries.map(([text, slot, dash]) => {
    const svg = draw("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" });
    svg.append(draw("line", { x2: 26, y1: 5, y2: 5, class: `s${slot}`, "stroke-dasharray": dash || "" }));
    return make("li", {}, svg, text);
  }));
  const facts = (place, pairs) => place.replaceChildren(...pairs.map(([name, value]) => make("div", {}, make("dt", { text: name }), make("dd", { text: value }))));

  // ---- trust: both curves of a map and of a random order, under one baseline

  const SLOTS = { deletion: 1, insertion: 0 };
  async function curvesFigure(place) {
    const answer = await answerAt(place.dataset.curves);
    const baseline = Number(place.dataset.baseline);
    const fitting = answer.curves.filter((line) => line.baseline === baseline);
    const range = bounds(answer.curves.flatMap((line) => line.scores));
    const lines = fitting.map((line) => ({ x: line.fractions, y: line.scores, slot: line.cell ? 4 : SLOTS[line.kind], dash: line.cell ? (line.kind === "deletion" ? "3 4" : "1 4") : "" }));
    chart(place, () => paintChart(place, { lines, range, x: "pixels removed or brought back", y: "score", described: `Insertion and deletion curves under ${plain(answer.baselines[baseline])}; the areas are in the table below` }));
  }

  async function sanityFigure(place) {
    const answer = await answerAt(place.dataset.sanity);
    const steps = [{ randomised: 0, spearman: 1, absolute_spearman: 1, ssim: 1 }, ...answer.steps];
    const x = steps.map((step) => step.randomised / answer.layers);
    const lines = [
      { x, y: steps.map((step) => step.spearman), slot: 0 },
      { x, y: steps.map((step) => step.absolute_spearman), slot: 2, dash: "8 5" },
      { x, y: steps.map((step) => step.ssim), slot: 1, dash: "2 4" },
    ];
    const [low] = bounds(lines.flatMap((line) => line.y));
    chart(place, () => paintChart(place, { lines, range: [Math.min(0, low), 1], x: "layers with random weights, from the last", y: "likeness to the map", described: "Likeness of the map while weights become random; the numbers are in the table below" }));
    const list = place.nextElementSibling?.classList.contains("chips") ? place.nextElementSibling : make("ul", { class: "chips" });
    place.after(list);
    key(list, [["rank correlation of the values", 0], ["of their sizes", 2, "8 5"], ["structural similarity (SSIM)", 1, "2 4"]]);
  }

  // ---- compare: take pixels away

  async function removal(root) {
    const answer = await answerAt(root.dataset.removal);
    const base = root.dataset.removal.replace("/api/answers/", "/answers/");
    const pick = (what) => root.querySelector(`[data-removal-pick=${what}]`);
    const slider = root.querySelector("[data-removal-step]"), picture = root.querySelector("[data-removal-picture]");
    const far = answer.curves.some((line) => line.out_of_distribution?.excesses);
    const show = () => {
      const cell = Number(pick("cell").value), baseline = Number(pick("baseline").value);
      const kind = root.querySelector("[name=removal-kind]:checked").value;
      const both = answer.curves.filter((line) => line.cell === cell && line.baseline === baseline);
      const line = both.find((each) => each.kind === kind);
      slider.max = line.fractions.length - 1;
      const at = Math.min(Number(slider.value), line.fractions.length - 1);
      picture.src = `${base}/${line.pictures[at]}`;
      const share = `${Math.round(100 * line.fractions[at])} %`;
      const removed = kind === "deletion";
      root.querySelector("[data-removal-label]").textContent = removed ? "Most relevant pixels removed" : "Most relevant pixels brought back";
      root.querySelector("[data-removal-fraction]").textContent = share;
      slider.setAttribute("aria-valuetext", `${share} ${removed ? "removed" : "brought back"}`);
      picture.alt = `The image with ${share} of its pixels ${removed ? "removed" : "brought back"}`;
      const distance = line.out_of_distribution;
      let off = "not known";
      if (distance?.excesses) {
        const nearest = distance.fractions.reduce((best, each, k) => (Math.abs(each - line.fractions[at]) < Math.abs(distance.fractions[best] - line.fractions[at]) ? k : best), 0);
        const known = Math.abs(distance.fractions[nearest] - line.fractions[at]) < 1e-3;
        off = known ? `${signed(distance.excesses[nearest])} spreads${distance.beyond_limit?.[nearest] ? ", more than for 95 % of real ones" : ""}` : "0, the photograph itself";
      } else if (distance?.reason) off = distance.reason;
      facts(root.querySelector("[data-removal-facts]"), [["score of this image", number(line.scores[at])], ["further out than the photograph itself", off], ["area under the curve", `${number(line.area)} (${kind === "deletion" ? "lower" : "higher"} is better)`]]);
      const place = root.querySelector("[data-removal-chart]");
      const lines = both.map((each) => ({ x: each.fractions, y: each.scores, slot: SLOTS[each.kind] }));
      const marker = both.map((each) => ({ x: line.fractions[at], y: each.scores[at] ?? null, slot: SLOTS[each.kind] }));
      chart(place, () => paintChart(place, { lines, marker, x: "pixels removed or brought back", y: "score", described: `Deletion and insertion curves; at ${share} the score is ${number(line.scores[at])}` }));
      const distances = root.querySelector("[data-removal-far]");
      const limit = both.map((each) => each.out_of_distribution?.limit).find((each) => Number.isFinite(each));
      distances.hidden = !both.some((each) => each.out_of_distribution?.excesses);
      if (!distances.hidden) {
        const known = both.filter((each) => each.out_of_distribution?.excesses).map((each) => ({ slot: SLOTS[each.kind], x: each.out_of_distribution.fractions, y: each.out_of_distribution.excesses }));
        const at_ = (each) => { const k = each.x.findIndex((x) => Math.abs(x - line.fractions[at]) < 1e-3); return k < 0 ? null : each.y[k]; };
        chart(distances, () => paintChart(distances, { lines: known, marker: known.map((each) => ({ x: line.fractions[at], y: at_(each), slot: each.slot })), height: 170, limits: limit === undefined ? [] : [limit], x: "pixels removed or brought back", y: "further out, in spreads of real photographs", described: `How much further from real photographs the images on both curves are than the photograph itself${limit === undefined ? "" : `; 95 % of real photographs lie below ${number(limit)}`}` }));
      }
      key(root.querySelector("[data-removal-key]"), [["deletion", 1], ["insertion", 0], ...(distances.hidden || limit === undefined ? [] : [["further out than 95 % of real photographs are (the verdict's limit)", "limit", "6 4"]])]);
      root.querySelector("[data-removal-unit]").hidden = distances.hidden;
    };
    root.addEventListener("input", show);
    show();
    // Pictures come before they are asked for, so that the slider does not stutter.
    for (const line of answer.curves.slice(0, 2)) for (const name of line.pictures) new Image().src = `${base}/${name}`;
    root.dataset.far = far;
  }

  // ---- compare: one row of the grid after the other, large

  function film(root) {
    const canvas = root.querySelector("[data-film-map]"), slider = root.querySelector("[data-film-row]");
    const show = () => {
      const column = Number(root.querySelector("[name=film-column]:checked")?.value || 0), row = Number(slider.value);
      const figure = document.getElementById(`part-cell-${row}-${column}`);
      const source = figure && maps.get(figure.querySelector("canvas"));
      const name = document.querySelectorAll("#grid .row-name")[row]?.innerText.replace(/\s+/g, " ").trim() || "";
      root.querySelector("[data-film-name]").textContent = name;
      slider.setAttribute("aria-valuetext", name);
      const context = canvas.getContext("2d");
      if (!source?.values || source.limit === undefined) { context.clearRect(0, 0, canvas.width, canvas.height); facts(root.querySelector("[data-film-facts]"), [["map", "not there yet"]]); return; }
      canvas.width = source.width;
      canvas.height = source.height;
      context.drawImage(source.canvas, 0, 0);
      canvas.dataset.drawn = "yes";
      canvas.setAttribute("aria-label", `Map: ${source.name}`);
      const caption = figure.querySelector("figcaption").innerText.split("\n");
      facts(root.querySelector("[data-film-facts]"), [["explained", caption[0].replace(/ explained$/, "").trim()], ["cost", (caption[1] || "").split(" · ")[0].trim()], ["ends of the scale", `±${number(source.limit * source.factor, 2)} ${source.unit}`]]);
    };
    root.addEventListener("input", show);
    root.showNow = show;
    show();
  }

  // ---- compare: which agree, and the baselines at the heads of the columns

  let signature = "";
  function agree() {
    const table = document.querySelector("[data-agreement]");
    const all = ready().filter((map) => map.group?.id === "grid");
    if (!table || all.length < 2) return;
    table.parentElement.hidden = false;
    document.querySelector("[data-agreement-none]").hidden = true;
    const now = all.map((map) => map.canvas.dataset.map).join();
    if (now === signature && table.tBodies.length) return;
    signature = now;
    const values = agreement(all);
    const names = all.map((map) => map.name);
    const head = make("tr", {}, make("th", { scope: "col", text: "map" }), ...names.map((_, k) => make("th", { scope: "col", text: String(k + 1), title: names[k] })));
    const rows = values.map((row, r) => make("tr", {}, make("th", { scope: "row", title: names[r], text: `${r + 1}  ${names[r]}` }), ...row.map((value) => {
      const cell = make("td", { text: value === null ? "–" : (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−") });
      if (value !== null) paint(cell, 0.75 * value);
      return cell;
    })));
    table.replaceChildren(make("caption", {}, make("span", { text: `Rank correlation of ${all.length} maps` })), make("thead", {}, head), make("tbody", {}, ...rows));
  }
  function heads() {
    for (const image of document.querySelectorAll("[data-baseline-of]")) {
      if (!image.hidden) continue;
      const found = [...document.querySelectorAll(`[id^=part-cell-][id$="-${image.dataset.baselineOf}"][data-key]`)][0];
      if (!found) continue;
      image.src = `/answers/${found.dataset.key}/baseline.png`;
      image.hidden = false;
      document.querySelector(`[data-blank-of="${image.dataset.baselineOf}"]`)?.remove();
    }
  }
  document.addEventListener("maps:drawn", () => {
    heads();
    agree();
    document.querySelector("[data-film]")?.showNow?.();
  });

  function settle(root) {
    const fresh = (selector, begin) => {
      for (const each of root.querySelectorAll(selector)) {
        if (each.dataset.begun) continue;
        each.dataset.begun = "yes";
        Promise.resolve(begin(each)).catch(() => each.append(make("p", { class: "hint", text: "This answer is not there any more; ask for it again." })));
      }
    };
    fresh("[data-curves]", curvesFigure);
    fresh("[data-sanity]", sanityFigure);
    fresh("[data-removal]", removal);
    fresh("[data-film]", film);
    if (root.querySelector("canvas[data-map]")) plan();
  }
  window.studioCharts = { settle };
})();
