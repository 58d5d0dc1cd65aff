# SPDX-License-Identifier: Apache-2.0
"""Families: POST /v1/families, with the error texts of the original service."""

import ctypes
import time

import pytest

import samples
from conftest import new_object_id
from samples import family

PATH = "/v1/families"
MISSING = object()

# Its error texts, letter for letter.
UNREADABLE = ("Unable to process request body.",
              "Please verify that the JSON provided in the request body has a valid format"
              " and try again.")
INVALID = "One or more request fields are invalid..."
INSTITUTION_FORMAT = ("Parameter {institution_id} is not in valid format!",
                      "A 24-byte hex ID similar to this: 507f191e810c19729de860ea is expected.")
CHILDREN_FORMAT = (INVALID,
                   "Children field contains invalid IDs. It is expected that each item in the"
                   " array is a 24-byte hex string like this: 507f191e810c19729de860ea")
CHILD_IDS_FORMAT = "The following IDs from children attribute are not in valid format: "
MISSING_FIELDS = "Required fields were not provided..."
CHILDREN_UNKNOWN = ("It is necessary for children to be registered before proceeding.",
                    "The following IDs were verified without registration: ")
INSTITUTION_UNKNOWN = ("The institution provided does not have a registration.",
                       "It is necessary that the institution be registered before trying again.")

NOT_STRINGS = [None, 1, 0.5, True, False, [], {}, ["x"]]


def assert_error(answer, status, message, description=None, **more):
    """Checks that it is this error, with its keys in this order."""
    expected = {"code": status, "message": message}
    if description:
        expected["description"] = description
    expected.update(more)
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        status, "application/json; charset=utf-8"), answer.text
    assert answer.json() == expected
    assert list(answer.json()) == list(expected)


@pytest.fixture
def school(institution, child):
    """The id of an institution, and the ids of two of its children."""
    made = institution()
    return made, [child(made, "BR0001", "female", 7), child(made, "BR0002", "male", 11)]


@pytest.fixture
def body(school):
    """body(username="x"): a good body with changes; MISSING removes a key."""
    def make(**changes):
        made = {**family(*school), **changes}
        return {key: value for key, value in made.items() if value is not MISSING}
    return make


@pytest.fixture
def post(admin):
    return lambda body: admin.post(PATH, json=body)


# --- Success -------------------------------------------------------------------------------

PAGE_BODY = """{
"username": "family01",
"password": "mys3cr3tp4ss",
"children": [
"5a62be07de34500146d9c544", "5a70be07de34500146d9c380"
],
"institution_id": "5a62be07de34500146d9c624"
}"""

# The body of the page's curl example, with its quoting corrected.
CURL_BODY = ('{"username":"family01","password":"mys3cr3tp4ss","children":'
             '["5a62be07de34500146d9c544","5a70be07de34500146d9c380"],'
             '"institution_id":"5a62be07de34500146d9c624"}')


