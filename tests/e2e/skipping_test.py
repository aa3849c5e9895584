"""Step skipping from the command line.

Usage: skipping_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import unittest

from support import ProgramTest, write_lora

STEPS = ["--num-steps", 24, "--num-frames", 7]


class SkippingTest(ProgramTest):
    def json_of(self, video):
        return json.loads(self.content(video + ".json"))

    def test_tiers_skip_steps_and_off_is_exact(self):
        self.generate_ok(*STEPS, "--out", "plain.y4m")
        self.generate_ok(*STEPS, "--skip", "off", "--out", "off.y4m")
        self.assertEqual(self.content("off.y4m"), self.content("plain.y4m"))
        self.assertNotIn("sampling", self.json_of("off.y4m"))
        counts = []
        for tier in "careful", "fast":
            self.generate_ok(*STEPS, "--skip", tier, "--out", tier + ".y4m")
            steps = self.json_of(tier + ".y4m")["sampling"]["evaluated_steps"]
            self.assertEqual((steps[0], steps[-1]), (0, 23))
            counts.append(len(steps))
            self.assertNotEqual(self.content(tier + ".y4m"), self.content("plain.y4m"))
        self.assertLess(counts[1], counts[0])
        self.assertLess(counts[0], 24)

    def evaluated(self, video):
        return self.json_of(video)["sampling"]["evaluated_steps"]

    def test_skips_with_loras_without_guidance_with_few_steps_and_in_sweeps(self):
        self.generate_ok(*STEPS, "--skip", "fast", "--out", "plain.y4m")
        write_lora(self.folder / "a.safetensors")
        self.generate_ok(*STEPS, "--skip", "fast", "--lora-path", "a.safetensors", "--out", "lora.y4m")
        self.assertLess(len(self.evaluated("lora.y4m")), 24)
        self.assertNotEqual(self.content("lora.y4m"), self.content("plain.y4m"))
        self.generate_ok(*STEPS, "--skip", "careful", "--cfg-scale", 1, "--out", "one.y4m")
        self.assertLess(len(self.evaluated("one.y4m")), 24)
        for num_steps in 1, 2, 4, 8:
            few = ["--num-frames", 7, "--num-steps", num_steps]
            self.generate_ok(*few, "--out", "all.y4m")
            for tier in "careful", "fast":
                self.generate_ok(*few, "--skip", tier, "--out", "few.y4m")
                self.assertEqual(self.content("few.y4m"), self.content("all.y4m"))
        lines = [{"prompt": "a ball", "skip": "fast", "out": "s0.y4m"},
                 {"prompt": "a ball", "max_evaluations": 5, "out": "s1.y4m"},
                 {"prompt": "a ball", "out": "s2.y4m"}]
        (self.folder / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = self.run_mochi("generate", "--model-dir", self.model, *STEPS, "--sweep-file", "s.jsonl")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertLess(len(self.evaluated("s0.y4m")), 24)
        self.assertEqual(len(self.evaluated("s1.y4m")), 5)
        self.assertNotIn("sampling", self.json_of("s2.y4m"))

    def test_a_budget_is_kept_and_progress_tells_it(self):
        done = self.generate_ok(*STEPS, "--max-evaluations", 9, "--out", "b.y4m")
        self.assertEqual(len(self.json_of("b.y4m")["sampling"]["evaluated_steps"]), 9)
        self.assertIn("24 steps (9 evaluated)", done.stderr)
        done = self.generate_ok(*STEPS, "--skip", "fast", "--max-evaluations", 9, "--out", "c.y4m")
        self.assertIn("--skip has no effect with --max-evaluations", done.stderr)
        self.assertEqual(self.content("c.y4m"), self.content("b.y4m"))

    def test_a_video_is_made_again_with_the_steps_it_was_made_with(self):
        self.generate_ok(*STEPS, "--skip", "fast", "--out", "a.y4m")
        again = self.json_of("a.y4m")
        # Another threshold would evaluate other steps; those of the JSON count.
        again["request"]["sparsity"]["step_skipping"]["threshold"] = 1e-6
        (self.folder / "a.json").write_text(json.dumps(again))
        done = self.run_mochi("generate", "--from-json", "a.json", "--out", "b.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("b.y4m"), self.content("a.y4m"))
        # A request that changes the video decides anew.
        self.generate_ok("--from-json", "a.json", "--seed", 9, "--out", "c.y4m")
        self.assertEqual(len(self.json_of("c.y4m")["sampling"]["evaluated_steps"]), 24)
        again["sampling"]["evaluated_steps"] = [0, "x"]
        (self.folder / "bad.json").write_text(json.dumps(again))
        done = self.generate("--from-json", "bad.json", "--out", "d.y4m")
        self.assertEqual(done.returncode, 1)
        self.assertIn("bad.json: sampling.evaluated_steps: wanted a list of steps", done.stderr)

    def test_with_a_configuration_full_steps_are_evaluated(self):
        (self.folder / "c.yml").write_text(
            "steps: 48\nattn: {full_step_schedule: [0, 1, 30], mbm: 64, first_n_dense_layers: 0}\n"
            "step_skipping: {rule: schedule, evaluated_step_schedule: [20]}\n")
        done = self.generate_ok(*STEPS, "--chipmunk-config", "c.yml", "--out", "a.y4m")
        steps = self.json_of("a.y4m")["sampling"]["evaluated_steps"]
        self.assertEqual(steps, [0, 1, 10, 15])
        self.assertIn("warning: attn.full_step_schedule is meant for 48 steps and is spread over the 24 of "
                      "this video", done.stderr)
        request = self.json_of("a.y4m")["request"]
        self.assertEqual(request["sparsity"]["attn"]["full_step_schedule"], [0, 1, 15])
        self.assertNotIn("steps", request["sparsity"])

    def test_wrong_values(self):
        for args, line in {
            ("--skip", "slow"): "--skip: wanted 'off', 'careful' or 'fast', found 'slow'",
            ("--max-evaluations", "0"): "--max-evaluations: wanted 1 to 10000, found 0",
        }.items():
            done = self.generate(*args)
            self.assertEqual((done.returncode, done.stderr.strip()), (2, "mochi: " + line))
        (self.folder / "c.yml").write_text("step_skipping: {rule: budget}\n")
        done = self.generate("--chipmunk-config", "c.yml")
        self.assertEqual(done.returncode, 1)
        self.assertIn("c.yml: step_skipping.max_evaluations: wanted 1 or more, because the rule is "
                      "budget, found 0", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
