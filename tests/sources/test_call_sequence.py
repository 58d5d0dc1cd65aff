# SPDX-License-Identifier: Apache-2.0
"""A registration calls the functions in the order that docs/architecture.md lists.

A copy of the module is compiled with -finstrument-functions, and tests/trace/function_calls.c
records each function that a thread enters or leaves, and each statement that it sends.

The bug that this is here for: a lower layer that calls back into a higher one, so that a reader
who follows a request goes in circles. The calls that matter go through function pointers, so
no reading of the source finds it.
"""

import itertools
import re
import shutil
import subprocess
import types

import pytest

import servers
from apis import good   # noqa: F401, a fixture
from changed import changed_copy, make

HANDLER = "mod_registration.c", "handler"
DOCUMENT = (servers.ROOT / "docs" / "architecture.md").read_text()

# Broken sources: the function that the linker replaces, the file that gets the replacement, and
# its text. The first calls from retry.c back into batch.c; the second calls utf8.c before
# idempotency.c.
DETOUR = "reg_execute", "src/database/batch.c", """
#include "execute.h"
reg_verdict_t __real_reg_execute(reg_connection_t *connection, const reg_call_t *call);
reg_verdict_t __wrap_reg_execute(reg_connection_t *connection, const reg_call_t *call)
{
    return __real_reg_execute(connection, call);
}
"""
EARLY = "reg_idempotency_values", "src/database/call.c", """
#include "utf8.h"
int __real_reg_idempotency_values(const reg_request_t *request, const reg_operation_t *operation,
                                  const char *const *values, const char **keyed);
int __wrap_reg_idempotency_values(const reg_request_t *request, const reg_operation_t *operation,
                                  const char *const *values, const char **keyed)
{
    reg_utf8_is_valid("");
    return __real_reg_idempotency_values(request, operation, values, keyed);
}
"""


# --- The document --------------------------------------------------------------------------

def printed_way(document):
    """The three lists of the document, as way() gives them."""
    def section(heading):
        return document.split(f"\n### {heading}\n")[1].split("\n#")[0]

    def steps(heading):
        return re.findall(r"(?m)^\d+\. `([^`]+)`", section(heading))

    return types.SimpleNamespace(
        way_in=steps("The way in"), way_out=steps("The way out"),
        stack=re.findall(r"(?m)^(\S+\.c) +(\w+)$", section("The call stack")))


# --- The trace -----------------------------------------------------------------------------

def build_traced(directory, *wrapped):
    """Builds the sources there into a module that writes its trace beside it."""
    wraps = " ".join(f"-Wl,--wrap={name}" for name in ("PQsendQueryPrepared", *wrapped))
    status, said = make(directory, "CFLAGS=-O1 -g -fno-inline -finstrument-functions",
                        f"LDFLAGS={wraps}")
    assert status == 0, said
    return directory / "build" / "mod_registration.so"


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    directory = tmp_path_factory.mktemp("traced") / "sources"
    changed_copy(directory)
    shutil.copy2(servers.ROOT / "tests" / "trace" / "function_calls.c",
                 directory / "src" / "database")
    return build_traced(directory)


def broken_module(directory, traced, function, path, replacement):
    """The traced module with a function replaced; only changed files are rebuilt."""
    shutil.copytree(traced.parent.parent, directory)
    with (directory / path).open("a") as source:
        source.write(replacement)
    traced_module = build_traced(directory, function)
    traced_module.with_suffix(".so.trace").unlink(missing_ok=True)
    return traced_module


def functions(module, addresses):
    """The file and the name of the function at each address."""
    printed = subprocess.run(["addr2line", "-f", "-e", module, *addresses], check=True,
                             text=True, stdout=subprocess.PIPE).stdout.splitlines()
    files = [re.search(r"/((src/\w+/|src/)?\w+\.[ch]):", line) for line in printed[1::2]]
    return {address: (file and file[1], name)
            for address, name, file in zip(addresses, printed[::2], files)}


