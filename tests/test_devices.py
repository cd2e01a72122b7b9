"""One answer to where a study runs: planning, doctor and engine ask the same driver, and nonsense is never the CPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpu_setup import H200, T4, driver_shows, no_driver, torch_sees
from ldc.access.doctor import doctor
from ldc.cli import main
from ldc.engine.device import choose_device, is_out_of_memory, memory_of_device
from ldc.errors import EnvironmentFault, StudyError
from ldc.execute.conductor import run_study
from ldc.plan import machine as machines
from ldc.plan.cost import estimate
from ldc.plan.machine import find_machine, host_memory
from ldc.progress import Silent
from ldc.study.reading import read_study
from study_setup import mini_study

Patch = pytest.MonkeyPatch
ROOT = Path(__file__).parent.parent
NONSENSE = ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cuda:1 ", "", "mps", "cuda:\u0663", "cuda:1234"]


# Names


@pytest.mark.parametrize("asked", NONSENSE)
def test_a_device_that_is_none_is_refused_and_never_the_cpu(asked: str, monkeypatch: Patch) -> None:
    no_driver(monkeypatch)
    for choose in (find_machine, choose_device):
        with pytest.raises(StudyError, match="unknown device; give auto, cpu, cuda or cuda:N"):
            choose(asked)


def test_a_study_is_not_begun_on_a_device_that_is_none(tmp_path: Path) -> None:
    study = mini_study(tmp_path, ("birds",), ("mlp",))
    with pytest.raises(StudyError, match="device 'gpu': unknown device"):
        run_study(read_study(study.path), study.out, Silent(), "gpu")
    assert not study.out.exists()


def test_the_command_line_takes_a_numbered_gpu_and_no_nonsense(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver_shows(monkeypatch, T4, H200)
    words = ["run", str(ROOT / "studies" / "origin.yaml"), "--dry-run", "--json", "--device"]
    assert main([*words, "cuda:1"]) == 0
    assert json.loads(capsys.readouterr().out)["device"] == "cuda:1 (NVIDIA H200, 151 GB)"
    assert main([*words, "gpu"]) == 2
    told = capsys.readouterr().err
    assert "Usage: ldc run" in told
    assert "give auto, cpu, cuda or cuda:N" in told
    assert main([*words, "cuda:2"]) == 4
    assert capsys.readouterr().err == (
        "ldc: error: --device cuda:2: no such GPU; this machine has cuda:0 (Tesla T4), cuda:1 (NVIDIA H200)\n"
    )


# One answer


def test_cuda_1_is_the_second_gpu_and_its_memory(monkeypatch: Patch) -> None:
    driver_shows(monkeypatch, H200, T4)
    current = torch_sees(monkeypatch, H200, T4)
    for asked, card, number in (("auto", H200, 0), ("cuda", H200, 0), ("cuda:0", H200, 0), ("cuda:1", T4, 1)):
        planned, (device, why) = find_machine(asked), choose_device(asked)
        assert (planned.name, planned.memory_bytes, planned.number) == (card.name, card.memory_bytes, number)
        assert (device, why) == (torch.device("cuda", number), f"cuda:{number} ({card.name})")
        assert memory_of_device(device) == card.memory_bytes
        assert current[-1] == device
    second = estimate(read_study(ROOT / "studies" / "origin.yaml"), "cuda:1")
    assert second.device == "cuda:1 (Tesla T4, 16 GB)"
    assert {model.precision for model in second.models} == {"float32"}


Machine = Callable[[Patch], Any]
MACHINES: dict[str, tuple[Machine, tuple[Any, ...], str, str]] = {
    "no driver": (no_driver, (), "cpu", "no GPU found"),
    "all hidden": (lambda p: driver_shows(p, refusal=100), (), "cpu", "no GPU found"),
    "none in it": (driver_shows, (), "cpu", "no GPU found"),
    "a driver that fails": (
        lambda p: driver_shows(p, H200, refusal=999),
        (),
        "cpu",
        "the NVIDIA driver cannot be used (cuInit gives error 999)",
    ),
    "torch without CUDA": (
        lambda p: driver_shows(p, H200, built=False),
        (),
        "cpu",
        "NVIDIA H200 is present, but the installed torch is a CPU build; install one for CUDA",
    ),
    "two GPUs": (lambda p: driver_shows(p, H200, T4), (H200, T4), "cuda", "NVIDIA H200"),
}


@pytest.mark.parametrize("case", MACHINES)
def test_planning_doctor_and_engine_have_one_answer(case: str, monkeypatch: Patch) -> None:
    machine, seen, kind, why = MACHINES[case]
    machine(monkeypatch)
    torch_sees(monkeypatch, *seen)
    device, told = choose_device("auto")
    assert find_machine("auto", rate=1.0).device == device.type == kind
    assert why in told
    assert doctor()["device"]["device"] == told
    if kind == "cpu":
        assert memory_of_device(device) == find_machine("auto", rate=1.0).memory_bytes == host_memory()
        for choose in (find_machine, choose_device):
            with pytest.raises(EnvironmentFault) as error:
                choose("cuda")
            assert str(error.value) == f"--device cuda: {why}; use --device cpu"
    assert choose_device("cpu")[0].type == find_machine("cpu", rate=1.0).device == "cpu"


@pytest.mark.parametrize(
    ("shown", "seen", "both"),
    [
        ((), (H200,), ("torch sees NVIDIA H200", "driver's library shows no GPU")),
        ((H200,), (), ("driver names NVIDIA H200", "names no such GPU")),
        ((H200, T4), (T4, H200), ("driver names NVIDIA H200", "names Tesla T4")),
    ],
)
def test_where_torch_and_the_driver_do_not_agree_both_are_named(
    shown: tuple[Any, ...], seen: tuple[Any, ...], both: tuple[str, ...], monkeypatch: Patch
) -> None:
    driver_shows(monkeypatch, *shown)
    torch_sees(monkeypatch, *seen)
    with pytest.raises(EnvironmentFault) as error:
        choose_device("auto")
    assert all(words in str(error.value) for words in (*both, "--device cpu"))
    assert choose_device("cpu")[0] == torch.device("cpu")
    assert doctor()["device"]["device"] == f"none: {error.value}"


def test_the_preflight_asks_the_same_driver(tmp_path: Path, monkeypatch: Patch) -> None:
    from ldc.access.preflight import preflight

    file = read_study(mini_study(tmp_path, ("birds",), ("mlp",)).path)
    monkeypatch.setattr(machines, "host_memory", lambda: 1_000_000)
    driver_shows(monkeypatch, H200, built=False)
    (problem,) = preflight(file, tmp_path / "out").problems
    assert "memory: the study needs about" in str(problem)
    driver_shows(monkeypatch, H200)
    assert preflight(file, tmp_path / "out").problems == []
    (problem,) = preflight(file, tmp_path / "out", "cuda:1").problems
    assert str(problem) == "--device cuda:1: no such GPU; this machine has cuda:0 (NVIDIA H200)"


# How it is found


LIBRARY = """
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device ? "NVIDIA L4" : "NVIDIA H100", size);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = device ? 24000000000u : 85000000000u;
    return 0;
}
int cuDeviceGetAttribute(int *value, int which, int device) {
    *value = which == 75 ? 8 + !device : 9 * device;
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_drivers_functions_are_called_as_their_header_has_them(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "cuda.c").write_text(LIBRARY)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "cuda.c")], check=True)
    monkeypatch.setenv("CUDA_MODULE_LOADING", "LAZY")
    monkeypatch.setattr(machines, "_DRIVER", str(library))
    monkeypatch.setattr(machines, "_torch_has_cuda", lambda: True)
    gpus, _ = machines.usable_gpus()
    assert [(gpu.device, gpu.name, gpu.memory_bytes, gpu.capability) for gpu in gpus] == [
        ("cuda:0", "NVIDIA H100", 85_000_000_000, (9, 0)),
        ("cuda:1", "NVIDIA L4", 24_000_000_000, (8, 9)),
    ]


@pytest.mark.parametrize(
    ("text", "built"),
    [
        ("cuda: Optional[str] = None\nhip = None\n", False),
        ("debug = False\ncuda: Optional[str] = '12.8'\n", True),
        ("cuda = None\n", False),
        ("nothing of the kind\n", True),
        (None, True),
    ],
)
def test_whether_torch_knows_cuda_is_read_from_its_file(
    text: str | None, built: bool, tmp_path: Path, monkeypatch: Patch
) -> None:
    if text is not None:
        (tmp_path / "version.py").write_text(text)
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(machines, "find_spec", lambda _: found)
    assert machines._torch_has_cuda() is built


def test_what_is_read_of_this_torch_is_what_it_says_itself() -> None:
    code = "import sys; from ldc.plan import machine as m; print(m._torch_has_cuda(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(torch.version.cuda is not None), "False"]


# Memory that ran out


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    ],
)
def test_memory_that_ran_out_is_known_by_whoever_says_it(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), RuntimeError("shape mismatch"), ValueError()]
)
def test_other_errors_are_not_taken_for_a_lack_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)
