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

let camera = null;

async function startWebcam() {
  camera = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
  byId("video").srcObject = camera;
  byId("camera").hidden = false;
  await byId("video").play();
}

function stopWebcam() {
  camera.getTracks().forEach((track) => track.stop());
  camera = null;
  byId("camera").hidden = true;
}

async function toggleWebcam() {
  const button = byId("webcam");
  try {
    if (camera) stopWebcam();
    else await startWebcam();
  } catch (error) {
    say(`No webcam: ${error.message}`, true);
  }
  button.textContent = camera ? "Stop webcam" : "Start webcam";
  button.setAttribute("aria-pressed", String(Boolean(camera)));
}

function takePhoto() {
  const video = byId("video");
  const photo = document.createElement("canvas");
  photo.width = video.videoWidth;
  photo.height = video.videoHeight;
  photo.getContext("2d").drawImage(video, 0, 0);
  photo.toBlob((blob) => analyseFiles([new File([blob], "webcam.jpg")]), "image/jpeg", 0.95);
}

byId("photo").addEventListener("click", takePhoto);
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
