/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_CSV_H
#define REGISTRATION_HTTP_CSV_H

#include <apr_pools.h>

/**
 * Fields of a table of comma-separated values (RFC 4180), which a spreadsheet shows and
 * does not run.
 *
 * What one could take for a formula, since it begins with = + - @ or their full-width
 * forms, with spaces or quotes before that or not, gets an apostrophe before it
 * (https://owasp.org/www-community/attacks/CSV_Injection): at the beginning of a text,
 * and also behind a semicolon, a bar, a tab or the end of a line in it, where a new field
 * begins for a spreadsheet that goes by another separator than the comma: quotes that
 * were opened before are none for it.
 */

#define REG_CSV_CONTENT_TYPE "text/csv; charset=utf-8; header=present"
/** What spreadsheets tell UTF-8 by. */
#define REG_CSV_BYTE_ORDER_MARK "\xEF\xBB\xBF"
#define REG_CSV_LINE_END "\r\n"

/** A text as a field; NULL gives an empty one. */
const char *reg_csv_field(apr_pool_t *pool, const char *text);

#endif
