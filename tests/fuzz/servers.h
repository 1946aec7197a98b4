// Servers that live from one input to the next, since starting one takes longer
// than an input; each input has a connection of its own.
//
// Threads: for the thread that calls fuzz_one().
#ifndef TESTS_FUZZ_SERVERS_H_
#define TESTS_FUZZ_SERVERS_H_

#include <string_view>

#include "tcpip/connection.h"
#include "tcpip/one_client_server.h"
#include "tcpip/options.h"
#include "tcpip/unique_fd.h"

namespace tcpip_fuzz {

// The server with these options, of which `key` must tell all that matters.
tcpip::OneClientServer& server_for(std::string_view key,
                                   const tcpip::ServerOptions& options);
// Closes all of them.
void close_servers();

// A connection to a server and its bare other end, over TCP. The destructor
// resets the connection, which leaves nothing behind in the kernel.
class Served {
 public:
  explicit Served(tcpip::OneClientServer& server);
  ~Served();
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  tcpip::Connection& connection() { return connection_; }
  void send(std::string_view bytes);
  void half_close();
  // As the destructor. Bytes that were sent before may be lost.
  void reset();

 private:
  tcpip::UniqueFd peer_;
  tcpip::Connection connection_;
};

}  // namespace tcpip_fuzz

#endif  // TESTS_FUZZ_SERVERS_H_
