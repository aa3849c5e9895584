"""A tiny SentencePiece model of T5's kind, and tokenisations by the sentencepiece library."""

import io
import itertools
import random

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from generators.common import GOLDEN_DIR, write_json

MAX_TOKENS = 256
EOS_ID = 1

SIZES = ("tiny", "small", "little", "big", "large", "huge")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "pink", "white", "brown")
SHAPES = ("ball", "cube", "pyramid", "ring", "star")
MOTIONS = (
    "moves slowly to the left",
    "drifts quickly to the right",
    "rises above a grey background",
    "falls towards the ground, then bounces",
    "spins in front of a dark backdrop",
    "grows while the camera doesn't move",
)
SYLLABLES = ("ba", "con", "del", "ent", "for", "gra", "hol", "ing", "ka", "lo", "men", "nor") + (
    "pre", "qui", "ra", "shi", "ter", "un", "vel", "wor", "xi", "ly", "zo", "th")


def corpus():
    for size, colour, shape, motion in itertools.product(SIZES, COLOURS, SHAPES, MOTIONS):
        yield f"A {size} {colour} {shape} {motion}."
    for first, second in itertools.product(COLOURS, repeat=2):
        yield f"Close-up: the {first} one (at 30 fps, 480p) & the {second} one; naïve café style!"
    rng = random.Random(0)  # made-up words give the trainer pieces of many lengths to choose from
    for _ in range(2000):
        yield " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(8))


def train(path):
    """Ids, normalisation and dummy prefix as in T5's spiece.model; about 240 KB of it is NFKC."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(),
        model_writer=model,
        model_type="unigram",
        vocab_size=300,
        character_coverage=1.0,
        pad_id=0,
        eos_id=EOS_ID,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())


def texts():
    long_text = " ".join(f"{COLOURS[i % 10]} {SHAPES[i % 7 % 5]}" for i in range(5000))
    return [
        "",
        " ",
        "\n\t ",
        "a",
        "A small red ball moves slowly to the left.",
        "  leading and trailing   ",
        "multiple    inner \t whitespace",
        "one line\nanother line\r\na third",
        "naïve café, ＦＵＬＬ ｗｉｄｔｈ and ﬁne ligatures",
        "decomposed: nai\u0308ve cafe\u0301",
        "日本語のテキスト と 中文",
        "Привет, мир",
        "a 🔴 ball and a 👩‍👩‍👧‍👦 family 🏳️‍🌈",
        "zero\u200bwidth, no\u00a0break, soft\u00adhyphen, \ufeffbom, control \u0001 \u007f",
        "<>{}[]()\\|/~`^%$#@!*+=?;:'\",.…—–«»“”",
        "</s> <pad> <unk> <extra_id_0> are words here",
        "▁ the meta symbol ▁▁ itself",
        "x" * 3000,
        "red " * 254,  # one token short of the limit with </s>, at it, and over it
        "red " * 255,
        "red " * 256,
        long_text,
    ]


def convert(path):
    """Writes spiece.model as a tokenizer.json of T5, with the extra ids that it has in addition."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    extra = [f"<extra_id_{i}>" for i in range(100)]
    vocab = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.Unigram(vocab + [(piece, 0.0) for piece in reversed(extra)], unk_id=2))
    charsmap = model.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = tokenizers.normalizers.Precompiled(charsmap)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Metaspace()])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS_ID)])
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(piece) for piece in ["<pad>", "</s>", "<unk>", *extra]])
    tokenizer.save(str(path.with_name("tokenizer.json")), pretty=False)


def tokenize(processor, text):
    return processor.encode(text)[: MAX_TOKENS - 1] + [EOS_ID]


def generate():
    print("tokenizer")
    path = GOLDEN_DIR / "tokenizer" / "spiece.model"
    train(path)
    convert(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    cases = [{"text": text, "ids": tokenize(processor, text)} for text in texts()]
    for case in cases:
        case["num_valid"] = len(case["ids"])
    write_json("tokenizer/cases", {"max_tokens": MAX_TOKENS, "pad_id": 0, "cases": cases})
    print(f"  {len(cases)} texts, {path.stat().st_size} bytes of model")
