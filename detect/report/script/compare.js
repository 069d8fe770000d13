/* Switch the metric of the tables, filter the image pairs by class, and show more of them. */
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const press = (chips, chosen) => all("button", chips).forEach((button) => {
    button.setAttribute("aria-pressed", String(button === chosen));
  });

  all(".against").forEach((section) => {
    const chips = section.querySelector(".figures");
    const tables = all(".figure-table", section);
    const show = (figure) => tables.forEach((table) => { table.hidden = table.dataset.figure !== figure; });
    chips.hidden = false;
    all("h3", section).forEach((title) => title.classList.add("print-only"));
    all("button", chips).forEach((button) => button.addEventListener("click", () => {
      press(chips, button);
      show(button.dataset.figure);
    }));
    show(tables[0].dataset.figure);
  });

  const step = matchMedia("(max-width: 760px)").matches ? 4 : 8;
  all(".gallery").forEach((section) => {
    let chosen = "";
    const groups = all(".pairs", section).map((pairs) => {
      const more = document.createElement("button");
      more.type = "button";
      more.className = "more";
      pairs.after(more);
      const group = { pairs: all(".pair", pairs), more, limit: step };
      more.addEventListener("click", () => { group.limit += 2 * step; draw(group); });
      return group;
    });
    function draw(group) {
      const fitting = group.pairs.filter((pair) => !chosen || pair.dataset.classes.includes(` ${chosen} `));
      group.pairs.forEach((pair) => { pair.hidden = true; });
      fitting.slice(0, group.limit).forEach((pair) => { pair.hidden = false; });
      group.more.style.display = fitting.length > group.limit ? "" : "none";
      group.more.textContent = `Show more (${fitting.length - group.limit} left)`;
    }
    const chips = section.querySelector(".chips");
    chips.hidden = false;
    all("button", chips).forEach((button) => button.addEventListener("click", () => {
      chosen = button.dataset.class;
      press(chips, button);
      groups.forEach((group) => { group.limit = step; draw(group); });
    }));
    groups.forEach(draw);
  });
})();
