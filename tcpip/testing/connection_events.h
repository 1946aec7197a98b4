// Connection events, collected as they come and looked at one by one.
//
//   ConnectionEvents events;
//   tcpip::OneClientServer server({..., .connect_callback =
//                                           events.callback()});
//   ...
//   events.assert_next_connected(true);
//   events.assert_next_disconnected(tcpip::DisconnectReason::kPeerClosed);
//   events.assert_none();
//
// or all at once:
//
//   ASSERT_TRUE(events.wait_for(2));
//   EXPECT_EQ(events.text(), "connected 1, peer closed 1");
//
// A callback runs later than the change that it tells of: wait for an event
// before you look at it, also if connected() says already what you expect.
//
// The fixture in one_client_server_test_case.h has one of these for each of its
// servers and clients.
//
// The assertions report a fatal failure at the caller's line and end the test
// (see assertion.h). A Wait may hold a stop: CancelledError when it is
// requested.
//
// Threads: every member may be called from any thread, but the assertions from
// the one that runs the test.
#ifndef TCPIP_TESTING_CONNECTION_EVENTS_H_
#define TCPIP_TESTING_CONNECTION_EVENTS_H_

#include "tcpip/version.h"

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tcpip/connection_event.h"
#include "tcpip/testing/assertion.h"
#include "tcpip/testing/wait_until.h"
#include "tcpip/wait.h"

namespace tcpip_testing {

namespace internal {

template <class T>
class WaitableQueue;

// The last of a connect_callback's arguments.
template <class Event>
const tcpip::ConnectionEvent& event_of(const Event& event) {
  static_assert(std::is_same_v<Event, tcpip::ConnectionEvent>,
                "A connect_callback's last parameter must be a "
                "const tcpip::ConnectionEvent&.");
  return event;
}
template <class First, class Second, class... Rest>
const tcpip::ConnectionEvent& event_of(const First& /*endpoint*/,
                                       const Second& second,
                                       const Rest&... rest) {
  return event_of(second, rest...);
}

}  // namespace internal

// "connected, connection 1 with 127.0.0.1:4000",
// "disconnected (peer closed), connection 1 with 127.0.0.1:4000".
TCPIP_EXPORT std::string describe(const tcpip::ConnectionEvent& event);
// "connected 1", "peer closed 1": the reason, and the connection's number.
TCPIP_EXPORT std::string summary(const tcpip::ConnectionEvent& event);

// Copies share the events.
class TCPIP_EXPORT ConnectionEvents {
 public:
  ConnectionEvents();

  // A connect_callback that records the event. It may outlive this object.
  auto callback() const {
    return [events = *this](auto&&... arguments) {
      events.add(internal::event_of(arguments...));
    };
  }
  // The same; then calls `next` with what it was given, unless that is an empty
  // std::function.
  template <class Next>
  auto callback(Next next) const {
    return [events = *this, next = std::move(next)](auto&&... arguments) {
      events.add(internal::event_of(arguments...));
      if constexpr (requires { static_cast<bool>(next); }) {
        if (!next) return;
      }
      next(arguments...);
    };
  }
  void add(const tcpip::ConnectionEvent& event) const;

  // Takes out the oldest; waits for it if need be. Throws tcpip::TimeoutError,
  // tcpip::CancelledError.
  tcpip::ConnectionEvent next(const tcpip::Wait& wait = kPatience) const;

  // Takes out the oldest event, as next(). Fails the test if it is of the other
  // kind, or if there is none in time.
  tcpip::ConnectionEvent assert_next_connected(
      bool connected, const tcpip::Wait& wait = kPatience,
      Caller caller = Caller::here()) const;
  // The same, and fails if the connection ended for another reason.
  tcpip::ConnectionEvent assert_next_disconnected(
      tcpip::DisconnectReason reason, const tcpip::Wait& wait = kPatience,
      Caller caller = Caller::here()) const;
  // Fails if an event is there, or comes within the wait; takes it out. Without
  // a wait it looks and does not wait: of what is still on its way it says
  // nothing. So wait for something first that comes after the event that shall
  // not be: another event, a reply, the return of close().
  void assert_none(const tcpip::Wait& wait = tcpip::Wait::none(),
                   Caller caller = Caller::here()) const;

  // --- Those that are there: that have come and were not taken out ---

  // True once there are that many; false if there are not at the deadline.
  // Throws tcpip::CancelledError.
  [[nodiscard]] bool wait_for(std::size_t count,
                              const tcpip::Wait& wait = kPatience) const;
  std::size_t size() const;
  // The oldest first.
  std::vector<tcpip::ConnectionEvent> values() const;
  // The summary() of each: "connected 1, peer closed 1".
  std::string text() const;
  void clear() const;

 private:
  std::shared_ptr<internal::WaitableQueue<tcpip::ConnectionEvent>> queue_;
};

}  // namespace tcpip_testing

#endif  // TCPIP_TESTING_CONNECTION_EVENTS_H_
