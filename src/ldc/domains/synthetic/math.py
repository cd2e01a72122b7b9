"""Synthetic mathematics: word problems with worked solutions, generated from a seed.

The text is invented, the answers are computed: integer and rational arithmetic throughout, and
a rounded number says that it is one.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import comb, gcd, lcm
from random import Random

from ldc.domains.synthetic import _text
from ldc.domains.synthetic._text import NAMES, exact, fixed, listed, pick, shown

_GOODS = tuple(
    "notebooks pencils oranges candles postcards marbles tickets stamps apples ribbons mugs tiles "
    "batteries seedlings balloons buttons lemons brushes lanterns magnets bagels kites".split()
)
_PLACES = tuple(
    "market bakery library school harbour garden workshop museum village orchard station "
    "theatre farm studio bookshop camp".split()
)
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield `count` distinct documents, the same for the same seed."""
    return _text.documents("math", KINDS, seed, count)


def _worked(rng: Random, question: str, steps: list[str], answer: str) -> str:
    layout = rng.randrange(4)
    if layout == 0:
        return f"Q. {question}\nA. {' '.join(steps)} {answer}"
    if layout == 1:
        numbered = [f"Step {i}. {step}" for i, step in enumerate(steps, 1)]
        return "\n".join([question, " ".join(numbered), answer])
    if layout == 2:
        return f"Problem: {question}\nWorking: {' '.join(steps)} {answer}"
    opening = pick(rng, "Let us work it out.", "Here is one way.", "We reason as follows.", "Think.")
    return f"{question} {opening} {' '.join(steps)} {answer}"


def _signed(number: int) -> str:
    return f"+ {number}" if number >= 0 else f"- {-number}"


def _term(factor: int, variable: str) -> str:
    return {1: variable, -1: f"-{variable}"}.get(factor, f"{factor}{variable}")


def _powers(number: int) -> list[tuple[int, int]]:
    powers = []
    for prime in _PRIMES:
        power = 0
        while number % prime == 0:
            number //= prime
            power += 1
        if power:
            powers.append((prime, power))
    return powers


def _product(powers: list[tuple[int, int]]) -> str:
    return " * ".join(f"{p}^{k}" if k > 1 else str(p) for p, k in powers)


def _shopping(rng: Random) -> str:
    who, seller = rng.sample(NAMES, 2)
    (first, second), place = rng.sample(_GOODS, 2), rng.choice(_PLACES)
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
        f"Subtract from what was paid: {paid} - {total} = {paid - total}, so {who} keeps "
        f"{paid - total} coins.",
        f"{who} therefore gets {paid} - {total} = {paid - total} coins back from {seller}.",
    )
    return _worked(rng, question, steps, answer)


def _linear(rng: Random) -> str:
    x, v = rng.randint(-20, 20), rng.choice("xyztnk")
    left, right = rng.sample([f for f in range(-12, 13) if f], 2)
    b = rng.choice([f for f in range(-60, 61) if f])
    d = left * x + b - right * x
    gap, rest = left - right, d - b
    equation = f"{_term(left, v)} {_signed(b)} = {_term(right, v)} {_signed(d)}"
    question = pick(
        rng,
        f"Solve the equation {equation} for {v}.",
        f"Find the value of {v} that satisfies {equation}.",
        f"For which number {v} is it true that {equation}?",
    )
    steps = [
        pick(
            rng,
            f"Collect the terms with {v} on the left by subtracting {_term(right, v)} from both "
            f"sides: {_term(gap, v)} {_signed(b)} = {d}.",
            f"Take {_term(right, v)} away on both sides, which leaves "
            f"{_term(gap, v)} {_signed(b)} = {d}.",
        ),
        f"Move the constant {b} to the other side: {_term(gap, v)} = {d} {_signed(-b)} = {rest}.",
    ]
    if gap != 1:
        steps.append(f"Dividing both sides by {gap} gives {v} = {rest} / {gap} = {x}.")
    value = left * x + b
    answer = pick(
        rng,
        f"Check with {v} = {x}: the left side is {left} * ({x}) {_signed(b)} = {value} and the "
        f"right side is {right} * ({x}) {_signed(d)} = {value}, so they agree.",
        f"Hence {v} = {x}; put back into {equation}, both sides come to {value}.",
    )
    return _worked(rng, question, steps, answer)


