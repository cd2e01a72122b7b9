"""What a dry run says: the origin's study without a network, memory as a sum, the device found, what is missing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from gpu_setup import T4, Card, driver_shows, no_driver
from ldc.cli import main
from ldc.errors import EnvironmentFault, ExitCode, ModelError
from ldc.models.known import KNOWN, PARAMETERS
from ldc.models.shapes import shape_of
from ldc.models.sources import plan_shape
from ldc.plan.banks import BANK_TOKENS
from ldc.plan.cost import Estimate, estimate
from ldc.plan.machine import Machine, find_machine, host_memory
from ldc.plan.measuring import gradient_bytes, gradient_sizes, groups, measured_batches, measuring_flops
from ldc.plan.memory import Memory, bank_size, memory_of, stage_one_bank, weights_bytes
from ldc.study.reading import read_study
from ldc.study.schema import ModelSpec, SelectionSpec, Study
from study_setup import mini_study

ROOT = Path(__file__).parent.parent
ORIGIN = ROOT / "studies" / "origin.yaml"
LLAMA = "meta-llama/Llama-3.2-1B"
H200 = Machine("cuda", "NVIDIA H200", 150_754_820_096, 989e12, "the published rate", bf16=True)
SLOW = Machine("cpu", "2 CPUs", 16 * 10**9, 1e11, "the rate measured", bf16=False)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def origin(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Estimate:
    monkeypatch.setattr("ldc.plan.cost.find_machine", lambda *_: machine)
    return estimate(read_study(ORIGIN))


def study(**training: Any) -> Study:
    return Study.model_validate(
        {
            "models": {"m": "x"},
            "domains": {"math": "embedded"},
            "training": {"steps": 1, "batch": 2, "block_length": 512} | training,
        }
    )


def test_the_origins_study_is_as_published() -> None:
    ours = read_study(ORIGIN).study
    assert sorted(spec.source for spec in ours.models.values()) == sorted(KNOWN)
    assert (ours.adapter.rank, ours.adapter.alpha) == (16, 32)
    training = ours.training
    assert (training.epochs, training.batch, training.accumulation, training.learning_rate) == (1, 2, 4, 2e-4)
    assert list(ours.regimes) == ["attn", "mlp", "all", "top1-mlp", "top1-attn", "top3-mlp", "top3-attn"]
    assert (len(ours.domains), len(ours.seeds)) == (6, 3)


def test_the_origins_study_is_planned_without_network_cache_or_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from ldc.cli import main; "
        f"code = main(['run', {str(ORIGIN)!r}, '--dry-run', '--json', '--device', 'cpu']); "
        "print([m for m in ('torch', 'transformers', 'peft', 'datasets') if m in sys.modules], file=sys.stderr); "
        "raise SystemExit(code)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    cost = json.loads(done.stdout)
    assert cost["runs"] == 4 * (6 * 7 * 3 + 6)
    assert {m["model"]: m["parameters"] for m in cost["models"]} == {
        "llama-3b": PARAMETERS["meta-llama/Llama-3.2-3B"],
        "llama-1b": PARAMETERS[LLAMA],
        "gemma-4b": PARAMETERS["google/gemma-3-4b-pt"],
        "gemma-1b": PARAMETERS["google/gemma-3-1b-pt"],
    }
    of_regime = {(r["model"], r["regime"]): r["trainable_parameters"] for r in cost["regimes"]}
    assert of_regime["llama-1b", "all"] == 16 * 704_512
    assert of_regime["gemma-4b", "mlp"] == 16 * 1_305_600
    assert of_regime["llama-3b", "top3-attn"] == 16 * 573_440 * 3 // 28
    assert {d["status"] for d in cost["downloads"]} == {"to be downloaded"}
    assert cost["download_bytes"] == 2 * sum(PARAMETERS.values())


def test_on_a_gpu_the_plan_is_in_bfloat16_and_says_what_its_time_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = origin(monkeypatch, H200)
    assert {m.precision for m in cost.models} == {"bfloat16"}
    assert {m.precision for m in cost.memory} == {"float32", "bfloat16", "nf4"}
    assert cost.time_seconds == pytest.approx(cost.flops / (0.3 * 989e12))
    assert "an assumption not measured yet" in cost.assumptions[0]
    assert cost.device == "cuda (NVIDIA H200, 151 GB)"


def test_a_model_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = origin(monkeypatch, SLOW)
    told = [line for line in cost.assumptions if "do not fit" in line]
    assert [line.split(":")[0] for line in told] == [m.model for m in cost.models if m.memory_bytes > 16e9]
    assert any(line.startswith("gemma-4b: ") for line in told)


def test_a_dry_run_tells_the_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(ORIGIN), "--dry-run", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "meta-llama/Llama-3.2-3B" in out
    assert "6.43 GB" in out
    assert "30% of the float32 matmul rate measured just now" in err


def test_a_model_in_the_cache_is_not_downloaded_and_one_without_weights_is(empty_cache: Path) -> None:
    repository = empty_cache / "models--org--tiny"
    snapshot = repository / "snapshots" / "0123abc"
    tiny_models.save_tiny(snapshot, "llama")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    spec = ModelSpec(source="org/tiny")
    whole, source = plan_shape("m", spec, Path())
    assert (source.status, source.revision, source.download_bytes) == ("cached", "0123abc", 0)
    (snapshot / "model.safetensors").unlink()
    again, source = plan_shape("m", spec, Path())
    assert again == whole
    assert (source.status, source.download_bytes) == ("to be downloaded", whole.weight_bytes)


def test_a_folder_with_config_json_alone_can_be_planned(tmp_path: Path) -> None:
    tiny_models.save_tiny(tmp_path / "m", "gemma3")
    whole, _ = plan_shape("m", ModelSpec(source="m"), tmp_path)
    (tmp_path / "m" / "model.safetensors").unlink()
    shape, source = plan_shape("m", ModelSpec(source="m"), tmp_path)
    assert shape == whole
    assert source.status == "only config.json in its folder"


def test_a_hub_id_of_which_nothing_is_known_needs_its_configuration(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"hf download org/other config\.json") as error:
        plan_shape("m", ModelSpec(source="org/other"), tmp_path)
    assert error.value.exit_code == ExitCode.ENVIRONMENT


def test_another_model_under_a_known_name_is_refused(empty_cache: Path) -> None:
    repository = empty_cache / "models--meta-llama--Llama-3.2-1B"
    tiny_models.save_tiny(repository / "snapshots" / "main", "llama")
    with pytest.raises(ModelError, match=r"where meta-llama/Llama-3\.2-1B has 112 in 16"):
        plan_shape("m", ModelSpec(source=LLAMA), Path())


# Memory


def test_memory_is_the_sum_of_its_terms() -> None:
    shape = shape_of(KNOWN[LLAMA], LLAMA)
    memory = memory_of(shape, study(), "bfloat16", True, 3)
    work = memory.adapters_bytes + memory.activations_bytes + memory.head_bytes
    assert memory.total_bytes == memory.libraries_bytes + memory.weights_bytes + work
    assert dataclasses.replace(memory, loading_bytes=10 * work).total_bytes == memory.total_bytes + 9 * work
    assert memory.adapters_bytes == 16 * 16 * (212_992 + 491_520 + 704_512)


def test_a_group_of_gradients_counts_where_it_is_more_than_training() -> None:
    shape, spec = shape_of(KNOWN[LLAMA], LLAMA), study()
    memory = memory_of(shape, spec, "bfloat16", True, 3)
    more = memory.activations_bytes + memory.head_bytes + 5
    assert dataclasses.replace(memory, measuring_bytes=more).total_bytes == memory.total_bytes + 5
    assert 2**28 < gradient_bytes(shape, 2.0) <= 2**29 < sum(gradient_sizes(shape, 2.0))
    assert memory_of(shape, spec, "nf4", True, 3).measuring_bytes == 0
    none = spec.model_copy(update={"selection": SelectionSpec(measures=())})
    assert memory_of(shape, none, "bfloat16", True, 3).measuring_bytes == 0
    assert measuring_flops(shape, none, "bfloat16", 2.0, 1e9) == 0


def test_groups_hold_what_fits_and_never_nothing() -> None:
    assert groups([3, 3, 3, 9, 1], 7) == [[0, 1], [2], [3], [4]]
    assert groups([], 7) == []


def test_measures_are_taken_on_a_few_batches_and_never_on_more_than_a_fifth_of_a_run() -> None:
    counts = [
        measured_batches(study(steps=steps, batch=2, accumulation=4, block_length=64)) for steps in (1, 10, 1_000)
    ]
    assert counts == [1, 8, 32]


def test_weights_take_what_their_precision_says() -> None:
    shape = shape_of(KNOWN[LLAMA], LLAMA)
    linear = sum(c.d_in * c.d_out for c in shape.components)
    assert weights_bytes(shape, "float32") == 4 * shape.parameters
    assert weights_bytes(shape, "bfloat16") == 2 * shape.parameters
    assert weights_bytes(shape, "nf4") == round(linear * 0.5625) + 2 * (shape.parameters - linear)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_bank_is_as_large_as_tokens_and_memory_allow(name: str) -> None:
    shape, ours = shape_of(KNOWN[name], name), study()
    most = BANK_TOKENS // (2 * 512)
    assert bank_size(shape, ours, 10**13) == most
    assert bank_size(shape, ours, 10**9) == 1
    sizes = [bank_size(shape, ours, gigabytes * 10**9, "bfloat16", True) for gigabytes in range(8, 160, 8)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == most
    between = next(n for n in sizes if n > 1)
    available = next(g for g in range(8, 160, 8) if bank_size(shape, ours, g * 10**9, "bfloat16", True) == between)
    assert memory_of(shape, ours, "bfloat16", True, between).total_bytes <= 0.85 * available * 10**9


def test_the_first_stages_banks_are_equal_shares() -> None:
    assert stage_one_bank(study(), 8) == 3
    assert stage_one_bank(study(), 2) == 2
    assert stage_one_bank(study(), 1) == 1


MEASURED = [
    # model, regimes' runs in the first bank, tokens of a row, peak bytes of the process (docs/log.md, 2026-11-24)
    (LLAMA, 3, 64, 7_943_880_704),
    (LLAMA, 3, 256, 9_157_451_776),
    ("google/gemma-3-1b-pt", 3, 192, 9_001_947_136),
]


@pytest.mark.parametrize(("name", "runs", "length", "peak"), MEASURED)
def test_memory_foreseen_is_within_fifteen_percent_of_what_was_measured(
    name: str, runs: int, length: int, peak: int
) -> None:
    ours = Study.model_validate(
        study(batch=1, accumulation=1, block_length=length).model_dump() | {"evaluation": {"batch_tokens": 512}}
    )
    foreseen: Memory = memory_of(shape_of(KNOWN[name], name), ours, "float32", False, runs)
    assert abs(foreseen.total_bytes / peak - 1) < 0.15


# The machine


def test_a_gpu_is_found_by_its_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    driver_shows(monkeypatch, Card(), T4)
    found = find_machine()
    assert (found.device, found.name, found.flops, found.bf16) == ("cuda", "NVIDIA H200", 989e12, True)
    assert found.memory_bytes == 150_754_820_096
    assert found.precision("auto") == "bfloat16"
    second = find_machine("cuda:1")
    assert (second.name, second.bf16, second.precision("auto")) == ("Tesla T4", False, "float32")
    assert "a guess" in second.why_flops


def test_without_a_gpu_the_cpu_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    no_driver(monkeypatch)
    found = find_machine()
    assert (found.device, found.precision("auto"), found.precision("nf4")) == ("cpu", "float32", "nf4")
    assert found.flops > 0
    assert found.memory_bytes == host_memory() > 0
    with pytest.raises(EnvironmentFault, match="--device cuda: no GPU found; use --device cpu") as error:
        find_machine("cuda")
    assert error.value.exit_code == ExitCode.ENVIRONMENT


# Epochs


def test_an_epoch_ends_a_run_before_its_steps(tmp_path: Path) -> None:
    ours = mini_study(tmp_path, domains=("birds",), regimes=("mlp",))
    ours.settings["training"] |= {"steps": 1000, "epochs": 1, "block_length": 64, "batch": 2}
    ours.run()
    (losses,) = [path for path in ours.out.rglob("losses.parquet") if "mlp" in path.parts]
    import pyarrow.parquet as pq

    steps = pq.ParquetFile(losses).read().num_rows
    documents = (ours.folder / "birds.jsonl").read_text().count("\n")
    assert 3 < steps < documents  # about fifty tokens a document, 128 a step
    shutil.rmtree(ours.out)
    ours.settings["training"] |= {"epochs": 2}
    ours.run()
    assert 2 * steps <= pq.ParquetFile(losses).read().num_rows <= 2 * steps + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["google/gemma-3-4b-pt"])
def test_the_script_for_gpus_goes_through_on_a_small_model(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_models", name, "--smoke", "--precision", "float32"]
    out = tmp_path / "record.json"
    subprocess.run(
        [*command, "--steps", "2", "--length", "32", "-o", str(out)], cwd=ROOT, capture_output=True, check=True
    )
    record = json.loads(out.read_text())
    assert (record["runs"], record["not_done"]) == (16, [])
    assert record["smallest_s"] > 0
    assert {"peak_bytes", "foreseen_bytes", "terms"} <= record.keys()
