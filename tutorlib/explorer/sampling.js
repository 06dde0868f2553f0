// Which token comes next: temperature, top-k and top-p on given scores, and draws from what is left.

const sum = numbers => numbers.reduce((a, b) => a + b, 0);

/** Scores -> probabilities: temperature, then the k largest (0: all), then the fewest of these that reach the share p. */
function kept(scores, temperature, k, p) {
  const all = softmax(scores, temperature);
  const first = [...all.keys()].sort((a, b) => all[b] - all[a]).slice(0, k || all.length);
  const reached = rank => sum(first.slice(0, rank).map(token => all[token])) / sum(first.map(token => all[token]));
  const stays = first.filter((_, rank) => reached(rank) < p), total = sum(stays.map(token => all[token]));
  return all.map((probability, token) => stays.includes(token) ? probability / total : 0);
}

function sampling(root, {tokens, scores}) {
  const settings = {temperature: 1, k: 0, p: 1}, bars = h("div", {class: "bars"}), said = h("p", {class: "note", role: "status"});
  let drawn = tokens.map(() => 0);
  const dial = (name, key, options) => slider(name, options, value => {
    settings[key] = value;
    drawn = tokens.map(() => 0);
    draw();
  });
  const draws = (label, count) => h("button", {type: "button", onclick: () => {
    for (let i = 0; i < count; i++) drawn[pick(root.found)]++;
    draw();
  }}, label);
  root.replaceChildren(dial("temperature", "temperature", {min: 0.1, max: 3, step: 0.1, value: 1, digits: 1}),
    dial("top-k (0: all)", "k", {min: 0, max: tokens.length, step: 1, value: 0, digits: 0}),
    dial("top-p", "p", {min: 0.05, max: 1, step: 0.05, value: 1}),
    h("div", {class: "tools"}, draws("Draw one", 1), draws("Draw a hundred", 100)), said, bars);
  draw();

  function pick(p) {
    let left = Math.random(), token = p.findLastIndex(v => v > 0);
    for (let i = 0; i < p.length; i++) if ((left -= p[i]) <= 0 && p[i] > 0) { token = i; break; }
    return token;
  }

  function draw() {
    const p = root.found = kept(scores, settings.temperature, settings.k, settings.p);
    const bits = -sum(p.map(v => v && v * Math.log2(v))), times = sum(drawn);
    said.textContent = `${p.filter(v => v > 0).length} of ${tokens.length} tokens can come; the choice is worth ${bits.toFixed(2)} bits.` +
      (times ? ` Drawn ${times} ${times === 1 ? "time" : "times"}.` : "");
    bars.replaceChildren(...tokens.map((token, i) => h("div", {class: "row"}, h("span", {class: "token"}, token),
      h("span", {class: "room"}, h("span", {class: "bar", style: `width: ${100 * p[i]}%`})),
      h("span", {class: "number"}, p[i].toFixed(3) + (times ? ` · ${drawn[i]}` : "")))));
  }
}
