/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REGISTRATION_HTTP_ETAG_H
#define REGISTRATION_HTTP_ETAG_H

#include <apr_pools.h>

/**
 * Entity tags in two parts, "<version>-<hash>": the version of the registration itself,
 * raised by each change to it, and a hash of the whole answer, which also shows what is
 * not its own (how many places of the occurrence are held). A read compares all of it. A
 * write compares only the version, so that a neighbour's registration does not refuse an
 * update.
 */

/** The entity tag of an answer, quotes included. */
const char *reg_etag(apr_pool_t *pool, const char *version, const char *body);

/**
 * Whether If-None-Match names the tag (RFC 9110, section 13.1.2): weakly compared, `*` is
 * any. The suffix that mod_deflate or mod_brotli adds, -gzip or -br, does not count.
 */
int reg_etag_matches(const char *if_none_match, const char *etag);

/**
 * Whether If-Match holds for the tag (RFC 9110, section 13.1.1): there is none, it is
 * `*`, or it names the tag, strongly compared. The suffix does not count here either.
 */
int reg_etag_holds(const char *if_match, const char *etag);

/**
 * The versions that If-Match accepts (RFC 9110, section 13.1.1), separated by blanks.
 * @return NULL when any will do: no header, or `*`; "" when the header names none that
 *         could match: weak tags never do.
 */
const char *reg_etag_versions(apr_pool_t *pool, const char *if_match);

/**
 * The versions that If-None-Match excludes (RFC 9110, section 13.1.2), separated by
 * blanks; those of weak tags too.
 * @return NULL when there is no header; "*" for any.
 */
const char *reg_etag_excluded(apr_pool_t *pool, const char *if_none_match);

#endif
