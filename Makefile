# A thin front to CMake: `make help` lists the targets.
BUILD ?= build
.PHONY: help deps configure build test demo bench fuzz asan-build asan asan-e2e mpich clean

help:
	@echo "make demo    install what is missing, build the programs, make data, train, evaluate, show the checkpoint"
	@echo "make test    install what is missing, build, run every test"
	@echo "make build   install what is missing, build into $(BUILD)/"
	@echo "make bench   the benches in their quick form, each verified before it is timed"
	@echo "make asan    build with address and undefined-behaviour sanitizers, run unit, golden and one job"
	@echo "make mpich   build against MPICH into build-mpich/, run the transport's tests and whole jobs there"
	@echo "make asan-e2e  the same build, and whole jobs: exactness, stops, stores, restarts, deltas, background saves, encoders"
	@echo "make fuzz    build the fuzz targets with clang and run each for a short while"
	@echo "make clean   remove the build folders"

deps:
	@scripts/install-deps

configure: deps
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKE_ARGS) >$(BUILD).configure.log 2>&1 || { cat $(BUILD).configure.log; exit 1; }
	@rm -f $(BUILD).configure.log

build: configure
	@cmake --build $(BUILD)

test: build
	@cd $(BUILD) && ctest --output-on-failure

# The programs alone: neither tests nor benches.
PROGRAMS = weir weir-coordinator weir-ps weir-worker weir-probe weir-baseline weir-spectrum
demo: configure
	@cmake --build $(BUILD) --target $(PROGRAMS)
	@scripts/demo $(BUILD)

FUZZ_SECONDS ?= 20
fuzz:
	@scripts/install-deps clang llvm-14 libclang-rt-14-dev
	@scripts/fuzz $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# The same tests under address and undefined-behaviour sanitizers, and one whole job.
asan asan-e2e: export ASAN_OPTIONS = fast_unwind_on_malloc=0:detect_odr_violation=0
asan asan-e2e: export LSAN_OPTIONS = suppressions=$(CURDIR)/tests/sanitize/lsan.supp:print_suppressions=0
asan asan-e2e: export UBSAN_OPTIONS = print_stacktrace=1
asan-build: deps
	@cmake -S . -B build-asan -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DWEIR_WERROR=ON \
	  -DWEIR_SANITIZE=address,undefined >build-asan.configure.log 2>&1 || { cat build-asan.configure.log; exit 1; }
	@rm -f build-asan.configure.log
	@cmake --build build-asan
asan: asan-build
	@cd build-asan && ctest -j 2 --output-on-failure -L 'unit|golden|mpi'
	@cd build-asan && ctest --output-on-failure -R e2e-0001

# Whole jobs under sanitizers; too long for every run of CI.
ASAN_E2E ?= 0002|0003|0008|0012|0022|0023|0046|0053|0057|0060|0069|0070
asan-e2e: asan-build
	@cd build-asan && ctest --output-on-failure -R 'e2e-($(ASAN_E2E))'

# What depends on the MPI: the transport, and whole jobs through MPICH's launcher.
mpich: MPICH_PROGRAMS = weir weir-coordinator weir-ps weir-worker weir-probe test_comm_mpi checkpoint_digest
mpich:
	@scripts/install-deps mpich libmpich-dev libscalapack-mpich-dev
	@cmake -S . -B build-mpich -G Ninja -DWEIR_WERROR=ON -DMPI_C_COMPILER=mpicc.mpich \
	  -DMPIEXEC_EXECUTABLE=$$(command -v mpiexec.mpich) >build-mpich.configure.log 2>&1 || \
	  { cat build-mpich.configure.log; exit 1; }
	@rm -f build-mpich.configure.log
	@cmake --build build-mpich --target $(MPICH_PROGRAMS)
	@cd build-mpich && ctest --output-on-failure -R '^(test_comm_mpi_[0-9]|e2e-(0001|0002|0003|0063)-.*)$$'

bench: build
	@scripts/bench $(BUILD)

clean:
	rm -rf build build-asan build-dev build-fuzz build-mpich build-tsan
