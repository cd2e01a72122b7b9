"""The kinds of synthetic science document that count atoms: formulas, reactions, gases, titration."""

from fractions import Fraction
from random import Random

from ldc.domains.synthetic._text import NAMES, exact, fixed, listed, pick, shown

MASSES = {  # standard atomic weights, g/mol, to two or three decimals
    symbol: Fraction(mass)
    for symbol, mass in {
        "H": "1.008",
        "C": "12.011",
        "N": "14.007",
        "O": "15.999",
        "Na": "22.990",
        "Mg": "24.305",
        "Al": "26.982",
        "P": "30.974",
        "S": "32.06",
        "Cl": "35.45",
        "K": "39.098",
        "Ca": "40.078",
        "Fe": "55.845",
        "Cu": "63.546",
        "Zn": "65.38",
    }.items()
}
COMPOUNDS = {
    "water": "H2 O",
    "carbon dioxide": "C O2",
    "ammonia": "N H3",
    "methane": "C H4",
    "glucose": "C6 H12 O6",
    "ethanol": "C2 H6 O",
    "sodium chloride": "Na Cl",
    "sulfuric acid": "H2 S O4",
    "calcium carbonate": "Ca C O3",
    "potassium nitrate": "K N O3",
    "magnesium oxide": "Mg O",
    "iron(III) oxide": "Fe2 O3",
    "copper(II) sulfate": "Cu S O4",
    "sodium hydroxide": "Na O H",
    "phosphoric acid": "H3 P O4",
    "aluminium oxide": "Al2 O3",
    "zinc oxide": "Zn O",
    "propane": "C3 H8",
    "acetic acid": "C2 H4 O2",
    "sucrose": "C12 H22 O11",
}
_REACTIONS = (  # equation, reactant and its coefficient, product and its coefficient
    ("CH4 + 2 O2 -> CO2 + 2 H2O", "methane", 1, "water", 2),
    ("C3H8 + 5 O2 -> 3 CO2 + 4 H2O", "propane", 1, "carbon dioxide", 3),
    ("CaCO3 + 2 HCl -> CaCl2 + H2O + CO2", "calcium carbonate", 1, "carbon dioxide", 1),
    ("C6H12O6 -> 2 C2H6O + 2 CO2", "glucose", 1, "ethanol", 2),
    ("C6H12O6 + 6 O2 -> 6 CO2 + 6 H2O", "glucose", 1, "carbon dioxide", 6),
    ("C2H6O + 3 O2 -> 2 CO2 + 3 H2O", "ethanol", 1, "water", 3),
    ("4 NH3 + 5 O2 -> 4 NO + 6 H2O", "ammonia", 4, "water", 6),
    ("ZnO + H2SO4 -> ZnSO4 + H2O", "zinc oxide", 1, "water", 1),
    ("Al2O3 + 6 HCl -> 2 AlCl3 + 3 H2O", "aluminium oxide", 1, "water", 3),
)


def _atoms(name: str) -> dict[str, int]:
    atoms = {}
    for part in COMPOUNDS[name].split():
        symbol = part.rstrip("0123456789")
        atoms[symbol] = int(part[len(symbol) :] or 1)
    return atoms


def molar_mass(name: str) -> Fraction:
    """Grams per mole of a compound of the table, exact for the tabulated atomic masses."""
    return sum((MASSES[s] * n for s, n in _atoms(name).items()), Fraction(0))


def _formula(name: str) -> str:
    return COMPOUNDS[name].replace(" ", "")


def _molar(rng: Random) -> str:
    name, who = rng.choice(sorted(COMPOUNDS)), rng.choice(NAMES)
    atoms, mass = _atoms(name), molar_mass(name)
    grams = Fraction(rng.randint(20, 5000), 10)
    element = rng.choice(sorted(atoms))
    share = 100 * MASSES[element] * atoms[element] / mass
    terms = " + ".join(f"{n} * {exact(MASSES[s])}" for s, n in atoms.items())
    parts = listed([f"{n} {s}" for s, n in atoms.items()])
    return " ".join(
        [
            pick(
                rng,
                f"How many moles are {exact(grams)} g of {name}? {who} starts from the formula {_formula(name)}.",
                f"{who} weighs out {exact(grams)} g of {name}, {_formula(name)}, and asks for the amount of substance.",
            ),
            f"One formula unit contains {parts}.",
            f"Adding the atomic masses, {terms} = {exact(mass)} g/mol is the molar mass.",
            f"The amount is therefore {exact(grams)} / {exact(mass)} mol, about {fixed(grams / mass, 3)} mol.",
            pick(
                rng,
                f"With Avogadro's number, 6.022 * 10^23 per mole, this is about "
                f"{fixed(grams / mass * Fraction('6.022'), 2)} * 10^23 formula units.",
                f"Multiplying by 6.022 gives the number of units in steps of 10^23, about "
                f"{fixed(grams / mass * Fraction('6.022'), 2)}.",
            ),
            f"The element {element} makes up about {fixed(share, 1)}% of the mass of {name}.",
        ]
    )


