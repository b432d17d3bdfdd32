// The page takes pictures, sends them to /v1/scan a few at a time, and shows a card for each. It holds the
// records in memory, and sends them back when somebody wants a card or a file: the server keeps nothing.
// Markup comes only from the server's templates. All other text is set as text.

import { intake } from "./intake.js";
import { Failure, ask, identify, pause, request } from "./server.js";

const AT_ONCE = 4; // requests; the server fills its batches with the pictures of several
const PATIENCE = 30; // how often a picture is sent again while the server is busy
const THUMBNAIL = 160; // longer side in pixels, as in the report
const VERDICTS = { ai: "AI", uncertain: "uncertain", real: "real", error: "not scored" };

const at = (id) => document.getElementById(id);
const options = at("options");
const login = at("login");
const { title } = document;
const maxBytes = Number(document.body.dataset.maxBytes);
const items = new Map(); // by number, in the order in which they were added
let last = 0;
let running = 0;
let header = null; // of the first report: all others say the same, but for the time

const wanted = () => Object.fromEntries(new FormData(options));

async function scan(item, signal) {
  await item.drawn;
  const more = { ...wanted(), ...(item.url ? {} : { thumbnails: "true" }) };
  for (let again = 0; ; again++) {
    try {
      const reply = await ask("/v1/scan", request(item, more), signal);
      const { records, thumbnails, counts, interrupted, ...head } = await reply.json();
      signal.throwIfAborted();
      header ??= head;
      if (thumbnails?.[0]) keep(item, blob(thumbnails[0], "image/jpeg"));
      return records[0];
    } catch (error) {
      if (error.status !== 503 && error.status !== 429) throw error;
      if (again >= PATIENCE) throw error;
      item.card.querySelector(".state").textContent = "The server is busy. Waiting …";
      await pause(Math.min(error.wait, 30), signal);
    }
  }
}

// --- pictures and their cards -------------------------------------------------------------------------

function add(sources) {
  for (const { file, name } of sources) {
    const item = { number: ++last, file, name, state: "waiting", record: null, thumbnail: null };
    item.card = pending(item);
    items.set(item.number, item);
    at("cards").append(item.card);
    if (file) item.drawn = draw(item);
    if (file?.size > maxBytes) {
      const size = `${(maxBytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: 1 })} MiB`;
      fail(item, new Failure(`This file is larger than ${size}, the most that this server takes.`, "too_large"));
    } else {
      wait(item);
    }
  }
  work();
}

function wait(item) {
  item.abort?.abort();
  item.abort = null;
  item.state = "waiting";
  item.record = null;
  note(item, "Waiting …");
}

/** Send waiting pictures, a few at a time. */
function work() {
  for (const item of items.values()) {
    if (running >= AT_ONCE || !login.hidden) break;
    if (item.state !== "waiting") continue;
    running++;
    score(item).finally(() => (running--, work()));
  }
  show();
}

async function score(item) {
  const { signal } = (item.abort = new AbortController());
  item.state = "sent";
  note(item, "Being scored …");
  try {
    const record = await scan(item, signal);
    const html = await (await ask("/page/card", { record, number: item.number, views: header.model.views }, signal)).text();
    if (signal.aborted) return;
    item.record = record;
    item.state = "done";
    replace(item, parsed(html));
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401) {
      wait(item);
      enter();
    } else fail(item, error);
  }
}

/** A picture that the server did not take: its card says why. */
function fail(item, error) {
  item.state = "failed";
  const pixels = { sha256: null, width: null, height: null, format: null, frame: null, frames: null };
  item.record = {
    input: item.name,
    input_base64: null,
    status: "error",
    error: { type: error.type ?? "page", message: error.message },
    file: { sha256: null, bytes: item.file?.size ?? null },
    pixels,
    logit: null,
    type: { ai_generated: null },
    verdict: null,
    thresholds: null,
    views: [],
    warnings: [],
    milliseconds: 0,
  };
  note(item, error.message);
}

/** The card of a picture that has no score yet. */
function pending({ number, name }) {
  const card = at("pending").content.firstElementChild.cloneNode(true);
  card.id = `n${number}`;
  card.querySelector(".no").textContent = number;
  card.querySelector(".name").textContent = visible(name);
  for (const button of card.querySelectorAll("button")) button.append(unseen(` ${visible(name)}`));
  return card;
}

/** Show a picture that has no score with a line of text. */
function note(item, text) {
  if (!item.card.classList.contains("pending")) replace(item, pending(item));
  const { card } = item;
  const failed = item.state === "failed";
  card.querySelector(".state").textContent = text;
  card.querySelector("[data-do=again]").hidden = !failed || item.record.error.type === "too_large";
  card.querySelector(".result").hidden = !failed;
  card.classList.toggle("error", failed);
  card.classList.toggle("busy", item.state === "sent");
}

