/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_UTF8_H
#define REGISTRATION_UTF8_H

#include <apr.h>

/** UTF-8 (RFC 3629), for text that no JSON parser has validated. */

/** Decodes the code point at *text and moves *text to its end.
 *  @return the code point, or -1 for invalid bytes; then *text is unchanged. */
apr_int32_t reg_utf8_next(const char **text);

/** Whether the whole text is valid UTF-8. */
int reg_utf8_is_valid(const char *text);

#endif
