"""The built-in choices of Hub data sets for the six domains: a first and a second one each.

Columns and licences follow the data sets' cards. No revision is pinned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ldc.domains.formats import Columns

_PLAIN = Columns()


@dataclass(frozen=True, slots=True)
class HubSplit:
    """One split of one data set on the Hub, and how its records become text."""

    id: str
    split: str
    columns: Columns = _PLAIN
    configuration: str | None = None
    folder: str | None = None
    revision: str | None = None

    @property
    def page(self) -> str:
        """The page that describes it and its conditions."""
        return f"https://huggingface.co/datasets/{self.id}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A data set for a domain. Without a test split of its own, `train` is split by document."""

    licence: str
    train: HubSplit
    test: HubSplit | None = None
    validation: HubSplit | None = None
    note: str = ""


def _three(licence: str, train: HubSplit, note: str) -> Choice:
    """A data set with all three splits of its own, by their usual names."""
    return Choice(licence, train, replace(train, split="test"), replace(train, split="validation"), note)


_GSM8K = Columns(prompt="Question: {question}\nAnswer: ", completion="{answer}")
_GSM8K_TEST = HubSplit("openai/gsm8k", "test", _GSM8K, "main")
_SCIQ = Columns(prompt="{support}\n\nQuestion: {question}\nAnswer: ", completion="{correct_answer}")
_ALPACA = Columns(format="alpaca")
_PUBMED = Columns(
    prompt="{context.contexts}\n\nQuestion: {question}\nAnswer: ", completion="{long_answer}", source="pubid"
)
_MEDMCQA = Columns(format="choices")
_EDGAR = Columns(text="{section_1}\n\n{section_1A}\n\n{section_7}", source="filename")

CHOICES: dict[str, Choice] = {
    "cpp": Choice(
        "apache-2.0",
        HubSplit("malteklaes/cpp-code-code_search_net-style", "train", Columns(text="func_code_string")),
    ),
    "cpp-2": Choice(
        "of each file; gated",
        HubSplit("bigcode/the-stack-smol", "train", Columns(text="content"), folder="data/c++"),
        note="accept its conditions on its page first",
    ),
    "python": Choice(
        "of each file",
        HubSplit("codeparrot/codeparrot-clean", "train", Columns(text="content", source="repo_name")),
    ),
    "python-2": Choice("none stated", HubSplit("iamtarun/python_code_instructions_18k_alpaca", "train", _ALPACA)),
    "math": Choice("mit", HubSplit("openai/gsm8k", "train", _GSM8K, "main"), _GSM8K_TEST),
    "math-2": Choice(
        "mit",
        HubSplit(
            "meta-math/MetaMathQA",
            "train",
            Columns(prompt="Question: {query}\nAnswer: ", completion="{response}", source="original_question"),
        ),
        _GSM8K_TEST,
        note="made from the training questions of gsm8k and MATH; scored on the test split of gsm8k",
    ),
    "science": _three("cc-by-nc-3.0", HubSplit("allenai/sciq", "train", _SCIQ), "not for commercial use"),
    "science-2": Choice(
        "cc-by-nc-4.0",
        HubSplit(
            "camel-ai/physics", "train", Columns(prompt="Question: {message_1}\nAnswer: ", completion="{message_2}")
        ),
        note="not for commercial use; written by a language model",
    ),
    "finance": Choice("none stated", HubSplit("gbharti/finance-alpaca", "train", _ALPACA)),
    "finance-2": _three(
        "apache-2.0",
        HubSplit("eloukas/edgar-corpus", "train", _EDGAR, folder="year_2020", revision="refs/convert/parquet"),
        "read from the Hub's Parquet copy, because the data set itself needs a script",
    ),
    "medical": Choice("mit", HubSplit("qiaojin/PubMedQA", "train", _PUBMED, "pqa_artificial")),
    "medical-2": Choice(
        "apache-2.0",
        HubSplit("openlifescienceai/medmcqa", "train", _MEDMCQA),
        HubSplit("openlifescienceai/medmcqa", "validation", _MEDMCQA),
        note="scored on its validation split, because its test split hides the answers",
    ),
}
