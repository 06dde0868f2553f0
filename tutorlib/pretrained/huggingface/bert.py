"""BERT and its heads, from the library transformers."""

from torch import nn

from tutorlib.models.bert import (
    BERT,
    BERTConfig,
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from tutorlib.pretrained.huggingface.config import our_activation, require
from tutorlib.pretrained.weights import fill, is_tied, refusal, rename

ENCODER = {
    "embeddings.word_embeddings": "embedding",
    "embeddings.position_embeddings.weight": "position.table",
    "embeddings.token_type_embeddings": "token_type",
    "embeddings.LayerNorm": "norm",
    "encoder.layer.{}.attention.self.query": "encoder.layers.{}.attention.query",
    "encoder.layer.{}.attention.self.key": "encoder.layers.{}.attention.key",
    "encoder.layer.{}.attention.self.value": "encoder.layers.{}.attention.value",
    "encoder.layer.{}.attention.output.dense": "encoder.layers.{}.attention.output",
    "encoder.layer.{}.attention.output.LayerNorm": "encoder.layers.{}.attention_norm",
    "encoder.layer.{}.intermediate.dense": "encoder.layers.{}.feed_forward.expand",
    "encoder.layer.{}.output.dense": "encoder.layers.{}.feed_forward.contract",
    "encoder.layer.{}.output.LayerNorm": "encoder.layers.{}.feed_forward_norm",
}
ENCODER_LEFT_BEHIND = ("pooler.dense", "embeddings.position_ids")  # a head's business, and the numbers 0, 1, 2, ...

INNER = {f"bert.{theirs}": f"bert.{ours}" for theirs, ours in ENCODER.items()}
MASKED_LM = INNER | {"cls.predictions.transform.dense": "transform", "cls.predictions.transform.LayerNorm": "norm",
                     "cls.predictions.decoder": "output"}
MASKED_LM_LEFT_BEHIND = ("cls.predictions.bias",)  # the decoder's own is the one that is added
SEQUENCE_CLASSIFICATION = INNER | {"bert.pooler.dense": "pooler", "classifier": "output"}
TOKEN_CLASSIFICATION = INNER | {"classifier": "output"}
QUESTION_ANSWERING = INNER | {"qa_outputs": "output"}


def convert_bert(model: nn.Module) -> BERT:
    config = _config(model)
    return _drop(model, fill(lambda: BERT(config), rename(model.state_dict(), ENCODER, ENCODER_LEFT_BEHIND)))


def convert_bert_masked_lm(model: nn.Module) -> BERTForMaskedLM:
    weights = rename(model.state_dict(), MASKED_LM, MASKED_LM_LEFT_BEHIND)
    config = _config(model, is_tied(weights, "output.weight", "bert.embedding.weight"))
    return _drop(model, fill(lambda: BERTForMaskedLM(config), weights))


def convert_bert_sequence_classification(model: nn.Module) -> BERTForSequenceClassification:
    config, weights = _config(model), rename(model.state_dict(), SEQUENCE_CLASSIFICATION)
    return _drop(model, fill(lambda: BERTForSequenceClassification(config, model.config.num_labels), weights))


def convert_bert_token_classification(model: nn.Module) -> BERTForTokenClassification:
    config, weights = _config(model), rename(model.state_dict(), TOKEN_CLASSIFICATION)
    return _drop(model, fill(lambda: BERTForTokenClassification(config, model.config.num_labels), weights))


def convert_bert_question_answering(model: nn.Module) -> BERTForQuestionAnswering:
    config = _config(model)
    if model.config.num_labels != 2:
        raise refusal(model, "num_labels", model.config.num_labels, "num_labels=2, start and end")
    return _drop(model, fill(lambda: BERTForQuestionAnswering(config), rename(model.state_dict(), QUESTION_ANSWERING)))


def _config(model: nn.Module, tied: bool = True) -> BERTConfig:
    require(model, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    config = model.config
    return BERTConfig(vocabulary=config.vocab_size, max_length=config.max_position_embeddings, width=config.hidden_size,
                      num_heads=config.num_attention_heads, num_layers=config.num_hidden_layers,
                      hidden=config.intermediate_size, token_types=config.type_vocab_size, dropout=config.hidden_dropout_prob,
                      activation=our_activation(model, "hidden_act"), eps=config.layer_norm_eps, tie_output=tied)


def _drop(model: nn.Module, ours: nn.Module) -> nn.Module:
    """Set the dropouts that our config has no word for: in the attention, and before a head."""
    for layer in getattr(ours, "bert", ours).encoder.layers:
        layer.attention.dropout = model.config.attention_probs_dropout_prob
    if hasattr(model, "dropout"):
        ours.dropout.p = model.dropout.p
    return ours
