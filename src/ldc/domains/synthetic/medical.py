"""Synthetic medical text: case notes and trial abstracts with computed figures, from a seed.

Patients, drugs ('study drug') and trials are invented. Formulas and score definitions are the
published ones and the arithmetic is exact or marked as rounded. Not for clinical use.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import sqrt
from random import Random

from ldc.domains.synthetic import _text
from ldc.domains.synthetic._patients import SCORES, patient_opening
from ldc.domains.synthetic._text import exact, fixed, pick, shown, shuffled
from ldc.domains.synthetic._trials import TRIALS, study_drug


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield `count` distinct documents, the same for the same seed."""
    return _text.documents("medical", KINDS, seed, count)


def _bmi(rng: Random) -> str:
    opening, patient, pronoun, _ = patient_opening(rng)
    height = rng.randint(148, 200)
    weight = height * height * rng.randint(160, 420) // 100000
    bmi = Fraction(weight * 10000, height * height)
    limits = ((Fraction("18.5"), "underweight"), (25, "normal weight"), (30, "overweight"))
    group = next((name for limit, name in limits if bmi < limit), "obesity")
    ideal = Fraction("24.9") * height * height / 10000
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Height is {height} cm and weight {weight} kg.",
                f"On admission {pronoun} weighs {weight} kg at a height of {height} cm.",
            ),
            "The body mass index is the weight in kilograms over the square of the height in metres.",
            f"For {patient} this is {weight} / {exact(Fraction(height, 100))}^2, about "
            f"{fixed(bmi, 1)} kg/m^2, which falls in the class '{group}' of the World Health "
            "Organization.",
            f"At this height an index of 24.9 corresponds to about {fixed(ideal, 1)} kg, a "
            f"difference of about {fixed(abs(weight - ideal), 1)} kg from the present weight.",
            pick(rng, "The index does not tell fat from muscle.", "Waist was not measured."),
        ]
    )


def _surface(rng: Random) -> str:
    opening, patient, _, _ = patient_opening(rng)
    height, weight = rng.randint(148, 200), rng.randint(45, 130)
    area = sqrt(Fraction(height * weight, 3600))
    drug, rate = study_drug(rng), rng.randrange(20, 400, 5)
    cycles = rng.randint(3, 8)
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"The protocol prescribes {drug} at {rate} mg per square metre.",
                f"Treatment with {drug}, {rate} mg/m^2, is planned.",
            ),
            f"With a height of {height} cm and a weight of {weight} kg, the Mosteller formula "
            f"gives a body surface area of sqrt({height} * {weight} / 3600) m^2, about "
            f"{fixed(area, 2)} m^2.",
            f"One dose for {patient} is therefore about {fixed(area * rate, 0)} mg.",
            f"Over {cycles} cycles the total comes to about {fixed(area * rate * cycles, 0)} mg.",
            pick(
                rng,
                f"A reduction by 25% would make each dose about {fixed(area * rate * 0.75, 0)} mg.",
                "The surface is computed again if the weight changes by more than a tenth, here "
                f"by {exact(Fraction(weight, 10))} kg.",
            ),
        ]
    )


def _pressure(rng: Random) -> str:
    opening, patient, pronoun, _ = patient_opening(rng)
    systolic = rng.randint(88, 190)
    diastolic = rng.randint(48, min(115, systolic - 20))
    rate, stroke = rng.randint(48, 130), rng.randint(45, 100)
    pulse = systolic - diastolic
    mean = diastolic + Fraction(pulse, 3)
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Blood pressure is {systolic}/{diastolic} mmHg with a heart rate of {rate} per minute.",
                f"The monitor shows {systolic}/{diastolic} mmHg and {rate} beats per minute.",
            ),
            f"The pulse pressure is {systolic} - {diastolic} = {pulse} mmHg.",
            "The mean arterial pressure is estimated as the diastolic value plus one third of "
            f"the pulse pressure, {diastolic} + {pulse}/3 mmHg, {shown(mean, 1)} mmHg.",
            f"This is {'above' if mean > 65 else 'not above'} the usual target of 65 mmHg for patients in shock.",
            f"If the stroke volume of {patient} is {stroke} ml, {pronoun} has a cardiac output of "
            f"{rate} * {stroke} = {rate * stroke} ml per minute.",
        ]
    )


