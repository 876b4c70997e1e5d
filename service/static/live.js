// A camera's or a file's frames go to /v1/stream one at a time: while one is analysed, those that
// come in between are dropped and counted. What comes back is drawn, and kept for saving.
import { Curves } from "./curves.js";

const byId = (id) => document.getElementById(id);
const video = byId("video");
const view = byId("view");
const still = document.createElement("canvas"); // the frame that is being analysed
const LONGER_SIDE = 640;
const settings = await (await fetch("/live/settings")).json();
const curves = new Curves(byId("curves"), settings.colours);
const glyphs = Object.fromEntries(
  Object.keys(settings.colours).map((name) => {
    const glyph = new Image();
    glyph.src = `/live/emoji/${name}.png`;
    return [name, glyph];
  }),
);

let socket = null; // while it runs
let sent = null; // when the frame that is being analysed was taken
let rows = [];
let recent = []; // [time of the answer, latency], of the last seconds
let counts = { answered: 0, dropped: 0 };
let presented = 0; // frames that the video has shown, by its own count
let before = -Infinity; // time of the last frame that was sent
let began = 0;

const say = (text, problem = false) => {
  byId("status").textContent = text;
  byId("status").className = problem ? "problem" : "";
};

async function openSource() {
  if (settings.source && !settings.source.startsWith("camera:")) {
    video.src = "/live/source";
  } else {
    const media = navigator.mediaDevices;
    if (!media) throw new Error("the browser gives no camera to this address; use http://localhost");
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 } };
    const number = Number(settings.source.split(":")[1] || 0);
    if (number) {
      const cameras = (await media.enumerateDevices()).filter((one) => one.kind === "videoinput");
      if (!cameras[number]) throw new Error(`there is no camera ${number}`);
      wanted.deviceId = { exact: cameras[number].deviceId };
    }
    video.srcObject = await media.getUserMedia({ video: wanted });
  }
  await video.play().catch((error) => {
    throw new Error(video.error ? "the browser cannot play this file" : error.message);
  });
  const scale = Math.min(1, LONGER_SIDE / Math.max(video.videoWidth, video.videoHeight));
  view.width = still.width = Math.round(video.videoWidth * scale);
  view.height = still.height = Math.round(video.videoHeight * scale);
}

function connect() {
  return new Promise((resolve, reject) => {
    const opened = new WebSocket(`${location.origin.replace("http", "ws")}/v1/stream`);
    opened.binaryType = "arraybuffer";
    opened.onopen = () => {
      const greeting = { ...settings.options, follow: true, source: settings.source || "camera:0" };
      opened.send(JSON.stringify({ ...greeting, token: byId("token").value }));
      resolve(opened);
    };
    opened.onerror = () => reject(new Error("the service does not answer"));
    opened.onmessage = (message) => take(message.data);
    opened.onclose = () => socket === opened && stop();
  });
}

function onFrame(now, metadata) {
  if (!socket) return;
  video.requestVideoFrameCallback(onFrame);
  const time = video.srcObject ? (now - began) / 1000 : metadata.mediaTime;
  if (presented) counts.dropped += metadata.presentedFrames - presented - 1; // never shown to us
  presented = metadata.presentedFrames;
  if (time < before + settings.every) return; // not asked for
  if (sent !== null) counts.dropped += 1;
  else send(time);
}

function send(time) {
  sent = performance.now();
  before = time;
  still.getContext("2d").drawImage(video, 0, 0, still.width, still.height);
  still.toBlob(async (blob) => {
    const message = new Uint8Array(8 + blob.size);
    new DataView(message.buffer).setFloat64(0, time);
    message.set(new Uint8Array(await blob.arrayBuffer()), 8);
    if (socket && socket.readyState === 1) socket.send(message);
  }, "image/jpeg", 0.85);
}

function take(data) {
  const answer = JSON.parse(typeof data === "string" ? data : new TextDecoder().decode(data));
  if (answer.detail) {
    say(answer.detail, true);
  } else {
    draw(answer);
    rows.push(...answer.faces);
    curves.add(answer);
    counts.answered += 1;
    const latency = performance.now() - sent;
    recent.push([performance.now(), latency]);
    dispatchEvent(new CustomEvent("answered", { detail: { ...answer, latency } }));
    byId("csv").disabled = !rows.length;
    byId("chart").disabled = false;
  }
  sent = null;
  showFigures();
}

