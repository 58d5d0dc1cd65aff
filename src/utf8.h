/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_UTF8_H
#define REGISTRATION_UTF8_H

#include <apr.h>

/** UTF-8 (RFC 3629), for text that no JSON parser has seen. */

/** Decodes the code point at *text and moves *text behind it.
 *  @return the code point; -1 for bytes that are not UTF-8, where *text stays. */
apr_int32_t reg_utf8_next(const char **text);

/** Whether the whole text is UTF-8. */
int reg_utf8_is_valid(const char *text);

#endif
