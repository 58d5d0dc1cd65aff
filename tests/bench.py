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

from bench import runs
from bench.load import Wrong
from bench.site import Stage
from servers import ROOT, ServerError, apxs

FEW = 10_000        # registrations in the smaller table


@dataclasses.dataclass(frozen=True)
class Run:
    function: typing.Callable
    arguments: dict
    unit: str = "/s"
    rounds: int = 0     # 0: as many as the option says

    def __call__(self, stage):
        return self.function(stage, **self.arguments)

    def text(self, value):
        """A formatted result."""
        if self.unit in ("ms", "us"):
            return f"{value * {'ms': 1e3, 'us': 1e6}[self.unit]:,.3f}"
        return f"{value:,.2f}" if self.unit == "MiB" else f"{value:,.0f}"


def rate(function, **arguments):
    return Run(function, arguments)


def latency(function, **arguments):
    return Run(function, arguments, "ms")


def cost(function, **arguments):
    """With more rounds, because the goal is one percent."""
    return Run(function, {**arguments, "cost": True}, "us", rounds=15)


# Sets of runs that alternate, round by round.
SETS = [
    {"hot insert": rate(runs.live_insert),
     "hot": rate(runs.live),
     "hot unbatched": rate(runs.live, batch_size=1),
     "https mod_oauth2": rate(runs.live, token_module="oauth2"),
     "https mod_auth_openidc": rate(runs.live, token_module="auth_openidc")},

    {"spread insert": rate(runs.live_insert, sessions=runs.SESSIONS),
     "spread": rate(runs.live, sessions=runs.SESSIONS),
     "spread unbatched": rate(runs.live, sessions=runs.SESSIONS, batch_size=1)},

    {"4 children": rate(runs.live, children=4),
     "4 children unbatched": rate(runs.live, children=4, batch_size=1),
     "limited": Run(runs.live_limited, {}, "201s")},

    {"alone": latency(runs.live, connections=1, median=True),
     "alone unbatched": latency(runs.live, connections=1, median=True, batch_size=1)},

    {"events insert": rate(runs.events_insert), "events": rate(runs.events)},

    {"groups insert": rate(runs.members_insert), "groups": rate(runs.members)},

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
    """The best of some runs divided by another, and its goal."""

    over: tuple
    under: typing.Optional[str]
    comparison: str
    goal: float

    def runs(self):
        return [*self.over, *([self.under] if self.under else [])]

    def ratio(self, results, name):
        return statistics.median(
            over / under for over, under in zip(results[name], results[self.under]))

    def value(self, results):
        if self.under:
            return max(self.ratio(results, name) for name in self.over)
        # The worst round counts, not the median.
        return max(results[self.over[0]], key=lambda value: abs(value - self.goal))

    def is_met(self, value):
        return COMPARE[self.comparison](value, self.goal)


FIGURES = {
    "hot_vs_insert": Figure(("hot",), "hot insert", ">=", 1.3),
    "spread_vs_insert": Figure(("spread",), "spread insert", ">=", 1.15),
    "hot_vs_unbatched": Figure(("hot",), "hot unbatched", ">=", 10),
    "spread_vs_unbatched": Figure(("spread",), "spread unbatched", ">=", 2),
    "hot_4_children": Figure(("4 children",), "4 children unbatched", ">=", 15),
    "alone": Figure(("alone",), "alone unbatched", "<=", 1.05),
    "limited_exact": Figure(("limited",), None, "==", runs.PLACES),
    "events_vs_insert": Figure(("events",), "events insert", ">=", 0.8),
    "groups_vs_insert": Figure(("groups",), "groups insert", ">=", 0.8),
    "get_vs_empty": Figure(("get",), "empty", ">=", 0.7),
    "https_token": Figure(("https mod_oauth2", "https mod_auth_openidc"), "hot", ">=", 0.65),
    "search_growth": Figure(("search many",), "search few", "<=", 1.5),
    "search_text_growth": Figure(("search text many",), "search text few", "<=", 3),
    "beside_searches": Figure(("beside searches",), "quiet", ">=", 0.7),
    "rss_growth": Figure(("memory",), None, "<=", 1),
    "metrics_cost": Figure(("get counted",), "get uncounted", "<=", 1.01),
    "export_growth": Figure(("export",), None, "<=", 16),
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
            for name, run in turns.items():
                if name in wanted and number < (run.rounds or rounds):
                    results[name].append(run(stage))
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
                     if len(figure.over) > 1 and part != figure.under else "")
            print(f"    {part:<26}{' – '.join(shown)} {run.unit}{ratio}")


def main():
    parser = argparse.ArgumentParser(description="Measures the figures that have a goal.",
                                     epilog="Figures: " + " ".join(FIGURES))
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these figures")
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
    unknown = set(options.names) - set(FIGURES)
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
    except (Wrong, ServerError) as error:
        sys.exit(f"The benchmark failed: {error}")

    print(f"\n{described}")
    print(f"Load before: {load:.1f}. Medians of {options.rounds} rounds, "
          f"{options.seconds} s each run; minimum – median – maximum:\n")
    show(figures, results)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(
        {name: round(figure.value(results), 4) for name, figure in figures.items()},
        indent=4) + "\n")
    print(f"\n{time.monotonic() - began:.0f} s; {os.path.relpath(options.json)}")


if __name__ == "__main__":
    main()
