// A slider that tells of each step at once: Streamlit's own waits for a fifth of a second first.
const PAUSE = 60; // milliseconds between two messages while it is dragged

export default function ({ data, parentElement, setStateValue }) {
  const input = parentElement.querySelector("input");
  const show = () => {
    const text = `${input.value}%`;
    parentElement.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--reached", text);
  };
  const tell = () => {
    input.told = performance.now();
    setStateValue("value", input.valueAsNumber);
  };
  if (input.told === undefined) {
    // from here on the value is the visitor's: an answer on its way must not move the thumb back
    input.told = 0;
    input.value = data.value;
    input.ariaLabel = data.label;
    parentElement.querySelector("span").textContent = data.label;
  }
  input.disabled = data.disabled;
  input.oninput = () => {
    show();
    clearTimeout(input.waiting);
    input.waiting = setTimeout(tell, Math.max(0, input.told + PAUSE - performance.now()));
  };
  show();
}
