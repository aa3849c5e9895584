"""Scenes, captions, renderer and judge."""

import itertools
import json
import pathlib
import random
import re

import numpy as np
import pytest
import torch

from micro import measure, render, scenes


MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "micro"


def clip(scene, frames=slice(None)):
    arrays = [torch.from_numpy(a)[None] for a in scenes.scene_arrays(scene)]
    video, mask, wide = render.render_full(arrays, frames)
    return video[0], mask[0], wide[0]


def triples():
    return itertools.product(scenes.SHAPES, scenes.COLOURS, scenes.MOTIONS)


def test_held_out_share_and_pairs_stay_known():
    kept = [t for t in triples() if not scenes.is_held_out(*t)]
    share = 1 - len(kept) / len(list(triples()))
    assert 0.08 < share < 0.18
    for a, b in ((0, 1), (0, 2), (1, 2)):
        known = {(t[a], t[b]) for t in kept}
        assert known == {(t[a], t[b]) for t in triples()}


@pytest.mark.parametrize("split", ["train", "test"])
def test_splits_do_not_meet(split):
    rng = random.Random(3)
    for _ in range(300):
        scene = scenes.sample_scene(rng, split)
        held = [scenes.is_held_out(o.shape, o.colour, o.motion) for o in scene.objects]
        assert any(held) == (split == "test")


def test_full_captions_tell_everything():
    for scene, text in scenes.test_prompts(60):
        for obj in scene.objects:
            words = scenes.COLOUR_WORDS.get(obj.colour, [obj.colour])
            assert any(w in text for w in words)
            assert any(w in text for w in scenes.SHAPE_WORDS[obj.shape])
            assert any(w in text for w in scenes.SIZE_WORDS[obj.size])
        backgrounds = scenes.BACKGROUND_WORDS.get(scene.background, [scene.background])
        assert any(w in text for w in backgrounds)


def test_prompts_are_the_same_every_time():
    assert [p for _, p in scenes.test_prompts(20)] == [p for _, p in scenes.test_prompts(20)]


@pytest.mark.parametrize("shape", scenes.SHAPES)
def test_render_ranges_and_mask(shape):
    obj = scenes.Object(shape, "red", "still", "large", "slow")
    video, mask, wide = clip(scenes.Scene([obj], "dark", False, 5), [0])
    assert video.shape == (1, 192, 320, 3) and 0 <= video.min() and video.max() <= 1
    assert 1500 < mask.sum() < 6000 and (wide >= mask).all()
    assert video[mask > 0.99][:, 0].mean() > 3 * video[mask > 0.99][:, 2].mean()


def test_window_is_a_part_of_the_frame():
    scene = scenes.sample_scene(random.Random(8), two=True)
    paths, kinds, colours, background = (torch.from_numpy(a)[None]
                                         for a in scenes.scene_arrays(scene))
    whole, _, _ = clip(scene, [7])
    part, _, _ = render.render(paths[:, :, [7]], kinds, colours, background,
                               torch.tensor([40.0]), torch.tensor([30.0]), 64, 96)
    assert torch.allclose(part[0, 0], whole[0, 30:94, 40:136], atol=1e-5)


def test_motion_goes_where_it_says():
    for motion, axis, sign in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)):
        obj = scenes.Object("ball", "red", motion, "small", "fast")
        paths, *_ = scenes.scene_arrays(scenes.Scene([obj], "dark", False, 1))
        assert sign * (paths[0, -1, axis] - paths[0, 0, axis]) > 50


def test_judge_on_truth():
    jobs = []
    for scene, prompt in scenes.test_prompts(9, seed=21):
        video, _, _ = clip(scene, list(range(0, 43, 2)))
        frames = np.repeat((video.numpy() * 255 + 0.5).astype(np.uint8), measure.FRAME_STEP, 0)
        jobs.append((frames, measure.record(scene, prompt)))
    results = [measure.judge(job) for job in jobs]
    assert all(min(r["score"].values()) == 1 for r in results)


def test_judge_sees_what_is_wrong():
    scene = scenes.Scene([scenes.Object("star", "red", "left", "large", "fast")], "dark", False, 1)
    video, _, _ = clip(scene, list(range(0, 43, 2)))
    frames = np.repeat((video.numpy() * 255 + 0.5).astype(np.uint8), measure.FRAME_STEP, 0)
    other = scenes.Scene([scenes.Object("ring", "blue", "up", "large", "fast")], "grey", False, 1)
    found = measure.judge((frames, measure.record(other, "")))["score"]
    assert set(found.values()) == {0.0}


def test_config_names_every_word_of_the_captions():
    words = set(scenes.vocabulary())
    rng = random.Random(3)
    for index in range(3000):
        text = scenes.caption(rng, scenes.sample_scene(rng), full=index % 2 == 0)
        assert set(re.findall(r"[^\s.,]+", text)) <= words
    config = json.loads((MODEL / "config.json").read_text())
    assert config["trained_on"]["words"] == sorted(words)
