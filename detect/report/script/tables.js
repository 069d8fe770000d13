/* Sort a table by clicking a column header. */
(() => {
  const value = (cell) => {
    const text = cell.textContent.trim().replace("\u2212", "-").replace(/,/g, "");
    return text === "\u2013" ? -Infinity : (Number.isNaN(parseFloat(text)) ? text.toLowerCase() : parseFloat(text));
  };
  document.querySelectorAll("table.sorts").forEach((table) => table.querySelectorAll("thead th:not(.plain)").forEach((head) => {
    const column = head.cellIndex;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.classList.add("sortable");
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : column > 0;
      table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a.cells[column]), value(b.cells[column])];
        return (x > y) - (x < y);
      });
      table.tBodies[0].append(...(descending ? rows.reverse() : rows));
    });
  }));
})();
