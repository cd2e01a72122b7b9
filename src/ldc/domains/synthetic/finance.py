"""Synthetic finance: savings, loans, securities and the reports of invented companies, from a seed.

Companies, people and rates are invented and the figures are computed exactly; a rounded figure
is said to be 'about' right, or the text states how it was rounded.
"""

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from ldc.domains.synthetic import _text
from ldc.domains.synthetic._companies import COMPANIES, company, currency
from ldc.domains.synthetic._text import NAMES, exact, fixed, grouped, listed, money, pick, shown, words

_COSTS = (
    "rent", "food", "transport", "insurance", "energy", "clothing", "telephone", "leisure",
    "child care", "books", "repairs", "subscriptions",
)  # fmt: skip
_ASSETS = (
    "domestic shares", "foreign shares", "government bonds", "corporate bonds", "property funds",
    "gold", "cash", "commodities", "small companies", "infrastructure",
)  # fmt: skip
_MONIES = words("ducats florins crowns thalers guilders doubloons escudos marks talents")


def documents(seed: int, count: int) -> Iterator[str]:
    """Yield `count` distinct documents, the same for the same seed."""
    return _text.documents("finance", KINDS, seed, count)


def _compound(rng: Random) -> str:
    who, sign = rng.choice(NAMES), currency(rng)
    start, rate, years = rng.randrange(500, 40000, 50), rng.randint(2, 36), rng.randint(3, 15)
    factor = 1 + Fraction(rate, 400)
    end = start * factor**years
    simple = start * (1 + Fraction(rate, 400) * years)
    percent = exact(Fraction(rate, 4))
    return " ".join(
        [
            pick(
                rng,
                f"{who} deposits {sign}{start:,} for {years} years at {percent}% a year, with "
                "interest added to the balance every year.",
                f"A savings certificate of {sign}{start:,} bought by {who} pays {percent}% a year "
                f"and compounds annually for {years} years.",
            ),
            f"Each year multiplies the balance by {exact(factor)}, so it grows to {start:,} * "
            f"{exact(factor)}^{years}, which rounds to {sign}{grouped(end)}.",
            pick(
                rng,
                f"The interest earned is about {sign}{grouped(end - start)}.",
                f"Of this about {sign}{grouped(end - start)} is interest.",
            ),
            f"Simple interest at the same rate would have led to {sign}{grouped(simple)} only; "
            f"interest on interest is worth about {sign}{grouped(end - simple)}.",
            f"After the first year the account shows {sign}{grouped(start * factor)}, after the "
            f"second about {sign}{grouped(start * factor**2)}.",
        ]
    )


def _loan(rng: Random) -> str:
    who, sign = rng.choice(NAMES), currency(rng)
    amount, months = rng.randrange(1000, 60000, 100), rng.choice((12, 18, 24, 36, 48, 60))
    yearly = Fraction(rng.randint(8, 60), 4)
    rate = float(yearly) / 1200
    payment = Fraction(round(100 * amount * rate / (1 - (1 + rate) ** -months)), 100)
    interest = Fraction(int(amount * yearly / 12 + Fraction(1, 2)), 100)
    left = amount + interest - payment
    return " ".join(
        [
            pick(
                rng,
                f"{who} borrows {sign}{amount:,} at {exact(yearly)}% a year and repays it in "
                f"{months} equal monthly instalments.",
                f"A car loan of {sign}{amount:,} to {who} runs for {months} months at a nominal "
                f"rate of {exact(yearly)}% a year.",
            ),
            f"The monthly rate is one twelfth of {exact(yearly)}%.",
            f"The annuity formula gives an instalment of {sign}{grouped(payment)}, rounded to the cent.",
            f"In the first month {sign}{grouped(interest)} of it is interest, again rounded, and "
            f"the remaining {sign}{grouped(payment - interest)} reduces the debt to "
            f"{sign}{grouped(left)}.",
            f"All {months} instalments together come to {sign}{grouped(payment * months)}, so the "
            f"credit costs about {sign}{grouped(payment * months - amount)}.",
            pick(
                rng,
                "The share of interest shrinks with every payment.",
                "A shorter term would raise the instalment and lower the cost.",
            ),
        ]
    )


