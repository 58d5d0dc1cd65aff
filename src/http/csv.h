/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_CSV_H
#define REGISTRATION_HTTP_CSV_H

#include <apr_pools.h>

/**
 * Fields of comma-separated values (RFC 4180) that a spreadsheet does not run as
 * formulas.
 *
 * A text that begins with = + - @ or their full-width forms, with or without spaces and
 * quotes before that, gets an apostrophe before it
 * (https://owasp.org/www-community/attacks/CSV_Injection). So does the same text after a
 * semicolon, a bar, a tab or the end of a line inside a field: there a spreadsheet with
 * another separator than the comma begins a new field, and ignores quotes opened earlier.
 */

#define REG_CSV_CONTENT_TYPE "text/csv; charset=utf-8; header=present"
/** The byte order mark, by which spreadsheets recognize UTF-8. */
#define REG_CSV_BYTE_ORDER_MARK "\xEF\xBB\xBF"
#define REG_CSV_LINE_END "\r\n"

/** A text as a field; NULL is an empty field. */
const char *reg_csv_field(apr_pool_t *pool, const char *text);

#endif
