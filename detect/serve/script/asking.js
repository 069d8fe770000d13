/* What the page asks the server: with the token if there is one, again where it is busy, and in words where it fails. */
const LEAST = 0.05; // score from which on detections are asked for; the slider hides what is above it
const AT_ONCE = 2, TRIES = 6;
const KEY = "detect-token";
let working = 0;
const waiting = [];

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export const remember = (token) => sessionStorage.setItem(KEY, token);
export const forget = () => sessionStorage.removeItem(KEY);
export const knowsToken = () => sessionStorage.getItem(KEY) !== null;

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

const sentenceOf = async (response) => {
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
    throw new Refused(0, "the server can't be reached; see whether it still runs");
  }
  if (response.ok) return response;
  throw Object.assign(new Refused(response.status, await sentenceOf(response)), { after: Number(response.headers.get("Retry-After")) || 1 });
};

/* A few at once; others wait their turn here and not in the server's queue. */
const inTurn = async (work) => {
  if (working >= AT_ONCE) await new Promise((go) => waiting.push(go));
  working += 1;
  try {
    return await work();
  } finally {
    working -= 1;
    waiting.shift()?.();
  }
};

const send = (path, file) => inTurn(async () => {
  for (let tried = 1; ; tried += 1) {
    const body = new FormData();
    body.append("image", file, file.name);
    try {
      return await request(path, { method: "POST", body });
    } catch (error) {
      if (error.status !== 503 || tried === TRIES) throw error;
      await pause(error.after * tried);
    }
  }
});

export const model = async () => (await request("v1/model")).json();
export const detect = async (file) => (await send(`v1/detect?threshold=${LEAST}`, file)).json();
export const preview = async (file) => (await send("v1/preview", file)).blob();
