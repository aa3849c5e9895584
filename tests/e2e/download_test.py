"""`mochi download` against a hub on this machine, with everything that goes wrong on the way.

Usage: download_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL [--long|--short]
"""

import hashlib
import os
import random
import resource
import signal
import ssl
import subprocess
import sys
import time
import unittest
from pathlib import Path

from fake_hub import COMMIT, Cut, Fault, Hub
from support import MOCHI, TIMEOUT_S, ProgramTest

IS_LONG = "--long" in sys.argv
IS_SHORT = "--short" in sys.argv  # for instrumented programs
NUM_SEEDS = 100 if IS_LONG else 1 if IS_SHORT else 5
SEED = random.randrange(1 << 32)
REPO = "owner/repo"
TOKEN = "hf_never-shown"
MEBIBYTE = 1 << 20
MOST_FETCHED_TWICE = 16 * MEBIBYTE
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download_weights.py"


def content(num_bytes, seed=0):
    return random.Random(seed).randbytes(num_bytes)


class DownloadTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.hub = Hub()
        self.addCleanup(self.hub.close)
        # Nothing of the machine's own settings.
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("HF_") and not name.lower().endswith("_proxy")}
        self.environment |= {"HF_ENDPOINT": self.hub.url, "HOME": str(self.folder / "home")}
        for name in ("XDG_CACHE_HOME", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            self.environment.pop(name, None)

    def command(self, *args, model=REPO):
        return [MOCHI, "download", model, *map(str, args)]

    def run_command(self, command, **options):
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True,
                              text=True, timeout=TIMEOUT_S * (10 if IS_LONG else 1), check=False, **options)
        self.assertNotIn(TOKEN, done.stdout + done.stderr)
        self.assertNotIn("secret-signature", done.stdout + done.stderr)
        return done

    def download(self, *args, model=REPO, **options):
        return self.run_command(self.command(*(args or ("w",)), model=model), **options)

    def download_ok(self, *args, **options):
        done = self.download(*args, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def refuse_download(self, *parts, args=("w",), exit_code=1, model=REPO):
        """One error line as the last one, which has these parts."""
        done = self.download(*args, model=model)
        self.assertEqual(done.returncode, exit_code, done.stderr)
        line = done.stderr.splitlines()[-1]
        self.assertTrue(line.startswith("mochi: "), line)
        for part in parts:
            self.assertIn(part, line)
        return line

    def left(self):
        """What lies in the folder, without the program's own state."""
        return sorted(str(path.relative_to(self.folder / "w")) for path in (self.folder / "w").rglob("*")
                      if path.is_file() and ".mochi-download" not in path.parts)

    def expect_file(self, data, name="m.safetensors"):
        self.assertEqual(self.content(f"w/{name}"), data)
        self.assertEqual([name for name in self.left() if ".part" in name], [])

    def store_requests(self):
        return [request for request in self.hub.requests if request.server == "store"]

    def start_download(self, *args):
        return subprocess.Popen(self.command(*(args or ("w",))), cwd=self.folder,
                                env=self.environment, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)


class Downloads(DownloadTest):
    def test_a_repository_arrives_whole_and_only_once(self):
        files = {"a/m.safetensors": content(30 * MEBIBYTE), "config.json": b"{}", "empty": b""}
        for path, data in files.items():
            self.hub.add(REPO, path, data, lfs=path.endswith("s"))
        done = self.download_ok()
        for path, data in files.items():
            self.expect_file(data, path)
        self.assertIn("3 files, 31.5 MB, all complete", done.stdout)
        self.assertGreater(len(self.store_requests()), 1)  # several ranges
        self.assertEqual(self.hub.num_sent, sum(map(len, files.values())))
        self.download_ok()
        self.assertEqual(self.hub.num_sent, sum(map(len, files.values())))

    def test_include_selects_files(self):
        for path in ("vae/a.json", "vae/a.bin", "b.json", "c [1].txt"):
            self.hub.add(REPO, path, path.encode(), lfs=False)
        self.download_ok("--include", "vae/", "--include=c *", "w")
        self.assertEqual(self.left(), ["c [1].txt", "vae/a.bin", "vae/a.json"])
        self.refuse_download("no file matches '*.x'", args=("w", "--include", "*.x"))

    def test_a_list_of_many_pages(self):
        self.hub.page_size = 3
        for number in range(10):
            self.hub.add(REPO, f"{number}.json", b"{}", lfs=False)
        done = self.download_ok("--list")
        self.assertEqual(len(done.stdout.splitlines()), 10)
        self.assertFalse((self.folder / "w").exists())

    def test_dry_run_writes_nothing(self):
        self.hub.add(REPO, "m.safetensors", content(1000))
        done = self.download_ok("w", "--dry-run")
        self.assertIn("m.safetensors: 1.00 kB from owner/repo/m.safetensors", done.stdout)
        self.assertIn("to download: 1.00 kB of 1.00 kB; free space in 'w': ", done.stdout)
        self.assertFalse((self.folder / "w").exists())

    def test_a_revision(self):
        self.hub.add(REPO, "m.safetensors", content(1000))
        self.download_ok("w", model=f"{REPO}@{COMMIT}")
        self.assertIn(COMMIT, self.hub.requests[0].path)
        self.refuse_download("has no revision 'other/one'", model=f"{REPO}@other/one")

    def test_known_names_are_looked_up(self):
        line = self.refuse_download("wanted mochi-1-preview, fastmochi, pusa, comfyui or OWNER/REPO",
                                    "found 'mochi'", model="mochi", exit_code=2)
        self.assertIn("MODEL: ", line)
        done = self.run_command([MOCHI, "download", "--list"])
        self.assertIn("mochi-1-preview: Mochi 1; licence: Apache-2.0", done.stdout)
        self.assertEqual(self.hub.requests, [])

    def add_known(self):
        """The repositories of mochi-1-preview, in name and size."""
        comfy = "Comfy-Org/mochi_preview_repackaged"
        for path in ("dit.safetensors", "decoder.safetensors", "encoder.safetensors"):
            self.hub.add("genmo/mochi-1-preview", path, content(1000))
        self.hub.add("genmo/mochi-1-preview", "tokenizer/spiece.model", content(100))
        self.hub.add("FastVideo/FastMochi", "dit.safetensors", content(1000))
        text = self.hub.add(comfy, "split_files/text_encoders/t5xxl_fp16.safetensors", size=9787841024,
                            sha256="6e480b09fae049a72d2a8c5fbccb8d3e92febeb233bbe9dfe7256958a9167635")
        self.hub.add(comfy, "split_files/text_encoders/t5xxl_fp8_e4m3fn_scaled.safetensors", content(9))
        self.hub.add(comfy, "split_files/diffusion_models/mochi_preview_fp8_scaled.safetensors",
                     size=10028084160,
                     sha256="8a6475b5380c90461a40d5c08ad574a5ad5ac4e6047e5f5f3f294df363f50705")
        return text

    def planned(self, *args, model="mochi-1-preview"):
        done = self.download_ok("w", "--dry-run", *args, model=model)
        return [line.split(":")[0] for line in done.stdout.splitlines()[:-1]]

    def test_a_known_name_is_one_complete_model(self):
        text = self.add_known()
        wanted = ["dit.safetensors", "t5xxl_fp16.safetensors", "decoder.safetensors",
                  "tokenizer/spiece.model"]
        self.assertEqual(self.planned(), wanted)
        self.assertEqual(self.planned("--with-encoder"), wanted + ["encoder.safetensors"])
        self.assertEqual(self.planned("--precision", "fp8"),
                         ["dit.fp8_scaled.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors"]
                         + wanted[2:])
        self.assertEqual(self.planned(model="fastmochi"), ["dit.fast.safetensors"] + wanted[1:])
        text.sha256 = "0" * 64
        self.refuse_download("t5xxl_fp16.safetensors", "wanted 9787841024 bytes with SHA-256 6e480b",
                             model="mochi-1-preview")

    def test_flags_that_do_not_fit(self):
        for parts, args in [
            (["--precision: wanted 'bf16' or 'fp8', found 'q8_0'"], ("w", "--precision", "q8_0")),
            (["--precision: has no effect with OWNER/REPO"], ("w", "--precision", "fp8")),
            (["--with-encoder: has no effect"], ("w", "--with-encoder")),
            (["--connections: wanted a number from 1 to 64, found 0"], ("w", "--connections", 0)),
            (["DIR: is required"], ("--dry-run",)),
            (["DIR: has no effect with --list"], ("w", "--list")),
        ]:
            self.refuse_download(*parts, args=args, exit_code=2)
        self.refuse_download("--precision: 'pusa' is available as bf16 only", model="pusa",
                             args=("w", "--precision", "fp8"), exit_code=2)
        self.refuse_download("--include: has no effect with a known name", model="pusa",
                             args=("w", "--include", "*"), exit_code=2)
        for model in ("../repo", "owner/..", "o/r@", "a/b/c", "o/r@a b"):
            self.refuse_download("MODEL: wanted", model=model, exit_code=2)
        self.assertEqual(self.hub.requests, [])

    def test_the_downloaded_model_makes_a_video(self):
        # The tiny model under the names that a known model's files get.
        names = {"dit.safetensors": "dit.fp8_scaled.safetensors",
                 "text_encoder/model.safetensors": "t5xxl_fp16.safetensors"}
        for path in sorted(self.model.rglob("*")):
            if path.is_file():
                name = str(path.relative_to(self.model))
                self.hub.add(REPO, names.get(name, name), path.read_bytes())
        self.download_ok()
        done = self.run_mochi("inspect", "w")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("not found", done.stdout)
        done = self.run_mochi("generate", "--model-dir", "w", "--prompt", "a ball", "--num-frames", 1,
                              "--out", "v.y4m")
        self.assertEqual(done.returncode, 0, done.stderr)


    def test_a_folder_of_the_cache_is_a_model_folder(self):
        cache = self.folder / "models--owner--repo"
        snapshot = cache / "snapshots" / COMMIT
        (cache / "blobs").mkdir(parents=True)
        for number, path in enumerate(sorted(self.model.rglob("*.*"))):
            if path.is_file():
                link = snapshot / path.relative_to(self.model)
                link.parent.mkdir(parents=True, exist_ok=True)
                (cache / "blobs" / str(number)).write_bytes(path.read_bytes())
                link.symlink_to(cache / "blobs" / str(number))
        done = self.run_mochi("inspect", cache)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("not found", done.stdout)
        command = ["generate", "--model-dir", cache, "--prompt", "a ball", "--num-frames", 1]
        for args in (["--out", "v.y4m"], ["--from-json", "v.y4m.json", "--out", "w.y4m"]):
            done = self.run_mochi(*command, *args)
            self.assertEqual(done.returncode, 0, done.stderr)
        (cache / "snapshots/other").mkdir()
        done = self.run_mochi(*command, "--out", "x.y4m")
        self.assertIn("holds 2 snapshots, and none is that of refs/main", done.stderr)

    def test_the_script_of_genmos_name(self):
        # The known text encoder is too large for a test; that it is refused shows that it was wanted.
        self.add_known().sha256 = "0" * 64
        self.environment["PATH"] = str(Path(MOCHI).parent)
        done = self.run_command([sys.executable, SCRIPT, "w"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("t5xxl_fp16.safetensors': wanted 9787841024 bytes", done.stderr)
        lonely = self.folder / "scripts"
        lonely.mkdir()
        script = lonely / SCRIPT.name
        script.write_bytes(SCRIPT.read_bytes())
        self.environment["PATH"] = "/nonexistent"
        done = self.run_command([sys.executable, script, "w", "--fast_model", "--hf_transfer"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("./run.sh builds it", done.stderr)


class Access(DownloadTest):
    def setUp(self):
        super().setUp()
        self.data = content(3 * MEBIBYTE)
        self.hub.add(REPO, "m.safetensors", self.data)

    def test_the_token_reaches_only_the_hub(self):
        self.hub.token = TOKEN
        self.environment["HF_TOKEN"] = TOKEN
        self.download_ok()
        self.expect_file(self.data)
        self.assertTrue(self.store_requests())
        for request in self.hub.requests:
            if request.server == "store":
                self.assertNotIn(TOKEN, request.all_headers)
            else:
                self.assertEqual(request.authorization, f"Bearer {TOKEN}")

    def test_the_token_of_a_file(self):
        self.hub.token = TOKEN
        for folder, variables in [(self.folder / "home/.cache/huggingface", {}),
                                  (self.folder / "hf", {"HF_HOME": str(self.folder / "hf")})]:
            folder.mkdir(parents=True)
            (folder / "token").write_text(TOKEN + "\n")
            self.environment |= variables
            self.download_ok("--list")
            (folder / "token").unlink()
        (folder / "token").write_text(f"{TOKEN}\r\nX-Other: {TOKEN}")
        self.refuse_download("hf/token': wanted a token, found spaces or control characters")

    def test_a_redirection_within_the_list_does_not_carry_the_token(self):
        def move(request):
            if request.server == "hub" and "/api/" in request.path:
                raise Fault(307, {"Location": self.hub.store_url + "/elsewhere"})

        self.environment["HF_TOKEN"] = TOKEN
        self.hub.faults = [move]
        self.refuse_download("does not exist")
        self.assertEqual([r.authorization for r in self.store_requests()], [None])

    def test_gated_repositories(self):
        self.hub.token = TOKEN
        page = f"accept its terms at {self.hub.url}/{REPO}"
        self.refuse_download("is gated or private", page, "set HF_TOKEN")
        self.environment["HF_TOKEN"] = "hf_other"
        self.refuse_download("is gated or private", page, "check that the token")

    def test_what_does_not_exist(self):
        self.refuse_download("repository 'owner/none' does not exist at", model="owner/none")
        self.environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
        self.environment["HF_HUB_DOWNLOAD_TIMEOUT"] = "1"
        self.refuse_download("127.0.0.1:9/api/models/owner/repo/tree/main: ")
        for endpoint in ("hub", "ftp://127.0.0.1"):
            self.environment["HF_ENDPOINT"] = endpoint
            self.refuse_download(f"the hub's address '{endpoint}': wanted one that begins with https://")

    def test_offline(self):
        self.environment["HF_HUB_OFFLINE"] = "1"
        self.refuse_download("HF_HUB_OFFLINE is set")
        self.assertEqual(self.hub.requests, [])

    def test_certificates_are_verified(self):
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", key, "-out", cert], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.hub.hub.socket = context.wrap_socket(self.hub.hub.socket, server_side=True)
        self.environment["HF_ENDPOINT"] = self.hub.url.replace("http:", "https:")
        self.refuse_download("certificate", args=("--list",))
        self.environment["SSL_CERT_FILE"] = str(cert)
        self.download_ok("--list")
        # From https the bytes may not come over http.
        self.refuse_download("which is not https")

    def test_a_proxy_is_used(self):
        self.environment["HF_ENDPOINT"] = "http://hub.invalid"
        self.environment["http_proxy"] = self.hub.url
        self.download("--list")
        self.assertTrue(self.hub.requests[0].path.startswith("http://hub.invalid/api/"))


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

    def test_kills_at_random_moments(self):
        print(f"{NUM_SEEDS} kills from seed {SEED}", file=sys.stderr)
        data = content(40 * MEBIBYTE)
        file = self.hub.add(REPO, "m.safetensors", data)
        num_kills = num_twice = 0
        draw = random.Random(SEED)
        while num_kills < NUM_SEEDS:
            file.bytes_per_second = draw.choice([5, 20]) * MEBIBYTE
            self.hub.num_sent = 0
            num_kills_of_file = 0
            while True:
                child = self.start_download("w", "--connections", draw.choice([1, 4, 8]))
                try:
                    child.wait(timeout=draw.uniform(0.02, 1.5))
                    break
                except subprocess.TimeoutExpired:
                    child.kill()
                    num_kills_of_file += 1
                finally:
                    child.communicate()
                self.assertFalse((self.folder / "w/m.safetensors").exists()
                                 and self.content("w/m.safetensors") != data)
            self.assertEqual(child.returncode, 0)
            self.expect_file(data)
            (self.folder / "w/m.safetensors").unlink()
            twice = self.hub.num_sent - len(data)
            self.assertLessEqual(twice, MOST_FETCHED_TWICE * num_kills_of_file, f"seed {SEED}")
            num_kills += num_kills_of_file
            num_twice = max(num_twice, twice / max(1, num_kills_of_file))
        print(f"at most {num_twice / MEBIBYTE:.1f} MiB fetched twice after a kill, on average of a file",
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
