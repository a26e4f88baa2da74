# make            the library and the program framefd (target/release), and the C examples
#                 (target/examples)
# make static     the program as one file that needs nothing on a machine
# make wheel      the Python package with the library and that program, in target/wheels; pip
#                 installs it, and the command framefd with it
# make demo       runs every example program against every other, in C and in Python
# make quick      what finds most mistakes, in less than a minute
# make check T=NAME
#                 the tests whose name has NAME in it, in Rust, C and Python
# make test       every test that decides whether a change may land, in ten minutes
# make test-long  what takes longer: every Python that is installed, musl, more cases
# make soak       ten minutes of a server under load, with its figures: SOAK=SECONDS
# make bench      framefd beside the limits and its peers: QUICK=1, ROUNDS=9, ONLY="64 B"
# make bench-peers installs on Debian what it compares with
# make install    what is built, into PREFIX (default /usr/local), below DESTDIR; says what a
#                 program needs there to find it. With UNITS=systemd or UNITS=openrc also what
#                 starts the agent, into UNITDIR or INITDIR
# make fuzz       each fuzz target for SECONDS (default 60); needs nightly and cargo-fuzz
# make header abi counts
#                 regenerate include/framefd.h and what Python has of it, the lists in
#                 tests/abi, the figures in tests/counts
#
# These need cargo, cc, make and python3, and nothing else to be set up.

PREFIX     ?= /usr/local
override PREFIX := $(PREFIX:~/%=$(HOME)/%)
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR     ?= $(PREFIX)/bin
DATADIR    ?= $(PREFIX)/share
UNITDIR    ?= $(PREFIX)/lib/systemd/system
INITDIR    ?= /etc/init.d
UNITS      ?=
CARGO      ?= cargo
CC         ?= cc
NM         ?= nm
OBJCOPY    ?= objcopy
LDCONFIG   ?= /sbin/ldconfig
PYTHON     ?= python3
CFLAGS     ?= -O2 -g
SECONDS    ?= 60
SOAK       ?= 600
# Where cargo builds, with its own two variables: make CARGO_BUILD_TARGET=TRIPLE CC=COMPILER
# builds for another machine or C library.
TARGET     := $(or $(CARGO_TARGET_DIR),target)$(addprefix /,$(CARGO_BUILD_TARGET))
RELEASE    := $(TARGET)/release
EXAMPLES   := $(TARGET)/examples
# The program has a directory of its own: cargo takes its library, which is of another kind, for
# the one above, and builds each anew after the other.
OWN        := $(or $(CARGO_TARGET_DIR),target)/program
BUILDS     := $(OWN)$(addprefix /,$(CARGO_BUILD_TARGET))/release

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
SONAME  := libframefd.so.$(firstword $(subst ., ,$(VERSION)))
# What a static link needs besides the archive; tests/gates.rs compares it with rustc's word.
STATIC_LIBS := $(shell cat tests/abi/native-static-libs.txt)
comma := ,
KINDS := cdylib$(comma)staticlib
# Rust has no shared library for musl unless it is told so, and musl-gcc no index of the tables
# without which a panic cannot be caught.
ifneq ($(findstring musl,$(CARGO_BUILD_TARGET)),)
STATIC_LIBS := $(STATIC_LIBS) -Wl$(comma)--eh-frame-hdr
KINDS := $(if $(findstring -crt-static,$(RUSTFLAGS)),$(KINDS),staticlib)
endif

# With another C library the program needs no other file, and no loader.
MUSL   := $(shell uname -m)-unknown-linux-musl
STATIC := $(or $(CARGO_TARGET_DIR),target)/$(MUSL)/release/framefd
# That which was built last.
BUILT   = $(wildcard $(STATIC) $(RELEASE)/framefd)
PROGRAM = $(if $(BUILT),$(shell ls -t $(BUILT) | head -1))
PAGES  := $(RELEASE)/pages

.PHONY: all lib cli static wheel examples demo quick check test test-long soak fuzz bench \
    bench-peers header abi \
    counts install uninstall clean FORCE

all: lib cli examples

lib: $(RELEASE)/libframefd.a

# One Rust library brings its own copy of std, which clashes with that of another one in
# the same program: so the archive is linked into one object whose only global names are
# those of the C interface. Section groups are dissolved there: a linker keeps one of two
# groups of the same name, even if it has become a private name, and both libraries have the
# group of the routine that catches panics. What std has of bitcode is left out: a linker
# with a plugin for another LLVM would see nothing else of it. For musl the unwinder goes in
# as well, since that of gcc may be one for glibc. Cargo knows whether anything has changed.
$(RELEASE)/libframefd.a: FORCE
	$(CARGO) rustc --quiet --lib --release --crate-type $(KINDS)
	@object=$(RELEASE)/framefd.o; \
	if [ ! -e $$object ] || [ $@ -nt $$object ] || [ Makefile -nt $$object ]; then \
	    set -e; unwinder=; \
	    case "$(CARGO_BUILD_TARGET)" in *musl*) \
	        unwinder=$$(rustc --print target-libdir --target $(CARGO_BUILD_TARGET))/self-contained/libunwind.a ;; \
	    esac; \
	    cd $(RELEASE); \
	    $(NM) -g --defined-only libframefd.a 2>/dev/null | \
	        sed -n 's/^[0-9a-f]* T \(\(frame\|auth\|exec\)_.*\)/\1/p' > framefd.symbols; \
	    $(LD) -r --force-group-allocation -o framefd.o \
	        $$(sed 's/^/-u /' framefd.symbols) libframefd.a $$unwinder; \
	    $(OBJCOPY) --keep-global-symbols=framefd.symbols \
	        --remove-section .llvmbc --remove-section .llvmcmd framefd.o; \
	    rm -f libframefd-c.a; $(AR) rcsD libframefd-c.a framefd.o; \
	fi

