// Attention of a few words, whose queries, keys and values the reader writes.

/** (T, K), (S, K), (S, V) -> weights (T, S), outputs (T, V). */
function attend(queries, keys, values, division) {
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const weights = queries.map(query => softmax(keys.map(key => dot(query, key)), division));
  const mean = row => values[0].map((_, i) => row.reduce((sum, weight, s) => sum + weight * values[s][i], 0));
  return {weights, outputs: weights.map(mean)};
}

function attention(root, {words, queries, keys, values, division}) {
  const first = {queries, keys, values}, names = {queries: "query", keys: "key", values: "value"};
  const now = structuredClone(first), fields = [];
  let divided = division;

  const field = (kind, t, i) => {
    const input = h("input", {type: "number", step: 0.5, value: now[kind][t][i],
      "aria-label": `${names[kind]} of ${words[t]}, number ${i + 1}`, oninput: () => {
        now[kind][t][i] = Number(input.value) || 0;
        draw();
      }});
    fields.push({input, kind, t, i});
    return input;
  };
  const cells = (kind, t) => h("td", {}, ...now[kind][t].map((_, i) => field(kind, t, i)));
  const given = h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "word"),
    ...Object.values(names).map(name => h("th", {scope: "col"}, name)))),
  h("tbody", {}, ...words.map((word, t) => h("tr", {}, h("th", {scope: "row"}, word),
    ...Object.keys(names).map(kind => cells(kind, t))))));
  const found = h("div", {role: "status"});
  const slide = slider("scores divided by", {min: 0.1, max: 4, step: 0.01, value: division}, value => {
    divided = value;
    draw();
  });
  const again = h("button", {type: "button", onclick: () => {
    for (const {input, kind, t, i} of fields) input.value = now[kind][t][i] = first[kind][t][i];
    slide.set(division);
  }}, "Start again");
  root.replaceChildren(h("div", {class: "panes"}, h("section", {}, given, slide, h("div", {class: "tools"}, again)), found));
  draw();

  function draw() {
    const {weights, outputs} = root.found = attend(now.queries, now.keys, now.values, divided);
    const head = h("tr", {}, h("th", {}, "reads"), ...words.map(word => h("th", {scope: "col"}, word)), h("th", {scope: "col"}, "becomes"));
    const body = weights.map((row, t) => h("tr", {}, h("th", {scope: "row"}, words[t]),
      ...row.map(weight => tinted(weight, weight.toFixed(2))), h("td", {}, outputs[t].map(x => x.toFixed(2)).join(", "))));
    found.replaceChildren(h("table", {}, h("thead", {}, head), h("tbody", {}, ...body)));
  }
}