def _fractions(rng: Random) -> str:
    who, other = rng.sample(NAMES, 2)
    b, d = rng.sample(range(3, 25), 2)
    a, c = rng.randint(1, b - 1), rng.randint(1, d - 1)
    common = lcm(b, d)
    e, f = a * common // b, c * common // d
    thing = pick(rng, "cake", "field", "wall", "pipe", "rope", "fence", "mural", "tank", "road")
    total = Fraction(a, b) + Fraction(c, d)
    question = pick(
        rng,
        f"{who} needs {a}/{b} of a {thing} and {other} needs {c}/{d} of a {thing} of the same "
        "size. How much do they need together?",
        f"Add {a}/{b} and {c}/{d}, as {who} and {other} must do when they put two parts of a "
        f"{thing} together, and reduce the result.",
        f"What is {a}/{b} + {c}/{d} in lowest terms? {who} asks {other}, thinking of a {thing}.",
    )
    steps = [
        f"The least common multiple of the denominators {b} and {d} is {common}.",
        f"On that denominator {a}/{b} = {e}/{common} and {c}/{d} = {f}/{common}.",
        f"Adding the numerators, {e} + {f} = {e + f}, so the sum is {(e + f)}/{common}.",
    ]
    divisor = gcd(e + f, common)
    if divisor > 1:
        steps.append(f"Numerator and denominator share the factor {divisor}, which cancels.")
    size = {True: "more than", False: "less than"}[total > 1] if total != 1 else "exactly"
    answer = f"The sum is {total}, which is {size} one whole {thing}" + pick(
        rng, f", so {who} and {other} need that much.", f" for {who} and {other} to share.", "."
    )
    return _worked(rng, question, steps, answer)


def _percentage(rng: Random) -> str:
    who, thing = rng.choice(NAMES), rng.choice(_GOODS)
    start = 20 * rng.randint(10, 400)
    up, down = rng.randrange(5, 65, 5), rng.randrange(5, 65, 5)
    middle = Fraction(start * (100 + up), 100)
    end = middle * (100 - down) / 100
    change = (end - start) * 100 / start
    place = rng.choice(_PLACES)
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
        f"{down}% of {exact(middle)} is {exact(middle - end)}, which leaves {exact(end)} "
        f"on paper.",
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
    return _worked(rng, question, steps, answer)


def _gcd_lcm(rng: Random) -> str:
    common = rng.randint(2, 36)
    x, y = (common * f for f in rng.sample(range(2, 40), 2))
    x, y = max(x, y), min(x, y)
    who, things = rng.choice(NAMES), rng.sample(_GOODS, 2)
    divisor, multiple = gcd(x, y), lcm(x, y)
    steps, r, s = [], x, y
    while s:
        steps.append(f"{r} = {r // s} * {s} + {r % s}.")
        r, s = s, r % s
    steps[0] = pick(rng, "By Euclid's algorithm, ", "Divide with remainder: ") + steps[0]
    question = pick(
        rng,
        f"{who} has {x} {things[0]} and {y} {things[1]} and wants to pack identical parcels with "
        "nothing left over. How many parcels can be made at most?",
        f"Find the greatest common divisor and the least common multiple of {x} and {y}.",
        f"One bell rings every {x} seconds, another every {y} seconds, and both ring now while "
        f"{who} listens. After how many seconds do they next ring together?",
    )
    steps.append(f"The last nonzero remainder gives gcd({x}, {y}) = {divisor}.")
    steps.append(f"Then lcm({x}, {y}) = {x} * {y} / {divisor} = {multiple}.")
    if "parcels" in question:
        answer = (
            f"So {divisor} parcels are possible, each with {x // divisor} {things[0]} and "
            f"{y // divisor} {things[1]}."
        )
    elif "bell" in question:
        answer = (
            f"The bells meet again after {multiple} seconds, when the first has rung "
            f"{multiple // x} more times and the second {multiple // y} more times."
        )
    else:
        answer = f"As a check, {divisor} * {multiple} = {divisor * multiple} = {x} * {y}."
    return _worked(rng, question, steps, answer)


