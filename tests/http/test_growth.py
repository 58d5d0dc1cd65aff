# SPDX-License-Identifier: Apache-2.0
"""The cost of a request grows at most linearly with the size of the request.

Each operation of openapi.json is called with growing sizes of everything that a client
controls: each parameter, header and body key of the description, and undescribed ones. Cost is
the processor time that the kernel counted for the database's backends and for httpd's child
processes. It excludes waiting, so it hardly depends on the load of the machine.
"""

import itertools
import json
import pathlib
import secrets
import types

import pytest

import faults
import openapi
import samples
import servers
from conftest import new_object_id
from event_registrations import MOUNT, category_of, created, insert_registrations
from scratch import OnScratch

RUNS = 2
FACTOR = 8     # ratio of the two sizes compared
MOST = 16      # allowed ratio of their costs: twice the linear one
# Nanoseconds for PostgreSQL and for httpd, which may be built with sanitizers.
SLACK = 15e6, 15e6 * (6 if servers.is_sanitized(servers.MODULE) else 1)


# --- The matrix ----------------------------------------------------------------------------


def event_path(w):
    return f"{MOUNT}/{created(w.admin, w.occurrence(), secrets.token_hex(8))['id']}"


def member_of(w):
    one = w.group()
    answer = w.admin.post("/api/v1/users", json=samples.member(one.code))
    return one, answer.json()["user"]["uuid"]


def family(w):
    school = w.institution()
    return samples.family(school, [w.child(school)])


# A valid request of each operation: path and body.
GOOD = {
    "registerForLiveSession": lambda w: (f"/v1/sessions/{w.live_session()}/register",
                                         {"patient_id": secrets.token_hex(8)}),
    "registerGroupMember": lambda w: (lambda one: (
        f"/api/v1/groups/{one.id}/members", samples.member(one.code)))(w.group()),
    "registerUser": lambda w: ("/api/v1/users", samples.member(w.group().code)),
    "getGroup": lambda w: (f"/api/v1/groups/{w.group().id}", None),
    "getPlan": lambda w: (lambda one: (
        f"/api/v1/groups/{one.id}/plans/{one.plan}", None))(w.group()),
    "getUser": lambda w: (lambda one, user: (
        f"/api/v1/groups/{one.id}/users/{user}", None))(*member_of(w)),
    "getMember": lambda w: (lambda one, user: (
        f"/api/v1/groups/{one.id}/members/{user}", None))(*member_of(w)),
    "registerFamily": lambda w: ("/v1/families", family(w)),
    "searchEventRegistrations": lambda w: (MOUNT, None),
    "createEventRegistration": lambda w: (MOUNT, {"occurrenceId": w.occurrence(),
                                                  "externalUserId": secrets.token_hex(8)}),
    "getEventRegistration": lambda w: (event_path(w), None),
    "updateEventRegistration": lambda w: (event_path(w), {"status": "ATTENDED"}),
    "deleteEventRegistration": lambda w: (event_path(w), None),
}


def keys(n, value=1):
    return {f"k{i:05}": value for i in range(n)}


