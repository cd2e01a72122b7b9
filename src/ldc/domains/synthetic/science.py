"""Synthetic science: short textbook passages about physics, chemistry and biology, from a seed.

The situations are invented, the constants are the accepted ones and the answers are computed.
Numbers are exact decimals unless the text says 'about', which announces a rounded one.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import log10, pi, sqrt
from random import Random

from ldc.domains.synthetic import _text
from ldc.domains.synthetic._chemistry import CHEMISTRY
from ldc.domains.synthetic._text import NAMES, a, exact, fixed, pick, shown, shuffled

G = Fraction("9.81")  # m/s^2, standard gravity to three figures

_BODIES = tuple(
    "cyclist trolley sled tram skater lorry rowing-boat kart glider scooter locomotive shuttle "
    "hovercraft ferry wagon tractor motorcycle bobsleigh minibus drone".split()
)
_OBJECTS = tuple(
    "brick pumpkin toolbox hammer flowerpot melon boulder anvil rucksack bucket crate statue "
    "sandbag barrel lantern kettlebell log suitcase".split()
)
_DENSITIES = {  # g/cm^3 at room temperature
    "aluminium": "2.70",
    "copper": "8.96",
    "gold": "19.3",
    "iron": "7.87",
    "lead": "11.34",
    "nickel": "8.91",
    "silver": "10.49",
    "tin": "7.27",
    "titanium": "4.51",
    "zinc": "7.13",
}
_HEATS = {  # J/(g K)
    "water": "4.18",
    "aluminium": "0.897",
    "copper": "0.385",
    "iron": "0.449",
    "lead": "0.129",
    "silver": "0.235",
    "ethanol": "2.44",
    "gold": "0.129",
}
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
_ORBITS = {  # semi-major axis in astronomical units
    "Mercury": "0.387",
    "Venus": "0.723",
    "Mars": "1.524",
    "Ceres": "2.766",
    "Vesta": "2.362",
    "Pallas": "2.770",
    "Jupiter": "5.203",
    "Saturn": "9.58",
    "Uranus": "19.2",
    "Neptune": "30.07",
    "Pluto": "39.48",
}


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield `count` distinct documents, the same for the same seed."""
    return _text.documents("science", KINDS, seed, count)


def _acceleration(rng: Random) -> str:
    body, who = rng.choice(_BODIES), rng.choice(NAMES)
    start, gain, time = rng.randint(0, 20), Fraction(rng.randint(2, 40), 10), rng.randint(3, 30)
    mass = rng.randrange(60, 2000, 20)
    end = start + gain * time
    path = start * time + gain * time * time / 2
    begin = f"moving at {start} m/s" if start else "at rest"
    return " ".join(
        [
            pick(
                rng,
                f"{a(body).capitalize()} {begin} speeds up uniformly at {exact(gain)} m/s^2 for "
                f"{time} s while {who} films it.",
                f"{who} measures {a(body)} that is {begin} when the clock starts and then "
                f"accelerates at a constant {exact(gain)} m/s^2 for {time} s.",
            ),
            pick(
                rng,
                "Under constant acceleration the velocity grows linearly with time.",
                "Velocity changes by the same amount in every second of uniform acceleration.",
            ),
            f"Its final velocity is v = u + at = {start} + {exact(gain)} * {time} = "
            f"{exact(end)} m/s.",
            f"The displacement is s = ut + at^2/2 = {exact(path)} m, which is the same as the "
            f"mean velocity {exact((start + end) / 2)} m/s multiplied by {time} s.",
            f"If the {body} has a mass of {mass} kg, Newton's second law demands a net force of "
            f"{mass} * {exact(gain)} = {exact(mass * gain)} N.",
        ]
    )


