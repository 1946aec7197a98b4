// The terminal, or the pipes in its place: what is written, what is typed, and
// that the terminal is left as it was found.
//
// Threads: for the main thread.
#ifndef TOOLS_MONITOR_TERMINAL_H_
#define TOOLS_MONITOR_TERMINAL_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "tcpip/unique_fd.h"

namespace tcpip_monitor {

// Puts the terminal of the standard input back into the state that it had, in
// the destructor and before a signal such as SIGSEGV or SIGQUIT ends the
// program. One at a time.
class TerminalGuard {
 public:
  TerminalGuard();
  ~TerminalGuard();
  TerminalGuard(const TerminalGuard&) = delete;
  TerminalGuard& operator=(const TerminalGuard&) = delete;
};

// The terminal of the standard output once more, but a write to it does not
// wait. (To make the standard output itself so would change it for the shell,
// too.) -1 if that cannot be.
tcpip::UniqueFd reopen_terminal();

// Writes to the standard output, which may stand still: a pipe that nobody
// reads, a terminal after Ctrl-S.
class Output {
 public:
  // Calls `on_signal` when `signal_fd` is readable while it waits; it may call
  // end_soon().
  Output(int signal_fd, std::function<void()> on_signal);

  // All of it, unless it gives up.
  void write(std::string_view text);
  // Waits until something can be written. False if it gives up.
  bool wait();
  // From now on it gives up soon: where a person waits for the end, half a
  // second from now; where a program reads, when that takes nothing for so
  // long.
  void end_soon();

  // False once the reader has gone (`| head`).
  bool is_open() const { return is_open_; }
  // The errno of a write that has failed otherwise (a full disk); else 0.
  // Nothing is written after it.
  int error() const { return error_; }
  // True if not all was written, because it gave up.
  bool has_given_up() const { return has_given_up_; }

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  const int signal_fd_;
  const std::function<void()> on_signal_;
  const bool is_terminal_;
  const tcpip::UniqueFd own_;  // of a terminal
  const int fd_;
  std::optional<TimePoint> limit_;
  bool is_open_ = true;
  int error_ = 0;
  bool has_given_up_ = false;
};

// Lines that are typed or come through a pipe.
class Input {
 public:
  virtual ~Input() = default;
  Input() = default;
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // To be called when the standard input is readable.
  virtual void read() = 0;
  // The next line, without its end. A line without an end counts at the end of
  // the input. Throws std::length_error, once, for a line that is too long to
  // be kept; the next line is then the one behind it.
  virtual std::optional<std::string> next_line() = 0;
  // True behind the last line: Ctrl-D, or the end of the pipe.
  virtual bool has_ended() const = 0;
  // True if somebody types in a terminal.
  virtual bool is_terminal() const = 0;

  // Text is to be written: before and after that. What is typed survives it.
  virtual void hide() = 0;
  virtual void show() = 0;
  // The terminal has another size.
  virtual void resize() = 0;
  // The program is about to be stopped (Ctrl-Z), and has been continued.
  virtual void suspend() = 0;
  virtual void resume() = 0;
};

// Lines as they come, without editing beyond what the terminal itself can.
class PlainInput final : public Input {
 public:
  // The longest line that is kept.
  static constexpr std::size_t kLongest = 16 * 1024 * 1024;

  explicit PlainInput(bool is_terminal) : is_terminal_(is_terminal) {}

  void read() override;
  std::optional<std::string> next_line() override;
  bool has_ended() const override { return at_end_ && buffer_.empty(); }
  bool is_terminal() const override { return is_terminal_; }
  void hide() override {}
  void show() override {}
  void resize() override {}
  void suspend() override {}
  void resume() override {}

 private:
  const bool is_terminal_;
  std::string buffer_;
  std::size_t searched_ = 0;  // so much of it has no end of a line
  bool is_skipping_ = false;  // to the end of a line that was too long
  bool at_end_ = false;
};

// Whether a person looks at the standard output; and whether one can edit a
// line there.
bool is_output_terminal();
bool can_edit();
// Whether this program may read its terminal; true for a pipe.
bool may_read_input();

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_TERMINAL_H_
