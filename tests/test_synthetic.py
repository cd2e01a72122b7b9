"""The synthetic corpora: reproducible, varied, without shared lines, and arithmetically true.

The truth tests read the numbers back out of the text and compute them again by another route
than the generators take, so each fails if a formula or a formatting step is wrong.
"""

import importlib
import math
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import pairwise
from random import Random
from statistics import median, quantiles

import pytest

from ldc.domains.synthetic import GENERATORS
from ldc.domains.synthetic._text import exact, fixed, grouped, listed, money, shown

SEED = 17
NUMBER = r"(-?\d[\d,]*(?:\.\d+)?)"


@cache
def corpus(domain: str) -> tuple[str, ...]:
    return tuple(GENERATORS[domain](SEED, 2000))


def kinds(domain: str) -> tuple[Callable[[Random], str], ...]:
    return importlib.import_module(f"ldc.domains.synthetic.{domain}").KINDS


def number(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))


def matches(domain: str, pattern: str, at_least: int = 20) -> list[tuple[Fraction, ...]]:
    """The numbers of every place where the pattern ('#' stands for a number) fits the corpus."""
    regex = re.compile(re.escape(pattern).replace(r"\#", NUMBER).replace(r"\ ", r"\s"))
    found = [tuple(map(number, hit.groups())) for text in corpus(domain) for hit in regex.finditer(text)]
    assert len(found) >= at_least, f"{pattern!r} fits only {len(found)} times"
    return found


def close(value: float, stated: Fraction, places: int) -> bool:
    """Whether `stated` is `value` rounded to `places`, up to the error of a double."""
    return abs(value - float(stated)) <= 0.5 * 10**-places * (1 + 1e-6) + 1e-12 * abs(value)


