/* SPDX-License-Identifier: Apache-2.0 */
#include "addresses.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Counts the addresses of a host as libpq resolves it. */
static int resolve_host(const char *host)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int count = 0;

    if (getaddrinfo(host, NULL, &hints, &list) == 0) {
        for (const struct addrinfo *one = list; one; one = one->ai_next) {
            count++;
        }
        freeaddrinfo(list);
    }
    return count;
}

/* Reads a number from the pipe; 0 if none comes in time. */
static int read_count(int fd, apr_interval_time_t timeout)
{
    const apr_time_t deadline = apr_time_now() + timeout;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int count = 0, rv;

    do {
        apr_time_t left = deadline - apr_time_now();

        rv = poll(&ready, 1, left > 0 ? (int)apr_time_as_msec(left) + 1 : 0);
    } while (rv < 0 && errno == EINTR);
    return rv > 0 && read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count
                                                                               : 0;
}

int reg_addresses_count(const char *host, apr_interval_time_t timeout)
{
    int ends[2], count;
    pid_t child;

    if (pipe(ends) != 0) {
        return 0;
    }
    child = fork();
    if (child == 0) {
        count = resolve_host(host);
        _exit(write(ends[1], &count, sizeof(count)) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
    }
    close(ends[1]);
    count = child > 0 ? read_count(ends[0], timeout) : 0;
    close(ends[0]);
    if (child > 0) {
        kill(child, SIGKILL);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    return count;
}