function replace(item, card) {
  const focused = item.card.contains(document.activeElement) && document.activeElement.dataset.do;
  item.card.replaceWith(card);
  item.card = card;
  frame(item);
  if (focused) (card.querySelector(`[data-do=${focused}]`) ?? card.querySelector("button")).focus();
}

/** Markup from the server's own templates, which escape everything. The policy lets no script in it run. */
const parsed = (html) => new DOMParser().parseFromString(html, "text/html").body.firstElementChild;

function unseen(text) {
  const span = document.createElement("span");
  span.className = "unseen";
  span.textContent = text;
  return span;
}

/** Text with its invisible characters, and those that change the direction of text, as escapes. */
const visible = (text) =>
  text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => `\\u{${one.codePointAt().toString(16)}}`);

// Browsers decode one picture at a time, so that many large ones do not fill the memory.
let drawing = Promise.resolve();
function draw(item) {
  return (drawing = drawing.then(async () => {
    if (!items.has(item.number)) return;
    try {
      const bitmap = await createImageBitmap(item.file);
      const scale = Math.min(1, THUMBNAIL / Math.max(bitmap.width, bitmap.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(scale * bitmap.width));
      canvas.height = Math.max(1, Math.round(scale * bitmap.height));
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.fillStyle = "white"; // JPEG has no alpha
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      bitmap.close();
      keep(item, await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.8)));
    } catch {
      // Not an image, or of a format that this browser does not know: the server may know it.
    }
  }));
}

function keep(item, thumbnail) {
  item.thumbnail = thumbnail;
  item.url = URL.createObjectURL(thumbnail);
  frame(item);
}

/** Put a picture's thumbnail into its card. */
function frame(item) {
  if (item.url) item.card.querySelector(".thumb").replaceChildren(picture(item.url, ""));
}

const blob = (base64, type) =>
  new Blob([Uint8Array.from(atob(base64), (one) => one.charCodeAt())], { type });

function picture(url, alt) {
  const image = new Image();
  image.src = url;
  image.alt = alt;
  return image;
}

function remove(item) {
  item.abort?.abort();
  for (const url of [item.url, item.map]) if (url) URL.revokeObjectURL(url);
  items.delete(item.number);
  item.card.remove();
}

// --- totals, progress, and what a screen reader is told -----------------------------------------------

function counted() {
  const counts = { images: 0, ai: 0, uncertain: 0, real: 0, error: 0 };
  for (const { record } of items.values()) {
    if (!record) continue;
    counts.images++;
    counts[record.verdict ?? "error"]++;
  }
  return counts;
}

function show() {
  const counts = counted();
  const busy = [...items.values()].some(({ state }) => state === "waiting" || state === "sent");
  at("results").hidden = items.size === 0;
  document.body.classList.toggle("empty", items.size === 0);
  for (const verdict of Object.keys(VERDICTS))
    document.querySelector(`.totals .${verdict} b`).textContent = counts[verdict].toLocaleString("en");
  spread(counts);
  at("bar").max = Math.max(1, items.size);
  at("bar").value = counts.images;
  at("bar").hidden = !busy;
  at("state").textContent = busy ? `${counts.images} of ${items.size} done` : "";
  at("stop").hidden = !busy;
  at("save").hidden = !header || counts.images === 0;
  document.title = busy ? `${counts.images} of ${items.size} - ${title}` : title;
  tell(counts, busy);
}

function spread(counts) {
  const parts = [];
  let x = 0;
  for (const verdict of Object.keys(VERDICTS)) {
    const share = counts.images ? counts[verdict] / counts.images : 0;
    if (share) parts.push(bar(verdict, `${100 * x}%`, `${100 * share}%`));
    x += share;
    if (share && x < 0.9999) parts.push(bar("gap", `${100 * x}%`, "2"));
  }
  document.querySelector(".spread").replaceChildren(...parts);
}

function bar(name, x, width) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ class: name, x, width, height: "100%" }))
    rect.setAttribute(key, value);
  return rect;
}

let telling = 0;
let told = "";
function tell(counts, busy) {
  clearTimeout(telling);
  if (!items.size) return;
  telling = setTimeout(() => {
    const only = items.size === 1 ? [...items.values()][0] : null;
    const words = Object.entries(VERDICTS).filter(([verdict]) => counts[verdict]);
    let text = `${counts.images} of ${items.size} pictures done`;
    if (!busy) text += `: ${words.map(([verdict, word]) => `${counts[verdict]} ${word}`).join(", ")}`;
    if (only?.state === "done") text = `${visible(only.name)}: ${only.card.querySelector(".result").textContent}`;
    if (only?.state === "failed") text = `${visible(only.name)}: ${only.record.error.message}`;
    if (text !== told) at("said").textContent = told = text;
  }, 700);
}

