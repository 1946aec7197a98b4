#include "tools/monitor/terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <utility>

namespace tcpip_monitor {
namespace {

constexpr int kFatalSignals[] = {SIGQUIT, SIGABRT, SIGSEGV,
                                 SIGBUS,  SIGFPE,  SIGILL};

// For the signal handler, which can be given nothing.
::termios saved{};
bool is_saved = false;

void restore() {
  if (is_saved) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
}

// SA_RESETHAND: the signal then does what it does by itself.
void restore_and_end(int number) {
  restore();
  ::raise(number);
}

}  // namespace

TerminalGuard::TerminalGuard() {
  is_saved = ::tcgetattr(STDIN_FILENO, &saved) == 0;
  if (!is_saved) return;
  struct ::sigaction action {};
  action.sa_handler = restore_and_end;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int number : kFatalSignals) {
    ::sigaction(number, &action, nullptr);
  }
}

TerminalGuard::~TerminalGuard() {
  restore();
  is_saved = false;
}

tcpip::UniqueFd reopen_terminal() {
  return tcpip::UniqueFd(
      ::open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

Output::Output(int signal_fd, std::function<void()> on_signal)
    : signal_fd_(signal_fd),
      on_signal_(std::move(on_signal)),
      is_terminal_(is_output_terminal()),
      own_(is_terminal_ ? reopen_terminal() : tcpip::UniqueFd()),
      fd_(own_ ? own_.get() : STDOUT_FILENO) {}

void Output::write(std::string_view text) {
  // A pipe takes as much as a whole when poll() says that it takes any.
  constexpr std::size_t kPiece = 4096;
  while (!text.empty() && wait()) {
    const ::ssize_t n =
        ::write(fd_, text.data(), std::min(text.size(), kPiece));
    if (n >= 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
      if (limit_ && !is_terminal_) end_soon();
    } else if (errno == EPIPE || errno == EIO) {  // SIGPIPE is ignored
      is_open_ = false;
    } else if (errno != EINTR && errno != EAGAIN) {
      error_ = errno;
    }
  }
}

bool Output::wait() {
  while (is_open_ && error_ == 0) {
    int left = -1;
    if (limit_) {
      left = static_cast<int>(
          std::max(std::chrono::ceil<std::chrono::milliseconds>(
                       *limit_ - std::chrono::steady_clock::now()),
                   std::chrono::milliseconds(0))
              .count());
      if (left == 0) {
        has_given_up_ = true;
        return false;
      }
    }
    std::array<::pollfd, 2> fds{{{fd_, POLLOUT, 0}, {signal_fd_, POLLIN, 0}}};
    ::poll(fds.data(), fds.size(), left);
    if (fds[1].revents != 0) on_signal_();
    if (fds[0].revents != 0) return true;
  }
  return false;
}

void Output::end_soon() {
  constexpr std::chrono::milliseconds kPatience{500};
  limit_ = std::chrono::steady_clock::now() + kPatience;
}

void PlainInput::read() {
  std::array<char, 4096> piece;
  const ::ssize_t n = ::read(STDIN_FILENO, piece.data(), piece.size());
  if (n > 0) {
    buffer_.append(piece.data(), static_cast<std::size_t>(n));
  } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
    at_end_ = true;
  }
}

std::optional<std::string> PlainInput::next_line() {
  std::size_t end = buffer_.find('\n', searched_);
  if (is_skipping_) {
    buffer_.erase(0, end == buffer_.npos ? end : end + 1);
    searched_ = 0;
    if (end == buffer_.npos) return std::nullopt;
    is_skipping_ = false;
    end = buffer_.find('\n');
  }
  if (std::min(end, buffer_.size()) > kLongest) {
    is_skipping_ = true;
    searched_ = end == buffer_.npos ? buffer_.size() : end;
    throw std::length_error("the line is longer than 16 MiB");
  }
  if (end == buffer_.npos && (!at_end_ || buffer_.empty())) {
    searched_ = buffer_.size();
    return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end == buffer_.npos ? end : end + 1);
  searched_ = 0;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

bool is_output_terminal() { return ::isatty(STDOUT_FILENO) == 1; }

bool can_edit() {
  const char* const terminal = std::getenv("TERM");
  return ::isatty(STDIN_FILENO) == 1 && is_output_terminal() &&
         terminal != nullptr && std::string_view(terminal) != "" &&
         std::string_view(terminal) != "dumb";
}

bool may_read_input() {
  return ::isatty(STDIN_FILENO) != 1 ||
         ::tcgetpgrp(STDIN_FILENO) == ::getpgrp();
}

}  // namespace tcpip_monitor
