// The version of this library, as a string and as macros; and the language
// that it needs. Every public header includes this file before all others, so
// that a compiler that is set to an older C++ says so first.
//
//   #if TCPIP_VERSION >= 200  // 0.2.0 or later
//
// The number stands here. CMakeLists.txt reads it from here; a test holds
// MODULE.bazel, bazel/version.bzl and CHANGELOG.md against it.
//
// Threads: constants.
#ifndef TCPIP_VERSION_H_
#define TCPIP_VERSION_H_

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "tcpip needs C++20: compile with -std=c++20 (g++ 12, clang 14 or later)"
#endif

#include <string_view>

#define TCPIP_VERSION_MAJOR 0
#define TCPIP_VERSION_MINOR 1
#define TCPIP_VERSION_PATCH 0

// MAJOR.MINOR.PATCH as one number, for #if: 1.2.3 is 10203.
#define TCPIP_VERSION                                        \
  (TCPIP_VERSION_MAJOR * 10000 + TCPIP_VERSION_MINOR * 100 + \
   TCPIP_VERSION_PATCH)

#define TCPIP_VERSION_TEXT_(number) #number
#define TCPIP_VERSION_TEXT(number) TCPIP_VERSION_TEXT_(number)

// Marks what a shared object with the library in it shows: the classes and
// functions of the public headers. All else is hidden: the library is compiled
// with -fvisibility=hidden. See "Shared objects" in ARCHITECTURE.md.
#define TCPIP_EXPORT __attribute__((visibility("default")))

namespace tcpip {

// "MAJOR.MINOR.PATCH"
inline constexpr std::string_view kVersion =
    TCPIP_VERSION_TEXT(TCPIP_VERSION_MAJOR) "." TCPIP_VERSION_TEXT(
        TCPIP_VERSION_MINOR) "." TCPIP_VERSION_TEXT(TCPIP_VERSION_PATCH);

}  // namespace tcpip

#undef TCPIP_VERSION_TEXT
#undef TCPIP_VERSION_TEXT_

#endif  // TCPIP_VERSION_H_
