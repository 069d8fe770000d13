/* The row of image thumbnails, the class buttons, and the sortable table of detections. */
import { element } from "./drawing.js";

const COLUMNS = [["class", (f) => f.label], ["score", (f) => f.score], ...["x1", "y1", "x2", "y2"].map((name, at) => [name, (f) => f.box_xyxy[at]])];
const sorted = { column: 1, descending: true };

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

const dot = (colour) => {
  const made = element("span", "dot-of");
  made.style.background = colour;
  return made;
};

export const drawThumbs = (list, entries, current, counts, choose) => {
  const before = new Map([...list.children].map((item) => [item.firstChild.dataset.id, item]));
  list.replaceChildren(...entries.map((entry) => {
    const item = before.get(String(entry.id)) ?? element("li");
    const button = item.firstChild ?? item.appendChild(element("button"));
    button.type = "button";
    button.dataset.id = entry.id;
    const count = counts(entry);
    const state = entry.error ? "failed" : entry.answer ? (count ? "" : "none") : "waits";
    button.className = state;
    const status = entry.error ? "can't be used" : entry.answer ? `${count} found` : "in progress";
    button.setAttribute("aria-label", `${entry.name}: ${status}`);
    button.title = entry.name;
    button.setAttribute("aria-current", String(entry === current));
    button.onclick = () => choose(entry);
    let picture = button.querySelector("img");
    if (entry.url && picture?.getAttribute("src") !== entry.url) {
      picture?.remove();
      picture = button.appendChild(element("img"));
      picture.alt = "";
      picture.onerror = () => picture.remove();
      picture.src = entry.url;
    }
    button.querySelector(".count")?.remove();
    if (state !== "waits") button.append(element("span", "count", entry.error ? "!" : String(count)));
    return item;
  }));
  const shown = list.querySelector('[aria-current="true"]');
  if (shown) {
    const [here, at] = [list.getBoundingClientRect(), shown.getBoundingClientRect()];
    if (at.left < here.left || at.right > here.right) list.scrollLeft += at.left - here.left - 40;
  }
};

export const drawClasses = (place, categories, colours, counts, hidden, toggle) => {
  const buttons = [...place.children];
  categories.forEach((name, at) => {
    const button = buttons[at] ?? place.appendChild(element("button"));
    button.type = "button";
    button.replaceChildren(dot(colours[name]), `${name} ${counts.get(name) ?? 0}`);
    button.className = counts.get(name) ? "" : "zero";
    button.setAttribute("aria-pressed", String(!hidden.has(name)));
    button.onclick = () => toggle(name);
  });
};

/* Positions of the detections in the order of the sorted column. */
const order = (shown) => {
  const value = COLUMNS[sorted.column][1], sign = sorted.descending ? -1 : 1;
  return shown.map((_, at) => at).sort((a, b) => {
    const [x, y] = [value(shown[a]), value(shown[b])];
    return sign * ((x > y) - (x < y)) || a - b;
  });
};

export const drawTable = (table, shown, colours, highlight) => {
  const head = table.tHead.rows[0];
  if (!head.cells.length) {
    COLUMNS.forEach(([name], column) => {
      const cell = head.appendChild(element("th", column ? "n sortable" : "sortable"));
      cell.scope = "col";
      const button = cell.appendChild(element("button", "", name));
      button.type = "button";
      button.addEventListener("click", () => {
        Object.assign(sorted, { descending: sorted.column === column ? !sorted.descending : column > 0, column });
        table.redraw();
      });
    });
  }
  table.redraw = () => drawTable(table, shown, colours, highlight);
  [...head.cells].forEach((cell, column) => {
    if (column === sorted.column) cell.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
  table.hidden = !shown.length;
  table.tBodies[0].replaceChildren(...order(shown).map((at) => {
    const detection = shown[at], row = element("tr");
    row.dataset.at = at;
    const first = row.appendChild(element("th"));
    first.scope = "row";
    const button = first.appendChild(element("button"));
    button.type = "button";
    button.append(dot(colours[detection.label]), element("span", "", detection.label));
    row.append(element("td", "n", detection.score.toFixed(3)), ...detection.box_xyxy.map((value) => element("td", "n", value.toFixed(1))));
    button.addEventListener("focus", () => highlight(at));
    row.addEventListener("click", () => highlight(at, true));
    row.addEventListener("pointerenter", () => highlight(at));
    row.addEventListener("pointerleave", () => highlight(null));
    return row;
  }));
};
