#include "tcpip/stream_reader.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#include "tcpip/error.h"

namespace tcpip {
namespace {

constexpr std::size_t kFirstBuffer = 8 * 1024;
constexpr std::size_t kBuffer = 64 * 1024;
constexpr std::size_t kKeepBuffer = 4 * 1024 * 1024;
// From here on a read into the caller's memory is worth a look at how much the
// kernel holds, to save a copy.
constexpr std::size_t kDirect = 16 * 1024;

void check_size(std::size_t n, const char* operation) {
  if (n > static_cast<std::size_t>(PTRDIFF_MAX)) {
    throw std::invalid_argument(
        fmt::format("{}: size {} is negative or too large", operation, n));
  }
}

void check_separators(std::span<const std::string_view> separators,
                      const char* operation) {
  bool ok = !separators.empty();
  for (const std::string_view separator : separators) {
    ok = ok && !separator.empty();
  }
  if (!ok) {
    throw std::invalid_argument(
        fmt::format("{}: a separator must have at least one byte", operation));
  }
}

[[noreturn]] void throw_second_reader(const char* operation) {
  throw std::logic_error(fmt::format(
      "{}: another thread is already reading this stream", operation));
}

struct Match {
  std::size_t start = 0;
  std::size_t end = 0;
};

// The first place in `data` where `separator` ends after byte `from`, searched
// by its last byte.
std::optional<Match> find_one(std::string_view data, std::string_view separator,
                              std::size_t from) {
  const std::size_t before = separator.size() - 1;
  const char last = separator.back();
  std::size_t i = std::max(from, before);
  while (i < data.size()) {
    const void* hit = std::memchr(data.data() + i, last, data.size() - i);
    if (hit == nullptr) return std::nullopt;
    i = static_cast<std::size_t>(static_cast<const char*>(hit) - data.data());
    if (before == 0 ||
        std::memcmp(data.data() + i - before, separator.data(), before) == 0) {
      return Match{i - before, i + 1};
    }
    ++i;
  }
  return std::nullopt;
}

std::optional<Match> find_any(std::string_view data,
                              std::span<const std::string_view> separators,
                              std::size_t from) {
  if (separators.size() == 1) return find_one(data, separators.front(), from);
  std::optional<Match> best;
  for (const std::string_view separator : separators) {
    const std::optional<Match> match = find_one(data, separator, from);
    if (!match) continue;
    if (!best || match->end < best->end ||
        (match->end == best->end && match->start > best->start)) {
      best = match;
      data = data.substr(0, match->end);  // a later end would not count
    }
  }
  return best;
}

std::string key_of(std::span<const std::string_view> separators) {
  std::string key;
  for (const std::string_view separator : separators) {
    key += fmt::format("{}:", separator.size());
    key += separator;
  }
  return key;
}

}  // namespace

// One call of a read: how long it may take, and under which name it fails.
struct StreamReader::Attempt {
  const Wait& wait;
  const char* operation;
  // Once the deadline has passed, what the kernel holds at that moment is still
  // taken, and no more: a flood cannot keep the call here. The first fill is
  // free, and does not look at the clock for this.
  bool filled = false;
  bool expired = false;
  std::size_t budget = 0;
};

// Refuses a second reader. Plain loads and stores, since a line that is already
// buffered costs little more than these; fill() makes sure with an exchange.
class StreamReader::Reading {
 public:
  Reading(StreamReader& reader, const char* operation) : reader_(reader) {
    if (reader.reading_.load(std::memory_order_relaxed)) {
      throw_second_reader(operation);
    }
    reader.reading_.store(true, std::memory_order_relaxed);
  }
  ~Reading() { reader_.reading_.store(false, std::memory_order_relaxed); }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  StreamReader& reader_;
};

StreamReader::StreamReader() noexcept = default;
StreamReader::~StreamReader() = default;

StreamReader::StreamReader(std::shared_ptr<Socket> socket, std::size_t limit)
    : socket_(std::move(socket)), limit_(limit) {
  if (limit == 0) {
    throw std::invalid_argument("StreamReader: the limit must be positive");
  }
}

StreamReader::StreamReader(StreamReader&& other) noexcept {
  *this = std::move(other);
}

StreamReader& StreamReader::operator=(StreamReader&& other) noexcept {
  if (this == &other) return *this;
  socket_ = std::move(other.socket_);
  buffer_ = std::move(other.buffer_);
  capacity_ = std::exchange(other.capacity_, 0);
  head_ = std::exchange(other.head_, 0);
  tail_ = std::exchange(other.tail_, 0);
  limit_ = other.limit_;
  scanned_ = std::exchange(other.scanned_, 0);
  scanned_for_ = std::move(other.scanned_for_);
  eof_ = std::exchange(other.eof_, false);
  filled_up_ = std::exchange(other.filled_up_, false);
  error_ = std::exchange(other.error_, 0);
  spin_ = other.spin_;
  received_ = other.received_.exchange(0);
  return *this;
}

std::string StreamReader::peer() const {
  return socket_ ? socket_->peer_address().to_string() : std::string();
}

std::error_code StreamReader::error() const noexcept {
  return {error_, std::generic_category()};
}

std::string_view StreamReader::take(std::size_t n) noexcept {
  const std::string_view taken = buffer().substr(0, n);
  head_ += taken.size();
  scanned_ = 0;
  // The bytes stay where they are until the next receive.
  if (head_ == tail_) head_ = tail_ = 0;
  return taken;
}

void StreamReader::throw_incomplete(const Attempt& attempt,
                                    std::optional<std::size_t> expected) {
  std::string partial(buffer());
  take(partial.size());
  throw IncompleteReadError(attempt.operation, peer(), std::move(partial),
                            expected);
}

void StreamReader::make_room() {
  const std::size_t size = tail_ - head_;
  if (size == 0) {
    head_ = tail_ = 0;
    if (capacity_ > kKeepBuffer) {
      buffer_.reset();
      capacity_ = 0;
    }
  }
  const bool small = capacity_ < kBuffer && filled_up_;
  // Half of the buffer is room enough, or any while a move would be dear.
  const std::size_t room = capacity_ - tail_;
  const bool cheap = size <= capacity_ / 4;
  if (!small && room > 0 && (room >= capacity_ / 2 || !cheap)) return;
  if (!small && head_ > 0 && (cheap || head_ >= capacity_ / 4)) {
    std::memmove(buffer_.get(), buffer_.get() + head_, size);
  } else {
    const std::size_t more = capacity_ == 0        ? kFirstBuffer
                             : capacity_ < kBuffer ? kBuffer
                                                   : 2 * capacity_;
    auto larger = std::make_unique_for_overwrite<char[]>(more);
    if (size > 0) std::memcpy(larger.get(), buffer_.get() + head_, size);
    buffer_ = std::move(larger);
    capacity_ = more;
  }
  head_ = 0;
  tail_ = size;
}

IoResult StreamReader::receive(Attempt& attempt) {
  char* const end = buffer_.get() + tail_;
  const std::size_t room = capacity_ - tail_;
  if (spin_.count() > 0 && !attempt.expired &&
      !attempt.wait.deadline.has_passed()) {
    const Deadline until =
        std::min(Deadline::after(spin_), attempt.wait.deadline);
    do {
      if (attempt.wait.stop.stop_requested()) break;
      const IoResult result = socket_->receive(end, room, Wait::none());
      if (result.status != IoStatus::kTimeout) return result;
      ::sched_yield();
    } while (!until.has_passed());
  }
  return socket_->receive(end, room, attempt.wait);
}

StreamReader::Fill StreamReader::fill(Attempt& attempt) {
  if (attempt.wait.stop.stop_requested()) {
    throw CancelledError(attempt.operation, peer());
  }
  if (!socket_) throw_connection_error(ENOTCONN, attempt.operation, {});
  if (error_ != 0) throw_connection_error(error_, attempt.operation, peer());
  if (eof_) return Fill::kEof;
  if (filling_.exchange(true)) throw_second_reader(attempt.operation);
  struct Filling {
    std::atomic<bool>& flag;
    ~Filling() { flag.store(false); }
  } const filling{filling_};

  if (attempt.filled && !attempt.expired &&
      attempt.wait.deadline.has_passed()) {
    attempt.expired = true;
    attempt.budget = socket_->receivable();
  }
  // What there is includes the end of the stream.
  if (attempt.expired && attempt.budget == 0 && !socket_->at_end()) {
    return Fill::kTimeout;
  }
  make_room();
  const IoResult result = receive(attempt);
  switch (result.status) {
    case IoStatus::kTimeout:
      return Fill::kTimeout;
    case IoStatus::kStopped:
      throw CancelledError(attempt.operation, peer());
    case IoStatus::kClosed:
      eof_ = true;
      return Fill::kEof;
    case IoStatus::kError:
      // Kept only if it is the connection's, not for want of memory or a
      // descriptor.
      if (result.error_number == socket_->lost_error()) {
        error_ = result.error_number;
      }
      throw_connection_error(result.error_number, attempt.operation, peer());
    case IoStatus::kOk:
      break;
  }
  if (result.count == 0) {
    eof_ = true;
    return Fill::kEof;
  }
  filled_up_ = result.count == capacity_ - tail_;
  tail_ += result.count;
  received_.fetch_add(result.count, std::memory_order_relaxed);
  attempt.filled = true;
  attempt.budget -= std::min(attempt.budget, result.count);
  return Fill::kData;
}

// Takes what has come without waiting. True if it was anything. What is wrong
// with the connection is for the read that finds the buffer empty.
bool StreamReader::top_up() {
  const Wait wait = Wait::none();
  Attempt attempt{wait, "read"};
  try {
    return error_ == 0 && fill(attempt) == Fill::kData;
  } catch (const ConnectionError&) {
    return false;
  }
}

std::optional<std::string_view> StreamReader::read_some(std::size_t n,
                                                        Attempt& attempt) {
  if (attempt.wait.stop.stop_requested()) {
    throw CancelledError(attempt.operation, peer());
  }
  if (n == 0) return std::string_view();
  check_size(n, attempt.operation);
  if (buffered() == 0) {
    if (fill(attempt) == Fill::kTimeout) return std::nullopt;
  } else if (buffered() < n) {
    top_up();  // what has come is one, whether it is in our buffer or not
  }
  return take(n);
}

std::optional<std::string_view> StreamReader::until(Span separators,
                                                    Attempt& attempt) {
  if (attempt.wait.stop.stop_requested()) {
    throw CancelledError(attempt.operation, peer());
  }
  std::size_t scanned = 0;
  if (scanned_ != 0 && scanned_for_ == key_of(separators)) scanned = scanned_;
  // What a search has learned is worth keeping only if it ends without result.
  const auto keep = [&] {
    scanned_ = scanned;
    scanned_for_ = key_of(separators);
  };
  const auto throw_overrun = [&](std::string_view what, std::size_t consumed) {
    keep();
    throw LimitOverrunError(attempt.operation, peer(),
                            fmt::format("{} (limit {} bytes)", what, limit_),
                            consumed);
  };
  std::size_t longest = 0;
  for (const std::string_view separator : separators) {
    longest = std::max(longest, separator.size());
  }
  for (;;) {
    const std::string_view data = buffer();
    if (const std::optional<Match> match =
            find_any(data, separators, scanned)) {
      if (match->start > limit_) {
        scanned = match->end - 1;
        throw_overrun("separator is found, but chunk is longer than limit",
                      match->start);
      }
      return take(match->end);
    }
    scanned = data.size();
    if (data.size() + 1 > longest && data.size() + 1 - longest > limit_) {
      // asyncio has read up to twice the limit by now; look as far as it does.
      if (data.size() / 2 <= limit_ && top_up()) continue;
      throw_overrun("separator is not found, and chunk exceeds the limit",
                    data.size() + 1 - longest);
    }
    Fill filled = Fill::kEof;
    try {
      filled = fill(attempt);
    } catch (...) {
      keep();
      throw;
    }
    if (filled == Fill::kEof) throw_incomplete(attempt, std::nullopt);
    if (filled == Fill::kTimeout) {
      keep();
      return std::nullopt;
    }
  }
}

std::optional<std::string_view> StreamReader::line(Attempt& attempt) {
  constexpr std::string_view kNewline = "\n";
  try {
    return until(Span(&kNewline, 1), attempt);
  } catch (const LimitOverrunError& e) {
    const std::string_view rest = buffer().substr(e.consumed());
    take(rest.starts_with('\n') ? e.consumed() + 1 : buffered());
    throw;
  } catch (const IncompleteReadError& e) {
    // Back into the buffer, to be a view of it. There is room: it was there.
    if (!e.partial().empty()) {
      std::memcpy(buffer_.get(), e.partial().data(), e.partial().size());
    }
    return std::string_view(buffer_.get(), e.partial().size());
  }
}

std::optional<std::string_view> StreamReader::exactly(std::size_t n,
                                                      Attempt& attempt) {
  if (attempt.wait.stop.stop_requested()) {
    throw CancelledError(attempt.operation, peer());
  }
  check_size(n, attempt.operation);
  while (buffered() < n) {
    switch (fill(attempt)) {
      case Fill::kData:
        break;
      case Fill::kEof:
        throw_incomplete(attempt, n);
      case Fill::kTimeout:
        return std::nullopt;
    }
  }
  return take(n);
}

// Moves what is buffered and, straight from the kernel, the rest to `out`, if
// the kernel holds all of it. Else, false, and nothing has happened but that
// bytes may have moved from the kernel to the buffer.
bool StreamReader::exactly_direct(std::span<std::byte> out) {
  if (socket_->receivable() < out.size() - buffered()) return false;
  std::size_t have = buffered();
  if (have > 0) std::memcpy(out.data(), buffer_.get() + head_, have);
  take(have);
  while (have < out.size()) {
    const IoResult result =
        socket_->receive_now(out.data() + have, out.size() - have);
    if (result.status != IoStatus::kOk || result.count == 0) {
      throw std::logic_error(
          "read_exactly: bytes that the kernel held are gone; did something "
          "else read from this socket?");
    }
    have += result.count;
    received_.fetch_add(result.count, std::memory_order_relaxed);
  }
  return true;
}

namespace {

std::string_view value_or_timeout(std::optional<std::string_view> result,
                                  const char* operation,
                                  const std::shared_ptr<Socket>& socket) {
  if (result) return *result;
  throw TimeoutError(
      operation, socket ? socket->peer_address().to_string() : std::string());
}

std::optional<std::string> copy(std::optional<std::string_view> result) {
  if (!result) return std::nullopt;
  return std::string(*result);
}

}  // namespace

std::string StreamReader::read(std::size_t n, const Wait& wait) {
  return std::string(read_view(n, wait));
}

std::string_view StreamReader::read_view(std::size_t n, const Wait& wait) {
  const Reading reading(*this, "read");
  Attempt attempt{wait, "read"};
  return value_or_timeout(read_some(n, attempt), "read", socket_);
}

std::optional<std::string> StreamReader::try_read(std::size_t n) {
  const Reading reading(*this, "try_read");
  const Wait wait = Wait::none();
  Attempt attempt{wait, "try_read"};
  return copy(read_some(n, attempt));
}

std::string StreamReader::read_all(const Wait& wait) {
  return read_all(std::numeric_limits<std::size_t>::max(), wait);
}

std::string StreamReader::read_all(std::size_t max, const Wait& wait) {
  const Reading reading(*this, "read_all");
  Attempt attempt{wait, "read_all"};
  if (wait.stop.stop_requested()) throw CancelledError("read_all", peer());
  for (;;) {
    if (buffered() > max) {
      throw LimitOverrunError(
          "read_all", peer(),
          fmt::format("more than the {} bytes that were allowed", max),
          buffered());
    }
    switch (fill(attempt)) {
      case Fill::kData:
        break;
      case Fill::kEof:
        return std::string(take(buffered()));
      case Fill::kTimeout:
        throw TimeoutError("read_all", peer());
    }
  }
}

std::string StreamReader::read_line(const Wait& wait) {
  return std::string(read_line_view(wait));
}

std::string_view StreamReader::read_line_view(const Wait& wait) {
  const Reading reading(*this, "read_line");
  Attempt attempt{wait, "read_line"};
  return value_or_timeout(line(attempt), "read_line", socket_);
}

std::optional<std::string> StreamReader::try_read_line() {
  const Reading reading(*this, "try_read_line");
  const Wait wait = Wait::none();
  Attempt attempt{wait, "try_read_line"};
  return copy(line(attempt));
}

std::string StreamReader::read_until(std::string_view separator,
                                     const Wait& wait) {
  return std::string(read_until_view(separator, wait));
}

std::string StreamReader::read_until(Separators separators, const Wait& wait) {
  return std::string(read_until_view(separators, wait));
}

std::string StreamReader::read_until(
    std::span<const std::string_view> separators, const Wait& wait) {
  check_separators(separators, "read_until");
  const Reading reading(*this, "read_until");
  Attempt attempt{wait, "read_until"};
  return std::string(
      value_or_timeout(until(separators, attempt), "read_until", socket_));
}

std::string_view StreamReader::read_until_view(std::string_view separator,
                                               const Wait& wait) {
  check_separators({&separator, 1}, "read_until");
  const Reading reading(*this, "read_until");
  // A message that is already buffered: the way that must be short.
  if (scanned_ == 0 && !wait.stop.stop_requested()) {
    const std::optional<Match> match = find_one(buffer(), separator, 0);
    if (match && match->start <= limit_) return take(match->end);
  }
  Attempt attempt{wait, "read_until"};
  return value_or_timeout(until({&separator, 1}, attempt), "read_until",
                          socket_);
}

std::string_view StreamReader::read_until_view(Separators separators,
                                               const Wait& wait) {
  const Span span(separators.begin(), separators.size());
  check_separators(span, "read_until");
  const Reading reading(*this, "read_until");
  Attempt attempt{wait, "read_until"};
  return value_or_timeout(until(span, attempt), "read_until", socket_);
}

std::optional<std::string> StreamReader::try_read_until(
    std::string_view separator) {
  return try_read_until({separator});
}

std::optional<std::string> StreamReader::try_read_until(Separators separators) {
  const Span span(separators.begin(), separators.size());
  check_separators(span, "try_read_until");
  const Reading reading(*this, "try_read_until");
  const Wait wait = Wait::none();
  Attempt attempt{wait, "try_read_until"};
  return copy(until(span, attempt));
}

std::string StreamReader::read_exactly(std::size_t n, const Wait& wait) {
  return std::string(read_exactly_view(n, wait));
}

std::string_view StreamReader::read_exactly_view(std::size_t n,
                                                 const Wait& wait) {
  const Reading reading(*this, "read_exactly");
  Attempt attempt{wait, "read_exactly"};
  return value_or_timeout(exactly(n, attempt), "read_exactly", socket_);
}

std::optional<std::string> StreamReader::try_read_exactly(std::size_t n) {
  const Reading reading(*this, "try_read_exactly");
  const Wait wait = Wait::none();
  Attempt attempt{wait, "try_read_exactly"};
  return copy(exactly(n, attempt));
}

void StreamReader::read_exactly(std::span<std::byte> out, const Wait& wait) {
  const Reading reading(*this, "read_exactly");
  Attempt attempt{wait, "read_exactly"};
  if (wait.stop.stop_requested()) throw CancelledError("read_exactly", peer());
  while (socket_ && !socket_->is_closed() && buffered() < out.size() &&
         out.size() - buffered() >= kDirect) {
    if (exactly_direct(out)) return;
    const Fill filled = fill(attempt);
    if (filled == Fill::kEof) throw_incomplete(attempt, out.size());
    if (filled == Fill::kTimeout) throw TimeoutError("read_exactly", peer());
  }
  const std::string_view data =
      value_or_timeout(exactly(out.size(), attempt), "read_exactly", socket_);
  if (!data.empty()) std::memcpy(out.data(), data.data(), data.size());
}

bool StreamReader::wait_readable(const Wait& wait) {
  const Reading reading(*this, "wait_readable");
  if (wait.stop.stop_requested()) throw CancelledError("wait_readable", peer());
  if (!socket_) throw_connection_error(ENOTCONN, "wait_readable", {});
  if (buffered() > 0 || eof_ || error_ != 0) return true;
  const IoResult result = socket_->wait_receivable(wait);
  switch (result.status) {
    case IoStatus::kTimeout:
      return false;
    case IoStatus::kStopped:
      throw CancelledError("wait_readable", peer());
    case IoStatus::kError:
      throw_connection_error(result.error_number, "wait_readable", peer());
    default:
      return true;
  }
}

std::size_t StreamReader::skip(std::size_t n) {
  const Reading reading(*this, "skip");
  return take(n).size();
}

std::size_t StreamReader::discard() {
  const Reading reading(*this, "discard");
  const Wait wait = Wait::none();
  Attempt attempt{wait, "discard"};
  std::size_t dropped = take(buffered()).size();
  try {
    while (socket_ && error_ == 0 && fill(attempt) == Fill::kData) {
      dropped += take(buffered()).size();
    }
  } catch (const ConnectionError&) {
    // The next read throws it.
  }
  return dropped;
}

std::size_t StreamReader::discard_until(std::string_view separator,
                                        const Wait& wait) {
  check_separators({&separator, 1}, "discard_until");
  const Reading reading(*this, "discard_until");
  Attempt attempt{wait, "discard_until"};
  if (wait.stop.stop_requested()) throw CancelledError("discard_until", peer());
  std::size_t dropped = 0;
  for (;;) {
    if (const auto match = find_one(buffer(), separator, 0)) {
      return dropped + take(match->end).size();
    }
    // All but what may be the beginning of a separator.
    if (buffered() >= separator.size()) {
      dropped += take(buffered() - (separator.size() - 1)).size();
    }
    const Fill filled = fill(attempt);
    if (filled == Fill::kEof) throw_incomplete(attempt, std::nullopt);
    if (filled == Fill::kTimeout) throw TimeoutError("discard_until", peer());
  }
}

bool StreamReader::at_eof() const noexcept {
  if (buffered() > 0 || error_ != 0) return false;
  if (eof_ || !socket_) return true;
  return socket_->at_end() && socket_->lost_error() == 0;
}

}  // namespace tcpip
