/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_PREFER_H
#define REGISTRATION_PREFER_H

/**
 * Whether the header Prefer (RFC 7240), or NULL, asks for `return=minimal`. Of several
 * `return` the first counts; other preferences are not known here and mean nothing.
 */
int reg_prefer_minimal(const char *prefer);

#endif
