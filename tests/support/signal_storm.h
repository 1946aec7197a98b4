// Real signals to a thread, every few hundred microseconds: every system call
// that can be interrupted is.
#ifndef TESTS_SUPPORT_SIGNAL_STORM_H_
#define TESTS_SUPPORT_SIGNAL_STORM_H_

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <atomic>
#include <stop_token>
#include <thread>

namespace tcpip_tests {

class SignalStorm {
 public:
  explicit SignalStorm(pthread_t target) {
    struct sigaction action {};
    // No SA_RESTART: the calls shall see EINTR.
    action.sa_handler = [](int) { handled().fetch_add(1); };
    ::sigaction(SIGUSR1, &action, &saved_);
    handled().store(0);
    thread_ = std::jthread([target](std::stop_token stop) {
      while (!stop.stop_requested()) {
        ::pthread_kill(target, SIGUSR1);
        const timespec pause{0, 300'000};
        ::nanosleep(&pause, nullptr);
      }
    });
  }
  ~SignalStorm() {
    thread_ = {};
    // The last signal may still be pending. Ignoring drops it; what was there
    // before may be the default, which ends the process.
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &ignore, nullptr);
    ::sigaction(SIGUSR1, &saved_, nullptr);
  }
  SignalStorm(const SignalStorm&) = delete;
  SignalStorm& operator=(const SignalStorm&) = delete;

  // How many have arrived.
  int count() const { return handled().load(); }

 private:
  static std::atomic<int>& handled() {
    static std::atomic<int> count{0};
    return count;
  }

  struct sigaction saved_ {};
  std::jthread thread_;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_SIGNAL_STORM_H_
