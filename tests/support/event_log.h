// Recorders for what clients and servers tell: connection events, log lines.
//
//   EventLog events;
//   OneClientServer server({..., .connect_callback = events.callback()});
//   ...
//   ASSERT_TRUE(events.wait_for(2));
//   EXPECT_EQ(events.text(), "connected 1, peer closed 1");
//
// Threads: every member may be called from any thread.
#ifndef TESTS_SUPPORT_EVENT_LOG_H_
#define TESTS_SUPPORT_EVENT_LOG_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tcpip/connection_event.h"
#include "tcpip/log.h"

namespace tcpip_tests {

// A list that threads append to and wait for. Copies share the list, so that
// one held by a callback is good for as long as the callback is.
template <class T>
class SharedList {
 public:
  void add(T value) const {
    const std::lock_guard lock(state_->mutex);
    state_->values.push_back(std::move(value));
    state_->changed.notify_all();
  }
  std::vector<T> values() const {
    const std::lock_guard lock(state_->mutex);
    return state_->values;
  }
  std::size_t size() const { return values().size(); }
  // True once there are that many; false if there are not in time.
  bool wait_for(std::size_t count, std::chrono::milliseconds limit =
                                       std::chrono::seconds(20)) const {
    std::unique_lock lock(state_->mutex);
    // Not wait_for: TSan does not know the steady clock's variant of it.
    return state_->changed.wait_until(
        lock, std::chrono::system_clock::now() + limit,
        [&] { return state_->values.size() >= count; });
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<T> values;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// "connected 1", "peer closed 1", ...: what the event says and of which
// connection.
inline std::string describe(const tcpip::ConnectionEvent& event) {
  return (event.connected ? std::string("connected")
                          : std::string(tcpip::to_string(event.reason))) +
         " " + std::to_string(event.connection.number());
}

class EventLog : public SharedList<tcpip::ConnectionEvent> {
 public:
  // A connect_callback that records and does nothing else.
  auto callback() const {
    return
        [log = *this](const tcpip::ConnectionEvent& event) { log.add(event); };
  }
  std::string text() const {
    std::string result;
    for (const tcpip::ConnectionEvent& event : values()) {
      result += (result.empty() ? "" : ", ") + describe(event);
    }
    return result;
  }
};

struct LogLine {
  tcpip::LogLevel level;
  std::string name;
  std::string message;
};

class LogRecorder : public SharedList<LogLine> {
 public:
  tcpip::Log log(tcpip::LogLevel level = tcpip::LogLevel::kDebug) const {
    return tcpip::Log(
        [lines = *this](tcpip::LogLevel at, std::string_view name,
                        std::string_view message) {
          lines.add({at, std::string(name), std::string(message)});
        },
        level);
  }
  // How many lines have `text` in them.
  std::size_t count(std::string_view text) const {
    std::size_t result = 0;
    for (const LogLine& line : values()) {
      if (line.message.find(text) != std::string::npos) ++result;
    }
    return result;
  }
  // All of it, for a failing test.
  std::string text() const {
    std::string result;
    for (const LogLine& line : values()) result += line.message + "\n";
    return result;
  }
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_EVENT_LOG_H_
