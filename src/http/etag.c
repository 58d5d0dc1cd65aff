/* SPDX-License-Identifier: Apache-2.0 */
#include "etag.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <string.h>

/* One entity tag of a list. */
typedef struct {
    const char *start; /* after the opening quote */
    apr_size_t
        length; /* up to the closing quote, without a compressing filter's suffix */
    int weak;
} tag_t;

static apr_size_t skip_suffix(const char *tag, apr_size_t length)
{
    static const char *const suffixes[] = {"-gzip", "-br"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        apr_size_t end = strlen(suffixes[i]);

        if (length > end && memcmp(tag + length - end, suffixes[i], end) == 0) {
            return length - end;
        }
    }
    return length;
}

/* Reads the next tag of a list and goes to its end. @return 0 if there is none. */
static int read_tag(const char **list, tag_t *tag)
{
    const char *p = *list + strspn(*list, ", \t");
    const char *end;

    tag->weak = p[0] == 'W' && p[1] == '/';
    p += tag->weak ? 2 : 0;
    end = *p == '"' ? strchr(p + 1, '"') : NULL;
    if (!end) {
        return 0;
    }
    tag->start = p + 1;
    tag->length = skip_suffix(tag->start, (apr_size_t)(end - tag->start));
    *list = end + 1;
    return 1;
}

static int is_any_tag(const char *list)
{
    return strcmp(list + strspn(list, " \t"), "*") == 0;
}

/* MurmurHash64A, by Austin Appleby: eight bytes at a time. It only has to tell a changed
 * answer: SipHash took a sixth of the instructions that httpd executes for a GET. */
static apr_uint64_t hash_body(const char *body)
{
    const apr_uint64_t prime = 0xC6A4A7935BD1E995U;
    apr_size_t left = strlen(body);
    apr_uint64_t hash = left * prime, word;

    for (; left >= sizeof(word); left -= sizeof(word), body += sizeof(word)) {
        memcpy(&word, body, sizeof(word));
        word *= prime;
        word ^= word >> 47;
        hash = (hash ^ word * prime) * prime;
    }
    if (left > 0) {
        word = 0;
        memcpy(&word, body, left);
        hash = (hash ^ word) * prime;
    }
    hash = (hash ^ hash >> 47) * prime;
    return hash ^ hash >> 47;
}

/* Without apr_psprintf(), which takes longer than the hash. */
const char *reg_etag(apr_pool_t *pool, const char *version, const char *body)
{
    apr_size_t length = version ? strlen(version) : 0;
    apr_uint64_t hash = hash_body(body);
    char *etag = apr_palloc(pool, length + 2 * sizeof(hash) + sizeof("\"-\""));
    char *end = etag;

    *end++ = '"';
    if (length > 0) {
        end = (char *)memcpy(end, version, length) + length;
    }
    *end++ = '-';
    for (int shift = 60; shift >= 0; shift -= 4) {
        *end++ = "0123456789abcdef"[hash >> shift & 15];
    }
    *end++ = '"';
    *end = '\0';
    return etag;
}

/* Whether a list has the tag, or is `*`. @param weak_too whether weak tags count. */
static int has_tag(const char *list, const char *etag, int weak_too)
{
    apr_size_t length = strlen(etag) - 2;
    tag_t tag;

    if (is_any_tag(list)) {
        return 1;
    }
    while (read_tag(&list, &tag)) {
        if ((weak_too || !tag.weak) && tag.length == length
            && memcmp(tag.start, etag + 1, length) == 0) {
            return 1;
        }
    }
    return 0;
}

int reg_etag_matches(const char *if_none_match, const char *etag)
{
    return if_none_match && has_tag(if_none_match, etag, 1);
}

int reg_etag_holds(const char *if_match, const char *etag)
{
    return !if_match || has_tag(if_match, etag, 0);
}

/* The versions in a list of tags, separated by blanks. */
static const char *list_versions(apr_pool_t *pool, const char *list, int weak_too)
{
    apr_array_header_t *versions = apr_array_make(pool, 1, sizeof(const char *));
    tag_t tag;

    while (read_tag(&list, &tag)) {
        apr_size_t digits = strspn(tag.start, "0123456789");

        if ((weak_too || !tag.weak) && digits > 0 && digits < tag.length
            && tag.start[digits] == '-') {
            APR_ARRAY_PUSH(versions, const char *) =
                apr_pstrmemdup(pool, tag.start, digits);
        }
    }
    return apr_array_pstrcat(pool, versions, ' ');
}

const char *reg_etag_versions(apr_pool_t *pool, const char *if_match)
{
    return !if_match || is_any_tag(if_match) ? NULL : list_versions(pool, if_match, 0);
}

const char *reg_etag_excluded(apr_pool_t *pool, const char *if_none_match)
{
    if (!if_none_match) {
        return NULL;
    }
    return is_any_tag(if_none_match) ? "*" : list_versions(pool, if_none_match, 1);
}
