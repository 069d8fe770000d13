/* Outcomes of an image at a score threshold: matches within each class, and pairs of the confusion matrix. */
const counting = (() => {
  const UNMATCHED = -1; /* -2: matched to a crowd, ignored */
  const area = (b) => Math.max(0, b[2] - b[0]) * Math.max(0, b[3] - b[1]);
  const intersection = (a, b) =>
    Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const iou = (a, b) => {
    const overlap = intersection(a, b), union = area(a) + area(b) - overlap;
    return union > 0 ? overlap / union : 0;
  };

  /* Detections are sorted by decreasing score, so a threshold selects the first ones and positions stay valid. */
  const selected = (image, threshold) => image.detections.filter((d) => d.score >= threshold);

  /* {kind: "right", "missed" or "false", category, detection, label}: positions in image.detections and image.labels. */
  const outcomes = (image, threshold) => {
    const matched = new Set(), rows = [];
    selected(image, threshold).forEach((d, i) => {
      if (d.label >= 0) {
        matched.add(d.label);
        rows.push({ kind: "right", category: d.category, detection: i, label: d.label });
      } else if (d.label === UNMATCHED) {
        rows.push({ kind: "false", error: d.error, category: d.category, detection: i, label: null });
      }
    });
    image.labels.forEach((g, j) => {
      if (!g.crowd && !matched.has(j)) rows.push({ kind: "missed", category: g.category, detection: null, label: j });
    });
    return rows;
  };

  /* (label, detection) pairs matched over all classes together, null for the background, for the confusion matrix. */
  const confusionPairs = (image, threshold, minIou) => {
    const free = image.labels.map((g) => !g.crowd), pairs = [];
    selected(image, threshold).forEach((d, i) => {
      let best = -1, maxIou = minIou;
      image.labels.forEach((g, j) => {
        if (!free[j]) return;
        const overlap = iou(d.box, g.box);
        const sameClass = g.category === d.category && best >= 0 && image.labels[best].category !== d.category;
        if (overlap > maxIou || (overlap === maxIou && (best < 0 || sameClass))) { best = j; maxIou = overlap; }
      });
      const inCrowd = (g) => g.crowd && intersection(d.box, g.box) > 0 && intersection(d.box, g.box) >= minIou * area(d.box);
      if (best >= 0) {
        free[best] = false;
        pairs.push({ from: image.labels[best].category, to: d.category, detection: i, label: best });
      } else if (!image.labels.some(inCrowd)) {
        pairs.push({ from: null, to: d.category, detection: i, label: null });
      }
    });
    free.forEach((unmatched, j) => {
      if (unmatched) pairs.push({ from: image.labels[j].category, to: null, detection: null, label: j });
    });
    return pairs;
  };

  /* The label with the highest IoU with a box, of any class; null if none overlaps. */
  const nearest = (image, box) => {
    let best = null, maxIou = 0;
    image.labels.forEach((g) => {
      const overlap = g.crowd ? 0 : iou(box, g.box);
      if (overlap > maxIou) { best = g; maxIou = overlap; }
    });
    return { label: best, iou: maxIou };
  };

  /* The packed lists of the page as images with named fields. */
  const unpack = (packed) => packed.images.map(([file, width, height, picture, labels, detections]) => ({
    file, width, height, picture,
    labels: labels.map(([x1, y1, x2, y2, category, crowd]) => ({ box: [x1, y1, x2, y2], category, crowd: crowd === 1 })),
    detections: detections.map(([x1, y1, x2, y2, category, score, label, error]) =>
      ({ box: [x1, y1, x2, y2], category, score, label, error: error === undefined ? null : packed.errors[error] })),
  }));

  return { iou, outcomes, confusionPairs, nearest, unpack };
})();
if (typeof module !== "undefined") module.exports = counting;
