"""Scenes (what moves where) and their captions.

A scene has one or two objects on a background. Every (shape, colour, motion) triple that
`is_held_out` marks is kept from training; the test prompts are made of just those.
"""

import math
import random
from dataclasses import dataclass, field

import numpy as np

from micro.config import HEIGHT, NUM_FRAMES, WIDTH

SHAPES = ["ball", "cube", "pyramid", "ring", "star"]
COLOURS = {
    "red": (222, 34, 38), "green": (44, 176, 62), "blue": (36, 78, 232),
    "yellow": (246, 218, 44), "orange": (250, 132, 20), "purple": (142, 48, 196),
    "cyan": (44, 212, 228), "pink": (252, 134, 190), "white": (246, 246, 246),
    "brown": (124, 72, 38),
}
BACKGROUNDS = {
    "dark": (20, 20, 27), "grey": (124, 124, 129), "blue": (38, 60, 132),
    "green": (40, 96, 58), "white": (236, 236, 239), "purple": (86, 50, 116),
}
MOTIONS = ["left", "right", "up", "down", "circle", "bounce", "grow", "shrink", "spin", "still"]
RADIUS = {"small": 23.0, "large": 38.0}
RADIUS_OF_TWO = {"small": 22.0, "large": 33.0}
HELD_OUT_SHARE = 8  # one triple in eight

# What a caption can tell, as label names with their values; a scene with one object has no second.
_SLOTS = {"shape": SHAPES, "colour": list(COLOURS), "motion": MOTIONS, "size": list(RADIUS),
          "speed": ["slow", "fast"]}
ATTRIBUTES = {"background": list(BACKGROUNDS), "gradient": [False, True], "objects": [1, 2],
              **{f"{slot} {key}": values for slot in ("left", "right")
                 for key, values in _SLOTS.items()}}
NO_LABEL = -100

SHAPE_WORDS = {"ball": ["ball", "ball", "sphere"], "cube": ["cube", "cube", "box"],
               "pyramid": ["pyramid"], "ring": ["ring", "ring", "hoop"], "star": ["star"]}
COLOUR_WORDS = {"purple": ["purple", "purple", "violet"], "cyan": ["cyan", "cyan", "turquoise"]}
SIZE_WORDS = {"small": ["small", "small", "little", "tiny"], "large": ["large", "big", "huge"]}
BACKGROUND_WORDS = {"dark": ["dark", "black"], "grey": ["grey", "gray"]}
SPEED_WORDS = {"slow": ["slowly", "slowly", "gently"], "fast": ["quickly", "fast", "rapidly"]}
# (third person, participle, plural, rest)
GO = [("moves", "moving", "move"), ("drifts", "drifting", "drift"), ("slides", "sliding", "slide"),
      ("travels", "travelling", "travel"), ("goes", "going", "go"), ("glides", "gliding", "glide")]


def _going(*rests):
    return [(*verb, rest) for verb in GO for rest in rests]


MOTION_WORDS = {
    "left": _going("left", "to the left", "to the left", "towards the left"),
    "right": _going("right", "to the right", "to the right", "towards the right"),
    "up": _going("up", "upwards")[:8] + [("rises", "rising", "rise", "")] * 4
    + [("climbs", "climbing", "climb", ""), ("floats", "floating", "float", "up")] * 2,
    "down": _going("down", "downwards")[:8] + [("falls", "falling", "fall", "")] * 3
    + [("sinks", "sinking", "sink", ""), ("drops", "dropping", "drop", ""),
       ("descends", "descending", "descend", "")] * 2,
    "circle": _going("in a circle", "in circles", "along a circle")
    + [("circles", "circling", "circle", "around"), ("circles", "circling", "circle", "")] * 4,
    "bounce": [("bounces", "bouncing", "bounce", ""),
               ("bounces", "bouncing", "bounce", "up and down"),
               ("jumps", "jumping", "jump", "up and down"),
               ("hops", "hopping", "hop", "up and down")],
    "grow": [("grows", "growing", "grow", ""), ("grows", "growing", "grow", "larger"),
             ("gets", "getting", "get", "bigger"), ("becomes", "becoming", "become", "larger"),
             ("expands", "expanding", "expand", "")],
    "shrink": [("shrinks", "shrinking", "shrink", ""), ("gets", "getting", "get", "smaller"),
               ("becomes", "becoming", "become", "smaller"),
               ("contracts", "contracting", "contract", "")],
    "spin": [("spins", "spinning", "spin", ""), ("spins", "spinning", "spin", "around"),
             ("rotates", "rotating", "rotate", ""), ("rotates", "rotating", "rotate", "in place"),
             ("turns", "turning", "turn", "around")],
    "still": [("stays", "staying", "stay", "still"), ("stands", "standing", "stand", "still"),
              ("rests", "resting", "rest", ""), ("stays", "staying", "stay", "in place"),
              ("remains", "remaining", "remain", "motionless")],
}


