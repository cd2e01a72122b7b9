"""Synthetic science: short textbook passages about physics, chemistry and biology, from a seed.

The situations are invented, the constants are the accepted ones and the answers are computed.
Numbers are exact decimals unless the text says 'about', which announces a rounded one.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import log10
from random import Random

from ldc.domains.synthetic import _text
from ldc.domains.synthetic._chemistry import CHEMISTRY
from ldc.domains.synthetic._mechanics import MECHANICS
from ldc.domains.synthetic._text import NAMES, exact, fixed, pick, shown, shuffled

_HALF_LIVES = {
    "iodine-131": ("8.02", "days"),
    "cobalt-60": ("5.27", "years"),
    "caesium-137": ("30.1", "years"),
    "carbon-14": ("5730", "years"),
    "technetium-99m": ("6.01", "hours"),
    "strontium-90": ("28.8", "years"),
    "radon-222": ("3.82", "days"),
    "tritium": ("12.3", "years"),
    "fluorine-18": ("109.8", "minutes"),
    "phosphorus-32": ("14.3", "days"),
}
_TRAITS = (
    ("pea plants", "T", "tall", "short"),
    ("pea plants", "R", "round-seeded", "wrinkled-seeded"),
    ("pea plants", "Y", "yellow-seeded", "green-seeded"),
    ("pea plants", "P", "purple-flowered", "white-flowered"),
    ("mice", "B", "black", "brown"),
    ("guinea pigs", "S", "short-haired", "long-haired"),
    ("fruit flies", "V", "normal-winged", "vestigial-winged"),
    ("rabbits", "C", "coloured", "albino"),
)


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield `count` distinct documents, the same for the same seed."""
    return _text.documents("science", KINDS, seed, count)


def _series(rng: Random) -> str:
    parts = [rng.randrange(10, 500, 5) for _ in range(rng.choice((2, 3)))]
    volts, who = rng.choice((3, 5, 6, 9, 12, 15, 24, 48)), rng.choice(NAMES)
    total = sum(parts)
    current = Fraction(volts, total)
    drops = [current * part for part in parts]
    names = " + ".join(map(str, parts))
    return " ".join(
        [
            pick(
                rng,
                f"{who} connects resistors of {_text.listed(parts)} ohms in series to a {volts} V battery.",
                f"A {volts} V supply drives a chain of {len(parts)} resistors on {who}'s bench: "
                f"{_text.listed(parts)} ohms, one after the other.",
            ),
            pick(
                rng,
                "The same current flows through every element of a series circuit.",
                "In series, resistances simply add.",
            ),
            f"The total resistance is {names} = {total} ohms, so by Ohm's law the current is "
            f"{volts} / {total} A, {shown(1000 * current, 1)} mA.",
            "The voltage across each resistor is proportional to its resistance: "
            + "; ".join(f"{p} ohms takes {shown(d, 2)} V" for p, d in zip(parts, drops))
            + ".",
            f"These voltages add up to {volts} V, and the circuit converts "
            f"{shown(1000 * volts * current, 1)} mW into heat.",
        ]
    )


def _parallel(rng: Random) -> str:
    first, second = rng.sample(range(10, 400, 5), 2)
    volts, who = rng.choice((3, 5, 6, 9, 12, 24)), rng.choice(NAMES)
    whole = Fraction(first * second, first + second)
    one, two = Fraction(1000 * volts, first), Fraction(1000 * volts, second)
    return " ".join(
        [
            pick(
                rng,
                f"Two resistors, {first} ohms and {second} ohms, are wired in parallel across {volts} V by {who}.",
                f"In {who}'s circuit a {volts} V source feeds two branches, one of {first} ohms "
                f"and one of {second} ohms.",
            ),
            "Both branches feel the full voltage, while the current divides.",
            shuffled(
                rng,
                f"The {first}-ohm branch carries {shown(one, 1)} mA.",
                f"The {second}-ohm branch carries {shown(two, 1)} mA.",
            ),
            f"The source must deliver {shown(one + two, 1)} mA in all.",
            f"The equivalent resistance is {first} * {second} / ({first} + {second}) = "
            f"{first * second} / {first + second} ohms, {shown(whole, 2)} ohms, which is less "
            f"than the smaller of the two, {min(first, second)} ohms.",
            pick(
                rng,
                f"More current takes the path of {min(first, second)} ohms.",
                f"The power drawn is {shown(volts * (one + two), 1)} mW.",
            ),
        ]
    )


