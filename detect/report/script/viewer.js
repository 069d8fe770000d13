/* The gallery: score threshold, filters, counts, and a confusion matrix whose cells open their images. */
(() => {
  const packed = JSON.parse(document.getElementById("viewer-data").textContent);
  const images = counting.unpack(packed);
  const classes = packed.classes, background = classes.length;
  const gallery = document.getElementById("gallery");
  const cards = gallery.querySelector(".cards");
  const byId = (id) => document.getElementById(id);
  const page = matchMedia("(max-width: 560px)").matches ? 6 : 12;
  const clear = { t: packed.threshold, category: "", kind: "", cell: "", sort: "worst" };
  const state = { ...clear };
  let limit = page, listed = [], counted = null;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const drawn = (tag, attributes, parent) => {
    const made = document.createElementNS(document.querySelector("svg").namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return parent.appendChild(made);
  };

  /* ---- counts, cached per threshold ---- */
  const count = () => {
    if (counted && counted.t === state.t) return counted;
    const matrix = Array.from({ length: background + 1 }, () => new Array(background + 1).fill(0));
    const totals = classes.map(() => ({ right: 0, missed: 0, false: 0 }));
    const of = images.map((image) => {
      const outcomes = counting.outcomes(image, state.t);
      const pairs = counting.confusionPairs(image, state.t, packed.iou);
      outcomes.forEach((each) => { totals[each.category][each.kind] += 1; });
      pairs.forEach((pair) => { matrix[pair.from ?? background][pair.to ?? background] += 1; });
      return { outcomes, pairs };
    });
    counted = { t: state.t, matrix, totals, of };
    return counted;
  };

  /* The outcomes of an image that pass the filters, null if the image is not shown. */
  const filtered = (number) => {
    const { outcomes, pairs } = count().of[number];
    if (state.cell) {
      const [from, to] = state.cell.split("-").map((each) => (Number(each) === background ? null : Number(each)));
      const fitting = pairs.filter((pair) => pair.from === from && pair.to === to);
      return fitting.length ? fitting : null;
    }
    const fitting = outcomes.filter((each) =>
      (state.category === "" || each.category === Number(state.category)) &&
      (state.kind === "" || each.kind === state.kind || each.error === state.kind));
    return fitting.length || (state.kind === "" && state.category === "") ? fitting : null;
  };
  const weight = {
    worst: (number, fitting) => {
      const wrong = fitting.filter((each) => each.kind !== "right");
      return wrong.length + Math.max(0, ...wrong.map((each) => (each.detection === null ? 0.5 : images[number].detections[each.detection].score)));
    },
    score: (number, fitting) => Math.max(0, ...fitting.map((each) => (each.detection === null ? 0 : images[number].detections[each.detection].score))),
    loose: (number, fitting) => -Math.min(1, ...fitting.map((each) => (each.detection === null || each.label === null ? 1 :
      counting.iou(images[number].detections[each.detection].box, images[number].labels[each.label].box)))),
    file: (number) => -number,
  };

  /* ---- one image with its boxes ---- */
  const tagSpot = (box, text, width, height, taken, below) => {
    /* As place_tags in thumbnails.py: outside or inside the upper or lower edge, where it overlaps other tags least. */
    const scale = 250 / width, tagHeight = 17, tagWidth = (0.62 * text.length + 1) * 11.5;
    const x = Math.max(0, Math.min(box[0] * scale, 250 - tagWidth)), [top, bottom] = [box[1] * scale, box[3] * scale];
    const upper = [[top - tagHeight, `bottom:${100 * (1 - box[1] / height)}%`], [top, `top:${100 * box[1] / height}%`]];
    const lower = [[bottom, `top:${100 * box[3] / height}%`], [bottom - tagHeight, `bottom:${100 * (1 - box[3] / height)}%`]];
    const spots = (below ? [...lower, ...upper] : [...upper, ...lower]).filter(([y]) => y >= 0 && y + tagHeight <= height * scale);
    const overlap = ([y]) => taken.reduce((sum, other) => sum + Math.max(0, Math.min(x + tagWidth, other[2]) - Math.max(x, other[0])) *
      Math.max(0, Math.min(y + tagHeight, other[3]) - Math.max(y, other[1])), 0);
    const best = (spots.length ? spots : [[0, "top:0"]]).reduce((a, b) => (overlap(b) < overlap(a) ? b : a));
    taken.push([x, best[0], x + tagWidth, best[0] + tagHeight]);
    const left = Math.min(100, Math.max(0, 100 * box[0] / width));
    return `left:max(0px,min(${left.toFixed(2)}%,100% - ${(0.62 * text.length + 1).toFixed(1)}em));${best[1]}`;
  };
  const picture = (number) => {
    const image = images[number], { outcomes } = count().of[number];
    const frame = element("div", "picture");
    frame.style.aspectRatio = `${image.width}/${image.height}`;
    const svg = drawn("svg", { viewBox: `0 0 ${image.width} ${image.height}`, role: "img", "aria-label": `${image.file} with its boxes` }, frame);
    if (image.picture !== null) drawn("use", { href: `#p${image.picture}` }, svg);
    else frame.append(element("span", "absent", "no image"));
    const marks = image.labels.filter((g) => g.crowd).map((g) => ({ box: g.box, style: "crowd", text: "ignored" }));
    outcomes.forEach((each) => {
      if (each.label !== null) {
        const missed = each.kind === "missed";
        marks.push({ box: image.labels[each.label].box, style: missed ? "missed" : "true", text: missed ? `missed: ${classes[each.category]}` : "" });
      }
    });
    outcomes.filter((each) => each.detection !== null).reverse().forEach((each) => {
      const d = image.detections[each.detection];
      marks.push({ box: d.box, style: each.kind === "right" ? "hit" : "false", text: `${classes[d.category]} ${d.score.toFixed(2)}` });
    });
    const taken = [];
    marks.forEach(({ box, style, text }) => {
      const group = drawn("g", { class: `of-${style}` }, svg);
      const place = { x: box[0], y: box[1], width: Math.max(0, box[2] - box[0]), height: Math.max(0, box[3] - box[1]) };
      drawn("rect", { class: "halo", ...place }, group);
      drawn("rect", { class: `b-${style}`, ...place }, group);
      if (!text) return;
      const tag = element("span", `tag t-${style} of-${style}`, text);
      tag.style.cssText = tagSpot(box, text, image.width, image.height, taken, style === "missed");
      frame.append(tag);
    });
    return frame;
  };
  const reasons = (number, fitting) => fitting.filter((each) => each.kind === "false").slice(0, 3).map((each) => {
    const d = images[number].detections[each.detection], near = counting.nearest(images[number], d.box);
    const where = near.label ? `IoU ${near.iou.toFixed(2)} with ${classes[near.label.category]}` : "overlaps no label";
    return `${classes[d.category]} ${d.score.toFixed(2)}: ${each.error ? `${each.error}, ` : ""}${where}`;
  }).join("; ");
  const caption = (number, fitting) => {
    const made = element("figcaption"), { outcomes } = count().of[number];
    const of = (kind) => outcomes.filter((each) => each.kind === kind).length;
    const file = element("span", "file", images[number].file.replace(/\\/g, "/").split("/").pop());
    file.title = images[number].file;
    const counts = element("span", "counts", `${of("right")} found`);
    for (const [kind, label] of [["missed", "missed"], ["false", "false alarms"]]) {
      if (of(kind)) counts.append(" · ", element("b", `n-${kind}`, `${of(kind)} ${label}`));
    }
    made.append(file, counts);
    const reason = state.cell ? "" : reasons(number, fitting);
    if (reason) made.append(element("span", "detail", reason));
    return made;
  };
  const card = ([number, fitting]) => {
    const made = element("figure", "card");
    const open = element("button", "open");
    open.type = "button";
    open.setAttribute("aria-label", `Enlarge ${images[number].file}`);
    open.append(picture(number));
    open.addEventListener("click", () => enlarge(number));
    made.append(open, caption(number, fitting));
    return made;
  };

  /* ---- the enlarged image, with keys for the previous and the next one ---- */
  const dialog = byId("large");
  let shown = 0;
  const enlarge = (number) => {
    shown = listed.findIndex(([each]) => each === number);
    const body = dialog.querySelector(".large");
    const enlarged = element("figure", "card");
    enlarged.append(picture(number), caption(number, listed[shown][1]));
    body.replaceChildren(enlarged);
    dialog.querySelector(".where").textContent = `${shown + 1} of ${listed.length}`;
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => { if (listed.length) enlarge(listed[(shown + by + listed.length) % listed.length][0]); };
  dialog.querySelector(".before").addEventListener("click", () => step(-1));
  dialog.querySelector(".after").addEventListener("click", () => step(1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });

  /* ---- draw the page for the current state ---- */
  const share = (part, total) => (total ? `${Math.round(100 * part / total)}\u00a0%` : "\u2013");
  const drawCounts = () => {
    const rows = classes.map((name, k) => [name, count().totals[k]]);
    const all = { right: 0, missed: 0, false: 0 };
    rows.forEach(([, each]) => Object.keys(all).forEach((key) => { all[key] += each[key]; }));
    const line = ([name, each], head, category) => {
      const row = element("tr");
      const first = element("th", "", name);
      first.scope = "row";
      first.title = name;
      const f1 = 2 * each.right + each.missed + each.false;
      const cells = [each.right, each.missed, each.false, share(each.right, each.right + each.false),
        share(each.right, each.right + each.missed), f1 ? (2 * each.right / f1).toFixed(3) : "\u2013"];
      row.append(first, ...cells.map((text, i) => {
        const cell = element("td", "n");
        if (i > 2 || !text) cell.textContent = String(text);
        else {
          const open = element("button", "plain", text.toLocaleString("en"));
          open.type = "button";
          open.title = "show the images";
          open.addEventListener("click", () => {
            change({ ...clear, t: state.t, category, kind: ["right", "missed", "false"][i] });
            gallery.scrollIntoView();
          });
          cell.append(open);
        }
        return cell;
      }));
      head.append(row);
    };
    const table = byId("counts");
    table.tBodies[0].replaceChildren();
    table.tFoot.replaceChildren();
    rows.forEach((row, k) => line(row, table.tBodies[0], String(k)));
    line(["all", all], table.tFoot, "");
  };
  const drawMatrix = () => {
    document.querySelectorAll("#confusion td button").forEach((button) => {
      const [from, to] = button.dataset.cell.split("-").map(Number);
      const value = count().matrix[from][to], total = count().matrix[from].reduce((a, b) => a + b, 0);
      const part = total ? value / total : 0;
      button.textContent = value.toLocaleString("en");
      button.parentElement.style.setProperty("--v", part.toFixed(3));
      button.parentElement.className = `${part > 0.55 ? "strong" : ""}${value ? "" : " zero"}`;
      button.setAttribute("aria-pressed", String(state.cell === button.dataset.cell));
      const names = [from, to].map((k) => (k === background ? "background" : classes[k]));
      button.title = `${names[0]} \u2192 ${names[1]}: ${value} (${share(value, total)} of the row); click to show the images`;
    });
  };
  const drawMistakes = () => {
    const wrong = count().matrix.flatMap((row, from) => row.map((value, to) => ({ from, to, value, total: row.reduce((a, b) => a + b, 0) })))
      .filter(({ from, to, value }) => from !== to && value > 0).sort((a, b) => b.value - a.value).slice(0, 8);
    byId("mistakes").replaceChildren(...wrong.map(({ from, to, value, total }) => {
      const item = element("li");
      const open = element("button", "plain", from === background ? `false alarms of ${classes[to]}` :
        `${classes[from]} ${to === background ? "missed" : `detected as ${classes[to]}`}`);
      open.type = "button";
      open.addEventListener("click", () => openCell(`${from}-${to}`));
      item.append(element("b", "", value.toLocaleString("en")), " ", open);
      if (from !== background) item.append(" ", element("span", "", `${share(value, total)} of the row`));
      return item;
    }));
  };
  const nameOf = (k) => (k === background ? "background" : classes[k]);
  const drawCards = () => {
    listed = images.map((_, number) => [number, filtered(number)]).filter(([, fitting]) => fitting)
      .map(([number, fitting]) => [number, fitting, weight[state.sort](number, fitting)])
      .sort((a, b) => b[2] - a[2] || a[0] - b[0]);
    cards.replaceChildren(...listed.slice(0, limit).map(card));
    if (!listed.length) cards.append(element("p", "note", "No image matches the filters."));
    const more = byId("more");
    more.hidden = listed.length <= limit;
    more.textContent = `Show more (${listed.length - limit} left)`;
    const [from, to] = state.cell.split("-").map(Number);
    const condition = state.cell ? `, where ${nameOf(from)} is ${to === background ? "missed" : from === background ? `${nameOf(to)}, a false alarm` : from === to ? "found" : `detected as ${nameOf(to)}`}` : "";
    byId("listed").textContent = `${listed.length.toLocaleString("en")} of ${images.length.toLocaleString("en")} images at a score of ${state.t.toFixed(3)} or more${condition}`;
  };
  const draw = () => {
    byId("threshold").value = state.t;
    byId("at").textContent = state.t.toFixed(3);
    document.querySelectorAll("[data-at]").forEach((each) => { each.textContent = state.t.toFixed(3); });
    gallery.querySelectorAll("button[data-class]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.class === state.category && !state.cell)));
    gallery.querySelectorAll("button[data-kind]").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.kind === state.kind && !state.cell)));
    byId("sort").value = state.sort;
    byId("all").hidden = !Object.keys(clear).some((key) => state[key] !== clear[key]);
    drawCounts();
    drawMatrix();
    drawMistakes();
    drawCards();
  };

  /* ---- the state is stored in the URL fragment, so that a view can be bookmarked and shared ---- */
  const change = (part) => {
    Object.assign(state, part);
    limit = page;
    const settings = Object.entries(state).filter(([key, value]) => value !== clear[key]).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
    history.replaceState(null, "", settings.length ? `#${settings.join("&")}` : location.pathname + location.search);
    draw();
  };
  const read = () => {
    Object.assign(state, clear);
    location.hash.slice(1).split("&").forEach((setting) => {
      const [key, value] = setting.split("=");
      if (key === "t" && Number(value) >= 0 && Number(value) <= 1) state.t = Number(value);
      else if (key in clear && value !== undefined) state[key] = decodeURIComponent(value);
    });
    if (!(state.sort in weight)) state.sort = clear.sort;
    draw();
  };
  const bound = (text) => Math.max(packed.min_score, Number(text));
  byId("threshold").addEventListener("input", (event) => change({ t: bound(event.target.value) }));
  byId("all").addEventListener("click", () => change(clear));
  byId("sort").addEventListener("change", (event) => change({ sort: event.target.value }));
  byId("more").addEventListener("click", () => { limit += 4 * page; drawCards(); });
  gallery.querySelectorAll("button[data-class]").forEach((b) => b.addEventListener("click", () => change({ category: b.dataset.class, cell: "" })));
  gallery.querySelectorAll("button[data-kind]").forEach((b) => b.addEventListener("click", () => change({ kind: b.dataset.kind, cell: "" })));
  const openCell = (cell) => {
    change({ ...clear, t: state.t, cell: state.cell === cell ? "" : cell });
    if (state.cell) gallery.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };
  document.querySelectorAll("#confusion td button").forEach((b) => b.addEventListener("click", () => openCell(b.dataset.cell)));
  for (const [id, hide] of [["show-true", "hide-true"], ["show-found", "hide-found"]]) {
    byId(id).addEventListener("change", (event) => document.body.classList.toggle(hide, !event.target.checked));
  }
  addEventListener("hashchange", read);
  gallery.querySelectorAll("[hidden].needs-script").forEach((each) => { each.hidden = false; });
  read();
})();
