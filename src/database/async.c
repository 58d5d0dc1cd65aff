/* SPDX-License-Identifier: Apache-2.0 */
#include "async.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

/* Waits until the connection can be read, or written if `writing`. @return 0 at the
 * deadline. */
static int wait_for_socket(PGconn *pg, int writing, apr_time_t deadline)
{
    struct pollfd fd = {.fd = PQsocket(pg),
                        .events = (short)(writing ? POLLIN | POLLOUT : POLLIN)};
    int ready;

    do {
        apr_time_t left = deadline - apr_time_now();

        /* Rounded up: otherwise the last millisecond is a busy loop. */
        ready = left > 0 ? poll(&fd, 1, (int)apr_time_as_msec(left) + 1) : 0;
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
}

int reg_async_is_busy_until(PGconn *pg, apr_time_t end)
{
    int writing = PQflush(pg);

    while (writing >= 0 && (writing || PQisBusy(pg))) {
        if (!wait_for_socket(pg, writing, end)) {
            return 1;
        }
        if (!PQconsumeInput(pg)) {
            break;
        }
        writing = PQflush(pg);
    }
    return 0;
}

/* The next result of a command; NULL after the last one or when the connection is lost.
 * At the deadline the socket is shut down: PQcancel() could wait for a server that does
 * not answer. */
static PGresult *receive_next(PGconn *pg, apr_time_t deadline)
{
    if (reg_async_is_busy_until(pg, deadline)) {
        shutdown(PQsocket(pg), SHUT_RDWR);
        return NULL;
    }
    return PQgetResult(pg);
}

PGresult *reg_async_receive(PGconn *pg, apr_time_t deadline)
{
    PGresult *result = NULL, *next;

    while ((next = receive_next(pg, deadline)) != NULL) {
        PQclear(result);
        result = next;
    }
    if (PQtransactionStatus(pg) != PQTRANS_IDLE) {
        PQclear(result);
        result = NULL;
    }
    return result;
}
