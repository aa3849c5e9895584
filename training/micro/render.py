"""The renderer: signed distances and a little shading, vectorised over clips, frames and pixels.

One call draws every clip of a batch over the same window size and number of frames. All arithmetic
is per pixel, so torch.compile turns it into one kernel.
"""

import math

import torch

from micro.config import HEIGHT, WIDTH

LIGHT = (-0.48, -0.60, 0.64)
TUBE_CENTRE, TUBE_RADIUS = 0.75, 0.27
MARK = 0.64  # how dark a ball's stripe and a ring's mark are
PYRAMID = [(0.0, -1.08), (-1.0, 0.52), (0.18, 0.92), (1.0, 0.42)]
STAR_OUTER, STAR_INNER = 1.14, 0.52
CUBE_EDGE, CUBE_DEPTH = 1.3, 0.42


def _blend(value, radius):
    """0..1 over one pixel around value = 0 (value in units of the radius)."""
    return (0.5 + value * radius).clamp(0, 1)


def _ball(u, v, a, b, r):
    d2 = u * u + v * v
    nz = (1 - d2).clamp(min=0).sqrt()
    light = (u * LIGHT[0] + v * LIGHT[1] + nz * LIGHT[2]).clamp(min=0)
    stripe = _blend(0.24 - b.abs(), r)
    tone = (0.6 + 0.42 * light) * (1 - (1 - MARK) * stripe)
    return d2.sqrt() - 1, tone


def _cube(a, b, r):
    far = 0.45  # the front face spans [-near, far] across and [-far, near] down
    near, back = CUBE_EDGE - far, far + CUBE_DEPTH
    edge = near + far  # diagonal cuts join the front face to the back one
    sdf = torch.maximum(torch.maximum(-near - a, b - near), torch.maximum(a - back, -b - back))
    sdf = torch.maximum(sdf, torch.maximum(-a - b - edge, a + b - edge) * math.sqrt(0.5))
    front = _blend(torch.minimum(far - a, b + far), r)
    top = _blend((-a - b) * math.sqrt(0.5), r)
    return sdf, front * 0.82 + (1 - front) * (top * 1.04 + (1 - top) * 0.55)


def _pyramid(a, b, r):
    sdf = None
    for (x0, y0), (x1, y1) in zip(PYRAMID, PYRAMID[1:] + PYRAMID[:1]):
        ex, ey = x1 - x0, y1 - y0
        n = math.hypot(ex, ey)
        side = ((0.0 - x0) * ey - (0.2 - y0) * ex) / n
        d = ((a - x0) * ey - (b - y0) * ex) / n * (-1.0 if side > 0 else 1.0)
        sdf = d if sdf is None else torch.maximum(sdf, d)
    (x0, y0), (x1, y1) = PYRAMID[0], PYRAMID[2]
    ex, ey = x1 - x0, y1 - y0
    right = _blend(((a - x0) * ey - (b - y0) * ex) / math.hypot(ex, ey), r)
    return sdf, 1.03 - 0.47 * right


def _ring(u, v, a, r):
    d = (u * u + v * v + 1e-8).sqrt()
    t = ((d - TUBE_CENTRE) / TUBE_RADIUS).clamp(-1, 1)
    nz = (1 - t * t).sqrt()
    light = (u / d * t * LIGHT[0] + v / d * t * LIGHT[1] + nz * LIGHT[2]).clamp(min=0)
    mark = _blend((a / d - 0.5) * d, r)
    tone = (0.6 + 0.5 * light) * (1 - (1 - MARK) * mark)
    return (d - TUBE_CENTRE).abs() - TUBE_RADIUS, tone


def _star(a, b, r):
    d = (a * a + b * b + 1e-8).sqrt()
    sector = 2 * math.pi / 5
    turn = torch.remainder(torch.atan2(a, -b) + sector / 2, sector) - sector / 2
    fold = turn.abs()
    x, y = d * fold.cos(), d * fold.sin()
    ix, iy = STAR_INNER * math.cos(sector / 2), STAR_INNER * math.sin(sector / 2)
    ex, ey = ix - STAR_OUTER, iy
    sdf = ((x - STAR_OUTER) * -ey + y * ex) / math.hypot(ex, ey) * -1.0
    return sdf, 1.03 - 0.36 * _blend(turn * d, r)


def _object(px, py, path, kind):
    """Coverage, tone and shadow of one object in every pixel; path [B,T,4], kind [B]."""
    x, y, r, angle = (path[..., i, None, None] for i in range(4))
    u, v = (px - x) / r, (py - y) / r
    cos, sin = angle.cos(), angle.sin()
    a, b = u * cos + v * sin, v * cos - u * sin
    k = kind[:, None, None, None]
    sdf, tone = _ball(u, v, a, b, r)
    for i, (d, t) in enumerate((_cube(a, b, r), _pyramid(a, b, r), _ring(u, v, a, r),
                                _star(a, b, r))):
        sdf = torch.where(k == i + 1, d, sdf)
        tone = torch.where(k == i + 1, t, tone)
    su, sv = u - 0.14, v - 0.24
    away = (su * su + sv * sv).sqrt()
    away = torch.where(k == 3, (away - TUBE_CENTRE).abs() + 0.66, away)
    shadow = ((1.3 - away) / 0.75).clamp(0, 1)
    shadow = 0.4 * shadow * shadow * (3 - 2 * shadow)
    return _blend(-sdf, r), tone, shadow, _blend(4.0 / r - sdf, r)


def render(paths, kinds, colours, background, x0, y0, height, width):
    """Draws clips.

    paths [B,2,T,4], kinds [B,2], colours [B,2,3], background [B,2,3] (top, bottom), x0, y0 [B] the
    window's corner. Returns video [B,T,height,width,3] in 0..1, the objects' masks and the masks
    widened by four pixels [B,T,height,width].
    """
    dev = paths.device
    xs = torch.arange(width, device=dev, dtype=torch.float32) + 0.5
    ys = torch.arange(height, device=dev, dtype=torch.float32) + 0.5
    px = xs[None, None, None, :] + x0[:, None, None, None]
    py = ys[None, None, :, None] + y0[:, None, None, None]
    objects = [_object(px, py, paths[:, i], kinds[:, i]) for i in range(2)]
    light = (1 - objects[0][2]) * (1 - objects[1][2])
    down = (py / HEIGHT).clamp(0, 1)
    planes = []
    for c in range(3):
        top, bottom = (background[:, i, c, None, None, None] for i in range(2))
        plane = (top + (bottom - top) * down) * light
        for i, (cover, tone, _, _) in enumerate(objects):
            colour = (colours[:, i, c, None, None, None] * tone).clamp(max=1)
            plane = plane + (colour - plane) * cover
        planes.append(plane)
    mask = torch.maximum(objects[0][0], objects[1][0])
    wide = torch.maximum(objects[0][3], objects[1][3])
    return torch.stack(planes, -1), mask, wide


def render_full(arrays, frames=slice(None)):
    """Whole frames of every clip; arrays as `scenes.scene_arrays`, stacked into tensors."""
    paths, kinds, colours, background = arrays
    zero = torch.zeros(paths.shape[0], device=paths.device)
    return render(paths[:, :, frames], kinds, colours, background, zero, zero, HEIGHT, WIDTH)
