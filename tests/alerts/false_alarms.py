#!/usr/bin/env python3
"""How often the alerts about rates would fire by chance in a platform that does not change: simulated years.

The conditions are those of alerts/rsolv-executions.rules.yml; executions come at random in twelve hours of each day,
each one good or bad with the same chance, and the windows move on in steps of a quarter of an hour.
"""

import math
import random
from itertools import accumulate

STEPS = 96  # a day
YEARS = 40
HOLD = {"low": 1, "falling": 4}  # `for`, in steps


def poisson(rng, mean):
    limit, product, count = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def episodes(condition, hold):
    """Stretches of at least `hold` further steps in which the condition held."""
    alerts = run = 0
    for held in condition:
        run = run + 1 if held else 0
        alerts += run == hold + 1
    return alerts


def simulate(per_day, success, seed=1):
    rng = random.Random(seed)
    total, bad = [0], [0]
    for step in range(YEARS * 365 * STEPS):
        count = poisson(rng, per_day / 48) if 32 <= step % STEPS < 80 else 0
        total.append(count)
        bad.append(sum(rng.random() >= success for _ in range(count)))
    total, bad = list(accumulate(total)), list(accumulate(bad))

    low, naive, falling, naive_falling = [], [], [], []
    for now in range(2 * STEPS, len(total)):
        n1, n0 = total[now] - total[now - STEPS], total[now - STEPS] - total[now - 2 * STEPS]
        b1, b0 = bad[now] - bad[now - STEPS], bad[now - STEPS] - bad[now - 2 * STEPS]
        half = 2 * b1 > n1
        low.append(half and b1 >= 5)
        naive.append(half)
        if n1 < 10 or n0 < 10:
            falling.append(False)
            naive_falling.append(n1 > 0 and n0 > 0 and b1 / n1 - b0 / n0 > 0.1)
            continue
        rise, share = b1 / n1 - b0 / n0, (b1 + b0) / (n1 + n0)
        naive_falling.append(rise > 0.1)
        falling.append(rise > 0.1 and rise > 3 * math.sqrt(share * (1 - share) * (1 / n1 + 1 / n0)))
    return [
        episodes(condition, HOLD[kind]) / YEARS
        for condition, kind in ((low, "low"), (naive, "low"), (falling, "falling"), (naive_falling, "falling"))
    ]


def main():
    print("| executions a day | really succeed | RateLow a year | without the 5 | Decreasing a year | without the guards |")
    print("| --- | --- | --- | --- | --- | --- |")
    for per_day in (3, 5, 10, 20, 50):
        for success in (0.95, 0.9):
            numbers = simulate(per_day, success)
            print(f"| {per_day} | {success:.0%} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")


if __name__ == "__main__":
    main()
