"""Compares two builds by the bytes of 20 short videos of the micro model: dense and sparse, with
skipped steps, offloaded, in smaller types, and resumed after a signal.

Usage: same_videos.py BEFORE AFTER MODEL_DIR [DEVICE]
BEFORE and AFTER are two programs `mochi`. Prints a hash for each video, and exits with 1 if one differs.
"""

import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a small red ball moves to the right on a white background"
STEPS = ["--num-steps", "12", "--skip", "off"]
SPARSE = """\
patchify: {is_enabled: true}
attn: {is_enabled: true, top_keys: 0.15, random_keys: 0.01, local_voxels: 1, first_n_dense_layers: 1,
       full_step_schedule: !!set {0, 1, 4, 8}, counts_multiple_of: 16%s}
"""
CONFIGS = {
    "sparse": SPARSE % "",
    "sparse, fp8 caches": SPARSE % ", cache_dtype: fp8",
    "sparse, subtract": SPARSE % ", delta: subtract",
    "sparse, lse_merge": SPARSE % ", delta: lse_merge",
    "sparse, no delta": SPARSE % ", delta: none",
    "sparse, kept mask": SPARSE % ", recompute_mask: false",
    "sparse feed-forward": SPARSE % "" + "mlp: {is_enabled: true, top_keys: 0.3, random_keys: 0.05, "
    "full_step_every: 4, first_n_dense_layers: 1, counts_multiple_of: 8}\n",
    "step caching": SPARSE % ""
    + "step_caching: {is_enabled: true, skip_step_schedule: !!set {3, 6, 7, 10}}\n",
    "sparse, skipping": SPARSE % ""
    + "step_skipping: {rule: line, threshold: 0.2, correct_path: true, warm_up: 2}\n",
}
DENSE = {
    "dense": STEPS,
    "dense, no guidance": [*STEPS, "--cfg-scale", "1"],
    "dense, negative prompt": [*STEPS, "--negative-prompt", "dark"],
    "dense, fp32": [*STEPS, "--dtype", "fp32"],
    "dense, offloaded": [*STEPS, "--cpu-offload"],
    "dense, q8_0": [*STEPS, "--weights", "q8_0"],
    "dense, 43 frames": [*STEPS, "--num-frames", "43"],
    "careful": ["--skip", "careful", "--no-sparsity"],
    "fast": ["--skip", "fast", "--no-sparsity"],
}


class Build:
    def __init__(self, program, model_dir, device, folder):
        self.command = [program, "generate", "--model-dir", model_dir, "--device", device, "--prompt", PROMPT]
        self.out = Path(folder) / "video.y4m"

    def start(self, flags):
        return subprocess.Popen([*self.command, *flags, "--out", self.out], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def digest(self, flags):
        process = self.start(flags)
        _, messages = process.communicate()
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, flags))}: {messages}")
        digest = hashlib.sha256(self.out.read_bytes()).hexdigest()[:24]
        for path in self.out.parent.glob("video.y4m*"):
            path.unlink()
        return digest

    def digest_of_resumed(self, flags):
        """Ends the first run once it has written a checkpoint."""
        process = self.start(flags)
        begin = time.monotonic()
        while not list(self.out.parent.glob("*.checkpoint*")) and time.monotonic() - begin < 300:
            if process.poll() is not None:
                sys.exit("the video was complete before it could be interrupted")
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        return self.digest([*flags, "--resume"])


def list_videos(folder):
    """(name, flags) of each video that one run makes."""
    for seed, (name, flags) in enumerate(DENSE.items()):
        size = [] if "--num-frames" in flags else ["--num-frames", "19"]
        yield name, [*flags, *size, "--seed", str(seed)]
    for seed, (name, text) in enumerate(CONFIGS.items(), len(DENSE)):
        path = Path(folder) / f"{seed}.yml"
        path.write_text(text)
        flags = ["--chipmunk-config", path, "--num-frames", "19", "--num-steps", "12", "--seed", str(seed)]
        yield name, flags
        if name == "sparse":
            yield "sparse, offloaded weights", [*flags, "--cpu-offload"]


def main():
    before, after, model_dir, *rest = sys.argv[1:]
    device = rest[0] if rest else "auto"
    num_different = 0
    with tempfile.TemporaryDirectory() as folder:
        builds = [Build(program, model_dir, device, folder) for program in (before, after)]

        def compare(name, digests):
            nonlocal num_different
            is_same = digests[0] == digests[1]
            num_different += not is_same
            print(f"{digests[0]}  {name}" if is_same else f"{digests[0]} != {digests[1]}  {name}", flush=True)

        for name, flags in list_videos(folder):
            compare(name, [build.digest(flags) for build in builds])
        config = Path(folder) / f"{len(DENSE)}.yml"
        flags = ["--chipmunk-config", config, "--num-frames", "19", "--num-steps", "64", "--seed", "77",
                 "--checkpoint-every", "4"]
        compare("sparse, resumed", [build.digest_of_resumed(flags) for build in builds])
    print("all alike" if num_different == 0 else f"{num_different} differ")
    sys.exit(1 if num_different else 0)


if __name__ == "__main__":
    main()
