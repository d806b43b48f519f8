# The one place for warnings, sanitizers and hardening. Every target links `weir_warnings`.
option(WEIR_TESTS "Build the tests" ON)
set(WEIR_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=: empty, address,undefined or thread")

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# CMake's own default adds -DNDEBUG; assertions stay on in release.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
# GCC copies and zeroes some hundred bytes by `rep movs`, whose start takes longer than all of a call.
if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
  string(APPEND CMAKE_C_FLAGS_RELEASE
    " -mmemcpy-strategy=unrolled_loop:128:noalign,libcall:-1:noalign"
    " -mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign")
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(weir_warnings INTERFACE)
target_compile_options(weir_warnings INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes
  -fno-omit-frame-pointer -fstack-protector-strong)
if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  target_compile_options(weir_warnings INTERFACE -Wno-string-conversion) # assert(!"why")
endif()
target_compile_definitions(weir_warnings INTERFACE _GNU_SOURCE)
target_include_directories(weir_warnings INTERFACE ${CMAKE_SOURCE_DIR})

if(WEIR_SANITIZE)
  add_compile_options(-fsanitize=${WEIR_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${WEIR_SANITIZE})
else()
  add_link_options(-Wl,-z,relro,-z,now)
endif()
