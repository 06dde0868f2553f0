// What every model and widget of the page uses.

/** A DOM element: h("p", {class: "x", onclick: f}, "text", child). */
function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    name.startsWith("on") ? node.addEventListener(name.slice(2), value) : node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Scores -> probabilities: exp(score / temperature) over their sum; the largest is taken off first. */
function softmax(scores, temperature = 1) {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const p = Array.from(scores, s => Math.exp((s - largest) / temperature)), total = p.reduce((a, b) => a + b, 0);
  return p.map(v => v / total);
}

/** A slider with its name and its value: change(value) is called at every move. */
function slider(name, {min, max, step, value, digits = 2}, change) {
  const say = number => Number(number).toFixed(digits), shown = h("span", {}, say(value));
  const input = h("input", {type: "range", min, max, step, value, oninput: () => move()});
  const move = () => { shown.textContent = say(input.value); change(Number(input.value)); };
  const label = h("label", {class: "slider"}, `${name} `, shown, input);
  label.set = v => { input.value = v; move(); };
  return label;
}

/** A number of a table, tinted by a weight between 0 and 1. */
const tinted = (weight, text) => h("td", {style: `--bits: ${weight}`}, text);
