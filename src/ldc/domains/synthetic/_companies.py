"""The kinds of synthetic finance document that report on a company: statements, ratios, costs."""

from fractions import Fraction
from itertools import pairwise
from random import Random

from ldc.domains.synthetic._text import fixed, grouped, pick, shown, shuffled, words

_FIRST = words(
    "Alder Amber Arbour Beacon Birch Bluewater Cedar Cobalt Crest Delta Eastgate Ember Falcon "
    "Garnet Granite Harbour Heron Ivory Juniper Lakeside Larch Maple Meridian Nordic Northwind "
    "Onyx Opal Orchard Pinnacle Quartz Raven Redwood Riverside Sable Silver Summit Tidal Umber "
    "Vertex Willow"
)
_TRADES = words(
    "Foods Paper Logistics Optics Textiles Energy Software Pharma Furniture Shipping Glass "
    "Instruments Media Mills Motors Packaging Robotics Seeds Steel Tools Toys Brewing Ceramics "
    "Clinics Airlines"
)
_FORMS = ("plc", "Group", "Ltd", "Holdings", "Inc", "Partners", "Works", "Co")
_ITEMS = words(
    "lamps chairs filters kettles helmets bicycles routers jackets drills clocks mattresses "
    "cameras tents pumps ovens scales keyboards ladders"
)


def company(rng: Random) -> str:
    """An invented company."""
    return f"{rng.choice(_FIRST)} {rng.choice(_TRADES)} {rng.choice(_FORMS)}"


def currency(rng: Random) -> str:
    """A currency sign or code, to stand right before a number."""
    return pick(rng, "$", "$", "EUR ", "GBP ", "CHF ")


