"""T5 encoder goldens: transformers' T5EncoderModel, whose key names are the checkpoint's own."""

import torch
from transformers import T5Config, T5EncoderModel

from generators.common import Draw, Tap, write_case, write_weights

PADDED_LENGTH = 256
# head_dim · num_heads differs from hidden_size, so that the two cannot be taken for each other.
CONFIG = {
    "num_layers": 3,
    "hidden_size": 36,
    "num_heads": 4,
    "head_dim": 10,
    "feed_forward_size": 76,
    "num_buckets": 32,
    "max_distance": 128,
    "vocab_size": 300,
}
SECTIONS = {"model_type": "mochi", "text_encoder": CONFIG}


def draw_weights(config, seed):
    draw = Draw(seed)
    width, inner = config["hidden_size"], config["num_heads"] * config["head_dim"]
    weights = {"shared.weight": draw.normal(config["vocab_size"], width)}
    for layer in range(config["num_layers"]):
        name = f"encoder.block.{layer}.layer"
        # No 1/√head_dim in this attention: a small q keeps the softmax from saturating.
        weights[f"{name}.0.SelfAttention.q.weight"] = draw.matrix(
            inner, width, gain=config["head_dim"] ** -0.5
        )
        weights[f"{name}.0.SelfAttention.k.weight"] = draw.matrix(inner, width)
        weights[f"{name}.0.SelfAttention.v.weight"] = draw.matrix(inner, width)
        weights[f"{name}.0.SelfAttention.o.weight"] = draw.matrix(width, inner, gain=2.0)
        if layer == 0:
            weights[f"{name}.0.SelfAttention.relative_attention_bias.weight"] = draw.normal(
                config["num_buckets"], config["num_heads"]
            )
        weights[f"{name}.0.layer_norm.weight"] = draw.norm_weight(width)
        size = config["feed_forward_size"]
        weights[f"{name}.1.DenseReluDense.wi_0.weight"] = draw.matrix(size, width)
        weights[f"{name}.1.DenseReluDense.wi_1.weight"] = draw.matrix(size, width)
        weights[f"{name}.1.DenseReluDense.wo.weight"] = draw.matrix(width, size, gain=1.5)
        weights[f"{name}.1.layer_norm.weight"] = draw.norm_weight(width)
    weights["encoder.final_layer_norm.weight"] = draw.norm_weight(width)
    return weights


def make_model(config, weights):
    model = T5EncoderModel(
        T5Config(
            vocab_size=config["vocab_size"],
            d_model=config["hidden_size"],
            d_kv=config["head_dim"],
            d_ff=config["feed_forward_size"],
            num_layers=config["num_layers"],
            num_heads=config["num_heads"],
            relative_attention_num_buckets=config["num_buckets"],
            relative_attention_max_distance=config["max_distance"],
            feed_forward_proj="gated-gelu",
            layer_norm_epsilon=1e-6,
            attn_implementation="eager",
        )
    ).eval()
    shared = {"encoder.embed_tokens.weight": weights["shared.weight"]}
    model.load_state_dict({**weights, **shared}, strict=True)
    return model


@torch.no_grad()
def run(model, ids, padded_length=PADDED_LENGTH):
    """Features of the valid tokens, computed with padding up to `padded_length`, masked."""
    num_tokens = ids.shape[0]
    padded = torch.zeros(1, padded_length, dtype=torch.long)
    padded[0, :num_tokens] = ids
    mask = (torch.arange(padded_length) < num_tokens).long()[None]
    with Tap() as tap:
        tap.watch(model.encoder.block[0].layer[0], "layer0.attention", lambda out: out[0])
        tap.watch(model.encoder.block[0].layer[1], "layer0.feed_forward", lambda out: out)
        features = model(input_ids=padded, attention_mask=mask).last_hidden_state
    tap.values["features"] = features.float()
    return {name: value[0, :num_tokens] for name, value in tap.values.items()}


def generate():
    print("t5")
    weights = draw_weights(CONFIG, seed=500)
    write_weights("t5/weights", weights, SECTIONS)
    model = make_model(CONFIG, weights)
    bf16_model = make_model(CONFIG, weights).bfloat16()
    for num_tokens in (1, 7, 77, 256):
        ids = Draw(500 + num_tokens).integers(num_tokens, high=CONFIG["vocab_size"])
        ids[-1] = 1  # </s>
        inputs = {"ids": ids.int()}
        outputs, bf16_outputs = run(model, ids), run(bf16_model, ids)
        alone = run(model, ids, padded_length=num_tokens)
        assert torch.allclose(alone["features"], outputs["features"], rtol=1e-4, atol=1e-5)
        write_case(f"t5/tokens{num_tokens}", inputs, outputs, bf16_outputs, SECTIONS)
