// Formulas are written with the line breaks that a phone needs. Where there is room, a line that only goes on with the one
// above it, as "= ..." or "+ ..." do, joins it again; lines that are equations of their own stay lines.
const CONTINUES = /^(?:[=+\-<>]|\\(?:cdot|odot|times|to|mid|le|ge|approx)(?![a-zA-Z])|\\text\{for )/;
const COMPILED = 20;  // the state of MathJax's items from which a new text is read
const PAPER = 640;  // pixels: what a printed sheet has room for
const LEADING = /^(?:\s|&|\{\}|\\q?quad(?![a-zA-Z])|\\[;,!: ])+/;

// The rows of an aligned or gathered formula, split at the \\ that are not inside braces or another environment.
function rowsOf(body) {
  const rows = [""];
  let depth = 0;
  for (const [piece] of body.matchAll(/\\begin\{\w+\}|\\end\{\w+\}|\\\\|\\?[^]/g)) {
    if (piece === "{" || piece.startsWith("\\begin{")) depth++;
    if (piece === "}" || piece.startsWith("\\end{")) depth--;
    if (piece === "\\\\" && depth === 0) rows.push("");
    else rows[rows.length - 1] += piece;
  }
  return rows;
}

function joined(tex) {
  const whole = tex.match(/^(\s*(?:\\begin\{split\}\s*)?\\begin\{(aligned|gathered)\})([^]*)(\\end\{\2\}[^]*)$/);
  if (!whole) return tex;
  const rows = [];
  for (const row of rowsOf(whole[3])) {
    const rest = row.replace(LEADING, ""), last = rows.length - 1;
    const goesOn = last >= 0 && CONTINUES.test(rest) && !rest.includes("&") && !/[,.:]\s*$/.test(rows[last]);
    if (goesOn) rows[last] = rows[last].trimEnd() + (rest.startsWith("\\text") ? " \\quad " : " ") + rest;
    else rows.push(row);
  }
  return whole[1] + rows.join("\\\\") + whole[4];
}

function write(item, tex) {
  item.math = tex;
  item.rerender(MathJax.startup.document, COMPILED);
}

function fitFormulas(formulas) {
  for (const {item, broken, whole} of formulas) {
    if (item.math !== whole) write(item, whole);
    const place = item.typesetRoot.parentElement, number = place.querySelector(".eqno")?.offsetWidth ?? 0;
    const width = item.typesetRoot.querySelector("svg").getBoundingClientRect().width;
    if (width > Math.min(place.clientWidth, PAPER) - 2 * number) write(item, broken);  // it stands in the middle, its number at the right
  }
}

addEventListener("load", async () => {
  if (!window.MathJax?.startup) return;
  await MathJax.startup.promise;
  const formulas = [...MathJax.startup.document.math].filter(item => item.display)
    .map(item => ({item, broken: item.math, whole: joined(item.math)}))
    .filter(({broken, whole}) => broken !== whole);
  fitFormulas(formulas);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) fitFormulas(formulas);
    width = innerWidth;
  });
  document.documentElement.dataset.formulas = "fitted";
});
