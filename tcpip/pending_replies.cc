#include "tcpip/pending_replies.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <system_error>

#include "tcpip/base/mutex.h"
#include "tcpip/error.h"
#include "tcpip/process_mark.h"

namespace tcpip::internal {
namespace {

// How long a reply may come behind the end of its connection: the read that
// meets the end ends the connection before it returns the last message.
constexpr std::chrono::milliseconds kLastReplyTime{100};

constexpr const char* kWait = "wait";

enum class State {
  kWaiting,
  kTaken,      // a thread stores the reply
  kFulfilled,  // the reply is stored
  kFailed
};

}  // namespace

class PendingTable::Impl {
 public:
  struct Item {
    std::shared_ptr<Entry> entry;
    State state = State::kWaiting;
    // Set once its connection has ended: until when a reply still counts.
    std::optional<Deadline> last_reply = {};

    bool is_decided() const {
      return state == State::kFulfilled || state == State::kFailed;
    }
  };
  using Items = std::list<Item>;

  Items::iterator find(const Entry& entry) TCPIP_REQUIRES(mutex) {
    return std::find_if(items.begin(), items.end(), [&](const Item& item) {
      return item.entry.get() == &entry;
    });
  }
  Items::iterator find(const Connection& connection, const void* key)
      TCPIP_REQUIRES(mutex) {
    return std::find_if(items.begin(), items.end(), [&](const Item& item) {
      return item.state == State::kWaiting &&
             item.entry->connection() == connection && item.entry->has_key(key);
    });
  }

  const ProcessMark process;
  mutable Mutex mutex;
  CondVar changed;
  Items items TCPIP_GUARDED_BY(mutex);
};

PendingTable::PendingTable() : impl_(std::make_unique<Impl>()) {}
PendingTable::~PendingTable() = default;

bool PendingTable::add(const std::shared_ptr<Entry>& entry, const void* key) {
  impl_->process.check("expect");
  Impl::Items added{{entry}};  // memory first
  const MutexLock lock(impl_->mutex);
  if (impl_->find(entry->connection(), key) != impl_->items.end()) return false;
  impl_->items.splice(impl_->items.end(), added);
  return true;
}

std::shared_ptr<PendingTable::Entry> PendingTable::take(
    const Connection& connection, const void* key) {
  impl_->process.check("fulfil");
  const MutexLock lock(impl_->mutex);
  const auto item = impl_->find(connection, key);
  if (item == impl_->items.end()) return nullptr;
  item->state = State::kTaken;
  return item->entry;
}

void PendingTable::finish(const Entry& entry, bool stored) noexcept {
  if (!impl_->process.is_here()) return;
  {
    const MutexLock lock(impl_->mutex);
    const auto item = impl_->find(entry);
    if (item == impl_->items.end()) return;  // its ticket was given up
    item->state = stored ? State::kFulfilled : State::kFailed;
  }
  impl_->changed.notify_all();
}

void PendingTable::end(const Entry& entry) noexcept {
  if (!impl_->process.is_here()) return;
  {
    const MutexLock lock(impl_->mutex);
    const auto item = impl_->find(entry);
    if (item == impl_->items.end()) return;
    // Behind our own close() nothing more is read.
    item->last_reply = entry.connection().should_be_connected()
                           ? Deadline::after(kLastReplyTime)
                           : Wait::none().deadline;
  }
  impl_->changed.notify_all();
}

std::size_t PendingTable::fail_all(const Connection* connection) noexcept {
  if (!impl_->process.is_here()) return 0;
  std::size_t failed = 0;
  {
    const MutexLock lock(impl_->mutex);
    for (Impl::Item& item : impl_->items) {
      if (item.state != State::kWaiting) continue;
      if (connection != nullptr && item.entry->connection() != *connection) {
        continue;
      }
      item.state = State::kFailed;
      ++failed;
    }
  }
  impl_->changed.notify_all();
  return failed;
}

void PendingTable::remove(const Entry& entry) noexcept {
  if (!impl_->process.is_here()) return;
  Impl::Items
      removed;  // destroyed without the lock: it has the program's types
  const MutexLock lock(impl_->mutex);
  const auto item = impl_->find(entry);
  if (item != impl_->items.end()) {
    removed.splice(removed.end(), impl_->items, item);
  }
}

void PendingTable::wait(const Entry& entry, const Wait& wait) {
  impl_->process.check(kWait);
  const auto peer = [&] { return subject_of(entry.connection()); };
  const MutexLock lock(impl_->mutex);
  Impl::Item& item = *impl_->find(entry);  // the ticket keeps it
  WaitResult result = impl_->changed.wait(impl_->mutex, wait, [&] {
    return item.is_decided() || item.last_reply.has_value();
  });
  if (result == WaitResult::kReady && !item.is_decided()) {
    const Deadline until = std::min(wait.deadline, *item.last_reply);
    result = impl_->changed.wait(impl_->mutex, Wait(until, wait.stop),
                                 [&] { return item.is_decided(); });
    if (result == WaitResult::kTimeout && item.state == State::kTaken) {
      result = impl_->changed.wait(impl_->mutex, wait,
                                   [&] { return item.is_decided(); });
    } else if (result == WaitResult::kTimeout &&
               item.last_reply->has_passed()) {
      item.state = State::kFailed;
      result = WaitResult::kReady;
    }
  }
  if (result == WaitResult::kStopped) throw CancelledError(kWait, peer());
  if (result == WaitResult::kTimeout) throw TimeoutError(kWait, peer());
  if (item.state == State::kFailed) {
    throw ConnectionError(std::make_error_code(std::errc::not_connected), kWait,
                          peer(), "ended without the reply");
  }
}

std::size_t PendingTable::size() const noexcept {
  if (!impl_->process.is_here()) return 0;
  const MutexLock lock(impl_->mutex);
  return static_cast<std::size_t>(std::count_if(
      impl_->items.begin(), impl_->items.end(),
      [](const Impl::Item& item) { return item.state == State::kWaiting; }));
}

}  // namespace tcpip::internal
