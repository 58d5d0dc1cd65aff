/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_ETAG_H
#define REGISTRATION_HTTP_ETAG_H

#include <apr_pools.h>

/**
 * Entity tags in two parts, "<version>-<hash>": the version of the registration, which
 * each change raises, and a hash of the whole answer, which also shows data of other
 * tables (the occurrence's number of places in use). A read compares both parts. A write
 * compares only the version, so that another registration does not make it fail.
 */

/** The entity tag of an answer, quotes included. A tag without a version, which is NULL,
 * is never accepted by a write. */
const char *reg_etag(apr_pool_t *pool, const char *version, const char *body);

/**
 * Whether If-None-Match has the tag (RFC 9110, section 13.1.2): weak comparison, `*` is
 * any tag. The suffix of mod_deflate or mod_brotli, -gzip or -br, is ignored.
 */
int reg_etag_matches(const char *if_none_match, const char *etag);

/**
 * Whether If-Match holds for the tag (RFC 9110, section 13.1.1): it is NULL or `*`, or
 * has the tag by strong comparison. The suffix is ignored too.
 */
int reg_etag_holds(const char *if_match, const char *etag);

/**
 * The versions that If-Match accepts (RFC 9110, section 13.1.1), separated by blanks.
 * @return NULL for any version: no header, or `*`; "" if no tag of the header can match:
 *         weak tags never do.
 */
const char *reg_etag_versions(apr_pool_t *pool, const char *if_match);

/**
 * The versions that If-None-Match excludes (RFC 9110, section 13.1.2), separated by
 * blanks, of weak tags too.
 * @return NULL if there is no header; "*" for any version.
 */
const char *reg_etag_excluded(apr_pool_t *pool, const char *if_none_match);

#endif
