# SPDX-License-Identifier: Apache-2.0
"""Requests with an Idempotency-Key."""

import json


def send(api, path, body, key, **headers):
    return api.post(path, data=json.dumps(body),
                    headers={"Content-Type": "application/json", "Idempotency-Key": key,
                             **headers})


def seen(answer):
    """All parts of an answer that a replay has to repeat."""
    return (answer.status_code, answer.headers["Content-Type"], answer.headers.get("Location"),
            answer.headers.get("ETag"), answer.content)