def _clearance(rng: Random) -> str:
    opening, patient, pronoun, age = patient_opening(rng, 25, 90)
    weight, creatinine = rng.randint(45, 115), Fraction(rng.randint(6, 40), 10)
    woman = pronoun == "she"
    top = (140 - age) * weight
    value = top / (72 * creatinine)
    result = value * Fraction("0.85") if woman else value
    female = f" Multiplying by 0.85 for a woman leaves about {fixed(result, 1)} ml/min."
    dose = 10 * rng.randint(5, 60)
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Weight is {weight} kg and serum creatinine {exact(creatinine)} mg/dl.",
                f"Before dosing, {pronoun} has a creatinine of {exact(creatinine)} mg/dl at a weight of {weight} kg.",
            ),
            "Creatinine clearance is estimated by the Cockcroft-Gault formula, (140 - age) * "
            "weight / (72 * creatinine).",
            f"For {patient} that is (140 - {age}) * {weight} / (72 * {exact(creatinine)}) = "
            f"{top} / {exact(72 * creatinine)}, about {fixed(value, 1)} ml/min." + (female if woman else ""),
            f"The trial halves the dose of {study_drug(rng)} below 50 ml/min, so "
            f"{dose if result >= 50 else dose // 2} mg instead of the full {dose} mg is given."
            if result < 50
            else f"Since this is not below 50 ml/min, the full {dose} mg of {study_drug(rng)} "
            "is given, as the trial allows.",
        ]
    )


def _drip(rng: Random) -> str:
    opening, patient, _, _ = patient_opening(rng)
    volume, hours = rng.choice((250, 500, 750, 1000, 1500, 2000)), rng.randint(2, 12)
    factor, start = rng.choice((10, 15, 20, 60)), rng.randint(0, 23)
    minute = 5 * rng.randint(0, 11)
    rate = Fraction(volume, hours)
    drops = Fraction(volume * factor, hours * 60)
    end = (start + hours) % 24
    fluid = pick(rng, "normal saline", "Ringer's lactate", "5% dextrose", "a balanced solution")
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"An infusion of {volume} ml of {fluid} is to run over {hours} hours.",
                f"The order is {fluid}, {volume} ml in {hours} hours.",
            ),
            f"A pump would be set to {volume} / {hours} ml/h, {shown(rate, 1)} ml/h.",
            f"By gravity with a set of {factor} drops per ml, the drip rate is {volume} * "
            f"{factor} / ({hours} * 60) drops per minute, {shown(drops, 1)} drops per minute.",
            f"Started at {start:02d}:{minute:02d}, the bag of {patient} is empty at "
            f"{end:02d}:{minute:02d}" + (" on the next day." if start + hours > 23 else "."),
            f"After half of the time {shown(Fraction(volume, 2))} ml should remain.",
        ]
    )


def _dose(rng: Random) -> str:
    opening, patient, pronoun, age = patient_opening(rng, 2, 17)
    opening = opening.replace("woman", "girl").replace(" man", " boy")
    weight, per = rng.randint(2 * age + 6, 3 * age + 14), Fraction(rng.randint(2, 60), 4)
    times, strength = rng.choice((1, 2, 3, 4)), rng.choice((10, 20, 25, 40, 50, 100))
    daily = weight * per
    single = daily / times
    drug, days = study_drug(rng), rng.randint(3, 14)
    frequency = {1: "one dose", 2: "two doses", 3: "three doses", 4: "four doses"}[times]
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"The weight is {weight} kg and {drug} is given at {exact(per)} mg per kilogram "
                f"and day in {frequency}.",
                f"The protocol calls for {exact(per)} mg/kg of {drug} daily, split into "
                f"{frequency}, and {pronoun} weighs {weight} kg.",
            ),
            f"The daily amount is {weight} * {exact(per)} = {exact(daily)} mg.",
            f"Each dose contains {shown(single, 1)} mg."
            if times > 1
            else f"It is given at once, so each dose contains {exact(single)} mg.",
            f"The syrup has {strength} mg per ml, so {patient} takes {shown(single / strength, 2)} ml each time.",
            f"A course of {days} days uses {exact(daily * days)} mg, for which "
            f"{shown(daily * days / strength, 1)} ml of syrup must be dispensed.",
        ]
    )


def _anion_gap(rng: Random) -> str:
    opening, patient, _, _ = patient_opening(rng)
    gap, chloride = rng.randint(5, 28), rng.randint(93, 109)
    bicarbonate, albumin = rng.randint(33, 39) - gap, Fraction(rng.randint(18, 40), 10)
    sodium = gap + chloride + bicarbonate
    corrected = gap + Fraction("2.5") * (4 - albumin)
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Laboratory: sodium {sodium}, chloride {chloride} and bicarbonate {bicarbonate} "
                f"mmol/l, albumin {exact(albumin)} g/dl.",
                f"The chemistry panel reports Na {sodium} mmol/l, Cl {chloride} mmol/l, HCO3 "
                f"{bicarbonate} mmol/l and an albumin of {exact(albumin)} g/dl.",
            ),
            f"The anion gap is sodium minus the sum of chloride and bicarbonate, {sodium} - "
            f"({chloride} + {bicarbonate}) = {gap} mmol/l.",
            "Albumin carries part of the unmeasured charge, so the gap is corrected by 2.5 for each g/dl below 4.",
            f"In {patient} the correction is 2.5 * (4 - {exact(albumin)}) = "
            f"{exact(corrected - gap)}, which makes {exact(corrected)} mmol/l.",
            f"With 12 mmol/l as the upper limit of the laboratory, the corrected gap is "
            f"{'raised' if corrected > 12 else 'not raised'}.",
        ]
    )


