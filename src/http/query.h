/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_QUERY_H
#define REGISTRATION_HTTP_QUERY_H

#include "check.h"
#include "registration.h"

/**
 * The query string of a URL (application/x-www-form-urlencoded): names and values are
 * decoded, and + is a space. Unknown parameters are ignored; an invalid value of a known
 * parameter is a problem.
 */
typedef struct reg_query_t {
    apr_array_header_t
        *pairs; /* names and values in turn; NULL if it cannot be decoded */
    reg_problems_t *problems;
} reg_query_t;

/** Parses the query string of a request. The readers below add to the problems. */
void reg_query_parse(reg_query_t *query, const reg_request_t *request,
                     reg_problems_t *problems);

/** Whether a parameter is given, valid or not. */
int reg_query_has(const reg_query_t *query, const char *name);

/** The value of a parameter, in UTF-8; NULL if it is missing or invalid. Of several
 * values the last one counts. */
const char *reg_query_get(reg_query_t *query, const char *name, reg_check_t *check);

/** The value of a parameter, not checked; NULL if it is missing or not UTF-8. */
const char *reg_query_value(const reg_query_t *query, const char *name);

/** The values of a list: the name repeated, with or without [] or [N] after it, or values
 *  separated by commas. A list without values is a problem.
 *  @return array of const char *, empty if the parameter is missing. */
apr_array_header_t *reg_query_list(reg_query_t *query, const char *name,
                                   reg_check_t *check);

/** A flag: true, false, 1 or 0.
 *  @return "true" or "false"; "false" if it is missing or invalid. */
const char *reg_query_flag(reg_query_t *query, const char *name);

/**
 * Adds a problem for each parameter that is unknown and differs from a known name only in
 * case, _, - or a plural s. Otherwise a misspelt filter would be ignored, and the answer
 * would have rows that were to be filtered out.
 * @param names the known names, up to NULL; the name of a list has [] after it.
 */
void reg_query_refuse_misspelt(reg_query_t *query, const char *const *names);

/** A whole number from 1 to `most`; `otherwise` if it is missing or invalid. */
int reg_query_number(reg_query_t *query, const char *name, int most, int otherwise);

#endif
