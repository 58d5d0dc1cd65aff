# SPDX-License-Identifier: Apache-2.0
"""The benchmark: registrations by HTTP compared with bare INSERTs, and other goals.

    python3 tests/bench.py [NAME...]

Most figures are ratios of two runs. The runs of a ratio alternate, round by round; the ratio is
computed for each round and the median counts, so that a slow phase of the machine affects both.
The figures are also written to build/bench.json, {"name": number}. Only ratios can be compared
with other machines: rates depend on this machine, on which wrk or pgbench, httpd and PostgreSQL
share the processors.
"""

import argparse
import dataclasses
import json
import operator
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time
import typing

from bench import lists, runs
from bench.load import Outcome, Wrong
from bench.site import Stage
from servers import ROOT, ServerError, apxs

FEW = 10_000        # registrations in the smaller table
LISTS = "lists"     # the name of the table of lists


@dataclasses.dataclass(frozen=True)
class Run:
    function: typing.Callable
    arguments: dict
    unit: str = "/s"
    rounds: int = 0     # 0: as many as the option says
    part: str = "rate"  # of the outcome, if the function returns one

    def __call__(self, stage):
        return self.function(stage, **self.arguments)

    def number(self, result):
        return getattr(result, self.part) if isinstance(result, Outcome) else result

    def text(self, value):
        """A formatted result."""
        if self.unit == "%":
            return f"{value * 100:.2f}"
        if self.unit in ("ms", "us"):
            return f"{value * {'ms': 1e3, 'us': 1e6}[self.unit]:,.3f}"
        return f"{value:,.2f}" if self.unit == "MiB" else f"{value:,.0f}"


def rate(function, **arguments):
    return Run(function, arguments)


def latency(function, **arguments):
    return Run(function, arguments, "ms", part="median")


def p99(function, **arguments):
    return Run(function, arguments, "ms", part="p99")


def closed(function, **arguments):
    return Run(function, arguments, "%", part="closed")


def cost(function, **arguments):
    """With more rounds, because the goal is one percent."""
    return Run(function, {**arguments, "cost": True}, "us", rounds=15)


# Debian's settings of the event MPM; those that the module ships, for 64 clients and for 1,000 as
# docs/operating.md says.
DEBIAN = {"mpm": "debian", "closes": True}
SHIPPED = {"mpm": "shipped"}
THOUSAND = {"mpm": "shipped", "threads": 1100, "connections": 1000, "closes": True}

# Sets of runs that alternate, round by round. Runs of the same function and arguments are parts of
# one outcome.
SETS = [
    {"hot insert": rate(runs.live_insert),
     "hot": rate(runs.live),
     "hot unbatched": rate(runs.live, batch_size=1),
     "https mod_oauth2": rate(runs.live, token_module="oauth2"),
     "https mod_auth_openidc": rate(runs.live, token_module="auth_openidc"),
     "https tokens": rate(runs.live, token_module="oauth2", tokens=runs.TOKENS),
     "4 children": rate(runs.live, children=4),
     "events insert": rate(runs.events_insert),
     "events": rate(runs.events)},

    {"spread insert": rate(runs.live_insert, sessions=runs.SESSIONS),
     "spread": rate(runs.live, sessions=runs.SESSIONS),
     "spread unbatched": rate(runs.live, sessions=runs.SESSIONS, batch_size=1),
     "4 children spread": rate(runs.live, sessions=runs.SESSIONS, children=4),
     "events spread": rate(runs.events, request=runs.ATTEND_ANY),
     "update": rate(runs.update),
     "groups insert": rate(runs.members_insert),
     "groups": rate(runs.members)},

    {"shipped": rate(runs.live, **SHIPPED),
     "shipped p99": p99(runs.live, **SHIPPED),
     "default": rate(runs.live, **DEBIAN),
     "default closed": closed(runs.live, **DEBIAN),
     "thousand": rate(runs.live, **THOUSAND),
     "thousand p99": p99(runs.live, **THOUSAND),
     "thousand closed": closed(runs.live, **THOUSAND)},

    {"limited": Run(runs.live_limited, {}, "201s")},

    {"alone": latency(runs.live, connections=1),
     "alone unbatched": latency(runs.live, connections=1, batch_size=1)},

    {"empty": rate(runs.read, request=runs.NOTHING),
     "get": rate(runs.read, request=runs.GET)},

    {"get counted": cost(runs.read, request=runs.GET),
     "get uncounted": cost(runs.read, request=runs.GET, counted=False)},

    {"search few": latency(runs.search, rows=FEW),
     "search many": latency(runs.search),
     "search text few": latency(runs.search, rows=FEW, by_text=True),
     "search text many": latency(runs.search, by_text=True),
     "export": Run(runs.export, {}, "MiB", rounds=1)},

    {"quiet": rate(runs.live_beside_searches, searching=0),
     "beside searches": rate(runs.live_beside_searches, searching=40)},

    {"memory": Run(runs.live_memory, {}, "MiB", rounds=1)},
]
RUNS = {name: run for turns in SETS for name, run in turns.items()}

