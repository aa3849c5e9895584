"""Videos of many prompts at once, and their quality: how near they are to other videos, and what
the judge sees in them."""

import os

import torch
import torch.nn.functional as F
from micro import dit_training, evaluation, export, measure, sampler, sparsity, tokenizer


class Setup:
    """Model, prompts and noise. `wanted`: records of scenes; the first noise has `noise_seed`."""

    def __init__(self, model, wanted, num_steps, noise_seed, device, cfg=None):
        self.models, self.config = export.load_directory(model, device)
        self.cfg = cfg or self.config["generation"]["cfg_scale"]
        self.sigmas = self.levels(num_steps)
        self.wanted = wanted
        ids, counts = tokenizer.encode(tokenizer.load(model / "tokenizer" / "spiece.model"),
                                       [record["prompt"] for record in wanted])
        longest = int(counts.max())
        self.ids = torch.from_numpy(ids[:, :longest]).to(device)
        self.counts = torch.from_numpy(counts).to(device)
        self.noise = torch.stack([
            torch.randn(dit_training.latent_shape(),
                        generator=torch.Generator().manual_seed(noise_seed + i))
            for i in range(len(wanted))]).to(device)

    def levels(self, num_steps):
        generation = self.config["generation"]
        linear = max(1, round(generation["linear_steps"] * num_steps / generation["num_steps"]))
        return sampler.sigmas(num_steps, generation["threshold_noise"], linear)

    @torch.no_grad()
    def features(self):
        """T5's features [B, L, width] of the prompts; those of padding are zeros."""
        mask = torch.arange(self.ids.shape[1], device=self.ids.device) < self.counts[:, None]
        return self.models["text_encoder"](self.ids, mask) * mask[..., None]

    def sample(self, config, skipping=None):
        return sparsity.sample(self.models["dit"], self.models["text_encoder"], self.ids,
                               self.counts, self.noise, self.cfg, self.sigmas, config, skipping)

    def decode(self, latents):
        mean, std = (torch.tensor(self.config["vae"][key], device=latents.device)
                     for key in ("latent_mean", "latent_std"))
        return torch.cat([sampler.decode(self.models["decoder"], z, mean, std, torch.float32)
                          for z in latents.split(4)])


def relative_error(a, b):
    """‖a − b‖ / ‖b‖ of each sample [B]."""
    return (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)


def psnr(a, b):
    """PSNR over all bytes of each video [B]."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(255 ** 2 / error.clamp(min=1e-3))


def ssim(a, b):
    """Mean over frames and windows [B]: luma, 11 × 11 Gaussian of 1.5, as `mochi compare`."""
    x = torch.arange(11, dtype=torch.float64, device=a.device) - 5
    kernel = torch.exp(-x * x / 4.5)
    kernel = kernel / kernel.sum()
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=a.device)

    def blur(plane):
        return F.conv2d(F.conv2d(plane, kernel.view(1, 1, 1, 11)), kernel.view(1, 1, 11, 1))

    result = []
    for first, second in zip(a, b):
        p, q = ((video.double() @ weights)[:, None] for video in (first, second))
        mp, mq = blur(p), blur(q)
        vp, vq, cov = blur(p * p) - mp * mp, blur(q * q) - mq * mq, blur(p * q) - mp * mq
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        value = (2 * mp * mq + c1) * (2 * cov + c2) / ((mp * mp + mq * mq + c1) * (vp + vq + c2))
        result.append(value.mean())
    return torch.stack(result)


def means(measures, digits=4):
    """Means over the videos of measures [B] by name, and under "videos" their values."""
    videos = {key: [round(x, digits) for x in value.tolist()] for key, value in measures.items()}
    return {**{key: round(sum(v) / len(v), digits) for key, v in videos.items()}, "videos": videos}


def compare(latents, videos, reference_latents, reference_videos):
    """Measures [B] of the distance from the reference."""
    return {"latent_error": relative_error(latents, reference_latents),
            "psnr": psnr(videos, reference_videos), "ssim": ssim(videos, reference_videos)}


def judge(videos, wanted):
    """Percentages of right answers over all prompts."""
    results = evaluation.judge_all(list(videos.cpu().numpy()), wanted, os.cpu_count())
    summary = measure.summary(results, wanted)["all"]
    return {key: value for key, value in summary.items() if key != "num_prompts"}


def device_name(device):
    return torch.cuda.get_device_name() if device == "cuda" else device
