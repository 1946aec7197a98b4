// A list that threads append to and that the test waits for and looks at.
//
//   SharedList<std::string> commands;
//   ... commands.add(client.read_str(stop)); ...
//   ASSERT_TRUE(commands.wait_for(2));
//   EXPECT_EQ(commands.values(), (std::vector<std::string>{"one", "two"}));
//
// Threads: every member may be called from any thread.
#ifndef TESTS_SUPPORT_SHARED_LIST_H_
#define TESTS_SUPPORT_SHARED_LIST_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tcpip/testing/wait_until.h"

namespace tcpip_tests {

// Copies share the list, so that one held by a callback is good for as long as
// the callback is.
template <class T>
class SharedList {
 public:
  void add(T value) const {
    const std::lock_guard lock(state_->mutex);
    state_->values.push_back(std::move(value));
  }
  std::vector<T> values() const {
    const std::lock_guard lock(state_->mutex);
    return state_->values;
  }
  std::size_t size() const {
    const std::lock_guard lock(state_->mutex);
    return state_->values.size();
  }
  // True once there are that many; false if there are not in time.
  [[nodiscard]] bool wait_for(
      std::size_t count,
      std::chrono::milliseconds limit = tcpip_testing::kPatience) const {
    return tcpip_testing::wait_until([&] { return size() >= count; }, limit);
  }

 private:
  struct State {
    std::mutex mutex;
    std::vector<T> values;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_SHARED_LIST_H_
