# SPDX-License-Identifier: Apache-2.0
"""Access matrix: each operation at each mount, for each kind of caller.

Operations are read from the table in src/http/routes.c and mounts from the site that the tests
run, so that a new one is in the matrix automatically. The expected status follows from the
site's configuration, see expected().
"""

import functools
import re
import types

import jwt
import pytest

import servers
from apis import APIS, check_error
from apis import good   # noqa: F401, a fixture
from conftest import ALL_SCOPES, ORGANIZATION, Client
from event_registrations import OTHER_ORGANIZATION
from scratch import OnScratch

EXAMPLE = (servers.ROOT / "conf" / "example-site.conf").read_text()


# --- The operations ------------------------------------------------------------------------

class Operation(types.SimpleNamespace):
    """API, method and pattern of a route, its mount, the required scope, and whether it is
    limited to the caller's organization."""

    def __str__(self):
        return f"{self.method} {self.mount}{self.pattern}"


def mounts(site):
    """For each mount: path, API, scopes for reading and for other methods, and whether it has
    RegistrationOrganization."""
    defined = dict(re.findall(r"(?m)^Define (REGISTRATION_\w+) +(\S+)$", site))
    for path, inside in re.findall(r'(?s)<Location "([^"]+)">(.*?)</Location>', site):
        directives = re.sub(r"(?m)^\s*#.*$", "", inside)
        api = re.search(r"RegistrationAPI (\w+)", directives)
        scopes = [defined[name] for name in
                  re.findall(r"Require registration-scope \$\{(\w+)\}", directives)]
        if api:
            yield path, api[1], scopes, "RegistrationOrganization " in directives


def routes():
    """API, method and pattern of each route; GET implies HEAD, and each path has OPTIONS."""
    table = re.findall(r'{REG_API_(\w+), REG_METHOD_(\w+), "([^"]*)", reg_',
                       (servers.ROOT / "src" / "http" / "routes.c").read_text())
    more = {"GET": ["GET", "HEAD"]}
    found = [(api.lower(), one, pattern) for api, method, pattern in table
             for one in [*more.get(method, [method]), "OPTIONS"]]
    return list(dict.fromkeys(found))


READING = ("GET", "HEAD", "OPTIONS")


def operations(site):
    for mount, mounted, scopes, limited in mounts(site):
        for api, method, pattern in routes():
            if api == mounted and api in APIS:
                scope = scopes and scopes[0 if method in READING else -1] or None
                yield Operation(api=api, method=method, pattern=pattern, mount=mount,
                                scope=scope, limited=limited)


DEMO = servers.relaxed(EXAMPLE) + servers.TENANT_MOUNT
OPERATIONS = list(operations(DEMO))
STRICT = list(operations(EXAMPLE))

# Mounts without tokens, which have their own tests.
WITHOUT_TOKENS = {"openapi", "metrics", "health", "status"}

CREATED, READ, NOTHING = 201, 200, 204
SUCCESS = {"POST": CREATED, "OPTIONS": NOTHING}
WRITING = ("POST", "PUT", "DELETE")


def test_matrix_covers_each_mount_and_route():
    assert {operation.api for operation in OPERATIONS} == set(APIS)
    assert {api for api, _, _ in routes()} == {*APIS, *WITHOUT_TOKENS}
    assert len(routes()) == len(set(routes()))
    source = (servers.ROOT / "src" / "http" / "routes.c").read_text()
    assert len([1 for _, method, _ in routes() if method not in ("HEAD", "OPTIONS")]) == (
        source.count("{REG_API_"))
    for site, found in ((DEMO, OPERATIONS), (EXAMPLE, STRICT)):
        assert len({operation.mount for operation in found}) == (
            site.count("    RegistrationAPI ") - len(WITHOUT_TOKENS))
    assert all(o.scope for o in STRICT)
    assert {o.mount for o in STRICT if o.limited} == {"/api/v1/event-registrations"}
    assert {(o.method, o.scope) for o in STRICT if o.api == "events"} == {
        *((method, "registrations:read") for method in READING),
        *((method, "registrations:write") for method in WRITING)}
    assert [o.mount for o in OPERATIONS if o.scope] == ["/v1/families"] * 2
    assert {o.mount for o in OPERATIONS if o.limited} == {
        "/tenant/api/v1/event-registrations"}


# --- The callers ---------------------------------------------------------------------------

class Caller(types.SimpleNamespace):
    """An Authorization header, and the attributes of the caller: `known`, `scopes`, `org`, and
    whether the token is `meant` for this service."""

    def __str__(self):
        return self.name


def caller(name, header, known=True, scopes=ALL_SCOPES, org=ORGANIZATION, sent=None,
           meant=True):
    """header(issuer, claims) makes the value of Authorization. `sent` overrides the claims
    of `scopes` and `org`."""
    claims = {"scope": scopes, "org": org, **(sent or {})}
    return Caller(name=name, known=known, meant=meant, scopes=(scopes or "").split(), org=org,
                  header=lambda issuer: header(issuer, claims))


