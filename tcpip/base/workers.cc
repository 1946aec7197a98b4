#include "tcpip/base/workers.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <exception>
#include <list>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "tcpip/base/log_line.h"
#include "tcpip/base/module_pin.h"
#include "tcpip/base/mutex.h"
#include "tcpip/base/thread_number.h"
#include "tcpip/error.h"

namespace tcpip::internal {
namespace {

// While it lives, the calling thread has all signals blocked that others may
// send: a new thread inherits the signal mask of the thread that starts it. Not
// those that a thread causes by what it does: if one of them is blocked, the
// kernel ends the process without a call of the program's crash handler.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t blocked;
    ::sigfillset(&blocked);
    for (const int caused :
         {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
      ::sigdelset(&blocked, caused);
    }
    ::pthread_sigmask(SIG_SETMASK, &blocked, &saved_);
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
    log_line(log, LogLevel::kError,
             [&] { return fmt::format("{} failed: {}", what, what_of(e)); });
  } catch (...) {
    log_line(log, LogLevel::kError, [&] {
      return fmt::format("{} failed with an unknown exception", what);
    });
  }
}

// What has become of a required() hook, for the thread that waits for it.
class HookResult {
 public:
  // The hook has refused the thread. False if nobody waits for that any more;
  // then the thread goes on.
  bool refuse(const ThreadStartError& error) TCPIP_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (!is_awaited_) return false;
    refusal_ = error;
    return true;
  }
  bool is_refused() const TCPIP_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    return refusal_.has_value();
  }
  void set_done() TCPIP_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    done_ = true;
    // The thread may go on and wait for the one that waits here.
    ThreadWait::end(this);
    changed_.notify_all();
  }

  // Waits until the hook has returned, and returns its refusal. But does not
  // wait if the thread already waits for the calling one, in its hook.
  std::optional<ThreadStartError> wait(ThreadNumber thread)
      TCPIP_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    if (!done_) {
      const ThreadWait wait(thread, this);
      if (wait.is_allowed()) {
        changed_.wait(mutex_, {},
                      [this]() TCPIP_REQUIRES(mutex_) { return done_; });
      }
    }
    is_awaited_ = false;
    return refusal_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool is_awaited_ TCPIP_GUARDED_BY(mutex_) = true;
  bool done_ TCPIP_GUARDED_BY(mutex_) = false;
  std::optional<ThreadStartError> refusal_ TCPIP_GUARDED_BY(mutex_);
};

// Calls the hook. What it throws is logged, but for a refusal that `result`
// (null: there is none) takes.
void run_hook(const ThreadOptions& options, HookResult* result) {
  run_logged(options.log, "thread start hook", [&] {
    try {
      options.hook(options.role);
    } catch (const ThreadStartError& e) {
      if (result == nullptr || !result->refuse(e)) throw;
    }
  });
  if (result != nullptr) result->set_done();
}

// The function of the thread. Makes a copy of the hook here, where its copy
// constructor (the program's code) runs with signals unblocked and may throw;
// launch() only moves.
ThreadWork make_body(const ThreadOptions& options, ThreadNumber number,
                     std::shared_ptr<HookResult> result, ThreadWork work) {
  return [options, number, result = std::move(result),
          work = std::move(work)]() mutable {
    keep_module_loaded();
    adopt_thread_number(number);
    std::array<char, 16> name{};  // substr() would need memory
    options.name.copy(name.data(), name.size() - 1);
    ::pthread_setname_np(::pthread_self(), name.data());
    if (options.hook) run_hook(options, result.get());
    run_logged(options.log, "thread", [&work] { work(); });
    // The work may hold the last reference to its object. Destroy the work
    // here, as the last thing that the thread does for the object.
    work = nullptr;
  };
}

std::jthread launch(const std::string& name, ThreadWork body) {
  const SignalsBlocked blocked;
  try {
    return std::jthread(std::move(body));
  } catch (const std::system_error& e) {
    throw Error(e.code(), "start thread", name);
  }
}

}  // namespace

std::jthread start_thread(const ThreadOptions& options, ThreadWork work) {
  return launch(options.name, make_body(options, next_thread_number(), nullptr,
                                        std::move(work)));
}

class Workers::State {
 public:
  explicit State(std::function<void()> on_end) : on_end_(std::move(on_end)) {}

  bool start(std::shared_ptr<State> self, const ThreadOptions& options,
             ThreadWork work) TCPIP_EXCLUDES(mutex_);
  void refuse() noexcept TCPIP_EXCLUDES(mutex_);
  bool join() noexcept TCPIP_EXCLUDES(mutex_);
  void let_go() noexcept TCPIP_EXCLUDES(mutex_);
  bool is_current_thread(const ThreadRole* role) const TCPIP_EXCLUDES(mutex_);
  bool all_ended() const TCPIP_EXCLUDES(mutex_);

 private:
  struct Entry {
    ThreadNumber number;
    ThreadRole role;
    std::jthread thread = {};  // empty until it runs, and while it is joined
    bool ended = false;        // its work has returned
  };
  // A list: a node is allocated before the lock is taken and moved under it.
  using Entries = std::list<Entry>;