def _present_value(rng: Random) -> str:
    firm, sign = company(rng), currency(rng)
    cost, rate = rng.randrange(20, 400, 5) * 1000, rng.randint(3, 16)
    flows = [rng.randrange(5, 180, 1) * 1000 for _ in range(rng.randint(3, 5))]
    factor = 1 + Fraction(rate, 100)
    parts = [flow / factor**year for year, flow in enumerate(flows, 1)]
    net = sum(parts) - cost
    what = pick(rng, "a packing line", "a warehouse", "a solar roof", "a fleet of vans", "a kiln")
    return " ".join(
        [
            pick(
                rng,
                f"{firm} considers {what} for {sign}{cost:,}, expected to bring in "
                f"{listed([f'{sign}{flow:,}' for flow in flows])} in the years to follow.",
                f"Should {firm} buy {what}? It costs {sign}{cost:,} today and returns "
                f"{listed([f'{sign}{flow:,}' for flow in flows])} at the end of each year.",
            ),
            f"The cost of capital is {rate}%, so a payment in year n is divided by {exact(factor)}^n.",
            "Discounted and rounded to whole units, the flows are worth "
            f"{listed([f'{sign}{grouped(part, 0)}' for part in parts])}.",
            f"Their sum less the outlay leaves a net present value of about {money(sign, net, 0)}.",
            f"As this is {'positive' if net > 0 else 'negative'}, the project "
            f"{'adds to' if net > 0 else 'would reduce'} the value of {firm}.",
            f"Without discounting the balance would be {money(sign, sum(flows) - cost, 0)}.",
        ]
    )


def _bond(rng: Random) -> str:
    firm, sign = company(rng), currency(rng)
    face, years = rng.choice((100, 500, 1000, 5000)), rng.randint(2, 12)
    coupon, market = rng.sample(range(4, 40), 2)
    payment, rate = Fraction(face * coupon, 400), Fraction(market, 400)
    price = payment * (1 - (1 + rate) ** -years) / rate + face / (1 + rate) ** years
    return " ".join(
        [
            pick(
                rng,
                f"A bond of {firm} with a face value of {sign}{face:,} pays a coupon of "
                f"{exact(Fraction(coupon, 4))}% once a year and matures in {years} years.",
                f"{firm} has issued notes of {sign}{face:,} with {years} years to run and an "
                f"annual coupon of {exact(Fraction(coupon, 4))}%.",
            ),
            f"Each coupon is {sign}{grouped(payment)}.",
            f"Investors now ask for a yield of {exact(Fraction(market, 4))}%.",
            f"Discounting {years} coupons and the face value at that rate gives a price of about "
            f"{sign}{grouped(price)}, or {fixed(100 * price / face, 2)}% of par.",
            f"The bond trades at a {'premium' if price > face else 'discount'} because its coupon "
            f"is {'above' if coupon > market else 'below'} the market rate.",
            f"The current yield, coupon over price, is about {fixed(100 * payment / price, 2)}%.",
        ]
    )


def _exchange(rng: Random) -> str:
    who, home, away = rng.choice(NAMES), *rng.sample(_MONIES, 2)
    amount = rng.randrange(100, 9000, 20)
    rate, fee = Fraction(rng.randint(21, 1990), 100), rng.randint(1, 12)
    charge = Fraction(amount * fee, 400)
    got = (amount - charge) * rate
    later = rate * (100 + rng.choice((-8, -5, -4, -2, 2, 4, 5, 8))) / 100
    worth = got / later
    return " ".join(
        [
            pick(
                rng,
                f"{who} changes {amount:,} {home} into {away} at a rate of {exact(rate)} {away} "
                f"for each of the {home}.",
                f"A bank quotes {exact(rate)} {away} for one unit of {home}, and {who} brings {amount:,} {home}.",
            ),
            f"The counter keeps {exact(Fraction(fee, 4))}%, that is {grouped(charge)} {home}.",
            f"The rest, {grouped(amount - charge)} {home}, becomes {grouped(amount - charge)} * "
            f"{exact(rate)} {away}, rounded to {grouped(got)} {away}.",
            f"A month later the rate stands at {grouped(later, 4)}.",
            f"Changed back without a fee, the sum would yield about {grouped(worth)} {home}, "
            f"{'less' if worth < amount else 'more'} than at the start by about "
            f"{grouped(abs(worth - amount))} {home}.",
            f"The {home} have {'gained' if later > rate else 'lost'} ground meanwhile.",
        ]
    )


