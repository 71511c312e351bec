# What all targets share: language level, warnings, sanitizers, the include root.
add_library(weir_options INTERFACE)
target_include_directories(weir_options INTERFACE
  "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}/generated")
target_compile_features(weir_options INTERFACE c_std_11)
target_compile_definitions(weir_options INTERFACE _GNU_SOURCE)
target_compile_options(weir_options INTERFACE
  -fno-math-errno -fno-trapping-math -ffp-contract=fast -g
  -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual
  -Wwrite-strings -Wconversion -Wsign-conversion -Wdouble-promotion -Wformat=2 -Wundef -Wvla
  # Messages are cut on purpose, never overrun. Clang does not know the warning.
  $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation>)
set(CMAKE_C_EXTENSIONS OFF)
if(WEIR_WERROR)
  target_compile_options(weir_options INTERFACE -Werror)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug" OR WEIR_SANITIZE)
  target_compile_definitions(weir_options INTERFACE WEIR_CHECKED=1)
endif()
if(WEIR_SANITIZE)
  target_compile_options(weir_options INTERFACE
    -fsanitize=${WEIR_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(weir_options INTERFACE -fsanitize=${WEIR_SANITIZE})
  if(WEIR_SANITIZE MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    # It does not see fences; ours order atomics alone, which are no races.
    target_compile_options(weir_options INTERFACE -Wno-tsan)
  endif()
  if(WEIR_SANITIZE MATCHES "undefined")
    target_compile_options(weir_options INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()

# Sanitized programs and tests: what keeps their reports readable (tests/sanitize).
function(weir_sanitized name)
  if(WEIR_SANITIZE MATCHES "address")
    target_sources(${name} PRIVATE "${CMAKE_SOURCE_DIR}/tests/sanitize/dlclose.c")
  endif()
endfunction()

# weir_library(NAME SOURCES a.c b.c LINKS other_lib ...)
function(weir_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC weir_options ${ARG_LINKS})
endfunction()

# weir_program(NAME SOURCES ... LINKS ...): a binary in build/bin
function(weir_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE weir_options ${ARG_LINKS})
  weir_sanitized(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# weir_bench(NAME SOURCES ... LINKS ...): a program in build/bench, not installed
function(weir_bench name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE weir_options ${ARG_LINKS})
  weir_sanitized(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
endfunction()
