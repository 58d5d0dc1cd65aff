# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens and scopes, with each of the two modules that verify tokens."""

import functools
import re
import time
import types

import jwt
import pytest

import servers
from conftest import ORGANIZATION, new_object_id


@pytest.fixture(params=["mod_oauth2", "mod_auth_openidc"])
def guard(request, start_httpd, issuer, expect_log, client, tmp_path):
    """guard.start(change): starts the site as `change` makes it; a function that makes clients.

    guard.token makes valid tokens.
    """
    if request.param == "mod_auth_openidc":
        expect_log(r"\[auth_openidc:(warn|error)\] ")
        issuer.write_certificate(certificate := tmp_path / "tokens.pem")
        replace = functools.partial(servers.with_openidc, certificate=certificate)
        module, prefix = "auth_openidc", "OIDC"
    else:
        replace, module, prefix = str, "oauth2", "OAUTH2"
    modules = [*(other for other in servers.MODULES if other != "oauth2"), module]

    def start(change=str):
        httpd = start_httpd(change=lambda site: change(replace(site)), modules=modules)
        return lambda token=None: client(token, httpd)
    return types.SimpleNamespace(start=start, token=issuer.token, prefix=prefix)


def family(username):
    """A request that passes authorization and then fails for unknown children."""
    return {"username": username, "password": "secret", "children": [new_object_id()],
            "institution_id": new_object_id()}


PASSED, REFUSED = 400, 403

SCOPES = [
    ("families:create", PASSED),
    ("registrations:read families:create registrations:write", PASSED),
    (["registrations:read", "families:create"], PASSED),
    (["families:create"], PASSED),
    (None, REFUSED),
    ("", REFUSED),
    ([], REFUSED),
    ("registrations:read", REFUSED),
    ("families:create2 2families:create", REFUSED),
    ("families: create families :create", REFUSED),
    ("FAMILIES:CREATE", REFUSED),
    (["families: create", "create"], REFUSED),
    (True, REFUSED),
    ({"families:create": True}, REFUSED),
]


def test_family_needs_scope(guard):
    client = guard.start()
    for scope, status in SCOPES:
        answer = client(guard.token("somebody", scope=scope)).post(
            "/v1/families", json=family("somebody"))
        assert answer.status_code == status, (scope, answer.text)
        if status == REFUSED:
            assert answer.json() == {
                "code": 403, "message": "FORBIDDEN",
                "description": "Authorization failed due to insufficient permissions."}
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
            assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
            assert 'scope="families:create"' in answer.headers["WWW-Authenticate"]


def test_invalid_token_is_401_in_each_api(guard, issuer):
    client = guard.start()
    for what, token in [("none", None), *bad_tokens(issuer).items()]:
        one = client(token)
        answer = one.post("/v1/families", json=family("somebody"))
        assert answer.status_code == 401, what
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), what
        assert answer.json() == {
            "code": 401, "message": "UNAUTHORIZED",
            "description": "Authentication failed due to access token issues." if token else
                           "Authentication failed for lack of authentication credentials.",
            "redirect_link": "/auth"}, what
        answer = one.post("/v1/sessions/x/register", json={})
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated"), what
        answer = one.post("/api/v1/users", json={})
        assert (answer.status_code, answer.json()["status"]) == (401, 401), what
        answer = one.get("/api/v1/event-registrations")
        assert (answer.status_code, answer.json()["statusCode"]) == (401, 401), what


def test_token_without_sub_is_401(guard):
    client = guard.start()
    assert client(guard.token(None)).get("/api/v1/event-registrations").status_code == 401


def test_caller_is_default_patient(guard, live_session):
    client = guard.start()
    answer = client(guard.token("patient 7")).post(
        f"/v1/sessions/{live_session()}/register", json={})
    assert (answer.status_code, answer.json()["patient_id"]) == (201, "patient 7")


def test_claims_in_request_headers_are_ignored(guard):
    client = guard.start()
    headers = {name: "families:create" for name in
               ("OAUTH2_CLAIM_scope", "OAUTH2-CLAIM-scope", "OIDC_CLAIM_scope",
                "OIDC-CLAIM-scope", "X-OAUTH2-CLAIM-scope")}
    answer = client(guard.token("somebody")).post(
        "/v1/families", json=family("somebody"), headers=headers)
    assert answer.status_code == REFUSED


def test_any_of_several_scopes_is_sufficient(guard):
    client = guard.start(lambda site: site.replace(
        "scope ${REGISTRATION_FAMILIES}", "scope families:create families:*"))
    for scope, status in [("families:create", PASSED), ("x families:*", PASSED),
                          ("families", REFUSED)]:
        answer = client(guard.token("somebody", scope=scope)).post(
            "/v1/families", json=family("somebody"))
        assert answer.status_code == status, scope
    assert 'scope="families:create families:*"' in answer.headers["WWW-Authenticate"]


