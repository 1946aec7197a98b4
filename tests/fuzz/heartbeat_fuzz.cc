// Fuzzes heartbeats: lines with heartbeats among them, split anywhere, read in
// every way over a connection that expects heartbeats or does not; and the
// value that says when a heartbeat is due or overdue, with a clock of its own.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tcpip/constants.h"
#include "tcpip/endpoint/heartbeats.h"
#include "tcpip/error.h"
#include "tcpip/testing/wait_until.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/servers.h"

namespace tcpip_fuzz {
namespace {

using namespace std::chrono_literals;
using tcpip::Wait;
using tcpip::internal::Heartbeats;
using tcpip_testing::kPatience;

constexpr std::array<std::string_view, 5> kTerminators = {
    "\r\n", "\n", {"\0", 1}, "th", ";;\n"};
constexpr std::size_t kLimit = 256;

// --- Lines ---

class Lines {
 public:
  Lines(bool expected, std::size_t terminator)
      : expected_(expected),
        terminator_(kTerminators[terminator]),
        served_(server_for(
            std::string(expected ? "beat" : "no beat") +
                std::to_string(terminator),
            {.host = "127.0.0.1",
             .encoding = "latin-1",
             .terminator = std::string(terminator_),
             .heartbeats = {.expect = expected, .max_interval = 10min},
             .limit = kLimit})) {}

  void run(Input& input) {
    while (!input.empty() && !is_over_) step(input);
    if (is_over_) return;
    served_.send(terminator_);
    unread_ += terminator_;
    while (read(Call::kStr)) {
    }
    require(served_.connection().connected(), "the connection has ended");
  }

 private:
  enum class Call { kStr, kLine, kUntil, kUntilOther };

  void step(Input& input) {
    switch (input.byte() % 9) {
      case 0:
        return send(tcpip::kHeartbeat);
      case 1:
        return send(terminator_);
      case 2: {  // a part of the two
        const std::string beat =
            std::string(tcpip::kHeartbeat) + std::string(terminator_);
        const std::size_t begin = input.below(beat.size());
        return send(beat.substr(begin, input.below(12)));
      }
      case 3: {
        std::string many;
        const std::size_t count = input.byte() % 64;
        for (std::size_t i = 0; i < count; ++i) {
          many += std::string(tcpip::kHeartbeat) + std::string(terminator_);
        }
        return send(many);
      }
      case 4:
        return send(input.piece(input.below(40)));
      case 5:
        read(Call::kStr);
        return;
      case 6:
        read(Call::kLine);
        return;
      case 7:
        read(Call::kUntil);
        return;
      default:
        if (input.flag()) {
          read(Call::kUntilOther);
        } else {
          read_bytes(input.below(20));
        }
    }
  }

  void send(std::string_view bytes) {
    if (bytes.empty()) return;
    served_.send(bytes);
    unread_ += bytes;
  }

  std::string_view separator_of(Call call) const {
    switch (call) {
      case Call::kLine:
        return "\n";
      case Call::kUntilOther:
        return "ea";
      default:
        return terminator_;
    }
  }

  // The bytes of the next message that the call returns, with its separator;
  // nothing if it is not all there. Counts the heartbeats in front of it.
  std::optional<std::string> take_message(Call call) {
    const std::string_view separator = separator_of(call);
    const std::string beat =
        std::string(tcpip::kHeartbeat) + std::string(terminator_);
    heartbeats_ = 0;
    for (std::size_t begin = 0;;) {
      const std::size_t at = unread_.find(separator, begin);
      if (at == unread_.npos) return std::nullopt;
      const std::size_t end = at + separator.size();
      std::string message = unread_.substr(begin, end - begin);
      begin = end;
      if (expected_ && message == beat) {
        ++heartbeats_;
        continue;
      }
      unread_.erase(0, end);
      return message;
    }
  }

  std::optional<std::string> try_call(Call call, const Wait* wait) {
    tcpip::Connection& connection = served_.connection();
    const std::string_view separator = separator_of(call);
    switch (call) {
      case Call::kStr:
        return wait ? connection.read_str(*wait) : connection.try_read_str();
      case Call::kLine:
        return wait ? connection.read_line(*wait) : connection.try_read_line();
      default:
        return wait ? connection.read_until(separator, *wait)
                    : connection.try_read_until(separator);
    }
  }

