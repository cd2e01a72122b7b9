"""Synthetic mathematics: word problems with worked solutions, generated from a seed.

The text is invented, the answers are computed: integer and rational arithmetic throughout, and
a rounded number says that it is one.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import comb
from random import Random

from ldc.domains.synthetic import _text
from ldc.domains.synthetic._numbers import GOODS, NUMBERS, PLACES, worked
from ldc.domains.synthetic._text import NAMES, exact, fixed, listed, pick, shown


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield `count` distinct documents, the same for the same seed."""
    return _text.documents("math", KINDS, seed, count)


def _shopping(rng: Random) -> str:
    who, seller = rng.sample(NAMES, 2)
    (first, second), place = rng.sample(GOODS, 2), rng.choice(PLACES)
    n, m = rng.randint(2, 24), rng.randint(2, 24)
    p, q = rng.randint(2, 40), rng.randint(2, 40)
    total = n * p + m * q
    paid = total + rng.randint(1, 60)
    question = pick(
        rng,
        f"At the {place}, {who} buys {n} {first} at {p} coins each and {m} {second} at {q} coins "
        f"each from {seller}. How much change comes back from {paid} coins?",
        f"{seller} runs a stall at the {place} where {first} cost {p} coins apiece and {second} "
        f"cost {q}. {who} takes {n} of the former and {m} of the latter and hands over {paid} "
        "coins. What change is due?",
        f"{who} has {paid} coins to spend at the {place}. {seller} sells {m} {second} for {q} "
        f"coins each and {n} {first} for {p} coins each to {who}. How many coins are left?",
    )
    steps = [
        f"The {first} cost {n} * {p} = {n * p} coins.",
        f"The {second} cost {m} * {q} = {m * q} coins.",
    ]
    rng.shuffle(steps)
    steps.append(f"Together that makes {n * p} + {m * q} = {total} coins.")
    answer = pick(
        rng,
        f"Subtract from what was paid: {paid} - {total} = {paid - total}, so {who} keeps {paid - total} coins.",
        f"{who} therefore gets {paid} - {total} = {paid - total} coins back from {seller}.",
    )
    return worked(rng, question, steps, answer)


def _percentage(rng: Random) -> str:
    who, thing = rng.choice(NAMES), rng.choice(GOODS)
    start = 20 * rng.randint(10, 400)
    up, down = rng.randrange(5, 65, 5), rng.randrange(5, 65, 5)
    middle = Fraction(start * (100 + up), 100)
    end = middle * (100 - down) / 100
    change = (end - start) * 100 / start
    place = rng.choice(PLACES)
    question = pick(
        rng,
        f"The {place} sold {start} {thing} last year. Sales rose by {up}% this year and are "
        f"expected to fall by {down}% next year. {who} wants to know the overall change.",
        f"{who} counts {start} {thing} in the {place}. The stock first grows by {up}%, then "
        f"shrinks by {down}%. By what percentage has it changed in the end?",
    )
    steps = [
        f"{up}% of {start} is {exact(middle - start)}, so the first change leads to "
        f"{start} + {exact(middle - start)} = {exact(middle)}.",
        f"{down}% of {exact(middle)} is {exact(middle - end)}, which leaves {exact(end)}.",
        f"The factor for both together is {exact(Fraction(100 + up, 100))} * "
        f"{exact(Fraction(100 - down, 100))} = {exact(end / start)}.",
    ]
    word = "a rise" if change > 0 else "a fall"
    answer = (
        f"Compared with {start} at the start this is {word} of {exact(abs(change))}%, not of "
        f"{abs(up - down)}%, because the second percentage applies to a different base."
        if change
        else f"The two changes cancel and {who} is back at {start} {thing}."
    )
    return worked(rng, question, steps, answer)


def _area(rng: Random) -> str:
    length, width, border = rng.randint(8, 90), rng.randint(5, 70), rng.randint(2, 6)
    who, place = rng.choice(NAMES), rng.choice(PLACES)
    outer = (length + 2 * border) * (width + 2 * border)
    path = outer - length * width
    unit = pick(rng, "metres", "feet", "yards")
    price = rng.randint(2, 30)
    question = pick(
        rng,
        f"A lawn behind the {place} measures {length} by {width} {unit}. {who} lays a path "
        f"{border} {unit} wide all around it. What does the path cost at {price} coins for each "
        "square unit?",
        f"{who} frames a rectangular floor of {length} by {width} {unit} at the {place} with a "
        f"border {border} {unit} wide on every side. Find the area of the border and its cost at "
        f"{price} coins a square unit.",
    )
    steps = [
        f"The inner rectangle covers {length} * {width} = {length * width} square {unit}.",
        f"With the border each side grows by 2 * {border} = {2 * border}, so the outer rectangle "
        f"is {length + 2 * border} by {width + 2 * border} and covers {outer} square {unit}.",
        f"The difference {outer} - {length * width} = {path} is the area of the strip.",
    ]
    answer = f"At {price} coins each, {who} pays {path} * {price} = {path * price} coins."
    return worked(rng, question, steps, answer)