def events(module):
    """Thread, event, file and function, in their order; of the module's own files only."""
    lines = [line.split() for line in
             module.with_suffix(".so.trace").read_text().splitlines()]
    names = functions(module, sorted({address for _, _, address in lines}))
    own = {str(path.relative_to(servers.ROOT)) for path in servers.ROOT.rglob("src/**/*.c")}
    for thread, event, address in lines:
        file, function = names[address]
        if event == "send" or file in own | {HANDLER[0]}:
            yield thread, event, file, function


def first_request(module):
    """The events of the thread that first sent a statement in the handler, from entering the
    handler to leaving it."""
    requests, depth = {}, {}
    for thread, event, file, function in events(module):
        if (file, function) == HANDLER and event == "enter":
            requests[thread], depth[thread] = [], 0
        if thread in requests:
            requests[thread].append((event, file, function))
            depth[thread] += {"enter": 1, "leave": -1, "send": 0}[event]
            if depth[thread] == 0:
                request = requests.pop(thread)
                if any(event == "send" for event, _, _ in request):
                    return request
    raise AssertionError("no request has sent a statement")


def runs(frames):
    """The first frame of each run of frames of one file."""
    return [next(group) for _, group in itertools.groupby(frames, lambda frame: frame[0])]


def way(request):
    """Files in the order in which they are first entered until the statement is sent; file
    and function where the stack goes from one file to the next at that moment; files in the
    order in which those on the stack return and new ones are entered after it."""
    entered, frames, stack, back = [], [], None, []
    for event, file, function in request:
        if event == "send":
            stack = list(frames)
        elif event == "enter":
            if stack and file not in entered:
                back.append((file, function))
            entered.append(file)
            frames.append((file, function))
        else:
            frame = frames.pop()
            if stack and len(frames) < len(stack) and stack[len(frames)] is frame:
                back.append(frame)
        if not stack:
            way_in = list(dict.fromkeys(entered))
    return types.SimpleNamespace(way_in=way_in, stack=runs(stack),
                                 way_out=[file for file, _ in runs(back)])


@pytest.fixture
def followed(start_httpd, client, token, good):
    """followed(module) traces a registration through the module."""
    def follow(module):
        httpd = start_httpd(registration=module, inside="RegistrationBatchSize 64")
        one = good("live")
        answer = client(token, httpd=httpd).post(one.path, json=one.body,
                                                 headers={"Idempotency-Key": "a-key"})
        assert answer.status_code == 201
        httpd.stop()
        return way(first_request(module))
    return follow


def check(followed_way, document=DOCUMENT):
    files = [file for file, _ in followed_way.stack]
    assert len(files) == len(set(files)), f"a file is twice on the stack: {files}"
    for name, printed in vars(printed_way(document)).items():
        assert getattr(followed_way, name) == printed, f"{name} is {getattr(followed_way, name)}"


# --- The tests -----------------------------------------------------------------------------

def test_registration_call_sequence_equals_document(traced, followed):
    one = followed(traced)
    check(one)
    for what, *swapped in (("way_in", "src/database/idempotency.c", "src/database/audit.c"),
                           ("way_out", "src/http/reply.c", "src/http/negotiate.c"),
                           ("stack", "src/database/batch.c ", "src/database/retry.c ")):
        with pytest.raises(AssertionError, match=f"{what} is"):
            check(one, swap(DOCUMENT, *swapped))


def swap(document, one, other):
    assert one in document and other in document
    return document.replace(one, "\0").replace(other, one).replace("\0", other)


@pytest.mark.parametrize("broken, what", [(DETOUR, "twice on the stack"), (EARLY, "way_in is")],
                         ids=["detour", "early"])
def test_control_changed_call_sequence_is_reported(traced, tmp_path, followed, broken,
                                                   what):
    one = followed(broken_module(tmp_path / "broken", traced, *broken))
    with pytest.raises(AssertionError, match=what):
        check(one)
