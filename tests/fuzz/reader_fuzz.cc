// Fuzzes StreamReader: a script of chunks that the peer sends, and of reads
// with their arguments, over a socketpair. A naive model of asyncio's rules
// says what each read comes to; the CPU time that the reads take is bounded
// too.
//
// No read waits: what the peer has sent is in the kernel at once, so that the
// model knows whether a read finds its message.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/error.h"
#include "tcpip/socket.h"
#include "tcpip/stream_reader.h"
#include "tcpip/unique_fd.h"
#include "tests/fuzz/cpu_time.h"
#include "tests/fuzz/fuzz.h"

namespace tcpip_fuzz {
namespace {

using tcpip::StreamReader;
using tcpip::UniqueFd;
using tcpip::Wait;
using Strings = std::vector<std::string>;
using Views = std::vector<std::string_view>;

// No script sends more.
constexpr std::size_t kMaxSent = 256 * 1024;
constexpr std::size_t kMaxOperations = 3000;
// The model looks at all bytes again and again; a script ends when it has
// looked at so many.
constexpr std::size_t kMaxModelWork = 10'000'000;

// --- The model ---

struct Found {
  std::size_t start = 0;
  std::size_t end = 0;
};

// The separator that ends first; the shorter if two end at the same byte.
std::optional<Found> naive_find(std::string_view data,
                                const Views& separators) {
  std::optional<Found> best;
  for (const std::string_view separator : separators) {
    const std::size_t at = data.find(separator);
    if (at == data.npos) continue;
    const std::size_t end = at + separator.size();
    if (!best || end < best->end || (end == best->end && at > best->start)) {
      best = Found{at, end};
    }
  }
  return best;
}

std::size_t longest_of(const Views& separators) {
  std::size_t longest = 0;
  for (const std::string_view each : separators) {
    longest = std::max(longest, each.size());
  }
  return longest;
}

enum class End { kOpen, kEof, kReset };

// What a read came to.
struct Outcome {
  enum class Kind {
    kValue,
    kNothing,     // it would have to wait
    kIncomplete,  // IncompleteReadError
    kReset,
    kOverrun,
    kCancelled,
    kInvalid,  // std::invalid_argument
  };
  Kind kind = Kind::kNothing;
  std::string value = {};  // or partial()
  std::optional<std::size_t> expected = {};
  std::size_t consumed = 0;
  bool says_found = false;
};
using Kind = Outcome::Kind;

const char* name_of(Kind kind) {
  constexpr const char* kNames[] = {"a value", "nothing", "incomplete",
                                    "a reset", "overrun", "cancelled",
                                    "invalid"};
  return kNames[static_cast<std::size_t>(kind)];
}

// Calls read(), which returns an optional string, or a string.
template <class Read>
Outcome outcome_of(CpuTime& cpu, Read read) {
  try {
    std::optional<std::string> value =
        cpu.of([&] { return std::optional<std::string>(read()); });
    if (!value) return {};
    return {.kind = Kind::kValue, .value = *std::move(value)};
  } catch (const tcpip::IncompleteReadError& e) {
    return {.kind = Kind::kIncomplete,
            .value = e.partial(),
            .expected = e.expected()};
  } catch (const tcpip::ConnectionResetError&) {
    return {.kind = Kind::kReset};
  } catch (const tcpip::LimitOverrunError& e) {
    return {.kind = Kind::kOverrun,
            .consumed = e.consumed(),
            .says_found = std::string_view(e.what()).find("is found") !=
                          std::string_view::npos};
  } catch (const tcpip::TimeoutError&) {
    return {};
  } catch (const tcpip::CancelledError&) {
    return {.kind = Kind::kCancelled};
  } catch (const std::invalid_argument&) {
    return {.kind = Kind::kInvalid};
  }
}

// --- The script ---

enum class Api { kTry, kRead, kView };

class Script {
 public:
  explicit Script(std::string_view bytes) : input_(bytes) {
    std::array<int, 2> fds{};
    require(
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0,
        "no socketpair");
    peer_.reset(fds[1]);
    socket_ = std::make_shared<tcpip::Socket>(UniqueFd(fds[0]));
    limit_ = choose_limit();
    reader_ = StreamReader(socket_, limit_);
    const std::size_t count =
        input_.flag() ? 1 : 1 + input_.below(input_.flag() ? 8 : 200);
    for (std::size_t i = 0; i < count; ++i) {
      separators_.push_back(choose_separator());
    }
    views_.assign(separators_.begin(), separators_.end());
  }

