"use strict";
const EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"];
const byId = (id) => document.getElementById(id);

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function say(text, problem = false) {
  byId("status").textContent = text;
  byId("status").className = problem ? "problem" : "";
}

function headers() {
  const token = byId("token").value;
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function call(path, options) {
  const answer = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
  byId("privacy").textContent = `This service: ${answer.headers.get("X-Twostage-Privacy")}.`;
  if (answer.status === 204) return {};
  const content = await answer.json().catch(() => ({ detail: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(content.detail);
  return content;
}

async function analyse(body) {
  say("Analysing …");
  try {
    const { results } = await call("/v1/predict", { method: "POST", body });
    results.forEach((result) => byId("results").prepend(card(result)));
    const faces = results.reduce((sum, one) => sum + (one.faces ? one.faces.length : 0), 0);
    say(`${faces} ${faces === 1 ? "face" : "faces"} found.`);
  } catch (error) {
    say(error.message, true);
  }
}

function form() {
  const body = new FormData();
  body.append("annotate_image", "true");
  body.append("crop_image", "true");
  return body;
}

function analyseFiles(files) {
  if (!files.length) return;
  const body = form();
  for (const file of files) body.append("image_buf", file);
  analyse(body);
}

function card(result) {
  const made = element("article");
  made.append(element("h2", result.source));
  if (result.error) {
    made.append(element("p", result.error, { class: "problem" }));
    return made;
  }
  const picture = element("img");
  picture.src = `data:image/png;base64,${result.annotated}`;
  picture.alt = `${result.source} with ${result.faces.length} faces marked`;
  const list = element("ul", "", { class: "faces" });
  result.faces.forEach((face) => list.append(faceCard(result.image_id, face)));
  const remove = element("button", "Delete from the service", { type: "button" });
  remove.addEventListener("click", async () => {
    try {
      await call(`/v1/images/${result.image_id}`, { method: "DELETE" });
      made.remove();
      say("Deleted.");
    } catch (error) {
      say(error.message, true);
    }
  });
  made.append(picture, list, remove);
  return made;
}

function faceCard(imageId, face) {
  const made = element("li");
  const crop = element("img", "", { alt: "" });
  crop.src = `data:image/png;base64,${face.crop}`;
  const [top] = Object.entries(face.emotions).sort((a, b) => b[1] - a[1]);
  const labels = face.labels.length ? face.labels : [top[0]];
  const words = labels.map((one) => `${one} ${Math.round(face.emotions[one] * 100)} %`).join(", ");
  const shown = face.unsure ? `unsure (${words})` : words;
  const choice = element("select", "", { "aria-label": `What face ${face.face_index} really shows` });
  choice.append(element("option", "What does it show?", { value: "" }));
  for (const one of [...EMOTIONS, "not a face"]) choice.append(element("option", one, { value: one }));
  const said = element("p", "", { class: "said", role: "status" });
  choice.addEventListener("change", async () => {
    if (!choice.value) return;
    const body = { image_id: imageId, face_index: face.face_index, feedback: choice.value };
    try {
      await call("/v1/feedback", {
        method: "POST",
        body: JSON.stringify(body),
        headers: { "Content-Type": "application/json" },
      });
      said.textContent = `Thank you: ${choice.value}.`;
    } catch (error) {
      said.textContent = error.message;
    }
  });
  made.append(crop, element("h3", `Face ${face.face_index}`), element("p", shown), choice, said);
  return made;
}

let stopWebcam = null;

async function startWebcam() {
  const video = byId("video");
  const camera = await navigator.mediaDevices.getUserMedia({ video: { width: 640 } });
  video.srcObject = camera;
  await video.play();
  const canvas = byId("view");
  const frame = document.createElement("canvas");
  canvas.width = frame.width = video.videoWidth;
  canvas.height = frame.height = video.videoHeight;
  byId("live").hidden = false;
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/v1/stream`);
  socket.binaryType = "arraybuffer";
  const send = () => {
    frame.getContext("2d").drawImage(video, 0, 0);
    frame.toBlob((blob) => socket.readyState === 1 && socket.send(blob), "image/jpeg", 0.8);
  };
  socket.onopen = () => {
    socket.send(JSON.stringify({ token: byId("token").value }));
    send();
  };
  socket.onmessage = (message) => {
    const text = typeof message.data === "string" ? message.data : new TextDecoder().decode(message.data);
    const result = JSON.parse(text);
    if (result.detail) say(result.detail, true);
    else drawFaces(canvas, frame, result);
    if (stopWebcam) requestAnimationFrame(send);
  };
  stopWebcam = () => {
    stopWebcam = null;
    socket.close();
    camera.getTracks().forEach((track) => track.stop());
    byId("live").hidden = true;
  };
  socket.onclose = () => stopWebcam && toggleWebcam();
}

function drawFaces(canvas, frame, result) {
  const pen = canvas.getContext("2d");
  pen.drawImage(frame, 0, 0);
  pen.lineWidth = 3;
  pen.font = "16px sans-serif";
  for (const face of result.faces) {
    const [x1, y1, x2, y2] = face.box;
    const text = face.unsure ? "unsure" : face.labels.join(", ");
    pen.strokeStyle = "#00a3ff";
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.fillStyle = "#000c";
    pen.fillRect(x1, y1 - 22, pen.measureText(text).width + 8, 22);
    pen.fillStyle = "#fff";
    pen.fillText(text, x1 + 4, y1 - 6);
  }
  say(`${result.faces.length} faces, ${Math.round(result.seconds * 1000)} ms`);
}

async function toggleWebcam() {
  const button = byId("webcam");
  try {
    if (stopWebcam) stopWebcam();
    else await startWebcam();
  } catch (error) {
    say(`No webcam: ${error.message}`, true);
  }
  button.textContent = stopWebcam ? "Stop webcam" : "Start webcam";
  button.setAttribute("aria-pressed", String(Boolean(stopWebcam)));
}

byId("files").addEventListener("change", (event) => analyseFiles(event.target.files));
byId("webcam").addEventListener("click", toggleWebcam);
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!byId("url").value) return;
  const body = form();
  body.append("image_url", byId("url").value);
  analyse(body);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  byId("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") analyseFiles(event.dataTransfer.files);
  });
}
fetch("/v1/health/live").then((answer) => {
  byId("privacy").textContent = `This service: ${answer.headers.get("X-Twostage-Privacy")}.`;
});
