/* What the detections of an image come to at a score threshold: as matched within a class, and as confused between them. */
const counting = (() => {
  const ABSENT = -1, IGNORED = -2;
  const area = (b) => Math.max(0, b[2] - b[0]) * Math.max(0, b[3] - b[1]);
  const shared = (a, b) =>
    Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const iou = (a, b) => {
    const both = shared(a, b), all = area(a) + area(b) - both;
    return all > 0 ? both / all : 0;
  };

  /* An image's detections come best score first, so those of a threshold are the first ones. */
  const kept = (image, threshold) => image.found.filter((d) => d.score >= threshold);

  /* Right, missed and false: each {kind, category, found, label}, positions in image.found and image.labels. */
  const outcomes = (image, threshold) => {
    const taken = new Set(), told = [];
    kept(image, threshold).forEach((d, i) => {
      if (d.label >= 0) {
        taken.add(d.label);
        told.push({ kind: "right", category: d.category, found: i, label: d.label });
      } else if (d.label === ABSENT) {
        told.push({ kind: "false", error: d.error, category: d.category, found: i, label: null });
      }
    });
    image.labels.forEach((g, j) => {
      if (!g.crowd && !taken.has(j)) told.push({ kind: "missed", category: g.category, found: null, label: j });
    });
    return told;
  };

  /* (true, detected) pairs over all classes at once, null for the background, as the confusion matrix counts them. */
  const confused = (image, threshold, least) => {
    const free = image.labels.map((g) => !g.crowd), pairs = [];
    kept(image, threshold).forEach((d, i) => {
      let best = -1, most = least;
      image.labels.forEach((g, j) => {
        if (!free[j]) return;
        const overlap = iou(d.box, g.box);
        const own = g.category === d.category && best >= 0 && image.labels[best].category !== d.category;
        if (overlap > most || (overlap === most && (best < 0 || own))) { best = j; most = overlap; }
      });
      if (best >= 0) {
        free[best] = false;
        pairs.push({ from: image.labels[best].category, to: d.category, found: i, label: best });
      } else if (!image.labels.some((g) => g.crowd && shared(d.box, g.box) > 0 && shared(d.box, g.box) >= least * area(d.box))) {
        pairs.push({ from: null, to: d.category, found: i, label: null });
      }
    });
    free.forEach((left, j) => {
      if (left) pairs.push({ from: image.labels[j].category, to: null, found: null, label: j });
    });
    return pairs;
  };

  /* The label that a box covers best, whatever its class. */
  const nearest = (image, box) => {
    let best = null, most = 0;
    image.labels.forEach((g) => {
      const overlap = g.crowd ? 0 : iou(box, g.box);
      if (overlap > most) { best = g; most = overlap; }
    });
    return { label: best, iou: most };
  };

  /* The packed form of the page -> images with named fields. */
  const unpack = (packed) => packed.images.map(([file, width, height, picture, labels, found]) => ({
    file, width, height, picture,
    labels: labels.map(([x1, y1, x2, y2, category, crowd]) => ({ box: [x1, y1, x2, y2], category, crowd: crowd === 1 })),
    found: found.map(([x1, y1, x2, y2, category, score, label, error]) =>
      ({ box: [x1, y1, x2, y2], category, score, label, error: error === null || error === undefined ? null : packed.errors[error] })),
  }));

  return { ABSENT, IGNORED, iou, kept, outcomes, confused, nearest, unpack };
})();
if (typeof module !== "undefined") module.exports = counting;
