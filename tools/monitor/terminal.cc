#include "tools/monitor/terminal.h"

#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

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

// Pieces that a pipe takes as a whole when poll() says that it takes any.
void Output::write(std::string_view text) {
  constexpr std::size_t kPiece = 4096;
  while (!text.empty() && is_open_ && wait_writable()) {
    const ::ssize_t n =
        ::write(STDOUT_FILENO, text.data(), std::min(text.size(), kPiece));
    if (n >= 0) {
      text.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno != EINTR && errno != EAGAIN) {
      is_open_ = false;  // SIGPIPE is ignored: EPIPE
    }
  }
}

bool Output::wait_writable() {
  constexpr int kPatience = 500;  // ms, behind the interrupt
  std::array<::pollfd, 2> fds{
      {{STDOUT_FILENO, POLLOUT, 0}, {interrupt_fd_, POLLIN, 0}}};
  if (gives_up_) return ::poll(fds.data(), 1, 0) > 0;
  for (;;) {
    const int ready = ::poll(fds.data(), 2, -1);
    if (fds[0].revents != 0) return true;
    if (ready > 0) break;
  }
  if (::poll(fds.data(), 1, kPatience) > 0) return true;
  gives_up_ = true;
  return false;
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
  const std::size_t end = buffer_.find('\n');
  if (end == buffer_.npos && (!at_end_ || buffer_.empty())) {
    return std::nullopt;
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end == buffer_.npos ? end : end + 1);
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
