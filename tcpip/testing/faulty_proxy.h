// A proxy between a client and a server that does what networks do: delay,
// split, stall, cut, reset.
//
//   FaultyProxy proxy({.server_port = server.port(),
//                      .to_client = {Fault::split(1),
//                                    Fault::reset().after_bytes(100)}});
//   proxy.start();
//   MyClient client(proxy.port());   // on 127.0.0.1
//   ...
//   proxy.stall();                   // the network is dead from here on
//   EXPECT_TRUE(client.has_noticed());
//   proxy.resume();
//
// Without a fault it loses nothing, changes no order, and passes on FIN as FIN
// and a reset as a reset. A direction holds back 64 KiB; then the sender waits,
// as it would behind a slow network.
//
// A client is accepted before the server is connected to. If that fails, the
// client is reset, and the log says why.
//
// Threads: every member may be called from any thread at any time. start()
// makes one thread, "tcpip-proxy"; close() ends and joins it.
#ifndef TCPIP_TESTING_FAULTY_PROXY_H_
#define TCPIP_TESTING_FAULTY_PROXY_H_

#include "tcpip/version.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/testing/direction.h"
#include "tcpip/testing/fault.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

namespace internal {
class Forwarder;
}

struct TCPIP_EXPORT FaultyProxyOptions {
  // Where the server listens.
  std::string server_host = std::string(tcpip::kDefaultLocalhost);
  int server_port = 0;
  // The script of each connection; see fault.h.
  std::vector<Fault> to_server = {};
  std::vector<Fault> to_client = {};
  // In place of the two: each connection has random_script()s of its own. If
  // the test has failed by then, or is ended by an exception, the destructor
  // prints the seed.
  std::optional<RandomFaults> random = {};
  tcpip::Log log = {};  // gets what goes wrong
};

class TCPIP_EXPORT FaultyProxy final {
 public:
  using Options = FaultyProxyOptions;

  // Throws std::invalid_argument for a port outside 1...65535, for a script
  // that check_script() refuses, and for a script beside `random`.
  explicit FaultyProxy(Options options);
  ~FaultyProxy();  // close()
  FaultyProxy(const FaultyProxy&) = delete;
  FaultyProxy& operator=(const FaultyProxy&) = delete;

  // Listens on a free port of 127.0.0.1. Once. Throws tcpip::Error, also
  // ResolveError and TimeoutError, if it cannot; CancelledError, also if
  // close() is called meanwhile; std::logic_error if it was called before, or
  // close() was.
  void start(const tcpip::Wait& wait = kPatience);
  // The one to connect to; 0 before start().
  int port() const;
  // Ends the connections and the thread, at once, whatever is stalled. What is
  // held back is dropped. Idempotent.
  void close();

  // --- Now: of all connections that there are ---

  // Nothing passes in that direction, or in both, on these connections and
  // later ones. A client can still connect.
  void stall(Direction direction);
  void stall();
  // Ends every stall of that direction, or of both, that has begun, also those
  // of scripts. What was held back passes.
  void resume(Direction direction);
  void resume();
  // What the faults of these names do; what is held back is dropped.
  void cut(Direction direction);
  void reset();
  void drop();

  // From here on a connection is refused (ECONNREFUSED). Connections that there
  // are go on; those that wait to be accepted are reset.
  void refuse_connections();
  // Accepts connections again, on the same port. Throws tcpip::Error if it
  // cannot (EMFILE); then connections are still refused.
  void accept_connections();

  // --- What has happened ---

  // Of all connections together. Dropped bytes do not count.
  std::uint64_t bytes_passed(Direction direction) const;
  // How many clients have come, and how many connections are not over yet.
  std::uint64_t connection_count() const;
  std::size_t open_connections() const;

 private:
  const std::optional<RandomFaults> random_;
  const std::shared_ptr<internal::Forwarder> forwarder_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_FAULTY_PROXY_H_
