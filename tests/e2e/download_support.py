"""What the tests of `mochi download` share."""

import os
import random
import subprocess
import sys

from fake_hub import Hub
from support import MOCHI, TIMEOUT_S, ProgramTest

IS_LONG = "--long" in sys.argv
REPO = "owner/repo"
TOKEN = "hf_never-shown"
MEBIBYTE = 1 << 20


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
