/* The page: one request to the server per image; everything else is drawn from the responses. */
import * as asking from "./asking.js";
import { element, frame, place, png } from "./drawing.js";
import { asJson, keep, stem } from "./keeping.js";
import { drawClasses, drawTable, drawThumbs, plural } from "./listing.js";

const byId = (id) => document.getElementById(id);
const state = { model: null, entries: [], current: null, threshold: null, hidden: new Set(), pinned: null };
let numbers = 0;

/* ---- the visible detections ---- */
const thresholdOf = (label) => state.threshold ?? state.model.thresholds[label];
const shown = (entry) => (entry.answer ? entry.answer.detections.filter((f) => f.score >= thresholdOf(f.label) && !state.hidden.has(f.label)) : []);
/* The default threshold if all classes have the same one, else null. */
const commonThreshold = () => {
  const all = new Set(Object.values(state.model.thresholds));
  return all.size === 1 ? [...all][0] : null;
};

const showError = (sentence) => {
  byId("error").hidden = !sentence;
  byId("error").replaceChildren(element("strong", "", "Check this"), sentence ?? "");
};

const highlight = (at, pin = false) => {
  if (pin) state.pinned = state.pinned === at ? null : at;
  const lit = at ?? state.pinned;
  document.querySelectorAll("#stage .box, #table tbody tr").forEach((each) => each.classList.toggle("lit", lit !== null && Number(each.dataset.at) === lit));
  document.querySelectorAll("#stage .tag").forEach((each) => each.classList.toggle("dim", lit !== null && Number(each.dataset.at) !== lit));
};

const drawStage = () => {
  const entry = state.current, stage = byId("stage");
  if (entry.error) stage.replaceChildren(element("p", "refused", entry.error));
  else if (!entry.picture) stage.replaceChildren(element("div", "waiting"));
  else {
    if (stage.firstChild !== entry.frame) stage.replaceChildren(entry.frame);
    place(entry.frame, entry.answer.image, shown(entry), state.model.colours);
  }
};

const statusText = (entry) => {
  if (entry.error) return "This image can't be used.";
  if (!entry.answer) return "Detection in progress.";
  const { width, height, bits } = entry.answer.image, count = shown(entry).length;
  return `${count ? plural(count, "detection") : "no detections"} · ${width} × ${height} px, ${bits} bits · ${Math.round(entry.answer.ms.detect)} ms`;
};

const draw = () => {
  const entry = state.current;
  document.body.classList.toggle("empty", !entry);
  byId("work").hidden = !entry;
  if (!state.model || !entry) return;
  const threshold = state.threshold ?? commonThreshold();
  byId("threshold").value = threshold ?? Object.values(state.model.thresholds).reduce((a, b) => a + b, 0) / state.model.categories.length;
  byId("at").textContent = threshold === null ? "per class" : threshold.toFixed(2);
  byId("reset").hidden = state.threshold === null;
  const done = state.entries.filter((each) => each.answer);
  byId("sum").textContent = `${plural(done.reduce((sum, each) => sum + shown(each).length, 0), "detection")} in ${plural(done.length, "image")}`;
  drawThumbs(byId("thumbs"), state.entries, entry, (each) => shown(each).length, choose);
  byId("thumbs").hidden = state.entries.length < 2;
  byId("where").textContent = `${state.entries.indexOf(entry) + 1} of ${state.entries.length}`;
  byId("where").parentElement.hidden = state.entries.length < 2;
  byId("all").hidden = state.entries.length < 2;
  byId("name").textContent = entry.name;
  byId("status").textContent = statusText(entry);
  const counts = new Map();
  (entry.answer?.detections ?? []).filter((f) => f.score >= thresholdOf(f.label)).forEach((f) => counts.set(f.label, (counts.get(f.label) ?? 0) + 1));
  byId("classes").hidden = !entry.answer;
  drawClasses(byId("classes"), state.model.categories, state.model.colours, counts, state.hidden, (name) => {
    if (!state.hidden.delete(name)) state.hidden.add(name);
    state.pinned = null;
    draw();
  });
  drawTable(byId("table"), shown(entry), state.model.colours, highlight);
  byId("picture").disabled = !entry.picture;
  byId("json").disabled = !entry.answer;
  drawStage();
  highlight(null);
};

/* ---- add images ---- */
const loaded = (url) => new Promise((done) => {
  const picture = new Image();
  picture.onload = () => done(picture);
  picture.onerror = () => done(null);
  picture.src = url;
});

/* Browsers can't show TIFF and PNM, and show only the upper 8 of 16 bits: the server makes previews of such images. */
const show = async (entry) => {
  const { width, height, bits } = entry.answer.image;
  let picture = bits === 8 && !/\.(tiff?|npy)$/i.test(entry.name) ? await loaded(entry.url) : null;
  if (!picture || picture.naturalWidth !== width || picture.naturalHeight !== height) {
    const before = entry.url;
    entry.url = URL.createObjectURL(await asking.preview(entry.file));
    picture = await loaded(entry.url);
    URL.revokeObjectURL(before);
  }
  if (!picture) throw new Error("the image can't be shown in this browser");
  entry.picture = picture;
  entry.frame = frame(picture, entry.answer.image, entry.name);
  entry.frame.addEventListener("pointerover", (event) => {
    const box = event.target.closest(".box");
    highlight(box ? Number(box.dataset.at) : null);
  });
  entry.frame.addEventListener("pointerleave", () => highlight(null));
  entry.frame.addEventListener("click", (event) => {
    const box = event.target.closest(".box");
    if (box) highlight(Number(box.dataset.at), true);
  });
};

