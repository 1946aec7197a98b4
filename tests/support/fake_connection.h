// A Connection that no client or server has: of a number and a peer, and over.
#ifndef TESTS_SUPPORT_FAKE_CONNECTION_H_
#define TESTS_SUPPORT_FAKE_CONNECTION_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/connection.h"
#include "tcpip/endpoint/link.h"

namespace tcpip_tests {

inline tcpip::Connection fake_connection(std::uint64_t number,
                                         const tcpip::Address& peer = {}) {
  auto record = std::make_shared<tcpip::internal::ConnectionRecord>(
      std::weak_ptr<tcpip::internal::EndpointCore>(), peer, tcpip::Address());
  record->number = number;
  record->over = true;
  return tcpip::Connection(std::move(record));
}

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_FAKE_CONNECTION_H_
