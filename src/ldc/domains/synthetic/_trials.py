"""The kinds of synthetic medical document that report on groups: trials, tests and surveys."""

from fractions import Fraction
from random import Random

from ldc.domains.synthetic._text import a, exact, fixed, pick, shown, shuffled, words

_SYLLABLES = (
    ("Bel", "Cor", "Dra", "Fen", "Gal", "Lor", "Mev", "Nor", "Pax", "Quel", "Rov", "Tal", "Vex"),
    ("a", "e", "i", "o", "ami", "eno", "ilu", "oda", "uri", "ova"),
    ("dex", "lan", "mir", "nol", "pras", "rix", "sten", "tor", "vane", "zil"),
)
_TOWNS = words(
    "Alderby Brackwell Corvale Dunmere Eastholt Farrow Glenport Harwick Inverlee Kestrel "
    "Larkham Millbrook Northam Oakhurst Penrose Quarry Redford Silverton Thornby Westlake"
)
_CONDITIONS = (
    "migraine", "influenza", "asthma attacks", "wound infection", "falls", "relapse", "nausea",
    "urinary infection", "pressure sores", "readmission", "anaemia", "insomnia", "gout attacks",
)  # fmt: skip


def study_drug(rng: Random) -> str:
    """An invented name, always announced as a study drug."""
    first, middle, last = (rng.choice(part) for part in _SYLLABLES)
    return f"the study drug {first}{middle}{last}"


def _title(rng: Random, *forms: str) -> str:
    return f"{rng.choice(_TOWNS)} {pick(rng, *forms or ('trial', 'study', 'cohort'))} {rng.randint(10, 999)}"


def _two_by_two(rng: Random) -> tuple[int, int, int, int]:
    ill, well = rng.randint(40, 400), rng.randint(400, 1600)
    hit = ill * rng.randint(55, 97) // 100
    clear = well * rng.randint(60, 98) // 100
    return hit, well - clear, ill - hit, clear


def _diagnostic(rng: Random) -> str:
    tp, fp, fn, tn = _two_by_two(rng)
    total = tp + fp + fn + tn
    marker = pick(rng, "rapid antigen", "blood", "sweat", "breath", "saliva", "imaging", "skin")
    return " ".join(
        [
            pick(
                rng,
                f"{_title(rng)} examined a new {marker} test in {total} people.",
                f"{a(marker).capitalize()} test was compared with the reference standard in {total} people "
                f"({_title(rng)}).",
            ),
            f"Of {tp + fn} with the disease {tp} tested positive and {fn} negative; of "
            f"{fp + tn} without it {fp} tested positive and {tn} negative.",
            f"Sensitivity was {tp}/{tp + fn}, {shown(Fraction(100 * tp, tp + fn), 1)}%, and "
            f"specificity {tn}/{fp + tn}, {shown(Fraction(100 * tn, fp + tn), 1)}%.",
            f"The positive predictive value was {tp}/{tp + fp}, "
            f"{shown(Fraction(100 * tp, tp + fp), 1)}%, the negative one {tn}/{fn + tn}, "
            f"{shown(Fraction(100 * tn, fn + tn), 1)}%.",
            pick(
                rng,
                f"Predictive values hold for a prevalence of {shown(Fraction(100 * (tp + fn), total), 1)}% only.",
                f"Overall {tp + tn} of {total} results were correct, {shown(Fraction(100 * (tp + tn), total), 1)}%.",
            ),
        ]
    )


def _likelihood(rng: Random) -> str:
    sensitivity, specificity = rng.randint(55, 98), rng.randint(60, 98)
    before = rng.randint(2, 60)
    ratio = Fraction(sensitivity, 100 - specificity)
    negative = Fraction(100 - sensitivity, specificity)
    odds = Fraction(before, 100 - before)
    after, low = (odds * r / (1 + odds * r) * 100 for r in (ratio, negative))
    return " ".join(
        [
            pick(
                rng,
                f"Teaching note from the {_title(rng)}: a test has a sensitivity of "
                f"{sensitivity}% and a specificity of {specificity}%.",
                f"How far does a result move the odds? In the {_title(rng)} sensitivity was "
                f"{sensitivity}% and specificity {specificity}%.",
            ),
            f"The positive likelihood ratio is {sensitivity} / (100 - {specificity}), "
            f"{shown(ratio)}, and the negative one (100 - {sensitivity}) / {specificity}, "
            f"{shown(negative, 3)}.",
            f"With a pre-test probability of {before}% the odds are {before}:{100 - before}.",
            "Multiplying the odds by the ratio and turning them back into a probability gives the post-test value.",
            f"A positive result leads to {shown(after, 1)}% and a negative one to {shown(low, 1)}%.",
        ]
    )


