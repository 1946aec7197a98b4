// Which sanitizers the tests are built with.
//
// Threads: constants.
#ifndef TESTS_SUPPORT_SANITIZERS_H_
#define TESTS_SUPPORT_SANITIZERS_H_

// The sanitizers make everything several times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TESTS_WITH_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TESTS_WITH_SANITIZER 1
#endif
#endif

namespace tcpip_tests {

#ifdef TESTS_WITH_SANITIZER
inline constexpr bool kWithSanitizer = true;
#else
inline constexpr bool kWithSanitizer = false;
#endif

// UBSan's check of virtual calls needs a descriptor now and then: no test that
// takes them all away can run with it. It goes with ASan here.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kNeedsDescriptors = true;
#else
inline constexpr bool kNeedsDescriptors = false;
#endif

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_SANITIZERS_H_