def _reaction(rng: Random) -> str:
    equation, left, m, right, n = rng.choice(_REACTIONS)
    who, grams = rng.choice(NAMES), Fraction(rng.randint(30, 4000), 10)
    amount = grams / molar_mass(left)
    product = amount * n / m
    yielded = rng.randint(55, 97)
    mass = product * molar_mass(right)
    return " ".join(
        [
            pick(
                rng,
                f"In the reaction {equation}, {who} lets {exact(grams)} g of {left} react completely.",
                f"{who} wants to know how much {right} forms from {exact(grams)} g of {left} according to {equation}.",
            ),
            pick(
                rng,
                "A balanced equation counts particles, so masses are first turned into moles.",
                "The coefficients give the ratio of amounts, not of masses.",
            ),
            f"The molar mass of {left} is {exact(molar_mass(left))} g/mol, which makes about {fixed(amount, 3)} mol.",
            f"Every {m} mol of {left} gives {n} mol of {right}, hence about {fixed(product, 3)} mol of {right}.",
            f"At {exact(molar_mass(right))} g/mol this weighs about {fixed(mass, 2)} g.",
            f"With a yield of {yielded}% only about {fixed(mass * yielded / 100, 2)} g would be collected.",
        ]
    )


def _gas(rng: Random) -> str:
    amount, volume = Fraction(rng.randint(2, 80), 10), rng.randint(2, 120)
    kelvin, who = rng.randint(250, 420), rng.choice(NAMES)
    gas = pick(rng, "helium", "nitrogen", "argon", "oxygen", "neon", "carbon dioxide", "methane")
    pressure = amount * Fraction("8.314") * kelvin / volume
    half = Fraction(volume, 2)
    return " ".join(
        [
            pick(
                rng,
                f"A cylinder of {volume} litres in {who}'s store holds {exact(amount)} mol of {gas} at {kelvin} K.",
                f"{who} fills {exact(amount)} mol of {gas} into a vessel of {volume} litres and "
                f"keeps it at {kelvin} K.",
            ),
            "For an ideal gas, pV = nRT with R = 8.314 J/(mol K), and litres together with kPa give joules.",
            f"So p = {exact(amount)} * 8.314 * {kelvin} / {volume} kPa, {shown(pressure, 2)} kPa.",
            pick(
                rng,
                f"At the same temperature in {exact(half)} litres the pressure doubles, by Boyle's law.",
                f"Warming it to {kelvin + 50} K in the same vessel raises the pressure to "
                f"about {fixed(pressure * (kelvin + 50) / kelvin, 2)} kPa.",
            ),
            f"The temperature corresponds to {exact(kelvin - Fraction('273.15'))} degrees Celsius.",
            f"Compared with the standard atmosphere of 101.325 kPa this is about "
            f"{fixed(pressure / Fraction('101.325'), 2)} times as much.",
        ]
    )


def _titration(rng: Random) -> str:
    sample = rng.choice((10, 20, 25, 40, 50))
    base = Fraction(rng.randint(5, 50), 100)
    used, who = Fraction(rng.randint(50, 480), 10), rng.choice(NAMES)
    acid, protons = rng.choice((("hydrochloric acid", 1), ("sulfuric acid", 2), ("acetic acid", 1), ("nitric acid", 1)))
    moles = base * used
    strength = moles / protons / sample
    colour = pick(rng, "phenolphthalein turns pink", "the indicator changes colour")
    return " ".join(
        [
            pick(
                rng,
                f"{who} titrates {sample} ml of {acid} with sodium hydroxide of {exact(base)} mol/l.",
                f"To find the strength of {acid}, {who} takes a sample of {sample} ml and adds "
                f"sodium hydroxide solution of {exact(base)} mol/l from a burette.",
            ),
            f"After {exact(used)} ml {colour}.",
            f"Up to that point {exact(base)} * {exact(used)} = {exact(moles)} mmol of base have been used.",
            f"One molecule of {acid} "
            + (
                "gives up one proton, so the sample held the same amount of acid."
                if protons == 1
                else f"gives up two protons, so the sample held half of that, {exact(moles / 2)} mmol of acid."
            ),
            f"Dividing by {sample} ml, the concentration is {shown(strength, 4)} mol/l.",
            f"If the burette was misread by 0.1 ml, the result changes by about "
            f"{fixed(100 * Fraction('0.1') / used, 2)}%.",
        ]
    )


def _dilution(rng: Random) -> str:
    stock, factor = rng.randint(2, 18), rng.choice((4, 5, 8, 10, 16, 20, 25, 40, 50))
    final, who = rng.randrange(100, 2100, 50), rng.choice(NAMES)
    salt = rng.choice(("sodium chloride", "glucose", "potassium nitrate", "sucrose"))
    part, weak = Fraction(final, factor), Fraction(stock, 10) / factor
    grams = weak * molar_mass(salt) * final / 1000
    return " ".join(
        [
            pick(
                rng,
                f"{who} needs {final} ml of a solution of {salt} at {exact(weak)} mol/l and has a "
                f"stock of {exact(Fraction(stock, 10))} mol/l.",
                f"From a stock solution of {salt}, {exact(Fraction(stock, 10))} mol/l, {who} is to "
                f"make {final} ml at {exact(weak)} mol/l.",
            ),
            "Dilution leaves the amount of solute unchanged, so c1 * V1 = c2 * V2.",
            f"The stock must be thinned {factor} times, which takes {final} / {factor} = {exact(part)} ml of it.",
            f"Water is added up to {final} ml, that is roughly {exact(final - part)} ml.",
            f"The flask then holds {exact(weak * final)} mmol of {salt}.",
            f"At {exact(molar_mass(salt))} g/mol, about {fixed(grams, 3)} g of the dry substance "
            f"would have served {who} as well.",
        ]
    )


CHEMISTRY = (_molar, _reaction, _gas, _titration, _dilution)
