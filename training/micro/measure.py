"""Judges a video by its frames alone: colours, background, motion and shape of what moves in it.

The background is read off the left and right borders, row by row; what is neither the background
nor a shadow on it is an object. Connected regions are followed over time by colour.
"""

import functools
import math

import numpy as np
import torch
from scipy import ndimage

from micro import render, scenes

FRAME_STEP = 2
BORDER = 9
THRESHOLD = 19.0  # distance of an object's pixel from the background, of 255
MIN_AREA = 90
GRID, REACH = 36, 1.9  # silhouettes are compared on GRID x GRID points within REACH mean radii
ROTATIONS = 72
ANGLES = 90


def background_rows(video):
    """The background's colour in every row: [H, 3]."""
    sides = np.concatenate([video[:, :, :BORDER], video[:, :, -BORDER:]], 2).astype(np.float32)
    rows = np.median(sides, axis=(0, 2))
    return ndimage.median_filter(rows, size=(9, 1), mode="nearest")


def object_mask(frame, rows):
    """Pixels that are no shade of their row's background (half as bright to a little brighter)."""
    p = frame.astype(np.float32)
    b = rows[:, None]
    s = (p * b).sum(-1) / np.maximum((b * b).sum(-1), 1.0)
    s = np.clip(s, 0.5, 1.04)[..., None]
    mask = np.sqrt(((p - s * b) ** 2).sum(-1)) > THRESHOLD
    return ndimage.binary_opening(mask, iterations=1)


def nearest_colour(pixels):
    """The palette's name for a region, from the brighter half of its pixels."""
    bright = pixels[pixels.max(1) >= np.median(pixels.max(1))]
    p = np.median(bright, axis=0)
    best, name = np.inf, ""
    for key, value in scenes.COLOURS.items():
        c = np.array(value, np.float32)
        s = np.clip((p * c).sum() / (c * c).sum(), 0.78, 1.04)
        d = np.linalg.norm(p - s * c)
        if d < best:
            best, name = d, key
    return name


def regions(frame, mask):
    """Every region of some size: dict with its mask, area, centroid and colour, largest first."""
    labels, num = ndimage.label(mask, structure=np.ones((3, 3)))
    out = []
    for i, box in enumerate(ndimage.find_objects(labels), 1):
        part = labels[box] == i
        area = int(part.sum())
        if area < MIN_AREA:
            continue
        inner = ndimage.binary_erosion(part, iterations=2)
        chosen = inner if inner.sum() >= 25 else part
        cy, cx = ndimage.center_of_mass(part)
        out.append({"part": part, "box": box, "area": area, "x": cx + box[1].start,
                    "y": cy + box[0].start,
                    "colour": nearest_colour(frame[box][chosen].astype(np.float32))})
    return sorted(out, key=lambda r: -r["area"])


# ---------------------------------------------------------------- shape

def _silhouette(mask, cx, cy, radius):
    axis = (np.arange(GRID) + 0.5) / GRID * 2 * REACH - REACH
    ys, xs = np.meshgrid(cy + axis * radius, cx + axis * radius, indexing="ij")
    return ndimage.map_coordinates(mask.astype(np.float32), [ys, xs], order=1)


@functools.lru_cache(maxsize=1)
def templates():
    """Silhouettes of every shape in every rotation, [shapes, rotations, GRID * GRID]."""
    size, radius = 192, 55.0
    out = []
    for kind in range(len(scenes.SHAPES)):
        paths = torch.full((ROTATIONS, 2, 1, 4), -1000.0)
        paths[:, :, :, 2] = 10.0
        paths[:, 0, :, :3] = torch.tensor([size / 2, size / 2, radius])
        paths[:, 0, 0, 3] = torch.arange(ROTATIONS) * (2 * math.pi / ROTATIONS)
        zero = torch.zeros(ROTATIONS)
        _, masks, _ = render.render(paths, torch.full((ROTATIONS, 2), kind),
                                    torch.ones(ROTATIONS, 2, 3), torch.zeros(ROTATIONS, 2, 3),
                                    zero, zero, size, size)
        rows = []
        for mask in masks[:, 0].numpy():
            cy, cx = ndimage.center_of_mass(mask)
            rows.append(_silhouette(mask, cx, cy, math.sqrt(mask.sum() / math.pi)).ravel())
        out.append(np.stack(rows))
    return np.stack(out)


def shape_scores(region):
    """Best overlap (intersection over union) with every shape, over all rotations."""
    mask = np.pad(region["part"], 3)
    cy, cx = ndimage.center_of_mass(mask)
    s = _silhouette(mask, cx, cy, math.sqrt(region["area"] / math.pi)).ravel()
    t = templates()
    both = np.minimum(t, s).sum(-1)
    return (both / (t.sum(-1) + s.sum() - both)).max(-1)


# ---------------------------------------------------------------- motion

def _polar(frame, region):
    """Brightness by angle on a few circles around the centroid."""
    radius = math.sqrt(region["area"] / math.pi)
    angle = np.arange(ANGLES) * (2 * math.pi / ANGLES)
    rings = []
    for part in (0.45, 0.65, 0.85, 1.0, 1.15):
        ys = region["y"] + part * radius * np.sin(angle)
        xs = region["x"] + part * radius * np.cos(angle)
        rings.append(ndimage.map_coordinates(frame, [ys, xs], order=1, mode="nearest"))
    return np.stack(rings)


