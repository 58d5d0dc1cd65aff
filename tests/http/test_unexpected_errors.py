# SPDX-License-Identifier: Apache-2.0
"""The answer to an unexpected error of an operation."""

from apis import check_error, each_api, good
from scratch import OnScratch


class TestUnexpectedError(OnScratch):
    broken = """
        DO $$
        DECLARE
            operation regprocedure;
        BEGIN
            FOR operation IN SELECT oid FROM pg_proc
                              WHERE pronamespace = 'registration'::regnamespace
                                AND has_function_privilege('registration', oid, 'EXECUTE')
                                AND proname <> 'schema_version'
            LOOP
                EXECUTE regexp_replace(pg_get_functiondef(operation), 'AS \\$function\\$.*',
                    'AS $body$ BEGIN RAISE EXCEPTION $text$confidential$text$; END $body$');
            END LOOP;
        END
        $$;
    """

    def test_answer_is_500_without_internal_details(self, admin, good, each_api,
                                                    expect_log):
        expect_log(r"REG03\d\d", r"ERROR:  confidential")
        registration = good(each_api)
        answer = admin.post(registration.path, json=registration.body)
        check_error(answer, each_api, 500)
        for detail in ("confidential", "P0001", "SQL", "function", "operation"):
            assert detail not in answer.text
