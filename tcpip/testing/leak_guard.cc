#include "tcpip/testing/leak_guard.h"

#include <dirent.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <memory>

#include "tcpip/testing/wait_until.h"

namespace tcpip_testing {
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

std::map<pid_t, std::string> running_threads() {
  std::map<pid_t, std::string> result;
  for_each_entry("/proc/self/task", [&result](int thread, int /*own*/) {
    std::string name;
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/comm");
    if (std::getline(file, name)) result[thread] = name;
  });
  return result;
}

int count_threads() {
  int count = 0;
  for_each_entry("/proc/self/task", [&count](int, int) { ++count; });
  return count;
}

LeakSnapshot::LeakSnapshot()
    : descriptors_(open_descriptors()), threads_(running_threads()) {}

std::string LeakSnapshot::differences() const {
  std::string result;
  const std::map<int, std::string> descriptors = open_descriptors();
  for (const auto& [fd, what] : descriptors) {
    const auto before = descriptors_.find(fd);
    if (before == descriptors_.end() || before->second != what) {
      result += "descriptor " + std::to_string(fd) +
                " was left behind: " + what + "\n";
    }
  }
  for (const auto& [fd, what] : descriptors_) {
    if (!descriptors.contains(fd)) {
      result += "descriptor " + std::to_string(fd) +
                " was closed, but belongs to somebody else: " + what + "\n";
    }
  }
  for (const auto& [thread, name] : running_threads()) {
    if (!threads_.contains(thread)) {
      result += "thread " + std::to_string(thread) +
                " was left behind: " + name + "\n";
    }
  }
  return result;
}

testing::AssertionResult LeakSnapshot::is_restored(
    std::chrono::milliseconds patience) const {
  std::string text;
  const auto restored = [&] {
    text = differences();
    return text.empty();
  };
  if (wait_until(restored, patience)) return testing::AssertionSuccess();
  return testing::AssertionFailure() << text;
}

ScopedLeakGuard::~ScopedLeakGuard() {
  if (const testing::AssertionResult result = before_.is_restored(patience_);
      !result) {
    ADD_FAILURE_AT(caller_.file, caller_.line) << result.message();
  }
}

void LeakGuard::OnTestStart(const testing::TestInfo& /*info*/) {
  before_.emplace();
}

void LeakGuard::OnTestEnd(const testing::TestInfo& /*info*/) {
  if (!before_) return;
  if (const testing::AssertionResult result = before_->is_restored(patience_);
      !result) {
    ADD_FAILURE() << result.message();
  }
  before_.reset();
}

}  // namespace tcpip_testing
