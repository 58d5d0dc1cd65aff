# SPDX-License-Identifier: Apache-2.0
"""Parses Prometheus' text format."""

import re

SAMPLE = re.compile(r'(\w+)(?:\{(.*)\})? (\S+)')


def read(text):
    """The samples by name and labels: {("name", 'code="201"'): 1.0}."""
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert (name, labels or "") not in samples, line
            samples[name, labels or ""] = float(value)
    return samples


def get(client, path="/metrics"):
    answer = client.get(path)
    assert answer.status_code == 200
    return read(answer.text)


def requests_of(samples, operation):
    """The number of requests of one operation, by status."""
    return {int(code): count for (name, labels), count in samples.items()
            if name == "registration_requests_total"
            for op, code in [re.fullmatch('operation="(.*)",code="(.*)"', labels).groups()]
            if op == operation}


def one(samples, name, labels=""):
    """The value of a sample, 0 if it does not exist."""
    return samples.get((f"registration_{name}", labels), 0)
