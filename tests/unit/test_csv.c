/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "csv.h"

static void text_with_formula_is_escaped(void **state)
{
    static const struct {
        const char *text, *field;
    } rows[] = {
        {NULL, ""},
        {"", "\"\""},
        {"Jane", "\"Jane\""},
        {"O'Neill, \"Jane\"", "\"O'Neill, \"\"Jane\"\"\""},
        {"\"", "\"\"\"\""},
        {"one\r\ntwo", "\"one\r\ntwo\""},
        {"\xC3\x89", "\"\xC3\x89\""},
        {"{\"a\": 1}", "\"{\"\"a\"\": 1}\""},
        {"2025-01-01T00:00:00.000Z", "\"2025-01-01T00:00:00.000Z\""},
        {"a=1", "\"a=1\""},
        {"jane@example.org", "\"jane@example.org\""},
        {" ", "\" \""},

        {"=1+1", "\"'=1+1\""},
        {"=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""},
        {"+1", "\"'+1\""},
        {"-1", "\"'-1\""},
        {"@SUM(A1)", "\"'@SUM(A1)\""},
        {"  =1", "\"'  =1\""},
        {"\t=1", "\"\t'=1\""},
        {"\r\n=1", "\"\r\n'=1\""},
        {"a;=1", "\"a;'=1\""},
        {"a; @x;b", "\"a;' @x;b\""},
        {"a\n-b\n- c", "\"a\n'-b\n'- c\""},
        {";;", "\";;\""},
        {";\"=", "\";'\"\"=\""},
        {"a;\"=1+1;b", "\"a;'\"\"=1+1;b\""},
        {"a|\" \"@x", "\"a|'\"\" \"\"@x\""},
        {"a|b|-1", "\"a|b|'-1\""},
        {"a\t\"\"+1", "\"a\t'\"\"\"\"+1\""},
        {"\"=1", "\"'\"\"=1\""},
        {"[1, -1, \";\", \"|\", -2]", "\"[1, -1, \"\";\"\", \"\"|\"\", -2]\""},
        {"\uff1d1", "\"'\uff1d1\""},
        {"\uff0b1", "\"'\uff0b1\""},
        {"\uff0d1", "\"'\uff0d1\""},
        {"\uff20x", "\"'\uff20x\""},
        {"'=1", "\"'=1\""}, /* shown with its own */
    };

    for (size_t i = 0; i < LENGTH(rows); i++) {
        assert_text(rows[i].text ? rows[i].text : "none",
                    reg_csv_field(*state, rows[i].text), rows[i].field);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(text_with_formula_is_escaped),
    };

    return RUN_TESTS(tests);
}
