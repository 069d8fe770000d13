/* Boxes over a picture: as elements that can be pointed at, and painted into a PNG. */
const SVG = "http://www.w3.org/2000/svg";
const WORTHWHILE = 720; // a smaller picture is enlarged to at least this many pixels when it is kept

export const element = (tag, className = "", text = undefined) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

/* Black or white, whichever can be read on a colour. */
export const ink = (colour) => {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};

export const words = (found) => `${found.label} ${found.score.toFixed(2)}`;

/* Left and top of a label of so many pixels: above its box, else below, else inside, where it hides others least. */
const spot = ([x1, y1, x2, y2], wide, tall, width, height, taken) => {
  const left = Math.max(0, Math.min(x1, width - wide)), right = Math.max(0, Math.min(x2 - wide, width - wide));
  const tops = [y1 - tall, y2, y1, y2 - tall].filter((y) => y >= 0 && y + tall <= height);
  const spots = (tops.length ? tops : [0]).flatMap((y) => [[left, y], [right, y]]);
  const shared = ([x, y]) => taken.reduce((sum, other) => sum + Math.max(0, Math.min(x + wide, other[2]) - Math.max(x, other[0])) *
    Math.max(0, Math.min(y + tall, other[3]) - Math.max(y, other[1])), 0);
  const best = spots.reduce((a, b) => (shared(b) < shared(a) ? b : a));
  taken.push([best[0], best[1], best[0] + wide, best[1] + tall]);
  return best;
};

const drawn = (tag, attributes, parent) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return parent.appendChild(made);
};

/* A frame with the picture, and boxes with their number in data-at; labels come with place(), when its size is known. */
export const frame = (picture, size, name) => {
  const made = element("div", "picture");
  made.style.setProperty("--shape", size.width / size.height);
  picture.alt = "";
  made.append(picture);
  drawn("svg", { viewBox: `0 0 ${size.width} ${size.height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name} with its boxes` }, made);
  return made;
};

export const place = (made, size, shown, colours) => {
  const svg = made.querySelector("svg");
  svg.replaceChildren();
  made.querySelectorAll(".tag").forEach((tag) => tag.remove());
  const scale = made.clientWidth / size.width, taken = [];
  const tags = shown.map((found) => {
    const tag = element("span", "tag", words(found));
    tag.style.background = colours[found.label];
    tag.style.color = ink(colours[found.label]);
    return tag;
  });
  made.append(...tags);
  [...shown.entries()].reverse().forEach(([at, found]) => {
    const [x, y, x2, y2] = found.box_xyxy;
    const group = drawn("g", { class: "box", "data-at": at }, svg);
    const rect = { x, y, width: Math.max(0, x2 - x), height: Math.max(0, y2 - y) };
    drawn("rect", { class: "halo", ...rect }, group);
    drawn("rect", { stroke: colours[found.label], ...rect }, group);
  });
  tags.forEach((tag, at) => {
    const box = shown[at].box_xyxy.map((value) => value * scale);
    const [left, top] = spot(box, tag.offsetWidth, tag.offsetHeight, made.clientWidth, made.clientHeight, taken);
    tag.dataset.at = at;
    tag.style.left = `${left}px`;
    tag.style.top = `${top}px`;
  });
};

/* The same as a PNG, in the pixels of the image, or a whole multiple of a small one's. */
export const png = (picture, size, shown, colours) => new Promise((done) => {
  const scale = Math.max(1, Math.ceil(WORTHWHILE / Math.max(size.width, size.height)));
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [size.width * scale, size.height * scale];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const font = Math.min(40, Math.max(14, Math.round(Math.sqrt(canvas.width * canvas.height) / 50)));
  const taken = [];
  context.font = `600 ${font}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const boxes = shown.map((found) => found.box_xyxy.map((value) => value * scale));
  [...shown.entries()].reverse().forEach(([at, found]) => {
    const [x1, y1, x2, y2] = boxes[at];
    for (const [colour, wide] of [["rgb(0 0 0 / .6)", font / 3.5], [colours[found.label], font / 7]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  });
  shown.forEach((found, at) => {
    const wide = context.measureText(words(found)).width + 0.6 * font, tall = 1.3 * font;
    const [left, top] = spot(boxes[at], wide, tall, canvas.width, canvas.height, taken);
    context.fillStyle = colours[found.label];
    context.fillRect(left, top, wide, tall);
    context.fillStyle = ink(colours[found.label]);
    context.fillText(words(found), left + 0.3 * font, top + tall / 2);
  });
  canvas.toBlob(done, "image/png");
});
