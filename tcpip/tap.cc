#include "tcpip/tap.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "tcpip/base/log_line.h"
#include "tcpip/base/mutex.h"
#include "tcpip/base/process.h"
#include "tcpip/base/workers.h"
#include "tcpip/error.h"
#include "tcpip/stream/tap_line.h"

namespace tcpip {
namespace {

using internal::Mutex;
using internal::MutexLock;
using internal::WaitResult;
using Pieces = internal::TapLine::Pieces;

constexpr std::size_t kLeastBuffer = 1024;
constexpr std::size_t kMostBuffer = std::size_t{1} << 30;
// Kept for the beginnings and ends of connections, beside Options::buffer.
constexpr std::size_t kForEvents = 64 * 1024;

// What stands in memory before the name and the bytes of a record.
struct Header {
  TapEvent event = TapEvent::kReceived;
  std::chrono::system_clock::time_point time = {};
  std::uint64_t connection = 0;
  std::uint64_t id = 0;
  std::uint64_t position = 0;
  std::uint64_t skipped = 0;
  Address local = {};
  Address peer = {};
  std::size_t name_size = 0;
  std::size_t size = 0;
};
static_assert(std::is_trivially_copyable_v<Header>);

struct Memory {
  std::unique_ptr<char[]> bytes;
  std::size_t used = 0;

  void append(const void* data, std::size_t size) noexcept {
    if (size == 0) return;
    std::memcpy(bytes.get() + used, data, size);
    used += size;
  }
};

}  // namespace

// The thread holds a reference, since the sink may destroy the Tap.
class Tap::Impl {
 public:
  explicit Impl(const Options& options)
      : buffer_(options.buffer),
        filling_{std::make_unique_for_overwrite<char[]>(buffer_ + kForEvents)},
        draining_{
            std::make_unique_for_overwrite<char[]>(buffer_ + kForEvents)} {}

  static void start(const std::shared_ptr<Impl>& self, Sink sink,
                    const Options& options);

  std::uint64_t new_id() noexcept { return ++last_id_; }
  // Returns how many of the bytes will be shown.
  std::size_t add(Header header, std::string_view name, Pieces pieces,
                  std::size_t count) noexcept TCPIP_EXCLUDES(mutex_);
  void flush(const Wait& wait) TCPIP_EXCLUDES(mutex_);
  void close() TCPIP_EXCLUDES(mutex_);

  const internal::ProcessMark process;
  std::atomic<std::uint64_t> skipped{0};
  std::atomic<std::uint64_t> sink_errors{0};

 private:
  void run(const Sink& sink, const Log& log) TCPIP_EXCLUDES(mutex_);
  void show_all(const Sink& sink, const Log& log);
  void show(const Sink& sink, const TapRecord& record, const Log& log) noexcept;

  const std::size_t buffer_;
  std::atomic<std::uint64_t> last_id_{0};
  // The thread shows no further record.
  std::atomic<bool> stop_{false};

  Mutex mutex_;
  internal::CondVar changed_;
  Memory filling_ TCPIP_GUARDED_BY(mutex_);
  // How many records were added, and how many of them were shown.
  std::uint64_t added_ TCPIP_GUARDED_BY(mutex_) = 0;
  std::uint64_t shown_ TCPIP_GUARDED_BY(mutex_) = 0;
  bool closed_ TCPIP_GUARDED_BY(mutex_) = false;
  bool ended_ TCPIP_GUARDED_BY(mutex_) = false;  // the thread shows no more

  Memory draining_;  // of the thread