@dataclass
class Object:
    shape: str
    colour: str
    motion: str
    size: str
    speed: str


@dataclass
class Scene:
    objects: list
    background: str
    gradient: bool
    seed: int
    sides: list = field(default_factory=list)  # "left"/"right" of every object when there are two


def is_held_out(shape, colour, motion):
    """An integer hash of the triple decides, so that the split never depends on a random state."""
    n = (SHAPES.index(shape) * 100 + list(COLOURS).index(colour) * 10 + MOTIONS.index(motion) + 1)
    n = (n * 2654435761) & 0xFFFFFFFF
    n ^= n >> 15
    n = (n * 2246822519) & 0xFFFFFFFF
    n ^= n >> 13
    return n % HELD_OUT_SHARE == 0


def _clashes(colour, background):
    return colour == background or (colour, background) == ("white", "grey")


def _object(rng):
    return Object(rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.choice(MOTIONS),
                  rng.choice(list(RADIUS)), rng.choice(list(SPEED_WORDS)))


def _triple(obj):
    return obj.shape, obj.colour, obj.motion


def sample_scene(rng, split="train", two=None):
    """split: "train" (no held-out triple), "test" (every scene has at least one)."""
    if two is None:
        two = rng.random() < 0.4
    while True:
        objects = [_object(rng) for _ in range(2 if two else 1)]
        if two and rng.random() < 0.2:
            objects[1].motion, objects[1].speed = objects[0].motion, objects[0].speed
        background = rng.choice(list(BACKGROUNDS))
        held_out = [is_held_out(*_triple(o)) for o in objects]
        if (split == "train") == any(held_out):
            continue
        if any(_clashes(o.colour, background) for o in objects):
            continue
        if two and objects[0].colour == objects[1].colour:
            continue
        scene = Scene(objects, background, rng.random() < 0.35, rng.getrandbits(31))
        if two:
            scene.sides = rng.choice([["left", "right"], ["left", "right"], ["right", "left"]])
        return scene


# ---------------------------------------------------------------- captions

def _article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def _noun_phrase(rng, obj, full):
    words = [rng.choice(COLOUR_WORDS.get(obj.colour, [obj.colour])),
             rng.choice(SHAPE_WORDS[obj.shape])]
    if full or rng.random() < 0.65:
        words.insert(0, rng.choice(SIZE_WORDS[obj.size]))
    return _article(" ".join(words)), words[-1]


def _verb_phrase(rng, obj, form, full):
    verb = rng.choice(MOTION_WORDS[obj.motion])
    head, rest = verb[form], verb[3]
    if obj.motion == "still" or not (full or rng.random() < 0.55):
        return f"{head} {rest}".strip()
    adverb = rng.choice(SPEED_WORDS[obj.speed])
    style = rng.random()
    if style < 0.3 and adverb != "fast":
        return f"{adverb} {head} {rest}".strip()
    linking = head.startswith(("get", "becom"))
    if style < 0.65 and not linking:
        return f"{head} {adverb} {rest}".strip()
    return f"{head} {rest} {adverb}".replace("  ", " ")