  void run() {
    while (!input_.empty() && operations_ < kMaxOperations &&
           model_work_ < kMaxModelWork) {
      step();
    }
    finish();
  }

  // The CPU time of the reads, and what is far too much.
  std::chrono::nanoseconds spent() const { return cpu_.spent(); }
  std::chrono::nanoseconds allowed() const {
    return std::chrono::milliseconds(10) +
           time_for_bytes(sent_ * (separators_.size() + 4) * 30) +
           time_for_bytes(operations_ * (separators_.size() + 10) * 2000) +
           // Preparing to search for them.
           time_for_bytes(operations_ * separator_bytes() * 20);
  }

 private:
  std::size_t choose_limit() {
    constexpr std::size_t kLimits[] = {1, 2, 3, 7, 16, 64, 1000, 65536};
    const std::size_t which = input_.byte();
    if (which < 128) return kLimits[which % std::size(kLimits)];
    return 1 + input_.below(0x10000);
  }

  std::string choose_separator() {
    switch (input_.below(6)) {
      case 0:
        return "\n";
      case 1:
        return "\r\n";
      case 2:  // the beginning of another one, and a byte
        if (separators_.empty()) return "ab";
        return separators_[input_.byte() % separators_.size()].substr(
                   0, input_.below(64)) +
               static_cast<char>(input_.byte());
      case 3: {  // up to 4 KiB of a pattern
        const std::string_view pattern = input_.piece(1 + input_.below(8));
        const std::size_t size = 1 + input_.below(4096);
        return pattern.empty() ? "aaaa" : repeated(pattern, size) + "b";
      }
      default: {
        const std::string_view bytes = input_.piece(1 + input_.below(40));
        return bytes.empty() ? "x" : std::string(bytes);
      }
    }
  }

  static std::string repeated(std::string_view pattern, std::size_t size) {
    std::string result;
    while (result.size() < size) result += pattern;
    return result;
  }

  std::size_t separator_bytes() const {
    std::size_t sum = 0;
    for (const std::string& each : separators_) sum += each.size();
    return sum;
  }

