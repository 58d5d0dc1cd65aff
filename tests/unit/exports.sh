#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The module exports its record and nothing else, or a name of its own could meet the same
# name in httpd or in another module:
#
#     sh tests/unit/exports.sh build/mod_registration.so
exported=$(nm -D --defined-only "$1" | cut -d ' ' -f 3)
[ "$exported" = registration_module ] && exit
echo "$1 must export registration_module alone, and exports:" >&2
echo "$exported" >&2
exit 1
