// One connection of a client or server, inside: the Link, with its socket,
// buffers and streams, for as long as the connection lives; and the
// ConnectionRecord, the little that stays when it is over, to which a
// tcpip::Connection refers.
//
//   Connection --> ConnectionRecord <-- Link --> EndpointCore
//                          '- - weak - -^  ^- - until it ends - -'
//
// A Link and its core refer to each other. EndpointCore breaks that circle when
// it ends the connection, which it does for every Link that it has admitted.
//
// Threads: a Link's streams may be used by whoever holds a reference, as their
// headers say. What else of a Link changes is guarded by EndpointCore's mutex.
// A ConnectionRecord may be used by any thread.
#ifndef TCPIP_ENDPOINT_LINK_H_
#define TCPIP_ENDPOINT_LINK_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/endpoint/heartbeats.h"
#include "tcpip/socket.h"
#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"
#include "tcpip/stream_reader.h"
#include "tcpip/stream_writer.h"

namespace tcpip::internal {

class EndpointCore;
class TextFormat;
struct Link;

// Where reads and writes find the connection that they mean.
class LinkSource {
 public:
  // The connection, or nothing if there is none or it is over.
  virtual std::shared_ptr<Link> link() const = 0;
  // How its text messages look; nothing if its client or server is gone.
  virtual std::shared_ptr<const TextFormat> format() const = 0;
  // Stands for the connection in an error that says there is none.
  virtual std::string subject() const = 0;

 protected:
  ~LinkSource() = default;
};

class ConnectionRecord final : public LinkSource {
 public:
  ConnectionRecord(std::weak_ptr<EndpointCore> endpoint_core, Address peer_end,
                   Address local_end)
      : endpoint(std::move(endpoint_core)), peer(peer_end), local(local_end) {}

  std::shared_ptr<Link> link() const override {
    return over ? nullptr : live.lock();
  }
  std::shared_ptr<const TextFormat> format() const override;
  std::string subject() const override { return peer.to_string(); }

  const std::weak_ptr<EndpointCore> endpoint;
  const Address peer;
  const Address local;
  std::stop_source stop;  // requested when the connection is over
  // These two are set before another thread can see the record.
  std::uint64_t number = 0;  // 1, 2, 3, ... of its endpoint
  std::weak_ptr<Link> live;
  // Set by EndpointCore, under its mutex.
  std::atomic<bool> over{false};
  std::atomic<bool> should_be_connected{true};  // this side has not ended it
};

struct Link final : ReadObserver {
  // `connected` is when the connection was made.
  Link(std::shared_ptr<EndpointCore> endpoint_core,
       std::shared_ptr<Socket> connected_socket, const Address& peer,
       std::size_t limit, const HeartbeatOptions& heartbeat_options,
       Heartbeats::TimePoint connected);

  // A read has ended: see ReadObserver. Tells the core.
  void read_ended(bool lost) noexcept override;

  const std::shared_ptr<EndpointCore> core;
  const std::shared_ptr<Socket> socket;
  const std::shared_ptr<ConnectionRecord> record;
  StreamReader reader;
  StreamWriter writer;
  Receiver& receiver;  // the reader's
  Sender& sender;      // the writer's

  // The peer's FIN or reset was seen, maybe behind unread bytes. Only the
  // watching thread (accept or monitor) sets it, so that one may look without
  // the mutex.
  bool hung_up = false;
  Heartbeats heartbeats;
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_LINK_H_
