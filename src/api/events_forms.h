/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_FORMS_H
#define REGISTRATION_API_EVENTS_FORMS_H

#include "registration.h"

/** The media types in which a list of event registrations can be had. */
typedef enum {
    REG_FORM_JSON,  /* application/json: an array, as the operation makes it */
    REG_FORM_CSV,   /* text/csv: a table, with a row of headings */
    REG_FORM_NDJSON /* application/x-ndjson: an object a line */
} reg_form_t;

/** The one that a client likes best, by the request's Accept. */
reg_form_t reg_form_wanted(const reg_request_t *request);

/** Sets the headers of a reply that is given in a form. */
void reg_form_set_headers(reg_reply_t *reply, reg_form_t form);

/**
 * Puts items into a form.
 * @param array of JSON, each item on a line of its own.
 * @param begins whether they are the first: a table has its headings before them.
 * @param last set to the last of them; to NULL when there is none.
 */
const char *reg_form_items(apr_pool_t *pool, reg_form_t form, const char *array,
                           int begins, const char **last);

#endif
