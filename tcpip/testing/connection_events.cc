#include "tcpip/testing/connection_events.h"

#include <optional>

#include "tcpip/error.h"
#include "tcpip/testing/waitable_queue.h"

namespace tcpip_testing {
namespace {

using tcpip::ConnectionEvent;
using tcpip::Wait;

std::optional<ConnectionEvent> next_in_time(const ConnectionEvents& events,
                                            const Wait& wait) {
  try {
    return events.next(wait);
  } catch (const tcpip::TimeoutError&) {
    return std::nullopt;
  }
}

ConnectionEvent expect_next(const ConnectionEvents& events,
                            const std::string& expected, const Wait& wait,
                            Caller caller) {
  const std::optional<ConnectionEvent> event = next_in_time(events, wait);
  if (!event) {
    fail_test("no connection event in time; expected: " + expected, caller);
  }
  return *event;
}

[[noreturn]] void fail_mismatch(const ConnectionEvent& event,
                                const std::string& expected, Caller caller) {
  fail_test("the next connection event is: " + describe(event) +
                "; expected: " + expected,
            caller);
}

std::string disconnected(tcpip::DisconnectReason reason) {
  return "disconnected (" + std::string(to_string(reason)) + ")";
}

}  // namespace

std::string describe(const ConnectionEvent& event) {
  std::string text = event.connected ? "connected" : disconnected(event.reason);
  const tcpip::Connection& connection = event.connection;
  text += ", connection " + std::to_string(connection.number());
  if (const tcpip::Address peer = connection.peer_address(); !peer.empty()) {
    text += " with " + peer.to_string();
  }
  if (event.error) text += ": " + event.error.message();
  return text;
}

std::string summary(const ConnectionEvent& event) {
  return std::string(event.connected ? "connected" : to_string(event.reason)) +
         " " + std::to_string(event.connection.number());
}

ConnectionEvents::ConnectionEvents()
    : queue_(std::make_shared<internal::WaitableQueue<ConnectionEvent>>()) {}

void ConnectionEvents::add(const ConnectionEvent& event) const {
  queue_->push(event);
}

ConnectionEvent ConnectionEvents::next(const Wait& wait) const {
  return queue_->pop("next connection event", wait);
}

ConnectionEvent ConnectionEvents::assert_next_connected(bool connected,
                                                        const Wait& wait,
                                                        Caller caller) const {
  const std::string expected = connected ? "connected" : "disconnected";
  const ConnectionEvent event = expect_next(*this, expected, wait, caller);
  if (event.connected != connected) fail_mismatch(event, expected, caller);
  return event;
}

ConnectionEvent ConnectionEvents::assert_next_disconnected(
    tcpip::DisconnectReason reason, const Wait& wait, Caller caller) const {
  const std::string expected = disconnected(reason);
  const ConnectionEvent event = expect_next(*this, expected, wait, caller);
  if (event.connected || event.reason != reason) {
    fail_mismatch(event, expected, caller);
  }
  return event;
}

void ConnectionEvents::assert_none(const Wait& wait, Caller caller) const {
  if (const auto event = next_in_time(*this, wait)) {
    fail_test("expected no connection event; there is: " + describe(*event),
              caller);
  }
}

bool ConnectionEvents::wait_for(std::size_t count, const Wait& wait) const {
  return queue_->wait_for(count, "wait for connection events", wait);
}

std::vector<ConnectionEvent> ConnectionEvents::values() const {
  return queue_->values();
}

std::string ConnectionEvents::text() const {
  std::string text;
  for (const ConnectionEvent& event : values()) {
    if (!text.empty()) text += ", ";
    text += summary(event);
  }
  return text;
}

std::size_t ConnectionEvents::size() const { return queue_->size(); }

void ConnectionEvents::clear() const { queue_->clear(); }

}  // namespace tcpip_testing
