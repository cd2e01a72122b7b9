"""What the synthetic domains share: names, exact number formatting and the stream of documents."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from random import Random

Kind = Callable[[Random], str]


def words(text: str) -> tuple[str, ...]:
    """The words of a text, for a table of many short entries."""
    return tuple(text.split())


PAIRED = 0.4  # the share of documents that hold two passages
SHORT, LONG = 320, 1200  # characters: a shorter passage always gets a second, a longer pair none

NAMES = words(
    "Ada Amir Anika Arjun Astrid Beatriz Bilal Boris Bruna Carmen Cedric Chidi Clara Dalia Darius "
    "Davina Elif Elio Emeka Esther Fabian Farah Felix Freya Gita Goran Greta Hana Hassan Helga "
    "Hugo Ida Imran Ines Ivan Jamila Jonas Joyce Kaito Karim Katya Kofi Lars Leila Linus Lucia "
    "Magnus Malik Marta Mei Milan Nadia Naomi Nils Noor Olga Omar Oskar Paloma Pavel Petra Priya "
    "Quinn Rafael Rania Rosa Ruben Saana Samir Selma Stefan Tariq Tessa Theo Uma Valentin Vera "
    "Wanda Wei Xenia Yara Yusuf Zainab Zoltan"
)


def documents(domain: str, kinds: Sequence[Kind], seed: int, count: int) -> Iterator[str]:
    """Yield `count` documents of `domain`, no two of which share a line.

    The kinds come in shuffled rounds, so that all are equally frequent. The stream of a larger
    count starts with the stream of a smaller one. Raises RuntimeError once the kinds have no
    more new text to give.
    """
    rng = Random(f"{seed}-{domain}")
    seen: set[str] = set()
    done = misses = 0
    while done < count:
        for kind in rng.sample(kinds, len(kinds)):
            text = kind(rng)
            paired = rng.random() < PAIRED or len(text) < SHORT
            second = rng.choice(kinds)(rng) if paired else ""
            if second and len(text) + len(second) < LONG:
                text = f"{text}\n{second}"
            lines = {line for line in text.splitlines() if line.strip()}
            if not seen.isdisjoint(lines):
                misses += 1
                if misses > 1000:
                    raise RuntimeError(f"the {domain} generator ran dry after {done} documents")
                continue
            misses = 0
            seen |= lines
            yield text
            done += 1
            if done == count:
                return


def pick(rng: Random, *options: str) -> str:
    """One of several phrasings."""
    return options[int(rng.random() * len(options))]


def shuffled(rng: Random, *sentences: str) -> str:
    """The sentences in any order, as one paragraph."""
    return " ".join(rng.sample(sentences, len(sentences)))


def listed(items: Sequence[object]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *head, last = map(str, items)
    return f"{', '.join(head)} and {last}" if head else last


def a(word: str) -> str:
    """The word behind its indefinite article, by spelling."""
    return f"{'an' if word[0].lower() in 'aeiou' else 'a'} {word}"


def fixed(value: Fraction | int | float, places: int = 2) -> str:
    """The value rounded half away from zero to a fixed number of decimals."""
    return grouped(value, places).replace(",", "")


def grouped(value: Fraction | int | float, places: int = 2) -> str:
    """As `fixed`, with a comma at the thousands."""
    numerator, denominator = value.as_integer_ratio()
    scale = 10**places
    units = (2 * abs(numerator) * scale + denominator) // (2 * denominator)
    whole, part = divmod(units, scale)
    sign = "-" if numerator < 0 and units else ""
    return f"{sign}{whole:,}.{part:0{places}d}" if places else f"{sign}{whole:,}"


def money(sign: str, value: Fraction | int | float, places: int = 2) -> str:
    """An amount behind its currency sign, a minus before both."""
    digits = grouped(value, places)
    return f"-{sign}{digits[1:]}" if digits.startswith("-") else sign + digits


def exact(value: Fraction | int) -> str:
    """The value as a terminating decimal without trailing zeros; ValueError if there is none."""
    for places in range(13):
        if 10**places % value.denominator == 0:
            return fixed(value, places)
    raise ValueError(f"{value} is no decimal of at most 12 places")


def shown(value: Fraction | int, places: int = 2) -> str:
    """The exact decimal where it fits in `places`, otherwise 'about' and the rounded one."""
    if 10**places % value.denominator == 0:
        return exact(value)
    return f"about {fixed(value, places)}"