def _calcium(rng: Random) -> str:
    opening, patient, pronoun, _ = patient_opening(rng)
    calcium = Fraction(rng.randint(68, 118), 10)
    albumin = Fraction(rng.randint(15, 48), 10)
    corrected = calcium + Fraction("0.8") * (4 - albumin)
    low, high = Fraction("8.5"), Fraction("10.5")
    state = "below" if corrected < low else "above" if corrected > high else "within"
    return " ".join(
        [
            opening,
            shuffled(
                rng,
                f"Total calcium is {exact(calcium)} mg/dl.",
                f"Serum albumin is {exact(albumin)} g/dl.",
            ),
            pick(
                rng,
                "About half of the calcium in blood is bound to protein, chiefly albumin, and so "
                "the total must be read together with it.",
                "The total depends on albumin, to which much of the calcium is bound.",
            ),
            f"The usual correction adds 0.8 * (4 - albumin): {exact(calcium)} + 0.8 * "
            f"(4 - {exact(albumin)}) = {exact(corrected)} mg/dl.",
            f"The corrected value of {patient} lies {state} the reference range of 8.5 to 10.5 mg/dl used here.",
            pick(
                rng,
                f"An ionised calcium was requested because {pronoun} is to be followed up.",
                f"The correction changed the figure by {exact(abs(corrected - calcium))} mg/dl.",
            ),
        ]
    )


def _ejection(rng: Random) -> str:
    opening, patient, _, _ = patient_opening(rng)
    full = rng.randint(80, 240)
    left = rng.randint(full * 3 // 10, full * 8 // 10)
    rate, area = rng.randint(50, 120), Fraction(rng.randint(150, 230), 100)
    stroke = full - left
    fraction = Fraction(100 * stroke, full)
    output = Fraction(stroke * rate, 1000)
    return " ".join(
        [
            opening,
            pick(
                rng,
                f"Echocardiography finds an end-diastolic volume of {full} ml and an end-systolic volume of {left} ml.",
                f"On cardiac imaging the left ventricle of {patient} holds {full} ml at the end "
                f"of diastole and {left} ml at the end of systole.",
            ),
            f"The stroke volume is {full} - {left} = {stroke} ml.",
            f"The ejection fraction is {stroke} / {full}, {shown(fraction, 1)}%.",
            f"At a heart rate of {rate} per minute the cardiac output is {stroke} * {rate} = "
            f"{stroke * rate} ml/min, {exact(output)} l/min.",
            f"Divided by a body surface area of {exact(area)} m^2 this gives a cardiac index of "
            f"about {fixed(output / area, 2)} l/min/m^2.",
            f"By the common cut-off of 40% the fraction is {'reduced' if fraction <= 40 else 'not reduced'}.",
        ]
    )


def _half_life(rng: Random) -> str:
    _, patient, _, _ = patient_opening(rng)
    drug, hours = study_drug(rng), Fraction(rng.randint(4, 60), 2)
    peak, steps = 16 * rng.randint(2, 60), rng.randint(2, 5)
    bound = rng.randint(10, 98)
    levels = [Fraction(peak, 2**k) for k in range(steps + 1)]
    course = ", ".join(f"{exact(level)} at {exact(k * hours)} h" for k, level in enumerate(levels))
    return " ".join(
        [
            pick(
                rng,
                f"Pharmacokinetic note on {patient}: {drug} has an elimination half-life of {exact(hours)} hours.",
                f"In the phase 1 unit {patient} receives {drug}, which is eliminated with a "
                f"half-life of {exact(hours)} hours.",
            ),
            f"The peak concentration is {peak} micrograms per litre and elimination is of first order.",
            f"The expected course in micrograms per litre is {course}.",
            f"After {steps} half-lives {exact(Fraction(100, 2**steps))}% of the peak is left.",
            f"The rate constant is 0.693 / {exact(hours)}, about {fixed(Fraction('0.693') / hours, 3)} per hour.",
            f"Of the peak {bound}% is bound to protein, so "
            f"{exact(Fraction(peak * (100 - bound), 100))} micrograms per litre are free.",
        ]
    )


KINDS = (
    _bmi,
    _surface,
    _pressure,
    _clearance,
    _drip,
    _dose,
    _anion_gap,
    _calcium,
    _ejection,
    _half_life,
    *SCORES,
    *TRIALS,
)
