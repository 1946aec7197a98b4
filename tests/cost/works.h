// The works whose cost is bounded: what a program does again and again, with a
// peer that costs nothing to the count.
//
// Threads: for the thread that runs them.
#ifndef TESTS_COST_WORKS_H_
#define TESTS_COST_WORKS_H_

#include <functional>
#include <ostream>
#include <span>
#include <string_view>

namespace tcpip_tests {

// One message, in three parts. Only the calls of `counted` count. No part needs
// another thread in order to return, so that nothing can come in another order:
// a read finds the whole message, or waits for it.
struct Work {
  std::function<void()> before = [] {};  // the peer sends
  std::function<void()> counted;
  std::function<void()> after = [] {};  // the peer receives
};

struct NamedWork {
  std::string_view name;
  Work (*make)();
};
inline std::ostream& operator<<(std::ostream& stream, const NamedWork& work) {
  return stream << work.name;
}
std::span<const NamedWork> works();

// The works begin to repeat themselves after so many messages: then every
// buffer has its size.
inline constexpr int kWarmUp = 100;

// A read-loop server answers kWarmUp + `messages` messages. Its client reader
// calls begin() and end() in the read handler, `messages` calls apart.
void run_read_loop(int messages, const std::function<void()>& begin,
                   const std::function<void()>& end);

}  // namespace tcpip_tests

#endif  // TESTS_COST_WORKS_H_
