// Waiting for what another thread does, without sleeping "to let it happen".
//
//   client.write_str("open");
//   ASSERT_TRUE(tcpip_testing::wait_until([&] { return dome.is_open(); }));
//
// Threads: may be called from any thread.
#ifndef TCPIP_TESTING_WAIT_UNTIL_H_
#define TCPIP_TESTING_WAIT_UNTIL_H_

#include "tcpip/version.h"

#include <chrono>
#include <thread>

#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

// How long the kit waits unless it is told otherwise. Only a test that fails
// waits that long, so it is generous: the machine may be busy.
inline constexpr std::chrono::seconds kPatience{20};

// Looks every millisecond whether `predicate()`. False if it is not after
// `limit`, however long that is; what it throws reaches the caller.
template <class Predicate>
[[nodiscard]] bool wait_until(Predicate predicate,
                              std::chrono::milliseconds limit = kPatience) {
  const tcpip::Deadline deadline = tcpip::Deadline::after(limit);
  while (!predicate()) {
    if (deadline.has_passed()) return predicate();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_WAIT_UNTIL_H_
