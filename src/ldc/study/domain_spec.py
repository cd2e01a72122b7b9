"""A domain in the study file: where its text is, and how its records are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ldc.study.record import Positive, Record, Share, Slug, Text, fault, short_form


class DomainSpec(Record):
    """A domain: embedded, one source that LDC splits, one source for each split, or a data set on the Hub."""

    source: Text | None = None
    """`embedded`, a file or folder that LDC splits by source document, or `hub:` and a data set's id; `hub` alone takes
    the built-in choice for the domain's name. LDC reads JSON lines, lists in JSON, CSV, TSV, Parquet and plain text,
    each also with gzip. A single plain text is cut at blank lines into pieces, each a document; in a folder CSV, TSV
    and JSON are read only if it holds no other readable file."""
    configuration: Text | None = None
    """Configuration of a Hub data set that has several."""
    folder: Text | None = None
    """Folder to read in a Hub data set that has folders instead of configurations."""
    revision: Text | None = None
    """Commit, tag or branch of a Hub data set; the newest by default."""
    train: Text | None = None
    """File or folder of the training split, if the splits exist already; for a Hub data set, the name of its split."""
    validation: Text | None = None
    """File or folder of the validation split; for a Hub data set, the name of its split."""
    test: Text | None = None
    """File or folder of the test split; for a Hub data set, the name of its split. Without it LDC splits `train`."""
    format: Literal["columns", "alpaca", "question", "choices", "chat"] = "columns"
    """How a record becomes text: from the columns below, or as instructions (`instruction` and `output` or `response`),
    questions (`question` and `answer`), multiple choice or chats (`messages` or `conversations`). Where the records
    have none of the default columns below, LDC recognises these formats from their columns, and says so."""
    text: Text = "text"
    """Column that holds plain text, or a template with columns in braces: `{title}: {body}`."""
    prompt: Text = "prompt"
    """Column that holds a prompt, or a template."""
    completion: Text = "completion"
    """Column that holds the completion of the prompt, or a template."""
    document: Text = "doc"
    """Column with the name of the source document; a record without it is a document of its own. A name other than the
    default that no record has is an error."""
    loss: Literal["all", "completion"] = "all"
    """Which tokens of a prompt and its completion are trained on and scored."""
    characters: Positive | None = None
    """Read about this many characters of a split: reading ends with the document that reaches them, which is cut there
    if it goes more than a tenth beyond. The default is 10 million for the Hub and no limit for local text, of which
    more than 200 million are refused."""
    validation_share: Share = 0.05
    """Share of source documents for validation, if LDC makes the splits."""
    test_share: Share = 0.1
    """Share of source documents for the test split, if LDC makes the splits."""
    reference: Annotated[bool, Field(strict=True)] = False
    """A text whose map others are compared with, such as general text; only the ranked regime runs on it."""

    domain: Slug | None = None
    """The domain that this text is a source of; `sources` sets it. A text without it is a domain with one source."""
    only: dict[Text, Text] = Field(default_factory=dict)
    """Take only the records whose column has this value, as `{source: openai/grade-school-math}`; * stands for any
    characters."""
    sources: dict[Slug, Any] | None = None
    """The sources of a domain by a short name. Each is trained and scored apart, as a sample of the domain. A source is
    a mapping of the fields above in which it differs, or the value of the column `source` of its records."""

    _bare = model_validator(mode="before")(short_form)

    @property
    def on_hub(self) -> bool:
        """Whether the text comes from a data set on the Hub."""
        return self.source is not None and (self.source == "hub" or self.source.startswith("hub:"))

    @model_validator(mode="after")
    def _one_way_or_the_other(self) -> DomainSpec:
        parts = [self.train, self.test]
        if self.on_hub:
            if self.validation is not None and self.test is None:
                raise ValueError("name the test split too, or leave validation out and let LDC split by document")
        elif given := [k for k in ("configuration", "folder", "revision") if getattr(self, k) is not None]:
            raise ValueError(f"{given[0]} works only for a data set on the Hub, given as `source: hub:org/name`")
        elif self.source is not None and any(p is not None for p in (*parts, self.validation)):
            raise ValueError("give either source (LDC splits it) or train and test, not both")
        elif self.source is None and any(p is None for p in parts):
            raise ValueError("give source (LDC splits it), or both train and test")
        if self.sources is not None:
            raise ValueError("the sources of a source cannot be given")
        if self.only and (self.source == "embedded" or self.on_hub):
            raise ValueError("only works for local files of records; it cannot choose from embedded text or the Hub")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on; their sum must be below 1")
        return self


def with_sources_apart(domains: object) -> object:
    """Replace each domain that has `sources` by its sources, called `domain.source`; each has the domain's fields."""
    if not isinstance(domains, dict):
        return domains
    texts: dict[object, object] = {}
    for name, spec in domains.items():
        sources = spec.get("sources") if isinstance(spec, dict) else None
        if sources is None:
            texts[name] = spec
            continue
        if not isinstance(sources, dict) or not sources:
            raise fault("must be a mapping of a short name to each source", str(name), "sources")
        common = {key: value for key, value in spec.items() if key != "sources"}
        for source, own in sources.items():
            if isinstance(own, str):
                own = {"only": {"source": own}}
            if not isinstance(own, dict):
                raise fault("must be a mapping, or the value of the column `source`", str(name), "sources", str(source))
            texts[f"{name}.{source}"] = {**common, "domain": name, **own}
    return texts
