// The cards of a photo's faces: linked to the boxes over the photo, and open to corrections.

export default function ({ data, parentElement, setTriggerValue }) {
  const place = parentElement.querySelector("div");
  const photo = parentElement.closest("[class*=st-key-photo-]");

  if (place.shown !== data.html) {
    const open = [...place.querySelectorAll("details[open]")].map((one) => face(one));
    place.innerHTML = place.shown = data.html;
    for (const one of place.querySelectorAll("details")) one.open = open.includes(face(one));
  }
  place.onchange = ({ target }) => setTriggerValue("correction", `${face(target)} ${target.value}`);

  if (photo) {
    photo.onpointerover = photo.onfocusin = ({ target }) => light(photo, face(target));
    photo.onpointerleave = () => light(photo, undefined);
    photo.onclick = ({ target }) => {
      if (target.closest(".box"))
        place.querySelector(`[data-face="${face(target)}"]`)?.scrollIntoView({ block: "nearest" });
    };
  }

  // new photos: a phone scrolls to the answer
  if (data.round > (window.shownRound ?? 0)) {
    window.shownRound = data.round;
    if (innerWidth < 640) document.querySelector(".summary")?.scrollIntoView();
  }
}

function face(element) {
  return element.closest("[data-face]")?.dataset.face;
}

function light(photo, number) {
  for (const one of photo.querySelectorAll("[data-face]"))
    one.classList.toggle("lit", one.dataset.face === number);
}