# Each beginning followed by any ending has the same hash in PostgreSQL's hash of text.
BEGINNINGS = r"""
    dWORLfStLnCz(VdmL~7+D(xY eLMWMKQmCfLbY()],F)lK*h( TLPJYMgQjmlCVuy^Zw_nEw;E
    mfCjfPmehH4D,<RX]k1ft#|X i3Uq8Os78xNpl=*}>jNO,3(U Wpn3SKQtHInpXTG}lbzu!zaz
    OkvcFz9zIgqnTZVv,X^:<#?b j1JAF2NtB1Rx%vw:/_nxJ_>A LTeeSRmcMwMo`ywGg`#c:#l+
    gekPR6VGE1IMWo+e>y(<Jpap df4sf-C3tFeYGbj$A`<{<^F( AbSIAIYGoxb9vOIEe-(Gl6B#
    ZltiVNXu2MOJM<QAF1saFZa. wj3VSG6Ik6eXG2`R6]jqwD-# zgW_4SaermR6Jv)f&I`oyekO
    Tyw7T1Q3Lt6L4x#xGEO}exAj 6-YBuqt8g6Rm/BmYHt|s]V&` uFCETiICPfX3|5)[},IbeJLz
    87exLe8rSNbRO/8?O?4dKsfz wdhufTfJjm_Pip;<Ts]i[jy] MvwEccdXO1pM[+1t31KHZe#b
    t6UrabWB8Oz3I=ZYNZ>l_B7D F06i8D94dBQfi><-=fh7<e<3 Wu5_Y1Ib2Etj9x`4CSD:1Vr=
    -OgIsvpcXTpbLju=]#XmV]$2 33Q1v-k71UpAxNbL*Dc;CH;H hl-rhmv2QCWBYz2w1k@gFM|_
    5tDZOUBpg7sGA7]79{tJ2QnI Sy3JeNMcm-RH@IZ|bQY((nda uqtl0wjvFYU5~W=OmjJ7K%G|
    krpI-Csd4QmbOWcIe;U@-+Kd 3b3Xku5-OICEKmp,|>hqsSd@ yL-PXCya_8OsmkSbYA.DPw/u
    Kw6Zg80VXTB-ijpv&F;qB:U7""".split()
ENDINGS = r"""
    8bEubdKtfhKAu-TyLrb=QNA@ nz6hIWxPX0_6|?{lP*d^c1Mp iNAPpg266f4DNWm4I+4GKy1Q
    pu_izqoVasJa<L4:TyP,COHh 7xXp2fTq-nvbze$o6_^VqDle otpntiSQDfX0>*;9{8,`9ERS
    L-64enOHZ-y9yoc#`;aK)I?v BAmF2QvWRTFX$:-E>5?6E?gb AIguuFPU4lfd=H}gALSKo!BC
    zsUCLYaSn-WjYc*OFnsFKAf[ PRCRmpxQZxWVeGgL}6P8>R}N vIC6nYr6pAz6pWe@B#hM5n4|
    rAaoS7xl4lJO_}wO3QYH^iI0 M_SVMydQ7kZ2^h<7Y9Q-}Z=i Sfd7R7ZiGCfeaCw<yG`QwH-P
    HGl0YZQugUC9L)p-9]NY@}nt gaf98nmwZ-ho6)6U.[]2tio- nGh-tqVsjLVf:!#X9w>=^9^Y
    JRnx4rdOe99X@4P#2Yq_TDP{ yXNkmJG5XzwL7skPt8&uXdwX cUbzl15Ww1NOyNn`<RwnlRI*
    zz2FB36Y2wRA0d9U;p_y{HMC EUHxvjHDmpLw#gn,}GZ(.(qF l3dpT5YGnlxV&8qGVe$7IUMx
    uD9QCGHYQLLqn[Jl[?|w!laW XlVbDnmZrTacK/<UL-o*|N^h kLVthgLiPHNI42%QTOxI22>~
    f7psr9UqVx8vwVwd9c,Dz,z: W5PBsLHwXw5CED_6vCQr>4F> opKMJwTGAWZz=Yu`ps.|c#Cj
    vS1bF1R2PVBlXt?e*=$%J&:. vW9XQm6OVayD~K)uk(%|0%gh ZEY8oNHIS3peGA$Fv,)TTvwS
    5vWNar93B77b#hs=K6M9B0_n""".split()


def same_hash(n, value=1):
    return {begin + end: value for begin, end in itertools.islice(
        itertools.product(BEGINNINGS, ENDINGS), n)}


def nested(n, leaf=1):
    for _ in range(n):
        leaf = {"a": leaf}
    return leaf


def put(body, name, value):
    """Sets a key by its dotted name."""
    *outer, last = name.split(".")
    for key in outer:
        body = body.setdefault(key, {})
    body[last] = value


