# SPDX-License-Identifier: Apache-2.0
"""Guards of the sources, each with the bug that it is there for and a copy that has it."""

import re

import pytest

import servers

CONFIG = servers.ROOT / "src" / "httpd"
REFERENCE = servers.ROOT / "conf" / "registration.conf"

# The state of a server or a child process, which no directive sets.
STATE = {"expires", "pool_key", "cache", "batching", "limiter", "hash_took", "metrics"}
# RegistrationHashing is for the main server only.
NOT_MERGED = {"most_hashing"}
# RegistrationAPI sets them to 1.
UNSET_IS_ZERO = {"mounted", "restricted", "needs_database"}
DEFAULTS_ELSEWHERE = {
    "api": "without it nothing is mounted", "mount": "set with api", "mount_uri": "set with api",
    "organization": "none", "organization_claims": "set with organization",
    "mounted": "0", "restricted": "0", "needs_database": "0",
    "log_key": "random_key in caller.c", "most_hashing": "count_default_slots() in hashing.c",
}


# --- Configuration members -----------------------------------------------------------------

def read(name):
    return (CONFIG / name).read_text()


def body(text, start):
    """The body of a function or a struct."""
    return text.split(start)[1].split("\n}")[0]


def members(header, struct):
    """The members of a struct, with whether each is a pointer."""
    lines = re.sub(r"/\*.*?\*/", "", body(header, f"typedef struct {struct} {{"), flags=re.S)
    found = {}
    for declaration in lines.split(";"):
        match = re.search(r"(\*?)(\w+)$", declaration.strip())
        if match:
            found[match[2]] = bool(match[1])
    return found


def faults(config, header, sources):
    """Incomplete members: members that are not unset, not merged or have no default."""
    for kind in ("dir", "server"):
        create = body(config, f"void *reg_{kind}_conf_create(")
        merge = body(config, f"void *reg_{kind}_conf_merge(")
        for name, is_pointer in members(header, f"reg_{kind}_conf_t").items():
            if name in STATE:
                continue
            if (not is_pointer and name not in UNSET_IS_ZERO
                    and f"conf->{name} = UNSET;" not in create):
                yield f"{name} is not unset"
            if name not in NOT_MERGED and not re.search(rf"conf->{name} =\s+inner->", merge):
                yield f"{name} is not merged"
            if name not in DEFAULTS_ELSEWHERE and not re.search(
                    rf"(conf->{name} != UNSET|conf->{name} \?)[^;]*:\s*DEFAULT_\w+"
                    rf"|conf->{name} < 0\) {{\s+conf->{name} = ",
                    sources):
                yield f"{name} has no default"


def sources():
    return "\n".join(path.read_text() for path in sorted(CONFIG.glob("*.c")))


def test_each_configuration_member_is_unset_merged_and_has_a_default():
    """The bug: a directive in the main server is without effect in a virtual host, as its
    member is missing in the merge; or 0 counts as set."""
    assert list(faults(read("config.c"), read("config.h"), sources())) == []


@pytest.mark.parametrize(("text", "other", "found"), [
    ("    conf->searches = UNSET;\n", "", "searches is not unset"),
    ("conf->groups_path = inner->groups_path ? inner->groups_path : outer->groups_path;", "",
     "groups_path is not merged"),
    ("conf->max_fields != UNSET ? conf->max_fields : DEFAULT_MAX_FIELDS", "conf->max_fields",
     "max_fields has no default"),
])
def test_configuration_member_without_one_of_them_is_noticed(text, other, found):
    config, every = read("config.c"), sources()
    assert text in config
    assert found in faults(config.replace(text, other), read("config.h"),
                           every.replace(text, other))


def test_new_configuration_member_is_noticed():
    header = read("config.h").replace("    int max_page_size;",
                                      "    int max_page_size;\n    int more;")
    assert list(faults(read("config.c"), header, sources())) == [
        "more is not unset", "more is not merged", "more has no default"]


# --- Directives ----------------------------------------------------------------------------

def defined(config):
    return re.findall(r'AP_INIT_TAKE1\(\s*"(\w+)"', config)


def described(reference):
    """The directives that have a paragraph: its first line is the syntax, the next ones have
    the default."""
    return re.findall(r"(?m)^# (Registration\w+)(?= \w)[^\n.]*\n#   Default: ", reference)


def differences(config, reference):
    named = set(re.findall(r"\bRegistration[A-Z]\w+", reference))
    return {*set(defined(config)) ^ set(described(reference)), *named - set(defined(config))}


def test_each_directive_is_described_and_each_described_one_exists():
    """The bug: the reference has a directive that was renamed, and lacks a new one."""
    assert differences(read("config.c"), REFERENCE.read_text()) == set()
    assert len(defined(read("config.c"))) == len(set(defined(read("config.c")))) > 10


@pytest.mark.parametrize(("text", "other", "found"), [
    ("# RegistrationTimeout seconds", "# RegistrationDeadline seconds",
     {"RegistrationTimeout", "RegistrationDeadline"}),
    ("#   Default: 131072", "#   131072", {"RegistrationMaxBody"}),
    ("#   How many family", "#   RegistrationPasswordPrice: how many family",
     {"RegistrationPasswordPrice"}),
])
def test_undescribed_or_unknown_directive_is_noticed(text, other, found):
    reference = REFERENCE.read_text()
    assert text in reference
    assert differences(read("config.c"), reference.replace(text, other)) == found


# --- Texts of errors -----------------------------------------------------------------------

def worded():
    """The sources that may not word an error, by their names."""
    return {str(path.relative_to(servers.ROOT)): path.read_text()
            for path in [*(servers.ROOT / "src").rglob("*.c"), servers.ROOT / "mod_registration.c"]
            if path.name != "reply.c"}


def errors_outside(texts):
    """The messages that are neither in reply.c nor in a table of an API: a message inside of a
    function stands in a line that sets it, and not in a row."""
    for name, text in texts.items():
        for match in re.finditer(r'\.message =\s*\\?\s*"', text):
            before = text[:match.start()]
            in_table = re.search(r"(?m)^(static )?const \w+ \w+(\[\])? = \{(?!.*^\})|^#define \w+",
                                 before[before.rfind("\n}\n") + 1:], re.S)
            is_rule = re.search(r"reg_rule_t rules\[\] = \{(?!.*\};)", before, re.S)
            if not name.startswith("src/api/") or not (in_table or is_rule):
                yield name
        if re.search(r'\\"message\\":', text):
            yield name


def test_errors_are_worded_in_reply_and_in_the_tables_of_the_apis():
    """The bug: the same error had two texts, as serve.c and error_filter.c worded it too."""
    assert list(errors_outside(worded())) == []


@pytest.mark.parametrize(("name", "text"), [
    ("src/http/serve.c", 'reg_error_t e = {.status = 400, .message = "No."};'),
    ("src/httpd/lists.c", 'return "{\\"message\\":\\"No.\\"}";'),
    ("src/api/live.c",
     '\n}\n\nstatic void f(void)\n{\n    error = (reg_error_t){.message = "No."};'),
])
def test_error_that_is_worded_elsewhere_is_noticed(name, text):
    assert list(errors_outside({name: worded()[name] + text})) == [name]
