"""What weights of fewer bits cost: conversions, refused files, measures."""

import json
from pathlib import Path

import pytest
import torch
import weight_quality
from micro import dit_training, export
from safetensors.torch import load_file, save_file

MODEL = Path(__file__).resolve().parents[2] / "models" / "micro"
# Stands for the program: writes down its arguments and copies the network unchanged.
COPYING = """#!/bin/sh
echo "$2 $3 $5 $7" >> {log}
case "$2 $5" in
  *.gguf*|*.safetensors*) cp "$2" "$3" ;;
  *transformer) cp "$2/dit.safetensors" "$3" ;;
  *) cp "$2/text_encoder/model.safetensors" "$3" ;;
esac
"""


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def write_changed(folder, change):
    """Writes the model's networks with every other column of their matrices scaled."""
    for name in weight_quality.NETWORKS:
        state = load_file(MODEL / export.FILES[name])
        for key, tensor in state.items():
            if tensor.ndim == 2 and not key.endswith(weight_quality.TABLES):
                tensor[:, ::2] *= 1 + change
        path = folder / export.FILES[name]
        path.parent.mkdir(parents=True)
        save_file(state, path)


def test_each_network_is_converted_and_turned_back(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "weights"
    mochi = program(tmp_path / "mochi", COPYING.format(log=log))
    weight_quality.main(["--mochi", str(mochi), "--model", str(MODEL), "--weights-dir",
                         str(folder), "--make-only", "--precisions", "fp8", "q4_0"])
    calls = [line.split() for line in log.read_text().splitlines()]
    assert [call[2:] for call in calls] == [[network, to] for precision in ("fp8", "q4_0")
                                            for network in ("transformer", "text-encoder")
                                            for to in (precision, "bf16")]
    for (source, compact, *_), (again, target, *_) in zip(calls[::2], calls[1::2]):
        assert source == str(MODEL) and again == compact and target.endswith(".safetensors")
    assert calls[0][1].endswith(".safetensors") and calls[4][1].endswith(".gguf")
    for precision in ("fp8", "q4_0"):
        for name in weight_quality.NETWORKS:
            original = MODEL / export.FILES[name]
            assert (folder / precision / export.FILES[name]).read_bytes() == original.read_bytes()


def test_a_failed_conversion_ends_with_its_message(tmp_path):
    mochi = program(tmp_path / "mochi", "#!/bin/sh\necho error: the disk is full >&2\nexit 1\n")
    with pytest.raises(SystemExit, match="error: the disk is full"):
        weight_quality.main(["--mochi", str(mochi), "--model", str(MODEL), "--weights-dir",
                             str(tmp_path / "weights"), "--make-only"])


@pytest.mark.parametrize("arguments", [[], ["--make-only"], ["--weights-dir", "w", "--make-only"],
                                       ["--mochi", "/nonexistent"],
                                       ["--weights-dir", "w", "--report", "/nonexistent/r.json"]])
def test_contradictory_arguments_are_refused(arguments):
    with pytest.raises(SystemExit) as error:
        weight_quality.parse_args(arguments)
    assert error.value.code == 2


def test_files_that_are_not_the_models_are_refused(tmp_path):
    original = {"norm.weight": torch.ones(4), "shared.weight": torch.ones(3, 4),
                "q.weight": torch.ones(4, 4)}
    path = tmp_path / "x.safetensors"

    def refusal(state):
        save_file(state, path)
        with pytest.raises(SystemExit) as error:
            weight_quality.read_weights(path, original)
        assert str(path) in str(error.value)
        return str(error.value)

    assert "norm.weight is not the model's" in refusal({**original, "norm.weight": torch.zeros(4)})
    assert "shared.weight is not" in refusal({**original, "shared.weight": torch.zeros(3, 4)})
    assert "found [2, 4]" in refusal({**original, "q.weight": torch.ones(2, 4)})
    assert "extra is not in the model" in refusal({**original, "extra": torch.ones(1)})
    assert "q.weight is missing" in refusal({k: original[k] for k in ("norm.weight",
                                                                      "shared.weight")})
    save_file({**original, "q.weight": torch.zeros(4, 4)}, path)
    assert weight_quality.read_weights(path, original)["q.weight"].sum() == 0
    with pytest.raises(SystemExit, match="--mochi writes them"):
        weight_quality.read_weights(tmp_path / "absent.safetensors", original)


def test_errors_and_judgements_are_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dit_training, "latent_shape", lambda: (12, 2, 6, 8))
    for precision, change in (("fp8", 0.0), ("q8_0", 0.01), ("q4_0", 0.1)):
        write_changed(tmp_path / precision, change)
    path = tmp_path / "report.json"
    weight_quality.main(["--model", str(MODEL), "--weights-dir", str(tmp_path), "--precisions",
                         "fp8", "q8_0", "q4_0", "--prompts", "2", "--num-steps", "2", "--report",
                         str(path), "--device", "cpu"])
    report = json.loads(path.read_text())
    assert report["stored"]["dit"] == {"bfloat16": 158, "float32": 1}
    same, near, far = report["precisions"].values()
    assert same["features_error"] == same["latent_error"] == 0
    assert same["judged"] == report["original"]
    assert same["worst_psnr"] > near["psnr"] >= near["worst_psnr"] > far["worst_psnr"] > 5
    assert 0.001 < near["features_error"] < 0.05 < far["features_error"] < 0.5
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| as stored (bfloat16) |")
    assert rows[5].endswith(f"| {100 * far['features_error']:.2f} % |")
