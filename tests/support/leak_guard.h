// Fails every test that leaves a descriptor or a thread behind.
#ifndef TESTS_SUPPORT_LEAK_GUARD_H_
#define TESTS_SUPPORT_LEAK_GUARD_H_

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace tcpip_tests {

// The open descriptors with what they are ("socket:[1234]"), and the number of
// threads, of this process.
std::map<int, std::string> open_descriptors();
int count_threads();

// Compares both before and after each test. Threads and descriptors that are
// on their way out get a few seconds.
class LeakGuard : public testing::EmptyTestEventListener {
 public:
  void OnTestStart(const testing::TestInfo& info) override;
  void OnTestEnd(const testing::TestInfo& info) override;

 private:
  std::map<int, std::string> descriptors_;
  int threads_ = 0;
};

}  // namespace tcpip_tests

#endif  // TESTS_SUPPORT_LEAK_GUARD_H_