function draw(answer) {
  const pen = view.getContext("2d");
  pen.drawImage(still, 0, 0);
  pen.lineWidth = 3;
  pen.font = "bold 15px sans-serif";
  for (const face of answer.faces) {
    const [width, height] = [face.x2 - face.x1, face.y2 - face.y1];
    const colour = settings.colours[face.mood];
    const number = face.track === null ? "" : `${face.track}: `;
    const text = number + (face.smoothed_labels.replaceAll(";", ", ") || `${face.mood}?`);
    if (byId("emoji").checked) {
      const side = 1.15 * Math.max(width, height);
      pen.drawImage(glyphs[face.mood], face.x1 + (width - side) / 2, face.y1 + (height - side) / 2, side, side);
    }
    pen.strokeStyle = colour;
    pen.strokeRect(face.x1, face.y1, width, height);
    const top = face.y1 >= 22 ? face.y1 - 22 : face.y2;
    pen.fillStyle = "#000c";
    pen.fillRect(face.x1, top, pen.measureText(text).width + 8, 22);
    pen.fillStyle = "#fff";
    pen.fillText(text, face.x1 + 4, top + 16);
  }
}

function showFigures() {
  const now = performance.now();
  recent = recent.filter(([at]) => at > now - 5000);
  const sorted = recent.map(([, latency]) => latency).sort((a, b) => a - b);
  const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  if (recent.length > 1) {
    const span = recent.at(-1)[0] - recent[0][0];
    byId("rate").textContent = ((1000 * (recent.length - 1)) / span).toFixed(1);
    byId("latency").textContent = `${at(0.5)} ms (95 %: ${at(0.95)} ms)`;
  }
  byId("answered").textContent = counts.answered;
  byId("dropped").textContent = counts.dropped;
}

async function start() {
  byId("start").disabled = true;
  try {
    say("Loading the models …");
    while ((await fetch("/v1/health")).status === 503) await new Promise((go) => setTimeout(go, 200));
    await openSource();
    [rows, recent, counts, presented, sent, before] = [[], [], { answered: 0, dropped: 0 }, 0, null, -Infinity];
    curves.clear();
    began = performance.now();
    socket = await connect();
    video.requestVideoFrameCallback(onFrame);
    byId("start").textContent = "Stop";
    byId("pause").disabled = false;
    say("Running.");
  } catch (error) {
    stop();
    say(`Cannot start: ${error.message}`, true);
  }
  byId("start").disabled = false;
}

function stop() {
  const open = socket;
  socket = null;
  if (open) open.close();
  video.pause();
  if (video.srcObject) video.srcObject.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  byId("start").textContent = "Start";
  byId("pause").disabled = true;
  setPaused(false);
  if (byId("status").className !== "problem") say("Stopped.");
}

function setPaused(paused) {
  byId("pause").textContent = paused ? "Go on" : "Pause";
  byId("pause").setAttribute("aria-pressed", String(paused));
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const cell = (value) => {
  if (value === null) return "";
  const text = String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

byId("start").addEventListener("click", () => (socket ? stop() : start()));
byId("pause").addEventListener("click", () => {
  const pause = !video.paused;
  if (pause) video.pause();
  else video.play();
  setPaused(pause);
  say(pause ? "Paused." : "Running.");
});
video.addEventListener("ended", function finish() {
  if (socket && sent !== null) setTimeout(finish, 100); // the last answer is on its way
  else stop();
});
byId("csv").addEventListener("click", () => {
  const lines = rows.map((row) => settings.columns.map((name) => cell(row[name])).join(","));
  save(new Blob([[settings.columns.join(","), ...lines, ""].join("\n")], { type: "text/csv" }), "faces.csv");
});
byId("chart").addEventListener("click", () => byId("curves").toBlob((blob) => save(blob, "moods.png")));

byId("emoji").checked = settings.overlay === "emoji";
byId("source").textContent = settings.source
  ? `Source: ${settings.source}`
  : "Frames of this device's camera are analysed as they come.";
for (const [name, colour] of Object.entries(settings.colours)) {
  const key = document.createElement("span");
  key.textContent = name;
  key.style.setProperty("--colour", colour);
  byId("legend").append(key);
}
