/* Show the values of a chart at the pointer, or at the position chosen with the arrow keys. */
(() => {
  const make = (tag, attributes, parent) => {
    const element = document.createElementNS(document.querySelector("svg").namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return parent.appendChild(element);
  };
  const interpolate = (points, x) => {
    /* The value of a line at x by linear interpolation; null beyond its ends. */
    const after = points.findIndex((point) => point[0] >= x - 1e-9);
    if (after < 0 || x < points[0][0] - 1e-9) return null;
    const [b, a] = [points[after], points[Math.max(0, after - 1)]];
    return b[0] === a[0] ? b[1] : a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]);
  };
  document.querySelectorAll("svg.chart[data-curves]").forEach((svg) => {
    const chart = JSON.parse(svg.dataset.curves);
    const [left, right, top, bottom] = chart.frame;
    const toX = (x) => left + (x - chart.x[0]) / (chart.x[1] - chart.x[0] || 1) * (right - left);
    const toY = (y) => bottom - (y - chart.y[0]) / (chart.y[1] - chart.y[0] || 1) * (bottom - top);
    const layer = make("g", { class: "pointed", visibility: "hidden" }, svg);
    const guide = make("line", { class: "guide", y1: top, y2: bottom }, layer);
    const dots = chart.lines.map((line) => make("circle", { class: `dot ${line.style}`, r: 3 }, layer));
    const readout = document.createElement("output");
    readout.className = "readout";
    readout.setAttribute("aria-live", "polite");
    svg.after(readout);
    let x = null;
    const show = (target) => {
      const rounded = chart.integer_x ? Math.round(target) : target;
      x = Math.min(chart.x[1], Math.max(chart.x[0], rounded));
      const at = toX(x);
      guide.setAttribute("x1", at);
      guide.setAttribute("x2", at);
      const values = chart.lines.map((line) => interpolate(line.points, x));
      values.forEach((y, i) => {
        dots[i].setAttribute("visibility", y === null ? "hidden" : "inherit");
        if (y !== null) { dots[i].setAttribute("cx", at); dots[i].setAttribute("cy", toY(y)); }
      });
      layer.setAttribute("visibility", "visible");
      const texts = chart.lines.flatMap((line, i) => (values[i] === null ? [] : [`${line.name} ${values[i].toFixed(3)}`]));
      readout.textContent = `${chart.label} ${chart.integer_x ? x : x.toFixed(2)}: ${texts.join(", ") || "no value"}`;
    };
    const hide = () => { layer.setAttribute("visibility", "hidden"); readout.textContent = ""; x = null; };
    svg.tabIndex = 0;
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const position = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      show(chart.x[0] + (position - left) / (right - left) * (chart.x[1] - chart.x[0]));
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      show(x === null ? chart.x[step > 0 ? 0 : 1] : x + step * (chart.integer_x ? 1 : (chart.x[1] - chart.x[0]) / 50));
    });
  });
})();
