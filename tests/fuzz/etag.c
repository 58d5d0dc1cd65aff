/* SPDX-License-Identifier: Apache-2.0 */

/* Entity tags: a header, then the version and the body of which a tag is made. */

#include "fuzz.h"

#include "etag.h"

/* Whether a header has a strong tag whose first part is the version. */
static int is_named(apr_pool_t *pool, const char *header, const char *version)
{
    const char *tag = apr_pstrcat(pool, "\"", version, "-", NULL);

    for (const char *p = header; (p = strstr(p, tag)); p++) {
        if (p - header < 2 || strncmp(p - 2, "W/", 2) != 0) {
            return 1;
        }
    }
    return 0;
}

static void check_versions(apr_pool_t *pool, const char *header, const char *versions)
{
    char *rest, *copy = apr_pstrdup(pool, versions);

    for (char *version = strtok_r(copy, " ", &rest); version;
         version = strtok_r(NULL, " ", &rest)) {
        HOLDS(!version[strspn(version, "0123456789")]);
        HOLDS(is_named(pool, header, version));
    }
}

static void fuzz_one(apr_pool_t *pool, fuzz_input_t *input)
{
    const char *header = fuzz_line(pool, input);
    const char *version = apr_itoa(pool, (int)fuzz_choice(input, 256));
    const char *etag = reg_etag(pool, version, fuzz_rest(pool, input));
    const char *opaque = apr_pstrmemdup(pool, etag + 1, strlen(etag) - 2);
    const char *both = apr_pstrcat(pool, etag, ", ", header, NULL);
    const char *versions = reg_etag_versions(pool, header);
    int matches = reg_etag_matches(header, etag);

    HOLDS(!matches || strstr(header, opaque) || strchr(header, '*'));
    HOLDS(reg_etag_matches(both, etag));
    if (versions) {
        check_versions(pool, header, versions);
    }
    else {
        HOLDS(strchr(header, '*'));
    }
    versions = reg_etag_versions(pool, both);
    HOLDS(strncmp(versions, version, strlen(version)) == 0);
}
