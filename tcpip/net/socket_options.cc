#include "tcpip/net/socket_options.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <limits>
#include <stdexcept>
#include <system_error>

#include "tcpip/net/socket_calls.h"

namespace tcpip::internal {
namespace {

// What the kernel takes; see include/net/tcp.h there.
constexpr long long kMaxKeepaliveSeconds = 32767;
constexpr long long kMaxKeepaliveProbes = 127;
constexpr long long kMaxInt = std::numeric_limits<int>::max();

// A value that may be left to the kernel.
struct Number {
  const char* member;  // of SocketOptions
  const char* unit;
  long long value;
  long long max;
  bool for_keepalive;  // set only if keepalive is on
  int level;
  int name;
  const char* text;

  bool is_allowed() const noexcept { return value >= 0 && value <= max; }
};

std::array<Number, 6> numbers_of(const SocketOptions& options) noexcept {
  return {
      {{"send_buffer", "bytes", options.send_buffer, kMaxInt, false, SOL_SOCKET,
        SO_SNDBUF, "SO_SNDBUF"},
       {"receive_buffer", "bytes", options.receive_buffer, kMaxInt, false,
        SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"},
       {"keepalive_time", "s", options.keepalive_time.count(),
        kMaxKeepaliveSeconds, true, IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"},
       {"keepalive_interval", "s", options.keepalive_interval.count(),
        kMaxKeepaliveSeconds, true, IPPROTO_TCP, TCP_KEEPINTVL,
        "TCP_KEEPINTVL"},
       {"keepalive_probes", "probes", options.keepalive_probes,
        kMaxKeepaliveProbes, true, IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT"},
       {"user_timeout", "ms", options.user_timeout.count(), kMaxInt, false,
        IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"}}};
}

}  // namespace

void check(const SocketOptions& options, const char* what) {
  for (const Number& number : numbers_of(options)) {
    if (number.is_allowed()) continue;
    throw std::invalid_argument(fmt::format("{}: {} of {} {} is not in 0...{}",
                                            what, number.member, number.value,
                                            number.unit, number.max));
  }
}

RefusedOptions set_options(int fd, bool tcp,
                           const SocketOptions& options) noexcept {
  RefusedOptions refused;
  const auto set = [&](int level, int name, int value, const char* text) {
    if (const std::error_code error = set_option(fd, level, name, value)) {
      refused.add({error, text});
    }
  };
  if (tcp) {
    set(IPPROTO_TCP, TCP_NODELAY, options.no_delay, "TCP_NODELAY");
    set(SOL_SOCKET, SO_KEEPALIVE, options.keepalive, "SO_KEEPALIVE");
  }
  for (const Number& number : numbers_of(options)) {
    if (number.value == 0) continue;
    if (number.level == IPPROTO_TCP && !tcp) continue;
    if (number.for_keepalive && !options.keepalive) continue;
    if (number.is_allowed()) {
      set(number.level, number.name, static_cast<int>(number.value),
          number.text);
    } else {
      refused.add({system_error(EINVAL), number.text});
    }
  }
  return refused;
}

}  // namespace tcpip::internal