def bearer(issuer, claims):
    return "Bearer " + issuer.token(**{"sub": "somebody", **claims})


def expired(issuer, claims):
    return "Bearer " + issuer.token("somebody", -60, **claims)


@functools.cache
def another_issuer():
    return servers.TokenIssuer()


def of_another_key(_, claims):
    return bearer(another_issuer(), claims)


def unsigned(_, claims):
    return "Bearer " + jwt.encode(servers.token_claims("somebody", **claims), None, "none")


def cut(issuer, claims):
    return bearer(issuer, claims)[:-4]


def with_another_payload(issuer, claims):
    """The signature of a valid token with other claims."""
    head, _, signature = bearer(issuer, {}).split(".")
    return ".".join([head, bearer(issuer, claims).split(".")[1], signature])


CALLERS = [
    caller("nobody", lambda *_: None, known=False),
    caller("no token", lambda *_: "Bearer", known=False),
    caller("a malformed token", lambda *_: "Bearer nonsense", known=False),
    caller("a token cut short", cut, known=False),
    caller("a password", lambda *_: "Basic YWRtaW46YWRtaW4=", known=False),
    caller("an expired token", expired, known=False),
    caller("a token of another key", of_another_key, known=False),
    caller("an unsigned token", unsigned, known=False),
    caller("a token with other claims than were signed", with_another_payload, known=False),
    caller("a token of no name", bearer, known=False, sent={"sub": None}),
    caller("a token of an empty name", bearer, known=False, sent={"sub": ""}),
    caller("a token for another service", bearer, meant=False, sent={"aud": "cafeteria"}),
    caller("a token for no service", bearer, meant=False, sent={"aud": None}),
    caller("a token for a service in capitals", bearer, meant=False,
           sent={"aud": None, "AUD": "registration"}),
    caller("a token for another service in small letters, for this in capitals", bearer,
           meant=False, sent={"aud": "cafeteria", "AUD": "registration"}),
    caller("a token of another issuer", bearer, meant=False, sent={"iss": "https://x.example"}),
    caller("a token of no issuer", bearer, meant=False, sent={"iss": None}),
    caller("an ID token", bearer, meant=False, sent={"aud": "some-spa", "nonce": "n"}),
    caller("a token for this service among others", bearer,
           sent={"aud": ["cafeteria", "registration"]}),
    caller("a token without a scope", bearer, scopes=None),
    caller("a token to read", bearer, scopes="groups:read registrations:read"),
    caller("a token with the scopes in capitals", bearer, scopes=None,
           sent={"scope": None, "SCOPE": ALL_SCOPES}),
    caller("a token of an organization in capitals", bearer, org=None,
           sent={"org": None, "ORG": ORGANIZATION}),
    caller("a token of another scope", bearer, scopes="families:read registrations:write"),
    caller("a token of no organization", bearer, org=None),
    caller("a token of what is no organization", bearer, org="Tech Corp"),
    caller("a token of another organization", bearer, org=OTHER_ORGANIZATION),
    caller("the right token", bearer),
]

# Answers for another organization that are neither data nor 404: a search finds nothing, and
# OPTIONS reads no registration.
NOT_404 = {("GET", ""): READ, ("HEAD", ""): READ, ("OPTIONS", ""): NOTHING,
           ("OPTIONS", "/{id}"): NOTHING}


def expected(operation, caller):
    """The status for a caller, according to the site's configuration."""
    if not caller.known:
        return 401
    if not caller.meant or operation.scope and operation.scope not in caller.scopes:
        return 403
    if operation.method == "OPTIONS":   # lists methods, without any data
        return NOTHING
    if operation.limited and caller.org not in (ORGANIZATION, OTHER_ORGANIZATION):
        return 403
    if operation.limited and caller.org != ORGANIZATION:
        return NOT_404.get((operation.method, operation.pattern), 404)
    return SUCCESS.get(operation.method, READ)


def is_served(operation, caller):
    return expected(operation, caller) < 300 and (
        not operation.limited or caller.org == ORGANIZATION)


def check_challenge(answer, operation, caller, status):
    challenge = answer.headers.get("WWW-Authenticate", "")
    if status == 401:
        assert challenge.startswith("Bearer ") and "error=" in challenge
    elif status == 403 and operation.scope and operation.scope not in caller.scopes \
            and caller.meant:
        assert 'error="insufficient_scope"' in challenge
        assert f'scope="{operation.scope}"' in challenge
    else:
        assert challenge == ""


def check_cell(answer, operation, caller):
    """Checks that the answer is the one expected for this caller."""
    status = expected(operation, caller)
    head = operation.method == "HEAD"
    assert answer.status_code == status, answer.text
    check_challenge(answer, operation, caller, status)
    if status >= 400:
        check_error(answer, operation.api, status, head)
    elif status != NOTHING and not is_served(operation, caller):
        assert answer.text == ("" if head else "[]")
        assert answer.headers["X-Total-Count"] == "0"


# --- The matrix ----------------------------------------------------------------------------

