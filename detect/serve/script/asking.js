/* Requests to the server: with the token if there is one, with retries if it is busy, and with readable errors. */
const MIN_SCORE = 0.05; // score threshold of requests; the slider hides detections with lower scores than its value
const MAX_PARALLEL = 2, MAX_TRIES = 6;
const KEY = "detect-token";
let active = 0;
const waiting = [];

export class RequestError extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const remember = (token) => sessionStorage.setItem(KEY, token);
export const forget = () => sessionStorage.removeItem(KEY);
export const hasToken = () => sessionStorage.getItem(KEY) !== null;

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

const errorMessage = async (response) => {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answered with status ${response.status}`;
  }
};

const request = async (path, options = {}) => {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new RequestError(0, "the server can't be reached; check that it is running");
  }
  if (response.ok) return response;
  throw Object.assign(new RequestError(response.status, await errorMessage(response)), { after: Number(response.headers.get("Retry-After")) || 1 });
};

/* Run at most MAX_PARALLEL requests at the same time; the others wait in the browser, not in the queue of the server. */
const limited = async (work) => {
  if (active >= MAX_PARALLEL) await new Promise((start) => waiting.push(start));
  active += 1;
  try {
    return await work();
  } finally {
    active -= 1;
    waiting.shift()?.();
  }
};

const send = (path, file) => limited(async () => {
  for (let attempt = 1; ; attempt += 1) {
    const body = new FormData();
    body.append("image", file, file.name);
    try {
      return await request(path, { method: "POST", body });
    } catch (error) {
      if (error.status !== 503 || attempt === MAX_TRIES) throw error;
      await pause(error.after * attempt);
    }
  }
});

export const model = async () => (await request("v1/model")).json();
export const detect = async (file) => (await send(`v1/detect?threshold=${MIN_SCORE}`, file)).json();
export const preview = async (file) => (await send("v1/preview", file)).blob();
