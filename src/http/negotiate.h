/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_NEGOTIATE_H
#define REGISTRATION_HTTP_NEGOTIATE_H

/** What a client says it would like to get: the headers Accept and Prefer. */

/**
 * The media type that a client likes best (RFC 9110, section 12.5.1).
 * @param accept the header Accept, or NULL.
 * @param types to choose from, like text/csv, up to a NULL.
 * @return the index of one of them: of those that are liked as much, and when none is
 *         acceptable of all, the first.
 */
int reg_accept_best(const char *accept, const char *const *types);

/**
 * Whether the header Prefer (RFC 7240), or NULL, asks for `return=minimal`. Of several
 * `return` the first counts; other preferences are not known here and mean nothing.
 */
int reg_prefer_minimal(const char *prefer);

#endif
