/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_API_EVENTS_FORMS_H
#define REGISTRATION_API_EVENTS_FORMS_H

#include "registration.h"

/** The media types of a list of event registrations. */
typedef enum {
    REG_FORM_JSON,  /* application/json: an array, as the operation returns it */
    REG_FORM_CSV,   /* text/csv: a table, with a row of headings */
    REG_FORM_NDJSON /* application/x-ndjson: an object a line */
} reg_form_t;

/** The media type that the request's Accept prefers. */
reg_form_t reg_form_wanted(const reg_request_t *request);

/** Sets the headers of a reply in a form. */
void reg_form_set_headers(reg_reply_t *reply, reg_form_t form);

/**
 * Converts items to a form.
 * @param array in JSON, one item a line.
 * @param begins whether these are the first items: a table starts with its headings.
 * @param last set to the last item; to NULL if there is none.
 */
const char *reg_form_items(apr_pool_t *pool, reg_form_t form, const char *array,
                           int begins, const char **last);

#endif
