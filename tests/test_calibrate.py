"""`ldc calibrate` from end to end on random models: what is planted and stored, how it goes on, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ldc.calibrate.damage import damaged
from ldc.calibrate.teach import teach

import engine_setup as es
import tiny_models
from ldc.calibrate import conduct, text
from ldc.calibrate.conduct import calibrate, plan
from ldc.calibrate.maps import Reading, Weights, make_maps
from ldc.calibrate.plants import Plant
from ldc.calibrate.settings import Settings
from ldc.calibrate.text import Shuffled, Texts, batch_of
from ldc.cli import main
from ldc.domains.document import Document
from ldc.engine.head import IGNORED
from ldc.engine.importance import mean_loss
from ldc.errors import StoreError
from ldc.models.load import LoadedModel, load
from ldc.progress import Silent
from ldc.study.schema import ModelSpec

SMALL = {
    "kinds": ("damage", "damage2", "taught", "none"),
    "seeds": 1,
    "nothing": 3,
    "strengths": (1.0,),
    "lessons": (1, 3),
    "steps": 2,
    "rows": 2,
    "length": 16,
    "probe": 1,
}
WORDS = ("heart", "blood", "market", "stress", "atom", "three", "seven", "makes", "return")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with its tokenizer."""
    return tiny_models.save_tiny(tmp_path_factory.mktemp("model"), "llama", layers=2)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedModel:
    return load("m", ModelSpec(source=str(folder)), Path(), torch.device("cpu"), torch.float32)


