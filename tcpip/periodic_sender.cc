#include "tcpip/periodic_sender.h"

#include <fmt/format.h>

#include <atomic>
#include <exception>
#include <stdexcept>
#include <stop_token>
#include <string_view>
#include <utility>

#include "tcpip/base/log_line.h"
#include "tcpip/base/peer_log.h"
#include "tcpip/base/process.h"
#include "tcpip/base/workers.h"
#include "tcpip/endpoint/endpoint_core.h"
#include "tcpip/endpoint/link.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {
namespace {

using internal::EndpointCore;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::hours kLongestPeriod{24};

PeriodicSenderOptions checked(PeriodicSenderOptions options) {
  if (options.period.count() <= 0 || options.period > kLongestPeriod) {
    throw std::invalid_argument("PeriodicSender: period out of range");
  }
  return options;
}

}  // namespace

// The thread holds a reference, since the function may destroy the
// PeriodicSender.
class PeriodicSender::Impl {
 public:
  Impl(Options options, Function function)
      : options_(checked(std::move(options))), function_(std::move(function)) {
    if (!function_) {
      throw std::invalid_argument("PeriodicSender: the function is empty");
    }
  }

  static void start(const std::shared_ptr<Impl>& self,
                    std::shared_ptr<EndpointCore> core);
  Stats stats() const noexcept;
  void close();

  const internal::ProcessMark process;

 private:
  void run(EndpointCore& core);
  void call(EndpointCore& core, const Connection& connection);
  void log_failure(EndpointCore& core, std::string_view what) noexcept;

  const Options options_;
  const Function function_;
  std::stop_source stop_;
  std::atomic<std::uint64_t> sent_{0};
  std::atomic<std::uint64_t> busy_{0};
  std::atomic<std::uint64_t> failed_{0};
  std::atomic<std::uint64_t> missed_{0};
  internal::Workers workers_;  // last: destroyed first
};

void PeriodicSender::Impl::start(const std::shared_ptr<Impl>& self,
                                 std::shared_ptr<EndpointCore> core) {
  const Log log = core->log();
  self->workers_.start({.role = ThreadRole::kPeriodic,
                        .name = "tcpip-periodic",
                        .hook = self->options_.thread_start_hook,
                        .log = log},
                       [self, core = std::move(core)] { self->run(*core); });
}

PeriodicSender::Stats PeriodicSender::Impl::stats() const noexcept {
  return {.sent = sent_, .busy = busy_, .failed = failed_, .missed = missed_};
}

void PeriodicSender::Impl::close() {
  stop_.request_stop();
  workers_.refuse();
  workers_.join();
}

void PeriodicSender::Impl::run(EndpointCore& core) {
  Connection connection;  // the newest one
  Deadline next;          // of the next call; never, if it has ended
  while (!stop_.stop_requested()) {
    try {
      // Waits for the time of the next call, or for a newer connection.
      const auto link = core.wait_for_greeted_link(
          connection.number(), Wait(next, stop_.get_token()));
      if (link) {
        connection = Connection(link->record);
        next = Deadline(Clock::now());
      }
    } catch (const CancelledError&) {
      return;
    }
    if (core.is_closing()) return;
    if (!connection.connected()) {
      next = Deadline();
      continue;
    }
    call(core, connection);
    const Clock::time_point due = next.when() + options_.period;
    const Clock::time_point now = Clock::now();
    Clock::rep missed = 0;
    if (due <= now) missed = (now - due) / options_.period + 1;
    missed_ += static_cast<std::uint64_t>(missed);
    next = Deadline(due + missed * Clock::duration(options_.period));
  }
}

void PeriodicSender::Impl::call(EndpointCore& core,
                                const Connection& connection) {
  try {
    switch (function_(connection)) {
      case SendResult::kSent:
      case SendResult::kQueued:
        ++sent_;
        break;
      case SendResult::kBusy:
        ++busy_;
        break;
      case SendResult::kNotConnected:
        break;
    }
  } catch (const std::exception& e) {
    log_failure(core, internal::what_of(e));
  } catch (...) {
    log_failure(core, "an unknown exception");
  }
}

void PeriodicSender::Impl::log_failure(EndpointCore& core,
                                       std::string_view what) noexcept {
  ++failed_;
  core.peer_log().write(internal::PeerLine::kPeriodicFailed, LogLevel::kError,
                        [&] { return fmt::format("periodic send: {}", what); });
}

// These members hold a reference to the Impl: the function may destroy the
// PeriodicSender meanwhile.

PeriodicSender::PeriodicSender(const BaseClientOrServer& endpoint,
                               Options options, Function function)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(function))) {
  Impl::start(impl_, internal::core_of(endpoint));
}

PeriodicSender::~PeriodicSender() {
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) {
    impl->close();
  } else {
    internal::keep_for_ever(impl);
  }
}

PeriodicSender::Stats PeriodicSender::stats() const noexcept {
  return impl_->stats();
}

void PeriodicSender::close() {
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) impl->close();
}

std::string to_string(const PeriodicSenderStats& stats) {
  return fmt::format("{} sent, {} busy, {} failed, {} missed", stats.sent,
                     stats.busy, stats.failed, stats.missed);
}

}  // namespace tcpip
