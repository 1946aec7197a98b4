#include "tcpip/transactor.h"

#include <optional>
#include <stdexcept>
#include <utility>

#include "tcpip/base/mutex.h"
#include "tcpip/error.h"
#include "tcpip/process_mark.h"

namespace tcpip {
namespace {

using internal::CondVar;
using internal::Mutex;
using internal::MutexLock;
using internal::WaitResult;

constexpr const char* kTransact = "transact";

TransactorOptions checked(TransactorOptions options) {
  if (options.end.empty()) {
    throw std::invalid_argument("Transactor: the end of a reply is empty");
  }
  return options;
}

}  // namespace

class Transactor::Impl {
 public:
  explicit Impl(Options options) : options_(std::move(options)) {}

  std::string transact(const Connection& connection, std::string_view request,
                       const Wait& wait);

  std::uint64_t stale_bytes() const TCPIP_EXCLUDES(mutex_) {
    process_.check("stale_bytes");
    const MutexLock lock(mutex_);
    return stale_bytes_;
  }
  std::uint64_t late_replies() const TCPIP_EXCLUDES(mutex_) {
    process_.check("late_replies");
    const MutexLock lock(mutex_);
    return late_replies_;
  }

 private:
  class Turn;

  void drop_stale(const Connection& connection);
  std::string read_reply(const Connection& connection, const Wait& wait);
  void fail(const Connection& connection);
  void count_late_reply() {
    --due_;
    const MutexLock lock(mutex_);
    ++late_replies_;
  }

  const internal::ProcessMark process_;
  const Options options_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool taken_ TCPIP_GUARDED_BY(mutex_) = false;  // it is a thread's turn
  std::uint64_t stale_bytes_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t late_replies_ TCPIP_GUARDED_BY(mutex_) = 0;
  // Of the thread whose turn it is.
  Connection connection_;  // that of the last request
  std::uint64_t due_ = 0;  // how many late replies are still to come on it
};

// While it lives, it is the calling thread's turn.
class Transactor::Impl::Turn {
 public:
  Turn(Impl& impl, const Connection& connection, const Wait& wait)
      : impl_(impl) {
    const MutexLock lock(impl_.mutex_);
    switch (impl_.changed_.wait(
        impl_.mutex_, wait,
        [&]() TCPIP_REQUIRES(impl_.mutex_) { return !impl_.taken_; })) {
      case WaitResult::kReady:
        break;
      case WaitResult::kTimeout:
        throw TimeoutError(kTransact, internal::subject_of(connection), false,
                           "waiting for its turn");
      case WaitResult::kStopped:
        throw CancelledError(kTransact, internal::subject_of(connection));
    }
    impl_.taken_ = true;
  }
  ~Turn() {
    {
      const MutexLock lock(impl_.mutex_);
      impl_.taken_ = false;
    }
    impl_.changed_.notify_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Impl& impl_;
};

void Transactor::Impl::drop_stale(const Connection& connection) {
  // A late reply of which a part has come is not dropped by halves: its rest
  // would be taken for a reply.
  while (due_ > 0) {
    if (!internal::try_read_bytes_until(connection, kTransact, options_.end)) {
      return;
    }
    count_late_reply();
  }
  const std::size_t dropped = internal::discard_bytes(connection, kTransact);
  const MutexLock lock(mutex_);
  stale_bytes_ += dropped;
}

std::string Transactor::Impl::read_reply(const Connection& connection,
                                         const Wait& wait) {
  for (;;) {
    std::string reply =
        internal::read_bytes_until(connection, kTransact, options_.end, wait);
    if (due_ == 0) {
      reply.resize(reply.size() - options_.end.size());
      return reply;
    }
    count_late_reply();
  }
}

// A request that may have reached the peer ends without its reply.
void Transactor::Impl::fail(const Connection& connection) {
  if (options_.after_timeout == AfterTimeout::kClose) {
    connection.close();
  } else {
    ++due_;
  }
}

std::string Transactor::Impl::transact(const Connection& connection,
                                       std::string_view request,
                                       const Wait& wait) {
  process_.check(kTransact);
  const Turn turn(*this, connection, wait);
  if (connection_ != connection) {
    connection_ = connection;
    due_ = 0;
  }
  bool begun = false;
  try {
    drop_stale(connection);
    internal::write_bytes(connection, kTransact, request, wait);
    begun = true;
    return read_reply(connection, wait);
  } catch (const TimeoutError& e) {
    if (begun || e.queued()) fail(connection);
    throw;
  } catch (const CancelledError& e) {
    if (begun || e.queued()) fail(connection);
    throw;
  } catch (const ConnectionError&) {
    throw;
  } catch (...) {
    // What is left of a reply would be taken for the next one.
    if (begun) connection.close();
    throw;
  }
}

Transactor::Transactor(Options options)
    : impl_(std::make_unique<Impl>(checked(std::move(options)))) {}
Transactor::~Transactor() = default;

std::string Transactor::transact(const Connection& connection,
                                 std::string_view request, const Wait& wait) {
  return impl_->transact(connection, request, wait);
}
std::uint64_t Transactor::stale_bytes() const { return impl_->stale_bytes(); }
std::uint64_t Transactor::late_replies() const { return impl_->late_replies(); }

}  // namespace tcpip
