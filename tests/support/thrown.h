// What a call throws, in one comparable value.
//
//   EXPECT_EQ(thrown_by([&] { client.start(2s); }),
//             (Thrown{"ConnectionRefusedError", ECONNREFUSED}));
//
// Threads: values.
#ifndef TESTS_SUPPORT_THROWN_H_
#define TESTS_SUPPORT_THROWN_H_

#include <exception>
#include <ostream>
#include <string>
#include <system_error>

#include "tcpip/error.h"

namespace tcpip_tests {

struct Thrown {
  std::string kind;  // the class's name; empty if nothing was thrown
  int error = 0;     // the value of code()

  bool operator==(const Thrown&) const = default;
};

inline void PrintTo(const Thrown& thrown, std::ostream* out) {
  *out << (thrown.kind.empty() ? "nothing" : thrown.kind) << " " << thrown.error
       << " (" << std::generic_category().message(thrown.error) << ")";
}

template <class Function>
Thrown thrown_by(Function function) {
  try {
    function();
    return {};
  } catch (const tcpip::ConnectionResetError& e) {
    return {"ConnectionResetError", e.code().value()};
  } catch (const tcpip::ConnectionRefusedError& e) {
    return {"ConnectionRefusedError", e.code().value()};
  } catch (const tcpip::ConnectionAbortedError& e) {
    return {"ConnectionAbortedError", e.code().value()};
  } catch (const tcpip::BrokenPipeError& e) {
    return {"BrokenPipeError", e.code().value()};
  } catch (const tcpip::IncompleteReadError& e) {
    return {"IncompleteReadError", e.code().value()};
  } catch (const tcpip::ConnectionError& e) {
    return {"ConnectionError", e.code().value()};
  } catch (const tcpip::TimeoutError& e) {
    return {"TimeoutError", e.code().value()};
  } catch (const tcpip::ResolveError& e) {
    return {"ResolveError", e.code().value()};
  } catch (const tcpip::Error& e) {
    return {"Error", e.code().value()};
  } catch (const tcpip::CancelledError&) {
    return {"CancelledError", 0};
  } catch (const std::exception& e) {
    return {e.what(), 0};
  }
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_THROWN_H_
