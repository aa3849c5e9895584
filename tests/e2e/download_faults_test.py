"""`mochi download` with everything that goes wrong on the way.

Usage: download_faults_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL [--long|--short]
"""

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
import unittest

from download_support import IS_LONG, MEBIBYTE, REPO, DownloadTest, content
from fake_hub import Cut, Fault
from support import MOCHI, TIMEOUT_S

IS_SHORT = "--short" in sys.argv  # for instrumented programs
NUM_SEEDS = 100 if IS_LONG else 1 if IS_SHORT else 5
SEED = random.randrange(1 << 32)
MOST_FETCHED_TWICE = 16 * MEBIBYTE


class Faults(DownloadTest):
    def setUp(self):
        super().setUp()
        self.data = content(20 * MEBIBYTE)
        self.file = self.hub.add(REPO, "m.safetensors", self.data)

    def answer_first(self, count, fault, server="store"):
        """The first requests to a server get this answer."""
        left = [count]

        def answer(request):
            if request.server == server and left[0] > 0:
                left[0] -= 1
                raise fault

        self.hub.faults.append(answer)

    def test_a_wrong_checksum(self):
        self.file.sha256 = "a" * 64
        self.refuse_download("wanted SHA-256 aaaa", "found ")
        self.assertEqual(self.left(), [])

    def test_a_wrong_length(self):
        self.file.served_size = len(self.data) + 5
        self.refuse_download("'m.safetensors' of 'owner/repo': wanted 20971520 bytes", "20971525")
        self.assertEqual([n for n in self.left() if not ".part" in n], [])

    def test_a_length_that_only_the_store_states(self):
        def lie(request):
            if request.server == "store":
                raise Fault(200, {"ETag": '"x"'}, b"short")

        self.hub.faults = [lie]
        self.refuse_download("it has changed on the server")
        self.assertEqual(self.left(), [])

    def test_too_little_space(self):
        self.file.listed_size = 1 << 52
        self.refuse_download("of free space, found")

    def test_a_full_disk_keeps_what_is_there(self):
        limit = 10 * MEBIBYTE

        def limit_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = self.download("w", "--connections", 1, preexec_fn=limit_files)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write 'w/m.safetensors.part': File too large", done.stderr)
        self.hub.num_sent = 0
        self.download_ok()
        self.expect_file(self.data)
        self.assertLess(self.hub.num_sent, len(self.data) - limit + 9 * MEBIBYTE)

    def test_ranges_are_ignored(self):
        self.file.ignores_ranges = True
        self.download_ok()
        self.expect_file(self.data)

    def test_ranges_are_ignored_and_connections_are_cut(self):
        self.file.ignores_ranges = True
        cuts = [5 * MEBIBYTE, 12 * MEBIBYTE, 3 * MEBIBYTE]
        self.hub.cut_after = lambda: cuts.pop() if cuts else None
        self.download_ok("w", "--connections", 1)
        self.expect_file(self.data)

    def test_the_file_changes_midway(self):
        new = content(12 * MEBIBYTE, seed=1)
        num_ranges = [0]

        def change(request):
            if request.server == "store":
                num_ranges[0] += 1
                if num_ranges[0] == 4:
                    self.hub.add(REPO, "m.safetensors", new)

        self.hub.faults = [change]
        done = self.download_ok("w", "--connections", 2)
        self.expect_file(new)
        self.assertIn("has changed on the server; fetching it again", done.stderr)

    def test_the_file_changes_between_two_runs(self):
        self.hub.cut_after = lambda: MEBIBYTE
        self.file.bytes_per_second = 8 * MEBIBYTE
        child = self.start_download()
        time.sleep(0.5)
        child.kill()
        child.communicate()
        self.hub.reset()
        new = content(len(self.data), seed=2)
        self.hub.add(REPO, "m.safetensors", new)
        self.download_ok()
        self.expect_file(new)

    def test_a_newer_version_replaces_an_older_one(self):
        self.download_ok()
        new = content(2 * MEBIBYTE, seed=3)
        self.hub.add(REPO, "m.safetensors", new)
        self.download_ok()
        self.expect_file(new)

    def test_other_files_are_never_replaced(self):
        (self.folder / "w").mkdir()
        (self.folder / "w/m.safetensors").write_bytes(b"mine")
        self.refuse_download("'w/m.safetensors' is in the way: it has 4 bytes")
        (self.folder / "w/m.safetensors").write_bytes(bytes(len(self.data)))
        self.refuse_download("'w/m.safetensors' is in the way: its SHA-256 is")
        (self.folder / "w/m.safetensors").unlink()
        (self.folder / "w/m.safetensors.part").write_bytes(b"a browser's")
        self.refuse_download("'w/m.safetensors.part' is in the way")
        self.assertEqual(self.content("w/m.safetensors.part"), b"a browser's")
        self.assertEqual(self.hub.num_sent, 0)

    def test_a_file_that_exists_is_verified_once(self):
        (self.folder / "w").mkdir()
        (self.folder / "w/m.safetensors").write_bytes(self.data)
        done = self.download_ok()
        self.assertIn("checking m.safetensors", done.stderr)
        self.assertNotIn("checking", self.download_ok().stderr)
        self.assertEqual(self.hub.num_sent, 0)

    def test_errors_of_the_server_pass(self):
        self.answer_first(3, Fault(500))
        self.answer_first(2, Fault(503), server="hub")
        self.download_ok()
        self.expect_file(self.data)

    def test_errors_of_the_server_that_do_not_pass(self):
        self.hub.faults = [lambda request: self.fail_always(request, "hub")]
        begin = time.monotonic()
        self.refuse_download("the server answers 500")
        self.assertLess(time.monotonic() - begin, 30)

    def fail_always(self, request, server):
        if request.server == server:
            raise Fault(500)

    def test_too_many_requests(self):
        self.answer_first(1, Fault(429, {"Retry-After": "3"}))
        begin = time.monotonic()
        done = self.download_ok("w", "--connections", 1)
        self.assertGreater(time.monotonic() - begin, 3)
        self.assertIn("m.safetensors: the server answers 429; waiting 3 s", done.stderr)
        self.expect_file(self.data)

    def test_an_address_that_expires(self):
        self.answer_first(2, Fault(403))
        self.download_ok("w", "--connections", 1)
        self.expect_file(self.data)
        heads = [r for r in self.hub.requests if r.method == "HEAD"]
        self.assertEqual(len(heads), 3)

    def test_an_address_that_is_always_refused(self):
        self.answer_first(1000, Fault(403))
        self.refuse_download("the server names addresses that are refused")

    def test_a_stalled_connection_is_dropped(self):
        stalled = [3]

        def stall(request):
            if request.server == "store" and stalled[0] > 0:
                stalled[0] -= 1
                time.sleep(8)
                raise Cut

        self.hub.faults = [stall]
        self.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
        begin = time.monotonic()
        self.download_ok()
        self.assertLess(time.monotonic() - begin, 7)
        self.expect_file(self.data)

    def test_a_trickle_is_dropped(self):
        self.file.bytes_per_second = 50

        def heal(request):
            if request.server == "store" and time.monotonic() - begin > 1:
                self.file.bytes_per_second = None

        self.hub.faults = [heal]
        self.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
        begin = time.monotonic()
        self.download_ok()
        self.expect_file(self.data)

    def test_a_range_that_was_not_wanted(self):
        wrong = [2]

        def answer(request):
            if request.server == "store" and wrong[0] > 0:
                wrong[0] -= 1
                raise Fault(206, {"Content-Range": f"bytes 7-11/{len(self.data)}"}, b"wrong")

        self.hub.faults = [answer]
        self.download_ok()
        self.expect_file(self.data)

    def test_names_that_lead_elsewhere(self):
        for name, why in [("../m", "leads out"), ("a/../../m", "leads out"), ("/etc/m", "absolute"),
                          ("a\\m", "backslash"), ("a\x1b[2Jm", "control characters"), ("a//m", "empty part"),
                          ("a\0m", "control characters"), (".mochi-download/lock", "taken"),
                          ("./m", "leads out"), ("", "is empty"), ("m" * 300, "too long")]:
            self.hub.links[REPO] = [{"type": "file", "path": name, "size": 1}]
            line = self.refuse_download("the file name '", why)
            self.assertTrue(line.isprintable())
        self.assertFalse((self.folder / "w").exists())
        self.hub.links[REPO] = [{"type": "file", "path": "m.safetensors.part", "size": 1}]
        self.refuse_download("has a name that the download of 'm.safetensors' needs")
        self.hub.links[REPO] = [{"type": "file", "path": "m.safetensors", "size": 1}]
        self.refuse_download("is listed twice")

    def test_a_list_that_is_none(self):
        for body in (b"<html>", b"{}", b'[{"type": "file"}]', b'[{"type":"file","path":"a","size":-1}]'):
            self.hub.faults = []
            self.answer_first(1, Fault(200, {}, body), server="hub")
            self.refuse_download("the list of files of 'owner/repo'")

    def test_two_downloads_into_one_folder(self):
        self.file.bytes_per_second = 4 * MEBIBYTE
        child = self.start_download()
        while not (self.folder / "w/.mochi-download/lock").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        self.refuse_download("another process is downloading into 'w'; wait until it has ended")
        child.communicate(timeout=TIMEOUT_S)
        self.assertEqual(child.returncode, 0)
        self.expect_file(self.data)

    def test_an_interruption_prints_how_to_continue(self):
        self.file.bytes_per_second = MEBIBYTE
        child = self.start_download()
        while not (self.folder / "w/m.safetensors.part").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        begin = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=TIMEOUT_S)
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual(child.returncode, 130)
        self.assertIn(f"to continue: {MOCHI} download {REPO} w\nmochi: interrupted", said)
        self.assertEqual(self.left(), ["m.safetensors.part", "m.safetensors.part.json"])
        self.file.bytes_per_second = None
        self.hub.num_sent = 0
        self.download_ok()
        self.expect_file(self.data)
        self.assertLess(self.hub.num_sent, len(self.data))

    def test_a_damaged_part_or_journal(self):
        for damage in (self.damage_part, self.shorten_part, self.damage_journal):
            self.file.bytes_per_second = 4 * MEBIBYTE
            child = self.start_download("w", "--connections", 2)
            while self.hub.num_sent < 9 * MEBIBYTE:
                time.sleep(0.01)
            child.kill()
            child.communicate()
            damage()
            self.file.bytes_per_second = None
            self.download_ok()
            self.expect_file(self.data)
            (self.folder / "w/m.safetensors").unlink()
            self.hub.reset()

    def damage_part(self):
        with open(self.folder / "w/m.safetensors.part", "r+b") as part:
            part.write(b"damaged")

    def shorten_part(self):
        os.truncate(self.folder / "w/m.safetensors.part", 1000)

    def damage_journal(self):
        (self.folder / "w/m.safetensors.part.json").write_text('{"etag": ')


