"use strict";
// Maps: drawn over the photograph on a canvas, on a scale that is named, with a cursor that reads their values and is linked between maps.
(() => {
  // ---- colours, as in the figures of the report: blue, white at zero, orange

  const ANCHORS = [[8, 56, 110], [36, 112, 179], [131, 181, 220], [255, 255, 255], [246, 178, 107], [217, 105, 12], [125, 46, 0]];
  function colour(level) { // from -1, blue, over 0, white, to 1, orange
    const place = (Math.max(-1, Math.min(1, level)) + 1) * 3;
    const k = Math.min(5, Math.floor(place));
    return ANCHORS[k].map((channel, c) => Math.round(channel + (place - k) * (ANCHORS[k + 1][c] - channel)));
  }
  const TABLE = new Uint8ClampedArray(513 * 3);
  for (let k = 0; k < 513; k++) TABLE.set(colour((k - 256) / 256), 3 * k);

  function luminance(rgb) {
    const [r, g, b] = rgb.map((channel) => (channel / 255 <= 0.04045 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }
  // A cell of a heat table; its text takes whichever of black and white stands out more.
  function paint(cell, level) {
    const rgb = colour(level), light = luminance(rgb);
    cell.style.setProperty("--cell", `rgb(${rgb})`);
    cell.style.setProperty("--on", (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? "#000" : "#fff");
  }

  // Numbers as the report prints them: a real minus sign, a dash where there is none.
  function number(value, digits = 3) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    let text = size >= 10 ** digits && size < 1e6 ? value.toFixed(0) : String(Number(value.toPrecision(digits)));
    if (size > 0 && (size < 1e-4 || size >= 1e6)) text = value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
    return text.replaceAll("-", "−");
  }
  const signed = (value, digits = 2) => (value > 0 ? "+" : "") + number(value, digits);

  // ---- how maps are drawn: one setting for all on the page, kept while the tab lives

  const view = { opacity: 75, strength: 0, sign: "both", smooth: true, shared: "row" };
  try { Object.assign(view, JSON.parse(sessionStorage.getItem("view") || "{}")); } catch { /* a private window */ }
  const keep = () => { try { sessionStorage.setItem("view", JSON.stringify(view)); } catch { /* as above */ } };

  const BEYOND = 0.01; // of the pixels may lie beyond the ends of the scale: one speck must not pale the rest
  const SMOOTH = 3 / 224; // of the shorter side; named where it is done
  const SQUARE = 10; // amounts are given for squares of so many pixels a side: those of single pixels are too small to grasp

  const loaded = new Map(); // address -> promise of its numbers, or of its picture
  function once(address, load) {
    if (!loaded.has(address)) {
      if (loaded.size > 64) loaded.delete(loaded.keys().next().value);
      loaded.set(address, load(address).catch((error) => { loaded.delete(address); throw error; }));
    }
    return loaded.get(address);
  }
  const numbersAt = (address) => once(address, async () => {
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${address}: ${response.status}`);
    const data = new DataView(await response.arrayBuffer());
    return Float32Array.from({ length: data.byteLength / 4 }, (_, k) => data.getFloat32(4 * k, true));
  });
  const pictureAt = (address) => once(address, async () => {
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    return picture;
  });

  // Gaussian, sums kept at the edges by mirroring.
  function smoothed(values, height, width, sigma) {
    const reach = Math.ceil(3 * sigma), weights = [];
    for (let k = -reach; k <= reach; k++) weights.push(Math.exp((-k * k) / (2 * sigma * sigma)));
    const total = weights.reduce((a, b) => a + b);
    const mirrored = (k, size) => { while (k < 0 || k >= size) k = k < 0 ? -1 - k : 2 * size - 1 - k; return k; };
    const pass = (from, count, size, step, stride) => {
      const to = new Float32Array(from.length);
      for (let line = 0; line < count; line++)
        for (let k = 0; k < size; k++) {
          let sum = 0;
          for (let w = -reach; w <= reach; w++) sum += weights[w + reach] * from[line * stride + mirrored(k + w, size) * step];
          to[line * stride + k * step] = sum / total;
        }
      return to;
    };
    return pass(pass(values, height, width, 1, width), width, height, width, 1);
  }

  function endOf(values) { // the magnitude that all but BEYOND of the values stay within
    const sizes = Float32Array.from(values, Math.abs).sort();
    return sizes[Math.max(0, Math.ceil((1 - BEYOND) * sizes.length) - 1)] || sizes[sizes.length - 1];
  }
  function roundedUp(found) { // to two digits, so that the scale ends at a number that can be read
    if (!(found > 0)) return 0;
    const unit = 10 ** (Math.floor(Math.log10(found)) - 1);
    return Math.ceil(found / unit - 1e-9) * unit;
  }

  // ---- one map

  const maps = new Map(); // canvas -> its map

  class Drawn {
    constructor(canvas) {
      this.canvas = canvas;
      this.frame = canvas.closest(".picture");
      this.group = canvas.closest("[data-linked]");
      this.cursor = null;
      maps.set(canvas, this);
    }
    get name() { return this.canvas.dataset.name; }
    get factor() { return this.canvas.dataset.claim === "shares" && Math.min(this.height, this.width) >= 64 ? SQUARE * SQUARE : 1; }
    get unit() { const { unit } = this.canvas.dataset; return this.factor > 1 ? `${unit} per ${SQUARE} × ${SQUARE} pixels` : unit; }
    async load() {
      const { map, photo, height, width } = this.canvas.dataset;
      this.height = Number(height);
      this.width = Number(width);
      const [values, picture] = await Promise.all([numbersAt(map), photo ? pictureAt(photo) : null]);
      if (!maps.has(this.canvas) || map !== this.canvas.dataset.map) return;
      this.values = values;
      this.softened = null;
      const place = document.createElement("canvas");
      place.width = this.width;
      place.height = this.height;
      const context = place.getContext("2d", { willReadFrequently: true });
      context.fillStyle = "#fff"; // a saved attribution comes without its photograph
      context.fillRect(0, 0, this.width, this.height);
      if (picture) context.drawImage(picture, 0, 0, this.width, this.height);
      this.photograph = context.getImageData(0, 0, this.width, this.height).data;
    }
    get shown() { // what is drawn: the values, or, of pixel maps, the values smoothed
      if (!(view.smooth && this.canvas.dataset.smooth === "yes")) return this.values;
      this.softened ||= smoothed(this.values, this.height, this.width, SMOOTH * Math.min(this.height, this.width));
      return this.softened;
    }
    get ownLimit() {
      const shown = this.shown;
      if (this.limited !== shown) {
        // As the saved figure has it, where that is known.
        const { end, endSmoothed } = this.canvas.dataset;
        const known = Number(shown === this.values ? end : endSmoothed);
        this.limited = shown;
        this.limit_ = roundedUp(known > 0 && this.values.some((each) => each !== 0) ? known : endOf(shown));
      }
      return this.limit_;
    }
    draw(limit) {
      this.limit = limit;
      const shown = this.shown, context = this.canvas.getContext("2d", { willReadFrequently: true });
      const picture = context.createImageData(this.width, this.height), pixels = picture.data, photograph = this.photograph;
      const cover = view.opacity / 100;
      for (let k = 0; k < shown.length; k++) {
        let value = shown[k];
        if ((view.sign === "for" && value < 0) || (view.sign === "against" && value > 0)) value = 0;
        const level = limit > 0 ? Math.max(-1, Math.min(1, value / limit)) : 0;
        const place = 3 * Math.round(256 + 256 * level), at = 4 * k;
        const grey = 0.299 * photograph[at] + 0.587 * photograph[at + 1] + 0.114 * photograph[at + 2];
        const faint = 1 - 0.3 * (1 - grey / 255);
        for (let c = 0; c < 3; c++) pixels[at + c] = (1 - cover) * photograph[at + c] + cover * TABLE[place + c] * faint;
        pixels[at + 3] = 255;
      }
      context.putImageData(picture, 0, 0);
      this.canvas.dataset.drawn = "yes";
    }
    at(u, v) {
      return [Math.min(this.height - 1, Math.floor(v * this.height)), Math.min(this.width - 1, Math.floor(u * this.width))];
    }
    square(row, column) { // the sum over the square around a pixel, as much of it as there is
      const half = SQUARE / 2;
      let sum = 0;
      for (let r = Math.max(0, row - half); r < Math.min(this.height, row + half); r++)
        for (let c = Math.max(0, column - half); c < Math.min(this.width, column + half); c++) sum += this.values[r * this.width + c];
      return sum;
    }
    read(u, v) {
      const [row, column] = this.at(u, v);
      const value = this.values[row * this.width + column];
      return { row, column, value, around: this.factor > 1 ? this.square(row, column) : null };
    }
  }

  // ---- all of them

  // In the order of the page, whichever came first.
  const ready = () => [...maps.values()].filter((map) => map.values && map.canvas.isConnected)
    .sort((a, b) => (a.canvas.compareDocumentPosition(b.canvas) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1));
  const strength = () => 2 ** (-view.strength / 2);

  function drawAll() {
    for (const map of maps.values()) if (!map.canvas.isConnected) maps.delete(map.canvas);
    const all = ready();
    const groups = new Map();
    for (const map of all) {
      // On one scale: maps of a row, or all whose values are shares of the same score.
      const { claim, row } = map.canvas.closest(".cell")?.dataset.row ? { claim: map.canvas.dataset.claim, row: map.canvas.closest(".cell").dataset.row } : {};
      let key = map;
      if (map.group && row !== undefined && view.shared !== "map") key = view.shared === "all" && claim === "shares" ? map.group : `row ${row}`;
      groups.set(key, Math.max(groups.get(key) || 0, map.ownLimit));
      map.scale = key;
    }
    for (const map of all) {
      map.draw(groups.get(map.scale) * strength());
      legend(map);
    }
    for (const group of new Set(all.map((map) => map.group).filter(Boolean))) groupLegend(group, all.filter((map) => map.group === group));
    document.dispatchEvent(new CustomEvent("maps:drawn"));
  }
  let planned = 0;
  const plan = () => { cancelAnimationFrame(planned); planned = requestAnimationFrame(drawAll); };

  const WORDS = { shares: ["speaks against", "speaks for"], rate: ["more lowers f", "more raises f"], importance: ["below zero", "important"] };
  function fill(place, map) {
    const [low, high] = WORDS[map.canvas.dataset.claim] || ["", ""];
    place.querySelector("[data-low-word]").textContent = low;
    place.querySelector("[data-high-word]").textContent = high;
    place.querySelector("[data-low]").textContent = number(-map.limit * map.factor, 2);
    place.querySelector("[data-high]").textContent = map.limit ? `+${number(map.limit * map.factor, 2)}` : "0";
    const drawn = map.shown === map.values ? "" : `, drawn smoothed by ${number(SMOOTH * Math.min(map.height, map.width), 2)} px`;
    place.querySelector("[data-scale-unit]").textContent = `${map.unit}${drawn}`;
  }
  function legend(map) {
    const place = map.canvas.hasAttribute("data-large") && map.canvas.closest("figure, .film")?.querySelector("[data-legend]");
    if (place) fill(place, map);
    const own = map.canvas.closest(".cell")?.querySelector("[data-own-scale]");
    if (own) own.textContent = `±${number(map.limit * map.factor, 2)}`;
  }
  function groupLegend(group, all) {
    const place = group.querySelector("[data-group-legend]");
    if (!place) return;
    const shares = all.filter((map) => map.canvas.dataset.claim === "shares");
    const one = view.shared === "all" && shares.length > 0;
    fill(place, one ? shares[0] : all[0]);
    if (one) return;
    place.querySelector("[data-low]").textContent = "−";
    place.querySelector("[data-high]").textContent = "+";
    place.querySelector("[data-scale-unit]").textContent = view.shared === "map" ? "each map on its own scale, which it names" : "one scale for each row, which its maps name";
  }

  async function adopt(root) {
    const fresh = [...root.querySelectorAll("canvas[data-map]")].filter((canvas) => !maps.has(canvas));
    await Promise.all(fresh.map(async (canvas) => {
      const map = new Drawn(canvas);
      try {
        await map.load();
        plan();
      } catch {
        canvas.closest(".picture").classList.add("lost");
        canvas.setAttribute("aria-label", "The map is not there any more; ask for it again.");
      }
    }));
  }

  // ---- the cursor

  function point(map, u, v) {
    const together = map.group ? ready().filter((each) => each.group === map.group) : [map];
    for (const each of together) {
      const cross = each.frame.querySelector(".cross");
      each.frame.style.setProperty("--x", `${100 * u}%`);
      each.frame.style.setProperty("--y", `${100 * v}%`);
      cross.classList.toggle("on", each !== map || map.byKey);
      each.cursor = [u, v];
      const value = each.canvas.closest(".cell")?.querySelector("[data-value]");
      if (value) {
        const found = each.read(u, v);
        value.textContent = signed(found.around ?? found.value);
      }
    }
    const reading = map.canvas.closest("figure, .film")?.querySelector("[data-reading]") || map.group?.querySelector("[data-reading]");
    if (!reading || !map.values) return;
    const { row, column, value, around } = map.read(u, v);
    const { unit } = map.canvas.dataset;
    const here = `row ${row}, column ${column}: ${signed(value)} ${unit}`;
    reading.textContent = around === null ? here : `${here}; ${signed(around)} in the ${SQUARE} × ${SQUARE} pixels around`;
  }
  function leave(map) {
    for (const each of map.group ? ready().filter((one) => one.group === map.group) : [map]) {
      each.frame.querySelector(".cross").classList.remove("on");
      const value = each.canvas.closest(".cell")?.querySelector("[data-value]");
      if (value) value.textContent = "";
    }
  }
  const of = (event) => { const map = maps.get(event.target); return map?.values ? map : null; };

  // A tap moves nothing: it begins with "pointerdown", and what it read stays marked.
  for (const kind of ["pointerdown", "pointermove"]) document.addEventListener(kind, (event) => {
    const map = of(event);
    if (!map) return;
    map.byKey = event.pointerType === "touch";
    const box = map.canvas.getBoundingClientRect();
    point(map, Math.max(0, Math.min(0.9999, (event.clientX - box.left) / box.width)), Math.max(0, Math.min(0.9999, (event.clientY - box.top) / box.height)));
  });
  document.addEventListener("pointerout", (event) => { const map = of(event); if (map && !map.byKey) leave(map); });
  document.addEventListener("focusout", (event) => { const map = of(event); if (map) { map.byKey = false; leave(map); } });
  document.addEventListener("keydown", (event) => {
    const map = of(event);
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!map || !step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const many = event.shiftKey ? 1 : 5;
    const [u, v] = map.cursor || [0.5, 0.5];
    const inside = (at) => Math.max(0.5 / 1000, Math.min(0.9995, at));
    map.byKey = true;
    point(map, inside(u + (step[0] * many) / map.width), inside(v + (step[1] * many) / map.height));
  });

  // ---- the controls of the view

  function show(root) {
    for (const box of root.querySelectorAll("[data-view]")) {
      if (box.type === "checkbox") box.checked = view[box.dataset.view];
      else box.value = view[box.dataset.view];
    }
    for (const box of root.querySelectorAll("[name=view-sign]")) box.checked = box.value === view.sign;
    for (const box of root.querySelectorAll("[name=view-shared]")) box.checked = box.value === view.shared;
  }
  document.addEventListener("input", (event) => {
    const box = event.target;
    if (box.name === "view-sign") view.sign = box.value;
    else if (box.name === "view-shared") view.shared = box.value;
    else if (box.dataset?.view) view[box.dataset.view] = box.type === "checkbox" ? box.checked : Number(box.value);
    else return;
    keep();
    plan();
  });

  // ---- agreement: Spearman's rank correlation of the values, ties at their mean rank

  function ranks(values) {
    const order = Uint32Array.from(values, (_, k) => k).sort((a, b) => values[a] - values[b]);
    const found = new Float64Array(values.length);
    for (let k = 0; k < order.length; ) {
      let end = k;
      while (end + 1 < order.length && values[order[end + 1]] === values[order[k]]) end++;
      for (let each = k; each <= end; each++) found[order[each]] = (k + end) / 2;
      k = end + 1;
    }
    return found;
  }
  function centred(values) {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const found = values.map((each) => each - mean);
    const size = Math.sqrt(found.reduce((sum, each) => sum + each * each, 0));
    return size > 0 ? found.map((each) => each / size) : null;
  }
  const correlation = (one, other) => (one && other && one.length === other.length ? one.reduce((sum, each, k) => sum + each * other[k], 0) : null);
  const ranked = (map) => (map.ranked ||= centred(ranks(map.values)) || "constant");
  function agreement(all) {
    const each = all.map((map) => (ranked(map) === "constant" ? null : ranked(map)));
    return each.map((one) => each.map((other) => correlation(one, other)));
  }

  window.studioMaps = { adopt, plan, show, ready, maps, paint, number, signed, agreement, view, legend };
})();