function problem(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

// --- why ----------------------------------------------------------------------------------------------

async function why(item, button) {
  const panel = item.card.querySelector(".why");
  panel.hidden = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden || panel.childElementCount || panel.ariaBusy) return;
  const { views } = wanted();
  panel.textContent = "Scoring parts and altered copies of the picture …";
  at("said").textContent = told = panel.textContent;
  panel.ariaBusy = "true";
  try {
    const { record, heat_map } = await (await ask("/v1/explain", request(item, { views }))).json();
    const html = await (await ask("/page/why", { record, number: item.number })).text();
    panel.replaceChildren(parsed(html));
    item.map = URL.createObjectURL(blob(heat_map.split(",")[1], "image/png"));
    panel.querySelector(".map").append(picture(item.map, "Heat map, described below"));
    Object.assign(panel.querySelector("a"), { href: item.map, download: "heat-map.png" });
    at("said").textContent = told = "The explanation is below the button.";
  } catch (error) {
    panel.textContent = error.message;
    at("said").textContent = told = error.message;
    if (error.status === 401) enter();
  } finally {
    panel.ariaBusy = null;
  }
}

// --- files to keep ------------------------------------------------------------------------------------

function report() {
  const found = [...items.values()].filter(({ record }) => record);
  const { error, ...counts } = counted();
  return {
    found,
    data: {
      ...header,
      records: found.map(({ record }) => record),
      counts: { ...counts, errors: error },
      interrupted: found.length < items.size,
    },
  };
}

const base64 = (blob) =>
  new Promise((done) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.split(",")[1]);
    reader.readAsDataURL(blob);
  });

async function save(format) {
  const { found, data } = report();
  let file = null;
  problem("");
  if (format === "json") {
    file = new Blob([JSON.stringify(data, null, 2), "\n"], { type: "application/json" });
  } else {
    const body = { ...data };
    if (format === "html") {
      const files = found.map(({ thumbnail }) => thumbnail && base64(thumbnail));
      body.thumbnails = await Promise.all(files);
      if (JSON.stringify(body).length > maxBytes) {
        delete body.thumbnails;
        problem("The page has no thumbnails: with them it would be larger than this server takes.");
      }
    }
    try {
      file = await (await ask(`/v1/report?format=${format}`, body)).blob();
    } catch (error) {
      problem(error.message);
      if (error.status === 401) enter();
      return;
    }
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `aidetect-report.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// --- credentials --------------------------------------------------------------------------------------

function enter() {
  if (!login.hidden) return;
  if (identify(null)) at("login-note").textContent = "The server did not take these. Try again.";
  login.hidden = false;
  login.elements.user.focus();
}

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const { user, secret } = login.elements;
  identify(user.value, secret.value);
  secret.value = "";
  login.hidden = true;
  at("files").focus();
  work();
});

// --- buttons ------------------------------------------------------------------------------------------

at("cards").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  const item = button && items.get(Number(button.closest(".card").id.slice(1)));
  if (!item) return;
  if (button.dataset.do === "why") why(item, button);
  if (button.dataset.do === "again") {
    wait(item);
    work();
  }
  if (button.dataset.do === "remove") {
    const next = item.card.nextElementSibling ?? item.card.previousElementSibling;
    remove(item);
    (next?.querySelector("[data-do=remove]") ?? at("files")).focus();
    show();
  }
});

// A report states one set of options. So a change of them scores all pictures again.
options.addEventListener("change", () => {
  header = null;
  for (const item of items.values()) if (item.record?.error?.type !== "too_large") wait(item);
  work();
});
options.addEventListener("submit", (event) => event.preventDefault());

at("stop").addEventListener("click", () => {
  for (const item of items.values()) {
    if (item.state !== "waiting" && item.state !== "sent") continue;
    item.abort?.abort();
    fail(item, new Failure("Stopped before it was scored.", "stopped"));
  }
  show();
  at("images").focus();
});

at("clear").addEventListener("click", () => {
  for (const item of [...items.values()]) remove(item);
  header = null;
  problem("");
  at("said").textContent = told = "The list is empty.";
  show();
  at("files").focus();
});

for (const button of document.querySelectorAll("[data-save]"))
  button.addEventListener("click", () => save(button.dataset.save));

intake(add);
options.reset();
show();