COMPARE = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A run divided by another, and its goal. The runs `beside` are only shown."""

    over: str
    under: typing.Optional[str]
    comparison: str
    goal: float
    beside: tuple = ()

    def runs(self):
        return [self.over, *([self.under] if self.under else []), *self.beside]

    def ratio(self, results, name):
        return statistics.median(
            over / under for over, under in zip(results[name], results[self.under]))

    def value(self, results):
        if self.under:
            return self.ratio(results, self.over)
        if self.comparison == "==":
            # The worst round counts, not the median.
            return max(results[self.over], key=lambda value: abs(value - self.goal))
        return statistics.median(results[self.over])

    def is_met(self, value):
        return COMPARE[self.comparison](value, self.goal)


FIGURES = {
    "hot_vs_insert": Figure("hot", "hot insert", ">=", 1.3),
    "spread_vs_insert": Figure("spread", "spread insert", ">=", 1.15),
    "hot_vs_unbatched": Figure("hot", "hot unbatched", ">=", 10),
    "spread_vs_unbatched": Figure("spread", "spread unbatched", ">=", 2),
    "children_keep": Figure("4 children", "hot", ">=", 0.75),
    "children_keep_spread": Figure("4 children spread", "spread", ">=", 0.8),
    "default_mpm": Figure("default", "shipped", ">=", 0.6),
    "default_mpm_closed": Figure("default closed", None, "<=", 0.01),
    "thousand": Figure("thousand", "shipped", ">=", 0.85, ("thousand p99", "shipped p99")),
    "thousand_closed": Figure("thousand closed", None, "==", 0),
    "alone": Figure("alone", "alone unbatched", "<=", 1.05),
    "limited_exact": Figure("limited", None, "==", runs.PLACES),
    "events_vs_insert": Figure("events", "events insert", ">=", 0.8),
    "events_vs_live": Figure("events", "hot", ">=", 0.6),
    "events_spread_vs_live": Figure("events spread", "spread", ">=", 0.6),
    "groups_vs_insert": Figure("groups", "groups insert", ">=", 0.8),
    "groups_vs_live": Figure("groups", "spread", ">=", 0.6),
    "put_vs_live": Figure("update", "spread", ">=", 0.5),
    "get_vs_empty": Figure("get", "empty", ">=", 0.62),
    "https_token": Figure("https mod_oauth2", "hot", ">=", 0.4, ("https mod_auth_openidc",)),
    "https_tokens": Figure("https tokens", "hot", ">=", 0.35),
    "search_growth": Figure("search many", "search few", "<=", 1.5),
    "search_text_growth": Figure("search text many", "search text few", "<=", 3),
    "beside_searches": Figure("beside searches", "quiet", ">=", 0.7),
    "rss_growth": Figure("memory", None, "<=", 1),
    "metrics_cost": Figure("get counted", "get uncounted", "<=", 1.01),
    "export_growth": Figure("export", None, "<=", 16),
}


def output(*command):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


def machine(postgres):
    """A description of the machine."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{len(os.sched_getaffinity(0))} cores ({cpu[1] if cpu else platform.machine()}), "
            f"{memory:.0f} GiB, Linux {platform.release()}; httpd {apxs('HTTPD_VERSION')}, "
            f"{output(postgres.binary('postgres'), '--version').strip()}, "
            f"{' '.join(output('wrk', '-v').split()[:2])}")


