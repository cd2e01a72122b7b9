"""The kinds of synthetic science document about motion, matter and heat."""

from fractions import Fraction
from math import pi, sqrt
from random import Random

from ldc.domains.synthetic._text import NAMES, a, exact, fixed, pick, shown, shuffled, words

G = Fraction("9.81")  # m/s^2, standard gravity to three figures

_BODIES = {  # typical masses in kg
    "cyclist": (60, 110),
    "skater": (45, 95),
    "sled": (20, 160),
    "kart": (120, 220),
    "scooter": (90, 200),
    "motorcycle": (180, 320),
    "bobsleigh": (300, 620),
    "glider": (300, 650),
    "car": (800, 2100),
    "minibus": (1900, 3400),
    "tractor": (2500, 7000),
    "lorry": (7000, 30000),
    "tram": (25000, 45000),
    "locomotive": (60000, 120000),
}
_OBJECTS = words(
    "brick pumpkin toolbox hammer flowerpot melon boulder anvil rucksack bucket crate statue "
    "sandbag barrel lantern kettlebell log suitcase"
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


def _acceleration(rng: Random) -> str:
    body, who = rng.choice(tuple(_BODIES)), rng.choice(NAMES)
    start, gain, time = rng.randint(0, 12), Fraction(rng.randint(2, 25), 10), rng.randint(3, 16)
    mass = rng.randint(*_BODIES[body])
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
            f"Its final velocity is v = u + at = {start} + {exact(gain)} * {time} = {exact(end)} m/s.",
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
                f"{who} studies the fall of {a(thing)} of {exact(mass)} kg from a {place} {height} m above the ground.",
                f"{a(thing).capitalize()} with a mass of {exact(mass)} kg rests on a {place}, "
                f"{height} m up, until {who} lets it drop.",
            ),
            shuffled(
                rng,
                f"Its weight is {exact(mass)} * 9.81 = {exact(mass * G)} N.",
                f"The gravitational potential energy mgh amounts to {shown(energy, 3)} J, taking g = 9.81 m/s^2.",
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


def _pendulum(rng: Random) -> str:
    length, who = Fraction(rng.randint(10, 400), 100), rng.choice(NAMES)
    period = 2 * pi * sqrt(length / G)
    thing = pick(rng, "brass bob", "steel ball", "lead weight", "glass bead", "wooden sphere")
    swings = rng.randrange(10, 60, 5)
    return " ".join(
        [
            pick(
                rng,
                f"{who} hangs a {thing} from a thread {exact(length)} m long and lets it swing through a small angle.",
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
                f"{who} lowers a solid {shape} into a measuring cylinder and the water rises by {exact(volume)} ml.",
                f"To identify a metal {shape}, {who} finds that it displaces {exact(volume)} "
                "cubic centimetres of water.",
            ),
            f"On the balance it shows {shown(mass, 2)} g.",
            f"Dividing mass by volume gives a density of {_DENSITIES[metal]} g/cm^3, the value for {metal}.",
            f"{a(shape).capitalize()} of {other}, whose density is {_DENSITIES[other]} g/cm^3, would have a "
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
            f"A heater of {power} W that loses nothing delivers this in {shown(heat / power, 1)} s.",
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
                f"{who} looks for the period of {name}, whose orbit has a semi-major axis of {exact(axis)} AU.",
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


MECHANICS = (_acceleration, _fall, _projectile, _pendulum, _density, _heat, _orbit)