def leaves(schema, prefix=""):
    """The keys of a body and their types, including keys of nested objects."""
    schema = openapi.resolved(schema)
    if schema.get("type") == "object" and schema.get("properties"):
        for key, inner in schema["properties"].items():
            yield from leaves(inner, f"{prefix}{key}.")
    else:
        yield prefix[:-1], str(schema.get("type"))


ITEMS = {"children": lambda n: [f"{i:024x}" for i in range(n)]}


def of_body(operation):
    """The rows of the matrix for the described body."""
    for name, kind in leaves(openapi.content(operation.node["requestBody"])["schema"]):
        if "array" in kind:
            items = ITEMS.get(name, lambda n: [f"t{i}" for i in range(n)])
            yield f"items of {name}", 4000, lambda r, n, w, name=name, items=items: put(
                r.body, name, items(n))
        elif "object" in kind:
            yield f"keys of {name}", 4000, lambda r, n, w, name=name: put(
                r.body, name, keys(n))
            yield f"depth of {name}", 80, lambda r, n, w, name=name: put(
                r.body, name, nested(n))
            yield f"objects in {name}", 3000, lambda r, n, w, name=name: put(
                r.body, name, keys(n, {"a": 1}))
            yield f"text in {name}", 60000, lambda r, n, w, name=name: put(
                r.body, name, {"a": "\N{GRINNING FACE}" * (n // 4)})
        else:
            yield f"length of {name}", 100000, lambda r, n, w, name=name: put(
                r.body, name, "x" * n)
    yield "unknown keys", 8000, lambda r, n, w: r.body.update(
        {f"x{i}": 0 for i in range(n)})
    yield "unknown depth", 96, lambda r, n, w: r.body.update(x=nested(n))
    yield "unknown items", 16000, lambda r, n, w: r.body.update(x=[0] * n)
    yield "blanks", 100000, lambda r, n, w: setattr(r, "padding", " " * n)


def of_parameters(operation):
    for node in map(openapi.resolved, operation.node.get("parameters", [])):
        name = node["name"]
        if node["in"] == "query":
            yield f"length of {name}", 6000, lambda r, n, w, name=name: r.params.append(
                (name, "x" * n))
            yield f"number of {name}", 600, lambda r, n, w, name=name: r.params.extend(
                [(name, "x")] * n)
        elif node["in"] == "header":
            yield f"length of {name}", 6000, lambda r, n, w, name=name: r.headers.update(
                {name: "x" * n})
            yield f"items of {name}", 1500, lambda r, n, w, name=name: r.headers.update(
                {name: ",".join(['"1"'] * n)})
        else:
            yield f"length of {name}", 6000, lambda r, n, w: setattr(
                r, "path", f"{r.path.rpartition('/')[0]}/{'x' * n}")
    yield "unknown parameters", 600, lambda r, n, w: r.params.extend(
        (f"x{i}", "1") for i in range(n))


# --- Rows beyond the description -----------------------------------------------------------

def stored(w, fields):
    """The path of a new registration with these fields."""
    return f"{MOUNT}/" + created(w.admin, w.occurrence(), secrets.token_hex(8),
                                 fields=fields)["id"]


def change_stored(before, after):
    def change(r, n, w):
        r.path, r.body = stored(w, before(n)), {"fields": after(n)}
    return change


def list_rows(accept, limit):
    def change(r, n, w):
        if n not in w.lists:
            w.lists[n] = w.occurrence()
            insert_registrations(w.sql, w.lists[n], n, "'{\"a\": 1}'")
        r.params += [("occurrenceId", w.lists[n])] + [("limit", n)] * limit
        r.headers["Accept"] = accept
    return change


def categories(r, n, w):
    w.categories += [category_of(w.sql) for _ in range(n - len(w.categories))]
    r.params += [("categories", ",".join(w.categories[:n]))]


def known_children(r, n, w):
    school = w.institution()
    ids = [new_object_id() for _ in range(n)]
    w.sql("INSERT INTO children (id, username, institution_id, gender, age)"
          " SELECT id, id, %s, 'male', 7 FROM unnest(%s) AS id", school, ids)
    r.body.update(children=ids, institution_id=school)


EXTRA_ROWS = {
    "registerFamily": [("children that are known", 3000, known_children)],
    "createEventRegistration": [
        ("numbers in fields", 8000, lambda r, n, w: r.body.update(fields={"a": [1.5] * n}))],
    "updateEventRegistration": [
        ("keys that are changed", 4000, change_stored(keys, lambda n: keys(n, 2))),
        ("keys that have one hash", 1150, change_stored(
            same_hash, lambda n: same_hash(n, None))),
        ("keys that are removed", 4000, change_stored(keys, lambda n: keys(n, None))),
        ("keys that are added", 2500, change_stored(
            keys, lambda n: {f"m{i:05}": 1 for i in range(n)})),
        ("objects that are merged", 2000, change_stored(
            lambda n: keys(n, {"a": 1}), lambda n: keys(n, {"b": 1}))),
        ("depth that is merged", 80, change_stored(nested, lambda n: nested(n, 2)))],
    "getEventRegistration": [
        ("keys that are stored", 4000, lambda r, n, w: setattr(
            r, "path", stored(w, keys(n))))],
    "deleteEventRegistration": [
        ("keys that are stored", 4000, lambda r, n, w: setattr(
            r, "path", stored(w, keys(n))))],
    "searchEventRegistrations": [
        ("a page", 800, list_rows("application/json", 1)),
        ("a page as a table", 800, list_rows("text/csv", 1)),
        ("a whole table", 1600, list_rows("text/csv", 0)),
        ("all lines", 1600, list_rows("application/x-ndjson", 0)),
        ("categories that are known", 160, categories),
        ("length of search, good", 240, lambda r, n, w: r.params.append(
            ("search", "\N{GRINNING FACE}" * n)))],
}

# Rows whose request has to succeed, or the row would test nothing.
SUCCEED = ("keys that", "objects that", "depth that", "a page", "a whole", "all lines",
           "children that", "categories that", "keys of fields", "items of groupMember.tags",
           "keys of groupMember.attributes", "numbers in", "unknown keys", "blanks")


def matrix():
    for operation in openapi.OPERATIONS.values():
        rows = [of_parameters(operation), EXTRA_ROWS.get(operation.id, [])]
        if "requestBody" in operation.node:
            rows.append(of_body(operation))
        for name, size, change in itertools.chain(*rows):
            yield pytest.param(operation, size, change, name.startswith(SUCCEED),
                               id=f"{operation.id}-{name}")


MATRIX = list(matrix())


def test_each_operation_has_rows():
    assert set(GOOD) == set(openapi.OPERATIONS), "a new operation needs a valid request here"
    assert set(EXTRA_ROWS) <= set(openapi.OPERATIONS)
    names = {param.id for param in MATRIX}
    assert len(names) == len(MATRIX)
    for operation in openapi.OPERATIONS:
        assert sum(name.startswith(f"{operation}-") for name in names) >= 2


# --- Measuring -----------------------------------------------------------------------------

def processor_time(pids):
    """Nanoseconds of processor time of all threads of these processes."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                pass
    return total


def backends(postgres):
    """The backend processes of the module's role."""
    def serves(pid):
        try:
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:   # The process has ended.
            return False
        return line.startswith(b"postgres: registration ")
    return [pid for pid in faults.children(postgres.pid()) if serves(pid)]


def processor_times(w):
    return [processor_time(pids) for pids in (backends(w.database),
                                              faults.children(w.httpd.pid()))]


def send(w, operation, size, change, succeeds):
    """The processor time of one request, in PostgreSQL and in httpd."""
    path, body = GOOD[operation.id](w)
    request = types.SimpleNamespace(path=path, body=body, params=[], headers={}, padding="")
    change(request, size, w)
    if request.body is not None:
        request.headers["Content-Type"] = "application/json"
    data = None if request.body is None else (json.dumps(request.body) + request.padding)
    before = processor_times(w)
    answer = w.admin.request(operation.method, request.path, params=request.params,
                             headers=request.headers, data=data)
    cost = [after - earlier for earlier, after in zip(before, processor_times(w))]
    assert answer.status_code < (300 if succeeds else 500), answer.text[:300]
    return cost


def check_growth(w, operation, most, change, succeeds):
    """Compares the minimum of several runs for three sizes, less the cost of size 1."""
    costs = {size: [min(cost) for cost in zip(*(
        send(w, operation, size, change, succeeds) for _ in range(RUNS)))]
        for size in (1, most // FACTOR, most)}
    for side, name in enumerate(("PostgreSQL", "httpd")):
        least, small, large = (costs[size][side] for size in costs)
        assert large - least <= MOST * max(small - least, 0) + SLACK[side], \
            f"{name}: {least / 1e6:.1f}, {small / 1e6:.1f}, {large / 1e6:.1f} ms"


class GrowthTests(OnScratch):
    directives = "RegistrationPasswordCost 4\n"

    @pytest.fixture(scope="class")
    def kept(self):
        return types.SimpleNamespace(lists={}, categories=[])

    @pytest.fixture
    def w(self, kept, httpd, database, client, admin_token, live_session, group, institution,
          child, occurrence, sql):
        admin = client(admin_token)
        admin.is_described = False
        return types.SimpleNamespace(
            lists=kept.lists, categories=kept.categories, httpd=httpd, database=database,
            admin=admin, live_session=live_session, group=group, institution=institution,
            child=child, occurrence=occurrence, sql=sql)


class TestGrowth(GrowthTests):
    @pytest.mark.parametrize("operation, most, change, succeeds", MATRIX)
    def test_cost_grows_linearly_with_request(self, w, operation, most, change, succeeds):
        check_growth(w, operation, most, change, succeeds)


def check_is_detected(w, row, most):
    [param] = [one for one in MATRIX if one.id == f"updateEventRegistration-{row}"]
    operation, _, change, succeeds = param.values
    with pytest.raises(AssertionError, match="PostgreSQL"):
        check_growth(w, operation, most, change, succeeds)


class TestControlQuadraticInPostgres(GrowthTests):
    """A former version of the merging of fields, one key at a time."""

    broken = """
        CREATE OR REPLACE FUNCTION json_merge_patch(target jsonb, patch jsonb) RETURNS jsonb
        LANGUAGE plpgsql IMMUTABLE AS $$
        DECLARE
            member record;
        BEGIN
            IF jsonb_typeof(patch) <> 'object' THEN
                RETURN patch;
            END IF;
            IF target IS NULL OR jsonb_typeof(target) <> 'object' THEN
                target := '{}';
            END IF;
            FOR member IN SELECT m.key, m.value FROM jsonb_each(patch) AS m LOOP
                target := CASE WHEN member.value = 'null' THEN target - member.key
                    ELSE target || jsonb_build_object(member.key, json_merge_patch(
                        target -> member.key, member.value)) END;
            END LOOP;
            RETURN target;
        END $$;"""

    def test_control_quadratic_merge_is_detected(self, w, expect_log):
        expect_log("canceling statement due to user request")   # It may exceed the deadline.
        check_is_detected(w, "keys that are removed", 2000)


class TestControlHashJoin(GrowthTests):
    broken = "ALTER FUNCTION json_merge_patch SET enable_hashjoin = on"

    def test_control_hash_join_is_detected(self, w):
        check_is_detected(w, "keys that have one hash", 1150)


@pytest.mark.skipif(servers.is_sanitized(servers.MODULE),
                    reason="the tolerance for a sanitized httpd exceeds this cost")
class TestControlQuadraticInHttpd(GrowthTests):
    """Computes the length of the body again for each of its bytes."""

    changes = ("for (char *p = text; *p; p = (char *)end) {",
               "for (char *p = text; strlen(text) > (size_t)(p - text); p = (char *)end) {")

    def test_control_quadratic_parser_is_detected(self, w):
        [param] = [one for one in MATRIX if one.id == "createEventRegistration-blanks"]
        with pytest.raises(AssertionError, match="httpd"):
            check_growth(w, *param.values)
