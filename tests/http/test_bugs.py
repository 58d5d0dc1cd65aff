# SPDX-License-Identifier: Apache-2.0
"""What a caller is told when an operation fails in a way nobody has thought of."""

from apis import check_error, each_api, good
from scratch import OnScratch


class TestBug(OnScratch):
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

    def test_it_is_500_and_tells_nothing(self, admin, good, each_api, expect_log):
        expect_log(r"REG03\d\d", r"ERROR:  confidential")
        registration = good(each_api)
        answer = admin.post(registration.path, json=registration.body)
        check_error(answer, each_api, 500)
        for inside in ("confidential", "P0001", "SQL", "function", "operation"):
            assert inside not in answer.text