def _background(rng, scene):
    """(preposition phrase, sentence)."""
    colour = rng.choice(BACKGROUND_WORDS.get(scene.background, [scene.background]))
    noun = rng.choice(["background", "background", "backdrop"])
    if scene.gradient and rng.random() < 0.8:
        adjective, says = f"{colour} gradient", f"a {colour} gradient"
    elif not scene.gradient and rng.random() < 0.25:
        adjective, says = f"plain {colour}", f"plain {colour}"
    else:
        adjective, says = colour, colour
    where = rng.choice(["on", "on", "in front of", "against", "over"])
    return f"{where} a {adjective} {noun}", f"the {noun} is {says}"


def _caption_of_one(rng, scene, bg, sentence, full):
    obj = scene.objects[0]
    np, noun = _noun_phrase(rng, obj, full)
    third = _verb_phrase(rng, obj, 0, full)
    doing = _verb_phrase(rng, obj, 1, full)
    if not bg:
        return rng.choice([f"{np} {third}", f"{np} {doing}", f"there is {np}. the {noun} {third}",
                           f"a video of {np} {doing}"])
    return rng.choice([
        f"{np} {third} {bg}", f"{np} {third} {bg}", f"{np} {doing} {bg}", f"{bg}, {np} {third}",
        f"{np} {third}. {sentence}", f"{sentence}. {np} {third}", f"{np} {bg} {third}",
        f"{np} {bg}. it {third}", f"there is {np} {bg}. the {noun} {third}",
        f"a video of {np} {doing} {bg}", f"{bg} there is {np} {doing}"])


def _caption_of_two(rng, scene, bg, sentence, full):
    first, second = scene.objects
    np1, _ = _noun_phrase(rng, first, full)
    np2, _ = _noun_phrase(rng, second, full)
    same = first.motion == second.motion and first.speed == second.speed
    if same and rng.random() < 0.6:
        text = f"{np1} and {np2} {_verb_phrase(rng, first, rng.choice([1, 2]), full)}"
        if scene.sides[0] == "right":
            text = text.replace(" and ", " on the right and ", 1)
    else:
        form = rng.choice([0, 0, 1])
        vp1, vp2 = (_verb_phrase(rng, o, form, full) for o in scene.objects)
        join = rng.choice(["and", "and", "while"])
        if scene.sides[0] == "right" or rng.random() < 0.3:  # reading order goes without saying
            s1, s2 = scene.sides
            text = rng.choice([f"{np1} on the {s1} {vp1} {join} {np2} on the {s2} {vp2}",
                               f"on the {s1} {np1} {vp1}, on the {s2} {np2} {vp2}"])
        else:
            text = f"{np1} {vp1} {join} {np2} {vp2}"
    if not bg:
        return text
    return rng.choice([f"{text} {bg}", f"{text} {bg}", f"{bg}, {text}", f"{text}. {sentence}",
                       f"{sentence}. {text}"])


def caption(rng, scene, full=False):
    """A caption; `full` ones tell size, speed and background, others may leave them out."""
    bg, sentence = _background(rng, scene)
    if not full and rng.random() < 0.15:
        bg = ""
    make = _caption_of_two if len(scene.objects) == 2 else _caption_of_one
    text = make(rng, scene, bg, sentence, full)
    if rng.random() < 0.3:
        text += "."
    return text


def vocabulary():
    """Every word that a caption can hold, sorted."""
    texts = ["there is a video of an the it on in front of against over and while plain gradient",
             "background backdrop", *SHAPES, *COLOURS, *BACKGROUNDS]
    for words in (SHAPE_WORDS, COLOUR_WORDS, SIZE_WORDS, BACKGROUND_WORDS, SPEED_WORDS):
        texts += [word for synonyms in words.values() for word in synonyms]
    texts += [form for verbs in MOTION_WORDS.values() for verb in verbs for form in verb]
    return sorted({word for text in texts for word in text.split()})


# ---------------------------------------------------------------- trajectories

