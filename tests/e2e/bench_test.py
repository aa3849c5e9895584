#!/usr/bin/env python3
"""`mochi bench`, at sizes that take seconds.

Usage: bench_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import os
import re
import signal
import subprocess
import time
import unittest
import unittest.mock

from support import MOCHI, ProgramTest

MICRO = ("--size", "micro", "--device", "cpu", "--repetitions", 1)


class BenchTest(ProgramTest):
    def bench_ok(self, *args):
        done = self.run_mochi("bench", *args, *MICRO)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        return done.stdout

    def bench_json(self, *args):
        table = self.bench_ok(*args, "--json", "out.json")
        return table, json.loads(self.content("out.json"))

    def test_the_environment_sets_the_number_of_threads(self):
        for number, flags, wanted in ("1", (), 1), ("3", (), 3), ("3", ("--threads", 2), 2):
            with unittest.mock.patch.dict(os.environ, OMP_NUM_THREADS=number):
                self.assertEqual(self.bench_json("op", "silu", *flags)[1]["threads"], wanted)

    def test_a_signal_stops_the_measurement(self):
        for subject in ("op", "dit", "vae", "t5"):
            with self.subTest(subject):
                child = subprocess.Popen(
                    [MOCHI, "bench", subject, "--size", "micro", "--device", "cpu",
                     "--repetitions", "100000000"],
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                time.sleep(1)
                child.send_signal(signal.SIGTERM)
                try:
                    _, said = child.communicate(timeout=60)
                finally:
                    child.kill()
                self.assertEqual(child.returncode, 128 + signal.SIGTERM)
                self.assertIn("stopping; press Ctrl-C again", said)
                self.assertTrue(said.endswith("mochi: interrupted\n"), said)

    def test_flags_of_other_subjects_are_refused(self):
        for line, args in {
            "--file: works with 'load' only": ("dit", "--file", "x"),
            "--profile: works with 'dit', 'sparse', 'vae' and 't5' only": ("op", "--profile"),
        }.items():
            done = self.run_mochi("bench", *args, *MICRO)
            self.assertEqual((done.returncode, done.stderr), (2, f"mochi: {line}\n"))

    def test_operations(self):
        table, report = self.bench_json("op", "norm", "linear qkv", "--threads", 1)
        self.assertRegex(table, r"^mochi \d+\.\d+\.\d+ on .* \(cpu\), activations fp32\n")
        self.assertEqual(report["subject"], "op")
        self.assertEqual(report["threads"], 1)
        measurements = report["measurements"]
        names = [measurement["name"] for measurement in measurements]
        self.assertEqual(names[:2], ["ceiling: product", "ceiling: copy"])
        self.assertIn("linear qkv", names)
        self.assertIn("norm_modulate", names)
        self.assertIn("group_norm", names)
        self.assertNotIn("attention", names)
        for measurement in measurements:
            self.assertRegex(table, f"{re.escape(measurement['name'])} +{measurement['size']} ")
            self.assertGreater(measurement["fastest"], 0)
            self.assertLessEqual(measurement["fastest"], measurement["seconds"])
            self.assertLessEqual(measurement["seconds"], measurement["slowest"])
            self.assertLessEqual(measurement["relative_error"], measurement["max_error"])
            self.assertGreater(measurement["bytes"], 0)
            ceilings = report["ceilings"]
            floor = max(
                measurement["flop"] / ceilings["flop_per_second"],
                measurement["bytes"] / ceilings["bytes_per_second"],
            )
            self.assertAlmostEqual(measurement["share"] * measurement["seconds"] / floor, 1, 6)

    def test_transformer(self):
        table, report = self.bench_json(
            "dit", "--num-frames", "1,7", "--layers", 2, "--profile", "--plot", "growth.svg"
        )
        short, long = report["measurements"][2:]
        self.assertEqual([short["frames"], long["frames"]], [1, 7])
        self.assertLess(short["tokens"], long["tokens"])
        self.assertLess(short["flop"], long["flop"])
        self.assertGreater(long["peak_bytes"], long["weight_bytes"])
        profile = {op["name"]: op for op in long["profile"]}
        self.assertEqual(profile["attention"]["calls"], 2)
        self.assertAlmostEqual(sum(op["flop"] for op in profile.values()) / long["flop"], 1, 6)
        self.assertRegex(table, r"\n  attention +2 x ")
        self.assertIn(b"<svg", self.content("growth.svg"))

    def test_sparse_and_dense_forwards(self):
        table, report = self.bench_json("sparse", "17 %", "forward", "--profile")
        self.assertIn("columns kept", table)
        by_name = {m["name"]: m for m in report["measurements"]}
        self.assertLess(by_name["column_sparse_attention 17 %"]["relative_error"], 1e-4)
        dense, sparse = by_name["forward, dense"], by_name["forward, sparse step"]
        self.assertNotIn("kept_fraction", dense)
        self.assertEqual(dense["tokens"], sparse["tokens"])
        self.assertLess(sparse["kept_fraction"], 1)
        calls = {op["name"]: op["calls"] for op in sparse["profile"]}
        self.assertEqual((calls["attention"], calls["column_sparse_attention"]), (1, 3))
        on_host = by_name["forward, sparse step, caches on the host"]
        self.assertGreater(on_host["host_bytes"], 0)
        self.assertIn("waited_seconds", on_host)

    def test_other_networks(self):
        _, decoding = self.bench_json("vae", "--num-frames", 7)
        self.assertEqual(decoding["measurements"][2]["frames"], 7)
        _, encoding = self.bench_json("t5")
        self.assertEqual(encoding["measurements"][2]["name"], "t5 encode")
        _, video = self.bench_json("video", "--num-frames", 1, "--num-steps", 2, "--layers", 1)
        phases = [measurement["name"] for measurement in video["measurements"][2:]]
        self.assertEqual(phases, ["text", "sampling", "decoding"])

    def test_loading(self):
        file = self.model / "dit.safetensors"
        _, report = self.bench_json("load", "--file", file)
        (loading,) = report["measurements"]
        self.assertEqual(loading["bytes"], file.stat().st_size)
        self.assertEqual(loading["relative_error"], 0)

    def test_a_signal_ends_an_operation_that_takes_long(self):
        args = [MOCHI, "bench", "op", "--device", "cpu", "--threads", "1"]
        child = subprocess.Popen(args, cwd=self.folder, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        time.sleep(2)  # now it verifies or times a product that takes minutes in all
        child.send_signal(signal.SIGTERM)
        _, told = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 143)
        self.assertEqual(told.splitlines()[-1], "mochi: interrupted")

    def test_wrong_commands(self):
        cases = [
            (["bench"], 2, "SUBJECT: is required: what to measure, with random weights: op, dit, sparse, vae, t5, video, load"),
            (["bench", "dti"], 2, "SUBJECT: wanted 'op', 'dit', 'sparse', 'vae', 't5', 'video' or 'load', found 'dti'"),
            (["bench", "load"], 2, "--file: wanted a file of a transformer"),
            (["bench", "load", "--file", "none"], 1, re.compile(".*'none'.*")),
            (["bench", "op", "attenton"], 1, re.compile("unknown operation 'attenton', .*")),
            (["bench", "sparse", "frward"], 1, re.compile("unknown operation 'frward', .*")),
            (["bench", "dit", "x"], 1, "'dit' is measured whole, found the name 'x'"),
            (["bench", "dit", "--num-frames", "1,8"], 2, re.compile("--num-frames: wanted 6.*")),
            (["bench", "dit", "--num-frames", "-5"], 2, re.compile("--num-frames: wanted 6.*")),
            (["bench", "dit", "--layers", "-1"], 2, "--layers: wanted 0 (all) to 1024, found -1"),
            (
                ["bench", "dit", "--layers", "9999"],
                2,
                "--layers: wanted 0 (all) to 1024, found 9999",
            ),
            (["bench", "op", "--repetitions", "0"], 2, "--repetitions: wanted 1 or more, found 0"),
            (["bench", "op", "--threads", "-2"], 2, "--threads: wanted 0 or more, found -2"),
            (["bench", "video", "--num-steps", "0"], 2, "--num-steps: wanted 1 or more, found 0"),
            (["bench", "op", "--size", "huge"], 2, "--size: wanted 'full' or 'micro', found 'huge'"),
            (
                ["bench", "op", "--device", "tpu"],
                2,
                "--device: wanted 'auto', 'cpu' or 'cuda[:N]', found 'tpu'",
            ),
            (
                ["bench", "op", "--dtype", "fp8"],
                2,
                "--dtype: wanted 'auto', 'fp32' or 'bf16', found 'fp8'",
            ),
            (
                ["bench", "op", "--device", "cpu", "--dtype", "bf16"],
                2,
                "--dtype: activations of the CPU are fp32",
            ),
            (
                ["bench", "op", "--plot", "x.svg"],
                2,
                "--plot: wanted two or more lengths in --num-frames",
            ),
            (
                ["bench", "op", "--json", "none/x.json"],
                1,
                re.compile(".*'none'.*|.*none/x.json.*"),
            ),
        ]
        for args, code, line in cases:
            with self.subTest(args):
                device = [] if "--device" in args else ["--device", "cpu"]
                size = [] if "--size" in args else ["--size", "micro"]
                self.refuse(code, line, *args, *device, *size)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
