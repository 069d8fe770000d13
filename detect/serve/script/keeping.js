/* Files that a user keeps: pictures, and JSON in the form of detect infer --json. */
import { element } from "./drawing.js";

export const stem = (name) => name.replace(/\.[^.]*$/, "");

export const keep = (blob, name) => {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};

/* What is shown of the images: threshold is null where each class has its own, which lowest() tells. */
export const asJson = (model, entries, threshold, lowest, shown) => {
  const content = {
    schema: 1,
    weights: model.model,
    categories: model.categories,
    threshold,
    thresholds: Object.fromEntries(model.categories.map((name) => [name, lowest(name)])),
    images: entries.filter((entry) => entry.answer).map((entry) => ({ file: entry.name, width: entry.answer.image.width, height: entry.answer.image.height, detections: shown(entry) })),
    failed: entries.filter((entry) => entry.error).map((entry) => ({ file: entry.name, reason: entry.error })),
  };
  return new Blob([`${JSON.stringify(content, null, 2)}\n`], { type: "application/json" });
};