def test_scope_combines_with_other_require_directives(guard):
    client = guard.start(lambda site: site.replace(
        "Require registration-scope ${REGISTRATION_FAMILIES}",
        """<RequireAny>
               Require user chief
               <RequireAll>
                   Require registration-scope families:create
                   Require not registration-scope suspended
               </RequireAll>
           </RequireAny>"""))
    for sub, scope, status in [("chief", None, PASSED), ("somebody", "families:create", PASSED),
                               ("somebody", "families:create suspended", REFUSED),
                               ("somebody", None, REFUSED)]:
        answer = client(guard.token(sub, scope=scope)).post(
            "/v1/families", json=family("somebody"))
        assert answer.status_code == status, (sub, scope, answer.text)
        assert status == REFUSED or "WWW-Authenticate" not in answer.headers
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_scopes_can_differ_by_method(guard):
    client = guard.start(lambda site: site.replace(
        "RegistrationAPI events\n", """RegistrationAPI events
        <Limit GET HEAD>
            Require registration-scope registrations:read
        </Limit>
        <LimitExcept GET HEAD>
            Require registration-scope registrations:write
        </LimitExcept>
        """, 1))
    path = "/api/v1/event-registrations"
    reader = client(guard.token("somebody", scope="registrations:read"))
    writer = client(guard.token("somebody", scope="registrations:write"))
    assert reader.get(path).status_code == 200
    assert reader.head(path).status_code == 200
    assert writer.get(path).status_code == 403
    assert writer.post(path, json={}).status_code == 400
    answer = reader.post(path, json={})
    assert answer.status_code == 403
    assert 'scope="registrations:write"' in answer.headers["WWW-Authenticate"]
    assert client().options(path).status_code == 401


def test_missing_scope_without_send_forbidden_is_401(guard):
    client = guard.start(lambda site: site.replace("AuthzSendForbiddenOnFailure On", ""))
    answer = client(guard.token("somebody")).post("/v1/families", json=family("somebody"))
    assert answer.status_code == 401
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert answer.json()["message"] == "UNAUTHORIZED"


def test_tenant_is_organization_of_token(guard):
    client = guard.start()
    path = "/tenant/api/v1/event-registrations"
    for org, status in [(ORGANIZATION, 200), (ORGANIZATION.upper(), 200), (None, 403),
                        ("", 403), ("Tech Corp", 403), (ORGANIZATION + " ", 403)]:
        answer = client(guard.token("somebody", org=org)).get(path)
        assert answer.status_code == status, org
        if status == 403:
            assert answer.json()["statusCode"] == 403


# Claims that might be taken for the scope claim. Each module copies claims into a table with
# case-insensitive names, in which the last one wins.
LOOKALIKES = [
    {"SCOPE": "families:create"},
    {"scope": "x", "SCOPE": "families:create"},
    {"SCOPE": "families:create", "scope": "x"},
    {"Scope": "x", "scope": "families:create"},
    {"scope": {"x": "a families:create b"}},
    {"scope": {"x": ["families:create"]}},
    {"scope": '["families:create"]'},
    {"scope": [["families:create"]]},
    {"x": {"scope": "families:create"}},
    {"access_token": "a.b.c", "SCOPE": "families:create"},
]


@pytest.mark.parametrize("claims", LOOKALIKES, ids=str)
def test_lookalike_scope_claim_is_ignored(guard, claims):
    answer = guard.start()(guard.token("somebody", **claims)).post(
        "/v1/families", json=family("somebody"))
    assert answer.status_code == REFUSED
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


OTHER = "11e6543a-e21a-34b5-c678-426614174999"


def test_lookalike_organization_claim_is_ignored(guard):
    client = guard.start()
    for claims, status in [({"org": OTHER, "name": "org"}, 200),
                           ({"ORG": OTHER}, 403),
                           ({"org": ORGANIZATION, "ORG": OTHER}, 403),
                           ({"ORG": OTHER, "org": ORGANIZATION}, 403),
                           ({"org": [OTHER]}, 403), ({"org": {"id": OTHER}}, 403),
                           ({"x": {"org": OTHER}}, 403)]:
        answer = client(guard.token("somebody", **claims)).get(
            "/tenant/api/v1/event-registrations")
        assert answer.status_code == status, claims


def test_control_environment_has_lookalike_claim(guard):
    """The tests above would fail if the module used the environment."""
    client = guard.start(lambda site: site.replace(
        "Require registration-scope ${REGISTRATION_FAMILIES}",
        f"""<RequireAll>
                Require valid-user
                Require expr "-z reqenv('{guard.prefix}_CLAIM_sub') \\
                    || reqenv('{guard.prefix}_CLAIM_scope') =~ /families:create/"
            </RequireAll>"""))
    answer = client(guard.token("somebody", scope="x", SCOPE="families:create")).post(
        "/v1/families", json=family("somebody"))
    assert answer.status_code == PASSED


@pytest.mark.parametrize("sub, status", [("", 401), ("somebody", 201)])
def test_empty_sub_is_401(guard, live_session, sub, status):
    """Require valid-user accepts it; the module does not."""
    client = guard.start(lambda site: site.replace("</VirtualHost>", """
        <Location "/own/v1/sessions">
            RegistrationAPI live
            Require valid-user
        </Location>
        </VirtualHost>"""))
    answer = client(guard.token(sub)).post(
        f"/own/v1/sessions/{live_session()}/register", json={"patient_id": "one"})
    assert answer.status_code == status
    assert status == 201 or answer.headers["WWW-Authenticate"].startswith("Bearer ")


