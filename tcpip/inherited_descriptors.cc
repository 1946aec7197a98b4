#include "tcpip/inherited_descriptors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>

#include "tcpip/error.h"

namespace tcpip {
namespace {

constexpr int kFirst = 3;
constexpr const char* kOperation = "inherit descriptors";

int number_of(const char* variable, std::string_view text) {
  int value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 ||
      value > std::numeric_limits<int>::max() - kFirst) {
    throw_os_error(EINVAL, kOperation, variable,
                   fmt::format("\"{}\" is not a number", text));
  }
  return value;
}

}  // namespace

std::vector<InheritedDescriptor> inherited_descriptors() {
  const char* const pid = std::getenv("LISTEN_PID");
  const char* const fds = std::getenv("LISTEN_FDS");
  if (pid == nullptr || fds == nullptr) return {};
  if (number_of("LISTEN_PID", pid) != ::getpid()) return {};
  const int count = number_of("LISTEN_FDS", fds);
  std::vector<InheritedDescriptor> result;
  for (int fd = kFirst; fd < kFirst + count; ++fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0 || ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0) {
      throw_os_error(errno, kOperation, fmt::format("descriptor {}", fd));
    }
    result.push_back({fd, "unknown"});
  }
  const char* const names = std::getenv("LISTEN_FDNAMES");
  if (names == nullptr) return result;
  std::vector<std::string_view> parts;
  for (std::string_view rest = names;;) {
    const std::size_t end = rest.find(':');
    parts.push_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  if (parts.size() != result.size() && !(result.empty() && parts[0].empty())) {
    throw_os_error(EINVAL, kOperation, "LISTEN_FDNAMES",
                   fmt::format("{} names for {} descriptors", parts.size(),
                               result.size()));
  }
  for (std::size_t i = 0; i < result.size(); ++i) result[i].name = parts[i];
  return result;
}

}  // namespace tcpip
