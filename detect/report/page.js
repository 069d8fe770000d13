"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  const theme = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
  nameTheme();

  const gallery = document.getElementById("gallery");
  const step = matchMedia("(max-width: 560px)").matches ? 6 : 12;
  let chosen = "";
  const groups = all(".cards", gallery).map((cards) => {
    const more = document.createElement("button");
    more.type = "button";
    more.className = "more";
    cards.after(more);
    const group = { cards: all(".card", cards), more, limit: step };
    more.addEventListener("click", () => { group.limit += 4 * step; draw(group); });
    return group;
  });
  function draw(group) {
    const fitting = group.cards.filter((card) => !chosen || card.dataset.classes.includes(` ${chosen} `));
    group.cards.forEach((card) => { card.hidden = true; });
    fitting.slice(0, group.limit).forEach((card) => { card.hidden = false; });
    group.more.hidden = fitting.length <= group.limit;
    group.more.style.display = group.more.hidden ? "none" : "";
    group.more.textContent = `Show more (${fitting.length - group.limit} left)`;
  }
  const filter = document.getElementById("filter");
  filter.hidden = false;
  all("button", filter).forEach((button) => button.addEventListener("click", () => {
    chosen = button.dataset.class;
    all("button", filter).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    groups.forEach((group) => { group.limit = step; draw(group); });
  }));
  for (const [id, hide] of [["show-true", "hide-true"], ["show-found", "hide-found"]]) {
    const box = document.getElementById(id);
    box.addEventListener("change", () => gallery.classList.toggle(hide, !box.checked));
  }
  groups.forEach(draw);

  const value = (cell) => {
    const text = cell.textContent.trim().replace("\u2212", "-").replace(/,/g, "");
    return text === "\u2013" ? -Infinity : (Number.isNaN(parseFloat(text)) ? text.toLowerCase() : parseFloat(text));
  };
  all("table.sorts").forEach((table) => all("thead th:not(.plain)", table).forEach((head) => {
    const column = head.cellIndex;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.classList.add("sortable");
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : column > 0;
      all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a.cells[column]), value(b.cells[column])];
        return (x > y) - (x < y);
      });
      table.tBodies[0].append(...(falling ? rows.reverse() : rows));
    });
  }));
})();
