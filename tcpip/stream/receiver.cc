#include "tcpip/stream/receiver.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#include "tcpip/error.h"
#include "tcpip/net/socket_calls.h"

namespace tcpip::internal {
namespace {

// A read of at least this many bytes into the caller's memory first asks how
// many the kernel holds, to save a copy. For fewer, asking costs more.
constexpr std::size_t kDirect = 16 * 1024;

// A silence that is longer is cut to this: no clock can add the longest ones.
constexpr std::chrono::hours kLongestSilence{100 * 365 * 24};

[[noreturn]] void throw_bad_size(std::size_t n, const Call& call) {
  throw std::invalid_argument(
      fmt::format("{}: size {} is negative or too large", call.operation, n));
}

void check_size(std::size_t n, const Call& call) {
  if (n <= static_cast<std::size_t>(PTRDIFF_MAX)) return;
  // A requested stop wins over a bad size: the caller checks for it next.
  if (!call.wait.stop.stop_requested()) throw_bad_size(n, call);
}

void check_silence(std::chrono::microseconds& silence, std::size_t max,
                   const Call& call) {
  check_size(max, call);
  if (silence <= silence.zero() || max == 0) {
    throw std::invalid_argument(fmt::format(
        "{}: the silence and the size must be positive", call.operation));
  }
  silence = std::min<std::chrono::microseconds>(silence, kLongestSilence);
}

bool may_take_at_once(const Call& call) {
  return !call.wait.stop.stop_requested();
}

// What an operation does with a message.
constexpr auto kAsView = [](std::string_view message) { return message; };
constexpr auto kAsString = [](std::string_view message) {
  return std::string(message);
};
auto give_to(Receiver::Consumer& consumer) {
  return [&consumer](std::string_view message) {
    consumer.consume(message);
    return true;
  };
}

}  // namespace

// Lives from the beginning of an operation to its end.
class Receiver::Operation {
 public:
  [[gnu::always_inline]] Operation(Receiver& receiver, const char* operation)
      : receiver_(receiver) {
    receiver.process_.check(operation);
    receiver.sole_reader_.begin(operation);
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Inline, since a call would double the cost of taking a buffered line.
  [[gnu::always_inline]] ~Operation() {
    if (has_ended_) [[unlikely]] {
      return;
    }
    // Look at the buffer before end(): after it, another thread may read.
    if (!receiver_.has_observer_ || !(lost_ || receiver_.buffer_.empty())) {
      receiver_.sole_reader_.end();
      return;
    }
    // First end(), then look at what expect_end() has set. In the other order,
    // a watching thread that calls it between the two would see a read under
    // way, and that read would not see the call.
    receiver_.sole_reader_.end_before_look();
    if (lost_ || receiver_.has_ended() ||
        receiver_.end_is_expected_.load(std::memory_order_seq_cst)) {
      receiver_.tell_observer(lost_);
    }
  }

  // Ends the operation before it throws an IncompleteReadError: the first
  // exception of a process takes so long to throw that the observer must not
  // wait for it. After this another thread may read.
  void end_lost() noexcept {
    has_ended_ = true;
    receiver_.sole_reader_.end_before_look();
    if (receiver_.has_observer_) receiver_.tell_observer(/*lost=*/true);
  }

  // Runs everything that may throw, and records how it has ended.
  template <class Body>
  auto run(Body body) {
    try {
      return body();
    } catch (const ConnectionError&) {
      lost_ = true;
      throw;
    }
  }

 private:
  Receiver& receiver_;
  bool lost_ = false;
  bool has_ended_ = false;
};

// What an operation knows while it fills the buffer again and again.
struct Receiver::Attempt {
  const Call& call;
  // To be ended with the stream; null if the caller goes on then.
  Operation* operation = nullptr;
  // Once the deadline has passed, the operation still takes as many bytes as
  // the kernel holds at that moment (`budget`), and no more: a peer that floods
  // cannot keep the call here. The first fill is not counted and does not look
  // at the clock.
  bool filled = false;
  bool expired = false;
  std::size_t budget = 0;
};

Receiver::Receiver(std::shared_ptr<Socket> socket, std::size_t limit,
                   Meter meter)
    : socket_(std::move(socket)), limit_(limit), meter_(std::move(meter)) {}

Receiver::~Receiver() = default;

std::string Receiver::peer() const {
  return socket_->peer_address().to_string();
}

void Receiver::tell_observer(bool lost) noexcept {
  // A reader that the program keeps may outlive the connection's Link.
  if (const auto observer = observer_.lock()) observer->read_ended(lost);
}

inline void Receiver::check_stop(const Call& call) const {
  if (call.wait.stop.stop_requested()) [[unlikely]] {
    throw_cancelled(call);
  }
}

void Receiver::throw_cancelled(const Call& call) const {
  throw CancelledError(call.operation, peer());
}

void Receiver::throw_timeout(const Call& call) const {
  meter_.count(&Counters::read_timeouts);
  throw TimeoutError(call.operation, peer());
}

// These are inline, as Operation is, since each call would cost a tenth of what
// taking a buffered line costs.
[[gnu::always_inline]] inline std::string_view Receiver::take(
    std::size_t n) noexcept {
  const std::string_view taken = buffer_.take(n);
  if (!search_.empty()) [[unlikely]] {
    search_.took(taken.size());
  }
  if (in_dropped_line_) [[unlikely]] {
    in_dropped_line_ = taken.find('\n') == taken.npos;
  }
  return taken;
}

[[gnu::always_inline]] inline std::string_view Receiver::take_message(
    std::size_t n) noexcept {
  if (n > 0) meter_.count(&Counters::messages_received);
  return take(n);
}

// The size of the message at the beginning of the buffer, or 0: then a closer
// look is needed.
[[gnu::always_inline]] inline std::size_t Receiver::buffered_message(
    const Call& call, std::string_view separator) const noexcept {
  if (!may_take_at_once(call) || !search_.empty()) return 0;
  const std::string_view unread = buffer_.unread();
  const std::size_t before = separator.size() - 1;
  if (unread.size() <= before) return 0;
  const void* const hit = std::memchr(unread.data() + before, separator.back(),
                                      unread.size() - before);
  if (hit == nullptr) return 0;
  const char* const start = static_cast<const char*>(hit) - before;
  const auto size = static_cast<std::size_t>(start - unread.data());
  if (size > limit_) return 0;
  if (before > 0 && std::memcmp(start, separator.data(), before) != 0) return 0;
  return size + separator.size();
}

// Takes the first n bytes, and returns what consume() makes of them. They stay
// if there is no memory for that.
template <class Consume>
[[gnu::always_inline]] inline auto Receiver::hand_out(std::size_t n,
                                                      Consume consume) {
  // A view stays valid when its bytes are taken.
  const std::string_view message = buffer_.unread().substr(0, n);
  try {
    auto result = consume(message);
    take_message(n);
    return result;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (...) {
    take_message(n);
    throw;
  }
}

void Receiver::throw_incomplete(const Attempt& attempt,
                                std::optional<std::size_t> expected) {
  const std::size_t size = buffer_.size();
  const IncompleteReadError error(attempt.call.operation, peer(),
                                  std::string(buffer_.unread()), expected);
  take(size);
  if (attempt.operation != nullptr) attempt.operation->end_lost();
  throw error;
}

void Receiver::throw_error(int error_number, const Call& call) const {
  throw_connection_error(error_number, call.operation, peer());
}

inline IoResult Receiver::receive(std::span<char> room,
                                  const Attempt& attempt) {
  if (spin_.count() > 0) [[unlikely]] {
    return spin_and_receive(room, attempt);
  }
  return socket_->receive(room.data(), room.size(), attempt.call.wait);
}

IoResult Receiver::spin_and_receive(std::span<char> room,
                                    const Attempt& attempt) {
  const Wait& wait = attempt.call.wait;
  if (!attempt.expired && !wait.deadline.has_passed()) {
    const Deadline until = std::min(Deadline::after(spin_), wait.deadline);
    do {
      if (wait.stop.stop_requested()) break;
      const IoResult result =
          socket_->receive(room.data(), room.size(), Wait::none());
      if (result.status != IoStatus::kTimeout) return result;
      ::sched_yield();
    } while (!until.has_passed());
  }
  return socket_->receive(room.data(), room.size(), wait);
}

[[gnu::hot]] Receiver::Fill Receiver::fill(Attempt& attempt) {
  check_stop(attempt.call);
  if (has_ended() || attempt.filled) [[unlikely]] {
    if (const std::optional<Fill> end = before_fill(attempt)) return *end;
  }
  const IoResult result = receive(buffer_.make_room(), attempt);
  if (result.status != IoStatus::kOk || result.count == 0) [[unlikely]] {
    return nothing_came(result, attempt.call);
  }
  buffer_.add(result.count);
  const std::string_view unread = buffer_.unread();
  meter_.received(unread.substr(unread.size() - result.count));
  attempt.filled = true;
  attempt.budget -= std::min(attempt.budget, result.count);
  return Fill::kData;
}

// Nothing if there may be more to receive, and time for it.
std::optional<Receiver::Fill> Receiver::before_fill(Attempt& attempt) {
  if (error_number() != 0) {
    throw_error(error_number(), attempt.call);
  }
  if (eof_.load(std::memory_order_relaxed)) return Fill::kEof;
  if (!attempt.expired && attempt.call.wait.deadline.has_passed()) {
    attempt.expired = true;
    attempt.budget = socket_->receivable();
  }
  // The end of the stream is taken even without a budget.
  if (attempt.expired && attempt.budget == 0 && !socket_->at_end()) {
    return Fill::kTimeout;
  }
  return std::nullopt;
}

// What a fill() comes to that has received nothing.
Receiver::Fill Receiver::nothing_came(const IoResult& result,
                                      const Call& call) {
  switch (result.status) {
    case IoStatus::kTimeout:
      return Fill::kTimeout;
    case IoStatus::kStopped:
      throw_cancelled(call);
    case IoStatus::kClosed:
      // If this side closed the connection because it was lost, the loss is
      // what the program must be told.
      if (const int lost = socket_->lost_error(); lost != 0) {
        error_.store(lost, std::memory_order_relaxed);
        throw_error(lost, call);
      }
      eof_.store(true, std::memory_order_relaxed);
      return Fill::kEof;
    case IoStatus::kError:
      // Keep the error only if the connection has it. A lack of memory or
      // descriptors passes.
      if (result.error_number == socket_->lost_error()) {
        error_.store(result.error_number, std::memory_order_relaxed);
      }
      throw_error(result.error_number, call);
    case IoStatus::kOk:
      break;
  }
  eof_.store(true, std::memory_order_relaxed);
  return Fill::kEof;
}

// Takes what has come without waiting. True if that was at least a byte. Leaves
// an error of the connection to the read that finds the buffer empty.
bool Receiver::top_up(const char* operation) {
  if (error_number() != 0) return false;
  const Wait wait = Wait::none();
  const Call call{operation, wait};
  Attempt attempt{call};
  try {
    return fill(attempt) == Fill::kData;
  } catch (const ConnectionError&) {
    return false;
  }
}

std::optional<std::size_t> Receiver::some(std::size_t n, Attempt& attempt) {
  check_stop(attempt.call);
  if (n == 0) return 0;
  if (buffer_.empty()) {
    if (fill(attempt) == Fill::kTimeout) return std::nullopt;
  } else if (buffer_.size() < n) {
    // Also take what the kernel holds: the program does not know of our buffer.
    top_up(attempt.call.operation);
  }
  return std::min(n, buffer_.size());
}

std::optional<Match> Receiver::find(SeparatorSpan separators) {
  return search_.find(buffer_.unread(), separators);
}

std::optional<std::size_t> Receiver::until(SeparatorSpan separators,
                                           AtEnd at_end, Attempt& attempt) {
  check_stop(attempt.call);
  const char* const operation = attempt.call.operation;
  const auto throw_overrun = [&](std::string_view what, std::size_t consumed) {
    meter_.count(&Counters::overruns);
    throw LimitOverrunError(operation, peer(),
                            fmt::format("{} (limit {} bytes)", what, limit_),
                            consumed);
  };
  for (;;) {
    if (!buffer_.empty()) {
      // Mostly the message has come as a whole. What had come before was looked
      // at already.
      if (attempt.filled && separators.size() == 1) {
        const std::size_t size =
            buffered_message(attempt.call, separators.front());
        if (size > 0) return size;
      }
      if (const std::optional<Match> match = find(separators)) {
        if (match->start > limit_) {
          throw_overrun("separator is found, but chunk is longer than limit",
                        match->start);
        }
        return match->end;
      }
    }
    const std::size_t size = buffer_.size();
    if (size > limit_) [[unlikely]] {
      std::size_t longest = 0;
      for (const std::string_view separator : separators) {
        longest = std::max(longest, separator.size());
      }
      if (size + 1 > longest && size + 1 - longest > limit_) {
        // asyncio reads up to twice the limit before it gives up: do the same.
        if (size / 2 <= limit_ && top_up(operation)) continue;
        throw_overrun("separator is not found, and chunk exceeds the limit",
                      size + 1 - longest);
      }
    }
    switch (fill(attempt)) {
      case Fill::kData:
        break;
      case Fill::kEof:
        if (at_end == AtEnd::kTakeRest) return buffer_.size();
        throw_incomplete(attempt, std::nullopt);
      case Fill::kTimeout:
        return std::nullopt;
    }
  }
}

std::optional<std::size_t> Receiver::line(Attempt& attempt) {
  constexpr std::string_view kNewline = "\n";
  check_stop(attempt.call);
  if (in_dropped_line_ && !drop_rest_of_line(attempt)) return std::nullopt;
  try {
    return until({&kNewline, 1}, AtEnd::kTakeRest, attempt);
  } catch (const LimitOverrunError& e) {
    const std::string_view rest = buffer_.unread().substr(e.consumed());
    if (rest.starts_with('\n')) {
      take(e.consumed() + 1);
    } else {
      // What is still to come of this line must not look like a line.
      take(buffer_.size());
      in_dropped_line_ = true;
    }
    throw;
  }
}

// False at the deadline.
bool Receiver::drop_rest_of_line(Attempt& attempt) {
  for (;;) {
    const std::size_t newline = buffer_.unread().find('\n');
    if (newline != std::string_view::npos) {
      take(newline + 1);
      return true;
    }
    take(buffer_.size());
    switch (fill(attempt)) {
      case Fill::kData:
        break;
      case Fill::kEof:
        return true;
      case Fill::kTimeout:
        return false;
    }
  }
}

std::optional<std::size_t> Receiver::exactly(std::size_t n, Attempt& attempt) {
  check_stop(attempt.call);
  while (buffer_.size() < n) {
    switch (fill(attempt)) {
      case Fill::kData:
        break;
      case Fill::kEof:
        throw_incomplete(attempt, n);
      case Fill::kTimeout:
        return std::nullopt;
    }
  }
  return n;
}

// To be called right after the buffer was filled: notes when the last byte in
// it came.
void Receiver::note_arrival() {
  const auto now = Deadline::Clock::now();
  arrival_ = {buffer_.received(), now, std::nullopt};
  if (const auto last = last_segment(socket_->native_handle())) {
    using std::chrono::milliseconds;
    arrival_.time -= std::max(last->age - LastSegment::kTick, milliseconds(0));
    arrival_.segment = last->number;
  }
}

// For bytes in the kernel that this thread finds only after `end`, when the
// message in the buffer has ended if nothing came until then: true if they
// certainly came later. That can be told only if one segment brought them.
// Where it cannot, a message is rather taken together with the next one than
// torn.
bool Receiver::is_next_message(Deadline end) const {
  if (!arrival_.segment) return false;
  const auto now = Deadline::Clock::now();
  const auto last = last_segment(socket_->native_handle());
  return last && last->number == *arrival_.segment + 1 &&
         now - last->age - LastSegment::kTick >= end.when();
}

// As fill(). But the error that has broken the connection is left to the next
// operation, and counts as the end here: for a buffer that is not empty.
Receiver::Fill Receiver::fill_at_end(const Call& call) {
  Attempt attempt{call};
  try {
    return fill(attempt);
  } catch (const ConnectionError&) {
    if (error_number() == 0) throw;
    return Fill::kEof;
  }
}

std::optional<std::size_t> Receiver::until_silence(
    std::chrono::microseconds silence, std::size_t max, const Call& call) {
  check_stop(call);
  if (buffer_.empty()) {
    Attempt attempt{call};
    const Fill first = fill(attempt);
    if (first != Fill::kData) {
      return first == Fill::kEof ? std::optional<std::size_t>(0) : std::nullopt;
    }
    note_arrival();
  } else if (arrival_.position != buffer_.received()) {
    // Another operation has filled the buffer.
    top_up(call.operation);
    note_arrival();
  }
  // As Attempt::budget.
  std::optional<std::size_t> budget;
  for (;;) {
    check_stop(call);
    const std::size_t size = buffer_.size();
    if (size >= max) return max;
    if (has_ended()) return size;
    const Deadline end(arrival_.time + silence);
    const auto is_over = [&] {
      return end.has_passed() &&
             (socket_->receivable() == 0 || is_next_message(end));
    };
    if (is_over()) return size;
    if (!budget && call.wait.deadline.has_passed()) {
      budget = socket_->receivable();
    }
    if (budget == 0 && !socket_->at_end()) return std::nullopt;
    const Wait wait(std::min(end, call.wait.deadline), call.wait.stop);
    // Not fill() alone: if this thread is late, it must look first whether the
    // bytes that have come belong to this message.
    socket_->wait_receivable(wait);
    if (is_over()) return size;
    switch (fill_at_end({call.operation, wait})) {
      case Fill::kData:
        note_arrival();
        if (budget) *budget -= std::min(*budget, buffer_.size() - size);
        break;
      case Fill::kEof:
        return size;
      case Fill::kTimeout:
        if (end.has_passed()) return size;
        break;
    }
  }
}

// False, with `out` untouched, at the deadline.
bool Receiver::exactly(std::span<std::byte> out, Attempt& attempt) {
  check_stop(attempt.call);
  while (!socket_->is_closed() && buffer_.size() < out.size() &&
         out.size() - buffer_.size() >= kDirect) {
    if (exactly_direct(out)) return true;
    switch (fill(attempt)) {
      case Fill::kData:
        break;
      case Fill::kEof:
        throw_incomplete(attempt, out.size());
      case Fill::kTimeout:
        return false;
    }
  }
  if (!exactly(out.size(), attempt)) return false;
  const std::string_view data = take_message(out.size());
  if (!data.empty()) std::memcpy(out.data(), data.data(), data.size());
  return true;
}

// If the kernel holds all that is missing: receives it straight into `out`,
// behind the buffered bytes. Else, or if a call fails half-way, the bytes are
// in the buffer, and this returns false.
bool Receiver::exactly_direct(std::span<std::byte> out) {
  const std::size_t begin = buffer_.size();
  if (socket_->receivable() < out.size() - begin) return false;
  std::size_t have = begin;
  while (have < out.size()) {
    const IoResult result =
        socket_->receive_now(out.data() + have, out.size() - have);
    if (result.status != IoStatus::kOk || result.count == 0) break;
    meter_.received(
        {reinterpret_cast<const char*>(out.data()) + have, result.count});
    have += result.count;
  }
  if (have < out.size()) {
    keep(out.subspan(begin, have - begin));
    return false;
  }
  const std::string_view buffered = take(begin);
  if (begin > 0) std::memcpy(out.data(), buffered.data(), begin);
  buffer_.count_past(out.size() - begin);
  meter_.count(&Counters::messages_received);
  if (in_dropped_line_ && std::memchr(out.data(), '\n', out.size())) {
    in_dropped_line_ = false;
  }
  return true;
}

// Puts bytes that were received elsewhere behind those in the buffer. If there
// is no memory for that, the stream has a gap, and so the connection is lost.
void Receiver::keep(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    std::span<char> room;
    try {
      room = buffer_.make_room();
    } catch (const std::bad_alloc&) {
      error_.store(ENOMEM, std::memory_order_relaxed);
      throw;
    }
    const std::size_t n = std::min(room.size(), bytes.size());
    std::memcpy(room.data(), bytes.data(), n);
    buffer_.add(n);
    bytes = bytes.subspan(n);
  }
}

// The operations below first try to take what is already buffered, before they
// set up anything for a wait or an exception: that path must be fast.

template <class Consume>
auto Receiver::read_with(const Call& call, std::size_t n, Consume consume) {
  check_size(n, call);
  Operation operation(*this, call.operation);
  if (may_take_at_once(call) && n <= buffer_.size()) {
    return hand_out(n, consume);
  }
  return operation.run([&] {
    Attempt attempt{call, &operation};
    return hand_out(value(some(n, attempt), call), consume);
  });
}

template <class Consume>
auto Receiver::read_line_with(const Call& call, Consume consume) {
  Operation operation(*this, call.operation);
  if (!in_dropped_line_) {
    const std::size_t size = buffered_message(call, "\n");
    if (size > 0) return hand_out(size, consume);
  }
  return operation.run([&] {
    Attempt attempt{call, &operation};
    return hand_out(value(line(attempt), call), consume);
  });
}

template <class Consume>
[[gnu::always_inline]] inline auto Receiver::read_until_with(
    const Call& call, std::string_view separator, Consume consume) {
  if (separator.empty()) [[unlikely]] {
    throw_empty_separator(call.operation);
  }
  Operation operation(*this, call.operation);
  const std::size_t size = buffered_message(call, separator);
  if (size > 0) [[likely]] {
    return hand_out(size, consume);
  }
  return hand_out(wait_until(operation, call, {&separator, 1}), consume);
}

template <class Consume>
auto Receiver::read_until_with(const Call& call, SeparatorSpan separators,
                               Consume consume) {
  check_separators(separators, call.operation);
  Operation operation(*this, call.operation);
  return hand_out(wait_until(operation, call, separators), consume);
}

// The size of the message, once all of it is in the buffer.
[[gnu::noinline, gnu::hot]] std::size_t Receiver::wait_until(
    Operation& operation, const Call& call, SeparatorSpan separators) {
  return operation.run([&] {
    Attempt attempt{call, &operation};
    return value(until(separators, AtEnd::kThrow, attempt), call);
  });
}

template <class Consume>
auto Receiver::read_exactly_with(const Call& call, std::size_t n,
                                 Consume consume) {
  check_size(n, call);
  Operation operation(*this, call.operation);
  if (may_take_at_once(call) && n <= buffer_.size()) {
    return hand_out(n, consume);
  }
  return operation.run([&] {
    Attempt attempt{call, &operation};
    return hand_out(value(exactly(n, attempt), call), consume);
  });
}

// `find` returns the size of the message, or nothing if not all of it has come.
template <class Find, class Consume>
auto Receiver::try_with(const char* name, Find find, Consume consume) {
  using Result = std::optional<decltype(consume(std::string_view()))>;
  Operation operation(*this, name);
  return operation.run([&]() -> Result {
    const Wait wait = Wait::none();
    const Call call{name, wait};
    Attempt attempt{call, &operation};
    const std::optional<std::size_t> size = find(attempt);
    if (!size) return std::nullopt;
    return hand_out(*size, consume);
  });
}

std::string_view Receiver::read_view(const Call& call, std::size_t n) {
  return read_with(call, n, kAsView);
}
std::string Receiver::read(const Call& call, std::size_t n) {
  return read_with(call, n, kAsString);
}
std::optional<std::string> Receiver::try_read(const char* name, std::size_t n) {
  check_size(n, {name, {}});
  return try_with(
      name, [this, n](Attempt& attempt) { return some(n, attempt); },
      kAsString);
}

std::string Receiver::read_all(const Call& call, std::size_t max) {
  Operation operation(*this, call.operation);
  return operation.run([&] {
    check_stop(call);
    Attempt attempt{call, &operation};
    for (;;) {
      if (buffer_.size() > max) {
        meter_.count(&Counters::overruns);
        throw LimitOverrunError(
            call.operation, peer(),
            fmt::format("more than the {} bytes that were allowed", max),
            buffer_.size());
      }
      switch (fill(attempt)) {
        case Fill::kData:
          break;
        case Fill::kEof:
          return hand_out(buffer_.size(), kAsString);
        case Fill::kTimeout:
          throw_timeout(call);
      }
    }
  });
}

std::string_view Receiver::read_line_view(const Call& call) {
  return read_line_with(call, kAsView);
}
std::string Receiver::read_line(const Call& call) {
  return read_line_with(call, kAsString);
}
std::optional<std::string> Receiver::try_read_line(const char* name) {
  return try_with(
      name, [this](Attempt& attempt) { return line(attempt); }, kAsString);
}

std::string_view Receiver::read_until_view(const Call& call,
                                           std::string_view separator) {
  return read_until_with(call, separator, kAsView);
}
std::string_view Receiver::read_until_view(const Call& call,
                                           SeparatorSpan separators) {
  return read_until_with(call, separators, kAsView);
}
std::string Receiver::read_until(const Call& call, std::string_view separator) {
  return read_until_with(call, separator, kAsString);
}
std::string Receiver::read_until(const Call& call, SeparatorSpan separators) {
  return read_until_with(call, separators, kAsString);
}
void Receiver::read_until(const Call& call, std::string_view separator,
                          Consumer& consumer) {
  read_until_with(call, separator, give_to(consumer));
}

std::optional<std::string> Receiver::try_read_until(
    const char* name, std::string_view separator) {
  return try_read_until(name, SeparatorSpan(&separator, 1));
}
std::optional<std::string> Receiver::try_read_until(const char* name,
                                                    SeparatorSpan separators) {
  check_separators(separators, name);
  return try_with(
      name,
      [this, separators](Attempt& attempt) {
        return until(separators, AtEnd::kThrow, attempt);
      },
      kAsString);
}
bool Receiver::try_read_until(const char* name, std::string_view separator,
                              Consumer& consumer) {
  const SeparatorSpan separators(&separator, 1);
  check_separators(separators, name);
  return try_with(
             name,
             [this, separators](Attempt& attempt) {
               return until(separators, AtEnd::kThrow, attempt);
             },
             give_to(consumer))
      .has_value();
}

std::string Receiver::read_until_silence(const Call& call,
                                         std::chrono::microseconds silence,
                                         std::size_t max) {
  check_silence(silence, max, call);
  Operation operation(*this, call.operation);
  return operation.run([&] {
    return hand_out(value(until_silence(silence, max, call), call), kAsString);
  });
}
std::optional<std::string> Receiver::try_read_until_silence(
    const char* name, std::chrono::microseconds silence, std::size_t max) {
  check_silence(silence, max, {name, {}});
  return try_with(
      name,
      [=, this](Attempt& attempt) {
        return until_silence(silence, max, attempt.call);
      },
      kAsString);
}

std::string_view Receiver::read_exactly_view(const Call& call, std::size_t n) {
  return read_exactly_with(call, n, kAsView);
}
std::string Receiver::read_exactly(const Call& call, std::size_t n) {
  return read_exactly_with(call, n, kAsString);
}
std::optional<std::string> Receiver::try_read_exactly(const char* name,
                                                      std::size_t n) {
  check_size(n, {name, {}});
  return try_with(
      name, [this, n](Attempt& attempt) { return exactly(n, attempt); },
      kAsString);
}

void Receiver::read_exactly(const Call& call, std::span<std::byte> out) {
  check_size(out.size(), call);
  Operation operation(*this, call.operation);
  if (may_take_at_once(call) && out.size() <= buffer_.size()) {
    const std::string_view data = take_message(out.size());
    if (!data.empty()) std::memcpy(out.data(), data.data(), data.size());
    return;
  }
  operation.run([&] {
    Attempt attempt{call, &operation};
    if (!exactly(out, attempt)) throw_timeout(call);
  });
}

bool Receiver::try_read_exactly(const char* name, std::span<std::byte> out) {
  const Wait wait = Wait::none();
  const Call call{name, wait};
  check_size(out.size(), call);
  Operation operation(*this, name);
  return operation.run([&] {
    Attempt attempt{call, &operation};
    return exactly(out, attempt);
  });
}

bool Receiver::wait_readable(const Call& call) {
  Operation operation(*this, call.operation);
  return operation.run([&] {
    check_stop(call);
    if (!buffer_.empty() || has_ended()) return true;
    const IoResult result = socket_->wait_receivable(call.wait);
    switch (result.status) {
      case IoStatus::kTimeout:
        return false;
      case IoStatus::kStopped:
        throw CancelledError(call.operation, peer());
      case IoStatus::kError:
        throw_connection_error(result.error_number, call.operation, peer());
      default:
        return true;
    }
  });
}

std::size_t Receiver::skip(const char* name, std::size_t n) {
  const Operation operation(*this, name);
  return take(n).size();
}

std::size_t Receiver::discard(const char* name) {
  Operation operation(*this, name);
  return operation.run([&] {
    const Wait wait = Wait::none();
    const Call call{name, wait};
    Attempt attempt{call};
    std::size_t dropped = take(buffer_.size()).size();
    try {
      while (error_number() == 0 && fill(attempt) == Fill::kData) {
        dropped += take(buffer_.size()).size();
      }
    } catch (const ConnectionError&) {
      // The next read throws it.
    }
    return dropped;
  });
}

std::size_t Receiver::discard_until(const Call& call,
                                    std::string_view separator) {
  check_separators({&separator, 1}, call.operation);
  Operation operation(*this, call.operation);
  return operation.run([&] {
    check_stop(call);
    Attempt attempt{call, &operation};
    std::size_t dropped = 0;
    for (;;) {
      if (const auto match = find({&separator, 1})) {
        return dropped + take(match->end).size();
      }
      // Drop everything but bytes that may be the beginning of a separator.
      if (buffer_.size() >= separator.size()) {
        dropped += take(buffer_.size() - (separator.size() - 1)).size();
      }
      switch (fill(attempt)) {
        case Fill::kData:
          break;
        case Fill::kEof:
          throw_incomplete(attempt, std::nullopt);
        case Fill::kTimeout:
          throw_timeout(call);
      }
    }
  });
}

bool Receiver::at_eof() const noexcept {
  if (!buffer_.empty() || error_number() != 0) return false;
  if (eof_.load(std::memory_order_relaxed)) return true;
  return socket_->at_end() && socket_->lost_error() == 0;
}

}  // namespace tcpip::internal