const detect = async (entry) => {
  try {
    entry.answer = await asking.detect(entry.file);
    await show(entry);
  } catch (error) {
    if (error.status === 401) {
      state.entries = state.entries.filter((each) => each !== entry);
      if (state.current === entry) state.current = state.entries[0] ?? null;
      askToken(error);
    } else entry.error = error.message;
  }
  draw();
};

const add = (files) => {
  const made = [...files].map((file) => ({ id: (numbers += 1), file, name: file.name || "pasted image", url: URL.createObjectURL(file), answer: null, error: null, picture: null, frame: null }));
  if (!made.length || !state.model) return;
  showError(null);
  const limits = state.model.limits;
  made.forEach((entry) => {
    if (entry.file.size + 1024 > limits.max_bytes) entry.error = `${entry.name} has ${(entry.file.size / 2 ** 20).toFixed(1)} MiB, but the limit is ${(limits.max_bytes / 2 ** 20).toFixed(0)} MiB; send a smaller file`;
  });
  state.entries.push(...made);
  state.current = made[0];
  state.pinned = null;
  draw();
  made.filter((entry) => !entry.error).forEach(detect);
};

const choose = (entry) => {
  state.current = entry;
  state.pinned = null;
  draw();
};
const step = (by) => {
  const count = state.entries.length;
  if (count) choose(state.entries[(state.entries.indexOf(state.current) + by + count) % count]);
};
const remove = () => {
  const at = state.entries.indexOf(state.current);
  if (at < 0) return;
  URL.revokeObjectURL(state.current.url);
  state.entries.splice(at, 1);
  choose(state.entries[Math.min(at, state.entries.length - 1)] ?? null);
};
const score = (value) => {
  state.threshold = Math.min(1, Math.max(Number(byId("threshold").min), Math.round(100 * value) / 100));
  state.pinned = null;
  draw();
};

/* ---- downloads ---- */
byId("picture").addEventListener("click", async () => {
  const { picture, answer, name } = state.current;
  keep(await png(picture, answer.image, shown(state.current), state.model.colours), `${stem(name)}.detections.png`);
});
const json = (entries) => asJson(state.model, entries, state.threshold ?? commonThreshold(), thresholdOf, shown);
byId("json").addEventListener("click", () => keep(json([state.current]), `${stem(state.current.name)}.json`));
byId("all").addEventListener("click", () => keep(json(state.entries), "detections.json"));
byId("remove").addEventListener("click", remove);

/* ---- mouse, keyboard, clipboard ---- */
byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
byId("threshold").addEventListener("input", (event) => score(Number(event.target.value)));
byId("reset").addEventListener("click", () => {
  state.threshold = null;
  draw();
});
byId("before").addEventListener("click", () => step(-1));
byId("after").addEventListener("click", () => step(1));
addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
let inside = 0;
const over = (by) => {
  inside = Math.max(0, inside + by);
  document.body.classList.toggle("over", inside > 0);
};
addEventListener("dragenter", () => over(1));
addEventListener("dragleave", () => over(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over(-inside);
  add(event.dataTransfer?.files ?? []);
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("#token")) return;
  const threshold = Number(byId("threshold").value), onSlider = event.target.matches("#threshold");
  const act = {
    ArrowLeft: onSlider ? null : () => step(-1), ArrowRight: onSlider ? null : () => step(1),
    "+": () => score(threshold + 0.01), "=": () => score(threshold + 0.01), "-": () => score(threshold - 0.01),
    o: () => byId("files").click(), Delete: remove,
  }[event.key];
  if (!act || !state.model || (!state.current && event.key !== "o")) return;
  event.preventDefault();
  act();
});
new ResizeObserver(() => { if (state.current?.frame) draw(); }).observe(byId("stage"));

/* ---- the server ---- */
const askToken = (error) => {
  byId("door").hidden = false;
  byId("open").hidden = true;
  showError(asking.hasToken() ? `${error.message.split(";")[0]}; enter another one` : null);
  asking.forget();
  byId("token").focus();
};
const open = async () => {
  try {
    state.model = await asking.model();
  } catch (error) {
    byId("subject").replaceChildren(element("span", "", location.host));
    if (error.status === 401) askToken(error);
    else showError(error.message);
    return;
  }
  const { model, categories, limits } = state.model;
  byId("door").hidden = true;
  byId("open").hidden = false;
  showError(null);
  byId("subject").replaceChildren(...[`detector ${model}`, plural(categories.length, "class").replace("classs", "classes"), location.host].map((text) => element("span", "", text)));
  byId("formats").textContent = `BMP, GIF, JPEG, PNG, PNM, TIFF or WebP, gray or colour, 8 or 16 bits, or an array as .npy; up to ${(limits.max_bytes / 2 ** 20).toFixed(0)} MiB and ${(limits.max_pixels / 1e6).toLocaleString("en")} million pixels each`;
  draw();
};
byId("door").addEventListener("submit", (event) => {
  event.preventDefault();
  asking.remember(byId("token").value.trim());
  byId("token").value = "";
  open();
});
byId("curl").textContent = `curl -F image=@plate.png '${new URL("v1/detect?threshold=0.5", location.href)}'`;
open();