def _fall(rng: Random) -> str:
    thing, who = rng.choice(_OBJECTS), rng.choice(NAMES)
    mass, height = Fraction(rng.randint(4, 200), 10), rng.randint(2, 80)
    energy = mass * G * height
    speed = sqrt(2 * G * height)
    place = pick(rng, "balcony", "crane", "bridge", "scaffold", "tower", "cliff", "roof", "mast")
    return " ".join(
        [
            pick(
                rng,
                f"{who} studies the fall of {a(thing)} of {exact(mass)} kg from a {place} "
                f"{height} m above the ground.",
                f"{a(thing).capitalize()} with a mass of {exact(mass)} kg rests on a {place}, "
                f"{height} m up, until {who} lets it drop.",
            ),
            shuffled(
                rng,
                f"Its weight is {exact(mass)} * 9.81 = {exact(mass * G)} N.",
                f"The gravitational potential energy mgh amounts to {shown(energy, 3)} J, taking "
                "g = 9.81 m/s^2.",
            ),
            pick(
                rng,
                "Without air resistance all of this turns into kinetic energy.",
                "If drag is neglected, mechanical energy is conserved on the way down.",
            ),
            f"Setting mv^2/2 = mgh, the mass cancels, and the speed at the ground is "
            f"sqrt(2 * 9.81 * {height}), about {fixed(speed, 1)} m/s.",
            f"The fall lasts about {fixed(speed / 9.81, 2)} s. {a(thing).capitalize()} twice as "
            f"heavy would carry {shown(2 * energy, 3)} J but land equally fast.",
        ]
    )


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
                f"{who} connects resistors of {_text.listed(parts)} ohms in series to a "
                f"{volts} V battery.",
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
                f"Two resistors, {first} ohms and {second} ohms, are wired in parallel across "
                f"{volts} V by {who}.",
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
            f"{first * second:,} / {first + second} ohms, {shown(whole, 2)} ohms, which is less "
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
            f"The activity has then dropped to {start} / {2**count} = {shown(left, 3)} kBq, so "
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
            "The thin-lens equation 1/f = 1/d + 1/i links focal length, object distance and "
            "image distance.",
            f"Solving for the image, i = {focus} * {distance} / ({distance} - {focus}) = {image} "
            f"cm, {shown(image, 2)} cm.",
            f"Because i is {'positive' if image > 0 else 'negative'}, the image is {nature}.",
            f"Its size is {size} * {abs(image)} / {distance} cm, {shown(size * scale, 2)} cm, "
            f"which is {'larger than' if scale > 1 else 'smaller than' if scale < 1 else 'equal to'}"
            f" the object.",
        ]
    )


def _density(rng: Random) -> str:
    metal, other = rng.sample(sorted(_DENSITIES), 2)
    volume = Fraction(rng.randint(20, 900), 10)
    mass = Fraction(_DENSITIES[metal]) * volume
    weight = Fraction(_DENSITIES[other]) * volume
    who = rng.choice(NAMES)
    shape = pick(rng, "ingot", "cylinder", "ring", "cube", "medal", "bar", "sphere", "gear")
    return " ".join(
        [
            pick(
                rng,
                f"{who} lowers a solid {shape} into a measuring cylinder and the water rises by "
                f"{exact(volume)} ml.",
                f"To identify a metal {shape}, {who} finds that it displaces {exact(volume)} "
                "cubic centimetres of water.",
            ),
            f"On the balance it shows {shown(mass, 2)} g.",
            f"Dividing mass by volume gives a density of {_DENSITIES[metal]} g/cm^3, the value "
            f"for {metal}.",
            f"A {shape} of {other}, whose density is {_DENSITIES[other]} g/cm^3, would have a "
            f"mass of {shown(weight, 2)} g at the same size, so it would be "
            f"{'heavier' if weight > mass else 'lighter'} by {shown(abs(weight - mass), 2)} g.",
            pick(
                rng,
                "Both sink in water, whose density is 1.00 g/cm^3.",
                f"In water the {shape} loses as much weight as {exact(volume)} g of water has, "
                "by the principle of Archimedes.",
            ),
        ]
    )


def _wave(rng: Random) -> str:
    medium, speed = rng.choice(
        (("air at 20 degrees Celsius", 343), ("fresh water", 1480), ("steel", 5960))
    )
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
                f"A note one octave lower vibrates at {frequency // 2} Hz and its wavelength is "
                "twice as long.",
            ),
        ]
    )


def _heat(rng: Random) -> str:
    stuff, who = rng.choice(sorted(_HEATS)), rng.choice(NAMES)
    mass, low = rng.randrange(50, 3000, 10), rng.randint(5, 30)
    rise, power = rng.randint(5, 45), rng.choice((50, 100, 200, 250, 400, 500, 800, 1000))
    heat = mass * Fraction(_HEATS[stuff]) * rise
    return " ".join(
        [
            pick(
                rng,
                f"{who} warms {mass} g of {stuff} from {low} to {low + rise} degrees Celsius.",
                f"The temperature of {mass} g of {stuff} is to be raised by {rise} K, from "
                f"{low} to {low + rise} degrees Celsius, in {who}'s experiment.",
            ),
            f"The specific heat capacity of {stuff} is {_HEATS[stuff]} J/(g K).",
            f"The heat needed is Q = mcT = {mass} * {_HEATS[stuff]} * {rise} = {exact(heat)} J, "
            f"{shown(heat / 1000, 2)} kJ.",
            f"A heater of {power} W that loses nothing delivers this in {shown(heat / power, 1)} "
            "s.",
            pick(
                rng,
                f"On cooling back to {low} degrees the {stuff} gives the same heat off again.",
                f"Twice the mass, {2 * mass} g, would need {exact(2 * heat)} J for the same rise.",
            ),
            "Water stores far more heat per gram and kelvin than the common metals do."
            if stuff != "water"
            else "Few liquids store as much heat per gram, which is why seas temper the climate.",
        ]
    )