def _portfolio(rng: Random) -> str:
    who, sign = rng.choice(NAMES), currency(rng)
    assets = rng.sample(_ASSETS, rng.randint(3, 4))
    values = [rng.randrange(1000, 60000, 500) for _ in assets]
    returns = [Fraction(rng.randint(-24, 40), 2) for _ in assets]
    gains = [value * change / 100 for value, change in zip(values, returns)]
    total, gain = sum(values), sum(gains, Fraction(0))
    lines = "; ".join(
        f"{asset} {sign}{value:,} ({exact(change)}%)" for asset, value, change in zip(assets, values, returns)
    )
    best = assets[gains.index(max(gains))]
    return " ".join(
        [
            pick(
                rng,
                f"At the start of the year {who} held, with the return of the year in brackets: {lines}.",
                f"The portfolio of {who}, opening values and yearly returns: {lines}.",
            ),
            f"The whole was worth {sign}{total:,}.",
            f"In money the positions changed by {listed([money(sign, g) for g in gains])} in that order.",
            f"Together this is {money(sign, gain)}, a return of {shown(100 * gain / total)}% on the opening value.",
            f"The best contribution came from {best}; weights matter as much as returns.",
            f"The closing value is {sign}{grouped(total + gain)}, and the position in {best} is about "
            f"{fixed(100 * (values[assets.index(best)] + max(gains)) / (total + gain), 1)}% of it.",
        ]
    )


def _budget(rng: Random) -> str:
    who, sign = rng.choice(NAMES), currency(rng)
    costs = rng.sample(_COSTS, rng.randint(4, 6))
    sums = [rng.randrange(20, 900, 5) for _ in costs]
    total = sum(sums)
    income = total + rng.randrange(-150, 900, 5)
    table = "\n".join(
        f"{who}'s {cost} | {sign}{value:,} | {fixed(Fraction(100 * value, total), 1)}% of spending"
        for cost, value in zip(costs, sums)
    )
    over = income - total
    return "\n".join(
        [
            pick(
                rng,
                f"Monthly budget of {who}, with a net income of {sign}{income:,}:",
                f"{who} earns {sign}{income:,} after tax and plans the month as follows:",
            ),
            table,
            f"Spending adds up to {sign}{total:,}, and the shares are rounded to one decimal. "
            + (
                f"This leaves {sign}{over:,} to save, {shown(Fraction(100 * over, income), 1)}% of "
                f"the income, or {sign}{12 * over:,} in a year if nothing changes."
                if over > 0
                else f"There is nothing to save: the plan exceeds the income by {sign}{-over:,}."
                if over < 0
                else f"Income and spending of {who} balance exactly."
            )
            + f" The largest item is {costs[sums.index(max(sums))]}.",
        ]
    )


