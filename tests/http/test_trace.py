# SPDX-License-Identifier: Apache-2.0
"""One registration, followed through the source, takes the way that docs/architecture.md prints.

A copy of the module is compiled with -finstrument-functions, and tests/trace/trace.c records
each function that a thread enters or leaves, and each statement that it sends.

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
from changed import change_text, changed_copy, make

HANDLER = "mod_registration.c", "handler"
DOCUMENT = (servers.ROOT / "docs" / "architecture.md").read_text()

# retry.c goes back to batch.c, which makes the call.
DETOUR = ('#include "retry.h"\n\n#include <apr_general.h>',
          '#include "retry.h"\n\n#include "batch.h"\n\n#include <apr_general.h>',
          "verdict = reg_execute(*call->held, call);",
          "verdict = reg_batch_call(*call->held, call);",
          "int reg_batch_prepare(void *batch, apr_time_t start_by);",
          "int reg_batch_prepare(void *batch, apr_time_t start_by);\n"
          "reg_verdict_t reg_batch_call(reg_connection_t *one, const reg_call_t *call);",
          "int reg_batch_prepare(void *data, apr_time_t start_by)\n{",
          "reg_verdict_t reg_batch_call(reg_connection_t *one, const reg_call_t *call)\n"
          "{\n    return reg_execute(one, call);\n}\n\n"
          "int reg_batch_prepare(void *data, apr_time_t start_by)\n{")

# batching.c looks for a locked key before it looks for the queues.
EARLY = ("    apr_thread_mutex_lock(batching->mutex);\n    queues = find_queues",
         "    reg_locked_keys_has(reg_locked_keys_make(pool), \"\");\n"
         "    apr_thread_mutex_lock(batching->mutex);\n    queues = find_queues")


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

def build_traced(directory):
    """Builds the sources there into a module that writes its trace beside it."""
    flags = "-O1 -g -fno-inline -finstrument-functions"
    status, said = make(directory, f"CFLAGS={flags}", "LDFLAGS=-Wl,--wrap=PQsendQueryPrepared")
    assert status == 0, said
    return directory / "build" / "mod_registration.so"


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    directory = tmp_path_factory.mktemp("traced") / "sources"
    changed_copy(directory)
    shutil.copy2(servers.ROOT / "tests" / "trace" / "trace.c", directory / "src" / "database")
    return build_traced(directory)


def changed_traced(directory, traced, *changes):
    """The traced module with texts of its sources changed; the rest is not built again."""
    shutil.copytree(traced.parent.parent, directory)
    for text, other in zip(changes[::2], changes[1::2], strict=True):
        change_text(directory, text, other)
    return build_traced(directory)


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
    """followed(module): the way of a registration through it."""
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
    printed = printed_way(document)
    assert followed_way.stack == printed.stack
    files = [file for file, _ in followed_way.stack]
    assert len(files) == len(set(files)), "a file occurs twice on the stack"
    assert followed_way.way_in == printed.way_in
    assert followed_way.way_out == printed.way_out


# --- The tests -----------------------------------------------------------------------------

def test_registration_takes_the_way_of_the_document(traced, followed):
    one = followed(traced)
    check(one)
    for swapped in (("src/database/idempotency.c", "src/database/audit.c"),
                    ("src/http/reply.c", "src/http/negotiate.c"),
                    ("src/database/batch.c  ", "src/database/retry.c  ")):
        with pytest.raises(AssertionError):
            check(one, swap(DOCUMENT, *swapped))


def swap(document, one, other):
    assert one in document and other in document
    return document.replace(one, "\0").replace(other, one).replace("\0", other)


@pytest.mark.parametrize("changes", [DETOUR, EARLY], ids=["detour", "early"])
def test_registration_on_another_way_is_noticed(traced, tmp_path, followed, changes):
    one = followed(changed_traced(tmp_path / "changed", traced, *changes))
    with pytest.raises(AssertionError):
        check(one)
