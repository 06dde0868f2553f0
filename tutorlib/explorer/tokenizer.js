// Byte-level BPE, as in tutorlib/text/bpe.py: words are cut by a pattern, and in each the first merge of the list that applies is
// made, until none does. A token is written as GPT-2's files do, a visible character a byte.

const VISIBLE = [[33, 126], [161, 172], [174, 255]];
const BYTES = []; // byte -> its visible character
for (let byte = 0, moved = 256; byte < 256; byte++)
  BYTES.push(String.fromCharCode(VISIBLE.some(([a, b]) => a <= byte && byte <= b) ? byte : moved++));

class Tokenizer {
  /** tokens: the vocabulary in the order of its ids; merges: "left right", first to last; pattern: what cuts words. */
  constructor({tokens, merges, pattern}) {
    Object.assign(this, {tokens, pattern});
    this.ids = new Map(tokens.map((token, id) => [token, id]));
    this.ranks = new Map(merges.map((pair, rank) => [pair, rank]));
  }

  encode(text) {
    const words = text.match(new RegExp(this.pattern, "gu")) ?? [];
    return words.flatMap(word => this.merge(word).map(token => this.ids.get(token)));
  }

  /** One word -> its tokens: merge the pair of lowest rank, the leftmost of equals, until no neighbors have a rank. */
  merge(word) {
    const parts = Array.from(new TextEncoder().encode(word), byte => BYTES[byte]);
    for (;;) {
      let at = -1, best = Infinity;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [at, best] = [i, rank];
      }
      if (at < 0) return parts;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }

  /** Tokens -> text. Bytes that are no whole character show as �. */
  decode(ids) {
    const bytes = Array.from(ids.map(id => this.tokens[id]).join(""), character => BYTES.indexOf(character));
    return new TextDecoder().decode(Uint8Array.from(bytes));
  }
}