def _factorisation(rng: Random) -> str:
    number = 1
    while number < 200:
        number *= rng.choice(_PRIMES)
    powers = _powers(number)
    question = pick(
        rng,
        f"Write {number} as a product of prime powers and count its divisors.",
        f"How many divisors does {number} have? Start from its prime factorisation.",
        f"{rng.choice(NAMES)} must factor {number} into primes and tell how many whole numbers "
        "divide it.",
    )
    steps, rest = [], number
    for prime, power in powers:
        for _ in range(power):
            steps.append(f"{rest} / {prime} = {rest // prime}")
            rest //= prime
    count = total = 1
    for prime, power in powers:
        count *= power + 1
        total *= (prime ** (power + 1) - 1) // (prime - 1)
    bracket = " * ".join(f"({power} + 1)" for _, power in powers)
    counting = pick(
        rng,
        "A divisor chooses each exponent between zero and the one shown, so the exponents plus "
        f"one are multiplied: {bracket} = {count}.",
        f"Adding one to every exponent and multiplying gives {bracket} = {count} divisors.",
    )
    answer = f"So {number} has {count} divisors, 1 and {number} included; their sum is {total}."
    split = f"Divide by the smallest prime each time: {', '.join(steps)}."
    return _worked(
        rng, question, [split, f"Hence {number} = {_product(powers)}.", counting], answer
    )


def _arithmetic(rng: Random) -> str:
    first, step, n = rng.randint(2, 90), rng.randint(2, 25), rng.randint(8, 60)
    last = first + (n - 1) * step
    total = n * (first + last) // 2
    who, place = rng.choice(NAMES), rng.choice(_PLACES)
    question = pick(
        rng,
        f"The rows of the {place} hold {first}, {first + step}, {first + 2 * step}, ... seats, "
        f"always {step} more than the row before. {who} counts {n} rows. How many seats are there?",
        f"An arithmetic sequence starts {first}, {first + step}, {first + 2 * step}. Find term "
        f"number {n} and the sum of the first {n} terms.",
        f"{who} saves {first} coins in the first week and {step} coins more in each week than in "
        f"the last. How much is put aside in week {n}, and how much in all {n} weeks?",
    )
    steps = [
        f"The common difference is {step}.",
        f"Term {n} is {first} + ({n} - 1) * {step} = {first} + {(n - 1) * step} = {last}.",
        pick(
            rng,
            f"Pairing the first term with the last gives {first} + {last} = {first + last}.",
            f"First and last together make {first + last}, and so does every such pair.",
        ),
    ]
    answer = f"The sum of {n} terms is {n} * {first + last} / 2 = {total}."
    return _worked(rng, question, steps, answer)


def _geometric(rng: Random) -> str:
    first, ratio, n = rng.randint(1, 40), rng.randint(2, 6), rng.randint(5, 9)
    terms = [first * ratio**k for k in range(n)]
    total = sum(terms)
    who, thing = rng.choice(NAMES), rng.choice(_GOODS)
    question = pick(
        rng,
        f"{who} starts a chain with {first} {thing}; each round there are {ratio} times as many. "
        f"How many are used in {n} rounds altogether?",
        f"Find the sum of the first {n} terms of the geometric sequence {terms[0]}, {terms[1]}, "
        f"{terms[2]}, ...",
        f"A pattern of {thing} begins {terms[0]}, {terms[1]}, {terms[2]}. {who} asks what figure "
        f"comes at place {n} and what the first {n} figures add up to.",
    )
    steps = [
        f"The ratio is {terms[1]} / {terms[0]} = {ratio}.",
        f"Term {n} equals {first} * {ratio}^{n - 1} = {terms[-1]}.",
        f"The sum is {first} * ({ratio}^{n} - 1) / ({ratio} - 1), with {ratio}^{n} = {ratio**n}.",
    ]
    answer = pick(
        rng,
        f"That is {first} * {ratio**n - 1} / {ratio - 1} = {total}.",
        f"Adding directly agrees: {' + '.join(map(str, terms))} = {total}.",
    )
    return _worked(rng, question, steps, answer)


def _area(rng: Random) -> str:
    length, width, border = rng.randint(8, 90), rng.randint(5, 70), rng.randint(1, 6)
    who, place = rng.choice(NAMES), rng.choice(_PLACES)
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
    return _worked(rng, question, steps, answer)


def _volume(rng: Random) -> str:
    x, y, z = (rng.randrange(10, 150, 5) for _ in range(3))
    who, place = rng.choice(NAMES), rng.choice(_PLACES)
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
        f"The volume is {x} * {y} * {z} = {x * y * z:,} cubic centimetres.",
        f"A litre is 1,000 cubic centimetres, so the box holds {exact(litres)} litres.",
        f"Its surface is 2 * ({x * y} + {y * z} + {x * z}) = {surface:,} square centimetres.",
    ]
    answer = f"Filling takes {exact(litres)} / {rate} = {exact(litres / rate)} minutes for {who}."
    return _worked(rng, question, steps, answer)