def _volume(rng: Random) -> str:
    x, y, z = (rng.randrange(10, 150, 5) for _ in range(3))
    who, place = rng.choice(NAMES), rng.choice(PLACES)
    litres = Fraction(x * y * z, 1000)
    rate = rng.choice((2, 4, 5, 8, 10, 16, 20))
    surface = 2 * (x * y + y * z + x * z)
    question = pick(
        rng,
        f"A closed box at the {place} is {x} cm long, {y} cm wide and {z} cm high. {who} fills "
        f"it with water at {rate} litres a minute. How long does that take, and how much sheet "
        "metal is in its walls?",
        f"{who} builds a tank with a lid for the {place}, {x} cm by {y} cm by {z} cm. Find its "
        f"surface, its volume in litres and the time a tap of {rate} litres a minute needs.",
    )
    steps = [
        f"The volume is {x} * {y} * {z} = {x * y * z} cubic centimetres.",
        f"A litre is 1000 cubic centimetres, so the box holds {exact(litres)} litres.",
        f"Its surface is 2 * ({x * y} + {y * z} + {x * z}) = {surface} square centimetres.",
    ]
    answer = f"Filling takes {exact(litres)} / {rate} = {exact(litres / rate)} minutes for {who}."
    return worked(rng, question, steps, answer)


def _probability(rng: Random) -> str:
    colours = rng.sample(("red", "blue", "green", "white", "yellow", "black", "purple"), 2)
    n, m = rng.randint(2, 18), rng.randint(2, 18)
    total, who, thing = n + m, rng.choice(NAMES), rng.choice(GOODS)
    same = Fraction(comb(n, 2) + comb(m, 2), comb(total, 2))
    question = pick(
        rng,
        f"A bag holds {n} {colours[0]} and {m} {colours[1]} {thing}. {who} draws two without "
        "looking and without putting any back. How likely is it that both have one colour?",
        f"Out of {n} {colours[0]} {thing} and {m} {colours[1]} ones, {who} takes two at random. "
        "What is the probability of a matching pair?",
    )
    steps = [
        f"There are C({total}, 2) = {total} * {total - 1} / 2 = {comb(total, 2)} possible pairs.",
        f"Two {colours[0]} ones can be chosen in {n} * {n - 1} / 2 = {comb(n, 2)} ways and two "
        f"{colours[1]} ones in {m} * {m - 1} / 2 = {comb(m, 2)} ways.",
        f"So {comb(n, 2)} + {comb(m, 2)} = {comb(n, 2) + comb(m, 2)} pairs match.",
    ]
    answer = (
        f"The probability is {comb(n, 2) + comb(m, 2)}/{comb(total, 2)}, in lowest terms {same} or "
        f"{shown(same, 3)}; a mixed pair has probability {1 - same}."
    )
    return worked(rng, question, steps, answer)


def _units(rng: Random) -> str:
    speed, minutes = 9 * rng.randint(2, 30), rng.randrange(5, 185, 5)
    metres = Fraction(speed * 5, 18)
    distance = Fraction(speed * minutes, 60)
    who = rng.choice(NAMES)
    start, end = rng.sample(PLACES, 2)
    vehicle = pick(rng, "bus", "train", "van", "tram", "motorbike", "truck", "boat")
    question = pick(
        rng,
        f"{who} rides a {vehicle} at a steady {speed} km/h for {minutes} minutes, from the "
        f"{start} to the {end}. Give the speed in metres per second and the distance.",
        f"A {vehicle} needs {minutes} minutes from the {start} to the {end} at {speed} km/h. "
        f"{who} wants the distance in metres and the speed in m/s.",
    )
    steps = [
        f"One kilometre is 1000 m and one hour is 3600 s, so {speed} km/h is {speed} * 1000 / "
        f"3600 = {exact(metres)} m/s.",
        f"In seconds the ride lasts {minutes} * 60 = {minutes * 60} s.",
        f"The distance is {exact(metres)} * {minutes * 60} = {exact(metres * minutes * 60)} m.",
    ]
    steps[:2] = rng.sample(steps[:2], 2)
    answer = f"In kilometres that is {exact(distance)} km, in agreement with {speed} * {minutes} / 60."
    return worked(rng, question, steps, answer)


