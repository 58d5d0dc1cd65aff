# SPDX-License-Identifier: Apache-2.0
"""Requests with an Idempotency-Key, and their answers."""

import json


def send(api, path, body, key, **headers):
    return api.post(path, data=json.dumps(body),
                    headers={"Content-Type": "application/json", "Idempotency-Key": key,
                             **headers})


def seen(answer):
    """All that tells one answer from another."""
    return (answer.status_code, answer.headers["Content-Type"], answer.headers.get("Location"),
            answer.headers.get("ETag"), answer.content)
