"""The kinds of synthetic medical document that score a patient, and how a patient is introduced."""

from fractions import Fraction
from random import Random

from ldc.domains.synthetic._text import exact, listed, pick, shuffled

_WARDS = (
    "surgical ward", "medical ward", "emergency department", "outpatient clinic", "renal unit",
    "day hospital", "intensive care unit", "cardiology ward", "rehabilitation unit", "hospice",
)  # fmt: skip


def patient_opening(rng: Random, low: int = 19, high: int = 92) -> tuple[str, str, str, int]:
    """An opening description, 'the' reference, the pronoun and the age."""
    age, woman = rng.randint(low, high), rng.random() < 0.5
    word, pronoun = ("woman", "she") if woman else ("man", "he")
    number, ward = rng.randint(1000, 9999), rng.choice(_WARDS)
    opening = pick(
        rng,
        f"Case {number}: a {word} aged {age} is seen in the {ward}.",
        f"A {word} aged {age} (record {number}) is reviewed in the {ward}.",
        f"In the {ward}, patient {number} is a {word} aged {age}.",
    )
    return opening, f"patient {number}", pronoun, age


def _stroke_score(rng: Random) -> str:
    opening, patient, pronoun, age = patient_opening(rng, 45, 92)
    factors = [
        ("heart failure", 1),
        ("hypertension", 1),
        ("diabetes", 1),
        ("a previous stroke", 2),
        ("vascular disease", 1),
    ]
    found = rng.sample(factors, rng.randint(1, 4))
    years = 2 if age >= 75 else 1 if age >= 65 else 0
    sex = int(pronoun == "she")
    total = years + sex + sum(points for _, points in found)
    given = "; ".join(f"{name} gives {points}" for name, points in found)
    absent = [name for name, _ in factors if (name, 1) not in found and (name, 2) not in found]
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Atrial fibrillation is known, with {listed([n for n, _ in found])}.",
                f"The history of {patient} lists atrial fibrillation and, besides, {listed([n for n, _ in found])}.",
            ),
            f"There is no record of {' or '.join(absent)}.",
            "The CHA2DS2-VASc score is added up as follows.",
            f"The age of {age} contributes {years}, the sex {sex}; {given}.",
            f"The total for {patient} is {total} of 9 points.",
            pick(
                rng,
                "Age counts one point from 65 and two from 75.",
                "A previous stroke is the one item of the history that counts twice.",
            ),
        ]
    )


def _pneumonia_score(rng: Random) -> str:
    opening, patient, pronoun, age = patient_opening(rng, 25, 92)
    urea, breaths = Fraction(rng.randint(30, 140), 10), rng.randint(14, 42)
    systolic = rng.randint(76, 150)
    diastolic = rng.randint(42, systolic - 25)
    confused = rng.random() < 0.35
    items = [
        ("confusion", confused),
        ("urea", urea > 7),
        ("respiratory rate", breaths >= 30),
        ("blood pressure", systolic < 90 or diastolic <= 60),
        ("age", age >= 65),
    ]
    met = [name for name, yes in items if yes]
    return " ".join(
        [
            opening,
            f"Chest film and cough suggest pneumonia, and {pronoun} is "
            f"{'newly confused' if confused else 'fully oriented'}.",
            shuffled(
                rng,
                f"Urea is {exact(urea)} mmol/l.",
                f"The respiratory rate is {breaths} per minute.",
                f"Blood pressure reads {systolic}/{diastolic} mmHg.",
            ),
            "CURB-65 gives one point each for confusion, urea above 7 mmol/l, a rate of at least "
            "30, a systolic pressure below 90 or a diastolic one of at most 60 mmHg, and an age "
            "of at least 65.",
            f"In {patient} the criteria met are: {listed(met)}." if met else f"In {patient} none of the five is met.",
            f"The score is {len(met)} of 5.",
        ]
    )


def _coma_score(rng: Random) -> str:
    opening, patient, pronoun, _ = patient_opening(rng)
    eyes = ("no eye opening", "eye opening to pain", "eye opening to speech", "open eyes")
    verbal = ("no sounds", "sounds only", "single words", "confused speech", "oriented speech")
    motor = (
        "no movement",
        "extension to pain",
        "abnormal flexion to pain",
        "withdrawal from pain",
        "localising of pain",
        "movement on command",
    )
    e, v, m = rng.randint(1, 4), rng.randint(1, 5), rng.randint(1, 6)
    total = e + v + m
    grade = "severe" if total <= 8 else "moderate" if total <= 12 else "mild"
    after = min(15, total + rng.randint(0, 4))
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"After a fall {pronoun} shows {eyes[e - 1]}, {verbal[v - 1]} and {motor[m - 1]}.",
                f"Examination after a head injury: {eyes[e - 1]}, {verbal[v - 1]}, {motor[m - 1]}.",
            ),
            f"On the Glasgow coma scale these are E{e}, V{v} and M{m}.",
            f"The sum for {patient} is {e} + {v} + {m} = {total} of 15, in the range called {grade}.",
            "Severe means 8 or less, moderate 9 to 12 and mild 13 to 15.",
            f"At the next check, {rng.randint(20, 120)} minutes later, the sum is {after}, "
            + (f"a gain of {after - total}." if after > total else "unchanged."),
        ]
    )


def _pack_years(rng: Random) -> str:
    opening, patient, pronoun, age = patient_opening(rng, 40, 85)
    start = rng.randint(14, 28)
    years = rng.randint(5, age - start - 2)
    daily = 5 * rng.randint(1, 8)
    packs = Fraction(daily * years, 20)
    since = age - start - years
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Smoking history: {daily} cigarettes a day from the age of {start} for {years} years.",
                f"From the age of {start} on, {pronoun} smoked {daily} cigarettes a day for {years} years.",
            ),
            "One pack-year is twenty cigarettes a day for one year.",
            f"The exposure of {patient} is {daily} / 20 * {years} = {exact(packs)} pack-years, or "
            f"{daily * 365 * years} cigarettes if leap days are ignored.",
            f"Smoking stopped at {start + years}, that is {since} years ago.",
            f"The screening study of the ward enrols from 20 pack-years and up to 15 years after "
            f"the last cigarette, so {pronoun} is "
            f"{'eligible' if packs >= 20 and since <= 15 else 'not eligible'}.",
        ]
    )


SCORES = (_stroke_score, _pneumonia_score, _coma_score, _pack_years)