def _half_life(rng: Random) -> str:
    isotope = rng.choice(sorted(_HALF_LIVES))
    period, unit = _HALF_LIVES[isotope]
    count, start = rng.randint(2, 7), rng.randint(3, 400) * 8
    left = Fraction(start, 2**count)
    time = Fraction(period) * count
    who = rng.choice(NAMES)
    return " ".join(
        [
            pick(
                rng,
                f"The half-life of {isotope} is {period} {unit}.",
                f"Half of any sample of {isotope} decays in {period} {unit}.",
            ),
            pick(
                rng,
                f"A source in {who}'s laboratory has an activity of {start} kBq at first.",
                f"Suppose that {who} starts with a sample of {start} kBq.",
            ),
            f"After {count} half-lives, that is {count} * {period} = {exact(time)} {unit}, the "
            f"fraction left is 1/2^{count} = 1/{2**count}.",
            f"The activity has then dropped to {start} / {2**count} kBq, {shown(left, 3)} kBq, so "
            f"{shown(100 * (1 - Fraction(1, 2**count)), 3)}% of the nuclei have decayed.",
            pick(
                rng,
                "Decay is random for the single nucleus, yet the average follows this law closely.",
                f"The decay constant is ln 2 / {period}, about "
                f"{fixed(0.693147180559945 / float(period), 5)} per {unit.rstrip('s')}.",
            ),
        ]
    )


def _lens(rng: Random) -> str:
    focus, distance = rng.randint(5, 40), rng.randint(6, 150)
    if distance == focus:
        distance += 5
    image = Fraction(focus * distance, distance - focus)
    size, who = rng.randint(2, 20), rng.choice(NAMES)
    scale = abs(image) / distance
    decimal = "" if image.denominator == 1 else f", {shown(image, 2)} cm"
    nature = (
        "real and inverted, and can be caught on a screen"
        if image > 0
        else "virtual and upright, as in a magnifying glass"
    )
    return " ".join(
        [
            pick(
                rng,
                f"{who} places a candle {size} cm tall {distance} cm in front of a thin "
                f"converging lens with a focal length of {focus} cm.",
                f"A converging lens of focal length {focus} cm forms an image of an arrow "
                f"{size} cm high that {who} has put {distance} cm away from it.",
            ),
            "The thin-lens equation 1/f = 1/d + 1/i links focal length, object distance and image distance.",
            f"Solving for the image, i = {focus} * {distance} / ({distance} - {focus}) = {image} cm{decimal}.",
            f"Because i is {'positive' if image > 0 else 'negative'}, the image is {nature}.",
            f"Its size is {size} * {abs(image)} / {distance} cm, {shown(size * scale, 2)} cm, "
            f"which is {'larger' if scale > 1 else 'not larger'} than the object.",
        ]
    )


def _wave(rng: Random) -> str:
    medium, speed = rng.choice((("air at 20 degrees Celsius", 343), ("fresh water", 1480), ("steel", 5960)))
    frequency, who = rng.randrange(40, 12000, 20), rng.choice(NAMES)
    delay = Fraction(rng.randint(2, 60), 10)
    length = Fraction(speed, frequency)
    return " ".join(
        [
            pick(
                rng,
                f"Sound travels through {medium} at about {speed} m/s.",
                f"The speed of sound in {medium} is close to {speed} m/s.",
            ),
            pick(
                rng,
                f"A tone of {frequency} Hz made by {who} therefore has a wavelength of "
                f"{speed} / {frequency} m, {shown(length, 4)} m.",
                f"For {who}'s source, which vibrates {frequency} times a second, wavelength "
                f"equals speed over frequency: {speed} / {frequency} m, {shown(length, 4)} m.",
            ),
            f"One period lasts 1/{frequency} s, {shown(Fraction(1000, frequency), 3)} ms.",
            f"If an echo comes back after {exact(delay)} s, the sound has covered "
            f"{exact(delay * speed)} m, so the reflecting surface is {exact(delay * speed / 2)} m "
            "away.",
            pick(
                rng,
                f"An octave higher, at {2 * frequency} Hz, the wavelength is half as long.",
                f"A note one octave lower vibrates at {frequency // 2} Hz and its wavelength is twice as long.",
            ),
        ]
    )


def _crossings(genotypes: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(m, f) for m in genotypes for f in genotypes if m != f or m[0] != m[1]]


