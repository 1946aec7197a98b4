#include "tcpip/testing/leak_guard.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <memory>
#include <system_error>

#include "tcpip/testing/wait_until.h"

namespace tcpip_testing {
namespace {

// False, with errno, if the directory cannot be opened.
template <class Visit>
bool for_each_entry(const char* path, Visit visit) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path),
                                                      &::closedir);
  if (!directory) return false;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    visit(std::stoi(entry->d_name), ::dirfd(directory.get()));
  }
  return true;
}

template <class Visit>
void for_each_thread(Visit visit) {
  constexpr const char* kPath = "/proc/self/task";
  if (!for_each_entry(kPath, [&](int id, int /*own*/) { visit(id); })) {
    throw std::system_error(errno, std::generic_category(), kPath);
  }
}

template <class Visit>
void for_each_descriptor(Visit visit) {
  const auto visit_others = [&](int fd, int own) {
    if (fd != own) visit(fd);
  };
  if (for_each_entry("/proc/self/fd", visit_others)) return;
  // There is no descriptor for the directory itself. A limit of many more is
  // not the reason for that.
  constexpr rlim_t kMost = 1 << 20;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const int end = static_cast<int>(std::min(limit.rlim_max, kMost));
  for (int fd = 0; fd < end; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) visit(fd);
  }
}

std::string what_is(int fd) {
  std::array<char, 4096> target{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), target.data(), target.size());
  if (size < 0) return "?";
  return std::string(target.data(), static_cast<std::size_t>(size));
}

}  // namespace

std::map<int, std::string> open_descriptors() {
  std::map<int, std::string> result;
  for_each_descriptor([&result](int fd) { result[fd] = what_is(fd); });
  return result;
}

std::map<pid_t, std::string> running_threads() {
  std::map<pid_t, std::string> result;
  for_each_thread([&result](pid_t thread) {
    std::string name;
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/comm");
    if (std::getline(file, name)) result[thread] = name;
  });
  return result;
}

int count_threads() {
  int count = 0;
  for_each_thread([&count](pid_t /*thread*/) { ++count; });
  return count;
}

// The name of a file changes when it is renamed or deleted. What is not a file
// has a name for its kind, or with its inode.
bool LeakSnapshot::Descriptor::is(const Descriptor& other) const {
  return device == other.device && inode == other.inode &&
         (what == other.what ||
          (what.starts_with('/') && other.what.starts_with('/')));
}

std::map<int, LeakSnapshot::Descriptor> LeakSnapshot::descriptors() {
  std::map<int, Descriptor> result;
  for_each_descriptor([&result](int fd) {
    // Not fstat(): for ThreadSanitizer that would be a use of a descriptor
    // which another thread may close at this moment.
    struct stat status {};
    ::stat(("/proc/self/fd/" + std::to_string(fd)).c_str(), &status);
    result[fd] = {what_is(fd), status.st_dev, status.st_ino};
  });
  return result;
}

LeakSnapshot::LeakSnapshot() : descriptors_(descriptors()) {
  try {
    threads_ = running_threads();
  } catch (const std::system_error& e) {
    threads_error_ = e.what();
  }
}

std::string LeakSnapshot::differences() const {
  std::string result;
  const std::map<int, Descriptor> now = descriptors();
  for (const auto& [fd, descriptor] : now) {
    const auto before = descriptors_.find(fd);
    if (before == descriptors_.end() || !before->second.is(descriptor)) {
      result += "descriptor " + std::to_string(fd) +
                " was left behind: " + descriptor.what + "\n";
    }
  }
  for (const auto& [fd, descriptor] : descriptors_) {
    if (!now.contains(fd)) {
      result +=
          "descriptor " + std::to_string(fd) +
          " was closed, but belongs to somebody else: " + descriptor.what +
          "\n";
    }
  }
  try {
    if (!threads_error_.empty()) {
      return result + "threads were not looked at: " + threads_error_ + "\n";
    }
    for (const auto& [thread, name] : running_threads()) {
      if (!threads_.contains(thread)) {
        result += "thread " + std::to_string(thread) +
                  " was left behind: " + name + "\n";
      }
    }
  } catch (const std::system_error& e) {
    result += "threads cannot be looked at: " + std::string(e.what()) + "\n";
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