  // False if there is no message.
  bool read(Call call) {
    const std::optional<std::string> wanted = take_message(call);
    if (!wanted) {
      // Whether a call that does not wait would take these heartbeats, or find
      // too many bytes, depends on what has arrived.
      if (heartbeats_ > 0 || unread_.size() > kLimit) return false;
      require(!try_call(call, nullptr), "a message out of nothing");
      return false;
    }
    const std::string_view separator = separator_of(call);
    const Wait wait = kPatience;
    const bool too_long = wanted->size() - separator.size() > kLimit;
    try {
      std::optional<std::string> message = try_call(call, &wait);
      if (call == Call::kStr) *message += separator;
      require(!too_long, "a message beyond the limit");
      if (call == Call::kStr) {
        require(*wanted !=
                    std::string(tcpip::kHeartbeat) + std::string(terminator_),
                "a heartbeat was read as a text");
        require_same(*message, utf8_of_latin1(*wanted), "a text");
      } else {
        require_same(*message, *wanted, "a message");
      }
    } catch (const tcpip::UnexpectedHeartbeatError&) {
      require(!expected_ && call == Call::kStr, "heartbeats are expected");
      require_same(*wanted,
                   std::string(tcpip::kHeartbeat) + std::string(terminator_),
                   "a heartbeat");
    } catch (const tcpip::LimitOverrunError&) {
      require(too_long, "a message within the limit");
      is_over_ = true;  // reader_fuzz has what comes then
      return false;
    }
    return true;
  }

  void read_bytes(std::size_t size) {
    if (size > unread_.size()) return;
    require_same(served_.connection().read_exactly(size, kPatience),
                 unread_.substr(0, size), "read_exactly()");
    unread_.erase(0, size);
  }

  static std::string utf8_of_latin1(std::string_view bytes) {
    std::string result;
    for (const char c : bytes) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x80) {
        result += c;
      } else {
        result += static_cast<char>(0xc0 + byte / 64);
        result += static_cast<char>(0x80 + byte % 64);
      }
    }
    return result;
  }

  const bool expected_;
  const std::string_view terminator_;
  Served served_;
  std::string unread_;
  int heartbeats_ = 0;  // in front of the message
  bool is_over_ = false;
};

// --- The value ---

// Time passes, bytes arrive and are read, heartbeats are heard.
void check_clock(Input& input) {
  const auto interval = std::chrono::milliseconds(1 + input.below(5000));
  const auto most = std::chrono::milliseconds(1 + input.below(5000));
  const bool sends = input.flag();
  const bool expects = input.flag();
  const Heartbeats::TimePoint start{1h};
  Heartbeats heartbeats({.send = sends,
                         .interval = interval,
                         .expect = expects,
                         .max_interval = most},
                        start);
  Heartbeats::TimePoint now = start;
  Heartbeats::TimePoint heard = start;
  Heartbeats::TimePoint arrived = start;  // when bytes came last
  std::uint64_t received = 0;
  std::uint64_t unread = 0;
  std::uint64_t receivable = 0;
  std::uint64_t beats = 0;
  bool was_overdue = false;
  std::uint64_t suspect = 0;  // a heartbeat that is overdue may be before it
  int overdue_and_read = 0;
  while (!input.empty()) {
    now += std::chrono::milliseconds(input.below(3000));
    switch (input.byte() % 6) {
      case 0:
        receivable += 1 + input.byte();
        arrived = now;
        break;
      case 1:
        received += receivable;
        unread += std::exchange(receivable, 0);
        break;
      case 2:
        unread -= std::min<std::uint64_t>(unread, input.byte());
        break;
      case 3:
        // It was seen to come when the last bytes were.
        heartbeats.heard(now, received - unread);
        heard = std::max(heard, arrived);
        break;
      default:
        break;
    }
    const Heartbeats::Verdict verdict =
        heartbeats.look(now, received + receivable, received - unread);
    require(sends || !verdict.send, "sends without being asked to");
    beats += verdict.send ? 1 : 0;
    require(beats <= static_cast<std::uint64_t>((now - start) / interval) + 1,
            "too many heartbeats");
    require(!sends || beats > 0, "no heartbeat at once");
    const bool overdue = now >= heard + most;
    require(!verdict.lost || (expects && overdue), "lost before its time");
    // Nothing is unread, nor was at an earlier look since it was overdue.
    overdue_and_read =
        overdue && unread + receivable == 0 ? overdue_and_read + 1 : 0;
    require(!expects || overdue_and_read < 2 || verdict.lost,
            "a loss was missed");
    // What had come when it was overdue is read, or nothing came for another
    // max_interval.
    if (overdue && !was_overdue) suspect = received + receivable;
    was_overdue = overdue;
    require(
        !verdict.lost || received - unread >= suspect || now >= arrived + most,
        "lost while a heartbeat may be unread");
    if (verdict.lost) return;
    if (sends || expects) {
      require(verdict.look_again.when() > now, "looks again at once");
    } else {
      require(verdict.look_again.is_never(), "looks again for nothing");
    }
  }
}

}  // namespace

void fuzz_one(std::string_view bytes) {
  Input input(bytes);
  const std::size_t how = input.byte();
  if (how % 2 == 0) {
    check_clock(input);
  } else {
    Lines(input.flag(), input.below(kTerminators.size())).run(input);
  }
}

}  // namespace tcpip_fuzz