def _dividend(rng: Random) -> str:
    firm, who, sign = company(rng), rng.choice(NAMES), currency(rng)
    cents, shares = rng.randint(400, 30000), rng.randint(10, 900)
    price, dividend = Fraction(cents, 100), Fraction(cents * rng.randint(5, 80) // 1000, 100)
    earnings = dividend + Fraction(cents * rng.randint(5, 70) // 1000, 100)
    tax = rng.choice((10, 15, 20, 25, 30))
    cash = shares * dividend
    return " ".join(
        [
            pick(
                rng,
                f"{firm} pays a dividend of {sign}{grouped(dividend)} a share, while the share "
                f"stands at {sign}{grouped(price)}.",
                f"With the share price at {sign}{grouped(price)}, the board of {firm} proposes a "
                f"dividend of {sign}{grouped(dividend)}.",
            ),
            f"The dividend yield is about {fixed(100 * dividend / price)}%.",
            f"Earnings per share were {sign}{grouped(earnings)}, so about "
            f"{fixed(100 * dividend / earnings, 1)}% of the profit is paid out and the "
            f"price-earnings ratio is about {fixed(price / earnings, 1)}.",
            f"{who} owns {shares} shares worth {sign}{grouped(price * shares)} and is due {sign}{grouped(cash)}.",
            f"After withholding tax of {tax}% there remain about {sign}{grouped(cash * (100 - tax) / 100)}.",
            pick(
                rng,
                f"Spent on new shares, the gross amount would buy {cash // price} whole shares.",
                f"The cover, earnings over dividend, is about {fixed(earnings / dividend)}.",
            ),
        ]
    )


def _trade(rng: Random) -> str:
    firm, who, sign = company(rng), rng.choice(NAMES), currency(rng)
    first, second = (rng.randrange(10, 400, 5) for _ in range(2))
    cents = rng.randint(300, 20000)
    low = Fraction(cents, 100)
    high, sale = (Fraction(cents * rng.randint(65, 170) // 100, 100) for _ in range(2))
    fee = rng.randint(2, 30)
    paid = first * low + second * high
    count = first + second
    got = count * sale - fee
    return " ".join(
        [
            pick(
                rng,
                f"{who} bought {first} shares of {firm} at {sign}{grouped(low)} and later another "
                f"{second} at {sign}{grouped(high)}.",
                f"In two orders, {first} at {sign}{grouped(low)} and {second} at "
                f"{sign}{grouped(high)}, {who} built up a position in {firm}.",
            ),
            f"The {count} shares cost {sign}{grouped(paid)}, an average of about {sign}{grouped(paid / count)} each.",
            f"All are sold at {sign}{grouped(sale)} with a commission of {sign}{fee}.",
            f"The proceeds are {count} * {grouped(sale)} - {fee} = {sign}{grouped(got)}.",
            f"That is a {'gain' if got > paid else 'loss'} of {sign}{grouped(abs(got - paid))}, "
            f"about {fixed(100 * abs(got - paid) / paid, 1)}% of the money invested.",
            f"To come out even the price would have had to be about {sign}{grouped((paid + fee) / count)}.",
        ]
    )


def _salary(rng: Random) -> str:
    who, sign = rng.choice(NAMES), currency(rng)
    free, step = rng.randrange(4, 16) * 1000, rng.randrange(10, 40) * 1000
    low, high = rng.choice((10, 12, 15, 18, 20)), rng.choice((24, 25, 28, 30, 35, 40))
    salary = free + step + rng.randrange(100, 60000, 100)
    first, second = Fraction(step * low, 100), Fraction((salary - free - step) * high, 100)
    tax = first + second
    social = Fraction(salary * rng.randint(5, 15), 100)
    net = salary - tax - social
    return " ".join(
        [
            pick(
                rng,
                f"{who} earns {sign}{salary:,} a year in a country where the first {sign}{free:,} "
                f"are free of tax, the next {sign}{step:,} are taxed at {low}% and all above "
                f"at {high}%.",
                f"A tariff exempts {sign}{free:,}, takes {low}% of the next {sign}{step:,} and "
                f"{high}% of the rest. {who} has a salary of {sign}{salary:,}.",
            ),
            f"The middle band costs {sign}{grouped(first)} and the upper one, "
            f"{sign}{salary - free - step:,} wide, {sign}{grouped(second)}.",
            f"The tax is {sign}{grouped(tax)} in all, an average rate of about "
            f"{fixed(100 * tax / salary, 1)}%, though the marginal rate is {high}%.",
            f"Social contributions take a further {sign}{grouped(social)}.",
            f"What is left is {sign}{grouped(net)} a year or about {sign}{grouped(net / 12)} a month.",
            f"The invented tariff does not follow the law of any country; {who} is invented too.",
        ]
    )


KINDS = (
    _compound,
    _loan,
    _present_value,
    _bond,
    _exchange,
    _portfolio,
    _budget,
    _dividend,
    _trade,
    _salary,
    *COMPANIES,
)