# The program, its manual and what shells complete.
cli:
	$(CARGO) build --quiet --release -p framefd-cli --bin framefd --example pages --target-dir $(OWN)
	@mkdir -p $(RELEASE); rm -rf $(PAGES)
	@ln -f $(BUILDS)/framefd $(RELEASE)/framefd 2>/dev/null || cp -f $(BUILDS)/framefd $(RELEASE)/framefd
	@$(BUILDS)/examples/pages $(PAGES)

static:
	@rustc --print target-libdir --target $(MUSL) 2>/dev/null | xargs -r test -d || \
	    rustup target add $(MUSL)
	CC_$(subst -,_,$(MUSL))=$$(command -v musl-gcc || echo $(CC)) \
	    $(CARGO) build --quiet --release -p framefd-cli --bin framefd --target $(MUSL)
	@echo $(STATIC)

# What the example programs share.
COMMON := $(wildcard $(addprefix examples/c/,common.c keys.c server.c))

# The static program runs with every C library, so the library alone decides where the wheel fits.
# Needs pip, and setuptools 77.
wheel: lib static
	FRAMEFD_PROGRAM="$(abspath $(STATIC))" $(PYTHON) -m pip wheel --quiet --no-deps \
	    --no-build-isolation --wheel-dir $(TARGET)/wheels bindings/python
	@rm -rf bindings/python/build bindings/python/*.egg-info
	@ls $(TARGET)/wheels/framefd-$(VERSION)-*.whl

examples: lib $(patsubst examples/c/%.c,$(EXAMPLES)/%,$(filter-out $(COMMON),$(wildcard examples/c/*.c)))

$(EXAMPLES)/%: examples/c/%.c $(COMMON) $(wildcard examples/c/*.h) include/framefd.h $(RELEASE)/libframefd.a
	@mkdir -p $(EXAMPLES)
	$(CC) -std=c99 -Wall -Wextra -Wpedantic $(CFLAGS) -Iinclude -o $@ $< \
	    $(COMMON) $(RELEASE)/libframefd-c.a $(STATIC_LIBS)

demo:
	@echo "Building the library and the example programs: up to two minutes the first time."
	@$(MAKE) --silent all
	@$(PYTHON) examples/demo.py

quick: lib
	@$(PYTHON) tests/run.py --quick

check: all
	@test -n "$(T)" || { echo "usage: make check T=NAME"; exit 2; }
	@$(PYTHON) tests/run.py --only "$(T)"

test: all
	@$(PYTHON) tests/run.py

test-long: all
	@$(PYTHON) tests/run.py --long

soak:
	FRAMEFD_SOAK=$(SOAK) $(CARGO) test --quiet --release --test soak -- --nocapture

fuzz:
	@for target in agreement header seal_client seal_server seal_records; do \
	    mkdir -p fuzz/corpus/$$target; \
	    $(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target tests/vectors/frames -- \
	        -dict=fuzz/json.dict -max_len=1024 -max_total_time=$(SECONDS) || exit 1; \
	done

bench: lib
	$(PYTHON) benches/run.py $(if $(QUICK),--quick) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(ONLY),"$(ONLY)")

bench-peers:
	apt-get install --yes libzmq3-dev libnng-dev openssh-client openssh-server rsync vsftpd \
	    curl libssl-dev stunnel4 spiped strace valgrind redis-server nginx-light
	$(PYTHON) -m pip install pyzmq

header:
	FRAMEFD_WRITE_HEADER=1 $(CARGO) test --quiet --test header
	$(PYTHON) bindings/python/make_abi.py

abi: lib
	FRAMEFD_WRITE_ABI=1 $(CARGO) test --quiet --test gates

counts: lib
	FRAMEFD_WRITE_COUNTS=1 $(PYTHON) tests/counts/test_counts.py \
	    Instructions.test_they_are_the_checked_in_ones

# Runs no cargo: under sudo there may be none.
install:
	@test -e $(RELEASE)/libframefd-c.a || { echo "nothing is built yet: run make first"; exit 1; } >&2
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(INCLUDEDIR)"
	if [ -e $(RELEASE)/libframefd.so ]; then \
	    install -m 755 $(RELEASE)/libframefd.so "$(DESTDIR)$(LIBDIR)/libframefd.so.$(VERSION)" && \
	    ln -sf libframefd.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/$(SONAME)" && \
	    ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libframefd.so"; \
	fi
	install -m 644 $(RELEASE)/libframefd-c.a "$(DESTDIR)$(LIBDIR)/libframefd.a"
	install -m 644 include/framefd.h "$(DESTDIR)$(INCLUDEDIR)/framefd.h"
	sed -e 's|@prefix@|$(PREFIX)|; s|@libdir@|$(LIBDIR)|; s|@includedir@|$(INCLUDEDIR)|' \
	    -e 's|@version@|$(VERSION)|; s|@static_libs@|$(STATIC_LIBS)|' framefd.pc.in \
	    > "$(DESTDIR)$(LIBDIR)/pkgconfig/framefd.pc"
	chmod 644 "$(DESTDIR)$(LIBDIR)/pkgconfig/framefd.pc"
	if [ -n "$(PROGRAM)" ]; then \
	    install -d "$(DESTDIR)$(BINDIR)" && \
	    install -m 755 $(PROGRAM) "$(DESTDIR)$(BINDIR)/framefd" && \
	    ln -sf framefd "$(DESTDIR)$(BINDIR)/framefd-ssh"; \
	fi
	if [ -n "$(PROGRAM)" ] && [ -d $(PAGES) ]; then \
	    install -d $(foreach place,$(PLACES),"$(DESTDIR)$(DATADIR)/$(place)") && \
	    install -m 644 $(PAGES)/*.1 "$(DESTDIR)$(DATADIR)/man/man1" && \
	    install -m 644 $(PAGES)/framefd.bash "$(DESTDIR)$(DATADIR)/$(BASH)/framefd" && \
	    install -m 644 $(PAGES)/_framefd "$(DESTDIR)$(DATADIR)/$(ZSH)" && \
	    install -m 644 $(PAGES)/framefd.fish "$(DESTDIR)$(DATADIR)/$(FISH)"; \
	fi
	@case "$(UNITS)" in \
	'') ;; \
	systemd) \
	    install -d "$(DESTDIR)$(UNITDIR)"; \
	    for unit in $(notdir $(SYSTEMD)); do \
	        sed 's|@bindir@|$(BINDIR)|' dist/$$unit >"$(DESTDIR)$(UNITDIR)/$$unit" && \
	        chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	    done ;; \
	openrc) \
	    install -d "$(DESTDIR)$(INITDIR)"; \
	    sed 's|@bindir@|$(BINDIR)|' dist/framefd.openrc >"$(DESTDIR)$(INITDIR)/framefd" && \
	    chmod 755 "$(DESTDIR)$(INITDIR)/framefd" ;; \
	*) echo "UNITS=$(UNITS): it is systemd or openrc" >&2; exit 1 ;; \
	esac
	@$(REFRESH)
	@if [ -z "$(DESTDIR)" ] && ! $(LDCONFIG) -p 2>/dev/null | grep -q ' $(LIBDIR)/$(SONAME)$$'; then \
	    echo "The system does not look there, so a program is linked with:"; \
	    echo "export PKG_CONFIG_PATH=$(LIBDIR)/pkgconfig"; \
	    echo "cc hello.c \$$(pkg-config --cflags --libs framefd) -Wl,-rpath,$(LIBDIR)"; \
	fi

SYSTEMD := $(wildcard dist/*.service dist/*.socket)
BASH   := bash-completion/completions
ZSH    := zsh/site-functions
FISH   := fish/vendor_completions.d
PLACES := man/man1 $(BASH) $(ZSH) $(FISH)

# The system's list of its libraries; only root can write it.
REFRESH = [ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || $(LDCONFIG)

uninstall:
	rm -f "$(DESTDIR)$(LIBDIR)/libframefd.so" "$(DESTDIR)$(LIBDIR)/$(SONAME)" \
	    "$(DESTDIR)$(LIBDIR)/libframefd.so.$(VERSION)" "$(DESTDIR)$(LIBDIR)/libframefd.a" \
	    "$(DESTDIR)$(INCLUDEDIR)/framefd.h" "$(DESTDIR)$(LIBDIR)/pkgconfig/framefd.pc" \
	    "$(DESTDIR)$(BINDIR)/framefd" "$(DESTDIR)$(BINDIR)/framefd-ssh" \
	    "$(DESTDIR)$(DATADIR)/man/man1/framefd.1" "$(DESTDIR)$(DATADIR)"/man/man1/framefd-*.1 \
	    "$(DESTDIR)$(DATADIR)/$(BASH)/framefd" "$(DESTDIR)$(DATADIR)/$(ZSH)/_framefd" \
	    "$(DESTDIR)$(DATADIR)/$(FISH)/framefd.fish"
	rm -f $(foreach unit,$(notdir $(SYSTEMD)),"$(DESTDIR)$(UNITDIR)/$(unit)")
	if [ -n "$(UNITS)" ]; then rm -f "$(DESTDIR)$(INITDIR)/framefd"; fi
	@$(REFRESH)

clean:
	$(CARGO) clean --quiet
	rm -rf bindings/python/build bindings/python/*.egg-info
	find bindings examples tests -name __pycache__ -type d -exec rm -rf {} +
