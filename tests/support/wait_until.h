// Waiting for what another thread does, without sleeping "to let it happen".
#ifndef TESTS_SUPPORT_WAIT_UNTIL_H_
#define TESTS_SUPPORT_WAIT_UNTIL_H_

#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <initializer_list>
#include <string>

#include "tcpip/testing/wait_until.h"

namespace tcpip_tests {

using tcpip_testing::wait_until;

inline pid_t this_thread_id() {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}

// True if that thread of this process is inside one of these system calls, or,
// on a kernel that does not tell, if it is asleep.
inline bool is_blocked_in(pid_t thread, std::initializer_list<long> calls) {
  const std::string task = "/proc/self/task/" + std::to_string(thread);
  std::string first;
  if (std::ifstream(task + "/syscall") >> first) {
    for (const long call : calls) {
      if (first == std::to_string(call)) return true;
    }
    return false;
  }
  std::string pid;
  std::string name;
  std::string state;
  std::ifstream(task + "/stat") >> pid >> name >> state;
  return state == "S";
}

// True if that thread waits for a descriptor or for another thread. One that
// sleeps does not count: tests/loaded makes threads sleep anywhere.
inline bool is_blocked(pid_t thread) {
  return thread != 0 &&
         is_blocked_in(thread, {SYS_recvfrom, SYS_ppoll, SYS_futex});
}

// Where a call of the library that waits for a descriptor blocks: in ppoll, or
// in recv; tcpip/socket.h says when, at Socket::receive.
inline bool is_blocked_in_receive(pid_t thread) {
  return is_blocked_in(thread, {SYS_recvfrom});
}
inline bool is_blocked_in_poll(pid_t thread) {
  return is_blocked_in(thread, {SYS_ppoll});
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_WAIT_UNTIL_H_
