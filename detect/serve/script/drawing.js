/* Draw boxes on an image: as interactive SVG elements, and into a PNG file. */
const SVG = "http://www.w3.org/2000/svg";
const MIN_SIDE = 720; // pixels; an image with a shorter longer side is enlarged in the saved PNG

export const element = (tag, className = "", text = undefined) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

/* Black or white, whichever has the higher contrast to a background colour. */
export const ink = (colour) => {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};

export const labelText = (detection) => `${detection.label} ${detection.score.toFixed(2)}`;

/* [left, top] of a tag: above its box, below or inside, where it overlaps other tags least; all in pixels. */
const spot = ([x1, y1, x2, y2], tagWidth, tagHeight, width, height, taken) => {
  const left = Math.max(0, Math.min(x1, width - tagWidth)), right = Math.max(0, Math.min(x2 - tagWidth, width - tagWidth));
  const tops = [y1 - tagHeight, y2, y1, y2 - tagHeight].filter((y) => y >= 0 && y + tagHeight <= height);
  const spots = (tops.length ? tops : [0]).flatMap((y) => [[left, y], [right, y]]);
  const overlap = ([x, y]) => taken.reduce((sum, other) => sum + Math.max(0, Math.min(x + tagWidth, other[2]) - Math.max(x, other[0])) *
    Math.max(0, Math.min(y + tagHeight, other[3]) - Math.max(y, other[1])), 0);
  const best = spots.reduce((a, b) => (overlap(b) < overlap(a) ? b : a));
  taken.push([best[0], best[1], best[0] + tagWidth, best[1] + tagHeight]);
  return best;
};

const drawn = (tag, attributes, parent) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return parent.appendChild(made);
};

/* An element with the image and an empty SVG; place() adds the boxes, with their position in data-at, and their tags. */
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
  const tags = shown.map((detection) => {
    const tag = element("span", "tag", labelText(detection));
    tag.style.background = colours[detection.label];
    tag.style.color = ink(colours[detection.label]);
    return tag;
  });
  made.append(...tags);
  [...shown.entries()].reverse().forEach(([at, detection]) => {
    const [x, y, x2, y2] = detection.box_xyxy;
    const group = drawn("g", { class: "box", "data-at": at }, svg);
    const rect = { x, y, width: Math.max(0, x2 - x), height: Math.max(0, y2 - y) };
    drawn("rect", { class: "halo", ...rect }, group);
    drawn("rect", { stroke: colours[detection.label], ...rect }, group);
  });
  tags.forEach((tag, at) => {
    const box = shown[at].box_xyxy.map((value) => value * scale);
    const [left, top] = spot(box, tag.offsetWidth, tag.offsetHeight, made.clientWidth, made.clientHeight, taken);
    tag.dataset.at = at;
    tag.style.left = `${left}px`;
    tag.style.top = `${top}px`;
  });
};

/* The image with its boxes as a PNG of the same size, or of an integer multiple for a small image. */
export const png = (picture, size, shown, colours) => new Promise((done) => {
  const scale = Math.max(1, Math.ceil(MIN_SIDE / Math.max(size.width, size.height)));
  const canvas = element("canvas");
  [canvas.width, canvas.height] = [size.width * scale, size.height * scale];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const font = Math.min(40, Math.max(14, Math.round(Math.sqrt(canvas.width * canvas.height) / 50)));
  const taken = [];
  context.font = `600 ${font}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const boxes = shown.map((detection) => detection.box_xyxy.map((value) => value * scale));
  [...shown.entries()].reverse().forEach(([at, detection]) => {
    const [x1, y1, x2, y2] = boxes[at];
    for (const [colour, lineWidth] of [["rgb(0 0 0 / .6)", font / 3.5], [colours[detection.label], font / 7]]) {
      context.strokeStyle = colour;
      context.lineWidth = lineWidth;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  });
  shown.forEach((detection, at) => {
    const text = labelText(detection), colour = colours[detection.label];
    const tagWidth = context.measureText(text).width + 0.6 * font, tagHeight = 1.3 * font;
    const [left, top] = spot(boxes[at], tagWidth, tagHeight, canvas.width, canvas.height, taken);
    context.fillStyle = colour;
    context.fillRect(left, top, tagWidth, tagHeight);
    context.fillStyle = ink(colour);
    context.fillText(text, left + 0.3 * font, top + tagHeight / 2);
  });
  canvas.toBlob(done, "image/png");
});
