"""Sizes of the micro model, in the form of a model directory's config.json."""

WIDTH = 320
HEIGHT = 192
NUM_FRAMES = 43
FPS = 24
MAX_TEXT_TOKENS = 64

CONFIG = {
    "model_type": "mochi",
    "dit": {
        "depth": 8, "num_heads": 2, "hidden_size_x": 256, "hidden_size_y": 128,
        "mlp_hidden_x": 512, "mlp_hidden_y": 256, "patch_size": 2, "latent_channels": 12,
        "text_width": 128, "max_text_tokens": MAX_TEXT_TOKENS, "timestep_features": 256,
        "pooler_heads": 8,
    },
    "text_encoder": {
        "num_layers": 3, "hidden_size": 128, "num_heads": 4, "head_dim": 32,
        "feed_forward_size": 256, "num_buckets": 32, "max_distance": 128, "vocab_size": 384,
    },
    "vae": {
        "latent_channels": 12, "norm_groups": 4,
        "decoder_channels": [96, 64, 48, 16], "decoder_res_blocks": [1, 1, 2, 2, 1],
        "encoder_channels": [16, 48, 64, 64], "encoder_res_blocks": [1, 1, 1, 1, 1],
        "encoder_attention": [False, False, False, False, False],
        "encoder_attention_head_dim": 16,
        "temporal_factors": [3, 2, 1], "spatial_factors": [2, 2, 2],
        "fourier_frequencies": [6, 7],
        "latent_mean": [0.0] * 12, "latent_std": [1.0] * 12,
    },
    "generation": {
        "width": WIDTH, "height": HEIGHT, "num_frames": NUM_FRAMES, "fps": FPS,
        "num_steps": 64, "cfg_scale": 4.5, "threshold_noise": 0.025, "linear_steps": 32,
        "negative_prompt": "",
        "prompt": "a large green ring moves to the left on a dark background",
    },
}