@pytest.mark.parametrize("domain", GENERATORS)
class TestEveryDomain:
    def test_the_same_seed_gives_the_same_documents(self, domain: str) -> None:
        assert list(GENERATORS[domain](SEED, 50)) == list(corpus(domain)[:50])

    def test_another_seed_gives_other_documents(self, domain: str) -> None:
        assert not set(GENERATORS[domain](SEED + 1, 50)) & set(corpus(domain)[:50])

    @pytest.mark.parametrize("count", [0, 1, 37])
    def test_a_smaller_count_gives_a_prefix_of_the_stream(self, domain: str, count: int) -> None:
        assert list(GENERATORS[domain](SEED, count)) == list(corpus(domain)[:count])

    def test_documents_are_as_many_as_asked_for_and_distinct(self, domain: str) -> None:
        assert len(set(corpus(domain))) == 2000

    def test_no_line_occurs_in_two_documents(self, domain: str) -> None:
        lines = Counter(line for text in corpus(domain) for line in set(text.splitlines()) if line.strip())
        assert max(lines.values()) == 1

    def test_the_kinds_themselves_hardly_ever_repeat_a_line(self, domain: str) -> None:
        """Without the filter of the stream, so that it drops little and biases no kind away."""
        rng, pages = Random(SEED), kinds(domain)
        texts = [pages[i % len(pages)](rng) for i in range(2000)]
        lines = Counter(line for text in texts for line in set(text.splitlines()))
        shared = sum(any(lines[line] > 1 for line in text.splitlines()) for text in texts)
        assert shared <= 0.03 * len(texts)

    def test_lengths_lie_between_300_and_1200_characters(self, domain: str) -> None:
        lengths = [len(text) for text in corpus(domain)]
        assert min(lengths) >= 300
        assert max(lengths) <= 1200
        assert 450 <= median(lengths) <= 620
        low, *_, high = quantiles(lengths, n=10)
        assert high > 2 * low

    def test_there_are_many_kinds_and_all_of_them_open_a_page_equally_often(
        self, domain: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pages = kinds(domain)
        assert len(pages) >= 16
        opened: Counter[str] = Counter()

        def tagged(kind: Callable[[Random], str]) -> Callable[[Random], str]:
            def page(rng: Random) -> str:
                return f"<{kind.__name__}>{kind(rng)}"

            return page

        module = importlib.import_module(f"ldc.domains.synthetic.{domain}")
        monkeypatch.setattr(module, "KINDS", tuple(tagged(kind) for kind in pages))
        for text in module.documents(SEED, 40 * len(pages)):
            opened[text[1 : text.index(">")]] += 1
        assert set(opened) == {kind.__name__ for kind in pages}
        assert min(opened.values()) >= 35

    def test_every_kind_has_several_phrasings(self, domain: str) -> None:
        for kind in kinds(domain):
            rng = Random(SEED)
            bare = {re.sub(r"[\d.,:]+|\b[A-Z][a-z]+\b", "", kind(rng))[:60] for _ in range(60)}
            assert len(bare) >= 2, kind.__name__

    def test_the_text_is_plain_ascii_without_doubled_spaces(self, domain: str) -> None:
        for text in corpus(domain):
            assert text.isascii()
            assert "  " not in text
            assert text == text.strip()

    def test_no_sentence_uses_the_wrong_indefinite_article(self, domain: str) -> None:
        wrong = re.compile(r"\b[Aa] (?!in AU)[aeio]\w+|\b[Aa]n [bcdfgjklmnpqrstvwxyz]\w+")
        assert not [hit.group() for text in corpus(domain) for hit in wrong.finditer(text)]


@pytest.mark.parametrize("domain", GENERATORS)
@pytest.mark.parametrize(
    ("sign", "operation"), [(r"\+", Fraction.__add__), (r"-", Fraction.__sub__), (r"\*", Fraction.__mul__)]
)
def test_every_bare_sum_difference_and_product_is_right(
    domain: str, sign: str, operation: Callable[[Fraction, Fraction], Fraction]
) -> None:
    alone = re.compile(
        rf"(?<![\d*/+^(,.=-] )(?<![\w.,^-]){NUMBER} {sign} {NUMBER} = (?:\$|[A-Z]{{3}} )?{NUMBER}(?![\d/^])(?! [*/+])"
    )
    claims = [hit for text in corpus(domain) for hit in alone.finditer(text)]
    for hit in claims:
        x, y, result = map(number, hit.groups())
        assert operation(x, y) == result, hit.group()
    assert len(claims) > 100 or domain != "math"


class TestMath:
    def test_linear_equations_are_satisfied_by_the_root(self) -> None:
        pattern = re.compile(r"(?:Solve the equation|satisfies|true that) ([^=^]+) = ([^=]+?)(?: for [a-z]\.|\.|\?)")
        root = re.compile(r"(?:Check with|Hence) ([xyztnk]) = (-?\d+)")
        checked = 0
        for text in corpus("math"):
            for hit in pattern.finditer(text):
                variable, value = root.search(text, hit.end()).groups()
                left, right = (_evaluate(side, variable, int(value)) for side in hit.groups())
                assert left == right, text
                checked += 1
        assert checked > 50

    def test_quadratics_vanish_at_both_roots(self) -> None:
        pattern = re.compile(r"(-?\d*)([xyztu])\^2(?: ([+-]) (\d*)\2)? ([+-]) (\d+) = 0")
        checked = 0
        for text in corpus("math"):
            for hit in pattern.finditer(text):
                v = hit.group(2)
                after = re.compile(rf"so {v} = (-?\d+) or {v} = (-?\d+)").search(text, hit.end())
                assert after, text
                lead = int(hit.group(1) or 1)
                middle = int((hit.group(3) or "+") + (hit.group(4) or "1")) if hit.group(3) else 0
                last = int(hit.group(5) + hit.group(6))
                for root in map(int, after.groups()):
                    assert lead * root * root + middle * root + last == 0, text
                checked += 1
        assert checked > 50

    def test_prime_factorisations_multiply_to_the_number_and_count_its_divisors(self) -> None:
        checked = 0
        for text in corpus("math"):
            for hit in re.finditer(r"Hence (\d+) = ([\d^* ]+)\.", text):
                n = int(hit.group(1))
                factors = [tuple(map(int, f"{part}^1".split("^")[:2])) for part in hit.group(2).split(" * ")]
                assert math.prod(p**k for p, k in factors) == n
                divisors = [d for d in range(1, n + 1) if n % d == 0] if n < 20000 else None
                if divisors is not None:
                    claim = f"{n} has {len(divisors)} divisors, 1 and {n} included; their sum is {sum(divisors)}."
                    assert claim in text
                checked += 1
        assert checked > 50

    def test_greatest_common_divisors_and_least_common_multiples_are_right(self) -> None:
        for x, y, divisor in matches("math", "gcd(#, #) = #"):
            assert math.gcd(int(x), int(y)) == divisor
        for x, y, _, _, _, multiple in matches("math", "lcm(#, #) = # * # / # = #"):
            assert math.lcm(int(x), int(y)) == multiple

    def test_binomial_coefficients_equal_the_product_formula(self) -> None:
        for n, k, value in matches("math", "C(#, #) = #"):
            n, k = int(n), int(k)
            if value != n:  # 'C(n, 2) = n * (n - 1) / 2' is spelled out
                assert math.perm(n, k) // math.factorial(k) == value

    def test_powers_modulo_a_number_are_right(self) -> None:
        pattern = re.compile(
            r"(\d+)\^(\d+) (?:on division by|mod) (\d+)|raises (\d+) to the power (\d+) and divides by (\d+)"
        )
        checked = 0
        for text in corpus("math"):
            for hit in pattern.finditer(text):
                base, power, modulus = (int(g) for g in hit.groups() if g)
                result = re.compile(rf"mod {modulus} = (\d+)\.(?=\s|$)(?! \d)|remainder (\d+)\.").findall(
                    text, hit.end()
                )
                assert str(pow(base, power, modulus)) in {g for pair in result for g in pair}, text
                checked += 1
        assert checked > 50

    def test_matching_pairs_have_the_probability_of_direct_enumeration(self) -> None:
        pattern = r"can be chosen in # * # / 2 = # ways and two"
        for n, less, ways in matches("math", pattern):
            assert less == n - 1
            assert ways == sum(1 for i in range(int(n)) for _ in range(i))
        for top, bottom, reduced_top, reduced_bottom in matches("math", "is #/#, in lowest terms #/#"):
            assert top / bottom == reduced_top / reduced_bottom
            assert math.gcd(int(reduced_top), int(reduced_bottom)) == 1


def _evaluate(side: str, variable: str, value: int) -> int:
    """A sum of terms such as '-3x + 12' at the value."""
    total = 0
    for sign, digits, letter in re.findall(r"([+-]?) ?(\d*)([a-z]?)", side):
        if digits or letter:
            assert letter in ("", variable)
            total += (-1 if sign == "-" else 1) * int(digits or 1) * (value if letter else 1)
    return total


class TestScience:
    def test_falling_bodies_reach_the_speed_that_a_simulated_fall_reaches(self) -> None:
        for height, speed in matches("science", "sqrt(2 * 9.81 * #), about # m/s"):
            assert close(math.sqrt(2 * 9.81 * height), speed, 1)

    def test_currents_follow_ohms_law(self) -> None:
        for about in ("", "about "):
            for volts, ohms, milliamperes in matches("science", f"is # / # A, {about}# mA", at_least=5):
                assert close(1000 * volts / ohms, milliamperes, 1)

    def test_parallel_resistances_add_as_reciprocals(self) -> None:
        for a, b, *_, whole in matches("science", "# * # / (# + #) = # / # ohms, about # ohms"):
            assert close(1 / (1 / float(a) + 1 / float(b)), whole, 2)

    def test_molar_masses_agree_with_their_formula(self) -> None:
        masses = {"H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.99, "Cl": 35.45, "S": 32.06, "K": 39.098}
        checked = 0
        for text in corpus("science"):
            for hit in re.finditer(r"One formula unit contains ([^.]+)\. .*? = ([\d.]+) g/mol", text):
                atoms = re.findall(r"(\d+) ([A-Z][a-z]?)", hit.group(1))
                if all(symbol in masses for _, symbol in atoms):
                    assert math.isclose(sum(int(n) * masses[s] for n, s in atoms), float(hit.group(2)), abs_tol=1e-9)
                    checked += 1
        assert checked > 20

    def test_reactions_of_the_table_conserve_every_atom(self) -> None:
        pattern = re.compile(r"(?:reaction|according to) ([^.,]+->[^.,]+)")
        equations = {hit for text in corpus("science") for hit in pattern.findall(text)}
        assert len(equations) >= 8
        for equation in equations:
            left, right = (_atoms(side) for side in equation.split(" -> "))
            assert left == right, equation

    def test_gas_pressures_follow_the_ideal_gas_law(self) -> None:
        for amount, kelvin, litres, kpa in matches("science", "p = # * 8.314 * # / # kPa, about # kPa"):
            pascals = float(amount) * 8.314 * float(kelvin) / (float(litres) * 1e-3)
            assert close(pascals / 1000, kpa, 2)

    def test_acidity_is_the_negative_logarithm_of_the_concentration(self) -> None:
        for power, digits, ph in matches("science", "pH = # - log10(#), about #."):
            assert close(-math.log10(float(digits) * 10 ** -int(power)), ph, 2)

    def test_lens_images_satisfy_the_thin_lens_equation(self) -> None:
        for f, d, _, _, top, bottom in matches("science", "i = # * # / (# - #) = #/# cm"):
            assert 1 / f == 1 / d + bottom / top

    def test_orbital_periods_follow_keplers_third_law(self) -> None:
        for axis, _, years in matches(
            "science", "The cube of # is about #, and its square root shows that one revolution takes about # years"
        ):
            assert close(float(axis) ** 1.5, years, 2)

    def test_punnett_squares_list_the_products_of_both_gametes(self) -> None:
        checked = 0
        pattern = re.compile(
            r"genotype (\w\w) with one of genotype (\w\w)\..*?has the cells ([\w, ]+), that is.*?So (\d)"
        )
        for text in corpus("science"):
            for mother, father, cells, dominant in pattern.findall(text):
                expected = Counter("".join(sorted(x + y)) for x in mother for y in father)
                assert Counter(cells.split(", ")) == expected
                assert int(dominant) == sum(n for cell, n in expected.items() if cell[0].isupper())
                checked += 1
        assert checked > 50


def _atoms(side: str) -> Counter[str]:
    atoms: Counter[str] = Counter()
    for molecule in side.split(" + "):
        factor, formula = re.fullmatch(r"(\d*) ?([A-Za-z0-9]+)", molecule.strip()).groups()
        for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula):
            atoms[symbol] += int(factor or 1) * int(count or 1)
    return atoms


class TestFinance:
    def test_compound_interest_grows_as_a_year_by_year_ledger_does(self) -> None:
        checked = 0
        for text in corpus("finance"):
            for start, factor, years, end in re.findall(
                r"([\d,]+) \* ([\d.]+)\^(\d+), which rounds to \D*([\d,.]+\d)", text
            ):
                balance = number(start)
                for _ in range(int(years)):
                    balance *= Fraction(factor)
                assert close(float(balance), number(end), 2)
                checked += 1
        assert checked > 50

    def test_loans_are_paid_off_by_their_instalments(self) -> None:
        pattern = re.compile(
            r"(?:borrows|loan of) \D*([\d,]+) (?:at ([\d.]+)% .*? in (\d+) equal|to \w+ runs for "
            r"(\d+) months at a nominal "
            r"rate of ([\d.]+)%).*?instalment of \D*([\d,.]+\d), rounded"
        )
        checked = 0
        for text in corpus("finance"):
            for amount, rate, months, months2, rate2, paid in pattern.findall(text):
                debt, n, monthly = float(number(amount)), int(months or months2), float(rate or rate2) / 1200
                for _ in range(n):
                    debt = debt * (1 + monthly) - float(number(paid))
                # each instalment is off by at most half a cent, which compounds
                assert abs(debt) <= 0.00501 * n * (1 + monthly) ** n
                checked += 1
        assert checked > 50

    def test_bond_prices_are_the_discounted_coupons(self) -> None:
        pattern = re.compile(
            r"Each coupon is \D*([\d,.]+\d)\. Investors now ask for a yield of ([\d.]+)%\. "
            r"Discounting (\d+) coupons and "
            r"the face value at that rate gives a price of about \D*([\d,.]+\d), or ([\d.]+)% of par"
        )
        checked = 0
        for text in corpus("finance"):
            for coupon, rate, years, price, par in pattern.findall(text):
                face = 100 * round(number(price) / number(par))
                flows = [float(number(coupon))] * int(years)
                flows[-1] += face
                value = sum(flow / (1 + float(rate) / 100) ** year for year, flow in enumerate(flows, 1))
                assert close(value, number(price), 2), text
                checked += 1
        assert checked > 50

    def test_gross_margins_agree_with_revenue_and_cost(self) -> None:
        pattern = re.compile(
            r"revenue (?:of )?\D*([\d,]+)[^.]*?cost of goods sold (?:of )?\D*([\d,]+)[^.]*\. The "
            r"gross profit was \D*([\d,]+) "
            r"thousand, a gross margin of (?:about )?([\d.]+)%"
        )
        checked = 0
        for text in corpus("finance"):
            for revenue, cost, gross, margin in pattern.findall(text):
                assert number(revenue) - number(cost) == number(gross)
                assert close(100 * number(gross) / number(revenue), number(margin), 1)
                checked += 1
        assert checked > 50

    def test_break_even_is_the_first_number_of_units_that_covers_the_fixed_costs(self) -> None:
        for fixed_cost, margin, units in matches("finance", "Dividing, # / # shows that # units"):
            assert (units - 1) * margin < fixed_cost <= units * margin

    def test_straight_line_schedules_end_at_the_residual_value(self) -> None:
        checked = 0
        for text in corpus("finance"):
            head = re.search(r"residual value (?:of )?\D*([\d,]+)[,\d]*", text)
            rows = re.findall(r"(\d{4}): charge \D*([\d,]+), book value \D*([\d,]+)", text)
            if head and rows and text.count("residual value") == 1:
                years, charges, values = zip(*((int(y), number(c), number(v)) for y, c, v in rows))
                assert list(years) == list(range(years[0], years[0] + len(years)))
                assert all(before - after == charges[0] for before, after in pairwise(values))
                assert values[-1] == number(head.group(1).rstrip(","))
                checked += 1
        assert checked > 50

    def test_budgets_add_up(self) -> None:
        checked = 0
        for text in corpus("finance"):
            rows = re.findall(r"\| \D*([\d,]+) \| ([\d.]+)% of spending", text)
            total = re.findall(r"Spending adds up to \D*([\d,]+),", text)
            if len(total) == 1:
                assert sum(number(value) for value, _ in rows) == number(total[0].rstrip(","))
                assert all(close(100 * number(v) / number(total[0].rstrip(",")), number(s), 1) for v, s in rows)
                checked += 1
        assert checked > 50


class TestMedical:
    def test_body_mass_indices_are_kilograms_per_square_metre(self) -> None:
        for weight, height, bmi in matches("medical", "this is # / #^2, about # kg/m"):
            assert close(weight / height**2, bmi, 1)

    def test_body_surfaces_follow_mosteller(self) -> None:
        for height, weight, area in matches("medical", "sqrt(# * # / 3600) m^2, about # m"):
            assert close(math.sqrt(float(height) * float(weight)) / 60, area, 2)

    def test_clearances_follow_cockcroft_and_gault(self) -> None:
        for age, weight, creatinine, _, _, value in matches(
            "medical", "(140 - #) * # / (72 * #) = # / #, about # ml/min"
        ):
            assert close((140 - age) * weight / creatinine / 72, value, 1)

    def test_women_get_the_factor_of_cockcroft_and_gault_and_men_do_not(self) -> None:
        checked = 0
        pattern = (
            r"\b(woman|man) aged[^\n]*?Cockcroft-Gault[^\n]*?about ([\d.]+) ml/min\."
            r"( Multiplying by 0\.85 .*? about ([\d.]+))?"
        )
        for text in corpus("medical"):
            for sex, value, factor, less in re.findall(pattern, text):
                assert bool(factor) == (sex == "woman")
                if less:  # both are rounded to one decimal
                    assert abs(0.85 * float(value) - float(less)) < 0.1
                checked += 1
        assert checked > 50

    def test_test_characteristics_follow_from_the_two_by_two_table(self) -> None:
        pattern = (
            r"Of (\d+) with the disease (\d+) tested positive and (\d+) negative; of (\d+) without "
            r"it (\d+) tested positive "
            r"and (\d+) negative\. Sensitivity was \d+/\d+, (?:about )?([\d.]+)%, and specificity "
            r"\d+/\d+, (?:about )?([\d.]+)%\. "
            r"The positive predictive value was \d+/\d+, (?:about )?([\d.]+)%, the negative one "
            r"\d+/\d+, (?:about )?([\d.]+)%"
        )
        checked = 0
        for text in corpus("medical"):
            for hit in re.findall(pattern, text):
                ill, tp, fn, well, fp, tn = map(int, hit[:6])
                assert tp + fn == ill
                assert fp + tn == well
                for value, stated in zip((tp / ill, tn / well, tp / (tp + fp), tn / (tn + fn)), hit[6:]):
                    assert close(100 * value, number(stated), 1)
                checked += 1
        assert checked > 50

    def test_post_test_probabilities_follow_bayes(self) -> None:
        pattern = re.compile(
            r"sensitivity (?:of |was )(\d+)% and (?:a )?specificity (?:of )?(\d+)%.*?pre-test probability of (\d+)%.*?"
            r"result leads to (?:about )?([\d.]+)% and a negative one to (?:about )?([\d.]+)%"
        )
        checked = 0
        for text in corpus("medical"):
            for sensitivity, specificity, before, after, low in pattern.findall(text):
                hit, clear, p = int(sensitivity) / 100, int(specificity) / 100, int(before) / 100
                assert close(100 * hit * p / (hit * p + (1 - clear) * (1 - p)), number(after), 1)
                assert close(100 * (1 - hit) * p / ((1 - hit) * p + clear * (1 - p)), number(low), 1)
                checked += 1
        assert checked > 50

    def test_the_number_needed_to_treat_is_the_least_whole_number_that_prevents_one_event(self) -> None:
        checked = 0
        for text in corpus("medical"):
            drug = re.findall(r"Events occurred in (\d+) of (\d+)", text)
            placebo = re.findall(r"On placebo (\d+) of (\d+)", text)
            needed = re.findall(r"number needed to treat is (\d+)", text)
            if len(needed) == 1:
                (a, n), (c, m), k = drug[0], placebo[0], int(needed[0])
                gain = Fraction(int(c), int(m)) - Fraction(int(a), int(n))
                assert (k - 1) * gain < 1 <= k * gain
                checked += 1
        assert checked > 50

    def test_stroke_scores_are_the_sum_of_the_published_points(self) -> None:
        points = {"heart failure": 1, "hypertension": 1, "diabetes": 1, "a previous stroke": 2, "vascular disease": 1}
        pattern = re.compile(
            r"\b(woman|man) aged (\d+)[^\n]*?(?:known, with|besides,) ([a-z ,]+)\. There is "
            r"no[^\n]*? is (\d) of 9 points"
        )
        checked = 0
        for text in corpus("medical"):
            for sex, age, history, total in pattern.findall(text):
                years = 2 if int(age) >= 75 else 1 if int(age) >= 65 else 0
                assert int(total) == years + (sex == "woman") + sum(p for name, p in points.items() if name in history)
                checked += 1
        assert checked > 50

    def test_corrected_calcium_adds_the_albumin_term(self) -> None:
        for calcium, albumin, corrected in matches("medical", "4 - albumin): # + 0.8 * (4 - #) = # mg/dl"):
            assert calcium + Fraction(4, 5) * (4 - albumin) == corrected


class TestNumbersAsText:
    def test_halves_are_rounded_away_from_zero(self) -> None:
        assert [fixed(Fraction(n, 8), 2) for n in (1, -1, 3)] == ["0.13", "-0.13", "0.38"]

    def test_a_negative_number_that_rounds_to_zero_has_no_sign(self) -> None:
        assert fixed(Fraction(-1, 1000), 2) == "0.00"

    def test_thousands_are_grouped_and_the_sign_stands_before_the_currency(self) -> None:
        assert grouped(1234567, 0) == "1,234,567"
        assert money("$", Fraction(-24691, 2)) == "-$12,345.50"

    def test_exact_decimals_drop_trailing_zeros_and_refuse_thirds(self) -> None:
        assert exact(Fraction(5, 4)) == "1.25"
        assert exact(7) == "7"
        with pytest.raises(ValueError, match="1/3 is no decimal"):
            exact(Fraction(1, 3))

    def test_only_a_rounded_number_is_called_about(self) -> None:
        assert shown(Fraction(1, 4)) == "0.25"
        assert shown(Fraction(1, 3)) == "about 0.33"

    def test_lists_are_joined_with_commas_and_a_final_and(self) -> None:
        assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a and b", "a, b and c"]


def test_a_domain_that_runs_out_of_new_lines_says_so() -> None:
    from ldc.domains.synthetic._text import documents

    with pytest.raises(RuntimeError, match="the tiny generator ran dry after 1 documents"):
        list(documents("tiny", (lambda rng: "always the same line " * 20,), SEED, 2))