  internal::Workers workers_;  // last: destroyed first
};

void Tap::Impl::start(const std::shared_ptr<Impl>& self, Sink sink,
                      const Options& options) {
  self->workers_.start(
      {.role = ThreadRole::kTap,
       .name = "tcpip-tap",
       .hook = options.thread_start_hook,
       .log = options.log},
      // The sink is destroyed together with this function, at the thread's end:
      // streams that the program keeps must not keep its file open.
      [self, sink = std::move(sink), log = options.log] {
        self->run(sink, log);
      });
}

std::size_t Tap::Impl::add(Header header, std::string_view name, Pieces pieces,
                           std::size_t count) noexcept {
  header.name_size = name.size();
  const std::size_t head = sizeof(Header) + name.size();
  const bool is_event = count == 0;
  const MutexLock lock(mutex_);
  if (closed_) return 0;
  header.time = std::chrono::system_clock::now();
  const std::size_t most = is_event ? buffer_ + kForEvents : buffer_;
  const std::size_t room = most - std::min(most, filling_.used);
  if (room < head + (is_event ? 0 : 1)) {
    skipped.fetch_add(count, std::memory_order_relaxed);
    return 0;
  }
  header.size = std::min(count, room - head);
  skipped.fetch_add(count - header.size, std::memory_order_relaxed);
  filling_.append(&header, sizeof(Header));
  filling_.append(name.data(), name.size());
  std::size_t left = header.size;
  for (const Socket::Piece& piece : pieces) {
    const std::size_t n = std::min(left, piece.size);
    filling_.append(piece.data, n);
    left -= n;
  }
  ++added_;
  changed_.notify_all();
  return header.size;
}

void Tap::Impl::flush(const Wait& wait) {
  process.check("flush");
  const MutexLock lock(mutex_);
  const std::uint64_t target = added_;
  switch (changed_.wait(mutex_, wait, [&]() TCPIP_REQUIRES(mutex_) {
    return shown_ >= target || ended_;
  })) {
    case WaitResult::kReady:
      return;
    case WaitResult::kTimeout:
      throw TimeoutError("flush", "tap");
    case WaitResult::kStopped:
      throw CancelledError("flush", "tap");
  }
}

void Tap::Impl::close() {
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  workers_.refuse();
  // If the thread could not be joined, it is in the sink, which returns after
  // this. The records behind that one must not be shown after close().
  if (!workers_.join()) stop_ = true;
}

void Tap::Impl::run(const Sink& sink, const Log& log) {
  for (;;) {
    std::uint64_t taken = 0;
    {
      const MutexLock lock(mutex_);
      changed_.wait(mutex_, {}, [this]() TCPIP_REQUIRES(mutex_) {
        return filling_.used > 0 || closed_;
      });
      if (filling_.used == 0) break;
      std::swap(filling_, draining_);
      taken = added_;
    }
    show_all(sink, log);
    const MutexLock lock(mutex_);
    shown_ = taken;
    changed_.notify_all();
  }
  const MutexLock lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

void Tap::Impl::show_all(const Sink& sink, const Log& log) {
  const std::string_view all(draining_.bytes.get(), draining_.used);
  for (std::size_t at = 0; at < all.size() && !stop_;) {
    Header header;
    std::memcpy(&header, all.data() + at, sizeof header);
    at += sizeof header;
    const std::string_view name = all.substr(at, header.name_size);
    at += name.size();
    const std::string_view bytes = all.substr(at, header.size);
    at += bytes.size();
    show(sink,
         {.event = header.event,
          .time = header.time,
          .name = name,
          .connection = header.connection,
          .id = header.id,
          .local = header.local,
          .peer = header.peer,
          .bytes = bytes,
          .position = header.position,
          .skipped = header.skipped},
         log);
  }
  draining_.used = 0;
}

void Tap::Impl::show(const Sink& sink, const TapRecord& record,
                     const Log& log) noexcept {
  const auto note = [&](const char* what) {
    if (++sink_errors > 1) return;
    internal::log_line(log, LogLevel::kError, [&] {
      return fmt::format("the sink of a tap failed: {}", what);
    });
  };
  try {
    sink(record);
  } catch (const std::exception& e) {
    note(internal::what_of(e));
  } catch (...) {
    note("an unknown exception");
  }
}

// --- The face ---

Tap::Tap(Sink sink, Options options) {
  if (!sink) throw std::invalid_argument("Tap: the sink is empty");
  if (options.buffer < kLeastBuffer || options.buffer > kMostBuffer) {
    throw std::invalid_argument("Tap: buffer out of range");
  }
  impl_ = std::make_shared<Impl>(options);
  Impl::start(impl_, std::move(sink), options);
}

// These members hold a reference to the Impl: the sink may destroy the Tap
// meanwhile.

Tap::~Tap() {
  if (!impl_) return;
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) {
    impl->close();
  } else {
    internal::keep_for_ever(impl);
  }
}

void Tap::flush(const Wait& wait) {
  const std::shared_ptr<Impl> impl = impl_;
  impl->flush(wait);
}
std::uint64_t Tap::skipped_bytes() const noexcept { return impl_->skipped; }
std::uint64_t Tap::sink_errors() const noexcept { return impl_->sink_errors; }
void Tap::close() {
  const std::shared_ptr<Impl> impl = impl_;
  if (impl->process.is_here()) impl->close();
}

// --- A connection's side ---

namespace internal {

TapLine::TapLine(const Tap& tap, std::string name, const Address& local,
                 const Address& peer)
    : tap_(tap.impl_),
      name_(std::move(name)),
      local_(local),
      peer_(peer),
      id_(tap_->new_id()) {}

TapLine::~TapLine() = default;

void TapLine::began(TapEvent event, std::uint64_t connection) noexcept {
  connection_ = connection;
  Direction none;
  pass(event, none, {}, 0);
}

void TapLine::ended() noexcept {
  Direction none;
  pass(TapEvent::kEnded, none, {}, 0);
}

void TapLine::received(std::string_view bytes) noexcept {
  // Waits until what they may answer is shown.
  { const MutexLock lock(sending_); }
  const Socket::Piece piece{bytes.data(), bytes.size()};
  pass(TapEvent::kReceived, received_, {&piece, 1}, bytes.size());
}

void TapLine::sent(Pieces pieces, std::size_t count) noexcept {
  pass(TapEvent::kSent, sent_, pieces, count);
}

void TapLine::pass(TapEvent event, Direction& direction, Pieces pieces,
                   std::size_t count) noexcept {
  const std::size_t shown = tap_->add({.event = event,
                                       .connection = connection_,
                                       .id = id_,
                                       .position = direction.position,
                                       .skipped = direction.skipped,
                                       .local = local_,
                                       .peer = peer_},
                                      name_, pieces, count);
  direction.position += count;
  if (shown > 0) direction.skipped = 0;
  direction.skipped += count - shown;
}

}  // namespace internal
}  // namespace tcpip