  void step() {
    switch (input_.byte() % 24) {
      case 0:
      case 1:
        return send(input_.piece(input_.byte()));
      case 2: {  // one byte after the other, and a read behind each
        const std::string_view bytes = input_.piece(1 + input_.byte());
        const std::size_t times = 1 + input_.below(32);
        for (std::size_t i = 0; i < bytes.size() * times; ++i) {
          send(bytes.substr(i % bytes.size(), 1));
          read_until(views_, Api::kTry);
        }
        return;
      }
      case 3:
        return send(std::string(1 + input_.below(70'000),
                                static_cast<char>(input_.byte())));
      case 4:
        return send(some_separator());
      case 5:
        return send(some_separator().substr(0, input_.below(4096)));
      case 6: {  // the beginning of a separator again and again
        const std::string_view part =
            some_separator().substr(0, 1 + input_.below(4096));
        return send(repeated(part, part.size() * (1 + input_.below(64))));
      }
      case 7:
        return end();
      case 8:
      case 9:
        return read_until(views_, api());
      case 10:
        return read_until({some_separator()}, api());
      case 11:
      case 12:
        return read_line(api());
      case 13:
        return read(size(), api());
      case 14:
        return read_exactly(size(), api());
      case 15:
        return read_exactly_into(size());
      case 16:
        return read_all(input_.flag() ? SIZE_MAX : size());
      case 17:
        return skip(size());
      case 18:
        return discard();
      case 19:
        return discard_until(some_separator());
      case 20:
        return wait_readable();
      case 21:  // everything into the buffer
        return read_exactly(PTRDIFF_MAX, Api::kTry);
      case 22:
        return refused_calls();
      default:  // other separators: the search begins again
        return read_until(
            Views(views_.begin(),
                  views_.begin() + static_cast<std::ptrdiff_t>(
                                       1 + input_.byte() % views_.size())),
            api());
    }
  }

  Api api() { return static_cast<Api>(input_.below(3)); }
  std::size_t size() {
    switch (input_.below(4)) {
      case 0:
        return input_.below(8);
      case 1:
        return input_.below(300);
      case 2:
        return input_.below(100'000);
      default: {  // what is there, more or less
        const std::size_t less = input_.below(5);
        return unread().size() + 2 - std::min(unread().size() + 2, less);
      }
    }
  }
  std::string_view some_separator() {
    return separators_[input_.byte() % separators_.size()];
  }

  // --- The peer ---

  void send(std::string_view bytes) {
    if (end_ != End::kOpen) return;
    bytes = bytes.substr(0, kMaxSent - sent_);
    const ssize_t count = ::send(peer_.get(), bytes.data(), bytes.size(),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count <= 0) return;  // the kernel's buffer is full
    stream_ += bytes.substr(0, static_cast<std::size_t>(count));
    sent_ += static_cast<std::size_t>(count);
  }

  void end() {
    if (end_ != End::kOpen || input_.byte() % 4 != 0) return;
    end_ = End::kEof;
    if (input_.flag()) {
      // Who closes a socketpair with something unread resets it.
      require(::send(socket_->native_handle(), "x", 1, MSG_NOSIGNAL) == 1,
              "cannot send to the peer");
      end_ = End::kReset;
    }
    peer_.reset();
  }

  // --- The model's side of a read ---

  std::string_view unread() const {
    return std::string_view(stream_).substr(taken_);
  }
  void take(std::size_t count) {
    if (unread().substr(0, count).find('\n') != std::string_view::npos) {
      in_dropped_line_ = false;
    }
    taken_ += count;
    if (taken_ > 100'000) {
      stream_.erase(0, taken_);
      before_stream_ += taken_;
      taken_ = 0;
    }
  }
  std::optional<Found> find(const Views& separators) {
    model_work_ += unread().size() * separators.size() + 100;
    return naive_find(unread(), separators);
  }

  // What a call comes to that cannot have its message.
  void expect_failure(const Outcome& outcome,
                      std::optional<std::size_t> expected) {
    switch (end_) {
      case End::kOpen:
        return expect(outcome, Kind::kNothing);
      case End::kReset:
        return expect(outcome, Kind::kReset);
      case End::kEof:
        break;
    }
    expect(outcome, Kind::kIncomplete);
    require_same(outcome.value, unread(), call_ + ", partial()");
    require(outcome.expected == expected, "expected() is wrong");
    take(unread().size());
  }
  void expect(const Outcome& outcome, Kind kind) {
    if (outcome.kind == kind) return;
    throw Finding{call_ + " came to " + name_of(outcome.kind) + " (" +
                  shown(outcome.value) + ") instead of " + name_of(kind) +
                  "; limit " + std::to_string(limit_) + ", unread " +
                  shown(unread())};
  }
  void expect_value(const Outcome& outcome, std::size_t size) {
    expect(outcome, Kind::kValue);
    require_same(outcome.value, unread().substr(0, size), call_);
    take(size);
  }

  // What may be looked at after every call.
  void check_numbers() {
    const std::uint64_t taken = before_stream_ + taken_;
    require(reader_.received() <= sent_, "received() is more than was sent");
    require_same_size(reader_.buffered(), reader_.received() - taken,
                      call_ + ", buffered()");
    if (end_ != End::kReset) {
      require(reader_.at_eof() == (end_ == End::kEof && unread().empty()),
              "at_eof() is wrong");
    }
    require(end_ != End::kOpen || !reader_.has_ended(), "has_ended() is wrong");
    require(!reader_.error() || end_ == End::kReset, "error() is wrong");
    if (limited_) {
      // P27: as much as the limit allows, and what one receive adds.
      const std::size_t most =
          4 * (2 * limit_ + longest_of(views_) + 2) + 64 * 1024;
      require(reader_.buffered() <= most, "too much is buffered");
    }
  }

  // --- Calls ---

  // Each call begins here. A view is valid until the next one.
  void begin(const char* name) {
    call_ = name;
    ++operations_;
    if (operations_ > 1) require_same(view_, copy_of_view_, "an old view");
    view_ = {};
    copy_of_view_.clear();
  }
  template <class Read>
  Outcome run(Read read) {
    return outcome_of(cpu_, read);
  }
  std::string keep(std::string_view view) {
    view_ = view;
    copy_of_view_ = view;
    return copy_of_view_;
  }
  void done() { check_numbers(); }

  void read_until(const Views& separators, Api api) {
    begin("read_until");
    const Outcome outcome = run([&]() -> std::optional<std::string> {
      if (separators.size() == 1 && api == Api::kTry) {
        return reader_.try_read_until(separators[0]);
      }
      if (separators.size() == 1 && api == Api::kView) {
        return keep(reader_.read_until_view(separators[0], Wait::none()));
      }
      if (separators.size() == 2 && api == Api::kTry) {
        return reader_.try_read_until({separators[0], separators[1]});
      }
      if (separators.size() == 2 && api == Api::kView) {
        return keep(reader_.read_until_view({separators[0], separators[1]},
                                            Wait::none()));
      }
      return reader_.read_until(std::span(separators), Wait::none());
    });
    const std::optional<Found> found = find(separators);
    const std::size_t longest = longest_of(separators);
    if (found && found->start <= limit_) {
      expect_value(outcome, found->end);
    } else if (found || unread().size() + 1 > longest + limit_) {
      expect(outcome, Kind::kOverrun);
      const std::size_t buffered = reader_.buffered();
      if (outcome.says_found) {
        require(found && found->end <= buffered, "a separator out of nothing");
        require_same_size(outcome.consumed, found->start, "consumed()");
      } else {
        require(!found || found->end > buffered, "a separator was missed");
        require_same_size(outcome.consumed, buffered + 1 - longest,
                          "consumed()");
        require(outcome.consumed > limit_, "overrun within the limit");
      }
    } else {
      expect_failure(outcome, std::nullopt);
    }
    done();
  }

  void read_line(Api api) {
    begin("read_line");
    const Outcome outcome = run([&]() -> std::optional<std::string> {
      if (api == Api::kTry) return reader_.try_read_line();
      if (api == Api::kRead) return reader_.read_line(Wait::none());
      return keep(reader_.read_line_view(Wait::none()));
    });
    if (in_dropped_line_) {
      const std::size_t newline = unread().find('\n');
      take(newline == std::string_view::npos ? unread().size() : newline + 1);
    }
    const std::optional<Found> found = find({"\n"});
    if (found && found->start <= limit_) {
      expect_value(outcome, found->end);
    } else if (found || unread().size() > limit_) {
      expect(outcome, Kind::kOverrun);
      const std::size_t size = outcome.consumed;
      require(size > limit_, "overrun within the limit");
      if (outcome.says_found) {
        require(found && found->start == size, "a newline out of nothing");
        take(size + 1);
      } else {
        require(size <= unread().size() && (!found || size <= found->start),
                "consumed() is beyond the line");
        take(size);
        in_dropped_line_ = true;
      }
    } else if (end_ == End::kEof) {
      expect_value(outcome, unread().size());
    } else {
      expect_failure(outcome, std::nullopt);
    }
    done();
  }

  void read(std::size_t n, Api api) {
    begin("read");
    const std::size_t buffered = reader_.buffered();
    const Outcome outcome = run([&]() -> std::optional<std::string> {
      if (api == Api::kTry) return reader_.try_read(n);
      if (api == Api::kRead) return reader_.read(n, Wait::none());
      return keep(reader_.read_view(n, Wait::none()));
    });
    if (n == 0 || (unread().empty() && end_ == End::kEof)) {
      expect_value(outcome, 0);
    } else if (!unread().empty()) {
      expect(outcome, Kind::kValue);
      const std::size_t size = outcome.value.size();
      require(size >= 1 && size >= std::min(n, buffered) && size <= n,
              "read() took too few or too many");
      expect_value(outcome, size);
    } else {
      expect_failure(outcome, std::nullopt);
    }
    done();
  }

  void read_exactly(std::size_t n, Api api) {
    begin("read_exactly");
    limited_ = false;
    const Outcome outcome = run([&]() -> std::optional<std::string> {
      if (api == Api::kTry) return reader_.try_read_exactly(n);
      if (api == Api::kRead) return reader_.read_exactly(n, Wait::none());
      return keep(reader_.read_exactly_view(n, Wait::none()));
    });
    if (n <= unread().size()) {
      expect_value(outcome, n);
    } else {
      expect_failure(outcome, n);
    }
    done();
  }

  void read_exactly_into(std::size_t n) {
    begin("read_exactly into memory");
    limited_ = false;
    const std::string before(n, '\x5a');
    std::string memory = before;
    const Outcome outcome = run([&] {
      reader_.read_exactly(std::as_writable_bytes(std::span(memory)),
                           Wait::none());
      return memory;
    });
    if (n <= unread().size()) {
      expect_value(outcome, n);
    } else {
      require_same(memory, before, "memory of a read that failed");
      expect_failure(outcome, n);
    }
    done();
  }

  void read_all(std::size_t max) {
    begin("read_all");
    limited_ = false;
    const Outcome outcome = run([&] {
      return max == SIZE_MAX ? reader_.read_all(Wait::none())
                             : reader_.read_all(max, Wait::none());
    });
    if (unread().size() > max) {
      expect(outcome, Kind::kOverrun);
      require_same_size(outcome.consumed, reader_.buffered(), "consumed()");
      require(outcome.consumed > max, "overrun within the maximum");
    } else if (end_ == End::kEof) {
      expect_value(outcome, unread().size());
    } else {
      expect_failure(outcome, std::nullopt);
    }
    done();
  }

  void skip(std::size_t n) {
    begin("skip");
    const std::size_t wanted = std::min(n, reader_.buffered());
    const std::size_t count = cpu_.of([&] { return reader_.skip(n); });
    require_same_size(count, wanted, "skip()");
    take(count);
    done();
  }

  void discard() {
    begin("discard");
    const std::size_t count = cpu_.of([&] { return reader_.discard(); });
    require_same_size(count, unread().size(), "discard()");
    take(count);
    done();
  }

  void discard_until(std::string_view separator) {
    begin("discard_until");
    const Outcome outcome = run([&] {
      return std::to_string(reader_.discard_until(separator, Wait::none()));
    });
    if (const std::optional<Found> found = find({separator})) {
      expect(outcome, Kind::kValue);
      require_same(outcome.value, std::to_string(found->end), call_);
      take(found->end);
    } else {
      // What may be the beginning of a separator stays.
      take(unread().size() - std::min(unread().size(), separator.size() - 1));
      expect_failure(outcome, std::nullopt);
    }
    done();
  }

  void wait_readable() {
    begin("wait_readable");
    const bool ready =
        cpu_.of([&] { return reader_.wait_readable(Wait::none()); });
    require(ready == (!unread().empty() || end_ != End::kOpen),
            "wait_readable() is wrong");
    done();
  }

  // None of these changes anything.
  void refused_calls() {
    begin("a call that is refused");
    const std::size_t too_large = PTRDIFF_MAX + std::size_t{1};
    expect(run([&] { return reader_.read(too_large, Wait::none()); }),
           Kind::kInvalid);
    expect(run([&] { return reader_.read_exactly(too_large, Wait::none()); }),
           Kind::kInvalid);
    expect(run([&] { return reader_.read_until("", Wait::none()); }),
           Kind::kInvalid);
    expect(run([&] {
             return reader_.try_read_until({"a", ""});
           }),
           Kind::kInvalid);
    expect(run([&] {
             return reader_.read_until(std::span<const std::string_view>(),
                                       Wait::none());
           }),
           Kind::kInvalid);
    std::stop_source stop;
    stop.request_stop();
    const Wait wait(stop.get_token());
    expect(run([&] { return reader_.read(1, wait); }), Kind::kCancelled);
    expect(run([&] { return reader_.read_line(wait); }), Kind::kCancelled);
    expect(run([&] { return reader_.read_exactly(0, wait); }),
           Kind::kCancelled);
    expect(run([&] { return reader_.read_all(wait); }), Kind::kCancelled);
    expect(run([&] { return reader_.read_until(std::span(views_), wait); }),
           Kind::kCancelled);
    operations_ += 10;
    done();
  }

  // All that is left comes out, whatever happened before.
  void finish() {
    if (end_ == End::kOpen) end_ = End::kEof;
    peer_.reset();
    read_all(SIZE_MAX);
    if (end_ == End::kReset) {
      read_exactly(unread().size(), Api::kRead);
      read_line(Api::kRead);
    }
    require(unread().empty(), "not all bytes came out");
    read(1, Api::kRead);
  }

  Input input_;
  UniqueFd peer_;
  std::shared_ptr<tcpip::Socket> socket_;
  std::size_t limit_ = 0;
  Strings separators_;
  Views views_;
  StreamReader reader_;

  // The model: what was sent, how much of it was taken.
  std::string stream_;
  std::size_t taken_ = 0;
  std::size_t before_stream_ = 0;  // taken, and gone from stream_
  std::size_t sent_ = 0;
  End end_ = End::kOpen;
  bool in_dropped_line_ = false;
  bool limited_ = true;  // no call so far may buffer more than the limit

  std::string call_;
  std::string_view view_;
  std::string copy_of_view_;
  std::size_t operations_ = 0;
  std::size_t model_work_ = 0;
  CpuTime cpu_;
};

}  // namespace

void fuzz_one(std::string_view input) {
  // The least of several tries: another program may have emptied the caches.
  for (int tries = 0;; ++tries) {
    Script script(input);
    script.run();
    if (script.spent() <= script.allowed()) return;
    if (tries == 4) {
      throw Finding{"the reads took " + std::to_string(script.spent().count()) +
                    " ns, not " + std::to_string(script.allowed().count()) +
                    " at most"};
    }
  }
}

}  // namespace tcpip_fuzz