  void end(ThreadNumber number) TCPIP_EXCLUDES(mutex_);
  // Waits until the thread is joined, if this thread may wait for it.
  void join_one(ThreadNumber number) noexcept TCPIP_EXCLUDES(mutex_);
  Entries::iterator find(ThreadNumber number) TCPIP_REQUIRES(mutex_);
  void remove(ThreadNumber number) noexcept TCPIP_EXCLUDES(mutex_);

  const std::function<void()> on_end_;
  mutable Mutex mutex_;
  CondVar changed_;
  Entries entries_ TCPIP_GUARDED_BY(mutex_);
  bool refuses_ TCPIP_GUARDED_BY(mutex_) = false;
};

bool Workers::State::start(std::shared_ptr<State> self,
                           const ThreadOptions& options, ThreadWork work) {
  const ThreadNumber number = next_thread_number();
  const bool is_required = options.hook.target<RequiredHook>() != nullptr;
  const auto result = is_required ? std::make_shared<HookResult>() : nullptr;
  ThreadWork body =
      make_body(options, number, result,
                [self = std::move(self), number, result, log = options.log,
                 work = std::move(work)] {
                  // Caught here, so that end() is called in any case.
                  if (!result || !result->is_refused()) {
                    run_logged(log, "thread", [&work] { work(); });
                  }
                  self->end(number);
                });
  Entries entry;
  entry.push_back({.number = number, .role = options.role});
  {
    // Enter the thread before it runs: its hook may close the object, and the
    // close must find that the calling thread is one of the object's.
    const MutexLock lock(mutex_);
    if (refuses_) return false;
    entries_.splice(entries_.end(), entry);
  }
  std::jthread thread;
  try {
    thread = launch(options.name, std::move(body));
  } catch (...) {
    remove(number);
    throw;
  }
  {
    const MutexLock lock(mutex_);
    const auto place = find(number);
    place->thread = std::move(thread);
    changed_.notify_all();  // a join_one() may wait for the jthread
  }
  if (!result) return true;
  if (const auto refusal = result->wait(number)) {
    join_one(number);
    throw *refusal;
  }
  return true;
}

void Workers::State::end(ThreadNumber number) {
  {
    const MutexLock lock(mutex_);
    find(number)->ended = true;
  }
  if (on_end_) on_end_();
}

void Workers::State::refuse() noexcept {
  const MutexLock lock(mutex_);
  refuses_ = true;
}

bool Workers::State::join() noexcept {
  ThreadNumber last = 0;
  for (;;) {
    ThreadNumber number = 0;
    {
      const MutexLock lock(mutex_);
      for (const Entry& entry : entries_) {
        if (entry.number > last && (number == 0 || entry.number < number)) {
          number = entry.number;
        }
      }
    }
    if (number == 0) return all_ended();
    join_one(number);
    last = number;
  }
}

void Workers::State::join_one(ThreadNumber number) noexcept {
  // Everybody who joins is entered as waiting for the thread, also those who
  // wait below for another thread's join(): so the table is complete if the
  // thread itself is about to wait for one of them.
  const ThreadWait wait(number);
  if (!wait.is_allowed()) return;
  std::jthread thread;
  {
    const MutexLock lock(mutex_);
    // Wait until start() has stored the jthread, or until another thread that
    // joins it has removed the entry.
    changed_.wait(mutex_, {}, [&]() TCPIP_REQUIRES(mutex_) {
      const auto entry = find(number);
      return entry == entries_.end() || entry->thread.joinable();
    });
    const auto entry = find(number);
    if (entry == entries_.end()) return;
    thread = std::move(entry->thread);
  }
  thread.join();
  remove(number);
}

void Workers::State::remove(ThreadNumber number) noexcept {
  Entries gone;
  const MutexLock lock(mutex_);
  gone.splice(gone.end(), entries_, find(number));
  changed_.notify_all();
}

void Workers::State::let_go() noexcept {
  const MutexLock lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.thread.joinable()) entry.thread.detach();
  }
}

Workers::State::Entries::iterator Workers::State::find(ThreadNumber number) {
  return std::find_if(entries_.begin(), entries_.end(),
                      [&](const Entry& e) { return e.number == number; });
}

bool Workers::State::is_current_thread(const ThreadRole* role) const {
  const ThreadNumber self = this_thread_number();
  const MutexLock lock(mutex_);
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) {
    return e.number == self && !e.ended && (role == nullptr || e.role == *role);
  });
}

bool Workers::State::all_ended() const {
  const MutexLock lock(mutex_);
  return std::all_of(entries_.begin(), entries_.end(),
                     [](const Entry& e) { return e.ended; });
}

Workers::Workers(std::function<void()> on_end)
    : state_(std::make_shared<State>(std::move(on_end))) {}

Workers::~Workers() {
  if (!process_.is_here()) {
    keep_for_ever(state_);
    return;
  }
  refuse();
  join();
  state_->let_go();
}

bool Workers::start(const ThreadOptions& options, ThreadWork work) {
  return state_->start(state_, options, std::move(work));
}

void Workers::refuse() noexcept { state_->refuse(); }

bool Workers::join() noexcept {
  // A thread that is joined here may destroy this object as it ends.
  const std::shared_ptr<State> state = state_;
  return state->join();
}

bool Workers::is_current_thread() const {
  return state_->is_current_thread(nullptr);
}

bool Workers::is_current_thread(ThreadRole role) const {
  return state_->is_current_thread(&role);
}

bool Workers::all_ended() const { return state_->all_ended(); }

}  // namespace tcpip::internal
