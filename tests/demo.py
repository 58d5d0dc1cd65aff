# SPDX-License-Identifier: Apache-2.0
"""The demo: all four APIs over HTTPS on this machine, left running.

    python3 tests/demo.py start [--module FILE] [--port NUMBER]
    python3 tests/demo.py stop

Its data is kept in build/demo, including the database: starting again continues with it. The
file build/demo/env, for a shell to source, has URL, certificate, tokens and database.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys

from servers import (ALL_SCOPES, EXPLORER_MODULES, MODULE, MODULES, ROOT, Certificates, Explorer, Httpd,
                     Postgres, ServerError, TokenIssuer, environment, example_site, private)

DEMO = ROOT / "build" / "demo"
ENV = DEMO / "env"
ORGANIZATION = "987e6543-e21a-34b5-c678-426614174000"   # Tech Corp of the demo data
DAY = 24 * 3600

CURL = """curl -sS -X POST --cacert "$REGISTRATION_CACERT" \\
    -H "Authorization: Bearer ${token}" -H "Content-Type: application/json" \\
    "$REGISTRATION_URL{path}" -d '{body}'"""

# For each API: its documented example, and how the administrator undoes it, so that the example
# works again.
EXAMPLES = [
    ("Register for a live session",
     "REGISTRATION_TOKEN", "/v1/sessions/11111111-1111-4111-8111-111111111111/register",
     {"guest_email": "guest@example.org"},
     "SELECT registration.cancel_live_registration('{id}')"),
    ("Register a new group member",
     "REGISTRATION_TOKEN",
     "/api/v1/groups/5f0c7a52-6f0a-4a53-9f0e-0d3c6f1e2a10/members",
     {"inviteCode": "EXAMPLE123",
      "groupMember": {
          "user": {"birthDate": "2000-01-01", "email": "example_user@example.org",
                   "firstName": "John", "gender": "male", "lastName": "Doe",
                   "locale": "en-US", "mobileNumber": "+19195551212",
                   "timeZone": "America/New_York"},
          "tags": ["ExampleTag"],
          "attributes": {"ExampleAttribute": "example value"},
          "planSettings": {"startDate": "2022-06-14", "endDate": "2023-06-14"}}},
     "SELECT registration.remove_group_member('{user[uuid]}')"),
    ("Register a family, which takes the scope families:create",
     "REGISTRATION_ADMIN_TOKEN", "/v1/families",
     {"username": "family01", "password": "mys3cr3tp4ss",
      "children": ["5a62be07de34500146d9c544", "5a70be07de34500146d9c380"],
      "institution_id": "5a62be07de34500146d9c624"},
     "SELECT registration.remove_family('{id}')"),
    ("Register for an event",
     "REGISTRATION_TOKEN", "/api/v1/event-registrations",
     {"occurrenceId": "123e4567-e89b-12d3-a456-426614174001",
      "externalUserId": "ext_user_12345",
      "fields": {"email": "john@example.com", "firstName": "John", "lastName": "Doe",
                 "company": "Tech Corp", "role": "Developer"}},
     "DELETE FROM registration.event_registrations WHERE id = '{id}';"
     "SELECT registration.recount()"),
]


def make_postgres():
    return Postgres(DEMO / "postgresql", durable=True)


def make_httpd(site, port, module, explorer=None):
    return Httpd(DEMO / "httpd", explorer.added_to(site) if explorer else site, port=port,
                 registration=module, modules=(*MODULES, *EXPLORER_MODULES),
                 descriptors=[explorer.descriptor] if explorer else [])


def make_tokens(issuer):
    """Tokens of an ordinary caller and of one with all scopes."""
    person = {"seconds": DAY, "org": ORGANIZATION}
    return (issuer.token("demo-user", **person),
            issuer.token("demo-admin", scope=ALL_SCOPES, **person))


def write_env(port, certificates, tokens, postgres):
    """Writes the file for a shell to source; the variables in it."""
    variables = {
        "REGISTRATION_URL": f"https://localhost:{port}",
        "REGISTRATION_CACERT": str(certificates.authority),
        "REGISTRATION_TOKEN": tokens[0],
        "REGISTRATION_ADMIN_TOKEN": tokens[1],
        **postgres.variables()}
    with open(ENV, "w", opener=private) as file:
        for name, value in variables.items():
            file.write(f"export {name}={shlex.quote(value)}\n")
    return variables


def try_example(example, variables, postgres):
    """Prints a request and its answer; True if it was registered, now or before."""
    title, token, path, body, undo = example
    command = CURL.format(token=token, path=path, body=json.dumps(body))
    print(f"\n{title}:\n\n{command}\n", flush=True)
    result = subprocess.run(["sh", "-c", command + " -w '\\n%{http_code}'"], text=True,
                            stdout=subprocess.PIPE,
                            env=environment(NO_PROXY="localhost", **variables))
    answer, _, status = result.stdout.rpartition("\n")
    print(f"{status} {answer}")
    if status == "201":
        postgres.psql("-c", undo.format(**json.loads(answer)))
    # Registrations made by hand are kept.
    return status in ("201", "409", "422")


def start(module, port):
    postgres = make_postgres()
    postgres.start()
    postgres.install("install.sql", "demo.sql")
    certificates = Certificates(DEMO / "tls")
    issuer = TokenIssuer(DEMO / "token.key")
    tokens = make_tokens(issuer)
    explorer = Explorer(DEMO / "explorer", tokens[1]) if Explorer.is_there() else None
    httpd = make_httpd(example_site(port, certificates, issuer, postgres), port, module,
                       explorer)
    httpd.stop()
    httpd.start()
    variables = write_env(port, certificates, tokens, postgres)
    succeeded = [try_example(example, variables, postgres) for example in EXAMPLES]
    if not all(succeeded):
        sys.exit(f"\nAn example failed. Logs: {httpd.log.path} {postgres.log.path}")
    browser = (f"Or in a browser: https://localhost:{port}/explorer/" if explorer else
               "Without API explorer: Swagger UI was not fetched; make explorer says why.")
    browser += f"\nMonitoring: https://localhost:{port}/status, /metrics, /health/ready"
    print(f"""
These registrations were removed again, so the same examples work for you. Go on with:

    . {os.path.relpath(ENV)}        URL, certificate, tokens (for a day), PGHOST...
    psql                      the database; all is in schema registration
    make demo-stop            stops both servers and keeps the database

{browser}

https://localhost:{port} logs to {os.path.relpath(httpd.log.path)},
PostgreSQL on port {postgres.port} to {os.path.relpath(postgres.log.path)}.""")


def stop():
    if DEMO.exists():
        make_httpd("", 0, None).stop()
        make_postgres().stop()


def main():
    parser = argparse.ArgumentParser(description="Starts or stops the demo.")
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("--module", type=pathlib.Path, default=MODULE)
    parser.add_argument("--port", type=int, default=8443)
    arguments = parser.parse_args()
    try:
        if arguments.action == "start":
            start(arguments.module.resolve(), arguments.port)
        else:
            stop()
    except ServerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
