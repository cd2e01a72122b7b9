"""The audit of the origin's published figures says what a hand computes from them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ldc.errors import DataError

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "origin_audit"


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("origin_audit", FOLDER / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["origin_audit"] = module
    spec.loader.exec_module(module)
    return module


def test_the_size_null_is_what_a_hand_computes(audit: ModuleType) -> None:
    table = audit.size_nulls(audit.read()[0]).set_index("model")
    # Llama 3.2 1B: MLP 3 sqrt(2048 8192) = 12288; attention 2048 + 2 sqrt(2048 512) + 2048 = 6144.
    assert table.loc["Llama 3.2 1B", "both"] == pytest.approx(2.0)
    # Only B: 2 sqrt(8192) + sqrt(2048) over 2 sqrt(2048) + 2 sqrt(512), in units of sqrt(512): 10 / 6.
    assert table.loc["Llama 3.2 1B", "one"] == pytest.approx(10 / 6)
    # A mean over 3 and over 4 components in place of the sums.
    assert table.loc["Llama 3.2 1B", "component"] == pytest.approx(2.0 * 4 / 3)
    assert table["both"].round(2).tolist() == [1.55, 2.0, 1.96, 2.6]
    assert table["mean"].round(2).tolist() == [1.41, 1.28, 1.64, 1.76]
    assert (table["under_both"].sum(), table["under_one"].sum(), table["cells"].sum()) == (23, 15, 24)


def test_the_published_scores_are_counted_in_both_directions(audit: ModuleType) -> None:
    scores = audit.read()[1]
    both = audit.directions(scores).set_index("arm").loc["both"]
    assert (both["above_pt"], both["equal_pt"], both["below_pt"]) == (1, 0, 5)
    assert audit.matched(scores, larger_is_better=True) == (["medical"], ["medical"])
    assert audit.matched(scores, larger_is_better=False)[1] == ["cpp"]


def test_the_sign_test_is_exact(audit: ModuleType) -> None:
    assert audit.sign_test(6, 0) == pytest.approx(2 / 64)
    assert audit.sign_test(5, 1) == pytest.approx(2 * 7 / 64)
    assert audit.sign_test(3, 3) == 1.0


def test_the_order_of_the_norms_is_counted(audit: ModuleType) -> None:
    table = audit.concentration(audit.read()[0])
    assert table.groupby("block")["ordered"].sum().to_dict() == {"mlp": 22, "attn": 22}
    # Llama 3.2 3B, rank-1 parameters: attention 573,440, MLP 946,176; three of its 28 layers.
    assert audit.parameter_shares()["top3_mlp"] == pytest.approx(3 / 28 * 946_176 / (946_176 + 573_440))


def test_the_report_keeps_to_eighty_columns(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main([]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "23 of 24" in text


def test_the_report_in_the_documents_is_the_scripts_own(audit: ModuleType, tmp_path: Path) -> None:
    assert audit.main(["--markdown", str(tmp_path / "report.md")]) == 0
    assert (tmp_path / "report.md").read_text() == (ROOT / "docs" / "results" / "origin_audit.md").read_text()


def test_other_tables_are_refused_with_their_reason(
    audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="not found"):
        audit.read(tmp_path)
    shutil.copytree(FOLDER / "data", tmp_path, dirs_exist_ok=True)
    norms = tmp_path / "published_norms.csv"
    norms.write_text(norms.read_text().replace("Gemma 3 1B", "Gemma 9"))
    assert audit.main(["--data", str(tmp_path)]) == 2
    assert "no shapes of Gemma 9" in capsys.readouterr().err
    norms.write_text("model,domain\n")
    with pytest.raises(DataError, match="lacks the columns block, full_run"):
        audit.read(tmp_path)
    assert audit.main(["--markdown", str(tmp_path / "absent" / "report.md")]) == 4
    assert "choose a file that can be written" in capsys.readouterr().err
