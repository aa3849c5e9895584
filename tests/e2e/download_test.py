"""`mochi download` against a hub on this machine.

Usage: download_test.py MOCHI MAKE_TINY_MODEL SPIECE_MODEL
"""

import os
import ssl
import struct
import subprocess
import sys
import unittest
from pathlib import Path

from download_support import MEBIBYTE, REPO, TOKEN, DownloadTest, content
from fake_hub import COMMIT, Fault
from support import MOCHI, SPIECE_MODEL, read_safetensors, write_safetensors

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download_weights.py"


def quantize_q8_0(data):
    """F32 values as blocks of one F16 scale and 32 bytes."""
    blocks = b""
    for values in struct.iter_unpack("<32f", data):
        scale = max(map(abs, values)) / 127 or 1
        blocks += struct.pack("<e32b", scale, *(round(value / scale) for value in values))
    return blocks


def write_q8_0(source, path):
    """Writes the matrices of the blocks as `<layer>.Q8_0_qweight`, where rows are whole blocks."""
    header, data = read_safetensors(source)
    entries, written = {}, b""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        values, sizes = data[slice(*entry["data_offsets"])], entry["shape"]
        if name.startswith("blocks.") and len(sizes) == 2 and sizes[1] % 32 == 0:
            name = name.removesuffix("weight") + "Q8_0_qweight"
            values, sizes = quantize_q8_0(values), [sizes[0], sizes[1] // 32 * 34]
            entry = {"dtype": "U8"}
        entries[name] = {"dtype": entry["dtype"], "shape": sizes,
                         "data_offsets": [len(written), len(written) + len(values)]}
        written += values
    write_safetensors(path, entries, written)


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
        t5_gguf = "city96/t5-v1_1-xxl-encoder-gguf"
        self.hub.add(t5_gguf, "t5-v1_1-xxl-encoder-Q8_0.gguf", size=5061584064,
                     sha256="9ec60f6028534b7fe5af439fcb535d75a68592a9ca3fcdeb175ef89e3ee99825")
        self.hub.add(t5_gguf, "t5-v1_1-xxl-encoder-Q4_K_M.gguf", size=2896123072,
                     sha256="6be2b0b7e2de7cf2919340c88cb802a103a997ce46c53131cec91958c1db1af4")
        self.hub.add("Kijai/Mochi_preview_comfy", "mochi_preview_dit_GGUF_Q8_0.safetensors", content(9))
        self.hub.add("calcuis/mochi-gguf", "mochi-q4_k_m.gguf", content(9))
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
        self.assertEqual(self.planned("--precision", "q8_0"),
                         ["dit.q8_0.safetensors", "t5-v1_1-xxl-encoder-Q8_0.gguf"] + wanted[2:])
        self.assertEqual(self.planned("--precision", "q4_k"),
                         ["dit.q4_k_m.gguf", "t5-v1_1-xxl-encoder-Q4_K_M.gguf"] + wanted[2:])
        self.assertEqual(self.planned(model="fastmochi"), ["dit.fast.safetensors"] + wanted[1:])
        text.sha256 = "0" * 64
        self.refuse_download("t5xxl_fp16.safetensors", "wanted 9787841024 bytes with SHA-256 6e480b",
                             model="mochi-1-preview")
        self.hub.files["calcuis/mochi-gguf"] = {}
        self.refuse_download("repository 'calcuis/mochi-gguf' has no file 'mochi-q4_k_m.gguf' any more",
                             "'mochi download calcuis/mochi-gguf --list' lists its files",
                             args=("w", "--precision", "q4_k"), model="mochi-1-preview")

    def test_flags_that_do_not_fit(self):
        for parts, args in [
            (["--precision: wanted 'bf16', 'fp8', 'q8_0' or 'q4_k', found 'q5_k'"], ("w", "--precision", "q5_k")),
            (["--precision: has no effect with OWNER/REPO"], ("w", "--precision", "fp8")),
            (["--with-encoder: has no effect"], ("w", "--with-encoder")),
            (["--connections: wanted a number from 1 to 64, found 0"], ("w", "--connections", 0)),
            (["DIR: is required"], ("--dry-run",)),
            (["DIR: has no effect with --list"], ("w", "--list")),
        ]:
            self.refuse_download(*parts, args=args, exit_code=2)
        for model in ("pusa", "fastmochi"):
            self.refuse_download(f"--precision: wanted bf16 for '{model}', found 'q4_k'",
                                 "'mochi convert IN OUT --to q4_k' makes it from the bf16 file",
                                 model=model, args=("w", "--precision", "q4_k"), exit_code=2)
        self.refuse_download("--include: has no effect with a known name", model="pusa",
                             args=("w", "--include", "*"), exit_code=2)
        for model in ("../repo", "owner/..", "o/r@", "a/b/c", "o/r@a b"):
            self.refuse_download("MODEL: wanted", model=model, exit_code=2)
        self.assertEqual(self.hub.requests, [])

    def test_folders_that_cannot_be_used_are_refused_before_any_request(self):
        self.hub.add(REPO, "m.safetensors", content(1000))
        (self.folder / "file").write_bytes(b"mine")
        (self.folder / "link").symlink_to("missing")
        (self.folder / "taken").mkdir()
        (self.folder / "taken/.mochi-download").write_bytes(b"")
        for folder, found in [("file", "file"), ("file/w", "file"), ("link", "link"), ("link/w", "link"),
                              ("/dev/null", "/dev/null"), ("taken", "taken/.mochi-download")]:
            for flags in ([], ["--dry-run"]):
                self.refuse_download(f"cannot download into '{folder}': '{found}' is not a folder",
                                     args=(folder, *flags))
        self.refuse_download("'/proc/w", args=("/proc/w",))
        self.refuse_download("File name too long", args=("a/b/" + 300 * "c",))
        self.assertEqual(self.hub.requests, [])
        self.assertFalse((self.folder / "a").exists())
        self.assertEqual(self.content("file"), b"mine")

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_a_folder_without_the_right_to_write_is_refused_before_any_request(self):
        (self.folder / "w").mkdir(mode=0o555)
        for folder in ("w", "w/inner"):
            self.refuse_download(f"cannot download into '{folder}': folder 'w' is not writable: ",
                                 args=(folder,))
        self.assertEqual(self.hub.requests, [])

    def test_a_folder_without_downloads_is_removed_again(self):
        self.refuse_download("repository 'owner/repo' does not exist", args=("a/b",))
        self.assertFalse((self.folder / "a").exists())
        (self.folder / "w").mkdir()
        self.refuse_download("repository 'owner/repo' does not exist", args=("w/b",))
        self.assertEqual(list((self.folder / "w").iterdir()), [])

    def known_targets(self):
        """The files of each model in each precision, as `--list` prints them: the transformer and the
        text encoder, then those of every precision."""
        targets = {}
        for line in self.run_command([MOCHI, "download", "--list"]).stdout.splitlines():
            words = line.split()
            if not line.startswith(" "):
                model, precision = words[0].rstrip(":"), "bf16"
            elif words[0] == "with":
                precision = words[2].rstrip(",") if words[1] == "--precision" else None
            elif precision is not None:
                targets.setdefault((model, precision), []).append(words[0].rstrip(":"))
        return {(model, precision): files[:2] + targets[model, "bf16"][2:]
                for (model, precision), files in targets.items()}

    def test_the_downloaded_model_makes_a_video(self):
        """The tiny model under the names of each known model's files, in the formats of these."""
        dit, text = self.model / "dit.safetensors", self.model / "text_encoder/model.safetensors"
        write_q8_0(dit, self.folder / "q8_0.safetensors")
        for output, network in (("q4_k.gguf", "transformer"), ("t5.gguf", "text-encoder")):
            done = self.run_mochi("convert", self.model, output, "--network", network, "--to", "q4_k")
            self.assertEqual(done.returncode, 0, done.stderr)
        networks = {"bf16": (dit, text), "fp8": (dit, text),
                    "q8_0": (self.folder / "q8_0.safetensors", self.folder / "t5.gguf"),
                    "q4_k": (self.folder / "q4_k.gguf", self.folder / "t5.gguf")}
        others = [self.model / "decoder.safetensors", SPIECE_MODEL]
        known = self.known_targets()
        self.assertEqual(len(known), 10)
        for (model, precision), targets in known.items():
            with self.subTest(model=model, precision=precision):
                self.hub.files[REPO] = {}
                self.hub.add(REPO, "config.json", (self.model / "config.json").read_bytes(), lfs=False)
                for source, target in zip([*networks[precision], *others], targets, strict=True):
                    self.hub.add(REPO, target, Path(source).read_bytes())
                folder = f"{model}-{precision}"
                self.download_ok(folder)
                done = self.run_mochi("inspect", folder)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(f"file: {folder}/{targets[0]}", done.stdout)
                done = self.run_mochi("generate", "--model-dir", folder, "--prompt", "a ball",
                                      "--num-frames", 1, "--out", f"{folder}.y4m")
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


if __name__ == "__main__":
    unittest.main(argv=[__file__])