def _income(rng: Random) -> str:
    firm, sign, year = company(rng), currency(rng), rng.randint(1996, 2024)
    revenue = rng.randint(200, 9000)
    goods = revenue * rng.randint(35, 70) // 100
    staff = revenue * rng.randint(5, 20) // 100
    wear, interest = rng.randint(4, revenue // 20), rng.randint(1, revenue // 25)
    gross = revenue - goods
    operating = gross - staff - wear
    before = operating - interest
    tax = Fraction(max(before, 0) * rng.choice((20, 22, 25, 28)), 100)
    net = before - tax
    return " ".join(
        [
            pick(
                rng,
                f"In {year} {firm} had revenue of {sign}{revenue:,} thousand and a cost of goods "
                f"sold of {sign}{goods:,} thousand.",
                f"Income statement of {firm} for {year}, in thousands: revenue {sign}{revenue:,}, "
                f"cost of goods sold {sign}{goods:,}.",
            ),
            f"The gross profit was {sign}{gross:,} thousand, a gross margin of "
            f"{shown(Fraction(100 * gross, revenue), 1)}%.",
            f"Staff cost {sign}{staff:,} thousand and depreciation {sign}{wear:,} thousand, which "
            f"left an operating result of {sign}{operating:,} thousand "
            f"({shown(Fraction(100 * operating, revenue), 1)}% of revenue).",
            f"After interest of {sign}{interest:,} thousand the result before tax was {sign}{before:,} thousand.",
            f"Tax took {sign}{grouped(tax)} thousand, so the net result is {sign}{grouped(net)} "
            f"thousand, a net margin of {shown(100 * net / revenue, 1)}%.",
        ]
    )


def _balance(rng: Random) -> str:
    firm, sign, year = company(rng), currency(rng), rng.randint(1996, 2024)
    cash, stock, claims, plant = (rng.randint(20, 900) for _ in range(4))
    current = cash + stock + claims
    assets = current + plant
    short = rng.randint(assets // 8, assets // 3)
    long = rng.randint(10, assets // 3)
    equity = assets - short - long
    return " ".join(
        [
            pick(
                rng,
                f"At the end of {year} the balance sheet of {firm}, in millions, showed:",
                f"{firm} closed {year} with these positions in millions.",
            ),
            shuffled(
                rng,
                f"Cash was {sign}{cash}.",
                f"Inventories stood at {sign}{stock}.",
                f"Customers owed {sign}{claims}.",
                f"Plant and equipment were carried at {sign}{plant}.",
            ),
            f"Current assets were thus {sign}{current:,} and total assets {sign}{assets:,}.",
            f"Against this stood current liabilities of {sign}{short:,} and long-term debt of "
            f"{sign}{long:,}, so equity was {assets:,} - {short} - {long} = {sign}{equity:,}.",
            f"The current ratio was about {fixed(Fraction(current, short))}, the quick ratio "
            f"without inventories about {fixed(Fraction(current - stock, short))}.",
            f"Equity made up {shown(Fraction(100 * equity, assets), 1)}% of the balance sheet total.",
        ]
    )


def _ratios(rng: Random) -> str:
    firm, sign, year = company(rng), currency(rng), rng.randint(1996, 2024)
    equity, debt = rng.randint(400, 4000), rng.randint(50, 3000)
    revenue = rng.randint(300, 9000)
    profit = revenue * rng.randint(20, 160) // 1000
    assets = equity + debt
    margin, turnover = Fraction(profit, revenue), Fraction(revenue, assets)
    lever = Fraction(assets, equity)
    return " ".join(
        [
            pick(
                rng,
                f"How did {firm} earn its return in {year}? Profit was {sign}{profit:,} million on "
                f"revenue of {sign}{revenue:,} million, with equity of {sign}{equity:,} million "
                f"and debt of {sign}{debt:,} million.",
                f"For {year} {firm} reports, in millions, equity of {sign}{equity:,}, debt of "
                f"{sign}{debt:,}, revenue of {sign}{revenue:,} and a profit of {sign}{profit:,}.",
            ),
            f"Total capital, equity and debt together, is {sign}{assets:,} million.",
            shuffled(
                rng,
                f"The net margin is about {fixed(100 * margin, 2)}%.",
                f"Capital was turned over about {fixed(turnover, 3)} times.",
                f"Leverage, capital over equity, is about {fixed(lever, 3)}.",
            ),
            "By the DuPont identity the product of the three is the return on equity, here "
            f"{profit:,} / {equity:,}, about {fixed(Fraction(100 * profit, equity), 2)}%.",
            f"The return on total capital is about {fixed(Fraction(100 * profit, assets), 2)}%, "
            f"and debt is about {fixed(Fraction(debt, equity), 2)} times equity.",
        ]
    )


def _straight_line(rng: Random) -> str:
    firm, sign = company(rng), currency(rng)
    years, start = rng.randint(3, 8), rng.randint(2001, 2024)
    yearly, rest = rng.randrange(400, 24000, 50), rng.randrange(0, 9000, 100)
    cost = years * yearly + rest
    thing = pick(rng, "a lathe", "a press", "a truck", "a server", "an oven", "a crane", "a robot")
    rows = "\n".join(
        f"{firm} {start + n}: charge {sign}{yearly:,}, book value {sign}{cost - (n + 1) * yearly:,}"
        for n in range(years)
    )
    head = pick(
        rng,
        f"{firm} buys {thing} for {sign}{cost:,} in {start} and writes it off on a straight line "
        f"over {years} years to a residual value of {sign}{rest:,}, so the yearly charge is "
        f"({cost:,} - {rest:,}) / {years} = {sign}{yearly:,}.",
        f"Depreciation schedule for {thing} of {firm}, cost {sign}{cost:,}, residual value "
        f"{sign}{rest:,}, life {years} years: {sign}{yearly:,} a year on a straight line.",
    )
    return f"{head}\n{rows}"


def _declining(rng: Random) -> str:
    firm, sign = company(rng), currency(rng)
    cost, rate = rng.randrange(2000, 90000, 200), rng.choice((10, 15, 20, 25, 30, 40))
    values = [Fraction(cost)]
    for _ in range(rng.randint(3, 5)):
        values.append(values[-1] * (100 - rate) / 100)
    resale = cost * rng.randint(10, 60) // 100
    thing = pick(rng, "delivery van", "printing press", "scanner", "boiler", "forklift", "mixer")
    course = "; ".join(
        f"year {n} charges {sign}{grouped(before - after)} and leaves {sign}{grouped(after)}"
        for n, (before, after) in enumerate(pairwise(values), 1)
    )
    return " ".join(
        [
            pick(
                rng,
                f"The {thing} of {firm} cost {sign}{cost:,} and loses {rate}% of its book value each year.",
                f"{firm} depreciates a {thing}, bought for {sign}{cost:,}, by the declining balance method at {rate}%.",
            ),
            f"Rounded to cents, {course}.",
            f"By then {shown(100 * (1 - values[-1] / cost), 2)}% of the price has been charged.",
            pick(
                rng,
                "The charge falls from year to year, unlike that of the straight line.",
                f"A straight line over ten years would charge {sign}{grouped(Fraction(cost, 10))} every year instead.",
            ),
            f"If {firm} sold the {thing} for {sign}{resale:,} at that point, it would book a "
            f"{'gain' if resale > values[-1] else 'loss'} of about "
            f"{sign}{grouped(abs(resale - values[-1]))}.",
        ]
    )


def _break_even(rng: Random) -> str:
    firm, sign, item = company(rng), currency(rng), rng.choice(_ITEMS)
    margin, variable = rng.randint(4, 90), rng.randint(5, 160)
    price, fixed_cost = margin + variable, rng.randrange(4000, 400000, 500)
    units = -(-fixed_cost // margin)
    plan = units + rng.randint(50, 4000)
    profit = plan * margin - fixed_cost
    return " ".join(
        [
            pick(
                rng,
                f"{firm} sells {item} at {sign}{price} a piece; materials and labour cost "
                f"{sign}{variable} for each, and fixed costs are {sign}{fixed_cost:,} a year.",
                f"Fixed costs of {sign}{fixed_cost:,} a year burden the {item} of {firm}, which "
                f"sell for {sign}{price} and cause variable costs of {sign}{variable} each.",
            ),
            f"Every unit contributes {price} - {variable} = {sign}{margin}.",
            f"Dividing, {fixed_cost:,} / {margin} shows that {units:,} units, rounded up, are needed to break even.",
            f"This means sales of {sign}{units * price:,}.",
            f"If {plan:,} {item} are sold as planned, the profit is {plan:,} * {margin} - "
            f"{fixed_cost:,} = {sign}{profit:,}.",
            f"Sales may fall short of the plan by about "
            f"{fixed(Fraction(100 * (plan - units), plan), 1)}% before {firm} makes a loss.",
        ]
    )


def _release(rng: Random) -> str:
    firm, sign = company(rng), currency(rng)
    quarter, year = rng.choice(("first", "second", "third", "fourth")), rng.randint(1996, 2024)
    old = rng.randint(40, 4000)
    new = old + rng.randint(-old // 5, old // 3)
    profit = max(1, new * rng.randint(2, 22) // 100)
    shares = rng.randint(10, 600)
    orders = new * rng.randint(80, 130) // 100
    change = Fraction(100 * (new - old), old)
    word = "rose" if new > old else "fell" if new < old else "held"
    return " ".join(
        [
            pick(
                rng,
                f"{firm} today announced results for the {quarter} quarter of {year}.",
                f"Earnings release, {quarter} quarter of {year}: {firm}.",
            ),
            f"Revenue {word} by {shown(abs(change), 1)}% from {sign}{old:,} million to {sign}{new:,} million."
            if new != old
            else f"Revenue was unchanged at {sign}{new:,} million.",
            f"Net profit came to {sign}{profit:,} million, or {shown(Fraction(100 * profit, new), 1)}% of revenue.",
            f"With {shares} million shares in issue, earnings per share were about "
            f"{sign}{grouped(Fraction(profit, shares))}.",
            f"New orders of {sign}{orders:,} million correspond to a book-to-bill ratio of about "
            f"{fixed(Fraction(orders, new))}.",
            pick(
                rng,
                f"'The figures of {year} speak for themselves,' said the chief executive.",
                f"The board of {firm} confirmed its outlook for the year.",
            ),
            f"At the pace of the {quarter} quarter, four quarters would bring {sign}{4 * new:,} million.",
        ]
    )


def _inventory(rng: Random) -> str:
    firm, sign, item = company(rng), currency(rng), rng.choice(_ITEMS)
    n, m = rng.randrange(20, 900, 10), rng.randrange(20, 900, 10)
    p, q = rng.randint(4, 90), rng.randint(4, 90)
    sold = rng.randrange(10, n + m, 10)
    total = n * p + m * q
    average = Fraction(total, n + m)
    fifo = min(sold, n) * p + max(sold - n, 0) * q
    return " ".join(
        [
            pick(
                rng,
                f"{firm} starts the month with {n} {item} at {sign}{p} each and buys {m} more at {sign}{q}.",
                f"The store of {firm} holds {n} {item} that cost {sign}{p} apiece; a delivery "
                f"brings {m} at {sign}{q} apiece.",
            ),
            f"The stock of {n + m:,} is then worth {n * p:,} + {m * q:,} = {sign}{total:,}.",
            f"In the month {sold:,} pieces are sold.",
            f"First in, first out, their cost is {sign}{fifo:,} and {sign}{total - fifo:,} stays on the balance sheet.",
            f"At the weighted average of about {sign}{grouped(average)} a piece the cost of sales "
            f"is about {sign}{grouped(average * sold)} instead.",
            f"The choice moves the profit of {firm} by about "
            f"{sign}{grouped(abs(average * sold - fifo))}"
            + (", because purchase prices changed." if p != q else ", as the price was constant."),
        ]
    )


def _growth(rng: Random) -> str:
    firm, sign, start = company(rng), currency(rng), rng.randint(1994, 2018)
    sales = [rng.randint(100, 900)]
    for _ in range(rng.randint(3, 5)):
        sales.append(sales[-1] * rng.randint(88, 135) // 100)
    years = len(sales) - 1
    rates = [Fraction(100 * (b - a), a) for a, b in pairwise(sales)]
    mean = 100 * ((sales[-1] / sales[0]) ** (1 / years) - 1)
    best = rates.index(max(rates))
    series = ", ".join(f"{start + n} {sign}{value:,}" for n, value in enumerate(sales))
    return " ".join(
        [
            pick(
                rng,
                f"Sales of {firm} in millions: {series}.",
                f"The history of {firm} in millions of sales reads {series}.",
            ),
            "From year to year the change was "
            + ", ".join(f"{fixed(rate, 1)}%" for rate in rates)
            + ", each rounded to one decimal.",
            f"The best year was {start + best + 1}, when {sign}{sales[best + 1] - sales[best]:,} million were added."
            if max(rates) > 0
            else f"No year of {firm} in this period saw growth.",
            f"Over all {years} years sales went from {sign}{sales[0]:,} to {sign}{sales[-1]:,} "
            f"million, a compound annual rate of about {fixed(mean, 2)}%.",
            f"The arithmetic mean of the yearly rates is about "
            f"{fixed(sum(rates) / years, 2)}%, which is never below the compound rate.",
        ]
    )


COMPANIES = (
    _income,
    _balance,
    _ratios,
    _straight_line,
    _declining,
    _break_even,
    _release,
    _inventory,
    _growth,
)
