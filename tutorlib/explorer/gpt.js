// The GPT of tutorlib/models/gpt.py in the page's own language: one token at a time, every product written out as a loop.
// A matrix is a Float32Array, row after row. D width, H heads, K = D / H, F hidden width, V vocabulary, t position.

/** W x + b: x (D,), W (F, D), b (F,) -> (F,). */
function linear(x, {weight, bias}) {
  const D = x.length, F = weight.length / D, y = new Float32Array(F);
  for (let f = 0; f < F; f++) {
    let sum = bias ? bias[f] : 0;
    for (let d = 0; d < D; d++) sum += weight[f * D + d] * x[d];
    y[f] = sum;
  }
  return y;
}

/** (x - mean) / √(variance + eps) · weight + bias: (D,) -> (D,). */
function layerNorm(x, {weight, bias}, eps) {
  const mean = x.reduce((sum, v) => sum + v, 0) / x.length;
  const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length;
  return x.map((v, d) => (v - mean) / Math.sqrt(variance + eps) * weight[d] + (bias ? bias[d] : 0));
}

/** erf to within 1.5e-7, which JavaScript lacks (Abramowitz and Stegun 1964, 7.1.26). */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const ACTIVATIONS = {
  gelu: x => 0.5 * x * (1 + erf(x / Math.SQRT2)), // x · Φ(x)
  gelu_tanh: x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

class GPT {
  /** `silent` holds "layer.head" of heads that are switched off. */
  constructor(config, weights, silent = new Set()) {
    Object.assign(this, {config, weights, silent, seen: [], cache: [], rows: []});
  }

  /** The weight and the bias of a module, under PyTorch's name for it. */
  part(name) {
    return {weight: this.weights[`${name}.weight`], bias: this.weights[`${name}.bias`]};
  }

  /** Row i of a matrix with rows of D: a token's embedding, a position's vector. */
  row(name, i) {
    return this.weights[name].subarray(i * this.config.width, (i + 1) * this.config.width);
  }

  /** Attention of layer n at position t: x (D,) -> what it adds (D,), and H rows of t + 1 weights. Keys and values are kept. */
  attention(n, x, t) {
    const {width: D, num_heads: H} = this.config, K = D / H, name = `layers.${n}.attention`;
    const [query, key, value] = ["query", "key", "value"].map(each => linear(x, this.part(`${name}.${each}`))); // (D,) each
    this.cache[n][t] = {key, value}; // the cache: what later tokens look at
    const joined = new Float32Array(D), maps = [];
    for (let h = 0; h < H; h++) {
      const scores = new Float64Array(t + 1); // keys up to t: the causal mask is where this loop ends
      for (let s = 0; s <= t; s++) {
        for (let i = h * K; i < (h + 1) * K; i++) scores[s] += query[i] * this.cache[n][s].key[i];
        scores[s] /= Math.sqrt(K);
      }
      maps.push(softmax(scores));
      if (this.silent.has(`${n}.${h}`)) continue; // a head that is switched off adds nothing
      for (let s = 0; s <= t; s++)
        for (let i = h * K; i < (h + 1) * K; i++) joined[i] += maps[h][s] * this.cache[n][s].value[i];
    }
    return [linear(joined, this.part(`${name}.output`)), maps];
  }

  feedForward(n, x) {
    const hidden = linear(x, this.part(`layers.${n}.feed_forward.expand`)).map(ACTIVATIONS[this.config.activation]); // (F,)
    return linear(hidden, this.part(`layers.${n}.feed_forward.contract`)); // (D,)
  }

  /** One more token, at position t -> {logits (V,), maps [layer][head] of t + 1 weights}. */
  step(token) {
    const {num_layers: N, eps} = this.config, t = this.seen.length, maps = [];
    const place = this.row("position.table", t);
    let x = this.row("embedding.weight", token).map((v, d) => v + place[d]); // (D,)
    const add = y => { x = x.map((v, d) => v + y[d]); }; // the residual stream
    for (let n = 0; n < N; n++) {
      this.cache[n] ??= [];
      const [attended, ours] = this.attention(n, layerNorm(x, this.part(`layers.${n}.attention_norm`), eps), t);
      add(attended);
      add(this.feedForward(n, layerNorm(x, this.part(`layers.${n}.feed_forward_norm`), eps)));
      maps.push(ours);
    }
    this.seen.push(token);
    return {maps, logits: linear(layerNorm(x, this.part("norm"), eps), {weight: this.weights["embedding.weight"]})}; // tied
  }

  /** tokens -> a row of `step` for each. What the last call had read in common with this one is not computed again. */
  forward(tokens) {
    let same = 0;
    while (same < this.seen.length && this.seen[same] === tokens[same]) same++;
    this.seen.length = this.rows.length = same;
    for (const token of tokens.slice(same)) this.rows.push(this.step(token));
    return this.rows.slice();
  }
}

/** The weights in a safetensors file (base64): a length, a JSON header, the numbers. int8 matrices have a scale a row. */
function readWeights(base64) {
  const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0)).buffer;
  const start = 8 + Number(new DataView(bytes).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, start - 8)));
  const tensor = name => {
    const {dtype, data_offsets: [from, to]} = header[name], Kind = {F32: Float32Array, I8: Int8Array}[dtype];
    return new Kind(bytes.slice(start + from, start + to));
  };
  const weights = {};
  for (const name of Object.keys(header).filter(name => name !== "__metadata__" && !name.endsWith(".scale"))) {
    const numbers = tensor(name), scale = header[`${name}.scale`] ? tensor(`${name}.scale`) : null;
    const columns = header[name].shape.at(-1);
    weights[name] = scale ? Float32Array.from(numbers, (v, i) => v * scale[Math.floor(i / columns)]) : numbers;
  }
  return weights;
}