@pytest.fixture
def domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A domain in a file; what stands for general text are documents like its own."""
    path = tmp_path / "notes.jsonl"
    lines = [" ".join(WORDS[(i * j + j) % len(WORDS)] for j in range(1, 30)) + f" {i}" for i in range(40)]
    path.write_text("\n".join(json.dumps({"text": line}) for line in lines))
    general = [Document(f"general:{i}", line[::-1]) for i, line in enumerate(lines)]
    monkeypatch.setattr(text, "general_documents", lambda _but: general)
    return str(path)


def settings(domain: str, **changes: Any) -> Settings:
    return Settings.model_validate(SMALL | {"domains": (domain,)} | changes)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_damage_is_of_the_strength_asked_for_and_is_taken_back_to_the_bit() -> None:
    setup = es.setup(dtype=torch.float32)
    before = weights_of(setup.model)
    block = es.regime(setup.layout, "mlp", [1])
    with damaged(setup.base, block, 0.5):
        after = weights_of(setup.model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{c.path}.weight" for c in block}
    for name in changed:
        ratio = float((after[name] - before[name]).std() / before[name].std())
        assert ratio == pytest.approx(0.5, rel=0.1)
    assert all(torch.equal(p, before[name]) for name, p in setup.model.named_parameters())


def test_a_stronger_damage_is_the_same_one_only_larger() -> None:
    setup = es.setup()
    block = es.regime(setup.layout, "attn", [0])
    path = f"{block[0].path}.weight"
    before = weights_of(setup.model)[path]
    moved = []
    for strength in (0.1, 0.4):
        with damaged(setup.base, block, strength):
            moved.append(weights_of(setup.model)[path] - before)
    assert torch.allclose(4 * moved[0], moved[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_teacher_learns_in_its_block_alone_and_gives_the_base_back(dtype: torch.dtype) -> None:
    model = es.fresh_model("llama", dtype)
    layout = es.setup("llama", torch.float32).layout
    base = es.Base.of(model, layout)
    before = weights_of(model)
    block = es.regime(layout, "mlp", [2])
    batch = next(es.windows(["math#0"], es.Reading(rows=4, length=16)))[0]
    start = float(mean_loss(base, batch))
    losses = []
    for steps, _loss in teach(base, block, iter([batch] * 30), (10, 30), rate=0.05):
        after = weights_of(model)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {f"{c.path}.weight" for c in block}
        losses.append((steps, float(mean_loss(base, batch))))
    assert [steps for steps, _ in losses] == [10, 30]
    assert losses[1][1] < losses[0][1] < start
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def test_own_rows_are_samples_that_end_at_the_end_of_a_document(loaded: LoadedModel, domain: str) -> None:
    texts = Texts(loaded, settings(domain, steps=30))
    found = texts.rows("own", 0)
    assert len(found) == 60
    assert found == Texts(loaded, settings(domain, steps=30)).rows("own", 0)
    assert found != texts.rows("own", 1)
    for row in found:
        assert row.tokens[0] == tiny_models.BOS
        kept = [token for token in row.labels if token != IGNORED]
        assert list(row.tokens[1 : len(kept) + 1]) == kept[: len(row.tokens) - 1]
        assert tiny_models.EOS not in kept[:-1]


def test_shuffled_text_holds_the_same_tokens_in_another_order(loaded: LoadedModel, domain: str) -> None:
    texts = Texts(loaded, settings(domain, steps=20))
    own, shuffled = texts.rows("own", 0), texts.rows("shuffled:own", 0)
    assert own != shuffled
    for a, b in zip(own, shuffled, strict=True):
        assert sorted(a.labels) == sorted(b.labels)
        assert a.tokens[0] == b.tokens[0]
    document = Document("d:1", "heart blood market stress atom three seven makes")
    plain, mixed = text.Encoder(loaded.tokenizer).encode(document), Shuffled(loaded.tokenizer, 0).encode(document)
    assert sorted(plain.ids) == sorted(mixed.ids)
    assert plain.ids != mixed.ids


def test_rows_of_several_documents_keep_them_apart_and_others_need_no_mask(loaded: LoadedModel, domain: str) -> None:
    texts = Texts(loaded, settings(domain, length=64))
    packed = texts.rows(domain, 0)
    assert batch_of({"a": packed}, torch.device("cpu")).positions is not None
    assert batch_of({"a": texts.rows("own", 0)}, torch.device("cpu")).positions is None


def test_a_map_is_the_same_alone_and_beside_others(loaded: LoadedModel, domain: str) -> None:
    small = settings(domain, steps=3)
    base = es.Base.of(loaded.model, loaded.layout)
    components = loaded.layout.components
    texts = Texts(loaded, small)
    readings = [Reading(Plant("none", (), 0.0, "own"), seed, texts.rows("own", seed)) for seed in range(3)]
    weights = Weights(base, components).measures()
    together = [m for m, _ in make_maps(base, small, readings, weights, components)]
    for reading, found in zip(readings, together, strict=True):
        ((alone, _),) = make_maps(base, small, [reading], weights, components)
        for name, values in found.measures.items():
            assert values == pytest.approx(alone.measures[name], rel=2e-4), name
        assert found.losses == pytest.approx(alone.losses, rel=1e-5)


def test_the_shift_is_the_norm_of_the_difference_of_two_updates(loaded: LoadedModel, domain: str) -> None:
    small = settings(domain, steps=4)
    base = es.Base.of(loaded.model, loaded.layout)
    components = loaded.layout.components
    texts = Texts(loaded, small)
    weights = Weights(base, components).measures()
    plant = Plant("none", (), 0.0, "own")
    ((bare, factors),) = make_maps(base, small, [Reading(plant, 0, texts.rows("own", 0))], weights, components)
    again = Reading(plant, 0, texts.rows("own", 0), factors)
    other = Reading(plant, 0, texts.rows("own", 1), factors)
    ((same, _),) = make_maps(base, small, [again], weights, components)
    assert (same.measures["shift"] <= 1e-6 * bare.measures["frobenius"]).all()
    ((moved, theirs),) = make_maps(base, small, [other], weights, components)
    scaling = small.adapter.scaling
    wanted = [np.linalg.norm(scaling * (b @ a - b0 @ a0)) for (a, b), (a0, b0) in zip(theirs, factors, strict=True)]
    assert moved.measures["shift"] == pytest.approx(wanted, rel=1e-4)


def test_the_measures_stand_in_the_order_of_the_components(loaded: LoadedModel, domain: str) -> None:
    small = settings(domain)
    base = es.Base.of(loaded.model, loaded.layout)
    components = loaded.layout.components
    reading = Reading(Plant("none", (), 0.0, "own"), 0, Texts(loaded, small).rows("own", 0))
    weights = Weights(base, components)
    ((found, _),) = make_maps(base, small, [reading], weights.measures(), components)
    norms = [float(loaded.model.get_submodule(c.path).weight.norm()) for c in components]
    assert found.measures["weight"] == pytest.approx(norms, rel=1e-5)
    changed = es.regime(loaded.layout, "mlp", [1])
    with damaged(base, changed, 1.0):
        _, norm = weights.measures(changed)
    grown = {c.label for c, now, was in zip(components, norm, norms, strict=True) if abs(now / was - 1) > 1e-3}
    assert grown == {c.label for c in changed}


def test_a_calibration_writes_its_tables_and_goes_on_without_repeating(
    folder: Path, domain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, wanted = tmp_path / "out", settings(domain)
    whole = calibrate(str(folder), tmp_path / "whole", wanted, Silent())
    made: list[str] = []
    write = conduct.Folder.write

    def stop(self: Any, plant: Plant, *rest: Any) -> None:
        if len(made) == 9:
            raise KeyboardInterrupt
        made.append(plant.name)
        write(self, plant, *rest)

    monkeypatch.setattr(conduct.Folder, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        calibrate(str(folder), out, wanted, Silent())
    monkeypatch.setattr(conduct.Folder, "write", write)
    assert calibrate(str(folder), out, wanted, Silent()) == whole
    names = sorted(p.name for p in (tmp_path / "whole").rglob("*.*") if p.is_file())
    for name in names:
        (ours,), (theirs,) = out.rglob(name), (tmp_path / "whole").rglob(name)
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert {"planted.parquet", "planted.csv", "planted_summary.csv", "summary.json"} <= set(names)
    table = pd.read_parquet(out / "tables" / "planted.parquet")
    assert set(table["kind"]) == {"damage", "damage2", "taught"}
    assert set(table["domain"]) == {"own", "notes"}
    per_kind = table[table["metric"] == "s"].groupby(["kind", "strength"]).size().to_dict()
    assert per_kind == {("damage", 1.0): 4, ("damage2", 1.0): 4, ("taught", 1.0): 4, ("taught", 3.0): 4}
    monkeypatch.setattr(conduct, "_work", lambda *_: pytest.fail("nothing was left to do"))
    assert calibrate(str(folder), out, wanted, Silent()) == whole


def test_what_is_interrupted_in_the_middle_of_a_group_is_made_as_a_whole(domain: str) -> None:
    components = tuple(es.setup().layout.components)
    groups = plan(settings(domain, rows=128, length=64), components)
    taught = [g for g in groups if g[0].kind == "taught"]
    assert all(len({p.units for p in g}) == 1 and len(g) == 2 for g in taught)  # a teacher's lessons stay together


def test_other_settings_are_refused_in_the_same_folder(folder: Path, domain: str, tmp_path: Path) -> None:
    calibrate(str(folder), tmp_path / "out", settings(domain, kinds=("none",)), Silent())
    with pytest.raises(StoreError, match=r"other settings: steps \(there 2, now 3\)\. Give the same ones"):
        calibrate(str(folder), tmp_path / "out", settings(domain, kinds=("none",), steps=3), Silent())


def test_a_folder_that_holds_a_study_is_refused(folder: Path, domain: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("models: {}\n")
    with pytest.raises(StoreError, match="holds a study; give the calibration a folder of its own"):
        calibrate(str(folder), tmp_path, settings(domain, kinds=("none",)), Silent())


def test_a_damaged_record_is_named_with_what_to_do(folder: Path, domain: str, tmp_path: Path) -> None:
    calibrate(str(folder), tmp_path / "out", settings(domain, kinds=("none",)), Silent())
    (tmp_path / "out" / "maps" / "none-own.json").write_text("{")
    with pytest.raises(StoreError, match=r"none-own\.json: cannot be read .* the same command makes it anew"):
        calibrate(str(folder), tmp_path / "out", settings(domain, kinds=("none",)), Silent())


def test_a_missing_pair_is_named_with_what_to_do(folder: Path, domain: str, tmp_path: Path) -> None:
    out, wanted = tmp_path / "out", settings(domain, kinds=("none",))
    calibrate(str(folder), out, wanted, Silent())
    (out / "maps" / "none-own.json").unlink()
    (out / "maps" / "reference-own.1.safetensors").unlink()
    with pytest.raises(StoreError, match=r"1\.safetensors: cannot be read .*; remove reference-own\.json beside it"):
        calibrate(str(folder), out, wanted, Silent())
    (out / "maps" / "reference-own.json").unlink()
    assert calibrate(str(folder), out, wanted, Silent())["nothing"]


def test_the_model_with_nothing_planted_shifts_by_the_noise_of_its_samples(
    folder: Path, domain: str, tmp_path: Path
) -> None:
    calibrate(str(folder), tmp_path / "out", settings(domain, kinds=("none",), steps=4), Silent())
    table = pd.read_csv(tmp_path / "out" / "tables" / "planted_nothing.csv")
    assert {"shift", "s-over-untouched", "s-over-others"} <= set(table["metric"])
    assert table[table["metric"] == "shift"]["seed"].tolist() == [0, 1, 2]
    assert (table["excess"] > 0).all()


def command(folder: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--steps", "2", "--rows", "2", "--length", "16", "--seeds", "1", "-q"]
    return ["calibrate", str(folder), "-o", str(out), "--quick", *sizes, *more]


def test_the_command_prints_tables_that_fit_eighty_columns(
    folder: Path, domain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--kind", "damage", "--kind", "taught", "--kind", "none", "--domain", domain, "--strength", "1"]
    assert main(command(folder, tmp_path / "out", *words)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    tables = [line for line in out.splitlines() if "/out/" not in line]
    assert max(map(len, tables)) <= 80, max(tables, key=len)
    assert "S over undamaged model" in out
    assert "taught, notes" in out
    assert "1 seed, maps of 64 tokens" in out
    assert (tmp_path / "out" / "figures" / f"fig_planted_{conduct.named(str(folder))[0]}.png").exists()
    assert main([*command(folder, tmp_path / "out", *words), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["blocks"] == 4
    assert {row["kind"] for row in summary["best"]} == {"damage", "taught"}


def test_maps_that_diverge_are_named_and_end_with_3(
    folder: Path, domain: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--kind", "none", "--learning-rate", "1e30", "--steps", "4"]
    assert main(command(folder, tmp_path / "out", *words)) == 3
    assert "failed: none-own, seed 0: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["--domain", "nowhere"], "nowhere: neither an embedded domain (cpp, python, math", 2),
        (["--length", "128"], "--length 128:", 2),
        (["--strength", "-1"], "strengths.0: Input should be greater than 0", 2),
        (["--device", "cuda"], "--device cuda", 4),
    ],
)
def test_what_cannot_be_is_one_message_and_leaves_no_folder(
    words: list[str],
    told: str,
    code: int,
    folder: Path,
    tmp_path: Path,
    domain: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if code == 4 and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    words = words if "--domain" in words else [*words, "--domain", domain]
    assert main(command(folder, tmp_path / "out", *words)) == code
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists() or code == 4


def test_a_calibration_needs_a_folder_and_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "tiny-llama"]) == 2
    assert "give the folder for the results, such as -o out" in capsys.readouterr().err
    assert main(["calibrate", "no/such-model", "-o", str(tmp_path / "out")]) == 4
    assert "neither a folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
