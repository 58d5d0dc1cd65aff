/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_QUERY_H
#define REGISTRATION_HTTP_QUERY_H

#include "check.h"
#include "registration.h"

/**
 * The query string of a URL, as HTML forms write it (application/x-www-form-urlencoded):
 * names and values decoded, + a space. Unknown names are nobody's business here; a known
 * one that is wrong becomes a problem.
 */
typedef struct reg_query_t {
    apr_array_header_t
        *pairs; /* of name, value alternating; value NULL when undecodable */
    reg_problems_t *problems;
} reg_query_t;

/** Parses the query string of a request. What is wrong is added to the problems. */
void reg_query_parse(reg_query_t *query, const reg_request_t *request,
                     reg_problems_t *problems);

/** Whether a parameter is given, right or wrong. */
int reg_query_has(const reg_query_t *query, const char *name);

/** The value of a parameter, UTF-8, that passes a check; NULL when missing or wrong. The
 *  last one counts where a name is given more than once. */
const char *reg_query_get(reg_query_t *query, const char *name, reg_check_t *check);

/** The value of a parameter, not checked; NULL when it is missing or no UTF-8. */
const char *reg_query_value(const reg_query_t *query, const char *name);

/** The values of a list, of which there has to be one: the name repeated, the name with
 * [] or [N] behind it, commas between.
 *  @return of const char *, empty when the parameter is missing. */
apr_array_header_t *reg_query_list(reg_query_t *query, const char *name,
                                   reg_check_t *check);

/** A flag: true, false, 1, 0. @return "true" or "false"; "false" when missing or wrong.
 */
const char *reg_query_flag(reg_query_t *query, const char *name);

/**
 * Adds a problem for each name in the query that is none of these, but differs from one
 * in case, _, - or a plural s only: a filter that silently does not filter would show
 * rows that were not asked for.
 * @param names up to NULL; that of a list has [] behind it.
 */
void reg_query_refuse_misspelt(reg_query_t *query, const char *const *names);

/** A whole number from 1 to `most`; `otherwise` when missing or wrong. */
int reg_query_number(reg_query_t *query, const char *name, int most, int otherwise);

#endif
