#include "tcpip/base/named_thread.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <exception>
#include <system_error>
#include <utility>

#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

// A thread inherits the mask of the one that starts it.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &saved_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &saved_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t saved_{};
};

template <class Function>
void run_logged(const Log& log, std::string_view what, Function function) {
  try {
    function();
  } catch (const std::exception& e) {
    log.error(fmt::format("{} failed: {}", what, e.what()));
  } catch (...) {
    log.error(fmt::format("{} failed with an unknown exception", what));
  }
}

}  // namespace

std::jthread start_thread(const ThreadOptions& options,
                          std::function<void(std::stop_token)> work) {
  auto body = [options, work = std::move(work)](std::stop_token stop) mutable {
    ::pthread_setname_np(::pthread_self(), options.name.substr(0, 15).c_str());
    if (options.hook) {
      run_logged(options.log, "thread start hook",
                 [&options] { options.hook(options.role); });
    }
    run_logged(options.log, "thread", [&] { work(std::move(stop)); });
    // What the work holds may be the last reference to its object: it goes
    // before the thread does, not after.
    work = nullptr;
  };
  const SignalsBlocked blocked;
  try {
    return std::jthread(std::move(body));
  } catch (const std::system_error& e) {
    throw Error(e.code(), "start thread", options.name);
  }
}

void join_or_detach(std::jthread& thread) noexcept {
  if (!thread.joinable()) return;
  if (thread.get_id() == std::this_thread::get_id()) {
    thread.detach();
  } else {
    thread.join();
  }
}

}  // namespace tcpip::internal
