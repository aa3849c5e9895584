"""The SentencePiece tokenizer: a unigram model trained on captions, special ids as in T5."""

import io
import random

import numpy as np
import sentencepiece as spm

from micro import scenes
from micro.config import CONFIG

PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
TEXT_LENGTH = CONFIG["dit"]["max_text_tokens"]  # captions are padded to this in training


def train(path, num_captions=20000, seed=1):
    rng = random.Random(seed)
    captions = [scenes.caption(rng, scenes.sample_scene(rng)) for _ in range(num_captions)]
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(captions), model_writer=model, model_type="unigram",
        vocab_size=CONFIG["text_encoder"]["vocab_size"] - 64, hard_vocab_limit=False,
        character_coverage=1.0, required_chars="abcdefghijklmnopqrstuvwxyz0123456789.,!?'-",
        normalization_rule_name="nmt_nfkc_cf", pad_id=PAD_ID, eos_id=EOS_ID, unk_id=UNK_ID,
        bos_id=-1, pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>", minloglevel=2,
        num_threads=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())
    return load(path)


def load(path):
    return spm.SentencePieceProcessor(model_file=str(path))


def encode(processor, texts, length=TEXT_LENGTH):
    """Token ids [N, length] and counts [N]; an empty text has no token at all.

    At least one place stays padding, which the packed attention relies on.
    """
    ids = np.zeros((len(texts), length), np.int64)
    counts = np.zeros(len(texts), np.int64)
    for i, text in enumerate(texts):
        if not text:
            continue
        tokens = processor.encode(text)[:length - 2] + [EOS_ID]
        ids[i, :len(tokens)] = tokens
        counts[i] = len(tokens)
    return ids, counts
