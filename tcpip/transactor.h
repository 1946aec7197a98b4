// Request and reply, on a link that carries nothing else.
//
//   tcpip::Transactor dome({.end = ">"});
//   const std::string position = dome.transact(client.connection(), "pos\r",
//   1s);
//
// Requests are made one at a time; further threads wait for their turn. What
// has come before a request answers nothing: it is dropped, and counted.
//
// After a time-out the reply may still come, and must not answer the next
// request. TransactorOptions::after_timeout says what is done about that.
//
// Threads: every member may be called from any thread at any time. No other
// thread may read the connection.
#ifndef TCPIP_TRANSACTOR_H_
#define TCPIP_TRANSACTOR_H_

#include "tcpip/version.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tcpip/connection.h"
#include "tcpip/error.h"
#include "tcpip/wait.h"

namespace tcpip {

// What a request does that ends without its reply: by a time-out or a stop, if
// something of it may have reached the peer.
enum class AfterTimeout {
  // Closes the connection. The next one is free of old replies.
  kClose,
  // Keeps the connection. The late reply is dropped when it comes, before the
  // next request or behind it. Only for a peer that answers each request, once
  // and in order, however late: if a reply never comes, each later request
  // takes its own reply for the late one, and times out.
  kDropLateReply
};

struct TCPIP_EXPORT TransactorOptions {
  // The bytes that end a reply: at least one. Not a part of what transact()
  // returns.
  std::string end = "\r\n";
  // What is done about a late reply.
  AfterTimeout after_timeout = AfterTimeout::kClose;
};

class TCPIP_EXPORT Transactor final {
 public:
  using Options = TransactorOptions;

  // Throws std::invalid_argument for an empty end.
  explicit Transactor(Options options = {});
  ~Transactor();
  Transactor(const Transactor&) = delete;
  Transactor& operator=(const Transactor&) = delete;

  // Sends the bytes of `request` as they are, and returns the reply. `wait`
  // covers all: the turn, the sending and the reply. A new connection begins
  // without late replies.
  //
  // Throws TimeoutError and CancelledError; if the request was not begun, the
  // connection stays as it is, else see AfterTimeout. Throws what read_until()
  // and write() throw; a reply beyond the limit (LimitOverrunError) and a lack
  // of memory close the connection, since the rest of the reply cannot be told
  // from the next one.
  std::string transact(const Connection& connection, std::string_view request,
                       const Wait& wait = {});

  // How many bytes came that answered nothing, and how many replies came after
  // their request had ended; both were dropped.
  std::uint64_t stale_bytes() const;
  std::uint64_t late_replies() const;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace tcpip

#endif  // TCPIP_TRANSACTOR_H_
