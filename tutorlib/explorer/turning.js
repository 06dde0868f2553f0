// A query and a key that turn with their positions: the product sees the distance alone.

/** A hand of this length after `place` turns of `degrees`. */
const hand = (length, place, degrees) => [Math.cos, Math.sin].map(f => length * f(place * degrees * Math.PI / 180));

function turning(root, {query, key, degrees, places}) {
  const at = {m: 3, n: 1, degrees}, SIZE = 120, picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const said = h("p", {class: "note", role: "status"}), range = {min: 0, max: places, step: 1, digits: 0};
  picture.setAttribute("viewBox", `${-SIZE} ${-SIZE} ${2 * SIZE} ${2 * SIZE}`);
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", "The query and the key as two hands of a clock");
  const set = name => value => {
    at[name] = value;
    draw();
  };
  const slides = {m: slider("place of the query", {...range, value: at.m}, set("m")), n: slider("place of the key", {...range, value: at.n}, set("n"))};
  const both = step => h("button", {type: "button", onclick: () => {
    if (Math.min(at.m, at.n) + step < 0 || Math.max(at.m, at.n) + step > places) return;
    const {m, n} = at;
    slides.m.set(m + step);
    slides.n.set(n + step);
  }}, step > 0 ? "Both one on" : "Both one back");
  root.replaceChildren(h("div", {class: "panes"}, picture, h("section", {}, slides.m, slides.n,
    slider("degrees a place", {min: 0, max: 180, step: 1, value: degrees, digits: 0}, set("degrees")),
    h("div", {class: "tools"}, both(-1), both(1)), said)));
  draw();

  function line([x, y], className, name) {
    const scale = 0.8 * SIZE / Math.max(query, key), [X, Y] = [x * scale, -y * scale], far = 1 + 18 / Math.hypot(X, Y);
    return `<line class="${className}" x2="${X.toFixed(1)}" y2="${Y.toFixed(1)}"/><circle class="${className}" cx="${X.toFixed(1)}" cy="${Y.toFixed(1)}" r="4"/>` +
      `<text x="${(X * far).toFixed(1)}" y="${(Y * far + 4).toFixed(1)}" text-anchor="middle">${name}</text>`;
  }

  function draw() {
    const q = hand(query, at.m, at.degrees), k = hand(key, at.n, at.degrees), product = q[0] * k[0] + q[1] * k[1];
    root.found = {query: q, key: k, product};
    picture.innerHTML = `<circle r="${(0.8 * SIZE).toFixed(0)}" class="face"/>${line(q, "query", "query")}${line(k, "key", "key")}`;
    said.textContent = `Distance ${at.m - at.n}, ${(at.m - at.n) * at.degrees}° apart: the product is ${product.toFixed(2)}.`;
  }
}