@pytest.mark.parametrize("text", [PAGE_BODY, CURL_BODY])
def test_example_of_api_page(admin, sql, text):
    answer = admin.post(PATH, data=text, headers={
        "accept": "application/json", "Content-Type": "application/json"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    sql("SELECT remove_family(%s)", body["id"])
    assert body == {
        "id": body["id"], "username": "family01",
        "institution_id": "5a62be07de34500146d9c624",
        "children": [
            {"id": "5a62be07de34500146d9c544", "username": "BR0001",
             "institution_id": "5a62be07de34500146d9c624", "gender": "female", "age": 7},
            {"id": "5a70be07de34500146d9c380", "username": "BR0002",
             "institution_id": "5a62be07de34500146d9c624", "gender": "male", "age": 11}]}


def test_answer_has_all_keys_in_order(post, body, school):
    sent = body()
    answer = post(sent)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "Location" not in answer.headers
    made = answer.json()
    assert list(made) == ["id", "username", "institution_id", "children"]
    assert all(list(child) == ["id", "username", "institution_id", "gender", "age"]
               for child in made["children"])
    assert (made["username"], made["institution_id"]) == (sent["username"], school[0])


def test_ids_are_object_ids_with_current_time(post, body):
    made = [post(body()).json()["id"] for _ in range(2)]
    for id in made:
        assert len(id) == 24 and set(id) <= set("0123456789abcdef")
        assert time.time() - 60 < int(id[:8], 16) < time.time() + 1
    assert made[0] != made[1]


def test_children_are_returned_in_given_order(post, body, institution, child):
    """Also children of another institution, and children with a name only."""
    school = institution()
    children = [child(institution()), child(school, gender=None, age=None),
                *(child(school) for _ in range(5))]
    for order in (children, children[::-1], children[3:] + children[:3]):
        answer = post(body(children=order))
        assert [child["id"] for child in answer.json()["children"]] == order
    plain, = [child for child in answer.json()["children"] if child["id"] == children[1]]
    assert (plain["gender"], plain["age"]) == (None, None)


def test_duplicate_child_counts_once(post, body, school):
    first, second = school[1]
    answer = post(body(children=[second, first, second.upper(), second, first]))
    assert [child["id"] for child in answer.json()["children"]] == [second, first]


def test_ids_are_case_insensitive(post, body, school, sql):
    answer = post(body(children=[id.upper() for id in school[1]],
                       institution_id=school[0].upper()))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["institution_id"] == school[0]
    assert [child["id"] for child in made["children"]] == school[1]
    assert sql("SELECT institution_id FROM families WHERE id = %s", made["id"]) == [(school[0],)]


@pytest.mark.parametrize("text", [text for text in samples.TEXTS if samples.trimmed(text)])
def test_username_is_stored_trimmed_and_otherwise_exactly(post, body, text, sql):
    answer = post(body(username=text))
    assert answer.status_code == 201, answer.text
    assert answer.json()["username"] == samples.trimmed(text)
    assert sql("SELECT username FROM families WHERE id = %s", answer.json()["id"]) == [
        (samples.trimmed(text),)]
    assert sql("SELECT remove_family(%s)", answer.json()["id"]) == [(True,)]


@pytest.mark.parametrize("space", [" ", "\t\r\n\v\f", "\u00a0\u3000", "\u2028\ufeff\u1680",
                                   " " * 1000])
def test_username_is_trimmed_before_it_is_checked(post, body, space):
    """Also if it is too long or has control characters before."""
    name = f"{new_object_id()} x"
    for sent in (f"{space}{name}", f"{name}{space}", f"{space}{name}{space}"):
        answer = post(body(username=sent))
        if sent == f"{space}{name}":
            assert answer.status_code == 201, answer.text
            assert answer.json()["username"] == name
        else:
            assert_error(answer, 409, "Family is already registered...")
    assert post(body(username=space + "x" * 215 + new_object_id() + space)).status_code == 201
    for wrong, description in [("x" * 256, "Username must have at most 255 characters!"),
                               ("a\tb", "Username must not contain control characters!")]:
        assert_error(post(body(username=space + wrong + space)), 400, INVALID, description)


def test_other_space_characters_are_not_trimmed(post, body):
    for space in ("\u0085", "\u180e", "\u200b"):
        name = f"{space}{new_object_id()}{space}"
        assert post(body(username=name)).json()["username"] == name


def test_key_fingerprint_uses_trimmed_username(admin, body):
    sent = body()
    first, again = (admin.post(PATH, json={**sent, "username": name},
                               headers={"Idempotency-Key": sent["username"].split()[1]})
                    for name in (sent["username"], f"  {sent['username']} "))
    assert first.status_code == 201 and again.content == first.content


def test_unknown_keys_are_ignored(post, body):
    made = post(body(id="x", type="admin", password_hash="x", Username=1)).json()
    assert list(made) == ["id", "username", "institution_id", "children"]


# --- The password --------------------------------------------------------------------------

def bcrypt_accepts(password, stored):
    """The C library's own bcrypt, as an independent implementation."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    return crypt(password.encode(), stored.encode()) == stored.encode()


@pytest.mark.parametrize("password", [
    "mys3cr3tp4ss", " ", "x", "x" * 72, "é" * 36, "\U0001f600" * 18, "\u0001\u001f\u007f\t\n",
    "$2y$10$abcdefghijklmnopqrstuv", "pass\"word\\"])
def test_password_is_stored_as_bcrypt_hash(post, body, sql, password):
    answer = post(body(password=password))
    assert answer.status_code == 201, answer.text
    (stored,), = sql("SELECT password_hash FROM families WHERE id = %s", answer.json()["id"])
    assert stored.startswith(("$2y$10$", "$2b$10$", "$2a$10$")) and len(stored) == 60
    assert bcrypt_accepts(password, stored)
    assert not bcrypt_accepts(password[:-1] + "y", stored)
    assert stored not in answer.text and "password" not in answer.json()


def test_same_password_has_different_salts(post, body, sql):
    ids = [post(body()).json()["id"] for _ in range(2)]
    hashes = sql("SELECT password_hash FROM families WHERE id = ANY(%s)", ids)
    assert len(set(hashes)) == 2


def test_bcrypt_cost_is_set_by_directive(start_httpd, client, admin_token, body, sql):
    httpd = start_httpd(inside='<Location "/v1/families">\nRegistrationPasswordCost 5\n</Location>')
    answer = client(admin_token, httpd).post(PATH, json=body())
    (stored,), = sql("SELECT password_hash FROM families WHERE id = %s", answer.json()["id"])
    assert stored[3:7] == "$05$"


def test_password_is_in_no_log(start_httpd, client, admin_token, postgres, body):
    """Not even at the highest level, for successful and refused requests."""
    httpd = start_httpd(log_level="warn registration:trace8 dbd:trace8")
    admin = client(admin_token, httpd)
    password = new_object_id()
    for changes in ({}, {"children": [new_object_id()]}, {"institution_id": "x"},
                    {"username": ""}, {"children": []}):
        admin.post(PATH, json=body(password=password, **changes))
    admin.post(PATH, data='{"password": "%s", ' % password)
    assert password not in httpd.log.text() + postgres.log.text()


# --- 400: each error, letter for letter ----------------------------------------------------

@pytest.mark.parametrize("value", NOT_STRINGS)
def test_username_not_a_string_is_400(post, body, value):
    assert_error(post(body(username=value)), 400, INVALID, "username must be a string!")


@pytest.mark.parametrize("value", ["", " ", "   ", "\t", " \t\r\n ", "\u00a0 \u3000"])
def test_empty_username_is_400(post, body, value):
    assert_error(post(body(username=value)), 400, INVALID,
                 "Username must have at least one character!")


@pytest.mark.parametrize("value", samples.TOO_LONG)
def test_long_username_is_400(post, body, value):
    assert_error(post(body(username=value)), 400, INVALID,
                 "Username must have at most 255 characters!")


def test_control_characters_in_username_are_400(post, body):
    for value in samples.CONTROLS:
        if samples.trimmed(value) == value:
            assert_error(post(body(username=value)), 400, INVALID,
                         "Username must not contain control characters!")


@pytest.mark.parametrize("value", NOT_STRINGS)
def test_password_not_a_string_is_400(post, body, value):
    assert_error(post(body(password=value)), 400, INVALID, "password must be a string!")


def test_empty_password_is_400(post, body):
    assert_error(post(body(password="")), 400, INVALID,
                 "password must have at least one character!")


@pytest.mark.parametrize("value", ["x" * 73, "é" * 36 + "x", "\U0001f600" * 18 + "x", "x" * 9999])
def test_password_over_72_bytes_is_400(post, body, value):
    assert_error(post(body(password=value)), 400, INVALID, "password must have at most 72 bytes!")


@pytest.mark.parametrize("value", [
    *NOT_STRINGS, "", "x", "5a62be07de34500146d9c62", "5a62be07de34500146d9c6244",
    "5a62be07de34500146d9c62g", " 5a62be07de34500146d9c62", "5a62be07de34500146d9c624\n",
    "5a62be07de34500146d9c62４", "0x62be07de34500146d9c624", "5a62be07-de34-5001-46d9c624"])
def test_malformed_institution_id_is_400(post, body, value):
    assert_error(post(body(institution_id=value)), 400, *INSTITUTION_FORMAT)


@pytest.mark.parametrize("value", [None, 1, True, "x", "", {}, {"0": "x"},
                                   "5a62be07de34500146d9c544"])
def test_children_not_an_array_is_400(post, body, value):
    assert_error(post(body(children=value)), 400, INVALID, "children must be an array!")


@pytest.mark.parametrize("value", [None, 1, 0.5, True, [], {}, "",
                                   ["5a62be07de34500146d9c544"]])
def test_child_id_not_a_string_is_400(post, body, school, value):
    for children in ([value], [*school[1], value], [value, "x"], ["x", value]):
        assert_error(post(body(children=children)), 400, *CHILDREN_FORMAT)


@pytest.mark.parametrize("children, named", [
    (["5a62be07de34500146d9c5434", "5db05279fcfefe5c3de204971"],
     "5a62be07de34500146d9c5434, 5db05279fcfefe5c3de204971"),
    (["x"], "x"),
    (["z", "y", "x"], "z, y, x"),
    (["z", "5a62be07de34500146d9c544", "a"], "z, a"),
    (["z", "a", "z", "z", "a"], "z, a"),
    ([" "], " "),
    (["5a62be07de34500146d9c54 "], "5a62be07de34500146d9c54 "),
    (["5a62be07de34500146d9c54g"], "5a62be07de34500146d9c54g"),
    (['"', "\\", "</p>", "é", "\U0001f600"], '", \\, </p>, é, \U0001f600'),
    (["a,b"], "a,b"),
])
def test_malformed_child_ids_are_400(post, body, children, named):
    assert_error(post(body(children=children)), 400, INVALID, CHILD_IDS_FORMAT + named)


NAMES = {"username": "username", "password": "password", "institution_id": "institution",
         "children": "Collection with children IDs"}


@pytest.mark.parametrize("present", [
    [key for position, key in enumerate(NAMES) if bits >> position & 1] for bits in range(15)])
def test_missing_fields_are_400(post, body, present):
    missing = [name for key, name in NAMES.items() if key not in present]
    changes = dict.fromkeys(set(NAMES) - set(present), MISSING)
    assert_error(post(body(**changes)), 400, MISSING_FIELDS,
                 ", ".join(missing) + " are required!")


def test_missing_fields_example_of_api_page(post):
    assert_error(post({}), 400, MISSING_FIELDS,
                 "username, password, institution, Collection with children IDs are required!")


def test_empty_children_are_missing_field(post, body):
    assert_error(post(body(children=[])), 400, MISSING_FIELDS,
                 "Collection with children IDs are required!")


# --- Errors found by the database ----------------------------------------------------------

def test_taken_username_is_409(post, body):
    sent = body()
    assert post(sent).status_code == 201
    assert_error(post(sent), 409, "Family is already registered...")
    for same in (f" {sent['username']}", f"{sent['username']}\n"):
        assert_error(post({**sent, "username": same}), 409, "Family is already registered...")
    assert post(body(username=sent["username"].upper())).status_code == 201


def test_child_may_be_in_several_families(post, body, school):
    made = [post(body(children=children)).json()
            for children in (school[1], school[1][::-1], school[1][:1])]
    assert [[child["id"] for child in one["children"]] for one in made] == [
        school[1], school[1][::-1], school[1][:1]]


def test_username_of_child_is_free_for_family(post, body, child, school):
    name = f"child {new_object_id()}"
    child(school[0], name)
    assert post(body(username=name)).status_code == 201


def test_unknown_children_are_400(post, body, school):
    unknown = [new_object_id() for _ in range(3)]
    for children, named in [(unknown, unknown), (unknown[::-1], unknown[::-1]),
                            ([school[1][0], unknown[0], school[1][1]], unknown[:1]),
                            ([unknown[0].upper(), unknown[0], unknown[1]], unknown[:2]),
                            (school[:1], school[:1])]:
        message, description = CHILDREN_UNKNOWN
        assert_error(post(body(children=children)), 400, message,
                     description + ", ".join(named))


def test_many_unknown_children_are_all_named(post, body):
    unknown = [new_object_id() for _ in range(3000)]
    message, description = CHILDREN_UNKNOWN
    assert_error(post(body(children=unknown)), 400, message, description + ", ".join(unknown))


def test_unknown_institution_is_400(post, body, school):
    for institution in (new_object_id(), school[1][0]):
        assert_error(post(body(institution_id=institution)), 400, *INSTITUTION_UNKNOWN)


def test_refused_request_does_not_take_username(post, body):
    sent = body()
    for wrong in ({"children": [new_object_id()]}, {"institution_id": new_object_id()}):
        assert post({**sent, **wrong}).status_code == 400
    assert post(sent).status_code == 201


# --- Order of checks -----------------------------------------------------------------------

def test_first_error_in_order_is_reported(post, body, school):
    """A body with all errors, corrected one at a time."""
    taken = body()
    assert post(taken).status_code == 201
    unknown = new_object_id()
    sent = {"username": 1, "password": 1, "institution_id": "x", "children": "x"}
    cases = [
        ({}, (400, INVALID, "username must be a string!")),
        ({"username": " "}, (400, INVALID, "Username must have at least one character!")),
        ({"username": "\u0001" * 256},
         (400, INVALID, "Username must have at most 255 characters!")),
        ({"username": "\u0001"},
         (400, INVALID, "Username must not contain control characters!")),
        ({"username": taken["username"]}, (400, INVALID, "password must be a string!")),
        ({"password": ""}, (400, INVALID, "password must have at least one character!")),
        ({"password": "x" * 73}, (400, INVALID, "password must have at most 72 bytes!")),
        ({"password": "x"}, (400, *INSTITUTION_FORMAT)),
        ({"institution_id": unknown}, (400, INVALID, "children must be an array!")),
        ({"children": ["x", ""]}, (400, *CHILDREN_FORMAT)),
        ({"children": ["x", unknown]}, (400, INVALID, CHILD_IDS_FORMAT + "x")),
        ({"children": []}, (400, MISSING_FIELDS, "Collection with children IDs are required!")),
        ({"children": [unknown]}, (409, "Family is already registered...")),
        ({"username": taken["username"] + "2"},
         (400, CHILDREN_UNKNOWN[0], CHILDREN_UNKNOWN[1] + unknown)),
        ({"children": school[1]}, (400, *INSTITUTION_UNKNOWN)),
    ]
    for change, error in cases:
        sent.update(change)
        assert_error(post(sent), *error)
    assert post({**sent, "institution_id": school[0]}).status_code == 201


@pytest.mark.parametrize("lacking, wrong, error", [
    ("username", {"password": 1}, (INVALID, "password must be a string!")),
    ("username", {"institution_id": "x"}, INSTITUTION_FORMAT),
    ("username", {"children": 1}, (INVALID, "children must be an array!")),
    ("password", {"children": [""]}, CHILDREN_FORMAT),
    ("institution_id", {"children": ["x"]}, (INVALID, CHILD_IDS_FORMAT + "x")),
])
def test_invalid_field_is_reported_before_missing_field(post, body, lacking, wrong, error):
    assert_error(post(body(**{lacking: MISSING}, **wrong)), 400, *error)


@pytest.mark.parametrize("octets", [
    b"", b" ", b"[]", b"[{}]", b"null", b'"x"', b"1", b"{", b'{"username": "x"', b"{}x", b"{ ... }",
    b'{"username": "x", "username": "x"}', b'{"username": "\\u0000"}', b'{"username": "\xff"}',
    b"{username:family01,password:mys3cr3tp4ss}"])
def test_malformed_json_is_400(admin, octets):
    """The last is the page's curl example, as a shell parses its quotes."""
    assert_error(admin.post(PATH, data=octets), 400, *UNREADABLE)


# --- Authentication and authorization ------------------------------------------------------

def test_missing_or_invalid_token_is_401(anonymous, client, issuer, body):
    lack = "Authentication failed for lack of authentication credentials."
    issues = "Authentication failed due to access token issues."
    for caller, headers, description in [
            (anonymous, {}, lack),
            (anonymous, {"Authorization": "Basic eDp5"}, lack),
            (client("nonsense"), {}, issues),
            (client(issuer.token("admin", -60, scope="families:create")), {}, issues)]:
        answer = caller.post(PATH, json=body(), headers=headers)
        assert_error(answer, 401, "UNAUTHORIZED", description, redirect_link="/auth")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_missing_scope_is_403(api, body):
    for sent in (body(), {}):
        assert_error(api.post(PATH, json=sent), 403, "FORBIDDEN",
                     "Authorization failed due to insufficient permissions.")


# --- Removal by an administrator -----------------------------------------------------------

@pytest.mark.parametrize("by", ["id", "username"])
def test_remove_family_deletes_it_and_frees_username(post, body, sql, by):
    sent = body()
    made = post(sent).json()
    assert sql("SELECT remove_family(%s)", made[by]) == [(True,)]
    assert sql("SELECT 1 FROM family_children WHERE family_id = %s", made["id"]) == []
    assert sql("SELECT remove_family(%s)", made[by]) == [(False,)]
    assert post(sent).json()["id"] != made["id"]


def test_remove_family_keeps_other_families(post, body, sql):
    """Also a family whose username is another's id."""
    first = post(body()).json()
    second = post(body(username=first["id"])).json()
    sql("SELECT remove_family(%s)", first["id"])
    assert sql("SELECT id FROM families WHERE id = ANY(%s)", [first["id"], second["id"]]) == [
        (second["id"],)]
    assert len(sql("SELECT 1 FROM family_children WHERE family_id = %s", second["id"])) == 2
    sql("SELECT remove_family(%s)", first["id"])
    assert sql("SELECT 1 FROM families WHERE id = %s", second["id"]) == []
