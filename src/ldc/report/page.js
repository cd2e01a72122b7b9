"use strict";
// Redraws the maps from the numbers in the page. Text is only ever set as text; nothing is loaded or evaluated.
(() => {
  const data = JSON.parse(document.getElementById("numbers").textContent);
  const BLOCKS = { attn: "Attention", mlp: "MLP" };
  const SVG = "http://www.w3.org/2000/svg";
  const DEFAULTS = { model: "", regime: data.regime, measure: "s", step: "last", block: "both", marks: "ranked", domain: "", adaptation: "", representation: "", causation: "", less: "" };
  const state = { ...DEFAULTS };
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Numbers as in the tables: three significant digits, no decimals from 100 on.
  function number(v) {
    const size = Math.abs(v);
    if (size >= 99.95) return v.toFixed(0);
    if (size === 0) return "0.00";
    return v.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size) + 1e-9)));
  }
  const shown = (v, measure) => (v === null ? "none" : data.measures[measure].signed
    ? (v > 0 ? "+" : v < 0 ? "−" : "") + Math.abs(v).toFixed(2) : number(v));

  function make(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // The address holds the state of the controls, so that every view has a link.
  function readAddress() {
    const hash = location.hash.slice(1);
    if (!hash.startsWith("view?")) return false;
    const given = new URLSearchParams(hash.slice(5));
    for (const key of Object.keys(DEFAULTS)) state[key] = given.get(key) ?? DEFAULTS[key];
    return true;
  }
  function writeAddress() {
    const changed = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) if (value !== DEFAULTS[key]) changed.set(key, value);
    const text = changed.toString();
    history.replaceState(null, "", text ? "#view?" + text : location.pathname + location.search);
  }

  // The view of a model: the chosen one if the model has it, else the closest one it has.
  function view(model) {
    const has = (m, r) => model.maps[m] && model.maps[m][r];
    const regime = model.regimes.includes(state.regime) ? state.regime : model.regimes.includes(data.regime) ? data.regime : model.regimes[0];
    const measure = has(state.measure, regime) ? state.measure : "s";
    const blocks = has(measure, regime) ? model.maps[measure][regime] : {};
    const steps = (Object.values(blocks)[0] || { steps: [] }).steps;
    const wanted = state.step === "last" ? Infinity : Number(state.step);
    let at = steps.length - 1;
    while (at > 0 && steps[at - 1] >= wanted) at -= 1;
    const names = Object.keys(blocks).filter((b) => state.block === "both" || b === state.block);
    return { regime, measure, blocks, steps, at, step: steps[at], names: names.length ? names : Object.keys(blocks), last: at === steps.length - 1 };
  }

  function ends(values, signed) {
    const known = values.flat(2).filter((v) => v !== null);
    if (!known.length) return [0, 0];
    if (!signed) return [Math.min(...known), Math.max(...known)];
    const reach = Math.max(...known.map(Math.abs));
    return [-reach, reach];
  }
  function level(v, low, high, levels) {
    if (!(high > low)) return Math.floor(levels / 2);
    return Math.min(levels - 1, Math.max(0, Math.round(((v - low) / (high - low)) * (levels - 1))));
  }

  function mark(model, article, block, d, l) {
    if (state.marks === "none") return "";
    const own = model.marks[state.marks];
    if (!own) {
      const place = article.ranked[block] ? article.ranked[block][d].indexOf(model.layers[l]) : -1;
      return place < 0 ? "" : String(place + 1);
    }
    const count = own[block] ? own[block][d][l] : null;
    return count === null ? "" : own.of > 1 ? String(count) : "•";
  }

  function drawMap(article, model, now, block) {
    const figure = article.figures[block];
    figure.hidden = !now.names.includes(block);
    if (figure.hidden) return;
    const { signed } = data.measures[now.measure];
    const values = now.blocks[block].values[now.at];
    const [low, high] = now.ends;
    $("table", figure).setAttribute("aria-label", `${BLOCKS[block]}: ${data.measures[now.measure].title} in the ${now.regime} run at step ${now.step}, a row for each domain`);
    $$("tbody tr", figure).forEach((row, d) => {
      $$("td", row).forEach((cell, l) => {
        const v = values[d][l];
        const text = mark(model, article, block, d, l);
        const look = v === null ? "none" : signed ? "d" + level(v, low, high, data.levels + 1) : "q" + level(v, low, high, data.levels);
        const named = text && !model.marks[state.marks];
        cell.className = look + (text ? " ranked" : "") + (named && "pale" in cell.dataset ? " pale" : "");
        cell.title = `${model.domains[d]}, layer ${model.layers[l]}: ${shown(v, now.measure)}`;
        const spoken = document.createElement("span");
        spoken.className = "hidden";
        spoken.textContent = shown(v, now.measure) + (text ? ", marked " : "");
        cell.replaceChildren(spoken, text);
      });
    });
  }

  function readout(article, model, now, block, d, l) {
    const part = now.blocks[block];
    if (!part) return;
    const v = part.values[now.at][d][l];
    const range = now.last && part.low && v !== null ? ` (${shown(part.low[d][l], now.measure)} to ${shown(part.high[d][l], now.measure)} over ${model.seeds[now.regime]} seeds)` : "";
    const place = article.ranked[block] ? article.ranked[block][d].indexOf(model.layers[l]) : -1;
    const support = place < 0 ? "" : article.supports[block][d][l];
    const rank = place < 0 ? "" : `, rank ${place + 1} of its block${support ? ` (ranked among the first three by ${support})` : ""}`;
    article.readout.textContent = `${model.domains[d]}, ${BLOCKS[block]}, layer ${model.layers[l]}: ${shown(v, now.measure)}${range}${rank}.${legNumbers(model.name, model.domains[d], block, model.layers[l])}`;
  }

  // A line chart: series of {name, look, points: [[x, y], ...], low, high}. A series of a leg also has `block`, the
  // intervals `bars`: [[low, high], ...] of its points, and `flat`: [low, high] of its null.
  function chart(title, alt, series, options) {
    const W = 360, H = 232, L = 44, R = series.some((s) => s.tag) ? 24 : 10, T = 12, B = 36;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": alt });
    const points = series.flatMap((s) => [...s.points, ...(s.low || []), ...(s.high || [])]).filter((p) => p[1] !== null);
    if (!points.length) return figure;
    const xs = points.map((p) => p[0]);
    let [low, high] = options.ends || [Math.min(...points.map((p) => p[1]), options.zero ? 0 : Infinity), Math.max(...points.map((p) => p[1]), options.zero ? 0 : -Infinity)];
    if (high === low) high = low + 1;
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const gap = [1, 2, 2.5, 5, 10].map((m) => m * power).find((g) => g >= rough * (1 - 1e-9));
    low = Math.floor(low / gap + 1e-9) * gap;
    high = Math.ceil(high / gap - 1e-9) * gap;
    const places = options.places || [...new Set(xs)].sort((a, b) => a - b);
    const left = places[0], span = places.at(-1) - left || 1;
    const x = (v) => (L + 8 + ((W - L - R - 16) * (v - left)) / span).toFixed(1);
    const y = (v) => (H - B - ((H - T - B) * (v - low)) / (high - low)).toFixed(1);
    const decimals = Math.max(0, Math.ceil(-Math.log10(gap) - 1e-9) + (String(gap / power).includes(".") ? 1 : 0));
    for (const s of series) if (s.flat) {
      const top = Number(y(s.flat[1]));
      svg.append(make("rect", { class: `band ${s.look} null`, x: L, y: top, width: W - R - L, height: Math.max(1.5, y(s.flat[0]) - top) }));
    }
    for (let v = low; v <= high + gap / 2; v += gap) {
      svg.append(make("path", { class: "rule", d: `M${L} ${y(v)}L${W - R} ${y(v)}` }));
      svg.append(make("text", { class: "tick y", x: L - 6, y: Number(y(v)) + 3.5 }, (Math.abs(v) < gap / 2 ? 0 : v).toFixed(decimals).replace("-", "−")));
    }
    if (options.ends) svg.append(make("path", { class: "rule zero", d: `M${L} ${y(0)}L${W - R} ${y(0)}` }));
    const every = Math.ceil(places.length / 12);
    places.forEach((v, i) => i % every || svg.append(make("text", { class: "tick x", x: x(v), y: H - B + 16 }, String(v))));
    svg.append(make("text", { class: "tick x", x: (L + W - R) / 2, y: H - 4 }, options.axis));
    if (options.at !== undefined) svg.append(make("path", { class: "now", d: `M${x(options.at)} ${T}L${x(options.at)} ${H - B}` }));
    for (const s of series) if (s.low && s.high) {
      const up = s.high.filter((p) => p[1] !== null), down = s.low.filter((p) => p[1] !== null).reverse();
      if (up.length) svg.append(make("path", { class: "band " + s.look, d: "M" + [...up, ...down].map((p) => `${x(p[0])} ${y(p[1])}`).join("L") + "Z" }));
    }
    for (const s of series) {
      // A line breaks where a value is missing; a value without neighbours is a dot.
      const there = (i) => s.points[i] && s.points[i][1] !== null;
      const path = s.points.map((p, i) => (there(i) ? `${there(i - 1) ? "L" : "M"}${x(p[0])} ${y(p[1])}` : "")).join("");
      if (!path) continue;
      const line = make("path", { class: "line " + s.look, d: path });
      line.append(make("title", {}, s.name));
      svg.append(line);
      if (s.block) s.points.forEach((p, i) => there(i) && svg.append(spot(s, i, x(p[0]), y(p[1]), s.bars[i].includes(null) ? null : s.bars[i].map(y), places.length > 24 ? 1.7 : 2.8)));
      else s.points.forEach((p, i) => there(i) && !there(i - 1) && !there(i + 1) && svg.append(make("circle", { class: "dot " + s.look, cx: x(p[0]), cy: y(p[1]), r: 2.5 })));
    }
    // Names at the ends of lines are moved apart where they would overlap.
    let floor = Infinity;
    const tagged = series.filter((s) => s.tag && s.points.at(-1)[1] !== null).sort((a, b) => a.points.at(-1)[1] - b.points.at(-1)[1]);
    for (const s of tagged) {
      floor = Math.min(Number(y(s.points.at(-1)[1])) + 3.5, floor - 11);
      svg.append(make("text", { class: "tick tag", x: Number(x(s.points.at(-1)[0])) + 5, y: floor }, s.tag));
    }
    figure.append(caption, svg);
    return figure;
  }

  // One block in a chart of a leg: a circle (attention) or a square (MLP) with its interval.
  function spot(series, i, x, y, bar, size) {
    const g = make("g", { class: "dot " + series.look, role: "img", tabindex: -1, "aria-label": series.told[i] });
    Object.assign(g.dataset, { block: series.block, layer: i });
    if (bar) g.append(make("path", { class: "error " + series.look, d: `M${x} ${bar[0]}L${x} ${bar[1]}` }));
    g.append(series.block === "mlp" ? make("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size }) : make("circle", { cx: x, cy: y, r: size }));
    return g;
  }

  function mean(rows) {
    return rows[0].map((_, l) => {
      const known = rows.map((r) => r[l]).filter((v) => v !== null);
      return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
    });
  }

  function drawCharts(article, model, now) {
    const d = Math.max(0, model.domains.indexOf(state.domain));
    const domain = model.domains[d];
    const { title, signed } = data.measures[now.measure];
    const along = (line) => line.map((v, l) => [model.layers[l], v]);
    const series = [];
    for (const block of now.names) {
      const part = now.blocks[block], line = { name: BLOCKS[block], look: block, points: along(part.values[now.at][d]) };
      if (now.last && part.low) Object.assign(line, { low: along(part.low[d]), high: along(part.high[d]) });
      const others = part.values[now.at].filter((_, i) => i !== d);
      if (others.length) series.push({ name: `${BLOCKS[block]}, mean of the other domains`, look: block + " soft", points: along(mean(others)) });
      const nulls = (model.maps[now.measure] || {})[model.nulls[now.regime]];
      if (nulls && nulls[block] && now.last) series.push({ name: `${BLOCKS[block]}, shuffled text`, look: block + " null", points: along(nulls[block].values.at(-1)[d]) });
      series.push(line);
    }
    const charts = [chart(`${domain}: ${title} over layers`, `${domain}: ${title} over layers at step ${now.step}.`, series, { axis: "layer", zero: !signed })];
    for (const block of now.names) {
      const part = now.blocks[block];
      if (part.steps.length < 2) continue;
      const ranked = article.ranked[block] ? article.ranked[block][d] : [];
      const lines = model.layers.map((layer, l) => {
        const place = ranked.indexOf(layer);
        return { name: `layer ${layer}`, look: place < 0 ? block + " faint" : block + " solid", tag: place < 0 ? "" : String(layer), points: part.steps.map((s, i) => [s, part.values[i][d][l]]) };
      });
      lines.sort((a, b) => a.tag.length - b.tag.length);
      const top = ranked.length ? ` Highest-ranked: layers ${ranked.join(", ")}.` : "";
      charts.push(chart(`${domain}: ${BLOCKS[block]} over training`, `${domain}: ${title} of each ${BLOCKS[block]} layer over training steps.${top}`, lines, { axis: "step", zero: !signed, at: now.step }));
    }
    article.drawn.replaceChildren(...charts);
    article.drawn.hidden = false;
    article.legend.hidden = false;
    $$("span", article.legend).slice(0, 2).forEach((entry, i) => { entry.hidden = !now.names.includes(["attn", "mlp"][i]); });
    $(".null-legend", article.legend).hidden = !series.some((s) => s.look.endsWith("null"));
  }

  function draw(article) {
    const model = article.model, now = view(model);
    article.now = now;
    article.readout.textContent = "";
    const { title, meaning, signed } = data.measures[now.measure];
    now.ends = ends(now.names.map((b) => now.blocks[b].values[now.at]), signed);
    for (const block of Object.keys(article.figures)) drawMap(article, model, now, block);
    const runs = model.seeds[now.regime] > 1 ? `means over ${model.seeds[now.regime]} seeds` : "1 seed: no interval";
    article.caption.textContent = `${title} in the ${now.regime} run at step ${now.step}${now.last ? ", the last" : ""}; ${runs}. ${meaning[0].toUpperCase()}${meaning.slice(1)}.`;
    const own = model.marks[state.marks];
    article.marks.textContent = state.marks === "none" ? "" : !own ? "1, 2, 3: the highest-ranked layers of each domain." : own.of > 1 ? `Numbers: how many of the ${own.of} runs of ${state.marks} adapt the layer.` : `Dots: the layers that ${state.marks} adapts.`;
    if (article.pale) article.pale.hidden = state.marks === "none" || Boolean(own);
    const [low, high] = article.scale;
    low.textContent = shown(now.ends[0], now.measure);
    high.textContent = shown(now.ends[1], now.measure);
    low.parentElement.classList.toggle("signed", signed);
    article.unit.textContent = title;
    const form = article.form.elements;
    form.regime.value = now.regime;
    form.measure.value = now.measure;
    for (const option of form.measure.options) option.disabled = !(model.maps[option.value] || {})[now.regime];
    form.block.value = state.block;
    form.marks.value = model.marks[state.marks] || state.marks === "none" ? state.marks : "ranked";
    form.domain.value = model.domains.includes(state.domain) ? state.domain : model.domains[0];
    form.step.max = String(now.steps.length - 1);
    form.step.value = String(now.at);
    form.step.disabled = now.steps.length < 2;
    form.step.setAttribute("aria-valuetext", `step ${now.step}`);
    article.step.textContent = `step ${now.step}`;
    drawCharts(article, model, now);
  }

  // The legs: one chart a leg for the text in view, and all numbers of the block that is pointed at.
  const decimal = (m, v) => (v === null || v === undefined ? "" : v.toFixed(m.digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−"));
  const between = (m, low, high) => (low === null || high === null ? "" : `${decimal(m, low)} to ${decimal(m, high)}`);
  const at = (m, end, block, d, l) => (m[end][block] ? m[end][block][d][l] : null);
  function legNumbers(name, text, block, layer) {
    const model = (data.legs || {})[name];
    const d = model ? model.texts.indexOf(text) : -1, l = model ? model.layers.indexOf(layer) : -1;
    if (d < 0 || l < 0) return "";
    const told = ["adaptation", "representation", "causation"].flatMap((leg) => model.legs[leg] || []).filter((key) => key !== "S").map((key) => {
      const m = model.measures[key], v = at(m, "value", block, d, l);
      return v === null ? "" : `${m.title} ${decimal(m, v)}${m.unit === "no unit" ? "" : " " + m.unit}`;
    }).filter(Boolean);
    return told.length ? ` ${told[0][0].toUpperCase()}${told.join("; ").slice(1)}.` : "";
  }
  function legSeries(model, m, d, less) {
    const [value, low, high] = less ? ["contrast", "contrast_low", "contrast_high"] : ["value", "low", "high"];
    return Object.keys(BLOCKS).filter((block) => m.value[block]).map((block) => {
      const values = m[value][block][d], bars = values.map((_, l) => [m[low][block][d][l], m[high][block][d][l]]);
      const none = less ? null : m.null[block][d];
      return {
        name: BLOCKS[block], look: block, block, bars, flat: none && [none[0] - 1.96 * none[1], none[0] + 1.96 * none[1]],
        points: values.map((v, l) => [model.layers[l] + (block === "attn" ? -0.1 : 0.1), v]),
        told: values.map((v, l) => `${BLOCKS[block]}, layer ${model.layers[l]}: ${decimal(m, v)}${bars[l].includes(null) ? "" : ` (${between(m, ...bars[l])})`}`),
      };
    });
  }
  function choose(part, block, l) {
    const { model, d } = part;
    part.chosen = [block, l];
    for (const dot of $$("g.dot", part.charts)) {
      const own = dot.dataset.block === block && Number(dot.dataset.layer) === l;
      dot.classList.toggle("chosen", own);
      dot.setAttribute("tabindex", own ? 0 : -1);
    }
    part.title.textContent = `${BLOCKS[block]}, layer ${model.layers[l]}`;
    for (const row of $$("tr[data-measure]", part.section)) {
      const m = model.measures[row.dataset.measure], none = m.null[block] ? m.null[block][d] : null;
      const [value, low, high, contrast, less, more] = ["value", "low", "high", "contrast", "contrast_low", "contrast_high"].map((end) => at(m, end, block, d, l));
      const texts = [decimal(m, value) || "–", between(m, low, high), decimal(m, contrast), between(m, less, more), none ? `${decimal(m, none[0])} ± ${decimal(m, none[1])}` : ""];
      $$("td", row).slice(0, 5).forEach((cell, i) => { cell.textContent = texts[i]; });
    }
  }
  function drawLegs(part) {
    const { model, form } = part;
    part.d = Math.max(0, model.texts.indexOf(state.domain));
    const text = model.texts[part.d];
    for (const figure of $$("figure", part.charts)) {
      const { leg } = figure.dataset, name = model.legs[leg].includes(state[leg]) ? state[leg] : model.legs[leg][0];
      const m = model.measures[name], less = Boolean(state.less) && m.less[0] !== m.less[1];
      const title = `${leg[0].toUpperCase()}${leg.slice(1)}: ${m.title}`;
      const drawn = chart(title, `${title} over layers on ${text}${less ? ", less the mean of the other domains" : ""}, ${m.unit}`, legSeries(model, m, part.d, less), { axis: "layer", ends: less ? m.less : m.ends, places: model.layers });
      const under = $(".under", figure), unit = document.createElement("small");
      const known = Object.entries(m.reliability).filter(([, of]) => of[part.d] !== null).map(([block, of]) => `${block === "mlp" ? "MLP" : "attention"} ${of[part.d].toFixed(2).replace("-", "−")}`);
      under.textContent = known.length ? `Reliability: ${known.join(", ")}` : "";
      unit.textContent = m.unit;
      const svg = $("svg", drawn);
      if (svg) {
        $("figcaption", drawn).append(" ", unit);
        svg.setAttribute("role", "group");
      } else drawn.textContent = `${title}: not measured on ${text}`;
      figure.replaceChildren(...drawn.childNodes, under);
      if (form.elements[leg]) form.elements[leg].value = name;
    }
    form.elements.domain.value = text;
    if (form.elements.less) form.elements.less.checked = Boolean(state.less);
    $(".null-key", part.section).hidden = Boolean(state.less);
    $(".legs-less", part.section).hidden = !state.less;
    const label = form.elements.domain.selectedOptions[0];
    for (const place of $$(".legs-text", part.section)) place.textContent = label ? label.textContent : text;
    choose(part, ...part.chosen);
  }
  function pointAt(part) {
    part.charts.addEventListener("pointermove", (event) => {
      const svg = event.target.closest("svg");
      let best = null, least = Infinity;
      for (const dot of svg ? $$("g.dot", svg) : []) {
        const box = dot.lastElementChild.getBoundingClientRect();
        const far = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
        if (far < least) [best, least] = [dot, far];
      }
      if (best && !best.classList.contains("chosen")) choose(part, best.dataset.block, Number(best.dataset.layer));
    });
    part.charts.addEventListener("focusin", (event) => {
      const dot = event.target.closest("g.dot");
      if (dot) choose(part, dot.dataset.block, Number(dot.dataset.layer));
    });
    part.charts.addEventListener("keydown", (event) => {
      const dot = event.target.closest("g.dot");
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 0, ArrowDown: 0 }[event.key];
      if (!dot || step === undefined) return;
      event.preventDefault();
      const block = step ? dot.dataset.block : dot.dataset.block === "mlp" ? "attn" : "mlp";
      const next = $(`g.dot[data-block="${block}"][data-layer="${Number(dot.dataset.layer) + step}"]`, dot.parentElement);
      if (next) next.focus();
    });
  }

  const chooser = $("#models"), legs = [];
  function drawAll() {
    const known = data.models.some((m) => m.name === state.model);
    if (!known) state.model = "";
    for (const article of $$("article[data-model]")) article.hidden = known && article.dataset.model !== state.model;
    if (chooser) chooser.value = state.model;
    articles.forEach(draw);
    legs.forEach(drawLegs);
  }
  let waiting = 0;
  function change(key, value) {
    state[key] = value;
    drawAll();
    clearTimeout(waiting);
    waiting = setTimeout(writeAddress, 150);
  }

  function ranks(article, model) {
    const found = {};
    for (const figure of $$(".map", article)) {
      found[figure.dataset.block] = $$("tbody tr", figure).map((row) => {
        const top = [];
        $$("td", row).forEach((cell, l) => { if (cell.dataset.rank) top[cell.dataset.rank - 1] = model.layers[l]; });
        return top.filter((n) => n !== undefined);
      });
    }
    return found;
  }

  // How many seeds rank a cell's layer, where not all do: domains x layers.
  function supports(article) {
    const found = {};
    for (const figure of $$(".map", article)) {
      found[figure.dataset.block] = $$("tbody tr", figure).map((row) => $$("td", row).map((cell) => cell.dataset.support || ""));
    }
    return found;
  }

  // Arrow keys move over the cells of a map; one cell of each map is in the tab order.
  function walk(article, figure) {
    const table = $("table", figure), rows = $$("tbody tr", figure).map((row) => $$("td", row));
    table.setAttribute("role", "grid");
    rows.flat().forEach((cell, i) => { cell.tabIndex = i ? -1 : 0; });
    const find = (cell) => { const d = rows.findIndex((r) => r.includes(cell)); return [d, d < 0 ? -1 : rows[d].indexOf(cell)]; };
    const tell = (event) => {
      const cell = event.target.closest("td");
      if (!cell) return;
      const [d, l] = find(cell);
      readout(article, article.model, article.now, figure.dataset.block, d, l);
    };
    table.addEventListener("pointerover", tell);
    table.addEventListener("focusin", tell);
    table.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (cell) change("domain", article.model.domains[find(cell)[0]]);
    });
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td");
      if (!cell) return;
      const [d, l] = find(cell);
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      let to = step ? [d + step[0], l + step[1]] : null;
      if (event.key === "Home") to = [d, 0];
      if (event.key === "End") to = [d, rows[d].length - 1];
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        change("domain", article.model.domains[d]);
      }
      if (!to || !rows[to[0]] || !rows[to[0]][to[1]]) return;
      event.preventDefault();
      cell.tabIndex = -1;
      rows[to[0]][to[1]].tabIndex = 0;
      rows[to[0]][to[1]].focus();
    });
  }

  const articles = [];
  for (const element of $$("article[data-model]")) {
    const model = data.models.find((m) => m.name === element.dataset.model), form = $("form", element);
    if (!model || !form) continue;
    const article = {
      model, form, ranked: ranks(element, model), supports: supports(element), pale: $(".pale-of-map", element), figures: {}, caption: $(".caption-of-map", element), marks: $(".marks-of-map", element),
      scale: $$(".scale span", element), unit: $(".scale small", element), readout: $(".readout", element), step: $("output", form), drawn: $(".charts.drawn", element), legend: $(".drawn-legend", element),
    };
    for (const figure of $$(".map", element)) article.figures[figure.dataset.block] = figure;
    Object.values(article.figures).forEach((figure) => walk(article, figure));
    form.hidden = form.parentElement.hidden = false;
    form.parentElement.open = location.hash.startsWith("#view");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      const { name, value } = event.target;
      const { steps } = article.now;
      change(name, name !== "step" ? value : Number(value) === steps.length - 1 ? "last" : String(steps[value]));
    });
    articles.push(article);
  }
  for (const section of $$("section[data-legs]")) {
    const model = (data.legs || {})[section.dataset.legs], form = $("form", section);
    if (!model) continue;
    const part = { section, model, form, charts: $(".three", section), title: $(".legs-block", section), chosen: [section.dataset.block, Number(section.dataset.layer)] };
    form.hidden = $(".legs-help", section).hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", ({ target }) => change(target.name, target.type === "checkbox" ? (target.checked ? "yes" : "") : target.value));
    pointAt(part);
    legs.push(part);
  }
  for (const filter of $$("select[data-filter]")) {
    filter.closest("form").hidden = false;
    filter.addEventListener("input", () => $$("tbody", document.getElementById(filter.dataset.filter)).forEach((body, i) => {
      body.hidden = filter.value !== "" && filter.value !== String(i);
    }));
  }
  if (chooser) {
    chooser.closest("form").hidden = false;
    chooser.addEventListener("input", () => change("model", chooser.value));
  }
  // Only parts that can be scrolled are in the tab order.
  const sizes = new ResizeObserver((seen) => seen.forEach(({ target }) => {
    if (target.scrollWidth > target.clientWidth + 1) target.tabIndex = 0;
    else if (target !== document.activeElement) target.removeAttribute("tabindex");
  }));
  $$(".scroll").forEach((part) => sizes.observe(part));
  // Print folded parts too.
  let folded = [];
  addEventListener("beforeprint", () => { folded = $$("details:not([open])"); for (const part of folded) part.open = true; });
  addEventListener("afterprint", () => { for (const part of folded) part.open = false; });
  addEventListener("hashchange", () => { if (readAddress()) drawAll(); });
  readAddress();
  drawAll();
})();