def _projectile(rng: Random) -> str:
    run, rise = rng.randint(3, 50), rng.randint(3, 40)
    thing, who = rng.choice(_OBJECTS), rng.choice(NAMES)
    time, top = 2 * rise / G, Fraction(rise * rise) / (2 * G)
    where = pick(rng, "Mars", "the Moon")
    gravity = Fraction("3.71") if where == "Mars" else Fraction("1.62")
    return " ".join(
        [
            pick(
                rng,
                f"A catapult built by {who} throws {a(thing)} with a horizontal velocity of "
                f"{run} m/s and a vertical velocity of {rise} m/s.",
                f"{who} computes the flight of {a(thing)} that leaves level ground with "
                f"components {run} m/s forwards and {rise} m/s upwards.",
            ),
            "Gravity changes only the vertical part of the motion.",
            shuffled(
                rng,
                f"The time of flight is 2 * {rise} / 9.81 s, about {fixed(time, 2)} s.",
                f"The greatest height is {rise}^2 / (2 * 9.81) m, about {fixed(top, 2)} m.",
            ),
            f"Meanwhile the {thing} moves {run} m forwards every second, so it lands about "
            f"{fixed(run * time, 1)} m away, if the air is ignored.",
            f"The launch speed is sqrt({run}^2 + {rise}^2) = sqrt({run**2 + rise**2}) m/s, about "
            f"{fixed(sqrt(run**2 + rise**2), 2)} m/s.",
            f"On {where}, where g is {exact(gravity)} m/s^2, the range would be about "
            f"{fixed(2 * run * rise / gravity, 1)} m.",
        ]
    )


def _cross(rng: Random) -> str:
    kind, gene, strong, weak = rng.choice(_TRAITS)
    who, low = rng.choice(NAMES), gene.lower()
    genotypes = (gene * 2, gene + low, low * 2)
    mother, father = rng.choice([(m, f) for m in genotypes for f in genotypes if m != f or m[0] != m[1]])
    cells = [x + y if x <= y else y + x for x in mother for y in father]
    counts = [cells.count(genotype) for genotype in genotypes]
    n = 4 * rng.randint(5, 150)
    shares = [f"{c} of 4 {g}" for c, g in zip(counts, genotypes) if c]
    recessive = counts[2]
    return " ".join(
        [
            pick(
                rng,
                f"In {kind} the allele {gene} for {strong} is dominant over the allele {low} for "
                f"{weak}.",
                f"One gene decides whether {kind} are {strong} or {weak}; the allele {gene} for "
                f"{strong} masks the recessive allele {low}.",
            ),
            f"{who} crosses a parent of genotype {mother} with one of genotype {father}.",
            f"The gametes carry {' or '.join(dict.fromkeys(mother))} from the first parent and "
            f"{' or '.join(dict.fromkeys(father))} from the second.",
            f"The Punnett square has the cells {', '.join(cells)}, that is {', '.join(shares)}.",
            f"So {4 - recessive} out of 4 offspring are expected to be {strong} and {recessive} "
            f"out of 4 {weak}.",
            f"Among {n} young one expects {n * (4 - recessive) // 4} {strong} and "
            f"{n * recessive // 4} {weak}, give or take chance.",
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
    looks = [looks[0], looks[1], looks[2], looks[3]]
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
                "The genes lie on different chromosomes and so assort independently.",
            ),
            f"The expected ratio of appearances is {' : '.join(map(str, parts))}.",
            f"Out of {n} seedlings this predicts {table}.",
        ]
    )