def measure(stage, wanted, rounds):
    """Alternates the wanted runs; the results of each, by round."""
    results = {name: [] for name in RUNS if name in wanted}
    for turns in SETS:
        for number in range(max(rounds, *(run.rounds for run in turns.values()))):
            outcomes = {}
            for name, run in turns.items():
                if name in wanted and number < (run.rounds or rounds):
                    made = (run.function, tuple(run.arguments.items()))
                    if made not in outcomes:
                        outcomes[made] = run(stage)
                    results[name].append(run.number(outcomes[made]))
                    print(f"{name}: {run.text(results[name][-1])} {run.unit}",
                          file=sys.stderr, flush=True)
    return results


def show(figures, results):
    for name, figure in figures.items():
        value = figure.value(results)
        print(f"{name:<22}{value:>10,.2f}   {figure.comparison} {figure.goal:<7,}"
              f"{'met' if figure.is_met(value) else 'NOT MET'}")
        for part in figure.runs():
            run, values = RUNS[part], sorted(results[part])
            shown = [run.text(v) for v in (values[0], statistics.median(values), values[-1])]
            ratio = (f"   ÷ {figure.under}: {figure.ratio(results, part):.2f}"
                     if part in figure.beside and run.part == "rate" else "")
            print(f"    {part:<26}{' – '.join(shown)} {run.unit}{ratio}")


def main():
    parser = argparse.ArgumentParser(description="Measures the figures that have a goal.",
                                     epilog="Figures: " + " ".join(FIGURES))
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=f"only these figures; {LISTS}: the table of lists")
    parser.add_argument("--seconds", type=int, default=3, help="of each run (%(default)s)")
    parser.add_argument("--warmup", type=int, default=1,
                        help="seconds before, not counted (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000,
                        help="rows of the larger table, searched and exported (%(default)s)")
    parser.add_argument("--requests", type=int, default=1_000_000,
                        help="requests to measure growth over half of them (%(default)s)")
    parser.add_argument("--directive", action="append", default=[],
                        help="a directive for each httpd's virtual host")
    parser.add_argument("--empty-module", type=pathlib.Path,
                        default=ROOT / "build" / "mod_empty.so",
                        help="built from bench/mod_empty.c (%(default)s)")
    parser.add_argument("--directory", type=pathlib.Path, default=ROOT / "build" / "bench",
                        help="directory of the servers (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "build" / "bench.json",
                        help="where the figures go (%(default)s)")
    options = parser.parse_args()
    unknown = set(options.names) - set(FIGURES) - {LISTS}
    if unknown:
        parser.error(f"no such figure: {' '.join(sorted(unknown))}")

    figures = {name: figure for name, figure in FIGURES.items()
               if name in options.names or not options.names}
    wanted = {run for figure in figures.values() for run in figure.runs()}
    began, load = time.monotonic(), os.getloadavg()[0]
    try:
        with Stage(options) as stage:
            described = machine(stage.postgres)
            results = measure(stage, wanted, options.rounds)
            has_lists = not options.names or LISTS in options.names
            table = lists.table(stage) if has_lists else []
    except (Wrong, ServerError) as error:
        sys.exit(f"The benchmark failed: {error}")

    print(f"\n{described}")
    print(f"Load before: {load:.1f}. Medians of {options.rounds} rounds, "
          f"{options.seconds} s each run; minimum – median – maximum:\n")
    show(figures, results)
    if table:
        print(f"\nA page of event registrations of {options.rows:,}, by order and filter, "
              f"medians of {lists.REPEATED} requests in ms:\n", *table, sep="\n")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(
        {name: round(figure.value(results), 4) for name, figure in figures.items()},
        indent=4) + "\n")
    print(f"\n{time.monotonic() - began:.0f} s; {os.path.relpath(options.json)}")


if __name__ == "__main__":
    main()
