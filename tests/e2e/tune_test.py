"""`mochi tune`: what it writes, and that it can be interrupted and resumed.

Usage: tune_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import json
import re
import shlex
import shutil
import signal
import subprocess
import time
import unittest
from xml.etree import ElementTree

from support import MOCHI, TIMEOUT_S, ProgramTest, write_latents

# Some columns of the tiny model are left out: the quality differs from trial to trial.
CONFIG = """
attn:
  delta: subtract
  top_keys: 0.3
  mbm: 64
  counts_multiple_of: 16
  first_n_dense_layers: 0
  full_step_schedule: !!set {0, 1, 5}
"""
PROMPTS = "# two of them\n\na small red ball\n  a blue cube \n"


class TuneTest(ProgramTest):
    def setUp(self):
        super().setUp()
        (self.folder / "c.yml").write_text(CONFIG)
        (self.folder / "p.txt").write_text(PROMPTS)

    def args(self, *flags, **values):
        """min_psnr=20 stands for --min-psnr 20, in place of what is usual here."""
        usual = {"model_dir": self.model, "prompts": "p.txt", "min_psnr": 25, "output": "o",
                 "chipmunk_config": "c.yml", "num_steps": 12, "num_frames": 25,
                 "threads": 1}
        pairs = [(f"--{name}", value) for name, value in {**usual, **values}.items()]
        return ["tune", *(word for pair in pairs for word in pair), *flags]

    def tune_ok(self, *flags, **values):
        done = self.run_mochi(*self.args(*flags, **values))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def record(self, output="o"):
        return json.loads((self.folder / output / "trials.json").read_text())

    def results(self, output="o"):
        """Of each trial what does not depend on the time it took."""
        qualities = ("psnr", "ssim", "relative_error", "num_evaluated")
        return [
            (trial["config"], [{key: found[key] for key in qualities}
                               for found in trial["evaluations"]])
            for trial in self.record(output)["trials"]
        ]

    def stop(self, sent, num_evaluations):
        """Sends the signal when so many evaluations are on the disk; returns what was said."""
        command = [MOCHI, *map(str, self.args(num_steps=40, min_psnr=5))]
        child = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, text=True)
        begin = time.monotonic()
        path = self.folder / "o" / "trials.json"
        while not path.exists() or path.read_text().count('"relative_error"') < num_evaluations:
            self.assertLess(time.monotonic() - begin, TIMEOUT_S)
            time.sleep(0.005)
        child.send_signal(sent)
        _, said = child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, -sent if sent == signal.SIGKILL else 128 + sent, said)
        return said

    # ---- what it writes ----

    def test_a_whole_run(self):
        done = self.tune_ok(max_trials=7)
        self.assertEqual(
            self.entries(),
            ["c.yml", "o", "o/chipmunk-config.yml", "o/dense", "o/dense/001.safetensors",
             "o/dense/002.safetensors", "o/report.html", "o/trials.json", "p.txt"],
        )
        record = self.record()
        self.assertLessEqual(len(record["trials"]), 7)
        self.assertGreater(len(record["trials"]), 1)
        self.assertEqual(done.stderr.count("\ntrial "), len(record["trials"]))
        self.assertIn("dense video 2 of 2", done.stderr)
        self.assertRegex(done.stderr, r"; at most \d+:\d\d left\n")
        self.assertIn("o/chipmunk-config.yml", done.stdout)
        self.assertEqual([record["settings"][f"prompt {i}"] for i in (1, 2)],
                         ["a small red ball", "a blue cube"])

        good = [t for t in record["trials"] if t["is_good"]]
        self.assertGreater(len(good), 0)
        costs = record["step_costs"]
        self.assertEqual(sorted(costs), ["dense", "full", "sparse"])
        for trial in record["trials"]:
            psnrs = [found["psnr"] for found in trial["evaluations"]]
            self.assertAlmostEqual(trial["psnr"], sum(psnrs) / len(psnrs))
            self.assertEqual(psnrs[trial["worst_prompt"] - 1], min(psnrs))
            self.assertEqual(trial["is_complete"], len(psnrs) == 2)
            self.assertEqual(trial["is_good"], len(psnrs) == 2 and trial["psnr"] >= 25)
            if not trial["config"]["attn"]["is_enabled"]:
                counts = {found["num_evaluated"] for found in trial["evaluations"]}
                self.assertEqual(counts, {trial["config"]["step_skipping"]["max_evaluations"]})
                self.assertAlmostEqual(trial["predicted_seconds"], counts.pop() * costs["dense"])
        self.assertAlmostEqual(record["trials"][0]["predicted_seconds"],
                               3 * costs["full"] + 9 * costs["sparse"])
        self.assertEqual(record["trials"][0]["evaluations"][0]["num_evaluated"], 12)
        fastest = min(good, key=lambda t: sum(found["seconds"] for found in t["evaluations"]))
        self.assertEqual(record["fastest"], fastest["number"])

        page = (self.folder / "o" / "report.html").read_text()
        root = ElementTree.fromstring(page.replace("<!DOCTYPE html>\n", ""))
        rows = root.findall(".//{*}table")[0].findall(".//{*}tbody/{*}tr")
        self.assertEqual(len(rows), len(record["trials"]))
        self.assertIn("fastest good one", page)
        self.assertIn("step skipping alone: trial ", page)
        self.assertIn("step skipping alone: trial ", done.stdout)
        self.assertEqual(len(root.findall(".//{*}svg")), 1)

    def test_the_search_can_be_for_one_method(self):
        self.tune_ok(search="skipping", min_psnr=10, output="s")
        for trial in self.record("s")["trials"]:
            self.assertFalse(trial["config"]["attn"]["is_enabled"])
        self.assertEqual(list(self.record("s")["step_costs"]), ["dense"])
        text = (self.folder / "s" / "chipmunk-config.yml").read_text()
        self.assertIn("rule: budget", text)
        self.tune_ok(search="sparsity", max_trials=4, min_psnr=5)
        for trial in self.record()["trials"]:
            self.assertTrue(trial["config"]["attn"]["is_enabled"])
            self.assertEqual(trial["config"]["step_skipping"], {"rule": "off"})
        # A wider search uses the trials that are known.
        known = self.record()["trials"]
        self.tune_ok("--resume", max_trials=8, min_psnr=5)
        self.assertEqual([t["evaluations"] for t in self.record()["trials"][:len(known)]],
                         [t["evaluations"] for t in known])

    def test_a_start_that_skips_steps_is_tried_at_every_step(self):
        (self.folder / "c.yml").write_text(
            CONFIG + "step_skipping: {rule: easy, threshold: 0.4, extrapolation: line}\n")
        self.tune_ok(max_trials=3, min_psnr=5)
        first, *later = self.record()["trials"]
        self.assertEqual(first["evaluations"][0]["num_evaluated"], 12)
        for trial in later:
            found = trial["config"]["step_skipping"]
            if found["rule"] != "off":
                self.assertEqual((found["rule"], found["extrapolation"]), ("budget", "hold"))

    def test_the_figures_equal_those_of_generate_and_compare(self):
        self.tune_ok(max_trials=5, seed=3, search="skipping", min_psnr=5)
        record = self.record()
        trial = record["trials"][record["fastest"] - 1]
        video = ["--num-steps", 12, "--num-frames", 25, "--seed", 3, "--threads", 1]
        self.assertEqual(trial["config"]["step_skipping"]["rule"], "budget")
        for name, flags in (("dense", []), ("sparse", ["--chipmunk-config", "o/chipmunk-config.yml"])):
            self.generate_ok(*video, *flags, "--out", f"{name}.y4m",
                             "--save-latents", f"{name}.safetensors", prompt="a small red ball")
            self.generate_ok(*video, *flags, "--out", f"{name}/",
                             prompt="a small red ball")
        self.assertEqual(json.loads(self.content("sparse.y4m.json"))["request"]["sparsity"],
                         trial["config"])
        same = self.run_mochi("compare", "--json", "dense.safetensors", "o/dense/001.safetensors")
        self.assertEqual(json.loads(same.stdout)["relative_error"], 0)
        # The latents carry their model and frame rate.
        done = self.run_mochi("decode", "o/dense/001.safetensors", "--out", "decoded.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.content("decoded.y4m"), self.content("dense.y4m"))
        found = trial["evaluations"][0]
        videos = json.loads(self.run_mochi("compare", "--json", "dense/", "sparse/").stdout)
        self.assertAlmostEqual(found["psnr"], videos["psnr"], places=6)
        self.assertAlmostEqual(found["ssim"], videos["ssim"], places=6)
        latents = self.run_mochi("compare", "--json", "dense.safetensors", "sparse.safetensors")
        self.assertAlmostEqual(found["relative_error"],
                               json.loads(latents.stdout)["relative_error"])

    def test_out_of_reach(self):
        self.tune_ok(max_trials=4)
        done = self.run_mochi(*self.args("--resume", "--quiet", max_trials=5, min_psnr=99.9))
        self.expect_line(done, 1, re.compile(
            r"no trial reaches 99\.9 dB; the best, trial \d, has \d+\.\d\d dB"))
        self.assertNotIn("o/chipmunk-config.yml", self.entries())
        self.assertIn("o/report.html", self.entries())
        self.assertEqual(self.record()["fastest"], None)

    # ---- interrupted ----

    def test_interrupted_and_resumed(self):
        for sent, num_evaluations in ((signal.SIGINT, 3), (signal.SIGKILL, 5)):
            with self.subTest(sent):
                said = self.stop(sent, num_evaluations)
                if sent == signal.SIGINT:
                    command = re.search("^to continue: (.*)$", said, re.MULTILINE).group(1)
                    words = shlex.split(command)
                    self.assertEqual(words[0], str(MOCHI))
                    self.assertEqual(words[-1], "--resume")
                    self.assertTrue(said.endswith("mochi: interrupted\n"), said)
                before = self.record()
                self.assertNotIn("o/report.html", self.entries())
                if sent == signal.SIGINT:
                    done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True,
                                          timeout=TIMEOUT_S, check=False)
                    self.assertEqual(done.returncode, 0, done.stderr)
                else:
                    self.tune_ok("--resume", num_steps=40, min_psnr=5)
                after = self.record()
                self.assertEqual(after["dense"], before["dense"])
                for old, new in zip(before["trials"], after["trials"]):
                    known = old["evaluations"]
                    self.assertEqual(new["evaluations"][: len(known)], known)  # with their seconds
                shutil.rmtree(self.folder / "o")

    def test_a_resumed_search_takes_the_same_path(self):
        (self.folder / "c.yml").write_text("steps: 64\n" + CONFIG)  # spread over fewer steps
        self.tune_ok(min_psnr=20, max_trials=8)
        path = self.folder / "o" / "trials.json"
        whole = self.record()
        wanted = self.results()
        # The start has measured the costs; anything after it may be lost.
        for num_known in range(1, len(whole["trials"])):
            with self.subTest(num_known):
                path.write_text(json.dumps({**whole, "trials": whole["trials"][:num_known]}))
                self.tune_ok("--resume", min_psnr=20, max_trials=8)
                self.assertEqual(self.results(), wanted)
                self.assertEqual(self.record()["step_costs"], whole["step_costs"])

    def test_resumed_with_more_trials_or_another_quality(self):
        usual = {"search": "skipping", "num_steps": 40}
        self.tune_ok(max_trials=2, min_psnr=5, **usual)
        known = self.record()["trials"]
        self.tune_ok("--resume", max_trials=4, min_psnr=5, **usual)
        self.assertEqual([t["evaluations"] for t in self.record()["trials"][:2]],
                         [t["evaluations"] for t in known])
        self.assertGreater(len(self.record()["trials"]), 2)
        self.tune_ok("--resume", max_trials=4, min_psnr=4, **usual)
        self.assertEqual(self.record()["min_psnr"], 4)

    def test_other_settings_are_refused(self):
        self.tune_ok(max_trials=1)
        owner = "'o/trials.json' has"
        cases = [
            ({"seed": 4}, f"{owner} seed 0, wanted is 4"),
            ({"width": 80}, f"{owner} width 64, wanted is 80"),
            ({"num_steps": 9}, f"{owner} num_steps 12, wanted is 9"),
            ({"threads": 2}, f"{owner} num_threads 1, wanted is 2"),
            ({"dtype": "bf16"}, f'{owner} dtype "fp32", wanted is "bf16"'),
        ]
        for values, line in cases:
            with self.subTest(values):
                self.refuse(1, line, *self.args("--resume", **values))
        prompts = [
            ("a small red ball\na cube\n", f'{owner} prompt 2 "a blue cube", wanted is "a cube"'),
            ("a small red ball\n", f"{owner} its own prompt 2"),
        ]
        for text, line in prompts:
            with self.subTest(text):
                (self.folder / "p.txt").write_text(text)
                self.refuse(1, line, *self.args("--resume"))
        (self.folder / "p.txt").write_text(PROMPTS)
        (self.folder / "c.yml").write_text(CONFIG.replace("0.3", "0.4"))
        self.refuse(1, "'o/trials.json' has another sparsity", *self.args("--resume"))
        (self.folder / "c.yml").write_text(CONFIG)

        config = self.model / "config.json"
        text = config.read_text()
        config.write_text(text + "\n")
        try:
            self.refuse(1, re.compile(rf"{owner} model file 'config\.json' \"\w+\", wanted is .*"),
                        *self.args("--resume"))
        finally:
            config.write_text(text)
        self.refuse(1, "'o/trials.json' already exists: continue with --resume, or give another "
                       "--out", *self.args())
        self.refuse(1, "--resume: 'none/trials.json' does not exist", *self.args("--resume", output="none"))

    def test_files_of_others_are_not_replaced(self):
        for name in ("chipmunk-config.yml", "report.html"):
            with self.subTest(name):
                folder = self.folder / name.partition(".")[0]
                folder.mkdir()
                (folder / name).write_text(CONFIG)
                place = f"{folder.name}/{name}"
                self.refuse(1, f"'{place}' already exists, and would be replaced",
                            *self.args(output=folder.name))
                self.assertEqual((folder / name).read_text(), CONFIG)
        self.refuse(1, "cannot write 'p.txt': wanted a folder, found a file",
                    *self.args(output="p.txt"))

    def test_damaged_records(self):
        self.tune_ok(max_trials=1)
        path = self.folder / "o" / "trials.json"
        whole = path.read_text()
        inconsistent = ("'o/trials.json': the numbers of videos and evaluations contradict each "
                        "other")
        record = json.loads(whole)
        evaluations = record["trials"][0]["evaluations"]
        cases = [
            (whole[: len(whole) // 2], re.compile(r"o/trials\.json: .*not valid JSON.*")),
            ("[]", "o/trials.json: wanted an object, found []"),
            ("{}", "'o/trials.json' has format 1, wanted is 2: another version of mochi began this "
                   "search; begin again with another --out"),
            (whole.replace('"format": 2', '"format": 3'), re.compile(r"'o/trials\.json' has format 3, .*")),
            ('{"format": 2}', "o/trials.json: settings: key is missing"),
            (whole.replace('"dense": [', '"rare": ['), "o/trials.json: dense: wanted a list"),
            (whole.replace('"psnr": ', '"psnr": "x", "p": '),
             "o/trials.json: trials[0].evaluations[0].psnr: wanted a number, found \"x\""),
            (whole.replace('"ssim": ', '"s": '),
             "o/trials.json: trials[0].evaluations[0].ssim: key is missing"),
            (json.dumps({**record, "dense": record["dense"][:1]}), inconsistent),
            (json.dumps({**record, "trials": [{**record["trials"][0], "evaluations": []}]}),
             inconsistent),
            (json.dumps({**record, "trials": [{**record["trials"][0],
                                               "evaluations": evaluations * 2}]}), inconsistent),
            (json.dumps({**record, "trials": [{**record["trials"][0],
                                               "config": {"attn": {"top_keys": 2}}}]}),
             "o/trials.json: trials[0].config:1: attn.top_keys: wanted 0 to 1, found 2"),
        ]
        for text, line in cases:
            with self.subTest(text[-80:]):
                path.write_text(text)
                self.refuse(1, line, *self.args("--resume"))
        path.write_text(whole)
        write_latents(self.folder / "o" / "dense" / "001.safetensors", [1, 12, 3, 6, 8])
        done = self.run_mochi(*self.args("--resume"))
        self.expect_error(done, 1, "'o/dense/001.safetensors' was changed: wanted fingerprint")

    # ---- bad input ----

    def test_bad_flags(self):
        cases = [
            ({"min_psnr": "abc"}, 2, re.compile(r".*--min-psnr.*abc.*")),
            ({"min_psnr": "nan"}, 2, "--min-psnr: wanted a number, found 'nan'"),
            ({"min_psnr": 0}, 2, "--min-psnr: wanted above 0 to 100, found 0"),
            ({"min_psnr": 101}, 2, "--min-psnr: wanted above 0 to 100, found 101"),
            ({"max_trials": 0}, 2, "--max-trials: wanted 1 or more, found 0"),
            ({"num_steps": 2}, 2, "--num-steps: wanted 3 or more, found 2"),
            ({"width": 50}, 2, re.compile(r"--width: wanted a multiple of 16, found 50; .*")),
            ({"prompts": "no.txt"}, 1, "cannot read 'no.txt': No such file or folder"),
            ({"prompts": "."}, 1, "cannot read '.': is a folder"),
            ({"prompts": "empty.txt"}, 1, "'empty.txt': wanted one prompt per line, found none"),
            ({"prompts": "bytes.txt"}, 1, "bytes.txt:2: prompt: not valid UTF-8 at byte 0"),
            ({"output": "p.txt/o"}, 1,
             "cannot create the folder 'p.txt/o/dense': Not a folder"),
            ({"chipmunk_config": "off.yml"}, 1,
             "'off.yml': attn.is_enabled: wanted true, or --search skipping, found false"),
            ({"search": "all"}, 2, 
             "--search: wanted 'both', 'skipping' or 'sparsity', found 'all'"),
            ({"search": "skipping", "num_steps": 6}, 2, "--num-steps: wanted 7 or more, found 6"),
            ({"chipmunk_config": "no.yml"}, 1,
             "cannot read 'no.yml': No such file or folder"),
            ({"model_dir": "nowhere"}, 1, re.compile(r".*nowhere.*")),
        ]
        (self.folder / "empty.txt").write_text("# nothing\n\n  \n")
        (self.folder / "bytes.txt").write_bytes(b"a ball\n\xff\xfe\n")
        (self.folder / "off.yml").write_text("attn: {is_enabled: false}\n")
        for values, exit_code, line in cases:
            with self.subTest(values):
                self.refuse(exit_code, line, *self.args(**values))
        self.refuse(2, re.compile("--min-psnr:? is required.*"), "tune", "--prompts", "p.txt", "--output", "o")


if __name__ == "__main__":
    unittest.main(argv=[__file__])