def _path(obj, centre, radius, two, rng):
    """Per frame (x, y, radius, angle)."""
    u = np.linspace(0.0, 1.0, NUM_FRAMES)
    fast = obj.speed == "fast"
    x = np.full(NUM_FRAMES, centre[0])
    y = np.full(NUM_FRAMES, centre[1])
    r = np.full(NUM_FRAMES, radius)
    angle = np.full(NUM_FRAMES, rng.uniform(-0.12, 0.12))
    along = (u - 0.5) * rng.uniform(0.93, 1.07)
    dx = (70 if fast else 42) if two else (180 if fast else 95)
    dy = 90 if fast else 52
    if obj.motion == "left":
        x -= along * dx
    elif obj.motion == "right":
        x += along * dx
    elif obj.motion == "up":
        y -= along * dy
    elif obj.motion == "down":
        y += along * dy
    elif obj.motion == "circle":  # clockwise, from the top
        turn = 2 * math.pi * u * (1.0 if fast else 0.65) + rng.uniform(-0.2, 0.2)
        reach = 27.0 if two else 38.0
        x += reach * np.sin(turn)
        y -= reach * np.cos(turn)
    elif obj.motion == "bounce":
        height = 58.0
        y += height * (0.5 - np.abs(np.cos(math.pi * u * (2 if fast else 1))))
    elif obj.motion in ("grow", "shrink"):
        change = 0.36 if fast else 0.22
        r *= 1 + 2 * change * (u - 0.5) * (1 if obj.motion == "grow" else -1)
    elif obj.motion == "spin":  # clockwise
        angle += 2 * math.pi * u * (0.6 if fast else 0.32)
    return np.stack([x, y, r, angle], -1)


def scene_arrays(scene):
    """What the renderer needs: paths [2, T, 4], kinds [2], colours [2, 3], background [2, 3]."""
    rng = random.Random(scene.seed)
    two = len(scene.objects) == 2
    paths = np.zeros((2, NUM_FRAMES, 4), np.float32)
    paths[:, :, :3] = (-1000.0, -1000.0, 10.0)
    kinds = np.zeros(2, np.int64)
    colours = np.zeros((2, 3), np.float32)
    for i, obj in enumerate(scene.objects):
        cx = WIDTH / 2
        if two:
            cx = 84.0 if scene.sides[i] == "left" else WIDTH - 84.0
        centre = (cx + rng.uniform(-9, 9), HEIGHT / 2 + rng.uniform(-7, 7))
        radius = (RADIUS_OF_TWO if two else RADIUS)[obj.size] * rng.uniform(0.95, 1.05)
        paths[i] = _path(obj, centre, radius, two, rng)
        kinds[i] = SHAPES.index(obj.shape)
        tint = np.array([rng.uniform(0.97, 1.03) for _ in range(3)])
        colours[i] = np.clip(np.array(COLOURS[obj.colour]) * tint / 255, 0, 1)
    base = np.array(BACKGROUNDS[scene.background]) * rng.uniform(0.96, 1.04) / 255
    low, high = (0.68, 1.3) if scene.gradient else (1.0, 1.0)
    if scene.background == "white" and scene.gradient:
        low, high = 0.72, 1.04
    background = np.clip(np.stack([base * low, base * high]), 0, 1).astype(np.float32)
    return paths, kinds, colours, background


def labels(scene):
    """The index of every attribute of ATTRIBUTES; a single object counts as the left one."""
    out = [list(BACKGROUNDS).index(scene.background), int(scene.gradient), len(scene.objects) - 1]
    sides = scene.sides or ["left"]
    for slot in ("left", "right"):
        if slot in sides:
            obj = vars(scene.objects[sides.index(slot)])
            out += [values.index(obj[key]) for key, values in _SLOTS.items()]
        else:
            out += [NO_LABEL] * len(_SLOTS)
    return np.array(out, np.int64)


def test_prompts(num, seed=7):
    """`num` (scene, caption) pairs of the test split, a third of them with two objects."""
    rng = random.Random(seed)
    out = []
    for i in range(num):
        scene = sample_scene(rng, "test", two=i % 3 == 2)
        out.append((scene, caption(rng, scene, full=True)))
    return out
