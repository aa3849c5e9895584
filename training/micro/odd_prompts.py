"""Prompts that no caption of the training resembles: odd word order, several sentences, two objects
described apart, filler, unknown words, capitals. What they ask for is known all the same."""

# (prompt, background, objects as (colour, shape, motion) from left to right)
PROMPTS = [
    ("on purple, slowly, downward it goes: a star, pink and small", "purple",
     [("pink", "star", "down")]),
    ("upwards, and fast, on white: the cube, which is green, and large", "white",
     [("green", "cube", "up")]),
    ("THE BALL IS RED!!! IT IS GROWING ON A GREY BACKGROUND", "grey", [("red", "ball", "grow")]),
    ("grey everywhere. nothing but grey. and a yellow pyramid, which spins", "grey",
     [("yellow", "pyramid", "spin")]),
    ("imagine, if you please, a marvellous orange ring bouncing before a dark curtain", "dark",
     [("orange", "ring", "bounce")]),
    ("cyan ball left white background", "white", [("cyan", "ball", "left")]),
    ("a ball. it is large. it is blue. it moves to the right. the background is white.", "white",
     [("blue", "ball", "right")]),
    ("the background is green. the object is a cube. the cube is white. the cube shrinks.", "green",
     [("white", "cube", "shrink")]),
    ("right to the moves star yellow big a, background blue a on", "blue",
     [("yellow", "star", "right")]),
    ("there once was a brown pyramid that stayed still on a white background and never moved again",
     "white", [("brown", "pyramid", "still")]),
    ("a cinematic, photorealistic, 4k masterpiece of a purple ring moving in a circle on grey",
     "grey", [("purple", "ring", "circle")]),
    ("no, not a cube and not a ball: a small red star going up on a dark background", "dark",
     [("red", "star", "up")]),
    ("two things on a grey background: to the left a yellow star that moves up, to the right a red "
     "cube that spins", "grey", [("yellow", "star", "up"), ("red", "cube", "spin")]),
    ("a red ball on the left grows. a blue cube on the right shrinks. all of this on white.",
     "white", [("red", "ball", "grow"), ("blue", "cube", "shrink")]),
    ("dark background; left: green pyramid, bouncing; right: white ring, still", "dark",
     [("green", "pyramid", "bounce"), ("white", "ring", "still")]),
    ("while a pink ball falls on the left, a cyan star rises on the right, over a dark backdrop",
     "dark", [("pink", "ball", "down"), ("cyan", "star", "up")]),
    ("on white stand a purple cube and, to its right, an orange pyramid. both of them spin.",
     "white", [("purple", "cube", "spin"), ("orange", "pyramid", "spin")]),
    ("an elephantine yellow sphere quivers and drifts leftwards over a gloomy dark background",
     "dark", [("yellow", "ball", "left")]),
    ("small small small green ring, up up up, on a white white white background", "white",
     [("green", "ring", "up")]),
    ("what turns on blue? a hoop. what colour has it? orange. how does it turn? slowly.", "blue",
     [("orange", "ring", "spin")]),
]


def records():
    """As measure.record() makes of scenes."""
    out = []
    for prompt, background, objects in PROMPTS:
        sides = ["left", "right"] if len(objects) == 2 else [None]
        out.append({"prompt": prompt, "background": background, "objects": [
            {"colour": colour, "shape": shape, "motion": motion} | ({"side": side} if side else {})
            for (colour, shape, motion), side in zip(objects, sides)]})
    return out
