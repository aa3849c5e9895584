"""`mochi analyze`: the report, and what it is refused for.

Usage: analyze_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import csv
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import time
import unittest
from xml.etree import ElementTree

from support import MOCHI, PROMPT, TIMEOUT_S, ProgramTest

CONFIG = """
attn:
  delta: subtract
  top_keys: 0.2
  mbm: 64
  counts_multiple_of: 16
  first_n_dense_layers: 1
  full_step_schedule: !!set {0, 1, 5}
step_caching:
  is_enabled: true
  skip_step_schedule: !!set {3}
"""
KINDS = ["full", "full", "sparse", "cached", "sparse", "full", "sparse", "sparse"]
DELTAS = ["subtract", "weighted", "lse_merge", "half_merge", "none"]
NUM_LAYERS, NUM_HEADS = 2, 2  # of the tiny model
FILES = ["compute.json", "report.html", "report.json", "sites.csv", "steps.csv"]
XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


class AnalyzeTest(ProgramTest):
    def setUp(self):
        super().setUp()
        (self.folder / "c.yml").write_text(CONFIG)

    def analyze(self, *args, env=None, prompt=PROMPT):
        command = [MOCHI, "analyze", "--model-dir", self.model, "--prompt", prompt, "--threads", 1,
                   *args]
        return subprocess.run(list(map(str, command)), cwd=self.folder, capture_output=True,
                              text=True, timeout=TIMEOUT_S, check=False, env=env)

    def analyze_ok(self, *args, **options):
        done = self.analyze("--output", "r", *args, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def rows(self, name):
        with open(self.folder / "r" / name, newline="") as file:
            return list(csv.DictReader(file))

    def json(self):
        return json.loads((self.folder / "r/report.json").read_text())

    def sections(self):
        """Heading → what follows it up to the next one."""
        body = ElementTree.parse(self.folder / "r/report.html").getroot().find(XHTML + "body")
        sections, current = {}, []
        for element in body:
            if element.tag == XHTML + "h2":
                current = sections[element.text] = []
            else:
                current.append(element)
        return sections

    def count(self, section, tag):
        return sum(len(list(element.iter(tag))) for element in section)

    def test_the_report(self):
        self.analyze_ok("--chipmunk-config", "c.yml", "--num-steps", 8, "--num-frames", 25,
                        "--width", 128, "--height", 64)
        self.assertEqual(sorted(os.listdir(self.folder)), ["c.yml", "r"])
        self.check_page()
        self.check_tables()
        # With ffmpeg there are videos, too, which --output may hold when it is replaced.
        self.analyze_ok("--chipmunk-config", "c.yml", "--num-steps", 2, "--quiet")
        self.assertEqual(len(self.rows("steps.csv")), 2)
        self.assertEqual(sorted(os.listdir(self.folder)), ["c.yml", "r"])

    def check_page(self):
        sections = self.sections()
        # Without ffmpeg there are no videos.
        videos = {"Videos": 0} if shutil.which("ffmpeg") else {}
        num_plots = {**videos, "Frames": 0, "Summary": 0, "Quality": 3, "Attention mass recalled": 2,
                     "Columns kept": 1, "Error of each delta": 1, "Products in 8 bits": 0, "Time": 1, "Configuration": 0}
        self.assertEqual(list(sections), list(num_plots))
        for heading, count in num_plots.items():
            self.assertEqual(self.count(sections[heading], SVG + "svg"), count, heading)
        self.assertEqual(self.count(sections["Frames"], XHTML + "img"), 18)
        for image in (e for part in sections["Frames"] for e in part.iter(XHTML + "img")):
            self.assertTrue(image.get("src").startswith("data:image/png;base64,iVBORw0KGgo"))
        page = (self.folder / "r/report.html").read_text()
        self.assertIsNone(re.search(r"<script|https?://(?!www\.w3\.org)|\bnan\b|\binf\b", page))
        self.assertIn("cached</td><td>3<", page)
        verdict = re.search(r'<p class="lead">[^<]* dB[^<]*</p>', page)
        self.assertLess(verdict.start(), page.index("<h2>"))
        linked = set(re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page))
        self.assertEqual(linked, {name for name in os.listdir(self.folder / "r")
                                  if name.endswith(".mp4")})

    def check_tables(self):
        sites, steps, told = self.rows("sites.csv"), self.rows("steps.csv"), self.json()
        self.assertEqual(
            [(row["branch"], row["layer"], row["step"], row["head"]) for row in sites],
            [(branch, str(layer), str(step), str(head)) for branch in ("cond", "uncond")
             for layer in range(NUM_LAYERS) for step in range(8) for head in range(NUM_HEADS)])
        self.assertEqual([row["kind"] for row in steps], KINDS)
        for row in sites:
            dense = {"full": "dense", "sparse": "dense"} if row["layer"] == "0" else {}
            kind = KINDS[int(row["step"])]
            self.assertEqual(row["kind"], dense.get(kind, kind))
            if row["kind"] == "sparse":
                self.assertTrue(0 < float(row["kept"]) < 1 and 0 < float(row["recalled"]) < 1, row)
            elif row["kind"] == "cached":
                self.assertEqual(row["kept"] + row["recalled"], "")
            else:
                self.assertEqual((row["kept"], row["recalled"]), ("1", "1"))
            self.assertEqual(row["error_none"] != "", row["kind"] == "sparse")
        analysis = told["analysis"]
        self.assertTrue(analysis["is_undisturbed"])
        self.check_means([row for row in sites if row["kind"] == "sparse"], analysis)
        for step, row in enumerate(steps):
            of_step = analysis["steps"][step]
            self.assertEqual(of_step["kind"], row["kind"])
            for key in ("latents_error", "dense_seconds", "sparse_seconds"):
                self.assertTrue(math.isclose(of_step[key], float(row[key]), rel_tol=1e-6))
            of_sites = [site for site in sites
                        if site["step"] == str(step) and site["kind"] == "sparse"]
            self.check_means(of_sites, of_step)
        self.assertEqual(len(analysis["frames"]), 25)
        self.assertEqual([(entry["block"], entry["layers"]) for entry in analysis["products"]],
                         [(block, layers) for block in range(NUM_LAYERS)
                          for layers in ("attention", "ffn")])
        for entry in analysis["products"]:
            self.assertTrue(0.002 < entry["int8"] < 0.03 and entry["int8"] < entry["fp8"], entry)
        # The table is one for `mochi generate`.
        self.assertEqual(json.loads((self.folder / "r/compute.json").read_text())["compute"], "int8")
        done = self.run_mochi("generate", "--model-dir", self.model, "--prompt", PROMPT, "--out",
                              "r.y4m", "--compute-table", "r/compute.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("r.y4m", "r.y4m.json"):
            (self.folder / name).unlink()
        # Until the first sparse step, the two samplings differ by rounding at most.
        self.assertLess(analysis["steps"][1]["latents_error"], 1e-5)
        self.assertGreater(analysis["latents_error"], 1e-4)
        self.assertEqual(told["request"]["sparsity"]["attn"]["mbm"], 64)

    def check_means(self, sites, means):
        """The JSON's numbers are the means of these rows."""
        found = {"kept": means["kept"], "recalled": means["recalled"]}
        found |= {"error_" + delta: means["errors"][delta] for delta in DELTAS}
        for key, value in found.items():
            if not sites:
                self.assertIsNone(value)
                continue
            mean = statistics.fmean(float(site[key]) for site in sites)
            self.assertTrue(math.isclose(value, mean, rel_tol=1e-6), (key, value, mean))

    def test_nothing_sparse_and_no_guidance(self):
        (self.folder / "c.yml").write_text("attn: {is_enabled: false}")
        args = ["--chipmunk-config", "c.yml", "--num-steps", 2, "--cfg-schedule", "6,1"]
        told = json.loads(self.analyze_ok(*args, "--json").stdout)["analysis"]
        self.assertIsNone(told["kept"])
        self.assertEqual([step["kind"] for step in told["steps"]], ["dense", "dense"])
        self.assertEqual([row["step"] for row in self.rows("sites.csv") if row["branch"] == "uncond"],
                         ["0"] * NUM_LAYERS * NUM_HEADS)
        sections = self.sections()
        self.assertIn("all attention was dense", sections["Columns kept"][0].text)

    def check_skips(self, skipped):
        """What the tables tell of skipped steps."""
        steps, told = self.rows("steps.csv"), self.json()
        self.assertTrue(told["analysis"]["is_undisturbed"])
        self.assertEqual([i for i, row in enumerate(steps) if row["kind"] == "skipped"], skipped)
        self.assertEqual(told["sampling"]["evaluated_steps"],
                         [i for i in range(len(steps)) if i not in skipped])
        levels = [float(row["noise_level"]) for row in steps]
        self.assertEqual((levels[0], levels), (1, sorted(levels, reverse=True)))
        for i, row in enumerate(steps):
            self.assertEqual(row["velocity_error"] != "", i in skipped)
            if i in skipped:
                self.assertTrue(0 < float(row["velocity_error"]) < 2, row)
                self.assertLess(float(row["sparse_seconds"]), float(row["dense_seconds"]))
        largest = max(skipped, key=lambda i: float(steps[i]["velocity_error"]))
        self.assertEqual(told["analysis"]["velocity_errors"]["largest_at_step"], largest)
        for site in self.rows("sites.csv"):
            self.assertEqual(site["kind"] == "skipped", int(site["step"]) in skipped)
        return steps

    def test_skipped_steps(self):
        done = self.analyze_ok("--skip", "fast", "--num-steps", 24)
        self.assertNotIn("warning: step_skipping", done.stderr)
        self.assertIn("2 of 3: skipping", done.stderr)
        told = self.json()
        evaluated = told["sampling"]["evaluated_steps"]
        self.assertIn(f"{len(evaluated)} of 24 steps were evaluated", done.stdout)
        skipped = [i for i in range(24) if i not in evaluated]
        self.assertGreater(len(skipped), 4)
        steps = self.check_skips(skipped)
        for i in skipped:
            self.assertTrue(0 < float(steps[i]["estimated_velocity_error"]) < 0.4)
        # The video is that of generate, whose evaluated steps are the same.
        self.generate_ok("--skip", "fast", "--num-steps", 24, "--out", "v.y4m")
        self.assertEqual(json.loads(self.content("v.y4m.json"))["sampling"], told["sampling"])
        sections = self.sections()
        self.assertEqual(self.count(sections["Skipped steps"], SVG + "svg"), 2)
        self.assertNotIn("Columns kept", sections)

    def test_skipped_steps_of_sparse_attention(self):
        (self.folder / "c.yml").write_text(
            CONFIG + "step_skipping: {rule: schedule, evaluated_step_schedule: !!set {2, 3}}\n")
        args = ["--num-steps", 8, "--num-frames", 25, "--width", 128, "--height", 64]
        self.analyze_ok("--chipmunk-config", "c.yml", *args)
        steps = self.check_skips([4, 6, 7])
        self.assertEqual([row["kind"] for row in steps],
                         ["full", "full", "sparse", "cached", "skipped", "full", "skipped",
                          "skipped"])
        self.assertEqual({row["estimated_velocity_error"] for row in steps}, {""})
        sections = self.sections()
        self.assertEqual(self.count(sections["Skipped steps"], SVG + "svg"), 2)
        self.assertEqual(self.count(sections["Columns kept"], SVG + "svg"), 1)
        # A flag replaces the file's rule, and the earlier report.
        self.analyze_ok("--chipmunk-config", "c.yml", "--skip", "off", *args)
        self.assertNotIn("sampling", self.json())
        self.assertNotIn("Skipped steps", self.sections())
        self.analyze_ok("--max-evaluations", 3, *args)
        self.assertEqual(len(self.json()["sampling"]["evaluated_steps"]), 3)
        self.assertFalse(self.json()["request"]["sparsity"]["attn"]["is_enabled"])

    def test_without_a_working_ffmpeg_there_are_no_videos(self):
        tools = self.folder / "tools"
        tools.mkdir()
        fake = tools / "ffmpeg"
        for script in (None, "#!/bin/sh\nexit 3\n"):
            with self.subTest(script):
                if script:
                    fake.write_text(script)
                    fake.chmod(0o755)
                done = self.analyze_ok("--num-steps", 1, "--num-frames", 1,
                                       env={"PATH": str(tools)})
                self.assertEqual(done.stderr.count("warning: the report has no videos: "), 1)
                self.assertIn("ffmpeg", done.stderr)
                self.assertEqual(sorted(os.listdir(self.folder / "r")), FILES)
                self.assertNotIn("<video", (self.folder / "r/report.html").read_text())

    def test_out_and_output_are_the_same_flag(self):
        self.refuse(1, "cannot write 'a/r': folder 'a' does not exist", "analyze", "--model-dir",
                    self.model, "--quiet", "--out", "a/r")

    def test_refused_inputs(self):
        (self.folder / "file").write_text("")
        (self.folder / "other").mkdir()
        (self.folder / "other/notes.txt").write_text("")
        (self.folder / "linked").mkdir()
        (self.folder / "linked/report.html").mkdir()
        (self.folder / "bad.yml").write_text("attn: {top_keys: 2}")
        analyze = ["analyze", "--model-dir", self.model, "--quiet"]
        held = "which is not a file of a report"
        for code, line, *args in [
            (2, re.compile("--out:? is required.*")),
            (1, f"cannot replace folder 'other': it holds 'notes.txt', {held}", "--output", "other"),
            (1, f"cannot replace folder 'linked': it holds 'report.html', {held}", "--output",
             "linked"),
            (1, "cannot write a folder 'file': a file of that name exists", "--output", "file"),
            (1, "cannot write 'a/r': folder 'a' does not exist", "--output", "a/r"),
            (1, "cannot write '.': wanted a name", "--output", "."),
            (2, "--output: is empty", "--output", ""),
            (2, "--prompt: not valid UTF-8 at byte 1", "--output", "r", "--prompt", "a\udcff"),
            (2, re.compile("--fps: wanted .* to 1000, .*found '0'"), "--output", "r", "--fps", 0),
            (2, "--num-frames: wanted 6·k + 1, found 8; the nearest are 7 and 13", "--output", "r",
             "--num-frames", 8),
            (1, "bad.yml:1: attn.top_keys: wanted 0 to 1, found 2", "--output", "r",
             "--chipmunk-config", "bad.yml"),
            (2, "unknown flag '--no-sparsity': it is a flag of 'mochi generate', not of 'mochi analyze'",
             "--output", "r", "--no-sparsity"),
        ]:
            with self.subTest(args):
                self.refuse(code, line, *analyze, *args)

    def test_interrupted_leaves_the_earlier_report(self):
        self.analyze_ok("--num-steps", 1, "--num-frames", 1)
        before = {name: self.content("r/" + name) for name in FILES}
        for phase in ("sampling", "decoding"):
            command = [MOCHI, "analyze", "--model-dir", self.model, "--prompt", PROMPT,
                       "--num-steps", 1000 if phase == "sampling" else 1, "--num-frames", 121,
                       "--output", "r"]
            child = subprocess.Popen(list(map(str, command)), cwd=self.folder,
                                     stderr=subprocess.PIPE, text=True)
            for line in child.stderr:
                if line.startswith(phase):
                    break
            time.sleep(0.02)
            child.send_signal(signal.SIGINT)
            _, rest = child.communicate(timeout=TIMEOUT_S)
            self.assertEqual(child.returncode, 130, rest)
            self.assertIn("mochi: interrupted", rest)
            self.assertEqual(sorted(os.listdir(self.folder)), ["c.yml", "r"])
            self.assertEqual({name: self.content("r/" + name) for name in FILES}, before)


if __name__ == "__main__":
    unittest.main(argv=[__file__])