def _probability(rng: Random) -> str:
    colours = rng.sample(("red", "blue", "green", "white", "yellow", "black", "purple"), 2)
    n, m = rng.randint(2, 18), rng.randint(2, 18)
    total, who, thing = n + m, rng.choice(NAMES), rng.choice(_GOODS)
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
        f"The probability is {comb(n, 2) + comb(m, 2)}/{comb(total, 2)} = {same}, {_near(same)}; "
        f"a mixed pair has probability {1 - same}."
    )
    return _worked(rng, question, steps, answer)


def _near(value: Fraction) -> str:
    return f"or {shown(value, 3)}"


def _system(rng: Random) -> str:
    x, y = rng.randint(2, 60), rng.randint(2, 60)
    who, other = rng.sample(NAMES, 2)
    things = rng.sample(_GOODS, 2)
    p, q = rng.sample(range(2, 20), 2)
    total, value = x + y, p * x + q * y
    question = pick(
        rng,
        f"{who} buys {things[0]} at {p} coins and {things[1]} at {q} coins, {total} pieces for "
        f"{value} coins in all. How many of each?",
        f"Between them {who} and {other} carry {total} items worth {value} coins: {things[0]} "
        f"worth {p} coins each and {things[1]} worth {q} coins each. Find both numbers.",
        f"Solve the system x + y = {total} and {p}x + {q}y = {value}, where x counts {things[0]} "
        f"and y counts {things[1]}.",
    )
    steps = [
        f"Let x be the number of {things[0]} and y the number of {things[1]}, so that "
        f"x + y = {total} and {p}x + {q}y = {value}.",
        f"Multiply the first equation by {p}: {p}x + {p}y = {p * total}.",
        f"Subtract it from the second: {_term(q - p, 'y')} = {value} - {p * total} = "
        f"{value - p * total}, hence y = {y}.",
        f"Then x = {total} - {y} = {x}.",
    ]
    answer = (
        f"There are {x} {things[0]} and {y} {things[1]}; indeed {p} * {x} + {q} * {y} = "
        f"{p * x} + {q * y} = {value}."
    )
    return _worked(rng, question, steps, answer)


def _quadratic(rng: Random) -> str:
    r, s = sorted(rng.sample([n for n in range(-18, 19) if n], 2))
    lead, v = rng.randint(1, 6), rng.choice("xyztu")
    b, c = -(r + s), r * s
    middle = f" {'+' if b > 0 else '-'} {_term(abs(lead * b), v)}" if b else ""
    equation = f"{_term(lead, f'{v}^2')}{middle} {_signed(lead * c)} = 0"
    question = pick(
        rng,
        f"Factor the quadratic and solve {equation}.",
        f"Find both roots of {equation} by factoring.",
        f"For which {v} does {equation} hold?",
    )
    steps = [f"Divide by {lead} to make the leading coefficient one."] if lead > 1 else []
    steps += [
        pick(
            rng,
            f"We look for two numbers with sum {r + s} and product {c}; they are {r} and {s}.",
            f"Two numbers with product {c} that add up to {r + s} are {r} and {s}.",
        ),
        f"So the left side is {'' if lead == 1 else f'{lead} * '}({v} {_signed(-r)})"
        f"({v} {_signed(-s)}).",
        f"A product vanishes only if a factor does, so {v} = {r} or {v} = {s}.",
    ]
    discriminant = b * b - 4 * c
    answer = pick(
        rng,
        f"The discriminant after division, {b * b} {_signed(-4 * c)} = {discriminant} = "
        f"{s - r}^2, is a perfect square, as it must be.",
        f"The roots lie {s - r} apart and the vertex of the parabola is at {v} = "
        f"{exact(Fraction(r + s, 2))}, halfway between {r} and {s}.",
    )
    return _worked(rng, question, steps, answer)


def _units(rng: Random) -> str:
    speed, minutes = 9 * rng.randint(2, 30), rng.randrange(5, 185, 5)
    metres = Fraction(speed * 5, 18)
    distance = Fraction(speed * minutes, 60)
    who = rng.choice(NAMES)
    start, end = rng.sample(_PLACES, 2)
    vehicle = pick(rng, "bus", "train", "van", "tram", "motorbike", "truck", "boat")
    question = pick(
        rng,
        f"{who} rides a {vehicle} at a steady {speed} km/h for {minutes} minutes, from the "
        f"{start} to the {end}. Give the speed in metres per second and the distance.",
        f"A {vehicle} needs {minutes} minutes from the {start} to the {end} at {speed} km/h. "
        f"{who} wants the distance in metres and the speed in m/s.",
    )
    steps = [
        f"One kilometre is 1,000 m and one hour is 3,600 s, so {speed} km/h is {speed} * 1000 / "
        f"3600 = {exact(metres)} m/s.",
        f"In seconds the ride lasts {minutes} * 60 = {minutes * 60:,} s.",
        f"The distance is {exact(metres)} * {minutes * 60:,} = {exact(metres * minutes * 60)} m.",
    ]
    rng.shuffle(steps[:2])
    answer = (
        f"In kilometres that is {exact(distance)} km, in agreement with {speed} * "
        f"{minutes} / 60."
    )
    return _worked(rng, question, steps, answer)