def _turn(before, after):
    """Degrees that the pattern turned, between -44 and 44.

    The mean and the first harmonic, which the fixed light makes, are left out.
    """
    fa, fb = np.fft.rfft(before, axis=1), np.fft.rfft(after, axis=1)
    fa[:, :2] = 0
    cross = np.fft.irfft((np.conj(fa) * fb).sum(0), ANGLES)
    limit = int(44 / 360 * ANGLES)
    shifts = np.arange(-limit, limit + 1)
    values = cross[shifts]
    k = int(values.argmax())
    shift = float(shifts[k])
    if 0 < k < len(values) - 1:
        curve = values[k - 1] - 2 * values[k] + values[k + 1]
        shift += 0.5 * (values[k - 1] - values[k + 1]) / curve if curve < 0 else 0.0
    return shift * 360 / ANGLES


def rotation(frames, track):
    seen = [(f.astype(np.float32).mean(-1), r) for f, r in zip(frames, track) if r is not None]
    patterns = [_polar(f, r) for f, r in seen[::2]]
    return sum(_turn(a, b) for a, b in zip(patterns, patterns[1:]))


def classify_motion(frames, track):
    seen = [r for r in track if r is not None]
    if len(seen) < 6:
        return "none"
    x = np.array([r["x"] for r in seen])
    y = np.array([r["y"] for r in seen])
    area = np.array([r["area"] for r in seen], np.float64)
    ratio = np.median(area[-3:]) / np.median(area[:3])
    if ratio > 1.45:
        return "grow"
    if ratio < 1 / 1.45:
        return "shrink"
    x_range = np.percentile(x, 96) - np.percentile(x, 4)
    y_range = np.percentile(y, 96) - np.percentile(y, 4)
    if max(x_range, y_range) < 13:
        return "spin" if rotation(frames, track) > 45 else "still"
    if min(x_range, y_range) > 0.45 * max(x_range, y_range):
        return "circle"
    if x_range > y_range:
        return "right" if x[-1] > x[0] else "left"
    net = y[-1] - y[0]
    if abs(net) < 0.6 * y_range:
        return "bounce"
    return "down" if net > 0 else "up"


# ---------------------------------------------------------------- the whole video

def classify_background(rows):
    mean = rows.mean(0)
    return min(scenes.BACKGROUNDS,
               key=lambda k: np.linalg.norm(mean - np.array(scenes.BACKGROUNDS[k])))


def describe(frames, track):
    """What a followed region is: shape, motion, side, mean radius."""
    seen = [r for r in track if r is not None]
    picked = seen[:: max(1, len(seen) // 8)]
    scores = np.mean([shape_scores(r) for r in picked], 0)
    return {"shape": scenes.SHAPES[int(scores.argmax())], "motion": classify_motion(frames, track),
            "side": "left" if np.mean([r["x"] for r in seen]) < frames.shape[2] / 2 else "right",
            "radius": round(float(np.sqrt(np.mean([r["area"] for r in seen]) / math.pi)), 1)}


def analyse(video, wanted):
    """What is seen of the wanted objects (a scene's record) in uint8 frames [T, H, W, 3]."""
    frames = video[::FRAME_STEP]
    rows = background_rows(frames)
    found = [regions(f, object_mask(f, rows)) for f in frames]
    objects = []
    for want in wanted["objects"]:
        if len(wanted["objects"]) == 1:
            track = [r[0] if r else None for r in found]
        else:
            track = [next((r for r in rs if r["colour"] == want["colour"]), None) for rs in found]
        seen = [r for r in track if r is not None]
        if len(seen) < 0.7 * len(frames):
            objects.append(None)
            continue
        names = [r["colour"] for r in seen]
        objects.append({"colour": max(set(names), key=names.count), **describe(frames, track)})
    return {"background": classify_background(rows), "objects": objects}


def score(seen, wanted):
    """Shares of right answers for one video; an object that is missing is wrong in everything."""
    num = len(wanted["objects"])
    out = {"background": float(seen["background"] == wanted["background"])}
    for key in ("colour", "shape", "motion"):
        out[key] = sum(o is not None and o[key] == w[key]
                       for o, w in zip(seen["objects"], wanted["objects"])) / num
    if num == 2:
        out["both_present"] = float(all(o is not None for o in seen["objects"]))
        out["sides"] = float(all(o is not None and o["side"] == w["side"]
                                 for o, w in zip(seen["objects"], wanted["objects"])))
    return out


def judge(job):
    video, wanted = job
    seen = analyse(video, wanted)
    return {"prompt": wanted["prompt"], "seen": seen, "score": score(seen, wanted)}


def record(scene, prompt):
    """A scene as plain data, for JSON."""
    objects = [vars(o) | ({"side": scene.sides[i]} if scene.sides else {})
               for i, o in enumerate(scene.objects)]
    return {"prompt": prompt, "objects": objects, "background": scene.background,
            "gradient": scene.gradient}


def summary(results, wanted):
    """Percentages: over all prompts, and over those with one and two objects."""
    groups = {"all": results,
              "one_object": [r for r, w in zip(results, wanted) if len(w["objects"]) == 1],
              "two_objects": [r for r, w in zip(results, wanted) if len(w["objects"]) == 2]}
    out = {}
    for name, group in groups.items():
        keys = sorted({k for r in group for k in r["score"]})
        out[name] = {k: round(100 * float(np.mean([r["score"][k] for r in group
                                                   if k in r["score"]])), 1) for k in keys}
        out[name]["num_prompts"] = len(group)
    return out
