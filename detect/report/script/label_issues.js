/* Filter the label issues by reason and class, and move between the cards with the keyboard. */
(() => {
  const section = document.getElementById("issues");
  const cards = [...section.querySelectorAll(".card")];
  const filters = section.querySelector(".filters");
  if (!filters) return;
  const chosen = { reason: "", class: "" };
  const shown = () => cards.filter((card) => !card.hidden);
  const draw = () => {
    cards.forEach((card) => {
      card.hidden = Object.entries(chosen).some(([key, value]) => value !== "" && card.dataset[key] !== value);
    });
    document.getElementById("listed").textContent = `${shown().length} of ${cards.length} shown.`;
  };
  for (const key of Object.keys(chosen)) {
    const buttons = [...filters.querySelectorAll(`button[data-${key}]`)];
    buttons.forEach((button) => button.addEventListener("click", () => {
      chosen[key] = button.dataset[key];
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      draw();
    }));
  }
  const enlarge = (card) => {
    cards.forEach((other) => other.classList.toggle("large", other === card && !other.classList.contains("large")));
    card.scrollIntoView({ block: "nearest" });
  };
  const step = (by) => {
    const list = shown(), at = list.indexOf(document.activeElement);
    const next = list[at < 0 ? 0 : Math.min(Math.max(at + by, 0), list.length - 1)];
    if (!next) return;
    const large = at >= 0 && list[at].classList.contains("large");
    if (large && next !== list[at]) enlarge(next);
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const card = document.activeElement.closest(".card");
    if (event.key === "ArrowRight") step(1);
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "Enter" && card) enlarge(card);
    else if (event.key === " " && card) card.classList.toggle("bare");
    else if (event.key === "Escape") cards.forEach((other) => other.classList.remove("large"));
    else return;
    event.preventDefault();
  });
  cards.forEach((card) => card.addEventListener("click", () => enlarge(card)));
  filters.hidden = false;
  draw();
})();