# --- mod_oauth2 only: settings of the example site -----------------------------------------

def bad_tokens(issuer):
    return {"expired": issuer.token("somebody", -60),
            "of another key": servers.TokenIssuer().token("somebody"),
            "unsigned": jwt.encode(servers.token_claims("somebody"), None, "none"),
            "malformed": "nonsense"}


def test_refused_token_is_logged(httpd, client, issuer):
    for what, token in bad_tokens(issuer).items():
        answer = client(token).get("/api/v1/event-registrations")
        assert answer.status_code == 401, what
        line = rf"\[{answer.headers['X-Request-Id']}\].* REG0207: "
        servers.wait_until(lambda: re.search(line, httpd.log.text()), 10,
                           f"a token that is {what} is not logged")
    # A request without a token is not logged; one after it is.
    before = httpd.log.text().count("REG0207")
    assert client().get("/api/v1/event-registrations").status_code == 401
    answer = client("nonsense").get("/api/v1/event-registrations")
    line = rf"\[{answer.headers['X-Request-Id']}\].* REG0207: "
    servers.wait_until(lambda: re.search(line, httpd.log.text()), 10, "a token is not logged")
    assert httpd.log.text().count("REG0207") == before + 1


def test_reason_of_refusal_is_logged_at_warn(start_httpd, client, issuer):
    httpd = start_httpd(change=lambda site: site.replace("oauth2:error", "oauth2:warn"))
    for what, token in bad_tokens(issuer).items():
        begin = httpd.log.size()
        assert client(token, httpd).get("/api/v1/event-registrations").status_code == 401, what
        servers.wait_until(lambda: "[oauth2:" in httpd.log.text()[begin:], 10,
                           f"the reason is not logged for a token that is {what}")


def test_token_without_expiry_is_401(client, issuer):
    answer = client(issuer.token("somebody", exp=None)).get("/api/v1/event-registrations")
    assert answer.status_code == 401


LEEWAY = 10     # seconds: expiry= in the example site


def test_remembered_token_is_refused_at_latest_ten_seconds_after_its_expiry(client, issuer):
    """The token is in use all the time, which must not prolong its life."""
    begin = time.time()
    one = client(issuer.token("somebody", seconds=2))

    def status():
        return one.get("/api/v1/event-registrations").status_code
    assert status() == 200
    servers.wait_until(lambda: status() == 401, 2 + LEEWAY + 10, "the token is still accepted")
    # The claims and the cache count whole seconds.
    assert time.time() - begin < 2 + LEEWAY + 2
    assert status() == 401


def test_expired_token_that_is_not_remembered_is_401(client, issuer):
    """The leeway is that of the cache only."""
    answer = client(issuer.token("somebody", seconds=-2)).get("/api/v1/event-registrations")
    assert answer.status_code == 401


def with_other_keys(site, key, cache):
    """The site with a second one in it, which has its own key, and a cache of this name."""
    key = key.replace('"', '\\"')
    site = re.sub(r"(?m)^OAuth2Cache .*$", r"\g<0>\nOAuth2Cache shm name=other", site)
    return site.replace("</VirtualHost>", f"""
        <Location "/other/api/v1/event-registrations">
            RegistrationAPI events
            OAuth2TokenVerify jwk "{key}" verify.exp=required&verify.cache={cache}&expiry=10
        </Location>
        </VirtualHost>""")


# Control: with one cache for two sets of keys, each accepts the other's remembered tokens.
@pytest.mark.parametrize("cache, status", [("other", 401), ("registration", 200)])
def test_remembered_token_is_401_where_other_keys_and_cache_apply(start_httpd, client, issuer,
                                                                 cache, status):
    other = servers.TokenIssuer()
    httpd = start_httpd(change=lambda site: with_other_keys(site, other.jwk(), cache))
    path = "/api/v1/event-registrations"
    for one in (client(issuer.token("somebody"), httpd), client(other.token("somebody"), httpd)):
        first, second = (path, f"/other{path}") if one.get(path).status_code == 200 else (
            f"/other{path}", path)
        assert one.get(first).status_code == 200
        assert one.get(second).status_code == status


def test_token_signed_with_public_key_as_secret_is_401(client, issuer):
    """A verifier that lets the token choose the algorithm takes the public key for a secret."""
    from cryptography.hazmat.primitives import hashes, hmac, serialization
    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    parts = jwt.encode(servers.token_claims("somebody"), "x", algorithm="HS256",
                       headers={"kid": "registration"}).split(".")[:2]
    signer = hmac.HMAC(public, hashes.SHA256())
    signer.update(".".join(parts).encode())
    forged = ".".join([*parts, jwt.utils.base64url_encode(signer.finalize()).decode()])
    assert client(forged).get("/api/v1/event-registrations").status_code == 401
