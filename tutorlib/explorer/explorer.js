// What the reader sees of a GPT: tokens tinted by surprise, the attention of every head, the next token. Nothing is fetched.

/** A token as it is shown: a visible blank, a visible end of line. */
const shown = text => text.replaceAll(" ", "␣").replaceAll("\n", "⏎") || "�";
const SHOWN = 10, PER_CLICK = 60; // most probable tokens; tokens that one press of "Write on" draws

function explore(root, {config, tokenizer: parts, prompt, inside, weights: packed}) {
  const weights = readWeights(packed), tokenizer = new Tokenizer(parts), {num_layers: N, num_heads: H, max_length: M} = config;
  const whole = new GPT(config, weights);
  let gpt = root.gpt = whole, tokens = [], rows = [], all = [], past = "", at = 0, layer = 0, head = 0, running = 0;
  root.tokenizer = tokenizer;

  const text = h("textarea", {rows: 2, spellcheck: "false", "aria-label": "Text for the model", oninput: () => read(text.value),
    onfocus: () => { running++; }}); // who wants to type does not want to be written over
  const note = h("p", {class: "note", role: "status"});
  const chips = h("div", {class: "chips", role: "group", "aria-label": "Tokens: choose a position"});
  const heads = h("div", {class: "heads", style: `grid-template-columns: repeat(${H}, 1fr)`});
  const map = h("canvas", {role: "img", width: 320, height: 320}), looks = h("p", {class: "looks"});
  const bars = h("div", {class: "bars"}), after = h("p", {class: "title"});
  const heat = h("input", {type: "range", min: 0.1, max: 2, step: 0.05, value: 0.8, id: `${root.id}-heat`, oninput: drawBars});
  const degrees = h("output", {for: heat.id});

  const cells = [];
  for (let n = 0; n < N; n++)
    for (let k = 0; k < H; k++) {
      const canvas = h("canvas", {width: 96, height: 96, "aria-hidden": "true"});
      const button = h("button", {type: "button", "aria-label": `Show layer ${n + 1}, head ${k + 1}`,
        onclick: () => { [layer, head] = [n, k]; drawMaps(); }}, canvas);
      const box = h("input", {type: "checkbox", checked: "", "aria-label": `Layer ${n + 1}, head ${k + 1} is on`,
        onchange: () => { [layer, head] = [n, k]; silence(); }});
      heads.append(h("div", {class: "head"}, button, h("label", {}, box, ` ${n + 1}.${k + 1}`)));
      cells.push({canvas, button, box, n, k});
    }

  const press = (label, action) => h("button", {type: "button", onclick: action}, label);
  const writers = [press("Next token", () => write(1)), press("Write on", () => write(PER_CLICK))];
  root.replaceChildren(text,
    h("div", {class: "tools"}, ...writers, press("Stop", () => { running++; }), press("Start again", start)),
    note, chips,
    h("div", {class: "panes"},
      h("section", {"aria-label": "Next token"}, after,
        h("label", {for: heat.id}, "temperature ", degrees), heat, bars),
      h("details", {...(inside ? {open: ""} : {}), ontoggle: () => tokens.length && drawMaps()},
        h("summary", {class: "title"}, "Where each head looks. Press a map to enlarge it, untick a head to switch it off"), heads, map, looks)));
  map.addEventListener("mousemove", event => {
    const box = map.getBoundingClientRect(), T = tokens.length;
    const [s, t] = [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height].map(v => Math.floor(v * T));
    if (t >= 0 && s >= 0 && s <= t && t < T) say(t, s);
  });

  /** Take a text; the model sees its last M tokens. */
  function read(written) {
    running++;
    const found = tokenizer.encode(written);
    past = tokenizer.decode(found.slice(0, -M));
    show(found.slice(-M));
  }

  /** The text, the temperature and the heads as they were at first. */
  function start() {
    text.value = prompt;
    heat.value = 0.8;
    for (const {box} of cells) box.checked = true;
    gpt = root.gpt = whole;
    read(prompt);
  }

  function show(kept) {
    tokens = kept;
    at = tokens.length - 1;
    compute();
  }

  function silence() {
    const off = new Set(cells.filter(({box}) => !box.checked).map(({n, k}) => `${n}.${k}`));
    gpt = root.gpt = off.size ? new GPT(config, weights, off) : whole;
    compute();
  }

  function compute() {
    rows = gpt.forward(tokens);
    all = gpt === whole ? rows : whole.forward(tokens);
    chips.hidden = after.parentNode.parentNode.hidden = !tokens.length;
    for (const writer of writers) writer.disabled = !tokens.length;
    note.textContent = tokens.length ? `${surprise()}${past && ` It sees ${tokens.length} tokens, the last ones: at most ${M}.`}` :
      "Type something: the model predicts what comes after a text, and needs one token at least.";
    if (!tokens.length) return;
    drawChips();
    drawMaps();
    drawBars();
  }

  /** Bits of token t, given those before it. */
  const bits = (t, from = rows) => -Math.log2(softmax(from[t - 1].logits)[tokens[t]]);

  /** The mean of it over the text, with all heads and with those that are on. */
  function surprise() {
    if (tokens.length < 2) return "";
    const mean = from => (tokens.slice(1).reduce((sum, _, t) => sum + bits(t + 1, from), 0) / (tokens.length - 1)).toFixed(2);
    const off = gpt === whole ? "" : ` With ${gpt.silent.size === 1 ? "one head" : `${gpt.silent.size} heads`} off: ${mean(rows)}.`;
    return `The model is surprised by ${mean(all)} bits a token here (deeper tint: more).${off}`;
  }

  const name = id => shown(tokenizer.decode([id]));

  function drawChips() {
    chips.replaceChildren(...tokens.map((token, t) => {
      const tip = `position ${t}` + (t ? `, ${bits(t).toFixed(1)} bits` : "");
      return h("button", {type: "button", title: tip, "aria-label": `${name(token)}, ${tip}`, "aria-pressed": t === at,
        style: `--bits: ${t ? Math.min(bits(t) / 10, 1) : 0}`,
        onclick: () => { at = t; drawChips(); drawMaps(); drawBars(); chips.children[t].focus(); }}, name(token));
    }));
    const chosen = chips.children[at];
    chips.scrollTop = Math.max(0, chosen.offsetTop + chosen.offsetHeight - chips.offsetTop - chips.clientHeight + 3);
  }

  /** A map of T rows of weights, one row marked. */
  function paint(canvas, maps, mark) {
    const pen = canvas.getContext("2d"), T = maps.length, side = canvas.width / T, style = getComputedStyle(root);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = style.getPropertyValue("--ink");
    maps.forEach((row, t) => row.forEach((weight, s) => {
      pen.globalAlpha = 0.05 + 0.95 * weight;
      pen.fillRect(s * side, t * side, Math.ceil(side), Math.ceil(side));
    }));
    pen.globalAlpha = 1;
    pen.strokeStyle = style.getPropertyValue("--mark");
    pen.lineWidth = 2;
    if (mark !== undefined) pen.strokeRect(1, mark * side, canvas.width - 2, side);
  }

  function drawMaps() {
    for (const {canvas, button, n, k} of cells) {
      paint(canvas, rows.map(row => row.maps[n][k]));
      button.setAttribute("aria-pressed", n === layer && k === head);
    }
    paint(map, rows.map(row => row.maps[layer][head]), at);
    map.setAttribute("aria-label", `Attention of layer ${layer + 1}, head ${head + 1}: queries down, keys across`);
    const order = rows[at].maps[layer][head].map((weight, s) => [weight, s]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    looks.textContent = `Layer ${layer + 1}, head ${head + 1}: “${name(tokens[at])}” at ${at} looks at ` +
      order.map(([weight, s]) => `“${name(tokens[s])}” at ${s} (${weight.toFixed(2)})`).join(", ") + ".";
  }

  function say(t, s) {
    looks.textContent = `Layer ${layer + 1}, head ${head + 1}: “${name(tokens[t])}” at ${t} gives ` +
      `“${name(tokens[s])}” at ${s} the weight ${rows[t].maps[layer][head][s].toFixed(2)}.`;
  }

  /** The most probable tokens after `at`; at the end of the text each is a button that writes it. */
  function drawBars() {
    degrees.textContent = Number(heat.value).toFixed(2);
    if (!tokens.length) return;
    const last = at === tokens.length - 1, p = softmax(rows[at].logits, Number(heat.value));
    after.textContent = `After “${name(tokens[at])}”` + (last ? ": choose the next token" : ` came “${name(tokens[at + 1])}”`);
    const order = [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, SHOWN);
    bars.replaceChildren(...order.map(token => h("button", {type: "button", "aria-label": `${name(token)}, probability ${p[token].toFixed(3)}`,
      ...(last ? {} : {disabled: ""}), "aria-pressed": !last && token === tokens[at + 1], onclick: () => { running++; append(token); }},
    h("span", {class: "token"}, name(token)), h("span", {class: "room"}, h("span", {class: "bar", style: `width: ${100 * p[token]}%`})),
    h("span", {class: "number"}, p[token].toFixed(3)))));
  }

  function append(token) {
    if (tokens.length === M) { // positions end: go on from the later half
      past += tokenizer.decode(tokens.slice(0, M / 2));
      tokens = tokens.slice(M / 2);
    }
    show([...tokens, token]);
    text.value = past + tokenizer.decode(tokens);
    text.scrollTop = text.scrollHeight;
  }

  /** Draw `count` tokens, one a frame, as generate() does with this temperature. */
  function write(count) {
    const mine = ++running;
    (function step() {
      if (mine !== running || !count-- || !tokens.length) return;
      const p = softmax(rows.at(-1).logits, Number(heat.value));
      let left = Math.random(), token = 0;
      while (token < p.length - 1 && (left -= p[token]) > 0) token++;
      append(token);
      requestAnimationFrame(step);
    })();
  }

  new MutationObserver(() => tokens.length && drawMaps()).observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});
  start();
}
