"""Models of the library transformers as ours, one file a model.

The library is not imported: a class is told by its name, its sizes are read off its config, its weights off its state dict.
"""

from torch import nn

from tutorlib.layers.compiled import unwrapped
from tutorlib.pretrained.huggingface.bert import (
    convert_bert,
    convert_bert_masked_lm,
    convert_bert_question_answering,
    convert_bert_sequence_classification,
    convert_bert_token_classification,
)
from tutorlib.pretrained.huggingface.clip import convert_clip
from tutorlib.pretrained.huggingface.config import check_modules
from tutorlib.pretrained.huggingface.detr import convert_detr
from tutorlib.pretrained.huggingface.gpt2 import convert_gpt2
from tutorlib.pretrained.huggingface.llama import convert_llama
from tutorlib.pretrained.huggingface.resnet import convert_resnet
from tutorlib.pretrained.huggingface.vit import convert_vit

CONVERTERS = {
    "BertModel": convert_bert,
    "BertForMaskedLM": convert_bert_masked_lm,
    "BertForSequenceClassification": convert_bert_sequence_classification,
    "BertForTokenClassification": convert_bert_token_classification,
    "BertForQuestionAnswering": convert_bert_question_answering,
    "CLIPModel": convert_clip,
    "DetrForObjectDetection": convert_detr,
    "GPT2LMHeadModel": convert_gpt2,
    "LlamaForCausalLM": convert_llama,
    "ResNetForImageClassification": convert_resnet,
    "ViTForImageClassification": convert_vit,
}


def from_transformers(model: nn.Module) -> nn.Module:
    """Our counterpart of a model of the library transformers, with a copy of its weights, its device, dtype and training mode.

    Takes `BertModel` (its pooler stays behind: ours has one in `BERTForSequenceClassification`), `BertForMaskedLM`,
    `BertForSequenceClassification`, `BertForTokenClassification`, `BertForQuestionAnswering`, `GPT2LMHeadModel`,
    `LlamaForCausalLM`, `ResNetForImageClassification`, `ViTForImageClassification`, `CLIPModel` and `DetrForObjectDetection`
    with a ResNet that is not timm's, compiled or not. The output is tied to the embedding where theirs is, whatever the config
    says. All parameters can be trained, frozen ones too; hooks stay behind. Raises ValueError naming an option of its config
    that ours lacks, or a module that was changed against its config; TypeError for other classes.
    """
    model = unwrapped(model)
    convert = CONVERTERS.get(type(model).__name__)
    if convert is None or type(model).__module__.partition(".")[0] != "transformers":  # another's class may bear the name
        raise TypeError(f"from_transformers takes {', '.join(CONVERTERS)}, got {type(model).__name__}")
    ours = convert(model)
    check_modules(model)
    return ours.train(model.training)