class RandomFaults(DownloadTest):
    def test_connections_cut_at_random_bytes(self):
        print(f"{NUM_SEEDS} seeds from {SEED}", file=sys.stderr)
        data = content(12 * MEBIBYTE)
        self.hub.add(REPO, "m.safetensors", data)
        for seed in range(SEED, SEED + NUM_SEEDS):
            draw = random.Random(seed)
            left = [draw.randrange(1, 40)]

            def cut_after():
                with self.hub.lock:
                    if left[0] == 0:
                        return None
                    left[0] -= 1
                    return int(2 ** draw.uniform(0, 23))

            self.hub.cut_after = cut_after
            done = self.download("w", "--connections", draw.choice([1, 2, 8]))
            if done.returncode == 0:
                self.expect_file(data)
                (self.folder / "w/m.safetensors").unlink()
            else:
                self.assertIn("attempts in a row have failed", done.stderr, f"seed {seed}")

    def kill_once(self, file, draw):
        """Starts or continues the download and kills it; returns whether it was still running."""
        num_connections = draw.choice([1, 4, 8])
        file.bytes_per_second = draw.choice([10, 40]) * MEBIBYTE
        seconds = file.size / (file.bytes_per_second * num_connections)
        child = self.start_download("w", "--connections", num_connections)
        try:
            child.wait(timeout=draw.uniform(0.01, 0.1 + seconds))
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        self.assertIn(child.returncode, (0, -signal.SIGKILL))
        target = self.folder / "w/m.safetensors"
        self.assertTrue(not target.exists() or target.read_bytes() == file.content)
        return child.returncode != 0

    def continue_killed_download(self, file, draw):
        """One download that is killed up to three times, then continued. Returns the number of kills
        and of bytes that were fetched twice."""
        (self.folder / "w/m.safetensors").unlink(missing_ok=True)
        self.hub.num_sent = num_kills = 0
        for _ in range(draw.choice([1, 1, 2, 3])):
            num_kills += self.kill_once(file, draw)
        file.bytes_per_second = None
        self.download_ok()
        self.expect_file(file.content)
        num_twice = self.hub.num_sent - file.size
        self.assertLessEqual(num_twice, MOST_FETCHED_TWICE * num_kills, f"seed {SEED}")
        return num_kills, num_twice

    def test_kills_at_random_moments(self):
        print(f"{NUM_SEEDS} killed downloads from seed {SEED}", file=sys.stderr)
        file = self.hub.add(REPO, "m.safetensors", content(40 * MEBIBYTE))
        draw = random.Random(SEED)
        results = []
        while len(results) < NUM_SEEDS:
            num_kills, num_twice = self.continue_killed_download(file, draw)
            if num_kills > 0:
                results.append((num_kills, num_twice))
        num_kills = sum(kills for kills, _ in results)
        num_twice = sum(twice for _, twice in results)
        most = max(twice / kills for kills, twice in results)
        print(f"{len(results)} right files after {num_kills} kills; fetched twice after a kill: "
              f"{num_twice / num_kills / MEBIBYTE:.1f} MiB on average, at most {most / MEBIBYTE:.1f} MiB",
              file=sys.stderr)

    @unittest.skipUnless(IS_LONG, "5 GB take long")
    def test_offsets_of_64_bits(self):
        size = 5_000_000_123
        digest = hashlib.sha256()
        for begin in range(0, size, 1 << 24):
            digest.update(bytes(min(1 << 24, size - begin)))
        self.hub.add(REPO, "m.safetensors", size=size, sha256=digest.hexdigest())
        self.download_ok()
        self.assertEqual((self.folder / "w/m.safetensors").stat().st_size, size)


if __name__ == "__main__":
    names = [name for name in sys.argv[4:] if name not in ("--long", "--short")]
    unittest.main(argv=[sys.argv[0], *names])
