/* Downloads: images, and JSON in the format of detect infer --json. */
import { element } from "./drawing.js";

export const stem = (name) => name.replace(/\.[^.]*$/, "");

export const keep = (blob, name) => {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

/* The visible detections as JSON; threshold is null if classes have different thresholds, given by thresholdOf(). */
export const asJson = (model, entries, threshold, thresholdOf, shown) => {
  const content = {
    schema: 1,
    weights: model.model,
    categories: model.categories,
    threshold,
    thresholds: Object.fromEntries(model.categories.map((name) => [name, thresholdOf(name)])),
    images: entries.filter((entry) => entry.answer).map((entry) => ({ file: entry.name, width: entry.answer.image.width, height: entry.answer.image.height, detections: shown(entry) })),
    failed: entries.filter((entry) => entry.error).map((entry) => ({ file: entry.name, reason: entry.error })),
  };
  return new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" });
};
