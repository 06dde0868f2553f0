"""What `from_transformers` takes over, what it ties, and what it refuses; that outputs are equal is in tests/parity."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ResNetConfig,
    ResNetForImageClassification,
    ResNetModel,
)

from tests.closeness import assert_same
from tests.peers import SMALL, assert_copied, bert, gpt2, llama, shaken
from tutorlib.pretrained import from_transformers
from tutorlib.pretrained.huggingface.llama import rope_base


@pytest.mark.parametrize("name", SMALL)
def test_weights_are_copied_and_stay_tied(name):
    reference = shaken(SMALL[name]())
    ours = from_transformers(reference)
    embedding = ours.bert.embedding if name == "bert" else ours.embedding
    assert ours.output.weight is embedding.weight
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in reference.parameters()) - (
        sum(p.numel() for n, p in reference.named_parameters() if "pooler" in n))
    assert_copied(ours, reference)


@pytest.mark.parametrize("name", SMALL)
def test_mode_device_and_dtype_are_kept(name, device):
    reference = shaken(SMALL[name](), torch.bfloat16).to(device)
    ours = from_transformers(reference)
    assert not ours.training and from_transformers(reference.train()).training
    assert all(p.dtype == torch.bfloat16 and p.device.type == device.type for p in ours.parameters())
    assert ours(torch.randint(31, (2, 5), device=device)).dtype == torch.bfloat16


def test_dropouts_are_taken_over():
    options = dict(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    ours = from_transformers(bert(BertForSequenceClassification, classifier_dropout=0.4, **options))
    layer = ours.bert.encoder.layers[1]
    assert (ours.bert.dropout.p, layer.dropout.p, layer.attention.dropout, layer.feed_forward.dropout.p,
            ours.dropout.p) == (0.2, 0.2, 0.3, 0.0, 0.4)
    assert from_transformers(bert(BertForTokenClassification, **options)).dropout.p == 0.2
    assert from_transformers(bert(BertForTokenClassification, classifier_dropout=0.4, **options)).dropout.p == 0.4
    for peer in (BertModel, BertForMaskedLM, BertForQuestionAnswering, BertForTokenClassification):
        model = from_transformers(bert(peer, **options))
        assert (model if peer is BertModel else model.bert).encoder.layers[0].attention.dropout == 0.3
    gpt = from_transformers(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, resid_pdrop=0.2,
                                                       embd_pdrop=0.3, attn_pdrop=0.4)))
    layer = gpt.layers[0]
    assert (gpt.dropout.p, layer.dropout.p, layer.attention.dropout, layer.feed_forward.dropout.p) == (0.3, 0.2, 0.4, 0.0)
    assert from_transformers(llama(attention_dropout=0.3)).layers[1].attention.dropout == 0.3


def test_what_no_value_shows_is_taken_over_too():
    """The greatest length, and names of one function: swish is silu."""
    lengths = {name: (ours if name != "bert" else ours.bert).max_length for name, build in SMALL.items()
               for ours in [from_transformers(build())]}
    assert lengths == {"bert": 12, "gpt2": 12, "llama": 16} and from_transformers(llama(per_head=2)).max_length == 16
    assert from_transformers(bert(BertModel, activation="swish")).config.activation == "silu"
    assert from_transformers(llama(activation="swish")).config.activation == "silu"


def test_the_rotary_base_is_found_where_transformers_4_keeps_it():
    def of(**options):
        return rope_base(SimpleNamespace(config=SimpleNamespace(rope_theta=500.0, **options)))

    assert of(rope_scaling=None) == of(rope_scaling={"rope_type": "default"}) == 500.0
    with pytest.raises(ValueError, match=r"rope_type=llama3\) is not supported"):
        of(rope_scaling={"rope_type": "llama3", "factor": 8.0})


@pytest.mark.parametrize("build, message", [
    (lambda: bert(BertModel, position_embedding_type="relative_key"), r"BertModel\(position_embedding_type=relative_key\) is"),
    (lambda: bert(BertModel, activation="tanh"), r"BertModel\(hidden_act=tanh\) is not supported, only one of \['gelu'"),
    (lambda: bert(BertModel, is_decoder=True), r"BertModel\(is_decoder=True\) is not supported, only is_decoder=False"),
    (lambda: BertForQuestionAnswering(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
                                                 num_labels=3)), r"num_labels=3\) is not supported, only num_labels=2"),
    (lambda: gpt2(scale_attn_weights=False),
     r"scale_attn_weights=False\) is not supported"),
    (lambda: gpt2(scale_attn_by_inverse_layer_idx=True),
     r"scale_attn_by_inverse_layer_idx=True\) is not supported"),
    (lambda: gpt2(reorder_and_upcast_attn=True),
     r"reorder_and_upcast_attn=True\) is not supported"),
    (lambda: gpt2(add_cross_attention=True),
     r"add_cross_attention=True\) is not supported"),
    (lambda: gpt2(activation_function="tanh"),
     r"activation_function=tanh\) is not supported"),
    (lambda: llama(attention_bias=True), r"LlamaForCausalLM\(attention_bias=True\) is not supported"),
    (lambda: llama(mlp_bias=True), r"mlp_bias=True\) is not supported, only mlp_bias=False"),
    (lambda: llama(head_dim=6), r"head_dim=6\) is not supported, only head_dim=4"),
    (lambda: llama(rope={"rope_type": "linear", "factor": 2.0}), r"rope_type=linear\) is not supported, only rope_type=d"),
    (lambda: llama(activation="relu2"), r"hidden_act=relu2\) is not supported, only one of")])
def test_options_that_ours_lacks_are_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        from_transformers(build())


def test_another_class_is_refused():
    with pytest.raises(TypeError, match=r"from_transformers takes BertModel, .*, got BertForNextSentencePrediction"):
        from_transformers(bert(BertForNextSentencePrediction))


def test_a_resnet_s_weights_are_copies_of_the_same_number():
    peer = ResNetForImageClassification(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic"))
    ours = from_transformers(peer)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in peer.parameters())
    before = ours.output.weight.clone()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.zero_()
    assert torch.equal(ours.output.weight, before) and all(parameter.requires_grad for parameter in ours.parameters())


@pytest.mark.parametrize(("option", "value"), [("hidden_act", "gelu"), ("downsample_in_first_stage", True),
                                               ("downsample_in_bottleneck", True), ("num_labels", 0)])
def test_an_option_of_a_resnet_is_refused_by_name(option, value):
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], **{option: value})
    with pytest.raises(ValueError, match=f"ResNetForImageClassification\\({option}={value}\\) is not supported, only "):
        from_transformers(ResNetForImageClassification(config))


def test_a_subclass_is_refused_with_a_list_of_what_is_not():
    model = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1]))
    with pytest.raises(TypeError, match="from_transformers takes .*ResNetForImageClassification.*, got ResNetModel"):
        from_transformers(model)

    class OwnResNetForImageClassification(ResNetForImageClassification):  # whatever it changes, ours would not
        pass

    with pytest.raises(TypeError, match=", got OwnResNetForImageClassification"):
        from_transformers(OwnResNetForImageClassification(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1])))


# -- the weights are trusted, not the config --------------------------------------------------------------------------


HEADS = {"bert": lambda model: model.cls.predictions.decoder, "gpt2": lambda model: model.lm_head,
         "llama": lambda model: model.lm_head}


def logits(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    output = model(tokens)
    return output if isinstance(output, torch.Tensor) else output.logits


@pytest.mark.parametrize("name", SMALL)
def test_a_head_that_was_replaced_is_taken_whatever_the_config_says(name):
    torch.manual_seed(0)
    reference, tokens = shaken(SMALL[name]()), torch.randint(1, 31, (2, 7))
    HEADS[name](reference).weight = nn.Parameter(torch.randn(31, reference.config.hidden_size))
    assert reference.config.tie_word_embeddings
    ours = from_transformers(reference)
    assert_same(ours(tokens), logits(reference, tokens))
    embedding = ours.bert.embedding if name == "bert" else ours.embedding
    config = ours.bert.config if name == "bert" else ours.config
    assert ours.output.weight is not embedding.weight and not config.tie_output


@pytest.mark.parametrize("name", SMALL)
def test_a_head_that_only_equals_the_embedding_is_not_tied_to_it(name):
    """As where an untied model begins with a copy: the two then learn apart, and so they must in ours."""
    reference = SMALL[name]()
    HEADS[name](reference).weight = nn.Parameter(reference.get_input_embeddings().weight.detach().clone())
    ours = from_transformers(reference)
    inner = ours.bert if name == "bert" else ours
    assert torch.equal(ours.output.weight, inner.embedding.weight) and ours.output.weight is not inner.embedding.weight
    assert not inner.config.tie_output


@pytest.mark.parametrize("name", SMALL)
def test_a_head_that_was_tied_later_is_tied_whatever_the_config_says(name):
    builds = {"bert": lambda: bert(BertForMaskedLM, tied=False), "gpt2": lambda: gpt2(tie_word_embeddings=False),
              "llama": lambda: llama(tied=False)}
    reference, tokens = shaken(builds[name]()), torch.randint(1, 31, (2, 7))
    HEADS[name](reference).weight = reference.get_input_embeddings().weight
    ours = from_transformers(reference)
    assert ours.output.weight is (ours.bert.embedding if name == "bert" else ours.embedding).weight
    assert_same(ours(tokens), logits(reference, tokens))


def test_the_bias_of_the_masked_language_model_is_the_one_that_is_added():
    reference, tokens = shaken(bert(BertForMaskedLM)), torch.randint(1, 31, (2, 7))
    reference.cls.predictions.decoder.bias = nn.Parameter(torch.randn(31))
    assert not torch.equal(reference.cls.predictions.bias, reference.cls.predictions.decoder.bias)
    assert_same(from_transformers(reference)(tokens), reference(tokens).logits)


def test_layers_that_share_their_weights_share_them_in_ours():
    reference, tokens = shaken(bert(BertModel)), torch.randint(1, 31, (2, 7))
    reference.encoder.layer[1] = reference.encoder.layer[0]
    ours = from_transformers(reference)
    first, second = ours.encoder.layers
    assert first.feed_forward.expand.weight is second.feed_forward.expand.weight
    assert_same(ours(tokens), reference(tokens).last_hidden_state)


def test_frozen_weights_can_be_trained_in_ours():
    for switched in (True, False):
        with torch.set_grad_enabled(switched):
            ours = from_transformers(gpt2().requires_grad_(False))
        assert all(parameter.requires_grad for parameter in ours.parameters())


# -- a module that the config belies ----------------------------------------------------------------------------------


RESNET = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
BELIED = {  # build, the module, what is changed in it: what is said
    (lambda: bert(BertModel), "encoder.layer.1.output.LayerNorm", "eps", 0.1):
        r"BertModel\(encoder.layer.1.output.LayerNorm.eps=0.1\) is not supported, only 1e-12, as its config says",
    (SMALL["bert"], "cls.predictions.transform.LayerNorm", "eps", 0.1): r"transform.LayerNorm.eps=0.1\) is",
    (SMALL["bert"], "bert.encoder.layer.0.attention.self.dropout", "p", 0.7): r"self.dropout.p=0.7\) is not supported",
    (SMALL["bert"], "bert.encoder.layer.0.attention.self", "scaling", 1.0): r"self.scaling=1.0\) is not supported",
    (SMALL["bert"], "bert.encoder.layer.0.intermediate", "intermediate_act_fn", nn.ReLU()):
        r"intermediate_act_fn=ReLU\) is not supported, only GELUActivation, as",
    (gpt2, "transformer.ln_f", "eps", 0.1): r"GPT2LMHeadModel\(transformer.ln_f.eps=0.1\) is not supported, only 1e-05",
    (gpt2, "transformer.h.1.attn", "num_heads", 4): r"h.1.attn.num_heads=4\) is not supported, only 2",
    (gpt2, "transformer.h.0.mlp", "act", nn.ReLU()): r"mlp.act=ReLU\) is not supported, only NewGELUActivation",
    (gpt2, "transformer.h.0.attn.resid_dropout", "p", 0.0): r"resid_dropout.p=0.0\) is not supported, only 0.1",
    (llama, "model.norm", "variance_epsilon", 0.1): r"model.norm.variance_epsilon=0.1\) is not supported, only 1e-06",
    (llama, "model.layers.1.self_attn", "attention_dropout", 0.5): r"self_attn.attention_dropout=0.5\) is not supported",
    (llama, "model.layers.0.mlp", "act_fn", nn.Tanh()): r"mlp.act_fn=Tanh\) is not supported, only SiLU",
    (llama, "model.rotary_emb", "inv_freq", torch.ones(2)): r"rotary_emb.inv_freq=\[1.0, 1.0\]\) is not supported",
    (llama, "model.rotary_emb", "attention_scaling", 2.0): r"rotary_emb.attention_scaling=2.0\) is not supported",
    (llama, "config", "rms_norm_eps", 0.1): r"variance_epsilon=1e-06\) is not supported, only 0.1, as its config says",
    (lambda: ResNetForImageClassification(RESNET), "resnet.encoder.stages.1.layers.0.shortcut.normalization", "eps", 0.1):
        r"shortcut.normalization.eps=0.1\) is not supported, only 1e-05",
    (lambda: ResNetForImageClassification(RESNET), "resnet.encoder.stages.0.layers.0", "activation", nn.Identity()):
        r"layers.0.activation=Identity\) is not supported, only ReLU",
    (lambda: ResNetForImageClassification(RESNET).eval(), "resnet.embedder.embedder.normalization", "training", True):
        r"normalization.training=True\) is not supported, only the mode of the whole model, False",
}


@pytest.mark.parametrize("change, message", BELIED.items(), ids=[f"{path}.{name}" for _, path, name, _ in BELIED])
def test_a_module_that_the_config_belies_is_refused_by_name(change, message):
    build, path, name, value = change
    model = build()
    setattr(model.config if path == "config" else model.get_submodule(path), name, value)
    with pytest.raises(ValueError, match=message):
        from_transformers(model)


def test_frequencies_that_a_dtype_rounded_are_those_of_the_config():
    ours = from_transformers(llama(per_head=8, theta=500.0).bfloat16())
    assert ours.layers[0].attention.rotary.base == 500.0


def test_a_module_that_was_taken_out_is_refused():
    model = bert(BertModel)
    del model.encoder.layer[0].intermediate.intermediate_act_fn
    model.encoder.layer[0].intermediate.intermediate_act_fn = torch.relu
    with pytest.raises(ValueError, match=r"intermediate.intermediate_act_fn=None\) is not supported, only GELUActivation"):
        from_transformers(model)


def test_a_weight_without_a_place_is_refused():
    model = gpt2()
    model.transformer.h[0].attn.register_buffer("masked_bias", torch.zeros(()))
    with pytest.raises(ValueError, match="the tensor transformer.h.0.attn.masked_bias of the model has no counterpart"):
        from_transformers(model)


def test_what_was_saved_and_loaded_is_taken(tmp_path):
    for name, build in SMALL.items():
        reference, tokens = shaken(build()), torch.randint(1, 31, (2, 7))
        reference.save_pretrained(tmp_path / name)
        again = type(reference).from_pretrained(tmp_path / name)
        assert_same(from_transformers(again)(tokens), reference(tokens).logits)


def test_a_bert_without_a_pooler_is_taken():
    reference, tokens = shaken(BertModel(bert(BertModel).config, add_pooling_layer=False)), torch.randint(1, 31, (2, 7))
    assert_same(from_transformers(reference)(tokens), reference(tokens).last_hidden_state)


def test_another_s_class_of_the_same_name_is_refused():
    with pytest.raises(TypeError, match="from_transformers takes .*, got BertModel"):
        from_transformers(type("BertModel", (nn.Module,), {})())


# -- compiled models, and what no weight fills ------------------------------------------------------------------------


LAYERS = {"bert": "bert.encoder.layer", "gpt2": "transformer.h", "llama": "model.layers"}


@pytest.mark.parametrize("name", SMALL)
def test_a_compiled_model_is_taken_whole_or_by_layers(name):
    reference, tokens = shaken(SMALL[name]()), torch.randint(1, 31, (2, 7))
    expected = from_transformers(reference)(tokens)
    assert torch.equal(from_transformers(torch.compile(reference))(tokens), expected)
    layers = reference.get_submodule(LAYERS[name])
    layers[1] = torch.compile(layers[1])
    assert torch.equal(from_transformers(reference)(tokens), expected)


@pytest.mark.parametrize("build", [lambda: bert(BertModel), lambda: bert(BertForSequenceClassification),
                                   lambda: bert(BertForTokenClassification), lambda: bert(BertForQuestionAnswering),
                                   lambda: ResNetForImageClassification(RESNET), *SMALL.values()])
def test_nothing_stays_without_storage_and_no_table_is_lost(build):
    ours = from_transformers(build())
    tensors = dict((*ours.named_parameters(), *ours.named_buffers()))
    assert not any(tensor.is_meta for tensor in tensors.values())
    tables = set(tensors) - set(ours.state_dict())  # computed, so in no state dict
    assert not tables


def test_a_model_without_storage_is_refused():
    with torch.device("meta"):
        model = gpt2()
    with pytest.raises(ValueError, match="embedding.weight is to be filled with a tensor on the device 'meta'"):
        from_transformers(model)


@pytest.mark.parametrize("build", [*SMALL.values(), lambda: ResNetForImageClassification(RESNET)])
def test_nothing_is_drawn(build):
    """The model that is built anew for comparison draws no weights: what follows a conversion stays as it was."""
    model = build()
    before = torch.get_rng_state()
    from_transformers(model)
    assert torch.equal(torch.get_rng_state(), before)