def _orbit(rng: Random) -> str:
    invented = rng.random() < 0.7
    name = f"asteroid {rng.randint(1000, 9999)}" if invented else rng.choice(sorted(_ORBITS))
    axis = Fraction(rng.randint(180, 5200), 1000) if invented else Fraction(_ORBITS[name])
    who, light = rng.choice(NAMES), Fraction("8.317")
    period = sqrt(axis**3)
    return " ".join(
        [
            pick(
                rng,
                f"In an exercise set by {who}, {name} circles the Sun with a semi-major axis of "
                f"{exact(axis)} astronomical units.",
                f"{who} looks for the period of {name}, whose orbit has a semi-major axis of "
                f"{exact(axis)} AU.",
            ),
            pick(
                rng,
                "Kepler's third law says that the square of the period in years equals the cube "
                "of the semi-major axis in astronomical units.",
                "For bodies around the Sun, T^2 = a^3 with T in years and a in AU.",
            ),
            f"The cube of {exact(axis)} is about {fixed(axis**3, 3)}, and its square root shows "
            f"that one revolution takes about {fixed(period, 2)} years.",
            f"The mean orbital speed falls with distance; relative to the Earth it is "
            f"1/sqrt({exact(axis)}), about {fixed(1 / sqrt(axis), 3)}.",
            f"Sunlight needs 8.317 minutes for one AU, hence about {fixed(light * axis, 1)} "
            f"minutes for {exact(axis)} AU.",
        ]
    )


def _pendulum(rng: Random) -> str:
    length, who = Fraction(rng.randint(10, 400), 100), rng.choice(NAMES)
    period = 2 * pi * sqrt(length / G)
    thing = pick(rng, "brass bob", "steel ball", "lead weight", "glass bead", "wooden sphere")
    swings = rng.randrange(10, 60, 5)
    return " ".join(
        [
            pick(
                rng,
                f"{who} hangs a {thing} from a thread {exact(length)} m long and lets it swing "
                "through a small angle.",
                f"A simple pendulum in {who}'s hall is a {thing} on a string of {exact(length)} m.",
            ),
            "For small swings the period depends on the length and on gravity, not on the mass.",
            f"From T = 2 pi sqrt(L/g) with g = 9.81 m/s^2, the period is about "
            f"{fixed(period, 3)} s and the frequency about {fixed(1 / period, 3)} Hz.",
            f"Timing {swings} swings should thus take about {fixed(swings * period, 1)} s.",
            f"A thread four times as long, {exact(4 * length)} m, doubles the period to about "
            f"{fixed(2 * period, 3)} s.",
            pick(
                rng,
                f"Replacing the {thing} by a heavier one would change nothing here.",
                f"On the Moon, where g is 1.62 m/s^2, the period would be about "
                f"{fixed(2 * pi * sqrt(length / Fraction('1.62')), 3)} s.",
            ),
        ]
    )


def _acid(rng: Random) -> str:
    digits, power = rng.randint(10, 99), rng.randint(2, 6)
    who, acid = rng.choice(NAMES), pick(rng, "hydrochloric", "nitric", "hydrobromic")
    strength = digits / 10 * 10**-power
    ph = power - log10(digits / 10)
    volume = rng.randrange(50, 950, 10)
    return " ".join(
        [
            pick(
                rng,
                f"{who} dilutes {acid} acid until the hydrogen ion concentration is "
                f"{digits / 10} * 10^-{power} mol/l.",
                f"A solution of {acid} acid in {who}'s flask contains hydrogen ions at "
                f"{digits / 10} * 10^-{power} mol/l.",
            ),
            "The pH is the negative decimal logarithm of this concentration.",
            f"Here pH = {power} - log10({digits / 10}), about {fixed(ph, 2)}.",
            f"Since pH and pOH add up to 14 at 25 degrees Celsius, the pOH is about "
            f"{fixed(14 - ph, 2)}.",
            f"A tenfold dilution of {volume} ml to {10 * volume:,} ml "
            + (
                f"raises the pH by one unit, to about {fixed(ph + 1, 2)}."
                if power < 5
                else f"would bring it closer to the neutral value of 7 than {fixed(ph, 2)} is."
            ),
            f"Before dilution the {volume} ml hold {fixed(strength * volume * 1000, 3)} micromoles "
            "of hydrogen ions, rounded to three decimals.",
        ]
    )


KINDS = (
    _acceleration,
    _fall,
    _series,
    _parallel,
    _half_life,
    _lens,
    _density,
    _wave,
    _heat,
    _projectile,
    _cross,
    _dihybrid,
    _orbit,
    _pendulum,
    _acid,
    *CHEMISTRY,
)