def _committee(rng: Random) -> str:
    n, m = rng.randint(4, 14), rng.randint(4, 14)
    i, j = rng.randint(2, 3), rng.randint(1, 3)
    groups = rng.sample(("teachers", "pilots", "painters", "nurses", "cooks", "sailors", "singers", "coders"), 2)
    place, who = rng.choice(PLACES), rng.choice(NAMES)
    first, second = comb(n, i), comb(m, j)
    every = comb(n + m, i + j)
    question = pick(
        rng,
        f"From {n} {groups[0]} and {m} {groups[1]}, {who} forms a team for the {place} with "
        f"exactly {i} {groups[0]} and {j} of the {groups[1]}. How many teams are possible?",
        f"The {place} has {n} {groups[0]} and {m} {groups[1]}. In how many ways can {who} choose "
        f"{i} of the first group and {j} of the second?",
    )
    steps = [
        f"The order does not matter, so C({n}, {i}) = {first} counts the choices of {groups[0]}.",
        f"Likewise C({m}, {j}) = {second} counts the choices of {groups[1]}.",
        f"The choices are independent, so they multiply: {first} * {second} = {first * second}.",
    ]
    answer = (
        f"Without the rule there would be C({n + m}, {i + j}) = {every} teams, so a random team "
        f"obeys it with probability {Fraction(first * second, every)}."
    )
    return worked(rng, question, steps, answer)


def _average(rng: Random) -> str:
    values = [rng.randint(3, 99) for _ in range(rng.choice((5, 6, 7, 8, 9)))]
    n, total, ordered = len(values), sum(values), sorted(values)
    middle = Fraction(ordered[(n - 1) // 2] + ordered[n // 2], 2)
    who, thing = rng.choice(NAMES), rng.choice(GOODS)
    question = pick(
        rng,
        f"{who} records how many {thing} were sold on {n} days: {listed(values)}. Find the mean, "
        "the median and the range.",
        f"Here are {n} counts of {thing} made by {who}: {listed(values)}. What are their mean and "
        "their median, and how far do they spread?",
    )
    parity = "odd" if n % 2 else "even"
    steps = [
        f"The sum is {total}, so the mean is {total} / {n} = {Fraction(total, n)}, "
        f"{shown(Fraction(total, n))} as a decimal.",
        f"In order the list reads {', '.join(map(str, ordered))}.",
        f"With an {parity} number of values the median is {exact(middle)}, "
        + ("the one in the middle." if n % 2 else "midway between the two in the middle."),
    ]
    answer = f"The range is {ordered[-1]} - {ordered[0]} = {ordered[-1] - ordered[0]} {thing}, and the " + (
        "mean and the median coincide."
        if middle * n == total
        else f"mean is {'above' if total > middle * n else 'below'} the median."
    )
    return worked(rng, question, steps, answer)


def _ratio(rng: Random) -> str:
    parts = rng.sample(range(1, 14), 3)
    share, who = rng.randint(3, 120), rng.sample(NAMES, 3)
    total, thing = share * sum(parts), rng.choice(GOODS)
    shares = [share * part for part in parts]
    ratio = f"{parts[0]} : {parts[1]} : {parts[2]}"
    question = pick(
        rng,
        f"{listed(who)} divide {total} {thing} in the ratio {ratio}. What does each receive?",
        f"A prize of {total} {thing} is shared in the ratio {ratio} by {listed(who)}. Find the shares.",
    )
    most = who[parts.index(max(parts))]
    least = who[parts.index(min(parts))]
    gap = max(shares) - min(shares)
    steps = [
        f"There are {parts[0]} + {parts[1]} + {parts[2]} = {sum(parts)} parts.",
        f"One part is {total} / {sum(parts)} = {share} {thing}.",
        " ".join(f"{n} gets {p} * {share} = {p * share}." for n, p in zip(who, parts)),
    ]
    answer = (
        f"The shares add up to {' + '.join(map(str, shares))} = {total}, and {most} has {gap} "
        f"{thing} more than {least}, who holds {fixed(Fraction(100 * min(parts), sum(parts)), 1)}% "
        "of them, rounded to one decimal."
    )
    return worked(rng, question, steps, answer)


KINDS = (_shopping, _percentage, _area, _volume, _probability, _units, _committee, _average, _ratio, *NUMBERS)