class Matrix(OnScratch):
    """In a private database, so that only the request changes it."""

    directives = "RegistrationPasswordCost 4"

    @pytest.fixture(scope="class")
    def sender(self, httpd, certificates):
        """One connection for all requests."""
        with Client(httpd, certificates) as sender:
            yield sender

    @pytest.fixture
    def contents(self, sql):
        """contents(): row count and row versions of each table, last value of each sequence.
        Audit entries of lists are ignored."""
        names = {kind: [name for name, in sql(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = ANY (%s)"
            " AND relnamespace = 'registration'::regnamespace AND NOT relispartition",
            list(kind))]
            for kind in ("rp", "S")}
        assert "live_registrations" in names["rp"]
        query = " UNION ALL ".join(
            [f"SELECT '{name}', count(*), sum(xmin::text::bigint) FROM {name}"
             + (" WHERE action NOT IN ('listed', 'exported')" if name == "audit" else "")
             for name in names["rp"]]
            + [f"SELECT '{name}', last_value, is_called::int FROM {name}"
               for name in names["S"]])
        return lambda: sql(query)

    @pytest.fixture
    def request_of(self, sender, good, sql, issuer):
        """request_of(operation): method, path and body of a request that can succeed."""
        right = {"Authorization": CALLERS[-1].header(issuer)}

        def ids_of(operation, one):
            """The values for the placeholders of its pattern."""
            if operation.method == "POST" or operation.api == "live":
                return dict.fromkeys(("session", "group"), one.path.split("/")[-2])
            made = sender.post(one.path, json=one.body, headers=right)
            if operation.api == "events":
                return {"id": made.json()["id"]}
            group, _, user = made.headers["Location"].split("/")[-3:]
            [[plan]] = sql("SELECT plan_id::text FROM group_members WHERE id = %s", user)
            return {"group": group, "user": user, "plan": plan}

        def make(operation):
            one = good(operation.api)
            # A search needs a registration to find, so that an empty list means something.
            needed = "{" in operation.pattern or operation.method in ("GET", "HEAD")
            ids = ids_of(operation, one) if needed else {}
            path = operation.mount + operation.pattern.format(**ids)
            return operation.method, path, {
                "POST": one.body,
                "PUT": {"status": "CANCELLED", "fields": {"changed": True}}}.get(
                    operation.method)
        return make

    @pytest.fixture(scope="class")
    def unused(self):
        """Requests that were refused, by operation: they can be sent again."""
        return {}

    @pytest.fixture
    def cell(self, sender, issuer, request_of, contents, unused):
        """cell(operation, caller): the answer, and whether the database changed."""
        def send(operation, caller):
            name = str(operation)
            method, path, body = unused.pop(name, None) or request_of(operation)
            header = caller.header(issuer)
            before = contents()
            answer = sender.request(method, path, json=body, headers=(
                {"Authorization": header} if header else {}))
            changed = contents() != before
            if not changed:
                unused[name] = method, path, body
            return answer, changed
        return send


class TestAccessMatrix(Matrix):
    @pytest.mark.parametrize("operation", OPERATIONS, ids=str)
    @pytest.mark.parametrize("caller", CALLERS, ids=str)
    def test_access(self, cell, operation, caller):
        answer, changed = cell(operation, caller)
        check_cell(answer, operation, caller)
        assert changed == (operation.method in WRITING and is_served(operation, caller))


class TestAccessMatrixOfExampleSite(TestAccessMatrix):
    """Of the example site without changes."""

    site = staticmethod(servers.strict_site)

    @pytest.mark.parametrize("operation", STRICT, ids=str)
    @pytest.mark.parametrize("caller", CALLERS, ids=str)
    def test_access(self, cell, operation, caller):
        super().test_access(cell, operation, caller)


class TestControlWithoutDirectives(Matrix):
    """Without the site's access directives, refused callers get in, and the matrix detects
    it."""

    @staticmethod
    def change(site):
        site = re.sub(r"(?m)^ *(Require|RegistrationOrganization|Auth\w+|OAuth2Target\w+"
                      r"|OAuth2TokenVerify|</?Require\w+>).*\n", "", site)
        return site.replace("RegistrationAPI", "Require all granted\nRegistrationAPI")

    @pytest.mark.parametrize("operation", OPERATIONS, ids=str)
    def test_control_access_is_granted(self, cell, operation):
        for caller in CALLERS:
            if not is_served(operation, caller) and expected(operation, caller) != NOTHING:
                answer, changed = cell(operation, caller)
                with pytest.raises(AssertionError):
                    check_cell(answer, operation, caller)
                assert answer.status_code == SUCCESS.get(operation.method, READ)
                assert changed == (operation.method in WRITING)


class TestControlExampleSiteWithoutDirectives(TestControlWithoutDirectives):
    site = staticmethod(servers.strict_site)

    @pytest.mark.parametrize("operation", STRICT, ids=str)
    def test_control_access_is_granted(self, cell, operation):
        super().test_control_access_is_granted(cell, operation)