def _cross(rng: Random) -> str:
    kind, gene, strong, weak = rng.choice(_TRAITS)
    who, low = rng.choice(NAMES), gene.lower()
    genotypes = (gene * 2, gene + low, low * 2)
    mother, father = rng.choice(_crossings(genotypes))
    cells = [x + y if x <= y else y + x for x in mother for y in father]
    counts = [cells.count(genotype) for genotype in genotypes]
    n = 4 * rng.randint(5, 150)
    shares = [f"{c} of 4 {g}" for c, g in zip(counts, genotypes) if c]
    recessive = counts[2]
    chance = ", give or take chance" if recessive % 4 else ""
    return " ".join(
        [
            pick(
                rng,
                f"In {kind} the allele {gene} for {strong} is dominant over the allele {low} for {weak}.",
                f"One gene decides whether {kind} are {strong} or {weak}; the allele {gene} for "
                f"{strong} masks the recessive allele {low}.",
            ),
            f"{who} crosses a parent of genotype {mother} with one of genotype {father}.",
            f"The gametes carry {' or '.join(dict.fromkeys(mother))} from the first parent and "
            f"{' or '.join(dict.fromkeys(father))} from the second.",
            f"The Punnett square has the cells {', '.join(cells)}, that is {', '.join(shares)}.",
            f"So {4 - recessive} out of 4 offspring are expected to be {strong} and {recessive} out of 4 {weak}.",
            f"Among {n} young one expects {n * (4 - recessive) // 4} {strong} and {n * recessive // 4} {weak}{chance}.",
        ]
    )


def _dihybrid(rng: Random) -> str:
    first, second = rng.sample(_TRAITS[:4], 2)
    who, n = rng.choice(NAMES), 16 * rng.randint(2, 90)
    one = f"{first[1]}{first[1].lower()}"
    two = f"{second[1]}{second[1].lower()}"
    test = rng.random() < 0.4
    parts = (1, 1, 1, 1) if test else (9, 3, 3, 1)
    total = sum(parts)
    looks = [f"{x} and {y}" for x in first[2:] for y in second[2:]]
    table = "; ".join(f"{n * p // total} {look}" for p, look in zip(parts, looks))
    partner = f"{one[1] * 2}{two[1] * 2}" if test else f"{one}{two}"
    return " ".join(
        [
            pick(
                rng,
                f"{who} follows two genes of pea plants at once: {first[2]} ({first[1]}) against "
                f"{first[3]} ({one[1]}) and {second[2]} ({second[1]}) against {second[3]} "
                f"({two[1]}).",
                f"Two unlinked genes are studied in peas by {who}. Plants with {first[1]} are "
                f"{first[2]}, otherwise {first[3]}; plants with {second[1]} are {second[2]}, "
                f"otherwise {second[3]}.",
            ),
            f"A plant {one}{two} is crossed with a plant {partner}.",
            pick(
                rng,
                "By independent assortment the two pairs of alleles are inherited separately.",
                "The genes are not linked and so assort independently.",
            ),
            f"The expected ratio of appearances is {' : '.join(map(str, parts))}.",
            f"Out of {n} seedlings this predicts {table}.",
        ]
    )


def _acid(rng: Random) -> str:
    digits, power = rng.randint(10, 99), rng.randint(2, 6)
    who, acid = rng.choice(NAMES), pick(rng, "hydrochloric", "nitric", "hydrobromic")
    strength = Fraction(digits, 10) / 10**power
    ph = power - log10(digits / 10)
    volume = rng.randrange(50, 950, 10)
    return " ".join(
        [
            pick(
                rng,
                f"{who} dilutes {acid} acid until the hydrogen ion concentration is {digits / 10} * 10^-{power} mol/l.",
                f"A solution of {acid} acid in {who}'s flask contains hydrogen ions at "
                f"{digits / 10} * 10^-{power} mol/l.",
            ),
            "The pH is the negative decimal logarithm of this concentration.",
            f"Here pH = {power} - log10({digits / 10}), about {fixed(ph, 2)}.",
            f"Since pH and pOH add up to 14 at 25 degrees Celsius, the pOH is about {fixed(14 - ph, 2)}.",
            f"A tenfold dilution of {volume} ml to {10 * volume} ml "
            + (
                f"raises the pH by one unit, to about {fixed(ph + 1, 2)}."
                if power < 5
                else f"would bring it closer to the neutral value of 7 than {fixed(ph, 2)} is."
            ),
            f"Before dilution the {volume} ml hold {exact(strength * volume * 1000)} micromoles of hydrogen ions.",
        ]
    )


KINDS = (*MECHANICS, _series, _parallel, _half_life, _lens, _wave, _cross, _dihybrid, _acid, *CHEMISTRY)
