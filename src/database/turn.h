/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_DATABASE_TURN_H
#define REGISTRATION_DATABASE_TURN_H

#include <apr_time.h>

/**
 * Turns: the child processes of a machine send the batches of an operation that writes
 * one after the other, not at the same time. Two batches for the same row would wait for
 * each other in PostgreSQL; while a batch waits for its turn, it grows instead.
 *
 * A turn is a robust mutex in shared memory. It belongs to a database, an operation and a
 * part of the keys: all batches whose leader asks for the same key take the same turn,
 * and batches for different keys rarely, as they would wait for each other's commits. If
 * a process ends while it has a turn, killed or not, the next one takes it.
 *
 * A turn only saves work. So a batch does not wait for long: it is sent without a turn
 * after REG_TURN_TIME. Waiting threads are not in FIFO order.
 */
typedef struct reg_turn_t reg_turn_t;

/** The turns of a virtual host, or of one of its operations. */
typedef struct reg_turns_t {
    reg_turn_t *block; /* shared by all processes; NULL: no turns are taken */
    int count;         /* of each operation; 0: likewise */
    unsigned hash;     /* of the database, and the operation */
} reg_turns_t;

/** The most turns of an operation. */
#define REG_MOST_TURNS 64

/** The longest wait for a turn. A call takes some milliseconds, or the lock timeout. */
#define REG_TURN_TIME apr_time_from_msec(200)

/** The size in bytes of the memory of a block. */
apr_size_t reg_turns_size(void);

/**
 * Makes a block in shared memory, before processes are forked.
 * @return NULL if the system has no robust mutexes that processes can share.
 */
reg_turn_t *reg_turns_make(void *memory);

/** The turns of a virtual host. @param database names it. */
reg_turns_t reg_turns_of_host(reg_turn_t *block, int count, const char *database);

/** The turns of one of its operations. */
reg_turns_t reg_turns_of_operation(reg_turns_t host, const char *operation);

/** The turn of an operation's batches whose leader asks for a key; NULL if no turns are
 *  taken. */
reg_turn_t *reg_turns_find(const reg_turns_t *turns, const char *key);

/**
 * Takes a turn. The same thread gives it back.
 * @param has_waited set to whether another thread had it.
 * @return whether the turn was taken until that time, and within REG_TURN_TIME.
 */
int reg_turn_take(reg_turn_t *turn, apr_time_t until, int *has_waited);

/** Gives a taken turn back, and sets it to NULL. If it is NULL, does nothing. */
void reg_turn_give(reg_turn_t **turn);

#endif
