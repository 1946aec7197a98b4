#include "tcpip/testing/fault.h"

#include <algorithm>
#include <random>
#include <stdexcept>

namespace tcpip_testing {
namespace {

using std::chrono::microseconds;
using Kind = Fault::Kind;

// Times are added to points on the clock: the sum must not overflow.
microseconds checked(microseconds time, const char* what) {
  if (time < microseconds(0) || time > std::chrono::hours(24)) {
    throw std::invalid_argument(std::string(what) + ": " +
                                std::to_string(time.count()) +
                                " us is not within 0 and a day");
  }
  return time;
}

std::string text_of(microseconds time) {
  const auto whole = time.count() / 1000;
  const auto rest = time.count() % 1000;
  if (rest == 0) return std::to_string(whole) + " ms";
  return std::to_string(time.count()) + " us";
}

std::string action_of(const Fault& fault) {
  switch (fault.kind()) {
    case Kind::kPass:
      return "pass";
    case Kind::kDelay:
      return "delay of " + text_of(*fault.time());
    case Kind::kSplit:
      return "pieces of " + std::to_string(fault.size()) + " bytes, " +
             text_of(*fault.time()) + " apart";
    case Kind::kDrip:
      return std::to_string(fault.size()) + " bytes a second";
    case Kind::kStall:
      return fault.time() ? "stall for " + text_of(*fault.time())
                          : "stall until resume()";
    case Kind::kCut:
      return "cut";
    case Kind::kReset:
      return "reset";
    case Kind::kDrop:
      return "drop";
  }
  return "?";
}

}  // namespace

Fault Fault::pass() { return Fault(Kind::kPass); }

Fault Fault::delay(microseconds time) {
  Fault fault(Kind::kDelay);
  fault.time_ = checked(time, "Fault::delay");
  return fault;
}

Fault Fault::split(std::size_t bytes, microseconds gap) {
  if (bytes == 0) {
    throw std::invalid_argument("Fault::split: a piece without bytes");
  }
  Fault fault(Kind::kSplit);
  fault.size_ = bytes;
  fault.time_ = checked(gap, "Fault::split");
  return fault;
}

Fault Fault::drip(std::size_t bytes_per_second) {
  if (bytes_per_second == 0) {
    throw std::invalid_argument("Fault::drip: 0 bytes a second");
  }
  Fault fault(Kind::kDrip);
  fault.size_ = bytes_per_second;
  return fault;
}

Fault Fault::stall() { return Fault(Kind::kStall); }

Fault Fault::stall(microseconds time) {
  Fault fault(Kind::kStall);
  fault.time_ = checked(time, "Fault::stall");
  return fault;
}

Fault Fault::cut() { return Fault(Kind::kCut); }
Fault Fault::reset() { return Fault(Kind::kReset); }
Fault Fault::drop() { return Fault(Kind::kDrop); }

Fault Fault::after_bytes(std::uint64_t count) const {
  Fault fault = *this;
  fault.condition_bytes_ = count;
  return fault;
}

Fault Fault::after(microseconds time) const {
  Fault fault = *this;
  fault.condition_time_ = checked(time, "Fault::after");
  return fault;
}

std::string to_string(const Fault& fault) {
  std::string text;
  if (fault.condition_bytes() > 0) {
    text = "after " + std::to_string(fault.condition_bytes()) + " bytes";
  }
  if (fault.condition_time() > microseconds(0)) {
    text += text.empty() ? "after " : " and ";
    text += text_of(fault.condition_time());
  }
  if (!text.empty()) text += ": ";
  return text + action_of(fault);
}

void check_script(std::span<const Fault> script) {
  std::uint64_t bytes = 0;
  microseconds time{0};
  const Fault* before = nullptr;
  for (const Fault& fault : script) {
    const auto fail = [&](const char* why) {
      throw std::invalid_argument("script: \"" + to_string(fault) + "\" " +
                                  why + " \"" + to_string(*before) + "\"");
    };
    if (before != nullptr &&
        (before->kind() == Kind::kReset || before->kind() == Kind::kDrop)) {
      fail("is never taken behind");
    }
    if ((fault.condition_bytes() > 0 && fault.condition_bytes() < bytes) ||
        (fault.condition_time() > microseconds(0) &&
         fault.condition_time() < time)) {
      fail("is earlier than a step before it; it stands behind");
    }
    bytes = std::max(bytes, fault.condition_bytes());
    time = std::max(time, fault.condition_time());
    before = &fault;
  }
}

std::vector<Fault> random_script(const RandomFaults& random,
                                 std::uint64_t connection,
                                 Direction direction) {
  // The engine gives the same numbers everywhere. The distributions of the
  // standard library do not, so there is none here.
  std::seed_seq seeds{static_cast<std::uint32_t>(random.seed),
                      static_cast<std::uint32_t>(random.seed >> 32),
                      static_cast<std::uint32_t>(connection),
                      static_cast<std::uint32_t>(direction)};
  std::mt19937_64 engine(seeds);
  const auto between = [&engine](std::uint64_t least, std::uint64_t most) {
    return least + engine() % (most - least + 1);
  };
  const auto time_up_to = [&between](std::uint64_t most) {
    return microseconds(static_cast<microseconds::rep>(between(0, most)));
  };
  const auto any_step = [&] {
    switch (between(0, 4)) {
      case 0:
        return Fault::delay(time_up_to(20'000));
      case 1:
        return Fault::split(between(1, 64), time_up_to(2'000));
      case 2:
        return Fault::drip(between(2'000, 200'000));
      case 3:
        return Fault::stall(time_up_to(50'000));
      default:
        return Fault::pass();
    }
  };
  std::vector<Fault> script;
  std::uint64_t bytes = 0;
  const std::uint64_t steps = between(2, 10);
  for (std::uint64_t i = 0; i < steps; ++i) {
    script.push_back(any_step().after_bytes(bytes));
    bytes += between(0, 400);
  }
  script.push_back(Fault::pass().after_bytes(bytes));
  const std::uint64_t end = between(0, 5);
  if (random.ends && end < 3) {
    const Fault ends[] = {Fault::cut(), Fault::reset(), Fault::drop()};
    script.push_back(ends[end].after_bytes(bytes + between(0, 400)));
  }
  return script;
}

}  // namespace tcpip_testing
