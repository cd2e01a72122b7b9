"""The kinds of synthetic mathematics document about numbers, sequences and equations."""

from fractions import Fraction
from math import gcd, lcm
from random import Random

from ldc.domains.synthetic._text import NAMES, exact, pick, words

GOODS = words(
    "notebooks pencils oranges candles postcards marbles tickets stamps apples ribbons mugs tiles "
    "batteries seedlings balloons buttons lemons brushes lanterns magnets bagels kites"
)
PLACES = words(
    "market bakery library school harbour garden workshop museum village orchard station "
    "theatre farm studio bookshop camp"
)
_MODULI = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)


def worked(rng: Random, question: str, steps: list[str], answer: str) -> str:
    """Question, steps and answer in one of several layouts."""
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
            f"Take {_term(right, v)} away on both sides, which leaves {_term(gap, v)} {_signed(b)} = {d}.",
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
    return worked(rng, question, steps, answer)


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
    return worked(rng, question, steps, answer)


def _gcd_lcm(rng: Random) -> str:
    common = rng.randint(2, 36)
    x, y = (common * f for f in rng.sample(range(2, 40), 2))
    x, y = max(x, y), min(x, y)
    who, things = rng.choice(NAMES), rng.sample(GOODS, 2)
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
            f"So {divisor} parcels are possible, each with {x // divisor} {things[0]} and {y // divisor} {things[1]}."
        )
    elif "bell" in question:
        answer = (
            f"The bells meet again after {multiple} seconds, when the first has rung "
            f"{multiple // x} more times and the second {multiple // y} more times."
        )
    else:
        answer = f"As a check, {divisor} * {multiple} = {divisor * multiple} = {x} * {y}."
    return worked(rng, question, steps, answer)


def _factorisation(rng: Random) -> str:
    number = 1
    while number < 200:
        number *= rng.choice(_PRIMES)
    powers = _powers(number)
    question = pick(
        rng,
        f"Write {number} as a product of prime powers and count its divisors.",
        f"How many divisors does {number} have? Start from its prime factorisation.",
        f"{rng.choice(NAMES)} must factor {number} into primes and tell how many whole numbers divide it.",
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
    return worked(rng, question, [split, f"Hence {number} = {_product(powers)}.", counting], answer)


def _arithmetic(rng: Random) -> str:
    first, step, n = rng.randint(2, 90), rng.randint(2, 25), rng.randint(8, 60)
    last = first + (n - 1) * step
    total = n * (first + last) // 2
    who, place = rng.choice(NAMES), rng.choice(PLACES)
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
    return worked(rng, question, steps, answer)


def _geometric(rng: Random) -> str:
    first, ratio, n = rng.randint(1, 40), rng.randint(2, 6), rng.randint(5, 9)
    terms = [first * ratio**k for k in range(n)]
    total = sum(terms)
    who, thing = rng.choice(NAMES), rng.choice(GOODS)
    question = pick(
        rng,
        f"{who} starts a chain with {first} {thing}; each round there are {ratio} times as many. "
        f"How many are used in {n} rounds altogether?",
        f"Find the sum of the first {n} terms of the geometric sequence {terms[0]}, {terms[1]}, {terms[2]}, ...",
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
    return worked(rng, question, steps, answer)


def _system(rng: Random) -> str:
    x, y = rng.randint(2, 60), rng.randint(2, 60)
    who, other = rng.sample(NAMES, 2)
    things = rng.sample(GOODS, 2)
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
        f"There are {x} {things[0]} and {y} {things[1]}; indeed {p} * {x} + {q} * {y} = {p * x} + {q * y} = {value}."
    )
    return worked(rng, question, steps, answer)


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
        f"So the left side is {'' if lead == 1 else f'{lead} * '}({v} {_signed(-r)})({v} {_signed(-s)}).",
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
    return worked(rng, question, steps, answer)


def _modular(rng: Random) -> str:
    base, modulus = rng.randint(2, 90), rng.choice(_MODULI)
    power = rng.choice((8, 9, 10, 12, 16, 17, 18, 20, 24, 32, 33))
    question = pick(
        rng,
        f"What is the remainder of {base}^{power} on division by {modulus}?",
        f"Compute {base}^{power} mod {modulus} by repeated squaring.",
        f"{rng.choice(NAMES)} raises {base} to the power {power} and divides by {modulus}. What remains?",
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
        f"As {power} = {' + '.join(map(str, bits))}, the result is {factors} mod {modulus} = {result}."
        if len(bits) > 1
        else f"Since {power} is a power of two, the last line gives the remainder {result}."
    )
    return worked(rng, question, steps, answer)


NUMBERS = (_linear, _fractions, _gcd_lcm, _factorisation, _arithmetic, _geometric, _system, _quadratic, _modular)
