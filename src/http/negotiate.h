/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_NEGOTIATE_H
#define REGISTRATION_HTTP_NEGOTIATE_H

/** Content negotiation: the headers Accept and Prefer. */

/**
 * The media type with the highest quality value (RFC 9110, section 12.5.1).
 * @param accept the header Accept, or NULL.
 * @param types the media types to choose from, up to NULL.
 * @return the index of a type: the first one with the highest quality value; 0 if no type
 *         is acceptable.
 */
int reg_accept_best(const char *accept, const char *const *types);

/**
 * Whether the header Prefer (RFC 7240), or NULL, has `return=minimal`. The first `return`
 * counts. Other preferences are ignored.
 */
int reg_prefer_minimal(const char *prefer);

#endif
