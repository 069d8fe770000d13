/* Filter the findings by kind, and move between the cards with the keyboard. */
(() => {
  const chips = document.getElementById("kinds");
  const rows = [...document.querySelectorAll("#list tbody tr")];
  if (chips) {
    const buttons = [...chips.querySelectorAll("button")];
    const choose = (kind) => {
      rows.forEach((row) => { row.hidden = kind !== "" && row.dataset.kind !== kind; });
      buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.kind === kind)));
      document.getElementById("listed").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown.`;
    };
    buttons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.kind)));
    document.querySelectorAll("a[data-kind]").forEach((link) => link.addEventListener("click", () => choose(link.dataset.kind)));
    chips.parentElement.hidden = false;
    choose("");
  }
  const cards = [...document.querySelectorAll(".card")];
  const enlarge = (card) => {
    cards.forEach((other) => other.classList.toggle("large", other === card && !other.classList.contains("large")));
    card.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const at = cards.indexOf(document.activeElement.closest(".card"));
    if (at < 0) return;
    const card = cards[at], by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) {
      const next = cards[Math.min(Math.max(at + by, 0), cards.length - 1)];
      if (next !== card && card.classList.contains("large")) enlarge(next);
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") enlarge(card);
    else if (event.key === " ") card.classList.toggle("bare");
    else if (event.key === "Escape") card.classList.remove("large");
    else return;
    event.preventDefault();
  });
  cards.forEach((card) => card.addEventListener("click", () => enlarge(card)));
})();