def _treated(rng: Random) -> str:
    n, m = rng.randrange(80, 900, 20), rng.randrange(80, 900, 20)
    drug, outcome = study_drug(rng), rng.choice(_CONDITIONS)
    events = n * rng.randint(15, 55) // 100
    fewer = max(1, m * events * rng.randint(35, 92) // (100 * n))
    control, treated = Fraction(events, n), Fraction(fewer, m)
    gain = control - treated
    needed = -(-gain.denominator // gain.numerator)
    weeks = rng.randint(4, 52)
    return " ".join(
        [
            pick(
                rng,
                f"Background: {drug} might prevent {outcome}. Methods: in the {_title(rng, 'trial')}, "
                f"{n + m} participants were randomised and followed for {weeks} weeks.",
                f"The {_title(rng, 'trial')} randomised {n + m} participants to {drug} or placebo and "
                f"counted those with {outcome} over {weeks} weeks.",
            ),
            shuffled(
                rng,
                f"Events occurred in {fewer} of {m} on the drug, {shown(100 * treated, 1)}%.",
                f"On placebo {events} of {n} had events, {shown(100 * control, 1)}%.",
            ),
            f"The absolute risk reduction was {shown(100 * gain, 2)} percentage points and the "
            f"relative risk {shown(treated / control, 2)}.",
            f"The reciprocal of the reduction is {shown(1 / gain, 2)}; rounded up, the number "
            f"needed to treat is {needed}.",
            pick(rng, "The drug is invented.", "No confidence interval is given in this summary."),
        ]
    )


def _cohort(rng: Random) -> str:
    exposed, rest = rng.randint(120, 2500), rng.randint(120, 2500)
    ill = max(1, exposed * rng.randint(6, 40) // 100)
    others = max(1, rest * rng.randint(3, 30) // 100)
    risk, base = Fraction(ill, exposed), Fraction(others, rest)
    odds = Fraction(ill * (rest - others), others * (exposed - ill))
    exposure = pick(rng, "night work", "shift work", "noise at work", "dust at work", "long commuting")
    outcome = rng.choice(_CONDITIONS)
    return " ".join(
        [
            pick(
                rng,
                f"In the {_title(rng, 'study', 'cohort')}, {exposed} persons with {exposure} and {rest} without it "
                f"were followed for {outcome}.",
                f"The {_title(rng, 'study', 'cohort')} asked whether {exposure} is associated with {outcome}; it "
                f"followed {exposed} exposed and {rest} unexposed persons.",
            ),
            f"There were {ill} cases among the exposed and {others} among the others.",
            f"The risks were {ill}/{exposed}, {shown(100 * risk, 1)}%, and {others}/{rest}, {shown(100 * base, 1)}%.",
            f"Their quotient, the relative risk, is {shown(risk / base, 2)}.",
            f"The odds ratio is ({ill} * {rest - others}) / ({others} * {exposed - ill}), {shown(odds, 2)}.",
            f"The risk difference is {shown(100 * (risk - base), 2)} percentage points.",
            pick(rng, "The figures are made up.", "All figures are invented to show how the measures differ."),
        ]
    )


def _incidence(rng: Random) -> str:
    people, years = rng.randrange(2000, 90000, 500), rng.randint(2, 6)
    old, new = rng.randint(20, 900), rng.randint(15, 800)
    condition, town = rng.choice(_CONDITIONS), rng.choice(_TOWNS)
    risk = people - old
    rate = Fraction(1000 * new, risk * years)
    return " ".join(
        [
            pick(
                rng,
                f"A register in the invented town of {town} covers {people} inhabitants.",
                f"The invented town of {town} has {people} inhabitants, all of them on a health register.",
            ),
            f"At the first count {old} of them were affected by {condition}, a point prevalence "
            f"of {shown(Fraction(1000 * old, people), 2)} per 1000.",
            f"The other {risk} were followed for {years} years, in which {new} new cases appeared.",
            f"The cumulative incidence was {new} / {risk}, {shown(Fraction(1000 * new, risk), 2)} per 1000.",
            f"Counting {risk} * {years} = {risk * years} person-years, without allowance for "
            f"those who fell ill on the way, the rate is {shown(rate, 2)} per 1000 "
            "person-years.",
            pick(rng, f"Nobody left {town} in that time.", "Deaths were not considered."),
        ]
    )


def _bedside(rng: Random) -> str:
    beds, days = rng.randint(12, 480), rng.choice((28, 30, 31))
    stays = rng.randint(beds, 6 * beds)
    used = beds * days * rng.randint(55, 97) // 100
    falls, town = rng.randint(2, 40), rng.choice(_TOWNS)
    deaths = rng.randint(1, max(2, stays // 20))
    return " ".join(
        [
            pick(
                rng,
                f"Monthly return of the {town} hospital: {beds} beds over {days} days make "
                f"{beds * days} bed-days available.",
                f"With {beds} beds the {town} hospital had {beds} * {days} = {beds * days} "
                "bed-days to offer in the month.",
            ),
            f"Patients used {used} of them, an occupancy of {shown(Fraction(100 * used, beds * days), 1)}%.",
            f"There were {stays} discharges, so the mean length of stay was {used} / {stays} "
            f"days, {shown(Fraction(used, stays), 1)} days.",
            shuffled(
                rng,
                f"The {falls} falls reported correspond to "
                f"{shown(Fraction(1000 * falls, used), 2)} per 1000 patient-days.",
                f"The crude mortality was {deaths} of {stays}, {shown(Fraction(100 * deaths, stays), 1)}%.",
            ),
            f"On an average day {exact(Fraction(beds))} beds held about {fixed(Fraction(used, days), 1)} patients.",
        ]
    )


TRIALS = (_diagnostic, _likelihood, _treated, _cohort, _incidence, _bedside)
