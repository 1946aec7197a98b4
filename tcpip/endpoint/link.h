// The two internal objects of a connection. A Link has the socket, the Receiver
// and the Sender with their buffers, and lives as long as the connection. A
// ConnectionRecord has the little that is still known when the connection has
// ended; a tcpip::Connection refers to it.
//
//   Connection --> ConnectionRecord <-- Link --> EndpointCore
//                          '- - weak - -^  ^- - until it ends - -'
//
// A Link and its core refer to each other. EndpointCore breaks that circle when
// it ends the connection, as it does with every Link that it has admitted.
//
// Threads: any thread that holds a reference to a Link may use its streams, as
// their headers say. The mutex of EndpointCore guards the rest of a Link.
// Any thread may use a ConnectionRecord.
#ifndef TCPIP_ENDPOINT_LINK_H_
#define TCPIP_ENDPOINT_LINK_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "tcpip/address.h"
#include "tcpip/callback_queue.h"
#include "tcpip/endpoint/heartbeats.h"
#include "tcpip/endpoint/link_source.h"
#include "tcpip/socket.h"
#include "tcpip/stream/meter.h"
#include "tcpip/stream/receiver.h"
#include "tcpip/stream/sender.h"
#include "tcpip/wait.h"

namespace tcpip::internal {

class EndpointCore;

// The socket of an ended connection, and until when to linger for it.
struct EndedSocket {
  explicit EndedSocket(std::shared_ptr<Socket> ended)
      : socket(std::move(ended)) {}
  ~EndedSocket() { socket->wake_receive(); }
  EndedSocket(const EndedSocket&) = delete;
  EndedSocket& operator=(const EndedSocket&) = delete;

  const std::shared_ptr<Socket> socket;
  Deadline deadline = {};
  bool ready = false;  // the last poll() has said so
  // Not 0: poll() is not asked when to go on; look again after this time.
  std::chrono::milliseconds look_after{0};
};
// A list: moving a node from list to list needs no memory.
using EndedSockets = std::list<EndedSocket>;

class ConnectionRecord final : public LinkSource {
 public:
  ConnectionRecord(std::weak_ptr<EndpointCore> endpoint_core, Address peer_end,
                   Address local_end)
      : endpoint(std::move(endpoint_core)), peer(peer_end), local(local_end) {}

  std::shared_ptr<Link> link() const override {
    return over ? nullptr : live.lock();
  }
  TextLink text_link() const override;
  std::string subject() const override { return peer.to_string(); }
  // From now on link() is null: no further read begins.
  void set_over() noexcept {
    over = true;
    note_change();
  }
  using LinkSource::forget;
  using LinkSource::note_change;

  const std::weak_ptr<EndpointCore> endpoint;
  const Address peer;
  const Address local;
  std::stop_source stop;  // requested when the connection ends
  // These two are set before another thread can see the record.
  std::uint64_t number = 0;  // 1, 2, 3, ... of its endpoint
  std::weak_ptr<Link> live;
  // Set by EndpointCore, under its mutex.
  std::atomic<bool> over{false};
  std::atomic<bool> should_be_connected{true};  // this side has not ended it
};

// A connection event that is ready to be queued. Empty if there is no
// connect_callback.
class QueuedEvent;
struct LinkEvent {
  QueuedEvent* event = nullptr;  // the callback owns it
  PreparedEvent callback;
};

struct Link final : ReadObserver {
  // `connected` is when the connection was made.
  Link(std::shared_ptr<EndpointCore> endpoint_core,
       std::shared_ptr<Socket> connected_socket, const Address& peer,
       std::size_t limit, const HeartbeatOptions& heartbeat_options,
       Heartbeats::TimePoint connected, Meter link_meter);

  ~Link();

  // See ReadObserver. Tells the core.
  void read_ended(bool lost) noexcept override;

  const std::shared_ptr<EndpointCore> core;
  const std::shared_ptr<Socket> socket;
  const std::shared_ptr<ConnectionRecord> record;
  const Meter meter;
  // Streams that the program got from Connection::reader() and writer() share
  // these two. They keep the socket, but neither the Link nor the core.
  const std::shared_ptr<Receiver> receiver;
  const std::shared_ptr<Sender> sender;

  // The peer's FIN or reset was seen, maybe behind unread bytes; and: the
  // connection is over in both directions, so that nothing is left to poll for.
  // Only the watching thread (accept thread or monitor thread) sets these two,
  // under the mutex of EndpointCore; that thread itself may read them without
  // the mutex.
  bool hung_up = false;
  bool broken = false;
  // For the client reader, guarded by the mutex of EndpointCore. greeting:
  // `begin` has not returned yet, or has not been called. consumed_before: how
  // many bytes were consumed when the current call of the handler began.
  bool greeting = false;
  std::uint64_t consumed_before = 0;
  Heartbeats heartbeats;

  // What beginning and ending the connection need memory for, made in advance
  // by EndpointCore: so a connection that has begun can always end, and its
  // events cannot be lost. Empty once they are used.
  LinkEvent began;
  LinkEvent over;
  EndedSockets ended;
};

}  // namespace tcpip::internal

#endif  // TCPIP_ENDPOINT_LINK_H_
