// A range of internet addresses: "10.0.0.0/8", "fd00::/8", "192.168.1.17".
//
// Threads: Network is a value.
#ifndef TCPIP_NETWORK_H_
#define TCPIP_NETWORK_H_

#include "tcpip/version.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "tcpip/address.h"

namespace tcpip {

class TCPIP_EXPORT Network {
 public:
  // A numeric address, and after a slash how many of its first bits count; all
  // of them without a slash. Throws std::invalid_argument for anything else,
  // also for bits that are set behind those that count: "10.0.0.1/8" is
  // probably a mistake.
  explicit Network(std::string_view text);

  // False for an address that is not an internet address. An IPv4 address that
  // is written as an IPv6 one (::ffff:10.0.0.1), as a listener of both families
  // reports its clients, counts as the IPv4 one.
  bool contains(const Address& address) const noexcept;
  // "10.0.0.0/8".
  std::string to_string() const;

  bool operator==(const Network&) const = default;

 private:
  // IPv4 as ::ffff:a.b.c.d.
  std::array<std::uint8_t, 16> bytes_{};
  int bits_ = 0;  // of these bytes
};

}  // namespace tcpip

#endif  // TCPIP_NETWORK_H_
