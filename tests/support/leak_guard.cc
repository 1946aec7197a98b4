#include "tests/support/leak_guard.h"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <thread>

namespace tcpip_tests {
namespace {

template <class Visit>
void for_each_entry(const char* path, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path),
                                                      &::closedir);
  if (!directory) return;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    visit(std::stoi(entry->d_name), ::dirfd(directory.get()));
  }
}

}  // namespace

std::map<int, std::string> open_descriptors() {
  std::map<int, std::string> result;
  for_each_entry("/proc/self/fd", [&result](int fd, int own) {
    if (fd == own) return;
    std::array<char, 256> target{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
    result[fd] =
        size < 0 ? "?"
                 : std::string(target.data(), static_cast<std::size_t>(size));
  });
  return result;
}

int count_threads() {
  int count = 0;
  for_each_entry("/proc/self/task", [&count](int, int) { ++count; });
  return count;
}

void LeakGuard::OnTestStart(const testing::TestInfo& /*info*/) {
  descriptors_ = open_descriptors();
  threads_ = count_threads();
}

void LeakGuard::OnTestEnd(const testing::TestInfo& /*info*/) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::seconds(5);
  // A joined thread may be listed for a moment; so may what it held.
  while ((count_threads() > threads_ || open_descriptors() != descriptors_) &&
         Clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_LE(count_threads(), threads_) << "the test left a thread behind";
  const std::map<int, std::string> now = open_descriptors();
  for (const auto& [fd, what] : now) {
    const auto before = descriptors_.find(fd);
    EXPECT_TRUE(before != descriptors_.end() && before->second == what)
        << "the test left descriptor " << fd << " behind: " << what;
  }
  for (const auto& [fd, what] : descriptors_) {
    EXPECT_TRUE(now.contains(fd)) << "the test closed descriptor " << fd
                                  << ", which is not its own: " << what;
  }
}

}  // namespace tcpip_tests