def _modular(rng: Random) -> str:
    base, modulus = rng.randint(2, 60), rng.randint(5, 97)
    power = rng.choice((8, 9, 10, 12, 16, 17, 18, 20, 24, 32, 33))
    question = pick(
        rng,
        f"What is the remainder of {base}^{power} on division by {modulus}?",
        f"Compute {base}^{power} mod {modulus} by repeated squaring.",
        f"{rng.choice(NAMES)} raises {base} to the power {power} and divides by {modulus}. What "
        "remains?",
    )
    steps, exponent, value = [], 1, base % modulus
    steps.append(f"Modulo {modulus} we have {base}^1 = {value}.")
    while exponent * 2 <= power:
        square = value * value
        exponent, value = exponent * 2, square % modulus
        steps.append(f"{base}^{exponent} leaves {square} mod {modulus} = {value}.")
    bits = [1 << k for k in range(power.bit_length()) if power >> k & 1]
    result = pow(base, power, modulus)
    factors = " * ".join(str(pow(base, bit, modulus)) for bit in bits)
    answer = (
        f"As {power} = {' + '.join(map(str, bits))}, the result is {factors} mod {modulus} = "
        f"{result}."
        if len(bits) > 1
        else f"Since {power} is a power of two, the last line gives the remainder {result}."
    )
    return _worked(rng, question, steps, answer)


def _committee(rng: Random) -> str:
    n, m = rng.randint(4, 14), rng.randint(4, 14)
    i, j = rng.randint(2, 3), rng.randint(1, 3)
    groups = rng.sample(
        ("teachers", "pilots", "painters", "nurses", "cooks", "sailors", "singers", "coders"), 2
    )
    place, who = rng.choice(_PLACES), rng.choice(NAMES)
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
        f"The choices are independent, so they multiply: {first} * {second} = {first * second:,}.",
    ]
    answer = (
        f"Without the rule there would be C({n + m}, {i + j}) = {every:,} teams, so a random team "
        f"obeys it with probability {Fraction(first * second, every)}."
    )
    return _worked(rng, question, steps, answer)


def _average(rng: Random) -> str:
    values = [rng.randint(3, 99) for _ in range(rng.choice((5, 6, 7, 8, 9)))]
    n, total, ordered = len(values), sum(values), sorted(values)
    middle = Fraction(ordered[(n - 1) // 2] + ordered[n // 2], 2)
    who, thing = rng.choice(NAMES), rng.choice(_GOODS)
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
    answer = (
        f"The range is {ordered[-1]} - {ordered[0]} = {ordered[-1] - ordered[0]} {thing}, and the "
        + (
            "mean and the median coincide."
            if middle * n == total
            else f"mean is {'above' if total > middle * n else 'below'} the median."
        )
    )
    return _worked(rng, question, steps, answer)


def _ratio(rng: Random) -> str:
    parts = rng.sample(range(1, 14), 3)
    share, who = rng.randint(3, 120), rng.sample(NAMES, 3)
    total, thing = share * sum(parts), rng.choice(_GOODS)
    shares = [share * part for part in parts]
    ratio = f"{parts[0]} : {parts[1]} : {parts[2]}"
    question = pick(
        rng,
        f"{listed(who)} divide {total} {thing} in the ratio {ratio}. What does each receive?",
        f"A prize of {total} {thing} is shared in the ratio {ratio} by {listed(who)}. Find the "
        "shares.",
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
    return _worked(rng, question, steps, answer)


KINDS = (
    _shopping,
    _linear,
    _fractions,
    _percentage,
    _gcd_lcm,
    _factorisation,
    _arithmetic,
    _geometric,
    _area,
    _volume,
    _probability,
    _system,
    _quadratic,
    _units,
    _modular,
    _committee,
    _average,
    _ratio,
)
